"""What may differ between a run and its continuation, and what is said of it."""

from absl import logging
from jax.sharding import Mesh

from transformer import config as config_module
from transformer.config import Config, ConfigError
from transformer.data.batches import Batches
from transformer.model.blueprint import Blueprint
from transformer.training import leaves
from transformer.training.metadata import Metadata
from transformer.training.step import Trainer

# With another value of these, batch i holds other examples.
_PLAN = (
    "seed",
    "model.architecture",
    "data.train",
    "data.source_language",
    "data.target_language",
    "data.max_length",
    "data.max_length_ratio",
    "data.deduplicate",
    "data.batching",
    "data.batch_tokens",
    "data.num_buckets",
    "data.pack_length",
    "data.rows_multiple_of",
)


def check_settings(saved: Metadata, config: Config) -> None:
    """Says which settings are not those that a checkpoint was saved with.

    Raises:
      ConfigError: the tokenizer's are not: the parameters are those of its pieces.
    """
    before = config_module.from_json(saved.config_json)
    for name in _differing(before, config):
        old, new = config_module.get(before, name), config_module.get(config, name)
        if name.startswith("tokenizer."):
            raise ConfigError(
                name,
                new,
                f"it was {old!r} when step {saved.step} was saved, and the model knows no other pieces",
                "Set it back, or train anew in another --workdir.",
            )
        logging.info("config.%s was %r when step %d was saved, now it is %r.", name, old, saved.step, new)
        if name in _PLAN:
            logging.warning(
                "With another config.%s the batches are others: this is no exact continuation of the run.", name
            )


def check_arrays(saved: Metadata, config: Config, vocab_sizes: tuple[int, int], mesh: Mesh) -> None:
    """Refuses a config whose training state is made of other arrays than the checkpoint's, or means others by them.

    Raises:
      ConfigError: names the field that does it.
    """

    def trainer_of(config: Config) -> Trainer:
        return Trainer.of(config, Blueprint.of(config.model, *vocab_sizes), mesh)

    trial = config_module.from_json(saved.config_json)
    before = trainer_of(trial)
    expected = leaves.named(before.abstract_state())

    def differs(config: Config) -> bool:
        trainer = trainer_of(config)
        mismatch = leaves.mismatch(leaves.named(trainer.abstract_state()), expected)
        # Two layers of a stack are an array of two, whichever they are.
        return bool(mismatch) or trainer.trainable != before.trainable

    if not differs(config):
        return
    # From the saved config to the new one, a field at a time, until the arrays change.
    for name in _differing(trial, config):
        old, new = config_module.get(trial, name), config_module.get(config, name)
        trial = config_module.put(trial, name, new)
        try:
            changed = differs(trial)
        except ValueError:  # half way from one config to the other need not make sense
            continue
        if changed:
            what = "what trains" if name.startswith("transfer.") else "the parameters"
            raise ConfigError(
                name,
                new,
                f"it was {old!r} when step {saved.step} was saved, and now {what} would not be the same",
                "Set it back, or train anew in another --workdir, which may start from this one "
                "(config.transfer.init_from).",
            )


def check_examples(saved: Metadata, batches: Batches) -> None:
    """Warns when a corpus holds other text than it did, under the same name."""
    if saved.data_position["examples"] != batches.fingerprint:
        logging.warning(
            "The training examples are not those of step %d: this is no exact continuation of the run.", saved.step
        )


def _differing(old: Config, new: Config) -> list[str]:
    names = [info.name for info in config_module.fields()]
    return [name for name in names if config_module.get(old, name) != config_module.get(new, name)]
