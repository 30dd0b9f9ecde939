"""Peers of `train_step.py`: the same step in PyTorch, written by hand, and with the models of others.

A program of its own, which imports nothing of the package, so that it may run under another Python. `SIDES` has a
function for each peer, which gives one that takes a step and returns the loss of a token. Started by train_step.py, it
serves one of them: see `serve`.

- PyTorch: torch_transformer.py, as it is or by torch.compile; cross_entropy with label smoothing;
- Marian: Hugging Face's class, and the same loss. Its attention has biases;
- OpenNMT-py: its model, pre-norm as all of its are, and the loss of the above; its attention by PyTorch's SDPA;
- JoeyNMT: its model and its loss, which also counts the right tokens. Its attention has biases, and it drops attention
  weights and inner activations too.

All take PyTorch's fused Adam, and bfloat16 by torch.autocast.
"""

import argparse
import dataclasses
import importlib
import json
import logging
import math
import resource
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peers
from peers import threads


@dataclasses.dataclass(frozen=True)
class Shape:
    """A model, and the batch it is timed on."""

    width: int
    inner: int
    heads: int
    layers: int  # of the encoder, and of the decoder
    vocabulary: int
    rows: int
    length: int  # of sources and of targets


SHAPES = {"base": Shape(512, 2048, 8, 6, 32_000, 64, 32), "small": Shape(256, 1024, 4, 3, 10_000, 128, 24)}
DROPOUT, SMOOTHING = 0.1, 0.1
WARM_UP = 2  # steps: the first compile, and fault memory in

Step = Callable[[], float]


def batch_of(shape: Shape) -> dict[str, np.ndarray]:
    """Random tokens [rows, length], none of which is padding."""
    rng = np.random.default_rng(0)
    names = ("source", "target_inputs", "targets")
    return {name: rng.integers(4, shape.vocabulary, (shape.rows, shape.length), np.int32) for name in names}


# --- the peers ---


def pytorch(shape: Shape, dtype: str, *, compiled: bool) -> Step:
    torch, by_hand = importlib.import_module("torch"), importlib.import_module("torch_transformer")
    model = by_hand.Transformer(
        width=shape.width,
        inner=shape.inner,
        heads=shape.heads,
        layers=shape.layers,
        vocabulary=shape.vocabulary,
        dropout=DROPOUT,
        max_length=shape.length,
    )
    source, inputs, targets = _tensors(shape)

    def loss():
        return by_hand.smoothed_loss(model(source, inputs), targets, SMOOTHING)

    return _step(model, torch.compile(loss) if compiled else loss, dtype)


def marian(shape: Shape, dtype: str) -> Step:
    transformers, by_hand = importlib.import_module("transformers"), importlib.import_module("torch_transformer")
    config = transformers.MarianConfig(
        vocab_size=shape.vocabulary,
        d_model=shape.width,
        encoder_layers=shape.layers,
        decoder_layers=shape.layers,
        encoder_ffn_dim=shape.inner,
        decoder_ffn_dim=shape.inner,
        encoder_attention_heads=shape.heads,
        decoder_attention_heads=shape.heads,
        activation_function="relu",
        dropout=DROPOUT,
        max_position_embeddings=512,
        scale_embedding=True,
        pad_token_id=0,
        eos_token_id=2,
        forced_eos_token_id=None,
        decoder_start_token_id=0,
        use_cache=False,
    )
    model = transformers.MarianMTModel(config)
    source, inputs, targets = _tensors(shape)
    mask = (source != 0).long()

    def loss():
        logits = model(input_ids=source, attention_mask=mask, decoder_input_ids=inputs).logits
        return by_hand.smoothed_loss(logits, targets, SMOOTHING)

    return _step(model, loss, dtype)


