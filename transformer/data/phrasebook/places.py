"""Cities, and the places of a town with the prepositions German gives each of them."""

from dataclasses import dataclass

from .inflection import THE, Case, Gender, determiner
from .phenomena import GENDER_AGREEMENT, PLACE
from .words import Phrase

CITIES = tuple(
    Phrase(english, german, (PLACE,))
    for english, german in (
        ("Berlin", "Berlin"),
        ("Hamburg", "Hamburg"),
        ("Munich", "München"),
        ("Cologne", "Köln"),
        ("Vienna", "Wien"),
        ("Nuremberg", "Nürnberg"),
        ("Zurich", "Zürich"),
        ("Geneva", "Genf"),
        ("Prague", "Prag"),
        ("Brussels", "Brüssel"),
        ("Hanover", "Hannover"),
        ("Leipzig", "Leipzig"),
        ("Dresden", "Dresden"),
        ("Stuttgart", "Stuttgart"),
    )
)
IN_CITIES = tuple(Phrase(f"in {city.english}", f"in {city.german}", (PLACE,)) for city in CITIES)


@dataclass(frozen=True, slots=True)
class Route:
    """Two different cities."""

    start: Phrase
    goal: Phrase


ROUTES = tuple(Route(start, goal) for start in CITIES for goal in CITIES if start is not goal)


def _places(*pairs: tuple[str, str]) -> tuple[Phrase, ...]:
    return tuple(Phrase(english, german, (PLACE,)) for english, german in pairs)


MEETING_PLACES = _places(
    ("at the station", "am Bahnhof"),
    ("at the airport", "am Flughafen"),
    ("at the market", "auf dem Markt"),
    ("at the café", "im Café"),
    ("at the hotel", "im Hotel"),
    ("in the park", "im Park"),
    ("in front of the theatre", "vor dem Theater"),
    ("in front of the museum", "vor dem Museum"),
    ("in front of the church", "vor der Kirche"),
    ("in front of the school", "vor der Schule"),
)
CALLING_PLACES = _places(
    ("from the office", "aus dem Büro"),
    ("from the hotel", "aus dem Hotel"),
    ("from Vienna", "aus Wien"),
    ("from Cologne", "aus Köln"),
    ("from Munich", "aus München"),
    ("from Prague", "aus Prag"),
)
VISITING_PLACES = _places(
    ("at the office", "im Büro"),
    ("at the hotel", "im Hotel"),
    ("in hospital", "im Krankenhaus"),
    ("in Vienna", "in Wien"),
    ("in Leipzig", "in Leipzig"),
    ("in Geneva", "in Genf"),
)
HELPING_PLACES = _places(
    ("in the garden", "im Garten"),
    ("in the kitchen", "in der Küche"),
    ("at the office", "im Büro"),
    ("at the market", "auf dem Markt"),
)
INVITATIONS = _places(
    ("to dinner", "zum Abendessen"),
    ("to the party", "zur Party"),
    ("to the wedding", "zur Hochzeit"),
    ("to the concert", "zum Konzert"),
)
OUTINGS = _places(
    ("to the museum", "ins Museum"),
    ("to the cinema", "ins Kino"),
    ("to the theatre", "ins Theater"),
    ("to the café", "ins Café"),
    ("to the restaurant", "ins Restaurant"),
    ("to the swimming pool", "ins Schwimmbad"),
    ("to the park", "in den Park"),
    ("to the zoo", "in den Zoo"),
    ("to the library", "in die Bibliothek"),
    ("to church", "in die Kirche"),
    ("to the market", "auf den Markt"),
    ("into town", "in die Stadt"),
)
AROUND_THE_HOUSE = _places(
    ("in the garage", "in der Garage"),
    ("in the garden", "im Garten"),
    ("in the kitchen", "in der Küche"),
    ("in the hall", "im Flur"),
    ("in the office", "im Büro"),
    ("next to the door", "neben der Tür"),
    ("in front of the house", "vor dem Haus"),
    ("in the living room", "im Wohnzimmer"),
)
VEHICLES = tuple(
    Phrase(english, german)
    for english, german in (
        ("by train", "mit dem Zug"),
        ("by bus", "mit dem Bus"),
        ("by car", "mit dem Auto"),
        ("by bicycle", "mit dem Fahrrad"),
    )
)


@dataclass(frozen=True, slots=True)
class Stop:
    """A stop in town; zu and von are contracted with the dative article: zum Bahnhof, von der Schule."""

    english: str
    german: str
    gender: Gender

    @property
    def to(self) -> str:
        return f"{'zur' if self.gender is Gender.FEMININE else 'zum'} {self.german}"

    @property
    def origin(self) -> str:
        article = determiner(THE, self.gender, Case.DATIVE)
        return f"{'von der' if article == 'der' else 'vom'} {self.german}"


STOPS = (
    Stop("station", "Bahnhof", Gender.MASCULINE),
    Stop("airport", "Flughafen", Gender.MASCULINE),
    Stop("harbour", "Hafen", Gender.MASCULINE),
    Stop("market", "Markt", Gender.MASCULINE),
    Stop("zoo", "Zoo", Gender.MASCULINE),
    Stop("school", "Schule", Gender.FEMININE),
    Stop("church", "Kirche", Gender.FEMININE),
    Stop("library", "Bibliothek", Gender.FEMININE),
    Stop("university", "Universität", Gender.FEMININE),
    Stop("museum", "Museum", Gender.NEUTER),
    Stop("theatre", "Theater", Gender.NEUTER),
    Stop("town hall", "Rathaus", Gender.NEUTER),
    Stop("hospital", "Krankenhaus", Gender.NEUTER),
)
STOP_ROUTES = tuple(
    Phrase(f"from the {start.english} to the {goal.english}", f"{start.origin} {goal.to}", (PLACE, GENDER_AGREEMENT))
    for start in STOPS
    for goal in STOPS
    if start is not goal
)
