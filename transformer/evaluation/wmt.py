"""The WMT test sets, by the names sacreBLEU has for them."""

import difflib
import http.client
import tarfile
from typing import NamedTuple

import sacrebleu

from transformer.evaluation.errors import EvaluationError


class ParallelLines(NamedTuple):
    """Detokenised sentences; reference i translates source i."""

    sources: list[str]
    references: list[str]


def wmt_test_set(name: str, source_language: str, target_language: str) -> ParallelLines:
    """A test set such as "wmt14/full", downloaded once into ~/.sacrebleu (or the directory SACREBLEU names).

    Where a sentence has several references this is the first.

    Raises:
      EvaluationError: no such set, or not in this direction; or it cannot be downloaded, with the ways around that.
    """
    pair = f"{source_language}-{target_language}"
    _check_exists(name, pair)
    try:
        source_file = sacrebleu.get_source_file(name, pair)
        reference_file = sacrebleu.get_reference_files(name, pair)[0]
    # SystemExit is how sacreBLEU answers a wrong checksum and a TLS error.
    except (OSError, SystemExit, http.client.HTTPException, tarfile.TarError) as error:
        raise EvaluationError(
            f"The test set {name} ({pair}) could not be downloaded: {error}. Where the network allows it run "
            f"`sacrebleu -t {name} -l {pair} --echo src`, and copy ~/.sacrebleu/{name} from there to "
            f"{sacrebleu.SACREBLEU_DIR}/{name} (which to delete first if an earlier download broke off). Or evaluate "
            "on files of your own."
        ) from error
    return ParallelLines(_lines(source_file), _lines(reference_file))


def _check_exists(name: str, pair: str) -> None:
    if name not in sacrebleu.DATASETS:
        close = difflib.get_close_matches(name, sacrebleu.DATASETS, n=3)
        hint = f"Did you mean {' or '.join(close)}? " if close else ""
        raise EvaluationError(f"sacreBLEU has no test set {name!r}. {hint}`sacrebleu --list` shows them all.")
    pairs = sorted(sacrebleu.DATASETS[name].langpairs)
    if pair not in pairs:
        raise EvaluationError(f"The test set {name} does not have {pair}, only {', '.join(pairs)}.")


def _lines(file: str) -> list[str]:
    # Only \n ends a sentence: str.splitlines would also split at characters inside one.
    with open(file, encoding="utf-8", newline="\n") as lines:
        return [line.rstrip("\n") for line in lines]