def opennmt(shape: Shape, dtype: str) -> Step:
    warnings.filterwarnings("ignore", category=FutureWarning)  # of PyTorch's, about layers that are not used here
    onmt = {
        name: importlib.import_module(f"onmt.{name}")
        for name in ("modules", "models.model", "encoders.transformer", "decoders.transformer")
    }
    torch, by_hand = importlib.import_module("torch"), importlib.import_module("torch_transformer")
    embeddings = onmt["modules"].Embeddings(
        shape.width, shape.vocabulary, word_padding_idx=0, position_encoding=True, dropout=DROPOUT
    )
    sizes = {"num_layers": shape.layers, "d_model": shape.width, "heads": shape.heads, "d_ff": shape.inner}
    rates = {"dropout": DROPOUT, "attention_dropout": 0.0}
    others = {"embeddings": embeddings, "max_relative_positions": 0, "relative_positions_buckets": 0}
    encoder = onmt["encoders.transformer"].TransformerEncoder(**sizes, **rates, **others)
    decoder = onmt["decoders.transformer"].TransformerDecoder(
        **sizes,
        **rates,
        **others,
        copy_attn=False,
        self_attn_type="scaled-dot-flash",
        aan_useffn=False,
        full_context_alignment=False,
        alignment_layer=-1,
        alignment_heads=0,
    )
    model = onmt["models.model"].NMTModel(encoder, decoder)
    model.generator = torch.nn.Linear(shape.width, shape.vocabulary)
    model.generator.weight = embeddings.word_lut.weight
    for name, weights in model.named_parameters():  # as its own trainer does: until then some are not even zero
        if weights.dim() > 1:
            torch.nn.init.xavier_uniform_(weights)
        elif name.endswith("bias"):
            torch.nn.init.zeros_(weights)
    source, inputs, targets = _tensors(shape)
    whole = torch.cat([inputs, targets[:, -1:]], 1)  # it leaves the last one out itself
    lengths = torch.full((shape.rows,), shape.length)

    def loss():
        found, _ = model(source[..., None], whole[..., None], lengths)
        return by_hand.smoothed_loss(model.generator(found), targets, SMOOTHING)

    return _step(model, loss, dtype)


def joeynmt(shape: Shape, dtype: str) -> Step:
    model = joeynmt_model(shape, DROPOUT, SMOOTHING)
    batch = _tensors(shape)
    return _step(model, lambda: joeynmt_loss(model, *batch), dtype)


def joeynmt_model(
    shape: Shape, dropout: float, smoothing: float, *, norm: str = "post", bos: int = 1, eos: int = 2
) -> Any:
    side = {
        "type": "transformer",
        "num_layers": shape.layers,
        "num_heads": shape.heads,
        "hidden_size": shape.width,
        "ff_size": shape.inner,
        "dropout": dropout,
        "layer_norm": norm,
        "embeddings": {"embedding_dim": shape.width, "scale": True, "dropout": dropout},
    }
    config = {
        "encoder": side,
        "decoder": side,
        "tied_embeddings": True,
        "tied_softmax": True,
        "embed_initializer": "normal",
        "embed_init_weight": shape.width**-0.5,
    }
    logging.disable(logging.INFO)  # it says that it builds a model
    vocabulary = _Vocabulary(shape.vocabulary, bos, eos)
    model = importlib.import_module("joeynmt.model").build_model(config, vocabulary, vocabulary)
    model.loss_function = ("crossentropy", smoothing)
    return model


def joeynmt_loss(model: Any, source: Any, inputs: Any, targets: Any) -> Any:
    """Of a token."""
    source_mask, target_mask = ((tokens != 0)[:, None] for tokens in (source, targets))
    batch = {
        "src": source,
        "src_mask": source_mask,
        "src_length": source_mask.sum(-1)[:, 0],
        "trg_input": inputs,
        "trg": targets,
        "trg_mask": target_mask,
    }
    return model(return_type="loss", **batch)[0] / target_mask.sum()


class _Vocabulary:
    """What JoeyNMT's model asks of one. Filling its own takes time that grows with the square of the size."""

    pad_index, unk_index, sep_index = 0, 3, None
    specials, lang_tags = (), ()

    def __init__(self, size: int, bos: int, eos: int):
        self._size, self.bos_index, self.eos_index = size, bos, eos

    def __len__(self) -> int:
        return self._size


