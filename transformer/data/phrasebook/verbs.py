"""German verbs: their finite forms, their two places in the clause, and separable prefixes.

A German main clause has its finite verb second (a question has it first) and the rest of the verb last; a subordinate
clause has all of it last. So a verb enters a clause as a VerbGroup: what stands in front, what stands at the end, and
both together as they close a subordinate clause.
"""

from dataclasses import dataclass
from enum import Enum
from functools import cache

from .inflection import Case
from .people import Inflection, Person
from .phenomena import MODAL_VERB, PERFECT_TENSE, SEPARABLE_VERB
from .words import words


class Auxiliary(Enum):
    """What forms the perfect. Verbs of motion take sein."""

    HABEN = ("habe", "hast", "hat", "haben")
    SEIN = ("bin", "bist", "ist", "sind")

    def finite(self, person: Person) -> str:
        return self.value[tuple(Inflection).index(person.inflection)]


@dataclass(frozen=True, eq=False)
class Verb:
    """A verb in both languages, German without its prefix; `particle` follows the English object: pick him up."""

    english: str
    past: str
    infinitive: str
    du: str
    er: str
    participle: str
    prefix: str = ""
    particle: str = ""
    case: Case = Case.ACCUSATIVE  # of its object
    auxiliary: Auxiliary = Auxiliary.HABEN

    @property
    def phenomena(self) -> tuple[str, ...]:
        return (SEPARABLE_VERB,) if self.prefix else ()

    @property
    def imperative(self) -> str:
        """To one friend: the du form without its ending (ruf, hol, triff)."""
        return self.du.removesuffix("st")

    @property
    def infinitive_with_zu(self) -> str:
        """abzuholen, but zu treffen."""
        return f"{self.prefix}zu{self.infinitive}" if self.prefix else f"zu {self.infinitive}"

    def english_present(self, person: Person) -> str:
        if not person.is_singular_third:
            return self.english
        return "has" if self.english == "have" else f"{self.english}s"

    def finite(self, person: Person) -> str:
        """The present tense without the prefix."""
        forms = {
            Inflection.FIRST: self.infinitive[:-2] + "e",
            Inflection.SECOND: self.du,
            Inflection.THIRD: self.er,
            Inflection.PLURAL: self.infinitive,
        }
        return forms[person.inflection]

    def object(self, person: Person) -> str:
        return person.dative if self.case is Case.DATIVE else person.accusative


@dataclass(frozen=True, eq=False)
class Modal:
    """A modal verb; the English third person differs for some (wants to), the German du form always does."""

    english: str
    english_third: str
    ich: str
    du: str
    wir: str

    def said_of(self, person: Person) -> str:
        return self.english_third if person.is_singular_third else self.english

    def finite(self, person: Person) -> str:
        forms = {Inflection.SECOND: self.du, Inflection.PLURAL: self.wir}
        return forms.get(person.inflection, self.ich)


CAN = Modal("can", "can", "kann", "kannst", "können")
MAY = Modal("may", "may", "darf", "darfst", "dürfen")
SHOULD = Modal("should", "should", "sollte", "solltest", "sollten")
MUST = Modal("have to", "has to", "muss", "musst", "müssen")
WANT = Modal("want to", "wants to", "will", "willst", "wollen")
WOULD_LIKE = Modal("would like to", "would like to", "möchte", "möchtest", "möchten")


GO = Verb("go", "went", "gehen", "gehst", "geht", "gegangen", auxiliary=Auxiliary.SEIN)
DRIVE = Verb("drive", "drove", "fahren", "fährst", "fährt", "gefahren", auxiliary=Auxiliary.SEIN)


@dataclass(frozen=True, slots=True)
class VerbGroup:
    """The German verb of one clause: split for a main clause (front, end), closed for a subordinate one."""

    front: str
    end: str
    closed: str
    phenomena: tuple[str, ...]


@cache
def present(verb: Verb, person: Person) -> VerbGroup:
    """rufe ... an; ... anrufe."""
    finite = verb.finite(person)
    return VerbGroup(finite, verb.prefix, verb.prefix + finite, verb.phenomena)


@cache
def perfect(verb: Verb, person: Person) -> VerbGroup:
    """habe ... angerufen; ... angerufen habe."""
    finite = verb.auxiliary.finite(person)
    participle = verb.prefix + verb.participle
    return VerbGroup(finite, participle, f"{participle} {finite}", (PERFECT_TENSE, *verb.phenomena))


@cache
def with_modal(modal: Modal, verb: Verb, person: Person) -> VerbGroup:
    """kann ... anrufen; ... anrufen kann."""
    finite = modal.finite(person)
    infinitive = verb.prefix + verb.infinitive
    return VerbGroup(finite, infinitive, f"{infinitive} {finite}", (MODAL_VERB, *verb.phenomena))


def main_clause(subject: str, verb: VerbGroup, *middle: str) -> str:
    """Subject, verb, everything else, rest of the verb: ich rufe dich morgen an."""
    return words(subject, verb.front, *middle, verb.end)


def verb_first(subject: str, verb: VerbGroup, *middle: str) -> str:
    """A question, or what follows an adverb or clause in first place: rufe ich dich an."""
    return words(verb.front, subject, *middle, verb.end)


def verb_final(subject: str, verb: VerbGroup, *middle: str) -> str:
    """A subordinate clause without its conjunction: ich dich morgen anrufe."""
    return words(subject, *middle, verb.closed)
