"""Peers of `decode.py`: the base model of the paper with random weights in CTranslate2 and Hugging Face Marian.

A program of its own, which imports nothing of the package, so that it may run under another Python. `SIDES` has a
function for each peer, which gives one that translates `sources` (token ids, the last one EOS) to exactly so many
tokens each. Started by decode.py, it serves one of them: see `serve`.
"""

import argparse
import importlib
import json
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np
import peers
from peers import threads

WIDTH, INNER, HEADS, LAYERS, VOCABULARY, EOS = 512, 2048, 8, 6, 32_000, 2

Sources = list[list[int]]
Translate = Callable[[Sources, int, int], list[list[int]]]  # sources, beam size, tokens wanted: the outputs


def sources_of(rows: int, length: int) -> Sources:
    """Random token ids, then EOS: `length` together."""
    tokens = np.random.default_rng(rows).integers(4, VOCABULARY, (rows, length - 1))
    return [[*row.tolist(), EOS] for row in tokens]


def ctranslate2(compute_type: str) -> Translate:
    library = importlib.import_module("ctranslate2")
    names = ["<pad>", "<s>", "</s>", "<unk>", *(f"p{number}" for number in range(4, VOCABULARY))]
    with tempfile.TemporaryDirectory() as folder:
        _ctranslate2_spec(library, names).save(folder)
        model = library.Translator(
            folder, device="cpu", compute_type=compute_type, inter_threads=1, intra_threads=threads()
        )

    def translate(sources: Sources, beam_size: int, wanted: int) -> list[list[int]]:
        texts = [[names[token] for token in source] for source in sources]
        found = model.translate_batch(
            texts,
            beam_size=beam_size,
            length_penalty=0.6,
            min_decoding_length=wanted,
            max_decoding_length=wanted,
            max_batch_size=0,
        )
        return [result.hypotheses[0] for result in found]

    return translate


def _ctranslate2_spec(library, names: list[str]):
    """Post-norm, ReLU, sinusoids, one matrix for both embeddings and the output, random."""
    specs = library.specs
    spec = specs.TransformerSpec.from_config((LAYERS, LAYERS), HEADS, pre_norm=False)
    rng = np.random.default_rng(0)

    def matrix(outputs: int, inputs: int) -> np.ndarray:
        limit = (6 / (outputs + inputs)) ** 0.5
        return rng.uniform(-limit, limit, (outputs, inputs)).astype(np.float32)

    def norm(part) -> None:
        part.gamma, part.beta = np.ones(WIDTH, np.float32), np.zeros(WIDTH, np.float32)

    def attention(part, *outputs: int) -> None:
        norm(part.layer_norm)
        for linear, size in zip(part.linear, outputs, strict=True):
            linear.weight = matrix(size, WIDTH)

    table = (WIDTH**-0.5 * rng.standard_normal((VOCABULARY, WIDTH))).astype(np.float32)
    spec.encoder.embeddings[0].weight = spec.decoder.embeddings.weight = spec.decoder.projection.weight = table
    for side in (spec.encoder, spec.decoder):
        for layer in side.layer:
            attention(layer.self_attention, 3 * WIDTH, WIDTH)
            norm(layer.ffn.layer_norm)
            for linear, sizes in ((layer.ffn.linear_0, (INNER, WIDTH)), (layer.ffn.linear_1, (WIDTH, INNER))):
                linear.weight, linear.bias = matrix(*sizes), np.zeros(sizes[0], np.float32)
    for layer in spec.decoder.layer:
        attention(layer.attention, WIDTH, 2 * WIDTH, WIDTH)
    spec.register_source_vocabulary(names)
    spec.register_target_vocabulary(names)
    spec.validate()
    return spec


def marian() -> Translate:
    torch, transformers = importlib.import_module("torch"), importlib.import_module("transformers")
    torch.manual_seed(0)
    torch.set_num_threads(threads())
    config = transformers.MarianConfig(
        vocab_size=VOCABULARY,
        d_model=WIDTH,
        encoder_layers=LAYERS,
        decoder_layers=LAYERS,
        encoder_ffn_dim=INNER,
        decoder_ffn_dim=INNER,
        encoder_attention_heads=HEADS,
        decoder_attention_heads=HEADS,
        activation_function="relu",
        max_position_embeddings=512,
        scale_embedding=True,
        pad_token_id=0,
        eos_token_id=EOS,
        forced_eos_token_id=None,
        decoder_start_token_id=0,
    )
    model = transformers.MarianMTModel(config).eval()

    def translate(sources: Sources, beam_size: int, wanted: int) -> list[list[int]]:
        tokens = torch.tensor(sources)
        with torch.inference_mode():
            found = model.generate(
                tokens,
                attention_mask=torch.ones_like(tokens),
                num_beams=beam_size,
                do_sample=False,
                length_penalty=0.6,
                min_new_tokens=wanted,
                max_new_tokens=wanted,
            )
        return found[:, 1:].tolist()

    return translate


SIDES: dict[str, Callable[[], Translate]] = {
    "CTranslate2 float32": lambda: ctranslate2("float32"),
    "CTranslate2 int8": lambda: ctranslate2("int8"),
    "Marian float32": marian,
}
PACKAGES = {
    "CTranslate2 float32": ("ctranslate2",),
    "CTranslate2 int8": ("ctranslate2",),
    "Marian float32": ("torch", "transformers"),
}


def serve(translate: Translate, length: int, wanted: int) -> None:
    """Translates for every line of stdin, "BEAM ROWS", twice; prints the seconds of the second time.

    The first after a wait takes up to a third longer.
    """
    for line in sys.stdin:
        beam_size, rows = map(int, line.split())
        sources = sources_of(rows, length)
        translate(sources, beam_size, wanted)
        began = time.perf_counter()
        outputs = translate(sources, beam_size, wanted)
        seconds = time.perf_counter() - began
        if [len(output) for output in outputs] != [wanted] * rows:
            sys.exit(f"{rows} outputs of {wanted} tokens were wanted, not {[len(output) for output in outputs]}.")
        print(seconds, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--serve", choices=SIDES, help="Be this peer; unset: print the versions of all.")
    parser.add_argument("--lengths", type=int, nargs=2, help="Of every source, EOS counted, and of every output.")
    arguments = parser.parse_args()
    if arguments.serve is None:
        packages = dict.fromkeys(package for needs in PACKAGES.values() for package in needs)
        print(json.dumps(peers.versions(packages)))
    else:
        serve(SIDES[arguments.serve](), *arguments.lengths)


if __name__ == "__main__":
    main()
