"""Dates, birthdays and ages: ordinals agree in case with the article before them."""

from dataclasses import dataclass

from .frame import frame, statement
from .inflection import OUR, THE, YOUR, A, Adjective, Gender, Noun, NounPhrase, noun_phrase
from .matrices import MATRICES
from .numbers import cardinal
from .people import COUPLES, RELATIVES, SUBJECTS, Couple, Person
from .phenomena import (
    DATIVE,
    GENDER_AGREEMENT,
    NEGATION,
    SEPARABLE_VERB,
    VERB_FINAL,
    VERB_SECOND,
    Pair,
)
from .places import IN_CITIES
from .things import BEAUTIFUL, BIG, NEW, OLD, SMALL
from .times import CLOCK_TIMES, DATE_SPANS, DATES, FIGURE_DATES, WEEKDAYS, Date
from .verbs import Verb, present, verb_first
from .words import Phrase


@dataclass(frozen=True, slots=True)
class Happening:
    """What an event does: the finite German form, its prefix, and both closed up at the end of a clause."""

    english: str
    english_negated: str
    front: str
    prefix: str

    @property
    def closed(self) -> str:
        return self.prefix + self.front


_BEGINS = Happening("begins", "does not begin", "fängt", "an")
_HAPPENINGS = (Happening("takes place", "does not take place", "findet", "statt"), _BEGINS)
_EVENTS = tuple(
    noun_phrase(article, Noun(english, german, gender))
    for english, german, gender in (
        ("course", "Kurs", Gender.MASCULINE),
        ("trip", "Ausflug", Gender.MASCULINE),
        ("lecture", "Vortrag", Gender.MASCULINE),
        ("wedding", "Hochzeit", Gender.FEMININE),
        ("exam", "Prüfung", Gender.FEMININE),
        ("party", "Party", Gender.FEMININE),
        ("concert", "Konzert", Gender.NEUTER),
        ("match", "Spiel", Gender.NEUTER),
    )
    for article in (THE, OUR, YOUR)
)
_LODGINGS = (
    Noun("hotel", "Hotel", Gender.NEUTER),
    Noun("inn", "Gasthof", Gender.MASCULINE),
    Noun("flat", "Wohnung", Gender.FEMININE),
    Noun("house", "Haus", Gender.NEUTER),
)
_STAY = Verb("stay", "stayed", "wohnen", "wohnst", "wohnt", "gewohnt")
_DAYS = (Phrase("today", "heute"), Phrase("tomorrow", "morgen"))


@dataclass(frozen=True, slots=True)
class TwoDates:
    """The date one expects and the later one that is right."""

    wrong: Date
    right: Date


_TWO_DATES = tuple(
    TwoDates(DATES[index], DATES[(index + later) % len(DATES)])
    for later in (1, 7, 10, 14, 30, 61, 100)
    for index in range(len(DATES))
)

_AGES = {
    **dict.fromkeys(("son", "daughter"), range(5, 18)),
    **dict.fromkeys(("brother", "sister"), range(18, 38)),
    **dict.fromkeys(("father", "mother", "uncle", "aunt"), range(42, 62)),
    **dict.fromkeys(("grandfather", "grandmother"), range(70, 85)),
}
_PRESENT_YEAR = 2020  # the year the ages are believable in


@dataclass(frozen=True, slots=True)
class Aged:
    """A relative and a believable age."""

    person: Person
    age: int
    words: Phrase


_AGED = tuple(Aged(person, age, cardinal(age)) for person in RELATIVES for age in _AGES[person.head])
_AGED_MEN = tuple(aged for aged in _AGED if aged.person.pronoun == "he")
_AGED_WOMEN = tuple(aged for aged in _AGED if aged.person.pronoun == "she")


@frame(
    "event", "happening", "date", event=_EVENTS, happening=_HAPPENINGS, city=IN_CITIES, date=DATES, clock=CLOCK_TIMES
)
def event(event: NounPhrase, happening: Happening, city: Phrase, date: Date, clock: Phrase) -> Pair:
    """The concert takes place in Cologne on the third of May at half past seven."""
    return statement(
        f"{event.english} {happening.english} {city.english} on {date.english} at {clock.english}",
        f"{event.nominative} {happening.front} am {date.oblique} um {clock.german} {city.german} {happening.prefix}",
        (SEPARABLE_VERB, GENDER_AGREEMENT),
        city.phenomena,
        date.phenomena,
        clock.phenomena,
    )


@frame("event", "happening", "date", matrix=MATRICES, event=_EVENTS, happening=_HAPPENINGS, city=IN_CITIES, date=DATES)
def event_opinion(matrix: Phrase, event: NounPhrase, happening: Happening, city: Phrase, date: Date) -> Pair:
    """She says that the concert takes place in Cologne on the third of May."""
    return statement(
        f"{matrix.english} {event.english} {happening.english} {city.english} on {date.english}",
        f"{matrix.german} {event.nominative} am {date.oblique} {city.german} {happening.closed}",
        (SEPARABLE_VERB, VERB_FINAL, GENDER_AGREEMENT),
        city.phenomena,
        date.phenomena,
    )


