"""Buying and ordering: prices, numbers of things, and what is on the table."""

from dataclasses import dataclass

from .dealings import BUY, NEED, ORDER
from .frame import frame, question, statement
from .inflection import THE, A, Adjective, Case, Noun, adjective, counted, determiner, noun_phrase
from .numbers import cardinal
from .people import SUBJECTS, WE, I, Person
from .phenomena import GENDER_AGREEMENT, VERB_SECOND, Pair
from .places import IN_CITIES
from .prices import CHEAP_GOODS, FIGURE_PRICES, OFFERS, SMALL_PRICES, TWO_PRICES, Offer, TwoPrices
from .things import ALIKE, CONTRASTS, QUALITIES, Contrast, TwoThings
from .times import PAST_DAYS
from .verbs import Verb, main_clause, perfect, verb_first
from .words import Phrase

_PAY = Verb("pay", "paid", "bezahlen", "bezahlst", "bezahlt", "bezahlt")
_COUNTS = tuple(cardinal(number) for number in range(2, 100))


@dataclass(frozen=True, slots=True)
class Dish:
    """Something on the menu: one of it with its article, and several of it."""

    english: str
    english_plural: str
    nominative: str
    accusative: str
    german_plural: str


_MENU = (
    Dish("a cup of tea", "cups of tea", "eine Tasse Tee", "eine Tasse Tee", "Tassen Tee"),
    Dish("a cup of coffee", "cups of coffee", "eine Tasse Kaffee", "eine Tasse Kaffee", "Tassen Kaffee"),
    Dish("a glass of water", "glasses of water", "ein Glas Wasser", "ein Glas Wasser", "Gläser Wasser"),
    Dish("a glass of milk", "glasses of milk", "ein Glas Milch", "ein Glas Milch", "Gläser Milch"),
    Dish("a bottle of beer", "bottles of beer", "eine Flasche Bier", "eine Flasche Bier", "Flaschen Bier"),
    Dish("a piece of cake", "pieces of cake", "ein Stück Kuchen", "ein Stück Kuchen", "Stück Kuchen"),
    Dish("a bread roll", "bread rolls", "ein Brötchen", "ein Brötchen", "Brötchen"),
    Dish("an apple", "apples", "ein Apfel", "einen Apfel", "Äpfel"),
    Dish("a salad", "salads", "ein Salat", "einen Salat", "Salate"),
    Dish("a soup", "soups", "eine Suppe", "eine Suppe", "Suppen"),
    Dish("an egg", "eggs", "ein Ei", "ein Ei", "Eier"),
)
_SERVINGS = tuple(cardinal(number) for number in range(2, 13))


def _servings(dish: Dish) -> tuple[Phrase, ...]:
    several = (
        Phrase(f"{number.english} {dish.english_plural}", f"{number.german} {dish.german_plural}", number.phenomena)
        for number in _SERVINGS
    )
    return (Phrase(dish.english, dish.accusative, (GENDER_AGREEMENT,)), *several)


@dataclass(frozen=True, slots=True)
class TwoDishes:
    """Two different dishes."""

    first: Dish
    second: Dish


_TWO_DISHES = tuple(TwoDishes(first, second) for first in _MENU for second in _MENU if first is not second)


@dataclass(frozen=True, slots=True)
class Meal:
    """Two different dishes, each with how many of it."""

    first: Phrase
    second: Phrase


_MEALS = tuple(
    Meal(first, second)
    for dishes in _TWO_DISHES
    for first in _servings(dishes.first)
    for second in _servings(dishes.second)
)


@frame("offer", "quality", day=PAST_DAYS, subject=SUBJECTS, quality=QUALITIES, offer=OFFERS, city=IN_CITIES)
def purchase(day: Phrase, subject: Person, quality: Adjective, offer: Offer, city: Phrase) -> Pair:
    """Yesterday, Anna bought a red coat in Cologne for forty-five euros."""
    thing = noun_phrase(A, offer.noun, quality)
    verb = perfect(BUY, subject)
    clause = verb_first(subject.nominative, verb, city.german, thing.accusative, f"für {offer.price.german}")
    return statement(
        f"{day.english}, {subject.english} bought {thing.english} {city.english} for {offer.price.english}",
        f"{day.german} {clause}",
        (VERB_SECOND, GENDER_AGREEMENT),
        verb.phenomena,
        offer.price.phenomena,
        city.phenomena,
        day.phenomena,
    )


@frame(
    "quality",
    "noun",
    "day",
    subject=SUBJECTS,
    price=FIGURE_PRICES,
    quality=QUALITIES,
    noun=CHEAP_GOODS,
    day=PAST_DAYS,
)
def payment(subject: Person, price: Phrase, quality: Adjective, noun: Noun, day: Phrase) -> Pair:
    """Anna paid 45.50 euros for the red coat last week."""
    thing = noun_phrase(THE, noun, quality)
    verb = perfect(_PAY, subject)
    return statement(
        f"{subject.english} paid {price.english} for {thing.english} {day.english}",
        main_clause(subject.nominative, verb, day.german, price.german, f"für {thing.accusative}"),
        (GENDER_AGREEMENT,),
        verb.phenomena,
        price.phenomena,
        day.phenomena,
    )


