"""What people do with each other: call, meet, visit, help; and what keeps them from it."""

from dataclasses import dataclass

from .inflection import Case
from .people import RELATIVES, Person
from .phenomena import DATIVE, GENDER_AGREEMENT, MODAL_VERB, NEGATION
from .places import CALLING_PLACES, HELPING_PLACES, INVITATIONS, MEETING_PLACES, VISITING_PLACES
from .verbs import MUST, Auxiliary, Verb
from .words import NOTHING, Phrase, words

CALL = Verb("call", "called", "rufen", "rufst", "ruft", "gerufen", prefix="an")
PICK_UP = Verb("pick", "picked", "holen", "holst", "holt", "geholt", prefix="ab", particle="up")
INVITE = Verb("invite", "invited", "laden", "lädst", "lädt", "geladen", prefix="ein")
MEET = Verb("meet", "met", "treffen", "triffst", "trifft", "getroffen")
VISIT = Verb("visit", "visited", "besuchen", "besuchst", "besucht", "besucht")
HELP = Verb("help", "helped", "helfen", "hilfst", "hilft", "geholfen", case=Case.DATIVE)


@dataclass(frozen=True, slots=True)
class Contact:
    """A verb with a person as its object, and a place that suits it."""

    verb: Verb
    place: Phrase = NOTHING

    def english(self, other: Person) -> str:
        """pick my sister up at the station"""
        return words(self.verb.english, other.english_object, self.verb.particle, self.place.english)

    def english_past(self, other: Person) -> str:
        return words(self.verb.past, other.english_object, self.verb.particle, self.place.english)

    def phenomena(self, other: Person) -> tuple[str, ...]:
        """What the object and the place show; the verb group says the verb's own."""
        agreement = (GENDER_AGREEMENT,) if other in RELATIVES else ()
        dative = (DATIVE,) if self.verb.case is Case.DATIVE else ()
        return (*agreement, *dative, *self.place.phenomena)


# With a time of day, and with a day only: one does not help somebody at twenty past four.
TIMED_CONTACTS = (
    Contact(CALL),
    *(Contact(CALL, place) for place in CALLING_PLACES),
    *(Contact(PICK_UP, place) for place in MEETING_PLACES),
    *(Contact(MEET, place) for place in MEETING_PLACES),
    *(Contact(VISIT, place) for place in VISITING_PLACES),
)
CONTACTS = (
    *TIMED_CONTACTS,
    *(Contact(INVITE, place) for place in INVITATIONS),
    *(Contact(HELP, place) for place in HELPING_PLACES),
)
BARE_CONTACTS = tuple(Contact(verb) for verb in (CALL, PICK_UP, INVITE, MEET, VISIT, HELP))


@dataclass(frozen=True, slots=True)
class Circumstance:
    """Something that is true of a person, as a clause with gaps; the German one is verb-final."""

    english: str
    german: str
    phenomena: tuple[str, ...] = ()

    def of(self, person: Person) -> Phrase:
        """The clause about somebody who has been named already."""
        return self._fill(person, person.pronoun, person.german_pronoun, NOTHING)

    def of_named(self, person: Person, day: Phrase) -> Phrase:
        """The clause that names the person and says the day."""
        return self._fill(person, person.english, person.nominative, day)

    def _fill(self, person: Person, they: str, sie: str, day: Phrase) -> Phrase:
        english = self.english.format(
            they=they,
            are=person.am,
            have=person.have,
            do=person.do,
            their=person.own.english,
            day=day.english,
        )
        german = self.german.format(
            sie=sie,
            sind=Auxiliary.SEIN.finite(person),
            haben=Auxiliary.HABEN.finite(person),
            müssen=MUST.finite(person),
            ihr=person.own.german,
            day=day.german,
        )
        return Phrase(english, german, self.phenomena)


HINDRANCES = (
    Circumstance("{they} {have} no time", "{sie} keine Zeit {haben}", (NEGATION,)),
    Circumstance("{they} {are} ill", "{sie} krank {sind}"),
    Circumstance("{they} {are} on holiday", "{sie} im Urlaub {sind}"),
    Circumstance("{they} {have} to work", "{sie} arbeiten {müssen}", (MODAL_VERB,)),
    Circumstance("{they} {have} visitors", "{sie} Besuch {haben}"),
    Circumstance("{they} {have} an exam", "{sie} eine Prüfung {haben}"),
)
_BREAKDOWNS = (
    Circumstance("{their} car is broken", "{ihr} Auto kaputt ist", (GENDER_AGREEMENT,)),
    Circumstance("{their} bicycle is broken", "{ihr} Fahrrad kaputt ist", (GENDER_AGREEMENT,)),
)
OPPORTUNITIES = (
    Circumstance("{they} {have} time {day}", "{sie} {day} Zeit {haben}"),
    Circumstance("{they} {are} free {day}", "{sie} {day} frei {haben}"),
    Circumstance("{they} {are} well again {day}", "{sie} {day} wieder gesund {sind}"),
    Circumstance("{they} {do} not have to work {day}", "{sie} {day} nicht arbeiten {müssen}", (NEGATION, MODAL_VERB)),
)


@dataclass(frozen=True, slots=True)
class HinderedContact:
    """A contact, and what can keep somebody from it: one calls and invites without a car."""

    contact: Contact
    reason: Circumstance


HINDERED_CONTACTS = tuple(
    HinderedContact(contact, reason)
    for contact in CONTACTS
    for reason in (HINDRANCES if contact.verb in (CALL, INVITE) else (*HINDRANCES, *_BREAKDOWNS))
)
