"""Journeys: time before manner before place, timetables, and questions to strangers (Sie)."""

from dataclasses import dataclass

from .frame import frame, question, statement
from .numbers import cardinal
from .people import SUBJECTS, Person
from .phenomena import CLOCK_TIME, MODAL_VERB, PERFECT_TENSE, PLACE, SEPARABLE_VERB, VERB_FINAL, VERB_SECOND, Pair
from .places import CITIES, ROUTES, STOP_ROUTES, VEHICLES, Route
from .times import COMING_DAYS, COMING_TIMES, DATES, MINUTES, PAST_DAYS, TIMETABLE_TIMES, WEEKDAYS, Date
from .verbs import Auxiliary, Verb, main_clause, perfect, present, verb_first
from .words import Phrase

_TRAVEL = Verb("travel", "travelled", "fahren", "fährst", "fährt", "gefahren", auxiliary=Auxiliary.SEIN)

_TRAINS = tuple(
    Phrase(f"the {english} {english_vehicle}", f"der {german} {german_vehicle}")
    for english, german in (("first", "erste"), ("next", "nächste"), ("last", "letzte"))
    for english_vehicle, german_vehicle in (("train", "Zug"), ("bus", "Bus"))
)
_ARRIVING = (Phrase("the train", "der Zug"), Phrase("the bus", "der Bus"), Phrase("the plane", "das Flugzeug"))
_PLATFORMS = tuple(cardinal(number) for number in range(1, 25))
_LINES = tuple(cardinal(number) for number in range(2, 100))
_INTERVALS = tuple(cardinal(number) for number in range(3, 31))
_TICKETS = tuple(cardinal(number) for number in range(2, 30))


@dataclass(frozen=True, slots=True)
class TwoTimes:
    """Two times of a timetable, the later one second."""

    first: Phrase
    second: Phrase


_TWO_TIMES = tuple(
    TwoTimes(TIMETABLE_TIMES[index], TIMETABLE_TIMES[index + later])
    for later in (9, 18, 27, 36, 45, 63, 90)
    for index in range(len(TIMETABLE_TIMES) - later)
)


@dataclass(frozen=True, slots=True)
class Distance:
    """Kilometres, and a vehicle in which one would do so many."""

    kilometres: Phrase
    vehicle: Phrase


_TRAIN, _BUS, _CAR, _BICYCLE = VEHICLES
_DISTANCES = (
    *(Distance(cardinal(number), _BICYCLE) for number in range(12, 100)),
    *(Distance(cardinal(number), vehicle) for number in range(110, 610, 10) for vehicle in (_TRAIN, _BUS, _CAR)),
)


@frame("city", "vehicle", "time", subject=SUBJECTS, city=CITIES, vehicle=VEHICLES, time=COMING_TIMES)
def journey(subject: Person, city: Phrase, vehicle: Phrase, time: Phrase) -> Pair:
    """We will travel to Vienna by train tomorrow at half past seven."""
    verb = present(_TRAVEL, subject)
    return statement(
        f"{subject.english} will travel to {city.english} {vehicle.english} {time.english}",
        main_clause(subject.nominative, verb, time.german, vehicle.german, f"nach {city.german}"),
        (PLACE,),
        time.phenomena,
    )


@frame("route", "vehicle", day=PAST_DAYS, subject=SUBJECTS, route=ROUTES, vehicle=VEHICLES)
def past_journey(day: Phrase, subject: Person, route: Route, vehicle: Phrase) -> Pair:
    """Three days ago, we travelled from Cologne to Vienna by train."""
    verb = perfect(_TRAVEL, subject)
    clause = verb_first(subject.nominative, verb, vehicle.german, f"von {route.start.german} nach {route.goal.german}")
    return statement(
        f"{day.english}, {subject.english} travelled from {route.start.english} to {route.goal.english} "
        f"{vehicle.english}",
        f"{day.german} {clause}",
        (VERB_SECOND, PLACE),
        verb.phenomena,
        day.phenomena,
    )


@frame("distance", "day", subject=SUBJECTS, distance=_DISTANCES, day=PAST_DAYS)
def distance(subject: Person, distance: Distance, day: Phrase) -> Pair:
    """Anna travelled three hundred and forty kilometres by car last Sunday."""
    verb = perfect(_TRAVEL, subject)
    kilometres = distance.kilometres
    return statement(
        f"{subject.english} travelled {kilometres.english} kilometres {distance.vehicle.english} {day.english}",
        main_clause(subject.nominative, verb, day.german, f"{kilometres.german} Kilometer", distance.vehicle.german),
        verb.phenomena,
        kilometres.phenomena,
        day.phenomena,
    )


