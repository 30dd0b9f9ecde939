"""Main clauses about people: the finite German verb is second, or first in a question or request."""

from .contacts import (
    BARE_CONTACTS,
    HINDERED_CONTACTS,
    HINDRANCES,
    TIMED_CONTACTS,
    Circumstance,
    Contact,
    HinderedContact,
)
from .frame import frame, question, statement
from .people import ASKED_COUPLES, COUPLES, OBJECTS, YOU, Couple, Person
from .phenomena import NEGATION, VERB_FINAL, VERB_SECOND, Pair
from .times import CLOCK_TIMES, COMING_DAYS, COMING_TIMES, PAST_TIMES
from .verbs import (
    CAN,
    MAY,
    MUST,
    SHOULD,
    WANT,
    WOULD_LIKE,
    Modal,
    main_clause,
    perfect,
    present,
    verb_first,
    with_modal,
)
from .words import Phrase, words


@frame("contact", "time", couple=COUPLES, contact=TIMED_CONTACTS, time=COMING_TIMES)
def appointment(couple: Couple, contact: Contact, time: Phrase) -> Pair:
    """I will pick my sister up at the station tomorrow at half past seven."""
    subject, other = couple.subject, couple.other
    verb = present(contact.verb, subject)
    return statement(
        f"{subject.english} will {contact.english(other)} {time.english}",
        main_clause(subject.nominative, verb, contact.verb.object(other), time.german, contact.place.german),
        verb.phenomena,
        contact.phenomena(other),
        time.phenomena,
    )


@frame("contact", "time", couple=COUPLES, contact=TIMED_CONTACTS, time=COMING_TIMES)
def appointment_time_first(couple: Couple, contact: Contact, time: Phrase) -> Pair:
    """Tomorrow at half past seven, I will pick my sister up at the station."""
    subject, other = couple.subject, couple.other
    verb = present(contact.verb, subject)
    clause = verb_first(subject.nominative, verb, contact.verb.object(other), contact.place.german)
    return statement(
        f"{time.english}, {subject.english} will {contact.english(other)}",
        f"{time.german} {clause}",
        (VERB_SECOND,),
        verb.phenomena,
        contact.phenomena(other),
        time.phenomena,
    )


@frame(
    "modal",
    "contact",
    modal=(CAN, SHOULD, MUST, WANT, WOULD_LIKE),
    couple=COUPLES,
    contact=TIMED_CONTACTS,
    time=COMING_TIMES,
)
def modal_appointment(modal: Modal, couple: Couple, contact: Contact, time: Phrase) -> Pair:
    """I have to pick my sister up at the station tomorrow at half past seven."""
    subject, other = couple.subject, couple.other
    verb = with_modal(modal, contact.verb, subject)
    return statement(
        f"{subject.english} {modal.said_of(subject)} {contact.english(other)} {time.english}",
        main_clause(subject.nominative, verb, contact.verb.object(other), time.german, contact.place.german),
        verb.phenomena,
        contact.phenomena(other),
        time.phenomena,
    )


@frame("contact", "time", couple=ASKED_COUPLES, contact=TIMED_CONTACTS, time=COMING_TIMES)
def will_you(couple: Couple, contact: Contact, time: Phrase) -> Pair:
    """Will Anna pick us up at the station tomorrow at half past seven?"""
    subject, other = couple.subject, couple.other
    verb = present(contact.verb, subject)
    return question(
        f"will {subject.english} {contact.english(other)} {time.english}",
        verb_first(subject.nominative, verb, contact.verb.object(other), time.german, contact.place.german),
        verb.phenomena,
        contact.phenomena(other),
        time.phenomena,
    )


@frame("modal", "contact", modal=(CAN, SHOULD, MAY), couple=COUPLES, contact=TIMED_CONTACTS, time=COMING_TIMES)
def modal_question(modal: Modal, couple: Couple, contact: Contact, time: Phrase) -> Pair:
    """Can Anna pick us up at the station tomorrow at half past seven?"""
    subject, other = couple.subject, couple.other
    verb = with_modal(modal, contact.verb, subject)
    return question(
        f"{modal.english} {subject.english} {contact.english(other)} {time.english}",
        verb_first(subject.nominative, verb, contact.verb.object(other), time.german, contact.place.german),
        verb.phenomena,
        contact.phenomena(other),
        time.phenomena,
    )


