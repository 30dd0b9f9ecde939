"""Clock times, days and dates.

A German clock counts towards the hour to come: half past seven is halb acht, "half eight", and twenty-five past seven
is fünf vor halb acht.
"""

from dataclasses import dataclass

from .numbers import cardinal, english_cardinal, english_ordinal, german_cardinal, german_ordinal, inverted
from .phenomena import CLOCK_TIME, DATE, NUMBER
from .words import Phrase

WEEKDAYS = (
    Phrase("Monday", "Montag"),
    Phrase("Tuesday", "Dienstag"),
    Phrase("Wednesday", "Mittwoch"),
    Phrase("Thursday", "Donnerstag"),
    Phrase("Friday", "Freitag"),
    Phrase("Saturday", "Samstag"),
    Phrase("Sunday", "Sonntag"),
)

_ENGLISH_MINUTES = {
    5: "five past {this}",
    10: "ten past {this}",
    15: "quarter past {this}",
    20: "twenty past {this}",
    25: "twenty-five past {this}",
    30: "half past {this}",
    35: "twenty-five to {next}",
    40: "twenty to {next}",
    45: "quarter to {next}",
    50: "ten to {next}",
    55: "five to {next}",
}
_GERMAN_MINUTES = {
    5: "fünf nach {this}",
    10: "zehn nach {this}",
    15: "Viertel nach {this}",
    20: "zwanzig nach {this}",
    25: "fünf vor halb {next}",
    30: "halb {next}",
    35: "fünf nach halb {next}",
    40: "zwanzig vor {next}",
    45: "Viertel vor {next}",
    50: "zehn vor {next}",
    55: "fünf vor {next}",
}


def clock(hour: int, minute: int) -> Phrase:
    """A time of the twelve-hour clock in words; `hour` 1 to 12, `minute` a multiple of five.

    Raises ValueError for any other time.
    """
    if not (1 <= hour <= 12 and minute in range(0, 60, 5)):
        raise ValueError(f"time {hour}:{minute}: give an hour from 1 to 12 and minutes in steps of five")
    if minute == 0:
        german_hour = "ein" if hour == 1 else german_cardinal(hour)
        return Phrase(f"{english_cardinal(hour)} o'clock", f"{german_hour} Uhr", (CLOCK_TIME,))
    following = hour % 12 + 1
    return Phrase(
        _ENGLISH_MINUTES[minute].format(this=english_cardinal(hour), next=english_cardinal(following)),
        _GERMAN_MINUTES[minute].format(this=german_cardinal(hour), next=german_cardinal(following)),
        (CLOCK_TIME,),
    )


_EVENING_HOURS = range(6, 11)
CLOCK_TIMES = tuple(clock(hour, minute) for hour in range(1, 13) for minute in range(0, 60, 5))
_EVENING_TIMES = tuple(clock(hour, minute) for hour in _EVENING_HOURS for minute in range(0, 60, 5))
TIMETABLE_TIMES = tuple(
    Phrase(f"at {hour}:{minute:02d}", f"um {hour}:{minute:02d} Uhr", (CLOCK_TIME,))
    for hour in range(6, 24)
    for minute in range(60)
)

_ON_WEEKDAYS = tuple(Phrase(f"on {day.english}", f"am {day.german}") for day in WEEKDAYS)
_LAST_WEEKDAYS = tuple(Phrase(f"last {day.english}", f"letzten {day.german}") for day in WEEKDAYS)
_COMING_DAYS = (
    Phrase("today", "heute"),
    Phrase("tomorrow", "morgen"),
    Phrase("the day after tomorrow", "übermorgen"),
    *_ON_WEEKDAYS,
)
_COMING_EVENINGS = (
    Phrase("this evening", "heute Abend"),
    Phrase("tomorrow evening", "morgen Abend"),
    *(Phrase(f"on {day.english} evening", f"am {day.german}abend") for day in WEEKDAYS),
)
_PAST_DAYS = (Phrase("yesterday", "gestern"), Phrase("the day before yesterday", "vorgestern"), *_LAST_WEEKDAYS)
_PAST_EVENINGS = (Phrase("yesterday evening", "gestern Abend"),)

COMING_DAYTIMES = (*_COMING_DAYS, Phrase("next week", "nächste Woche"), Phrase("at the weekend", "am Wochenende"))
COMING_DAYS = (*COMING_DAYTIMES, *_COMING_EVENINGS)


def _ago(numbers: range, english: str, german: str) -> tuple[Phrase, ...]:
    return tuple(
        Phrase(f"{english_cardinal(number)} {english} ago", f"vor {german_cardinal(number)} {german}", (NUMBER,))
        for number in numbers
    )


PAST_DAYS = (
    *_PAST_DAYS,
    *_PAST_EVENINGS,
    Phrase("last week", "letzte Woche"),
    *_ago(range(2, 13), "days", "Tagen"),
    *_ago(range(2, 13), "weeks", "Wochen"),
)


def at(time: Phrase) -> Phrase:
    """A clock time as an adverb: at half past seven."""
    return Phrase(f"at {time.english}", f"um {time.german}", time.phenomena)


def _on_day_at(days: tuple[Phrase, ...], times: tuple[Phrase, ...]) -> tuple[Phrase, ...]:
    return tuple(
        Phrase(f"{day.english} {at(time).english}", f"{day.german} {at(time).german}", time.phenomena)
        for day in days
        for time in times
    )


# An evening has only the hours of an evening: nobody meets this evening at half past three.
COMING_TIMES = _on_day_at(_COMING_DAYS, CLOCK_TIMES) + _on_day_at(_COMING_EVENINGS, _EVENING_TIMES)
PAST_TIMES = _on_day_at(_PAST_DAYS, CLOCK_TIMES) + _on_day_at(_PAST_EVENINGS, _EVENING_TIMES)

_MONTHS = (
    ("January", "Januar", 31),
    ("February", "Februar", 28),
    ("March", "März", 31),
    ("April", "April", 30),
    ("May", "Mai", 31),
    ("June", "Juni", 30),
    ("July", "Juli", 31),
    ("August", "August", 31),
    ("September", "September", 30),
    ("October", "Oktober", 31),
    ("November", "November", 30),
    ("December", "Dezember", 31),
)


@dataclass(frozen=True, slots=True)
class Date:
    """A day of a month, in words: English "the third of May"; German der dritte, dem dritten or den dritten Mai."""

    english: str
    nominative: str  # without its article
    oblique: str  # without its article: accusative and dative are alike
    phenomena: tuple[str, ...]


DATES = tuple(
    Date(
        f"the {english_ordinal(day)} of {english}",
        f"{german_ordinal(day)}e {german}",
        f"{german_ordinal(day)}en {german}",
        (DATE, *inverted(day)),
    )
    for english, german, days in _MONTHS
    for day in range(1, days + 1)
)

# From one day of a month to a later one.
DATE_SPANS = tuple(
    Phrase(
        f"from the {english_ordinal(first)} to the {english_ordinal(last)} of {english}",
        f"vom {german_ordinal(first)}en bis zum {german_ordinal(last)}en {german}",
        (DATE, *inverted(first), *inverted(last)),
    )
    for english, german, days in _MONTHS
    for first in range(1, days)
    for last in range(first + 1, days + 1)
)

# Dates in figures: on 3 May.
FIGURE_DATES = tuple(
    Phrase(f"on {day} {english}", f"am {day}. {german}", (DATE,))
    for english, german, days in _MONTHS
    for day in range(1, days + 1)
)

MINUTES = tuple(cardinal(number) for number in range(2, 60))
