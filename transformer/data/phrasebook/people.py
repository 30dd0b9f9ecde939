"""Who acts and who is acted upon: pronouns, names and the family."""

from dataclasses import dataclass
from enum import Enum

from .inflection import HER, HIS, MY, OUR, POSSESSIVES, THEIR, YOUR, Determiner, Gender, Noun, noun_phrase


class Inflection(Enum):
    """The forms a verb distinguishes. German wir and sie share theirs; "you" is always one friend: du."""

    FIRST = "ich"
    SECOND = "du"
    THIRD = "er"
    PLURAL = "wir"


@dataclass(frozen=True, slots=True, eq=False)
class Person:
    """A person or group in every role; `pronoun` and `own` are what a later clause calls them and what is theirs."""

    english: str
    english_object: str
    nominative: str
    accusative: str
    dative: str
    inflection: Inflection
    pronoun: str
    german_pronoun: str
    own: Determiner
    head: str  # the noun or pronoun itself: my brother and his brother share it

    @property
    def is_singular_third(self) -> bool:
        return self.inflection is Inflection.THIRD

    @property
    def am(self) -> str:
        """The present of "to be"."""
        forms = {Inflection.FIRST: "am", Inflection.THIRD: "is"}
        return forms.get(self.inflection, "are")

    @property
    def have(self) -> str:
        return "has" if self.is_singular_third else "have"

    @property
    def do(self) -> str:
        return "does" if self.is_singular_third else "do"


def _pronoun(english: str, english_object: str, german: str, inflection: Inflection, own: Determiner) -> Person:
    nominative, accusative, dative = german.split()
    return Person(
        english, english_object, nominative, accusative, dative, inflection, english, nominative, own, english
    )


I = _pronoun("I", "me", "ich mich mir", Inflection.FIRST, MY)  # noqa: E741
YOU = _pronoun("you", "you", "du dich dir", Inflection.SECOND, YOUR)
HE = _pronoun("he", "him", "er ihn ihm", Inflection.THIRD, HIS)
SHE = _pronoun("she", "her", "sie sie ihr", Inflection.THIRD, HER)
WE = _pronoun("we", "us", "wir uns uns", Inflection.PLURAL, OUR)
THEY = _pronoun("they", "them", "sie sie ihnen", Inflection.PLURAL, THEIR)
PRONOUNS = (I, YOU, HE, SHE, WE, THEY)


def _someone(english: str, nominative: str, accusative: str, dative: str, like: Person, head: str) -> Person:
    """A person or group that is spoken of as the pronoun `like`."""
    return Person(
        english,
        english,
        nominative,
        accusative,
        dative,
        like.inflection,
        like.pronoun,
        like.german_pronoun,
        like.own,
        head,
    )


def _named(name: str, like: Person) -> Person:
    return _someone(name, name, name, name, like, name)


def _relative(possessive: Determiner, noun: Noun) -> Person:
    phrase = noun_phrase(possessive, noun)
    like = SHE if noun.gender is Gender.FEMININE else HE
    return _someone(phrase.english, phrase.nominative, phrase.accusative, phrase.dative, like, noun.english)


FATHER = Noun("father", "Vater", Gender.MASCULINE)
MOTHER = Noun("mother", "Mutter", Gender.FEMININE)
BROTHER = Noun("brother", "Bruder", Gender.MASCULINE)
SISTER = Noun("sister", "Schwester", Gender.FEMININE)
SON = Noun("son", "Sohn", Gender.MASCULINE)
DAUGHTER = Noun("daughter", "Tochter", Gender.FEMININE)
UNCLE = Noun("uncle", "Onkel", Gender.MASCULINE)
AUNT = Noun("aunt", "Tante", Gender.FEMININE)
GRANDFATHER = Noun("grandfather", "Großvater", Gender.MASCULINE)
GRANDMOTHER = Noun("grandmother", "Großmutter", Gender.FEMININE)
HUSBAND = Noun("husband", "Mann", Gender.MASCULINE)
WIFE = Noun("wife", "Frau", Gender.FEMININE)
FAMILY = (FATHER, MOTHER, BROTHER, SISTER, SON, DAUGHTER, UNCLE, AUNT, GRANDFATHER, GRANDMOTHER)

RELATIVES = tuple(_relative(possessive, noun) for noun in FAMILY for possessive in POSSESSIVES)

ACQUAINTANCES = (
    _named("Anna", SHE),
    _named("Paul", HE),
    _someone("Mr Weber", "Herr Weber", "Herrn Weber", "Herrn Weber", HE, "Weber"),
    _someone("Mrs Klein", "Frau Klein", "Frau Klein", "Frau Klein", SHE, "Klein"),
    _someone("the children", "die Kinder", "die Kinder", "den Kindern", THEY, "child"),
    _someone("our neighbours", "unsere Nachbarn", "unsere Nachbarn", "unseren Nachbarn", THEY, "neighbour"),
)
SUBJECTS = (
    *PRONOUNS,
    *ACQUAINTANCES,
    _relative(MY, HUSBAND),
    _relative(MY, WIFE),
    _relative(YOUR, SISTER),
    _relative(OUR, DAUGHTER),
)
OBJECTS = (*PRONOUNS, *ACQUAINTANCES, *RELATIVES)


@dataclass(frozen=True, slots=True)
class Couple:
    """Someone and the person the sentence has them act upon."""

    subject: Person
    other: Person


# Pronouns that would point back at the subject, in whole or in part: "I call us".
_OVERLAPPING = {frozenset(pair) for pair in (("I", "we"), ("you", "we"), ("he", "they"), ("she", "they"))}


def _can_meet(subject: Person, other: Person) -> bool:
    if other not in PRONOUNS:
        return subject.head != other.head
    return subject.pronoun != other.pronoun and frozenset((subject.pronoun, other.pronoun)) not in _OVERLAPPING


COUPLES = tuple(Couple(subject, other) for subject in SUBJECTS for other in OBJECTS if _can_meet(subject, other))
# One does not ask what one will do oneself.
ASKED_COUPLES = tuple(couple for couple in COUPLES if couple.subject is not I)
