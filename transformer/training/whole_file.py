"""Files that are there whole, old or new, whenever the program or the machine stops."""

import os
from pathlib import Path


def write(path: Path, text: str) -> None:
    """Writes `text` beside `path`, brings it to the disk, and puts it in the place of what was there."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
