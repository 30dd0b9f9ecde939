"""Things one carries, loses and finds: separable verbs, modal verbs and questions with inflected objects."""

from .dealings import (
    ARTICLES,
    BUY,
    CARRYING,
    FIND,
    LOSE,
    MISHAPS,
    NEGATED_MODALS,
    SELL,
    Mishap,
    NegatedModal,
)
from .frame import frame, question, statement
from .inflection import Adjective, Determiner, Noun, noun_phrase
from .matrices import MATRICES
from .people import SUBJECTS, Person
from .phenomena import GENDER_AGREEMENT, NEGATION, NUMBER, VERB_FINAL, Pair
from .places import MEETING_PLACES
from .things import PORTABLE, QUALITIES
from .times import COMING_DAYS, PAST_DAYS
from .verbs import Auxiliary, Verb, main_clause, perfect, present, verb_final, verb_first, with_modal
from .words import Phrase, words

_PAST_DAYS_BY_NAME = tuple(day for day in PAST_DAYS if NUMBER not in day.phenomena)
_QUESTION_WORDS = (Phrase("where", "wo"), Phrase("when", "wann"), Phrase("why", "warum"))


@frame(
    "verb",
    "quality",
    "noun",
    subject=SUBJECTS,
    verb=CARRYING,
    article=ARTICLES,
    quality=QUALITIES,
    noun=PORTABLE,
    day=COMING_DAYS,
)
def carrying(subject: Person, verb: Verb, article: Determiner, quality: Adjective, noun: Noun, day: Phrase) -> Pair:
    """I will bring the blue umbrella along on Monday."""
    thing = noun_phrase(article, noun, quality)
    group = present(verb, subject)
    return statement(
        words(subject.english, "will", verb.english, thing.english, verb.particle, day.english),
        main_clause(subject.nominative, group, thing.accusative, day.german),
        (GENDER_AGREEMENT,),
        group.phenomena,
    )


@frame(
    "verb",
    "quality",
    "noun",
    matrix=MATRICES,
    subject=SUBJECTS,
    verb=CARRYING,
    article=ARTICLES,
    quality=QUALITIES,
    noun=PORTABLE,
    day=COMING_DAYS,
)
def carrying_opinion(
    matrix: Phrase, subject: Person, verb: Verb, article: Determiner, quality: Adjective, noun: Noun, day: Phrase
) -> Pair:
    """She says that Anna will bring the blue umbrella along on Monday."""
    thing = noun_phrase(article, noun, quality)
    group = present(verb, subject)
    return statement(
        words(matrix.english, subject.english, "will", verb.english, thing.english, verb.particle, day.english),
        f"{matrix.german} {verb_final(subject.nominative, group, thing.accusative, day.german)}",
        (GENDER_AGREEMENT, VERB_FINAL),
        group.phenomena,
    )


@frame(
    "verb",
    "quality",
    "noun",
    subject=SUBJECTS,
    verb=CARRYING,
    article=ARTICLES,
    quality=QUALITIES,
    noun=PORTABLE,
    day=PAST_DAYS,
)
def carried(subject: Person, verb: Verb, article: Determiner, quality: Adjective, noun: Noun, day: Phrase) -> Pair:
    """Anna brought the blue umbrella along three days ago."""
    thing = noun_phrase(article, noun, quality)
    group = perfect(verb, subject)
    return statement(
        words(subject.english, verb.past, thing.english, verb.particle, day.english),
        main_clause(subject.nominative, group, thing.accusative, day.german),
        (GENDER_AGREEMENT,),
        group.phenomena,
        day.phenomena,
    )


@frame(
    "modal",
    "verb",
    "noun",
    subject=SUBJECTS,
    modal=NEGATED_MODALS,
    verb=CARRYING,
    article=ARTICLES,
    quality=QUALITIES,
    noun=PORTABLE,
    day=COMING_DAYS,
)
def not_carrying(
    subject: Person,
    modal: NegatedModal,
    verb: Verb,
    article: Determiner,
    quality: Adjective,
    noun: Noun,
    day: Phrase,
) -> Pair:
    """Anna does not have to bring the blue umbrella along on Monday."""
    thing = noun_phrase(article, noun, quality)
    group = with_modal(modal.modal, verb, subject)
    may_not = modal.english_third if subject.is_singular_third else modal.english
    return statement(
        words(subject.english, may_not, verb.english, thing.english, verb.particle, day.english),
        main_clause(subject.nominative, group, thing.accusative, day.german, "nicht"),
        (GENDER_AGREEMENT, NEGATION),
        group.phenomena,
    )


@frame(
    "word",
    "verb",
    "noun",
    word=_QUESTION_WORDS,
    subject=SUBJECTS,
    verb=(BUY, SELL, FIND, LOSE),
    article=ARTICLES,
    quality=QUALITIES,
    noun=PORTABLE,
)
def whereabouts(word: Phrase, subject: Person, verb: Verb, article: Determiner, quality: Adjective, noun: Noun) -> Pair:
    """Where did Anna buy the red coat?"""
    thing = noun_phrase(article, noun, quality)
    group = perfect(verb, subject)
    return question(
        f"{word.english} did {subject.english} {verb.english} {thing.english}",
        f"{word.german} {verb_first(subject.nominative, group, thing.accusative)}",
        (GENDER_AGREEMENT,),
        group.phenomena,
    )


@frame(
    "verb",
    "quality",
    "noun",
    subject=SUBJECTS,
    verb=(BUY, SELL, FIND, *CARRYING),
    article=ARTICLES,
    quality=QUALITIES,
    noun=PORTABLE,
    day=_PAST_DAYS_BY_NAME,
)
def not_done(subject: Person, verb: Verb, article: Determiner, quality: Adjective, noun: Noun, day: Phrase) -> Pair:
    """Anna did not sell the red coat last week."""
    thing = noun_phrase(article, noun, quality)
    group = perfect(verb, subject)
    return statement(
        words(subject.english, "did not", verb.english, thing.english, verb.particle, day.english),
        main_clause(subject.nominative, group, thing.accusative, day.german, "nicht"),
        (GENDER_AGREEMENT, NEGATION),
        group.phenomena,
    )


@frame(
    "mishap",
    "quality",
    "noun",
    subject=SUBJECTS,
    mishap=MISHAPS,
    quality=QUALITIES,
    noun=PORTABLE,
    place=MEETING_PLACES,
)
def feeling(subject: Person, mishap: Mishap, quality: Adjective, noun: Noun, place: Phrase) -> Pair:
    """Anna is sad because she lost her blue umbrella at the station."""
    thing = noun_phrase(subject.own, noun, quality)
    group = perfect(mishap.verb, subject)
    clause = verb_final(subject.german_pronoun, group, thing.accusative, place.german)
    return statement(
        f"{subject.english} {subject.am} {mishap.feeling.english} because "
        f"{subject.pronoun} {mishap.verb.past} {thing.english} {place.english}",
        f"{subject.nominative} {Auxiliary.SEIN.finite(subject)} {mishap.feeling.german}, weil {clause}",
        (GENDER_AGREEMENT, VERB_FINAL),
        group.phenomena,
        place.phenomena,
    )


FRAMES = (carrying, carrying_opinion, carried, not_carrying, whereabouts, not_done, feeling)