@frame("contact", "day", couple=ASKED_COUPLES, contact=TIMED_CONTACTS, day=COMING_DAYS)
def at_what_time(couple: Couple, contact: Contact, day: Phrase) -> Pair:
    """At what time will Anna pick us up at the station tomorrow?"""
    subject, other = couple.subject, couple.other
    verb = present(contact.verb, subject)
    clause = verb_first(subject.nominative, verb, contact.verb.object(other), day.german, contact.place.german)
    return question(
        f"at what time will {subject.english} {contact.english(other)} {day.english}",
        f"um wie viel Uhr {clause}",
        verb.phenomena,
        contact.phenomena(other),
    )


@frame(
    "contact",
    "time",
    other=tuple(person for person in OBJECTS if person is not YOU),
    contact=TIMED_CONTACTS,
    time=COMING_TIMES,
)
def request(other: Person, contact: Contact, time: Phrase) -> Pair:
    """Please pick my sister up at the station tomorrow at half past seven."""
    verb = contact.verb
    return statement(
        f"please {contact.english(other)} {time.english}",
        words("bitte", verb.imperative, verb.object(other), time.german, contact.place.german, verb.prefix),
        verb.phenomena,
        contact.phenomena(other),
        time.phenomena,
    )


@frame("contact", "day", "reason", couple=COUPLES, contact=BARE_CONTACTS, day=COMING_DAYS, reason=HINDRANCES)
def refusal(couple: Couple, contact: Contact, day: Phrase, reason: Circumstance) -> Pair:
    """Anna will not call my brother tomorrow because she has no time."""
    subject, other = couple.subject, couple.other
    verb = present(contact.verb, subject)
    because = reason.of(subject)
    clause = main_clause(subject.nominative, verb, contact.verb.object(other), day.german, "nicht")
    return statement(
        f"{subject.english} will not {contact.english(other)} {day.english} because {because.english}",
        f"{clause}, weil {because.german}",
        (NEGATION, VERB_FINAL),
        verb.phenomena,
        contact.phenomena(other),
        because.phenomena,
    )


@frame("hindered", "day", couple=COUPLES, hindered=HINDERED_CONTACTS, day=COMING_DAYS)
def inability(couple: Couple, hindered: HinderedContact, day: Phrase) -> Pair:
    """Anna cannot pick us up at the station tomorrow because her car is broken."""
    subject, other, contact = couple.subject, couple.other, hindered.contact
    verb = with_modal(CAN, contact.verb, subject)
    because = hindered.reason.of(subject)
    clause = main_clause(
        subject.nominative, verb, contact.verb.object(other), day.german, "nicht", contact.place.german
    )
    return statement(
        f"{subject.english} cannot {contact.english(other)} {day.english} because {because.english}",
        f"{clause}, weil {because.german}",
        (NEGATION, VERB_FINAL),
        verb.phenomena,
        contact.phenomena(other),
        because.phenomena,
    )


@frame("contact", "time", couple=COUPLES, contact=TIMED_CONTACTS, time=PAST_TIMES)
def past_appointment(couple: Couple, contact: Contact, time: Phrase) -> Pair:
    """We picked my sister up at the station yesterday at half past seven."""
    subject, other = couple.subject, couple.other
    verb = perfect(contact.verb, subject)
    return statement(
        f"{subject.english} {contact.english_past(other)} {time.english}",
        main_clause(subject.nominative, verb, contact.verb.object(other), time.german, contact.place.german),
        verb.phenomena,
        contact.phenomena(other),
        time.phenomena,
    )


@frame("contact", "clock", clock=CLOCK_TIMES, couple=COUPLES, contact=TIMED_CONTACTS)
def high_time(clock: Phrase, couple: Couple, contact: Contact) -> Pair:
    """It is already half past seven, and Anna has to pick her sister up at the station."""
    subject, other = couple.subject, couple.other
    verb = with_modal(MUST, contact.verb, subject)
    clause = main_clause(subject.nominative, verb, contact.verb.object(other), contact.place.german)
    return statement(
        f"it is already {clock.english}, and {subject.english} {MUST.said_of(subject)} {contact.english(other)}",
        f"es ist schon {clock.german}, und {clause}",
        verb.phenomena,
        contact.phenomena(other),
        clock.phenomena,
    )


FRAMES = (
    appointment,
    appointment_time_first,
    modal_appointment,
    will_you,
    modal_question,
    at_what_time,
    request,
    refusal,
    inability,
    past_appointment,
    high_time,
)
