"""A work directory opened for use: which of its checkpoints, and a `Translator` of it."""

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

import jax
from absl import logging

from transformer import config as config_module
from transformer import sharding
from transformer.config import Config, MeshConfig
from transformer.data.tokenizer import Tokenizers
from transformer.evaluation.search import Search
from transformer.evaluation.translator import Translator
from transformer.model.blueprint import Blueprint
from transformer.training import processes, retention, saved_params, storage
from transformer.training.averaging import mean
from transformer.training.checkpoint import CheckpointError, CheckpointReader
from transformer.training.metadata import Metadata
from transformer.training.saved_params import SavedParams
from transformer.training.stopping import checkpoint_metric
from transformer.training.workdir import Workdir, WorkdirError

if TYPE_CHECKING:
    from transformer.evaluation.generator import Generator


def choose(workdir: Workdir, which: str = "auto") -> SavedParams:
    """A checkpoint of a run.

    Args:
      which: "best" by the run's metric, "last", "average" (of the last ones), a step number, or "auto": the average
        when the newest checkpoint is in it, else the best, else the last.

    Raises:
      WorkdirError: when there is no such checkpoint.
      CheckpointError: when it is damaged. The damaged last one is named and the one before it used; with "auto" a
        damaged average or best is named too, and the next choice used.
    """
    reader = CheckpointReader(workdir.checkpoints)
    averages = CheckpointReader(workdir.average)
    if which not in ("auto", "best", "last", "average") and not which.isdecimal():
        raise WorkdirError(f"--checkpoint={which} is none of auto, best, last, average or a step.")
    if not reader.steps() and not averages.steps():
        raise WorkdirError(f"--workdir={workdir.root} holds no checkpoint. Train first, or check the path.")
    if which == "average" and not averages.steps():
        raise WorkdirError(f"{workdir.root} holds no average. Make one: transformer average --workdir={workdir.root}")
    if which == "average" or (which == "auto" and (averages.latest() or -1) >= (reader.latest() or 0)):
        try:
            metadata = averages.read_metadata()
            return SavedParams(f"average up to step {metadata.step}", averages, metadata, "params")
        except CheckpointError as error:
            if which == "average" or not reader.steps():
                raise
            logging.warning("%s Using the run's own checkpoints instead of the average.", error)
    if which.isdecimal():
        if int(which) not in reader.steps():
            raise WorkdirError(f"{workdir.checkpoints} has no step {which}. It has {reader.steps()}.")
        return _saved(reader, reader.read_metadata(int(which)))

    last = reader.read_metadata()
    metric = checkpoint_metric(config_module.from_json(last.config_json).evaluation)
    best = reader.best(metric)
    if which == "last" or (which == "auto" and best is None):
        return _saved(reader, last)
    if best is None:
        raise WorkdirError(f"No checkpoint in {workdir.checkpoints} was validated. Use --checkpoint=last.")
    try:
        return _saved(reader, reader.read_metadata(best), f", the best by {metric}")
    except CheckpointError as error:
        if which == "best":
            raise
        logging.warning("%s Using step %d, the last, instead of the best.", error, last.step)
        return _saved(reader, last)


def _saved(reader: CheckpointReader, metadata: Metadata, merit: str = "") -> SavedParams:
    ema = config_module.from_json(metadata.config_json).training.ema_decay
    return SavedParams(f"step {metadata.step}{merit}", reader, metadata, "ema" if ema else "params")


def to_average(workdir: Workdir, count: int) -> list[int]:
    """The steps of the last `count` checkpoints, or of fewer where there are fewer sound ones (a warning names others).

    Raises:
      WorkdirError: when there is none.
    """
    reader = CheckpointReader(workdir.checkpoints)
    steps = reader.sound_steps()
    if not steps:
        raise WorkdirError(f"{workdir.checkpoints} holds no sound checkpoint. Train first, or check the path.")
    config = config_module.from_json(reader.read_metadata(steps[-1]).config_json)
    return retention.to_average(steps, config.checkpoint.every, count)


def write_average(workdir: Workdir, steps: Sequence[int], mesh: jax.sharding.Mesh) -> SavedParams:
    """Averages checkpoints into `workdir.average`, replacing what is there. Every process of `mesh` calls this."""
    reader = CheckpointReader(workdir.checkpoints)
    members = [_saved(reader, reader.read_metadata(step)) for step in steps]
    params = mean(member.restore_on_host() for member in members)
    saved_params.write(params, members[-1], workdir.average, mesh)
    logging.info("Averaged steps %s into %s.", ", ".join(map(str, steps)), workdir.average)
    return choose(workdir, "average")


