"""What a checkpoint holds beside its arrays, and the files it is kept in."""

import dataclasses
import json
from typing import Any

from etils import epath

from transformer.training import storage

_DATA_POSITION = "data_position.json"
_CONFIG = "config.json"
_METRICS = "metrics.json"
_TOKENIZER = "tokenizer"


@dataclasses.dataclass(frozen=True)
class Metadata:
    """Enough to build the model, and to know where in the data it stands and how good it is.

    The position is whatever JSON the data pipeline wants back; tokenizer files are their contents by name; metrics are
    those measured at this step, often none.
    """

    step: int
    data_position: dict[str, Any]
    config_json: str
    tokenizer_files: dict[str, bytes]
    metrics: dict[str, float]


def encode(metadata: Metadata) -> dict[str, bytes]:
    """The files by their path in the checkpoint's directory; the step is that directory's name.

    Raises:
      TypeError: when the data's position is not JSON.
    """
    return {
        _DATA_POSITION: json.dumps(metadata.data_position).encode(),
        _CONFIG: metadata.config_json.encode(),
        _METRICS: json.dumps({name: float(value) for name, value in metadata.metrics.items()}).encode(),
        **{f"{_TOKENIZER}/{name}": content for name, content in metadata.tokenizer_files.items()},
    }


def read(directory: epath.Path, step: int) -> Metadata:
    """What `encode` gave, from the files of a checkpoint known to be sound."""
    return Metadata(
        step=step,
        data_position=json.loads(storage.read(directory / _DATA_POSITION)),
        config_json=storage.read(directory / _CONFIG).decode(),
        tokenizer_files={path.name: storage.read(path) for path in storage.children(directory / _TOKENIZER)},
        metrics=read_metrics(directory),
    )


def read_metrics(directory: epath.Path) -> dict[str, float]:
    """The metrics alone.

    Raises:
      OSError, ValueError: they cannot be read.
    """
    return json.loads(storage.read(directory / _METRICS))
