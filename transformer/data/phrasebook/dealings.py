"""What people do with things, and the reasons and feelings that go with it."""

from dataclasses import dataclass

from .contacts import PICK_UP
from .inflection import POSSESSIVES, THE
from .verbs import CAN, MAY, MUST, SHOULD, WANT, Modal, Verb
from .words import Phrase

ARTICLES = (THE, *POSSESSIVES)

BUY = Verb("buy", "bought", "kaufen", "kaufst", "kauft", "gekauft")
SELL = Verb("sell", "sold", "verkaufen", "verkaufst", "verkauft", "verkauft")
FIND = Verb("find", "found", "finden", "findest", "findet", "gefunden")
LOSE = Verb("lose", "lost", "verlieren", "verlierst", "verliert", "verloren")
LEAVE = Verb("leave", "left", "vergessen", "vergisst", "vergisst", "vergessen")
SEARCH = Verb("look for", "looked for", "suchen", "suchst", "sucht", "gesucht")
ORDER = Verb("order", "ordered", "bestellen", "bestellst", "bestellt", "bestellt")
HAVE = Verb("have", "had", "haben", "hast", "hat", "gehabt")
NEED = Verb("need", "needed", "brauchen", "brauchst", "braucht", "gebraucht")

# For what one carries; all their prefixes split off.
CARRYING = (
    PICK_UP,
    Verb("bring", "brought", "bringen", "bringst", "bringt", "gebracht", prefix="mit", particle="along"),
    Verb("take", "took", "nehmen", "nimmst", "nimmt", "genommen", prefix="mit", particle="along"),
    Verb("give", "gave", "geben", "gibst", "gibt", "gegeben", prefix="zurück", particle="back"),
    Verb("send", "sent", "schicken", "schickst", "schickt", "geschickt", prefix="zurück", particle="back"),
    Verb("pack", "packed", "packen", "packst", "packt", "gepackt", prefix="ein"),
    Verb("unpack", "unpacked", "packen", "packst", "packt", "gepackt", prefix="aus"),
)


@dataclass(frozen=True, slots=True)
class NegatedModal:
    """What English says for a German modal with nicht: must not is darf nicht, does not have to is muss nicht."""

    english: str
    english_third: str
    modal: Modal


NEGATED_MODALS = (
    NegatedModal("cannot", "cannot", CAN),
    NegatedModal("must not", "must not", MAY),
    NegatedModal("should not", "should not", SHOULD),
    NegatedModal("do not have to", "does not have to", MUST),
    NegatedModal("do not want to", "does not want to", WANT),
)


@dataclass(frozen=True, slots=True)
class Mishap:
    """A feeling, and what happened to one's own thing."""

    feeling: Phrase
    verb: Verb


MISHAPS = tuple(
    Mishap(Phrase(english, german), verb)
    for english, german, verbs in (
        ("sad", "traurig", (LOSE, LEAVE)),
        ("angry", "wütend", (LOSE, LEAVE)),
        ("happy", "glücklich", (FIND,)),
        ("relieved", "erleichtert", (FIND,)),
    )
    for verb in verbs
)


@dataclass(frozen=True, slots=True)
class Deal:
    """What one did about a thing and why: `negation` is nicht where it was not done."""

    english: str
    verb: Verb
    negation: str
    reason: Phrase


DEALS = (
    Deal("bought", BUY, "", Phrase("so cheap", "so billig")),
    Deal("bought", BUY, "", Phrase("so beautiful", "so schön")),
    Deal("bought", BUY, "", Phrase("so practical", "so praktisch")),
    Deal("sold", SELL, "", Phrase("too small", "zu klein")),
    Deal("sold", SELL, "", Phrase("too big", "zu groß")),
    Deal("sold", SELL, "", Phrase("too old", "zu alt")),
    Deal("did not buy", BUY, "nicht", Phrase("too expensive", "zu teuer")),
    Deal("did not buy", BUY, "nicht", Phrase("too small", "zu klein")),
    Deal("did not buy", BUY, "nicht", Phrase("too big", "zu groß")),
)
VERDICTS = (
    Phrase("too small", "zu klein"),
    Phrase("too big", "zu groß"),
    Phrase("very beautiful", "sehr schön"),
    Phrase("very practical", "sehr praktisch"),
)
COMPARISONS = (
    Phrase("bigger than", "größer als"),
    Phrase("smaller than", "kleiner als"),
    Phrase("older than", "älter als"),
    Phrase("newer than", "neuer als"),
    Phrase("cheaper than", "billiger als"),
    Phrase("more expensive than", "teurer als"),
    Phrase("more beautiful than", "schöner als"),
    Phrase("more practical than", "praktischer als"),
)
