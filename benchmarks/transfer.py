"""What a trained model is worth on other text: fine-tuned in full, by attention alone, by LoRA, or not used at all.

    python benchmarks/transfer.py --train FOLDER/train.en FOLDER/train.de --test FOLDER/val.en FOLDER/val.de \\
        [--base runs/phrasebook] [--pairs 20000] [--steps 500] [--workdir runs/transfer] [--json transfer.json]

The base is the phrasebook's model (configs/phrasebook.py), trained here unless a run is given. Every row then trains on
the same first pairs of the files for as many steps, with the vocabulary of the base unless it says otherwise; its peak
learning rate is in the table. No checkpoint is chosen by the test files: all are scored once, at the end. BLEU is cased
sacreBLEU with the base's beam. Rows whose folder is there are not trained again.

Prints the machine, a table and, as its last line, one JSON object. The full size takes about half an hour on two idle
cores; --tiny tries the program with a few steps on a few lines.
"""

import argparse
import dataclasses
import itertools
import json
import tempfile
from pathlib import Path

from absl import logging
from machine import machine

from transformer.cli import config_files
from transformer.config import Config, TransferConfig, from_json, put
from transformer.training.loop import train
from transformer.training.saved_run import choose
from transformer.training.workdir import Workdir


@dataclasses.dataclass(frozen=True)
class Method:
    """A row: what is taken over and trained, and the peak of the learning rate."""

    name: str
    learning_rate: float
    transfer: TransferConfig | None  # None: from scratch


METHODS = (
    Method("from scratch", 3e-3, None),
    Method("full", 1e-3, TransferConfig()),
    Method("full, new vocabulary", 1e-3, TransferConfig(vocabulary="new")),
    Method("attention only", 2e-3, TransferConfig(train_only=("*_attention",))),
    Method(
        "LoRA 8",
        5e-3,
        TransferConfig(lora_rank=8, lora_targets=("*_attention", "feed_forward")),
    ),
)
TINY = {
    **{"model.d_model": 16, "model.d_ff": 32, "model.num_heads": 2, "tokenizer.vocab_size": 300},
    **{"model.num_encoder_layers": 1, "model.num_decoder_layers": 1, "optimizer.warmup_steps": 1},
    **{"data.num_buckets": 1, "data.batch_tokens": 512, "decoding.beam_size": 1, "decoding.extra_length": 5},
    **{"data.validation": ("phrasebook:validation:20",), "data.test": ("phrasebook:test:20",)},
}


def base_config(arguments: argparse.Namespace) -> Config:
    """Of the phrasebook's model."""
    config = config_files.load("phrasebook")
    if arguments.tiny:
        for name, value in TINY.items():
            config = put(config, name, value)
        config.data.train = ("phrasebook:train:500",)
        config.training.steps, config.evaluation.bleu_sentences = arguments.steps, 0
        config.checkpoint.every = config.evaluation.every = arguments.steps
    return config


def copy_lines(files: list[str], count: int | None, folder: Path, name: str) -> str:
    """The first lines of two files as a corpus."""
    sides = []
    for file, side in zip(files, ("source", "target"), strict=True):
        sides.append(folder / f"{name}-{count or 'all'}.{side}")
        with open(file, encoding="utf-8") as lines:
            sides[-1].write_text("".join(itertools.islice(lines, count)), encoding="utf-8")
    return f"lines:{sides[0]}:{sides[1]}"