@frame("contrast", "noun", contrast=CONTRASTS, noun=CHEAP_GOODS, prices=TWO_PRICES)
def cheaper_one(contrast: Contrast, noun: Noun, prices: TwoPrices) -> Pair:
    """The red coat costs forty-five euros, but the blue one costs only thirty-one euros."""
    thing = noun_phrase(THE, noun, contrast.first)
    article = determiner(THE, noun.gender, Case.NOMINATIVE)
    colour = adjective(contrast.second, THE, noun.gender, Case.NOMINATIVE)
    return statement(
        f"{thing.english} costs {prices.higher.english}, "
        f"but the {contrast.second.english} one costs only {prices.lower.english}",
        f"{thing.nominative} kostet {prices.higher.german}, aber {article} {colour} kostet nur {prices.lower.german}",
        (GENDER_AGREEMENT,),
        prices.higher.phenomena,
        prices.lower.phenomena,
    )


@frame("quality", "noun", quality=QUALITIES, noun=CHEAP_GOODS, prices=TWO_PRICES)
def price_question(quality: Adjective, noun: Noun, prices: TwoPrices) -> Pair:
    """Does the red coat cost thirty-one euros or forty-five euros?"""
    thing = noun_phrase(THE, noun, quality)
    return question(
        f"does {thing.english} cost {prices.lower.english} or {prices.higher.english}",
        f"kostet {thing.nominative} {prices.lower.german} oder {prices.higher.german}",
        (GENDER_AGREEMENT,),
        prices.higher.phenomena,
        prices.lower.phenomena,
    )


@frame(
    "things",
    "first",
    "second",
    subject=SUBJECTS,
    first_count=_COUNTS,
    second_count=_COUNTS,
    things=ALIKE,
    first=QUALITIES,
    second=QUALITIES,
)
def needing(
    subject: Person, first_count: Phrase, second_count: Phrase, things: TwoThings, first: Adjective, second: Adjective
) -> Pair:
    """We need twenty-one red chairs and seven small tables."""
    english_one, german_one = counted(first, things.first)
    english_other, german_other = counted(second, things.second)
    return statement(
        f"{subject.english} {NEED.english_present(subject)} {first_count.english} {english_one} "
        f"and {second_count.english} {english_other}",
        f"{subject.nominative} {NEED.finite(subject)} {first_count.german} {german_one} "
        f"und {second_count.german} {german_other}",
        first_count.phenomena,
        second_count.phenomena,
    )


@frame(
    "count",
    "quality",
    "noun",
    subject=SUBJECTS,
    verb=(BUY, ORDER),
    count=_COUNTS,
    quality=QUALITIES,
    noun=CHEAP_GOODS,
    day=PAST_DAYS,
)
def stocking_up(subject: Person, verb: Verb, count: Phrase, quality: Adjective, noun: Noun, day: Phrase) -> Pair:
    """Anna ordered twenty-one red chairs last week."""
    english, german = counted(quality, noun)
    group = perfect(verb, subject)
    return statement(
        f"{subject.english} {verb.past} {count.english} {english} {day.english}",
        main_clause(subject.nominative, group, day.german, f"{count.german} {german}"),
        group.phenomena,
        count.phenomena,
        day.phenomena,
    )


@frame("meal", guest=(I, WE), meal=_MEALS)
def ordering(guest: Person, meal: Meal) -> Pair:
    """I would like two cups of tea and a piece of cake, please."""
    would = "hätte" if guest is I else "hätten"
    return statement(
        f"{guest.english} would like {meal.first.english} and {meal.second.english}, please",
        f"{guest.nominative} {would} gern {meal.first.german} und {meal.second.german}, bitte",
        meal.first.phenomena,
        meal.second.phenomena,
    )


@frame("dishes", "price", dishes=_TWO_DISHES, price=SMALL_PRICES, other_price=SMALL_PRICES)
def menu(dishes: TwoDishes, price: Phrase, other_price: Phrase) -> Pair:
    """A cup of tea costs two euros fifty, and a piece of cake costs three euros twenty."""
    first, second = dishes.first, dishes.second
    return statement(
        f"{first.english} costs {price.english}, and {second.english} costs {other_price.english}",
        f"{first.nominative} kostet {price.german}, und {second.nominative} kostet {other_price.german}",
        (GENDER_AGREEMENT,),
        price.phenomena,
        other_price.phenomena,
    )


FRAMES = (purchase, payment, cheaper_one, price_question, needing, stocking_up, ordering, menu)
