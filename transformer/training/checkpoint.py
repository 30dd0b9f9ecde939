"""Checkpoints on disk: written while training goes on, verified before they count, restored on any mesh.

One step is one directory, and alone is enough to resume or to translate:

    checkpoints/1000/
      state/              the arrays, by Orbax; the leaf state["params"]["encoder"]["w"] is named params/encoder/w
      data_position.json  config.json  metrics.json
      tokenizer/          the SentencePiece models
      manifest.json       size and checksum of every file, written last: without it the step does not exist

In an object store the same: objects appear whole, in whatever order, and the manifest comes last there too.

Containers (dataclasses, NamedTuples, lists) are saved as nested dicts of their field names and indices, so reading
needs none of the classes.
"""

import dataclasses
import threading
from collections.abc import Mapping
from typing import Any, Self

import jax
from absl import logging
from etils import epath

from transformer.config import CheckpointConfig
from transformer.training import array_files, leaves, manifest, metadata, retention, storage
from transformer.training.background import Background
from transformer.training.metadata import Metadata


class CheckpointError(Exception):
    """A checkpoint cannot be written or read; says which, why, and the way out."""


@dataclasses.dataclass(frozen=True)
class Restored(Metadata):
    """A whole checkpoint; `state` is a pytree like the abstract one it was asked for with."""

    state: Any


