"""Trains and uses the Transformer of "Attention Is All You Need".

    import transformer

    model = transformer.load("runs/phrasebook")
    model.translate(["My husband will pick our aunt up at the airport tomorrow at half past seven."])

`load` returns an `evaluation.translator.Translator`, or of a language model an `evaluation.generator.Generator`.
Training from Python is `transformer.training.loop.train`.
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformer.evaluation.generator import Generator
    from transformer.evaluation.translator import Translator

__version__ = "0.1.0"


def load(
    workdir: str | Path | Sequence[str | Path],
    checkpoint: str | int | Sequence[str | int] = "auto",
    *,
    allow_code: Collection[str] = (),
) -> "Translator | Generator":
    """Opens the run in `workdir` for use, on all devices of this machine: a translator, or a language model.

    Args:
      workdir: a work directory of `transformer train`, a folder or gs://BUCKET/RUN, or several with the same vocabulary
        for an ensemble.
      checkpoint: "auto" (the average when there is one, else the best, else the last), "best", "last", "average", or
        a step; one for each work directory, or several of one for an ensemble of its checkpoints.
      allow_code: modules outside this package that the saved config may name and that may be imported.

    Raises:
      WorkdirError, StorageError, CheckpointError, ConfigError: when it cannot be opened; the message says why, and what
        to do.
    """
    # Imported here: `import transformer` is instant, and `transformer --help` too.
    from transformer.training.saved_run import open_run
    from transformer.training.workdir import Workdir

    workdirs = [workdir] if isinstance(workdir, (str, Path)) else workdir
    checkpoints = [checkpoint] if isinstance(checkpoint, (str, int)) else checkpoint
    return open_run(
        [Workdir(folder) for folder in workdirs], [str(which) for which in checkpoints], allow_code=allow_code
    )
