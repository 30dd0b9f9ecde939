"""Paths in a config made absolute, so that a run's own folder is all that another command needs, from anywhere."""

import dataclasses
import re
from pathlib import Path

from transformer.config import Config


def absolute(config: Config) -> Config:
    """A copy of `config` whose corpora, tokenizer files and folders do not depend on the current folder."""
    data, tokenizer, transfer = config.data, config.tokenizer, config.transfer
    return dataclasses.replace(
        config,
        data=dataclasses.replace(
            data,
            train=tuple(map(_corpus, data.train)),
            validation=tuple(map(_corpus, data.validation)),
            test=tuple(map(_corpus, data.test)),
            data_dir=_optional(data.data_dir),
            cache_dir=_optional(data.cache_dir),
        ),
        tokenizer=dataclasses.replace(
            tokenizer, model=_optional(tokenizer.model), target_model=_optional(tokenizer.target_model)
        ),
        transfer=dataclasses.replace(transfer, init_from=_optional(transfer.init_from)),
    )


def _corpus(text: str) -> str:
    """`2*lines:a.en,b.en:a.de,b.de` or `text:jsonl:a.gz` with absolute files; other kinds of corpora name none."""
    kind, colon, rest = text.partition(":")
    name = kind.rpartition("*")[2]
    if name not in ("lines", "tsv", "text"):
        return text
    # Colons within brackets are those of ranges.
    sides = re.split(r":(?!//)(?![^\[]*\])", rest)
    splitting = sides[:-1] if name == "text" else []
    files = [",".join(map(_file, side.split(","))) for side in sides[len(splitting) :]]
    return kind + colon + ":".join([*splitting, *files])


def _file(path: str) -> str:
    found = _path(path.strip())
    # A corpus cannot name a file whose folder has one of these in its name, but for relatively.
    return path if re.search("[,:]", re.sub(r"\[[^\[]*\]$", "", found)) else found


def _path(path: str) -> str:
    return path if not path or "://" in path else str(Path(path).expanduser().absolute())


def _optional(path: str | None) -> str | None:
    return None if path is None else _path(path)