class CheckpointReader:
    """The checkpoints in `directory`. Changes nothing there, so it may read while a run writes."""

    def __init__(self, directory: epath.PathLike):
        self._directory = epath.Path(directory)
        self._sound: dict[int, Any] = {}  # step -> what its files looked like when all of them were read

    def steps(self) -> list[int]:
        """Steps whose save finished, oldest first. Not whether they are still sound: restoring finds out."""
        return [step for step, path in self._entries() if manifest.exists(path)]

    def cut_short(self) -> list[int]:
        """Steps whose save did not finish: a kill came, or the manifest was lost."""
        return [step for step, path in self._entries() if not manifest.exists(path)]

    def sound_steps(self) -> list[int]:
        """Those of `steps` that can be restored, oldest first. Damaged ones are named in a warning."""
        sound = []
        for step in self.steps():
            problems = self._problems(step)
            if problems:
                logging.warning("Checkpoint %s cannot be used: %s.", self.path(step), "; ".join(problems))
            else:
                sound.append(step)
        return sound

    def path(self, step: int) -> epath.Path:
        """Where `step` lies, or would."""
        return self._directory / str(step)

    def latest(self) -> int | None:
        """The newest of `steps`, None when there is none."""
        return max(self.steps(), default=None)

    def best(self, metric: str) -> int | None:
        """The step with the highest "bleu" or the lowest "loss" among its metrics; None when no step has it."""
        return next(iter(retention.best_first(self._scores(metric), metric)), None)

    def read_metadata(self, step: int | None = None) -> Metadata:
        """Everything but the arrays, so that the config is known before the model is built.

        Verifies the arrays' files all the same: `restore` of the step it names will find them sound.

        Raises:
          CheckpointError: as `restore`.
        """
        step = self._sound_step(step)
        return metadata.read(self.path(step), step)

    def restore(self, abstract_state: Any, step: int | None = None) -> Restored:
        """The checkpoint of `step`, or the newest sound one: newer ones that are damaged are named in a warning.

        Args:
          abstract_state: jax.ShapeDtypeStruct leaves, on whatever mesh their shardings say; none: the first device.

        Raises:
          CheckpointError: `step` is damaged or missing, no step is sound, or the state's leaves are not the saved ones.
        """
        step = self._sound_step(step)
        return Restored(**vars(metadata.read(self.path(step), step)), state=self._load(step, abstract_state))

    def restore_params(self, step: int | None = None, abstract: Any = None, subtree: str = "params") -> Any:
        """One branch of the state, such as "params" or "opt_state/0/mu", without reading the others.

        Args:
          abstract: as in `restore`, for the branch alone; None gives nested dicts of numpy arrays as saved.

        Raises:
          CheckpointError: as `restore`.
        """
        return self._load(self._sound_step(step), abstract, subtree)

    def arrays(self, step: int) -> dict[str, jax.ShapeDtypeStruct]:
        """The arrays of a checkpoint by name, such as params/encoder/w, without values.

        Raises:
          CheckpointError: as `restore`.
        """
        with array_files.opened(self.path(self._sound_step(step))) as source:
            return array_files.saved(source)

    def restore_arrays(self, step: int, where: Mapping[str, jax.sharding.Sharding | None]) -> dict[str, Any]:
        """Some arrays of a checkpoint, each where it is to lie; None: in the host's memory. Others are not read.

        Raises:
          CheckpointError: as `restore`, and for a name that is not there.
        """
        with array_files.opened(self.path(self._sound_step(step))) as source:
            saved = array_files.saved(source)
            absent = [name for name in where if name not in saved]
            if absent:
                raise CheckpointError(f"{self.path(step)} has no {', '.join(absent)}.")
            wanted = {
                name: array_files.on_host(saved[name])
                if place is None
                else jax.ShapeDtypeStruct(saved[name].shape, saved[name].dtype, sharding=place)
                for name, place in where.items()
            }
            return array_files.read(source, wanted)

    def _entries(self) -> list[tuple[int, epath.Path]]:
        """Every directory that is, was or should have become a checkpoint, with its step, oldest first."""
        names = [(path.name.removesuffix(array_files.TEMPORARY), path) for path in storage.children(self._directory)]
        return sorted((int(name), path) for name, path in names if name.isdecimal())

    def _sound_step(self, step: int | None) -> int:
        if step is not None:
            problems = self._problems(step)
            if problems:
                raise CheckpointError(f"{self.path(step)} cannot be used: {'; '.join(problems)}. {self._others(step)}")
            return step
        damaged = []
        for candidate, path in reversed(self._entries()):
            problems = self._problems(candidate, path)
            if not problems:
                for text in damaged:
                    logging.warning("%s. Using step %d instead.", text, candidate)
                return candidate
            damaged.append(f"Checkpoint {path} cannot be used: {'; '.join(problems)}")
        reasons = "\n".join(damaged) if damaged else "It holds none."
        raise CheckpointError(f"There is no usable checkpoint in {self._directory}. {reasons}")

    def _problems(self, step: int, path: epath.Path | None = None) -> list[str]:
        """What is wrong with a checkpoint. Files found sound before are not read again while nobody writes to them."""
        path = self.path(step) if path is None else path
        now = manifest.stamp(path)
        if now is not None and self._sound.get(step) == now:
            return []
        problems = manifest.problems(path, step)
        if not problems:
            self._sound[step] = now
        return problems

    def _others(self, step: int) -> str:
        others = [str(other) for other in self.steps() if other != step]
        return f"Other steps there: {', '.join(others) or 'none'}."

    def _scores(self, metric: str) -> dict[int, float]:
        scores = {}
        for step in self.steps():
            try:
                scores[step] = metadata.read_metrics(self.path(step))[metric]
            except (OSError, ValueError, KeyError):
                # Never evaluated, damaged, or deleted by its run this moment: in no case the best.
                continue
        return scores

    def _load(self, step: int, abstract: Any, subtree: str = "") -> Any:
        with array_files.opened(self.path(step)) as source:
            return self._load_from(source, self.path(step), abstract, subtree)

    def _load_from(self, source: epath.PathLike, path: epath.Path, abstract: Any, subtree: str) -> Any:
        prefix = f"{subtree}/" if subtree else ""
        saved = {name: leaf for name, leaf in array_files.saved(source).items() if name.startswith(prefix)}
        if not saved:
            raise CheckpointError(f"{path} has no {subtree}.")
        if abstract is None:
            wanted = {name: array_files.on_host(leaf) for name, leaf in saved.items()}
        else:
            wanted = {prefix + name: leaves.placed(leaf) for name, leaf in leaves.named(abstract).items()}
        mismatch = leaves.mismatch(wanted, saved)
        if mismatch:
            raise CheckpointError(f"{path} does not fit: {mismatch}. Build the state from the config saved with it.")

        arrays = array_files.read(source, wanted)
        if abstract is None:
            return leaves.nested({name.removeprefix(prefix): array for name, array in arrays.items()})
        return jax.tree.unflatten(jax.tree.structure(abstract), [arrays[name] for name in wanted])