@frame("train", "city", "platform", train=_TRAINS[::2], city=CITIES, platform=_PLATFORMS, time=TIMETABLE_TIMES)
def departure(train: Phrase, city: Phrase, platform: Phrase, time: Phrase) -> Pair:
    """The next train to Hamburg leaves from platform seven at 19:45."""
    return statement(
        f"{train.english} to {city.english} leaves from platform {platform.english} {time.english}",
        f"{train.german} nach {city.german} fährt {time.german} von Gleis {platform.german} ab",
        (SEPARABLE_VERB, PLACE),
        platform.phenomena,
        time.phenomena,
    )


@frame("train", "route", train=_ARRIVING, route=ROUTES, time=TIMETABLE_TIMES, delay=MINUTES)
def arrival(train: Phrase, route: Route, time: Phrase, delay: Phrase) -> Pair:
    """The train from Berlin arrived in Hamburg at 19:45, twenty-one minutes late."""
    return statement(
        f"{train.english} from {route.start.english} arrived in {route.goal.english} {time.english}, "
        f"{delay.english} minutes late",
        f"{train.german} aus {route.start.german} ist {time.german} mit {delay.german} Minuten Verspätung "
        f"in {route.goal.german} angekommen",
        (SEPARABLE_VERB, PERFECT_TENSE, PLACE),
        time.phenomena,
        delay.phenomena,
    )


@frame("train", "city", "times", train=_TRAINS, city=CITIES, times=_TWO_TIMES)
def either_time(train: Phrase, city: Phrase, times: TwoTimes) -> Pair:
    """Excuse me, does the next train to Hamburg leave at 19:45 or at 20:15?"""
    return question(
        f"excuse me, does {train.english} to {city.english} leave {times.first.english} or {times.second.english}",
        f"entschuldigen Sie, fährt {train.german} nach {city.german} {times.first.german} "
        f"oder {times.second.german} ab",
        (SEPARABLE_VERB, PLACE, CLOCK_TIME),
    )


@frame("train", "route", train=_TRAINS, route=ROUTES, day=COMING_DAYS)
def asking_a_stranger(train: Phrase, route: Route, day: Phrase) -> Pair:
    """Excuse me, could you tell me when the first train from Berlin arrives in Hamburg on Monday?"""
    return question(
        f"excuse me, could you tell me when {train.english} from {route.start.english} "
        f"arrives in {route.goal.english} {day.english}",
        f"entschuldigen Sie, könnten Sie mir sagen, wann {train.german} aus {route.start.german} {day.german} "
        f"in {route.goal.german} ankommt",
        (SEPARABLE_VERB, PLACE, VERB_FINAL, MODAL_VERB),
    )


@frame("line", "route", line=_LINES, interval=_INTERVALS, route=STOP_ROUTES)
def bus_line(line: Phrase, interval: Phrase, route: Phrase) -> Pair:
    """Line twenty-one runs every fifteen minutes from the station to the museum."""
    return statement(
        f"line {line.english} runs every {interval.english} minutes {route.english}",
        f"die Linie {line.german} fährt alle {interval.german} Minuten {route.german}",
        line.phenomena,
        interval.phenomena,
        route.phenomena,
    )


@frame("number", "route", number=_TICKETS, route=ROUTES, weekday=WEEKDAYS, date=DATES)
def tickets(number: Phrase, route: Route, weekday: Phrase, date: Date) -> Pair:
    """I would like two tickets from Cologne to Vienna for Monday, the third of May."""
    return statement(
        f"I would like {number.english} tickets from {route.start.english} to {route.goal.english} "
        f"for {weekday.english}, {date.english}",
        f"ich hätte gern {number.german} Fahrkarten von {route.start.german} nach {route.goal.german} "
        f"für {weekday.german}, den {date.oblique}",
        (PLACE,),
        number.phenomena,
        date.phenomena,
    )


FRAMES = (
    journey,
    past_journey,
    distance,
    departure,
    arrival,
    either_time,
    asking_a_stranger,
    bus_line,
    tickets,
)
