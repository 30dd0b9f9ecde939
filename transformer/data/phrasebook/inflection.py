"""German articles, possessives and adjective endings by gender and case, and English a or an."""

from dataclasses import dataclass
from enum import Enum
from functools import cache


class Gender(Enum):
    MASCULINE = 0
    FEMININE = 1
    NEUTER = 2


class Case(Enum):
    NOMINATIVE = 0
    ACCUSATIVE = 1
    DATIVE = 2


@dataclass(frozen=True, slots=True, eq=False)
class Noun:
    """A noun; `plural` is German, nominative and accusative, and only given where something is counted."""

    english: str
    german: str
    gender: Gender
    plural: str = ""

    @property
    def english_plural(self) -> str:
        if self.english.endswith("f"):
            return self.english[:-1] + "ves"
        return self.english + ("es" if self.english.endswith("ss") else "s")


@dataclass(frozen=True, slots=True, eq=False)
class Adjective:
    english: str
    german: str


@dataclass(frozen=True, slots=True, eq=False)
class Determiner:
    """An article or possessive: `german` is der, or a word that takes the endings of ein."""

    english: str
    german: str


THE = Determiner("the", "der")
A = Determiner("a", "ein")
NO = Determiner("a", "kein")  # English puts the negation on its verb: we do not have a lamp
MY = Determiner("my", "mein")
YOUR = Determiner("your", "dein")
HIS = Determiner("his", "sein")
HER = Determiner("her", "ihr")
OUR = Determiner("our", "unser")
THEIR = Determiner("their", "ihr")
POSSESSIVES = (MY, YOUR, HIS, HER, OUR, THEIR)

# Rows: masculine, feminine, neuter. Columns: nominative, accusative, dative.
_DEFINITE_ARTICLES = (("der", "den", "dem"), ("die", "die", "der"), ("das", "das", "dem"))
_EIN_ENDINGS = (("", "en", "em"), ("e", "e", "er"), ("", "", "em"))
_ADJECTIVE_AFTER_DER = (("e", "en", "en"), ("e", "e", "en"), ("e", "e", "en"))
_ADJECTIVE_AFTER_EIN = (("er", "en", "en"), ("e", "e", "en"), ("es", "es", "en"))
_PRONOUNS = ("er", "sie", "es")


def determiner(word: Determiner, gender: Gender, case: Case) -> str:
    """mein, feminine, dative -> meiner."""
    if word is THE:
        return _DEFINITE_ARTICLES[gender.value][case.value]
    return word.german + _EIN_ENDINGS[gender.value][case.value]


def adjective(word: Adjective, after: Determiner, gender: Gender, case: Case) -> str:
    """rot after ein, neuter, accusative -> rotes."""
    endings = _ADJECTIVE_AFTER_DER if after is THE else _ADJECTIVE_AFTER_EIN
    return word.german + endings[gender.value][case.value]


def pronoun(gender: Gender) -> str:
    """What German says for "it" as a subject: er, sie or es, by the gender of the noun it stands for."""
    return _PRONOUNS[gender.value]


def relative_pronoun(gender: Gender) -> str:
    """The accusative relative pronoun, which looks like the article: den, die or das."""
    return determiner(THE, gender, Case.ACCUSATIVE)


def english_determiner(word: Determiner, following: str) -> str:
    """`word`, with a turned into an before a vowel."""
    return "an" if word.english == "a" and following[0] in "aeiou" else word.english


@dataclass(frozen=True, slots=True)
class NounPhrase:
    """A singular noun with its determiner and adjective, in the three cases."""

    english: str
    nominative: str
    accusative: str
    dative: str


@cache
def noun_phrase(article: Determiner, noun: Noun, quality: Adjective | None = None) -> NounPhrase:
    """ein, Mantel, rot -> ein roter Mantel, einen roten Mantel, einem roten Mantel."""
    english = [quality.english, noun.english] if quality else [noun.english]
    german = []
    for case in Case:
        middle = [adjective(quality, article, noun.gender, case)] if quality else []
        german.append(" ".join([determiner(article, noun.gender, case), *middle, noun.german]))
    return NounPhrase(" ".join([english_determiner(article, english[0]), *english]), *german)


def counted(quality: Adjective, noun: Noun) -> tuple[str, str]:
    """Several of a thing after a number, English and German: red chairs, rote Stühle (nominative and accusative)."""
    return f"{quality.english} {noun.english_plural}", f"{quality.german}e {noun.plural}"
