"""What the verbs that use a trained run share: which run, which checkpoint, which devices."""

import dataclasses
from typing import TYPE_CHECKING

from absl import flags

from transformer.cli import arguments, overrides, process
from transformer.cli.usage import UsageError
from transformer.cli.verb import Arguments
from transformer.config import Config, MeshConfig, validate
from transformer.training import storage
from transformer.training.workdir import Workdir

if TYPE_CHECKING:
    from transformer.evaluation.generator import Generator
    from transformer.evaluation.translator import Translator

OVERRIDABLE = ("decoding.", "mesh.")


def define_flags(values: flags.FlagValues) -> None:
    arguments.define_workdir(values, "Where a trained run lies; several with commas between are an ensemble.")
    several = " Several with commas between: one for each folder, or an ensemble of one folder's."
    arguments.define_checkpoint(values, several)
    arguments.define_allow_code(values)
    process.define_flags(values)


def define_precision(values: flags.FlagValues) -> None:
    flags.DEFINE_enum(
        "precision",
        None,
        ["float32", "bfloat16", "int8"],
        "Of the products, short for --config.decoding.precision. On a CPU with AVX-512 bfloat16 is faster than "
        "float32, but not in greedy search of one sentence; int8 is faster for wide models only, most with jax 0.12. "
        "One without instructions for bfloat16 takes float32.",
        flag_values=values,
    )


def open_translator(given: Arguments) -> "Translator":
    """The translator the flags describe.

    Raises:
      UsageError, WorkdirError, CheckpointError, ConfigError: when it cannot be opened.
    """
    workdirs = _workdirs(given)
    process.start(given)
    from transformer.training.saved_run import open_translator

    return open_translator(
        workdirs,
        given.flags.checkpoint.split(","),
        mesh=_mesh(given),
        allow_code=given.flags.allow_code,
        change=lambda config: validate(_in_precision(given, overrides.apply(config, given.overrides))),
    )


def open_generator(given: Arguments) -> "Generator":
    """The language model the flags describe; errors as `open_translator`'s."""
    workdirs = _workdirs(given)
    if len(workdirs) > 1 or "," in given.flags.checkpoint:
        raise UsageError("Of language models there are no ensembles: name one --workdir and one --checkpoint.")
    process.start(given)
    from transformer.training.saved_run import open_generator

    return open_generator(workdirs[0], given.flags.checkpoint, mesh=_mesh(given), allow_code=given.flags.allow_code)


def _workdirs(given: Arguments) -> list[Workdir]:
    workdirs = [Workdir(name) for name in arguments.require_workdir(given).split(",") if name]
    for workdir in workdirs:
        if not storage.exists(workdir.root):
            raise UsageError(f"--workdir={workdir.root}: there is no such folder.")
    return workdirs


def _in_precision(given: Arguments, config: Config) -> Config:
    if given.flags.precision is None:
        return config
    return dataclasses.replace(config, decoding=dataclasses.replace(config.decoding, precision=given.flags.precision))


def _mesh(given: Arguments) -> MeshConfig:
    # A mesh that was right for training seldom is for using the model: only what is typed here counts.
    typed = [override for override in given.overrides if override.name.startswith("mesh.")]
    return validate(overrides.apply(Config(), typed)).mesh
