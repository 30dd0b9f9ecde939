"""What opens a subordinate clause with dass: somebody knows, thinks, hopes or says something."""

from .people import HE, PRONOUNS, SHE, THEY, WE, I, Inflection, Person
from .words import Phrase


def _matrices(english: str, english_third: str, german: str, persons: tuple[Person, ...]) -> tuple[Phrase, ...]:
    """A verb of thinking with each subject: I know that, ich weiß, dass."""
    finite = dict(zip(Inflection, german.split(), strict=True))
    return tuple(
        Phrase(
            f"{person.english} {english_third if person.is_singular_third else english} that",
            f"{person.nominative} {finite[person.inflection]}, dass",
        )
        for person in persons
    )


MATRICES = (
    *_matrices("know", "knows", "weiß weißt weiß wissen", PRONOUNS),
    *_matrices("think", "thinks", "glaube glaubst glaubt glauben", (I, HE, SHE, WE, THEY)),
    *_matrices("hope", "hopes", "hoffe hoffst hofft hoffen", (I, WE, HE, SHE, THEY)),
    *_matrices("say", "says", "sage sagst sagt sagen", (HE, SHE, THEY)),
)