@frame("event", "happening", "dates", event=_EVENTS, happening=_HAPPENINGS, dates=_TWO_DATES)
def postponement(event: NounPhrase, happening: Happening, dates: TwoDates) -> Pair:
    """The concert does not take place on the third of May, but on the fourth of June."""
    return statement(
        f"{event.english} {happening.english_negated} on {dates.wrong.english}, but on {dates.right.english}",
        f"{event.nominative} {happening.front} nicht am {dates.wrong.oblique}, "
        f"sondern am {dates.right.oblique} {happening.prefix}",
        (SEPARABLE_VERB, NEGATION, GENDER_AGREEMENT),
        dates.wrong.phenomena,
        dates.right.phenomena,
    )


@frame("event", "date", day=_DAYS, weekday=WEEKDAYS, date=DATES, event=_EVENTS, clock=CLOCK_TIMES)
def calendar_sheet(day: Phrase, weekday: Phrase, date: Date, event: NounPhrase, clock: Phrase) -> Pair:
    """Today is Monday, the third of May, and the course begins at half past seven."""
    return statement(
        f"{day.english} is {weekday.english}, {date.english}, and {event.english} {_BEGINS.english} at {clock.english}",
        f"{day.german} ist {weekday.german}, der {date.nominative}, "
        f"und {event.nominative} {_BEGINS.front} um {clock.german} {_BEGINS.prefix}",
        (SEPARABLE_VERB, GENDER_AGREEMENT),
        date.phenomena,
        clock.phenomena,
    )


@frame("aged", "date", aged=_AGED, date=DATES)
def birthday(aged: Aged, date: Date) -> Pair:
    """Your aunt will be fifty-one years old on the third of May."""
    return statement(
        f"{aged.person.english} will be {aged.words.english} years old on {date.english}",
        f"{aged.person.nominative} wird am {date.oblique} {aged.words.german} Jahre alt",
        (GENDER_AGREEMENT,),
        aged.words.phenomena,
        date.phenomena,
    )


@frame("date", "city", aged=_AGED, city=IN_CITIES, date=FIGURE_DATES)
def birth(aged: Aged, city: Phrase, date: Phrase) -> Pair:
    """My father was born in Hamburg on 3 May 1962."""
    year = _PRESENT_YEAR - aged.age
    return statement(
        f"{aged.person.english} was born {city.english} {date.english} {year}",
        f"{aged.person.nominative} wurde {date.german} {year} {city.german} geboren",
        (GENDER_AGREEMENT,),
        city.phenomena,
        date.phenomena,
    )


@frame("man", "woman", man=_AGED_MEN, woman=_AGED_WOMEN)
def ages(man: Aged, woman: Aged) -> Pair:
    """My brother is twenty-three years old, and his aunt is fifty-one."""
    return statement(
        f"{man.person.english} is {man.words.english} years old, and {woman.person.english} is {woman.words.english}",
        f"{man.person.nominative} ist {man.words.german} Jahre alt, "
        f"und {woman.person.nominative} ist {woman.words.german}",
        (GENDER_AGREEMENT,),
        man.words.phenomena,
        woman.words.phenomena,
    )


@frame(
    "quality",
    "lodging",
    "city",
    span=DATE_SPANS,
    subject=SUBJECTS,
    quality=(NEW, OLD, SMALL, BIG, BEAUTIFUL),
    lodging=_LODGINGS,
    city=IN_CITIES,
)
def holiday(span: Phrase, subject: Person, quality: Adjective, lodging: Noun, city: Phrase) -> Pair:
    """From the third to the seventh of May, we will stay in a small hotel in Vienna."""
    house = noun_phrase(A, lodging, quality)
    clause = verb_first(subject.nominative, present(_STAY, subject), f"in {house.dative}", city.german)
    return statement(
        f"{span.english}, {subject.english} will stay in {house.english} {city.english}",
        f"{span.german} {clause}",
        (VERB_SECOND, DATIVE, GENDER_AGREEMENT),
        city.phenomena,
        span.phenomena,
    )


@frame("city", "couple", span=DATE_SPANS, couple=COUPLES, city=IN_CITIES)
def staying_with(span: Phrase, couple: Couple, city: Phrase) -> Pair:
    """From the third to the seventh of May, we will stay with my aunt in Vienna."""
    subject, other = couple.subject, couple.other
    clause = verb_first(subject.nominative, present(_STAY, subject), f"bei {other.dative}", city.german)
    return statement(
        f"{span.english}, {subject.english} will stay with {other.english_object} {city.english}",
        f"{span.german} {clause}",
        (VERB_SECOND, DATIVE),
        city.phenomena,
        span.phenomena,
    )


FRAMES = (
    event,
    event_opinion,
    postponement,
    calendar_sheet,
    birthday,
    birth,
    ages,
    holiday,
    staying_with,
)
