"""What a run's model is for: how it is validated, scored and shown. A class for each kind of model."""

from collections.abc import Callable
from typing import Protocol

from transformer.evaluation.measure import Score
from transformer.model.blueprint import Params
from transformer.training.language import LanguageTask
from transformer.training.run import Run
from transformer.training.saved_run import SavedParams
from transformer.training.translation import TranslationTask
from transformer.training.validation import Validation


class Task(Protocol):
    """What the loop asks."""

    def validate(self, params: Params) -> Validation:
        """Measures parameters on held-out text."""
        ...

    def score(self, saved: SavedParams, between: Callable[[], None]) -> list[Score]:
        """Scores the run's test sets with a checkpoint. `between` is called between parts of the work."""
        ...

    def draw(self) -> None:
        """Draws what the checkpoint that was scored attends to."""
        ...

    def command(self, run: str) -> str:
        """A shell command that uses the model; `run` are the flags that say which."""
        ...


def task_of(run: Run) -> Task:
    """The task of a run's model."""
    return LanguageTask(run) if run.config.model.architecture == "language_model" else TranslationTask(run)
