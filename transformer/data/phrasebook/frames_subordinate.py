"""Subordinate clauses about people: the finite German verb goes to the end, its separable prefix in front of it."""

from collections.abc import Callable
from dataclasses import dataclass

from .contacts import (
    BARE_CONTACTS,
    CONTACTS,
    HELP,
    MEET,
    OPPORTUNITIES,
    PICK_UP,
    TIMED_CONTACTS,
    VISIT,
    Circumstance,
    Contact,
)
from .frame import frame, question, statement
from .matrices import MATRICES
from .people import ASKED_COUPLES, COUPLES, Couple
from .phenomena import DATIVE, GENDER_AGREEMENT, MODAL_VERB, NEGATION, PLACE, VERB_FINAL, VERB_SECOND, Pair
from .places import CITIES, OUTINGS, STOPS
from .times import COMING_DAYS, COMING_DAYTIMES, COMING_TIMES
from .verbs import DRIVE, GO, Verb, main_clause, present, verb_final, verb_first
from .words import Phrase, words


@dataclass(frozen=True, slots=True)
class Inquiry:
    """How an indirect question opens and whether the whole is a question or a statement."""

    english: str
    german: str
    end: Callable[..., Pair]
    phenomena: tuple[str, ...] = ()


_INQUIRIES = (
    Inquiry("do you know", "weißt du", question),
    Inquiry("can you tell me", "kannst du mir sagen", question, (MODAL_VERB,)),
    Inquiry("I do not know", "ich weiß nicht", statement, (NEGATION,)),
    Inquiry("I would like to know", "ich möchte wissen", statement, (MODAL_VERB,)),
)
_QUESTION_WORDS = (Phrase("whether", "ob"), Phrase("when", "wann"), Phrase("why", "warum"))

_WEATHERS = (
    Phrase("it rains {day}", "es {day} regnet"),
    Phrase("it snows {day}", "es {day} schneit"),
    Phrase("it is cold {day}", "es {day} kalt ist"),
    Phrase("it is hot {day}", "es {day} heiß ist"),
    Phrase("the sun shines {day}", "{day} die Sonne scheint"),
)


@dataclass(frozen=True, slots=True)
class Errand:
    """A drive to a place, and what one does with a person there."""

    place: Phrase
    verb: Verb


_ERRANDS = (
    *(
        Errand(Phrase(f"to the {stop.english}", stop.to, (PLACE, GENDER_AGREEMENT)), verb)
        for stop in STOPS
        for verb in (PICK_UP, MEET)
    ),
    *(
        Errand(Phrase(f"to {city.english}", f"nach {city.german}", (PLACE,)), verb)
        for city in CITIES
        for verb in (PICK_UP, VISIT, HELP)
    ),
)


@frame("contact", "time", matrix=MATRICES, couple=COUPLES, contact=TIMED_CONTACTS, time=COMING_TIMES)
def opinion(matrix: Phrase, couple: Couple, contact: Contact, time: Phrase) -> Pair:
    """I hope that Anna will pick us up at the station tomorrow at half past seven."""
    subject, other = couple.subject, couple.other
    verb = present(contact.verb, subject)
    clause = verb_final(subject.nominative, verb, contact.verb.object(other), time.german, contact.place.german)
    return statement(
        f"{matrix.english} {subject.english} will {contact.english(other)} {time.english}",
        f"{matrix.german} {clause}",
        (VERB_FINAL,),
        verb.phenomena,
        contact.phenomena(other),
        time.phenomena,
    )


@frame("contact", "day", matrix=MATRICES, couple=COUPLES, contact=BARE_CONTACTS, day=COMING_DAYS)
def opinion_of_a_day(matrix: Phrase, couple: Couple, contact: Contact, day: Phrase) -> Pair:
    """She says that you will invite my aunt tomorrow."""
    subject, other = couple.subject, couple.other
    verb = present(contact.verb, subject)
    return statement(
        f"{matrix.english} {subject.english} will {contact.english(other)} {day.english}",
        f"{matrix.german} {verb_final(subject.nominative, verb, contact.verb.object(other), day.german)}",
        (VERB_FINAL,),
        verb.phenomena,
        contact.phenomena(other),
    )


@frame(
    "word", "contact", inquiry=_INQUIRIES, word=_QUESTION_WORDS, couple=ASKED_COUPLES, contact=CONTACTS, day=COMING_DAYS
)
def indirect_question(inquiry: Inquiry, word: Phrase, couple: Couple, contact: Contact, day: Phrase) -> Pair:
    """Do you know whether Anna will pick us up at the station tomorrow?"""
    subject, other = couple.subject, couple.other
    verb = present(contact.verb, subject)
    clause = verb_final(subject.nominative, verb, contact.verb.object(other), day.german, contact.place.german)
    return inquiry.end(
        f"{inquiry.english} {word.english} {subject.english} will {contact.english(other)} {day.english}",
        f"{inquiry.german}, {word.german} {clause}",
        (VERB_FINAL,),
        inquiry.phenomena,
        verb.phenomena,
        contact.phenomena(other),
    )


@frame("condition", "contact", condition=OPPORTUNITIES, couple=COUPLES, contact=CONTACTS, day=COMING_DAYS)
def opportunity(condition: Circumstance, couple: Couple, contact: Contact, day: Phrase) -> Pair:
    """If Anna has time tomorrow, she will help my brother in the garden."""
    subject, other = couple.subject, couple.other
    verb = present(contact.verb, subject)
    when = condition.of_named(subject, day)
    clause = verb_first(subject.german_pronoun, verb, contact.verb.object(other), contact.place.german)
    return statement(
        f"if {when.english}, {subject.pronoun} will {contact.english(other)}",
        f"wenn {when.german}, {clause}",
        (VERB_FINAL, VERB_SECOND),
        verb.phenomena,
        contact.phenomena(other),
    )


@frame("weather", "outing", "day", weather=_WEATHERS, day=COMING_DAYTIMES, couple=COUPLES, outing=OUTINGS)
def weather(weather: Phrase, day: Phrase, couple: Couple, outing: Phrase) -> Pair:
    """If it rains on Monday, we will go to the museum with your aunt."""
    subject, other = couple.subject, couple.other
    clause = verb_first(subject.nominative, present(GO, subject), f"mit {other.dative}", outing.german)
    return statement(
        f"if {weather.english.format(day=day.english)}, "
        f"{subject.english} will go {outing.english} with {other.english_object}",
        f"wenn {weather.german.format(day=day.german)}, {clause}",
        (VERB_FINAL, VERB_SECOND, DATIVE),
        outing.phenomena,
    )


@frame("errand", "day", couple=COUPLES, errand=_ERRANDS, day=COMING_DAYS)
def errand(couple: Couple, errand: Errand, day: Phrase) -> Pair:
    """My wife will drive to the airport on Monday to pick her uncle up."""
    subject, other = couple.subject, couple.other
    verb = errand.verb
    drive = main_clause(subject.nominative, present(DRIVE, subject), day.german, errand.place.german)
    purpose = words(verb.english, other.english_object, verb.particle)
    return statement(
        f"{subject.english} will drive {errand.place.english} {day.english} to {purpose}",
        f"{drive}, um {verb.object(other)} {verb.infinitive_with_zu}",
        (VERB_FINAL,),
        verb.phenomena,
        Contact(verb).phenomena(other),
        errand.place.phenomena,
    )


FRAMES = (opinion, opinion_of_a_day, indirect_question, opportunity, weather, errand)
