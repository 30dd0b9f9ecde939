"""Things to buy, carry, lose and put somewhere, and what they are like."""

from dataclasses import dataclass

from .inflection import Adjective, Gender, Noun
from .verbs import Verb

_M, _F, _N = Gender.MASCULINE, Gender.FEMININE, Gender.NEUTER

COAT = Noun("coat", "Mantel", _M, "Mäntel")
SWEATER = Noun("sweater", "Pullover", _M, "Pullover")
HAT = Noun("hat", "Hut", _M, "Hüte")
JACKET = Noun("jacket", "Jacke", _F, "Jacken")
CAP = Noun("cap", "Mütze", _F, "Mützen")
SHIRT = Noun("shirt", "Hemd", _N, "Hemden")
SUITCASE = Noun("suitcase", "Koffer", _M, "Koffer")
UMBRELLA = Noun("umbrella", "Regenschirm", _M, "Regenschirme")
BAG = Noun("bag", "Tasche", _F, "Taschen")
TOWEL = Noun("towel", "Handtuch", _N, "Handtücher")
CAMERA = Noun("camera", "Kamera", _F, "Kameras")
BLANKET = Noun("blanket", "Decke", _F, "Decken")
BOOK = Noun("book", "Buch", _N, "Bücher")
CUSHION = Noun("cushion", "Kissen", _N, "Kissen")
BICYCLE = Noun("bicycle", "Fahrrad", _N, "Fahrräder")
TABLE = Noun("table", "Tisch", _M, "Tische")
CHAIR = Noun("chair", "Stuhl", _M, "Stühle")
CUPBOARD = Noun("cupboard", "Schrank", _M, "Schränke")
CARPET = Noun("carpet", "Teppich", _M, "Teppiche")
BASKET = Noun("basket", "Korb", _M, "Körbe")
RADIO = Noun("radio", "Radio", _N, "Radios")
LAMP = Noun("lamp", "Lampe", _F, "Lampen")
VASE = Noun("vase", "Vase", _F, "Vasen")
SOFA = Noun("sofa", "Sofa", _N, "Sofas")
SHELF = Noun("shelf", "Regal", _N, "Regale")
PICTURE = Noun("picture", "Bild", _N, "Bilder")
DOOR = Noun("door", "Tür", _F, "Türen")
WINDOW = Noun("window", "Fenster", _N, "Fenster")

CLOTHES = (COAT, SWEATER, HAT, JACKET, CAP, SHIRT)
PORTABLE = (*CLOTHES, SUITCASE, UMBRELLA, BAG, TOWEL, CAMERA, BLANKET, BOOK, CUSHION)
FURNITURE = (TABLE, CHAIR, CUPBOARD, CARPET, LAMP, VASE, SOFA, SHELF, PICTURE)
GOODS = (*PORTABLE, BICYCLE, *FURNITURE)

COLOURS = tuple(
    Adjective(english, german)
    for english, german in (
        ("red", "rot"),
        ("blue", "blau"),
        ("green", "grün"),
        ("yellow", "gelb"),
        ("black", "schwarz"),
        ("white", "weiß"),
        ("brown", "braun"),
        ("grey", "grau"),
    )
)
NEW = Adjective("new", "neu")
OLD = Adjective("old", "alt")
SMALL = Adjective("small", "klein")
BIG = Adjective("big", "groß")
BEAUTIFUL = Adjective("beautiful", "schön")
QUALITIES = (*COLOURS, NEW, OLD, SMALL, BIG, BEAUTIFUL)


@dataclass(frozen=True, slots=True)
class Contrast:
    """Two qualities that exclude each other."""

    first: Adjective
    second: Adjective


CONTRASTS = (
    *(Contrast(first, second) for first in COLOURS for second in COLOURS if first is not second),
    Contrast(NEW, OLD),
    Contrast(OLD, NEW),
    Contrast(SMALL, BIG),
    Contrast(BIG, SMALL),
)


@dataclass(frozen=True, slots=True)
class TwoThings:
    """Two different kinds of thing."""

    first: Noun
    second: Noun


# What one would compare or order together.
ALIKE = tuple(
    TwoThings(first, second)
    for group in ((*CLOTHES, SUITCASE, UMBRELLA, BAG, TOWEL), FURNITURE)
    for first in group
    for second in group
    if first is not second
)

_STAND = Verb("put", "put", "stellen", "stellst", "stellt", "gestellt")
_LAY = Verb("put", "put", "legen", "legst", "legt", "gelegt")


@dataclass(frozen=True, slots=True)
class Movable:
    """A thing that stands or lies somewhere, which German says both of its place and of putting it there."""

    noun: Noun
    is_somewhere: str
    put: Verb


MOVABLES = (
    *(Movable(noun, "steht", _STAND) for noun in (SUITCASE, BASKET, BAG, LAMP, VASE, RADIO)),
    *(
        Movable(noun, "liegt", _LAY)
        for noun in (COAT, SWEATER, UMBRELLA, JACKET, BLANKET, CAP, TOWEL, SHIRT, BOOK, CUSHION)
    ),
)


@dataclass(frozen=True, slots=True)
class Spot:
    """A preposition and the piece of the room it goes with: dative for where it is, accusative for where it goes."""

    english: str
    german: str
    landmark: Noun


SPOTS = tuple(
    Spot(english, german, landmark)
    for english, german, landmarks in (
        ("on", "auf", (TABLE, SOFA)),
        ("under", "unter", (TABLE, WINDOW, PICTURE)),
        ("next to", "neben", (TABLE, CUPBOARD, SOFA, SHELF, DOOR, WINDOW)),
        ("behind", "hinter", (CUPBOARD, SOFA, DOOR)),
        ("in front of", "vor", (CUPBOARD, SOFA, SHELF, DOOR, WINDOW)),
    )
    for landmark in landmarks
)
