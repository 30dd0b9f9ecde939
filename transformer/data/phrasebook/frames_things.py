"""Things and what they are like: agreement in gender of articles, adjectives and pronouns, and where things are."""

from dataclasses import dataclass

from .dealings import (
    ARTICLES,
    BUY,
    COMPARISONS,
    DEALS,
    FIND,
    HAVE,
    NEED,
    SEARCH,
    SELL,
    VERDICTS,
    Deal,
)
from .frame import frame, statement
from .inflection import (
    NO,
    POSSESSIVES,
    THE,
    A,
    Adjective,
    Case,
    Determiner,
    Noun,
    adjective,
    determiner,
    english_determiner,
    noun_phrase,
    pronoun,
    relative_pronoun,
)
from .people import SUBJECTS, Person
from .phenomena import DATIVE, GENDER_AGREEMENT, NEGATION, PLACE, VERB_FINAL, Pair
from .places import CITIES, IN_CITIES
from .things import ALIKE, COLOURS, CONTRASTS, GOODS, MOVABLES, QUALITIES, SPOTS, Contrast, Movable, Spot, TwoThings
from .times import COMING_DAYS, PAST_DAYS
from .verbs import DRIVE, Verb, main_clause, perfect, present, verb_final
from .words import Phrase


@dataclass(frozen=True, slots=True)
class TwoOwners:
    """Two different possessives."""

    first: Determiner
    second: Determiner


_TWO_OWNERS = tuple(TwoOwners(first, second) for first in POSSESSIVES for second in POSSESSIVES if first is not second)


@frame("deal", "colour", "noun", subject=SUBJECTS, deal=DEALS, colour=COLOURS, noun=GOODS, city=IN_CITIES)
def deal(subject: Person, deal: Deal, colour: Adjective, noun: Noun, city: Phrase) -> Pair:
    """We bought the red coat in Cologne because it was so cheap."""
    thing = noun_phrase(THE, noun, colour)
    verb = perfect(deal.verb, subject)
    clause = main_clause(subject.nominative, verb, thing.accusative, city.german, deal.negation)
    return statement(
        f"{subject.english} {deal.english} {thing.english} {city.english} because it was {deal.reason.english}",
        f"{clause}, weil {pronoun(noun.gender)} {deal.reason.german} war",
        (GENDER_AGREEMENT, VERB_FINAL),
        (NEGATION,) if deal.negation else (),
        verb.phenomena,
        city.phenomena,
    )


@frame(
    "verdict",
    "colour",
    "noun",
    subject=SUBJECTS,
    verb=(BUY, FIND),
    colour=COLOURS,
    noun=GOODS,
    city=IN_CITIES,
    day=PAST_DAYS,
    verdict=VERDICTS,
)
def verdict(
    subject: Person, verb: Verb, colour: Adjective, noun: Noun, city: Phrase, day: Phrase, verdict: Phrase
) -> Pair:
    """The red coat that Anna bought in Cologne three weeks ago is too small."""
    thing = noun_phrase(THE, noun, colour)
    group = perfect(verb, subject)
    clause = verb_final(subject.nominative, group, day.german, city.german)
    return statement(
        f"{thing.english} that {subject.english} {verb.past} {city.english} {day.english} is {verdict.english}",
        f"{thing.nominative}, {relative_pronoun(noun.gender)} {clause}, ist {verdict.german}",
        (GENDER_AGREEMENT, VERB_FINAL),
        group.phenomena,
        city.phenomena,
        day.phenomena,
    )


@frame("contrast", "noun", subject=SUBJECTS, verb=(HAVE, NEED), noun=GOODS, contrast=CONTRASTS)
def replacement(subject: Person, verb: Verb, noun: Noun, contrast: Contrast) -> Pair:
    """We do not have a black umbrella, but we have a green one."""
    missing = noun_phrase(NO, noun, contrast.first)
    article = determiner(A, noun.gender, Case.ACCUSATIVE)
    colour = adjective(contrast.second, A, noun.gender, Case.ACCUSATIVE)
    has = verb.english_present(subject)
    finite = verb.finite(subject)
    return statement(
        f"{subject.english} {subject.do} not {verb.english} {missing.english}, but {subject.pronoun} {has} "
        f"{english_determiner(A, contrast.second.english)} {contrast.second.english} one",
        f"{subject.nominative} {finite} {missing.accusative}, aber {subject.german_pronoun} {finite} "
        f"{article} {colour}",
        (GENDER_AGREEMENT, NEGATION),
    )