class Checkpoints(CheckpointReader):
    """The checkpoints of a run: saves them in the background and deletes what `settings` does not keep.

    A save that is still under way when Python shuts down is lost. Leaving a `with` block waits for it, whether by the
    end, an error or Ctrl-C. One run at a time may write to a directory.
    """

    def __init__(self, directory: epath.PathLike, settings: CheckpointConfig, *, metric: str):
        super().__init__(directory)
        self._settings = settings
        self._metric = metric
        self._saving: Background | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.wait()

    def save(
        self,
        step: int,
        state: Any,
        *,
        data_position: Mapping[str, Any],
        config_json: str,
        tokenizer_files: Mapping[str, bytes],
        metrics: Mapping[str, float],
    ) -> None:
        """Begins to save `step`; returns when `state`'s arrays may be donated, updated or deleted.

        A save still under way is waited for first. A `KeyboardInterrupt` meanwhile stops neither of them.

        Args:
          state: a pytree of arrays, all of them finite.
          data_position: JSON values.
          tokenizer_files: their contents by file name.
          metrics: "bleu" and "loss", where measured, decide which checkpoint is the best; others are kept as they are.

        Raises:
          CheckpointError: the save before this one failed, or a sound checkpoint of this or a later step is there.
        """
        self.wait()
        small = Metadata(step, dict(data_position), config_json, dict(tokenizer_files), dict(metrics))
        files = metadata.encode(small)
        arrays = leaves.nested(leaves.named(state))
        superseded = self._superseded_by(step)

        def write(copied: threading.Event) -> None:
            self._write(step, arrays, files, superseded, copied)

        # Even the copying is done in the background: an interrupt cannot cut it short there.
        self._saving = Background("checkpoint", write)
        self._saving.start()
        if self._saving.error is not None:
            self.wait()

    def clear(self) -> None:
        """Removes all of them; of several processes one calls this."""
        for step in self.steps():
            self._delete(self.path(step))

    def wait(self) -> None:
        """Returns when the last save is complete and all its files are there. Interrupted, it can be called again.

        Raises:
          CheckpointError: that save failed. Said once; checkpoints from before are untouched.
        """
        if self._saving is None:
            return
        self._saving.wait()
        error, self._saving = self._saving.error, None
        if error is not None:
            raise CheckpointError(
                f"Saving to {self._directory} failed ({type(error).__name__}: {error}). Steps there: {self.steps()}."
            ) from error

    def _superseded_by(self, step: int) -> list[int]:
        """Damaged checkpoints from `step` on, which a run that resumed from an older one writes anew."""
        later = [existing for existing in self.steps() if existing >= step]
        for existing in later:
            if not self._problems(existing):
                raise CheckpointError(
                    f"{self.path(existing)} exists and is sound, so step {step} is not saved. "
                    "Resume from the newest step, or write to another directory."
                )
        return later

    def _write(
        self, step: int, arrays: dict, files: dict[str, bytes], superseded: list[int], copied: threading.Event
    ) -> None:
        path = self.path(step)
        primary = jax.process_index() == 0
        if primary:
            self._clean(superseded)
        array_files.write(path, arrays, copied)
        if primary:
            for name, content in files.items():
                (path / name).parent.mkdir(parents=True, exist_ok=True)
                (path / name).write_bytes(content)
            manifest.write(path, step)
            self._delete_unkept()
        array_files.wait_for_all(path)

    def _clean(self, superseded: list[int]) -> None:
        for step in superseded:
            logging.warning("Removing the damaged checkpoint %s.", self.path(step))
            self._delete(self.path(step))
        for _, path in self._entries():
            if not manifest.exists(path):
                logging.info("Removing %s, whose save was cut short.", path)
                path.rmtree()

    def _delete_unkept(self) -> None:
        steps = self.steps()
        keep = retention.kept(steps, self._scores(self._metric), self._settings, self._metric)
        for step in steps:
            if step not in keep:
                self._delete(self.path(step))

    def _delete(self, path: epath.Path) -> None:
        # Without its manifest a step is gone; what a kill leaves of it, the next save removes.
        (path / manifest.NAME).unlink()
        path.rmtree()


def check_place(directory: epath.PathLike) -> None:
    """Raises CheckpointError where the processes of this run could not save together."""
    if jax.process_count() > 1 and not array_files.known_to_orbax(directory):
        raise CheckpointError(
            f"{directory}: several processes can save to gs://BUCKET/RUN or to a folder that all of them see, "
            "not to this kind of store."
        )
