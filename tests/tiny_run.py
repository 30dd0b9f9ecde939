"""The smallest run that is still a run: 300 pairs of six words, a model of a few thousand parameters."""

import contextlib
import functools
import itertools
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import jax
from jax.sharding import Mesh

from transformer import sharding
from transformer.config import Config, MeshConfig
from transformer.training import loop, peak
from transformer.training.summary import Summary

SUBJECTS = ("anna", "ben", "clara", "david", "emma", "finn")
ADVERBS = (("very", "sehr"), ("quite", "recht"), ("not", "nicht"), ("always", "immer"))
ADJECTIVES = (("tall", "lang"), ("young", "jung"), ("happy", "froh"), ("tired", "matt"), ("kind", "nett"))
ENDS = (("", ""), (" today", " heute"), (" and rich", " und reich"))


def pairs() -> list[tuple[str, str]]:
    """All 360 of them. The end of the English sentence stands third in German."""
    slots = itertools.product(SUBJECTS, ADVERBS, ADJECTIVES, ENDS)
    return [
        (f"{who} is {adverb[0]} {adjective[0]}{end[0]}", f"{who} ist{end[1]} {adverb[1]} {adjective[1]}")
        for who, adverb, adjective, end in slots
    ]


def config(folder: Path) -> Config:
    """A run of five epochs and a half, after which it translates passably; its corpus is written to `folder`."""
    splits = {"train": [], "validation": [], "test": []}
    for number, pair in enumerate(pairs()):
        splits[{3: "validation", 9: "test"}.get(number % 13, "train")].append(pair)
    corpora = {}
    for name, kept in splits.items():
        for side, texts in zip(("en", "de"), zip(*kept, strict=True), strict=True):
            (folder / f"{name}.{side}").write_text("".join(f"{text}\n" for text in texts))
        corpora[name] = (f"lines:{folder / name}.en:{folder / name}.de",)

    config = Config()
    config.data.train, config.data.validation, config.data.test = corpora.values()
    config.data.cache_dir = str(folder / "cache")
    config.data.max_length = 16
    config.data.batch_tokens = 192
    config.data.num_buckets = 1
    config.data.pack_length = 24
    config.data.workers = 1
    config.tokenizer.vocab_size = 150
    config.model.d_model, config.model.d_ff, config.model.num_heads = 16, 32, 2
    config.model.num_encoder_layers = config.model.num_decoder_layers = 1
    config.optimizer.schedule, config.optimizer.learning_rate, config.optimizer.warmup_steps = "constant", 1e-2, 10
    config.training.steps = 72
    config.training.log_every = 4
    config.evaluation.every = 24
    config.evaluation.bleu_sentences = 8
    config.evaluation.samples = 1
    config.checkpoint.every = 12
    config.decoding.beam_size = 2
    config.decoding.extra_length = 4
    config.decoding.batch_size = 8
    return config


@contextlib.contextmanager
def on_devices(count: int) -> Iterator[None]:
    """Makes every mesh of the first `count` devices, as on a machine that has no more."""
    make_mesh = sharding.make_mesh
    with mock.patch.object(sharding, "make_mesh", lambda config: make_mesh(config, jax.devices()[:count])):
        yield


def deal_out_devices() -> None:
    """Makes every mesh from now on of all devices, those of the processes taken in turn."""
    make_mesh, count = sharding.make_mesh, jax.process_count

    def dealt_out(config: MeshConfig) -> Mesh:
        return make_mesh(config, [device for i in range(count()) for device in jax.devices()[i :: count()]])

    mock.patch.object(sharding, "make_mesh", dealt_out).start()


def train(config: Config, workdir: Path, *, devices: int = 1) -> Summary | None:
    """The whole run, without measuring what the machine could do at most."""
    top = peak.Peak(1e12, "float32", "cpu", 1)
    with on_devices(devices), mock.patch.object(peak, "measure", return_value=top):
        return loop.train(config, workdir)


def train_steps(config: Config, workdir: Path, *, devices: int = 1) -> None:
    """The run without its end: no final score, no pictures."""
    with mock.patch.object(loop, "finish"):
        train(config, workdir, devices=devices)


@functools.cache
def trained() -> Path:
    """The work directory of a run of `trained_config` that is done; to be read only."""
    workdir = _trained_folder() / "workdir"
    train(trained_config(), workdir)
    return workdir


def trained_config() -> Config:
    """A fresh copy: with two steps of profiler trace."""
    _trained_folder().mkdir(exist_ok=True)
    found = config(_trained_folder())
    found.training.profile_steps = 2
    return found


def _trained_folder() -> Path:
    return Path.home() / "tiny_run"  # the tests' own home, which goes when they end
