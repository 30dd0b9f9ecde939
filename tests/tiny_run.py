"""The smallest run that is still a run: 300 pairs of six words, a model of a few thousand parameters."""

import itertools
from pathlib import Path

from transformer.config import Config

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
    """A run of 24 steps, about two epochs; its corpus is written to `folder`."""
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
    config.data.num_buckets = 2
    config.data.pack_length = 24
    config.data.workers = 1
    config.tokenizer.vocab_size = 150
    config.model.d_model, config.model.d_ff, config.model.num_heads = 16, 32, 2
    config.model.num_encoder_layers = config.model.num_decoder_layers = 1
    config.optimizer.schedule, config.optimizer.learning_rate, config.optimizer.warmup_steps = "constant", 1e-2, 10
    config.training.steps = 24
    config.training.log_every = 4
    config.evaluation.every = 8
    config.evaluation.bleu_sentences = 8
    config.evaluation.samples = 1
    config.checkpoint.every = 5
    config.decoding.beam_size = 2
    config.decoding.extra_length = 4
    config.decoding.batch_size = 8
    return config