def row_config(method: Method, base: Config, base_workdir: Path, folder: Path, arguments: argparse.Namespace) -> Config:
    """One row's run."""
    # A copy of its own: a config is written to.
    config = dataclasses.replace(
        base,
        data=dataclasses.replace(base.data),
        tokenizer=dataclasses.replace(base.tokenizer),
        optimizer=dataclasses.replace(base.optimizer, learning_rate=method.learning_rate),
        training=dataclasses.replace(base.training, steps=arguments.steps),
        evaluation=dataclasses.replace(base.evaluation, every=arguments.steps, bleu_sentences=0, metric="loss"),
        checkpoint=dataclasses.replace(base.checkpoint, every=arguments.steps),
    )
    config.optimizer.warmup_steps = max(1, min(config.optimizer.warmup_steps, arguments.steps // 5))
    config.data.train = (copy_lines(arguments.train, arguments.pairs, folder, "train"),)
    config.data.validation = config.data.test = (copy_lines(arguments.test, arguments.sentences, folder, "test"),)
    if method.transfer is not None:
        config.transfer = dataclasses.replace(method.transfer, init_from=str(base_workdir))
        return config
    [(name, content)] = choose(Workdir(base_workdir)).metadata.tokenizer_files.items()
    (folder / name).write_bytes(content)
    config.tokenizer.model = str(folder / name)
    return config


def summary_of(config: Config, workdir: Path) -> dict:
    """What a run came to; one that is done is not trained again."""
    if not (workdir / "summary.json").is_file():
        if train(config, workdir) is None:
            raise SystemExit("Stopped. The same command goes on.")
    elif from_json((workdir / "config.json").read_text()) != config:
        raise SystemExit(f"{workdir} holds a run with other settings. Give the same as then, or another --workdir.")
    return json.loads((workdir / "summary.json").read_text())


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", nargs=2, required=True, metavar=("EN", "DE"), help="Aligned line files.")
    parser.add_argument("--test", nargs=2, required=True, metavar=("EN", "DE"), help="Others, to be scored on.")
    parser.add_argument("--base", type=Path, help="A trained run of configs/phrasebook.py; unset: it is trained.")
    parser.add_argument("--pairs", type=int, help="Training pairs: the first ones of the files; unset: 20,000.")
    parser.add_argument("--sentences", type=int, help="Test sentences: the first ones; unset: all.")
    parser.add_argument("--steps", type=int, help="Of each row; unset: 500.")
    parser.add_argument("--workdir", type=Path, help="Where the runs are kept; unset: nowhere.")
    parser.add_argument("--tiny", action="store_true", help="Small enough to try the program.")
    parser.add_argument("--json", type=Path, help="Also write the result to this file.")
    arguments = parser.parse_args()
    arguments.pairs = arguments.pairs or (400 if arguments.tiny else 20_000)
    arguments.steps = arguments.steps or (4 if arguments.tiny else 500)
    arguments.sentences = arguments.sentences or (20 if arguments.tiny else None)
    return arguments


def main() -> None:
    arguments = parse_arguments()
    logging.set_verbosity(logging.INFO)
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        runs = (arguments.workdir or Path(temporary) / "runs").absolute()
        folder = runs / "text"
        folder.mkdir(parents=True, exist_ok=True)
        base_workdir = arguments.base.absolute() if arguments.base else runs / "base"
        base = base_config(arguments)
        if arguments.base is None:
            summary_of(base, base_workdir)
        else:
            base = choose(Workdir(base_workdir)).config
        rows = []
        for method in METHODS:
            config = row_config(method, base, base_workdir, folder, arguments)
            done = summary_of(config, runs / method.name.replace(",", "").replace(" ", "_"))
            rows.append(
                {
                    "method": method.name,
                    "learning_rate": method.learning_rate,
                    "bleu": round(done["scores"][0]["value"], 2),
                    "confidence": done["scores"][0]["confidence"],
                    "parameters": done["sizes"]["parameters"],
                    "trained": done["sizes"]["trained"],
                    "optimizer_mb": round(done["sizes"]["optimizer_bytes"] / 1e6, 3),
                    "seconds": round(done["seconds"], 1),
                    "tokens_per_s": round(done["tokens_per_s"]),
                    "signature": done["scores"][0]["signature"],
                }
            )
    print(f"\n{arguments.pairs:,} pairs, {arguments.steps:,} steps\n")
    print("| method | peak rate | BLEU | parameters that train | optimizer | time | target tokens/s |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['method']} | {row['learning_rate']:g} | {row['bleu']:.1f} | {row['trained']:,} of "
            f"{row['parameters']:,} | {row['optimizer_mb']:.2f} MB | {row['seconds']:,.0f} s | "
            f"{row['tokens_per_s']:,} |"
        )
    result = {"machine": machine(), "pairs": arguments.pairs, "steps": arguments.steps, "rows": rows}
    print(f"\n{json.dumps(result)}")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