SIDES: dict[str, Callable[[Shape, str], Step]] = {
    "PyTorch": lambda shape, dtype: pytorch(shape, dtype, compiled=False),
    "PyTorch compiled": lambda shape, dtype: pytorch(shape, dtype, compiled=True),
    "Marian": marian,
    "OpenNMT-py": opennmt,
    "JoeyNMT": joeynmt,
}
PACKAGES = {
    "PyTorch": ("torch",),
    "PyTorch compiled": ("torch",),
    "Marian": ("torch", "transformers"),
    "OpenNMT-py": ("torch", "OpenNMT-py"),
    "JoeyNMT": ("torch", "joeynmt", "importlib_metadata"),
}


def _tensors(shape: Shape) -> list[Any]:
    torch = importlib.import_module("torch")
    return [torch.from_numpy(tokens).long() for tokens in batch_of(shape).values()]


def _step(model: Any, loss_of: Callable[[], Any], dtype: str) -> Step:
    torch = importlib.import_module("torch")
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-5, betas=(0.9, 0.98), eps=1e-9, fused=True)

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
            loss = loss_of()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def ceiling(dtype: str, seconds: float = 0.3) -> float:
    """FLOP/s of the best of many large square products in PyTorch."""
    torch = importlib.import_module("torch")
    size = 2048
    x = torch.full((size, size), 1 / size, dtype=getattr(torch, dtype))
    times = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        began = time.perf_counter()
        torch.mm(x, x)
        times.append(time.perf_counter() - began)
    return 2 * size**3 / min(times)


def print_versions() -> None:
    """Of all that is needed, as JSON."""
    packages = dict.fromkeys(package for needs in PACKAGES.values() for package in needs)
    print(json.dumps(peers.versions(packages)))


# --- serving ---


def serve(step: Step) -> dict[str, float]:
    """Takes steps for every line of stdin, SECONDS: for so long, at least one; prints the seconds of each.

    Before, it warms up and prints "ready". The first step after a wait is not counted: it takes up to a fifth longer.
    What it returns, when there is nothing more, is what it has to report.
    """
    losses, times = [], []

    def timed() -> float:
        began = time.perf_counter()
        losses.append(step())
        times.append(time.perf_counter() - began)
        if not math.isfinite(losses[-1]):
            sys.exit(f"The loss of step {len(losses)} is {losses[-1]}.")
        return times[-1]

    for _ in range(WARM_UP):
        timed()
    print("ready", flush=True)
    for line in sys.stdin:
        timed()
        end = time.perf_counter() + float(line)
        turn = [timed()]
        while time.perf_counter() < end:
            turn.append(timed())
        print(json.dumps(turn), flush=True)
    return {"first_loss": losses[0], "first_step_s": times[0], "peak_memory_mb": peak_memory_mb()}


def peak_memory_mb() -> int:
    """The most this process had in memory until now."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def memory_mb() -> int:
    """What it has there now; where the system does not tell, the most until now."""
    if not Path("/proc/self/statm").exists():
        return peak_memory_mb()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--serve", choices=SIDES, help="Be this peer; unset: print the versions of all.")
    parser.add_argument("--case", nargs=2, metavar=("MODEL", "DTYPE"), help=f"Of {', '.join(SHAPES)}, and precision.")
    arguments = parser.parse_args()
    if arguments.serve is None:
        print_versions()
        return
    name, dtype = arguments.case
    torch = importlib.import_module("torch")
    torch.manual_seed(0)
    torch.set_num_threads(threads())
    before = ceiling(dtype)
    report = serve(SIDES[arguments.serve](SHAPES[name], dtype))
    if arguments.serve == "PyTorch compiled":
        report["compile_s"] = report["first_step_s"]
    print(json.dumps(report | {"matmul_flops_per_s": max(before, ceiling(dtype))}), flush=True)


if __name__ == "__main__":
    main()
