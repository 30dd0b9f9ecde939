"""Number words from 0 to 999, and ordinals from 1 to 31.

German says the units before the tens: 21 is einundzwanzig, "one and twenty".
"""

from .phenomena import NUMBER, NUMBER_INVERSION
from .words import Phrase


def _listed(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_ENGLISH_UNITS = _listed(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_ENGLISH_TENS = _listed("- - twenty thirty forty fifty sixty seventy eighty ninety")
_GERMAN_UNITS = _listed(
    "null eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn siebzehn "
    "achtzehn neunzehn"
)
_GERMAN_TENS = _listed("- - zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig")
_ENGLISH_ORDINALS = _listed(
    "- first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth "
    "fifteenth sixteenth seventeenth eighteenth nineteenth"
)
_GERMAN_IRREGULAR_ORDINALS = {1: "erst", 3: "dritt", 7: "siebt", 8: "acht"}


def _check(number: int, lowest: int, highest: int) -> None:
    if not lowest <= number <= highest:
        raise ValueError(f"number = {number}: give a number from {lowest} to {highest}")


def english_cardinal(number: int) -> str:
    """345 -> three hundred and forty-five. Raises ValueError outside 0 to 999."""
    _check(number, 0, 999)
    if number < 20:
        return _ENGLISH_UNITS[number]
    if number < 100:
        tens, units = divmod(number, 10)
        return _ENGLISH_TENS[tens] + (f"-{_ENGLISH_UNITS[units]}" if units else "")
    hundreds, rest = divmod(number, 100)
    return f"{_ENGLISH_UNITS[hundreds]} hundred" + (f" and {english_cardinal(rest)}" if rest else "")


def german_cardinal(number: int) -> str:
    """345 -> dreihundertfünfundvierzig; 1 is eins, as in counting. Raises ValueError outside 0 to 999."""
    _check(number, 0, 999)
    if number < 20:
        return _GERMAN_UNITS[number]
    if number < 100:
        tens, units = divmod(number, 10)
        first = "ein" if units == 1 else _GERMAN_UNITS[units]
        return f"{first}und{_GERMAN_TENS[tens]}" if units else _GERMAN_TENS[tens]
    hundreds, rest = divmod(number, 100)
    first = "" if hundreds == 1 else _GERMAN_UNITS[hundreds]
    return f"{first}hundert" + (german_cardinal(rest) if rest else "")


def english_ordinal(number: int) -> str:
    """21 -> twenty-first. Raises ValueError outside 1 to 31."""
    _check(number, 1, 31)
    if number < 20:
        return _ENGLISH_ORDINALS[number]
    tens, units = divmod(number, 10)
    return f"{_ENGLISH_TENS[tens]}-{_ENGLISH_ORDINALS[units]}" if units else _ENGLISH_TENS[tens][:-1] + "ieth"


def german_ordinal(number: int) -> str:
    """The stem before the ending: 21 -> einundzwanzigst(e). Raises ValueError outside 1 to 31."""
    _check(number, 1, 31)
    regular = german_cardinal(number) + ("t" if number < 20 else "st")
    return _GERMAN_IRREGULAR_ORDINALS.get(number, regular)


def inverted(number: int) -> tuple[str, ...]:
    """The phenomenon a German number word shows when its units come before its tens."""
    return (NUMBER_INVERSION,) if number % 100 > 20 and number % 10 else ()


def cardinal(number: int) -> Phrase:
    """The number in words, in both languages."""
    return Phrase(english_cardinal(number), german_cardinal(number), (NUMBER, *inverted(number)))
