"""The progress of a run on stderr: one line that redraws itself on a terminal, plain lines in a log file."""

import os
import sys
import time
from collections.abc import Mapping
from typing import Any, Self, TextIO

from tqdm import tqdm

# What of a metrics record is shown, most important first: narrow terminals cut the end.
_TRAINING = {
    "train/loss": "loss {:.3f}",
    "train/accuracy": "accuracy {:.1%}",
    "time/tokens_per_s": "{:,.0f} tokens/s",
    "train/learning_rate": "lr {:.2e}",
    "time/mfu": "MFU {:.0%}",
    "time/data_wait_share": "data wait {:.0%}",
    "train/gradient_norm": "gradient norm {:.2f}",
    "time/step_s": "{:.3f} s a step",
    "time/padded_tokens_per_s": "{:,.0f} padded tokens/s",
}
_VALIDATION = {
    "val/loss": "validation loss {:.3f}",
    "val/accuracy": "accuracy {:.1%}",
    "val/bleu": "BLEU {:.2f}",
    "val/perplexity": "perplexity {:.3g}",
    "val/bits_per_byte": "{:.3f} bits a byte",
}


class Progress:
    """Progress from step `start` to step `total`. `stream` is stderr unless given."""

    def __init__(self, total: int, start: int = 0, stream: TextIO | None = None):
        self._stream = sys.stderr if stream is None else stream
        self._start = start
        self._began = time.perf_counter()
        self._bar = tqdm(
            total=total,
            initial=start,
            file=self._stream,
            disable=not _is_screen(self._stream),
            dynamic_ncols=True,
            bar_format="step {n_fmt}/{total_fmt} {percentage:3.0f}%|{bar:10}| {elapsed}<{remaining}{postfix}",
        )

    def advance(self) -> None:
        """One step was made."""
        self._bar.update()

    def report(self, record: Mapping[str, Any]) -> None:
        """Shows a line of the metrics log: training beside the bar or as a plain line, validation always as a line."""
        step = record["step"]
        training, validation = _describe(record, _TRAINING), _describe(record, _VALIDATION)
        if training and self._bar.disable:
            self.say(f"step {step:,}/{self._bar.total:,}  {training}  ETA {self._eta(step)}")
        elif training:
            self._bar.set_postfix_str(training, refresh=False)
        if validation:
            self.say(f"step {step:,}  {validation}")

    def say(self, text: str) -> None:
        """Prints text on lines of its own, above the bar."""
        tqdm.write(text, file=self._stream)
        self._stream.flush()

    def close(self) -> None:
        self._bar.close()

    def _eta(self, step: int) -> str:
        """Time left at the mean speed so far, validations and all."""
        seconds = (time.perf_counter() - self._began) / (step - self._start) * (self._bar.total - step)
        return tqdm.format_interval(seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _is_screen(stream: TextIO) -> bool:
    """A terminal that knows its size; on one that does not (some containers) tqdm would show nothing at all."""
    return stream.isatty() and os.get_terminal_size(stream.fileno()).lines > 0


def _describe(record: Mapping[str, Any], forms: Mapping[str, str]) -> str:
    """A metrics record in a few words; what it lacks is left out, what was not finite is said."""
    present = {name: record[name] for name in forms if name in record}
    return "  ".join(forms[name].format(float("nan") if value is None else value) for name, value in present.items())