def write_merged(saved: SavedParams, output: Workdir, mesh: jax.sharding.Mesh) -> None:
    """Writes a checkpoint's parameters, as the model uses them, to a work directory of their own.

    Every process of `mesh` calls this.

    Raises:
      WorkdirError, StorageError: there is a run in it already, or it cannot be made.
    """
    if storage.children(output.checkpoints) or storage.children(output.average):
        raise WorkdirError(f"--output={output.root} holds a run already. Choose another folder.")
    output.check("--output")
    params = saved.restore_on_host()
    processes.wait_for_all("the output folder")
    if processes.speaks():
        output.create()
    saved_params.write(params, saved, output.checkpoints, mesh)
    if processes.speaks():
        output.write_config(choose(output).config)


def open_translator(
    workdirs: Sequence[Workdir],
    which: Sequence[str] = ("auto",),
    *,
    mesh: MeshConfig | None = None,
    allow_code: Collection[str] = (),
    change: Callable[[Config], Config] | None = None,
) -> Translator:
    """A translator of one checkpoint, or an ensemble of several with the same vocabulary.

    Args:
      workdirs: the runs. The first one's config decides how it decodes.
      which: see `choose`. One for all runs, one for each, or several of a single run.
      mesh: how to arrange this machine's devices; unset: sentences split over all of them.
      allow_code: modules outside this package that a saved config may name.
      change: applied to the saved config, for other decoding settings.

    Raises:
      WorkdirError, CheckpointError, ConfigError: for what cannot be opened.
    """
    if len(which) != len(workdirs) and 1 not in (len(which), len(workdirs)):
        raise WorkdirError(
            f"--checkpoint={','.join(which)} names {len(which)} checkpoints for {len(workdirs)} runs. "
            "Give one for all of them, or one for each."
        )
    members = max(len(workdirs), len(which))
    every_workdir = list(workdirs) * (members // len(workdirs))
    every_which = list(which) * (members // len(which))
    chosen = [choose(*member) for member in zip(every_workdir, every_which, strict=True)]
    for workdir, saved in zip(every_workdir, chosen, strict=True):
        config_module.check_code(saved.config, allow_code)
        if saved.config.model.architecture != "encoder_decoder":
            raise WorkdirError(
                f"--workdir={workdir.root} holds a language model, which translates nothing. "
                f"Use: transformer generate --workdir={workdir.root} --prompt='...'"
            )
        if saved.metadata.tokenizer_files != chosen[0].metadata.tokenizer_files:
            raise WorkdirError(
                f"{workdir.root} has another vocabulary than {workdirs[0].root}: they cannot be an ensemble. "
                "Train both with the same config.tokenizer.model."
            )
    config = chosen[0].config if change is None else change(chosen[0].config)
    return translator(config, chosen, sharding.make_mesh(MeshConfig() if mesh is None else mesh))


def open_run(
    workdirs: Sequence[Workdir], which: Sequence[str] = ("auto",), *, allow_code: Collection[str] = ()
) -> "Translator | Generator":
    """What the run, or the ensemble, is for. Arguments and errors as `open_translator`'s."""
    alone = len(workdirs) == len(which) == 1
    if alone and choose(workdirs[0], which[0]).config.model.architecture == "language_model":
        return open_generator(workdirs[0], which[0], allow_code=allow_code)
    return open_translator(workdirs, which, allow_code=allow_code)


def open_generator(
    workdir: Workdir,
    which: str = "auto",
    *,
    mesh: MeshConfig | None = None,
    allow_code: Collection[str] = (),
) -> "Generator":
    """The language model of a run, ready to generate; arguments and errors as `open_translator`'s."""
    from transformer.evaluation.generator import Generator  # here: translating does not wait for it

    saved = choose(workdir, which)
    config_module.check_code(saved.config, allow_code)
    config = saved.config
    if config.model.architecture != "language_model":
        raise WorkdirError(
            f"--workdir={workdir.root} holds a translation model. Use: transformer translate --workdir={workdir.root}"
        )
    placed = sharding.make_mesh(MeshConfig() if mesh is None else mesh)
    tokenizer = Tokenizers.from_files(saved.metadata.tokenizer_files).source
    sharding.check_model(placed, config.model, (tokenizer.size,))
    blueprint = Blueprint.of(config.model, tokenizer.size, tokenizer.size)
    return Generator(config, blueprint, tokenizer, saved.restore(blueprint, placed), placed)


def translator(
    config: Config, chosen: Sequence[SavedParams], mesh: jax.sharding.Mesh, search: Search | None = None
) -> Translator:
    """A translator with the parameters of these checkpoints, on `mesh`."""
    tokenizers = Tokenizers.from_files(chosen[0].metadata.tokenizer_files)
    sizes = (tokenizers.source.size, tokenizers.target.size)
    blueprints, params = [], []
    for saved in chosen:
        sharding.check_model(mesh, saved.config.model, sizes)
        blueprints.append(Blueprint.of(saved.config.model, *sizes))
        params.append(saved.restore(blueprints[-1], mesh))
    return Translator(config, blueprints, tokenizers, params, mesh, search)
