"""Prices in words and in figures: German has a comma where English has the decimal point."""

from dataclasses import dataclass

from .inflection import Noun
from .numbers import cardinal, english_cardinal, german_cardinal, inverted
from .phenomena import NUMBER, PRICE
from .things import BAG, BICYCLE, BLANKET, CAMERA, CLOTHES, CUSHION, FURNITURE, LAMP, SUITCASE, TOWEL, UMBRELLA, VASE
from .words import Phrase

CHEAP_GOODS = (*CLOTHES, SUITCASE, UMBRELLA, BAG, TOWEL, BLANKET, CUSHION, LAMP, VASE)
DEAR_GOODS = (*FURNITURE, CAMERA, BICYCLE)


def _euros(number: int) -> Phrase:
    amount = cardinal(number)
    return Phrase(f"{amount.english} euros", f"{amount.german} Euro", (PRICE, *amount.phenomena))


def _euros_and_cents(euros: int, cents: int) -> Phrase:
    return Phrase(
        f"{english_cardinal(euros)} euros {english_cardinal(cents)}",
        f"{german_cardinal(euros)} Euro {german_cardinal(cents)}",
        (PRICE, NUMBER, *inverted(euros)),
    )


SMALL_PRICES = tuple(_euros_and_cents(euros, cents) for euros in range(2, 6) for cents in range(20, 100, 10))
ROUND_PRICES = tuple(_euros(number) for number in range(12, 100))
LARGE_PRICES = tuple(_euros(number) for number in range(110, 610, 10))
WORDED_PRICES = (
    *ROUND_PRICES,
    *(_euros_and_cents(euros, cents) for euros in range(12, 100) for cents in (20, 50, 80)),
)
FIGURE_PRICES = tuple(
    Phrase(f"{euros}.{cents:02d} euros", f"{euros},{cents:02d} Euro", (PRICE, NUMBER))
    for euros in range(12, 60)
    for cents in (20, 50, 75, 90, 99)
)


@dataclass(frozen=True, slots=True)
class Offer:
    """A thing and a price one would believe."""

    noun: Noun
    price: Phrase


OFFERS = (
    *(Offer(noun, price) for noun in CHEAP_GOODS for price in WORDED_PRICES),
    *(Offer(noun, price) for noun in DEAR_GOODS for price in LARGE_PRICES),
)


@dataclass(frozen=True, slots=True)
class TwoPrices:
    """Two different prices in whole euros, as words; the second is the lower one."""

    higher: Phrase
    lower: Phrase


TWO_PRICES = tuple(
    TwoPrices(higher, lower) for index, higher in enumerate(ROUND_PRICES) for lower in ROUND_PRICES[:index]
)
