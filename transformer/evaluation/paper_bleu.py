"""BLEU on Moses tokens, as papers printed it before sacreBLEU. Comparable with those papers, and with nothing else.

Normalisation, tokenisation and the compound split are applied to hypotheses and references alike. Counting is that of
Moses's multi-bleu.perl: cased, up to 4-grams, without smoothing.
"""

import importlib.metadata
import re
from collections.abc import Sequence

from sacrebleu.metrics import BLEU

from transformer.evaluation.measure import Score, measure


def paper_bleu(
    hypotheses: Sequence[str], references: Sequence[str], target_language: str, *, confidence: bool = True
) -> Score:
    """What Table 2 of the paper shows: Moses tokens, punctuation normalised, compounds split at their hyphens.

    The paper's authors scored so (get_ende_bleu.sh in Tensor2Tensor, after GNMT), against references whose quotation
    marks had been normalised. On newstest2014 en-de it is 0.7 to 1.5 above sacreBLEU.

    Args:
      hypotheses, references: detokenised text, a sentence an item.
      target_language: its two-letter code: Moses knows abbreviations and apostrophes by language.
    """
    return measure(
        _multi_bleu(),
        "BLEU (tokenised, compound-split, as in the paper)",
        [split_compounds(line) for line in _moses(hypotheses, target_language)],
        [split_compounds(line) for line in _moses(references, target_language)],
        confidence=confidence,
        settings=_settings(target_language, "+compound-split"),
    )


def lowercased_tokenised_bleu(
    hypotheses: Sequence[str], references: Sequence[str], target_language: str, *, confidence: bool = True
) -> Score:
    """What papers on Multi30k show: lower-cased, punctuation normalised, Moses tokens.

    In that order, like the tokenised files of the data set itself. Arguments as for `paper_bleu`.
    """
    return measure(
        _multi_bleu(),
        "BLEU (lower-cased, tokenised, as for Multi30k)",
        _moses([line.lower() for line in hypotheses], target_language),
        _moses([line.lower() for line in references], target_language),
        confidence=confidence,
        settings={"case": "lc"} | _settings(target_language, ""),
    )


def split_compounds(tokenised: str) -> str:
    """rich-text format -> rich ##AT##-##AT## text format.

    The papers' expression, and so its quirk: a single letter between two hyphens stays with its right neighbour.
    """
    return re.sub(r"(\S)-(\S)", r"\1 ##AT##-##AT## \2", tokenised)


def _moses(lines: Sequence[str], language: str) -> list[str]:
    import sacremoses  # here: it takes half a second, and training scores at its end

    normalise = sacremoses.MosesPunctNormalizer(language).normalize
    tokenise = sacremoses.MosesTokenizer(language).tokenize
    # Escaping (&quot;) renames tokens and changes no count; hyphens are left to the compound split.
    return [tokenise(normalise(line), aggressive_dash_splits=False, escape=False, return_str=True) for line in lines]


def _multi_bleu() -> BLEU:
    # force: no warning that the text is tokenised.
    return BLEU(tokenize="none", smooth_method="none", force=True)


def _settings(language: str, more: str) -> dict[str, str]:
    return {"tok": f"moses-{language}+normalised{more}", "sacremoses": importlib.metadata.version("sacremoses")}