@frame(
    "comparison",
    "things",
    owners=_TWO_OWNERS,
    things=ALIKE,
    first=COLOURS,
    second=COLOURS,
    comparison=COMPARISONS,
)
def comparing(owners: TwoOwners, things: TwoThings, first: Adjective, second: Adjective, comparison: Phrase) -> Pair:
    """My red coat is more expensive than your blue jacket."""
    one = noun_phrase(owners.first, things.first, first)
    other = noun_phrase(owners.second, things.second, second)
    return statement(
        f"{one.english} is {comparison.english} {other.english}",
        f"{one.nominative} ist {comparison.german} {other.nominative}",
        (GENDER_AGREEMENT,),
    )


@frame("movable", "spot", article=ARTICLES, quality=QUALITIES, movable=MOVABLES, spot=SPOTS, other=QUALITIES)
def lying(article: Determiner, quality: Adjective, movable: Movable, spot: Spot, other: Adjective) -> Pair:
    """My red suitcase is under the old table."""
    thing = noun_phrase(article, movable.noun, quality)
    landmark = noun_phrase(THE, spot.landmark, other)
    return statement(
        f"{thing.english} is {spot.english} {landmark.english}",
        f"{thing.nominative} {movable.is_somewhere} {spot.german} {landmark.dative}",
        (GENDER_AGREEMENT, DATIVE, PLACE),
    )


@frame(
    "movable",
    "spot",
    subject=SUBJECTS,
    article=ARTICLES,
    quality=QUALITIES,
    movable=MOVABLES,
    spot=SPOTS,
    other=QUALITIES,
)
def putting(
    subject: Person, article: Determiner, quality: Adjective, movable: Movable, spot: Spot, other: Adjective
) -> Pair:
    """Anna will put my red suitcase under the old table."""
    thing = noun_phrase(article, movable.noun, quality)
    landmark = noun_phrase(THE, spot.landmark, other)
    verb = present(movable.put, subject)
    return statement(
        f"{subject.english} will put {thing.english} {spot.english} {landmark.english}",
        main_clause(subject.nominative, verb, thing.accusative, f"{spot.german} {landmark.accusative}"),
        (GENDER_AGREEMENT, PLACE),
    )


@frame("movable", "spot", article=ARTICLES, quality=QUALITIES, movable=MOVABLES, spot=SPOTS, other=QUALITIES)
def please_put(article: Determiner, quality: Adjective, movable: Movable, spot: Spot, other: Adjective) -> Pair:
    """Please put the red suitcase under the old table."""
    thing = noun_phrase(article, movable.noun, quality)
    landmark = noun_phrase(THE, spot.landmark, other)
    return statement(
        f"please put {thing.english} {spot.english} {landmark.english}",
        f"bitte {movable.put.imperative} {thing.accusative} {spot.german} {landmark.accusative}",
        (GENDER_AGREEMENT, PLACE),
    )


@frame(
    "verb",
    "quality",
    "noun",
    subject=SUBJECTS,
    city=CITIES,
    day=COMING_DAYS,
    verb=(BUY, SELL, SEARCH),
    quality=QUALITIES,
    noun=GOODS,
)
def shopping(subject: Person, city: Phrase, day: Phrase, verb: Verb, quality: Adjective, noun: Noun) -> Pair:
    """Anna will drive to Cologne tomorrow to buy a red coat."""
    thing = noun_phrase(A, noun, quality)
    drive = main_clause(subject.nominative, present(DRIVE, subject), day.german, f"nach {city.german}")
    return statement(
        f"{subject.english} will drive to {city.english} {day.english} to {verb.english} {thing.english}",
        f"{drive}, um {thing.accusative} {verb.infinitive_with_zu}",
        (GENDER_AGREEMENT, VERB_FINAL),
        city.phenomena,
    )


FRAMES = (deal, verdict, replacement, comparing, lying, putting, please_put, shopping)
