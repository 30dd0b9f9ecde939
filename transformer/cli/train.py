"""`transformer train`: also `python train.py`."""

from absl import flags, logging

from transformer import config as config_module
from transformer.cli import absolute_paths, arguments, config_files, process
from transformer.cli.listing import overview
from transformer.cli.usage import UsageError
from transformer.cli.verb import EVERY_FIELD, Arguments, Verb
from transformer.config import Config

_DESCRIPTION = r"""
    transformer train --config=CONFIG --workdir=DIR [--config.FIELD=VALUE ...]

    Trains a model from text to BLEU. Checkpoints, metrics, curves, tokenizer and config go to DIR.
    Started again with the same DIR it goes on where it stopped, exactly; Ctrl-C and SIGTERM save
    first. DIR may be in an object store, gs://BUCKET/RUN. `python train.py` is the same.

    Examples:
      transformer train --config=phrasebook --workdir=runs/phrasebook
      transformer train --config=my_run.py --workdir=runs/mine --config.model.d_model=256
      transformer train --config=own_text --workdir=runs/new --config.transfer.init_from=runs/mine \
          --config.transfer.train_only='*_attention'
          (starts from the parameters of another run, and trains attention alone)
      transformer train --workdir=runs/mine
          (goes on with the config saved there)
"""


def _define_flags(values: flags.FlagValues) -> None:
    arguments.define_config(values)
    arguments.define_workdir(values, "A folder, or gs://BUCKET/RUN. Where it holds checkpoints the run goes on.")
    arguments.define_allow_code(values)
    process.define_flags(values)


def _run(given: Arguments) -> None:
    workdir = arguments.require_workdir(given)
    config = absolute_paths.absolute(arguments.effective_config(given, _base_config(given, workdir)))
    process.start(given)
    logging.info("%s", overview(config))
    from transformer.training import loop  # here, so that a wrong flag is told without waiting for JAX

    loop.train(config, workdir)


def _base_config(given: Arguments, workdir: str) -> Config:
    if given.flags.config:
        return config_files.load(given.flags.config)
    if arguments.has_saved_config(workdir):
        config = arguments.saved_config(workdir)
        config_module.check_code(config, given.flags.allow_code)
        return config
    known = ", ".join(config_files.summaries())
    raise UsageError(
        f"--config is missing, and --workdir={workdir} holds no run to go on with. "
        f"Say what to train, for example --config=phrasebook. Own configs: {known}."
    )


TRAIN = Verb(
    name="train",
    summary="Train a model, or go on with a run that was stopped.",
    description=_DESCRIPTION,
    define_flags=_define_flags,
    run=_run,
    overridable=EVERY_FIELD,
)
