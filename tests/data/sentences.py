"""Small made-up text for the tests of data."""

import random
from pathlib import Path

_WORDS = [
    ("house", "Haus"),
    ("old", "alt"),
    ("green", "grün"),
    ("street", "Straße"),
    ("bread", "Brot"),
    ("we", "wir"),
    ("buy", "kaufen"),
    ("see", "sehen"),
    ("tomorrow", "morgen"),
    ("slowly", "langsam"),
]


def make_pairs(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """Distinct English-looking and German-looking lines of 2 to 9 words."""
    rng = random.Random(seed)
    pairs = []
    for number in range(count):
        words = rng.choices(_WORDS, k=rng.randint(1, 8))
        source, target = zip(*words, strict=True)
        pairs.append((f"{' '.join(source)} {number}", f"„{' '.join(reversed(target))}“ {number}"))
    return pairs


def write_sides(folder: Path, name: str, pairs: list[tuple[str, str]]) -> str:
    """Writes two line files; the corpus string that names them."""
    paths = [folder / f"{name}.{language}" for language in ("en", "de")]
    for path, side in zip(paths, zip(*pairs, strict=True), strict=True):
        path.write_text("".join(f"{line}\n" for line in side), encoding="utf-8")
    return f"lines:{paths[0]}:{paths[1]}"
