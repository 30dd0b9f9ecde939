"""A run beside what was exported of it: the same greedy translations, with the same scores."""

from pathlib import Path

import ctranslate2
import tiny_run

from transformer.training import saved_run
from transformer.training.workdir import Workdir


def same_greedy(workdir: Path, folder: Path, checkpoint: str = "auto") -> float:
    """Of the tiny run's sentences, which share both translate alike; where they do, so probable."""
    with tiny_run.on_devices(1):
        model = saved_run.open_translator([Workdir(workdir)], [checkpoint])
        sources = [source for source, _ in tiny_run.pairs()]
        mine = [found[0] for found in model.hypotheses(sources, 1, beam_size=1)]
    pieces = list(map(model.tokenizers.source.pieces, model.tokenizers.source.encode(sources)))
    numbers = {piece: number for number, piece in enumerate(model.tokenizers.target.pieces())}
    translator = ctranslate2.Translator(str(folder), compute_type="float32", intra_threads=1)
    same = 0
    for source, hypothesis in zip(pieces, mine, strict=True):
        [theirs] = translator.translate_batch(
            [source],
            beam_size=1,
            length_penalty=0,
            min_decoding_length=0,
            max_decoding_length=len(source) + model.config.decoding.extra_length,
            return_scores=True,
        )
        [text] = model.tokenizers.target.decode([[numbers[piece] for piece in theirs.hypotheses[0]]])
        if text == hypothesis.text:
            same += 1
            assert abs(theirs.scores[0] - hypothesis.log_probability) < 1e-3
    return same / len(sources)
