import dataclasses
import json

import pytest

from transformer.evaluation.measure import Score
from transformer.training import summary
from transformer.training.sizes import Sizes
from transformer.training.summary import Summary

SIGNATURE = "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.5.1"
RUN = Summary(
    workdir="runs/my first",
    steps=8000,
    reason="all steps done",
    checkpoint="runs/my first/checkpoints/8000",
    chosen="step 8000, the best by bleu",
    scores=(Score("BLEU on test", 38.214, 1.25, SIGNATURE),),
    seconds=4321.0,
    tokens_per_s=5290.4,
    mfu=0.41,
    data_wait_share=0.004,
    compilations=17,
    compile_seconds=12.3,
    recompilations=0,
    sizes=Sizes(1_000_000, 25_000, 200_004),
    command="echo 'It is seven.' | transformer translate --workdir='runs/my first'",
)


def test_the_text_holds_what_a_person_wants_to_know():
    text = summary.as_text(RUN)
    for words in ["38.21", "37.0 to 39.5", SIGNATURE, RUN.checkpoint, RUN.chosen, RUN.command]:
        assert words in text
    for words in [
        "8,000 steps",
        "1 h 12 min",
        "5,290",
        "MFU 41%",
        "0.4%",
        "Compilations: 17",
        "1,000,000 parameters, 25,000",
    ]:
        assert words in text
    assert "after warm-up" not in text
    assert "2 of them after warm-up" in summary.as_text(dataclasses.replace(RUN, recompilations=2))


def test_the_file_holds_every_field(tmp_path):
    summary.write(RUN, tmp_path / "summary.json")
    record = json.loads((tmp_path / "summary.json").read_text())
    assert record["scores"][0]["value"] == 38.214
    assert record["command"] == RUN.command
    assert record["sizes"] == {"parameters": 1_000_000, "trained": 25_000, "optimizer_bytes": 200_004}
    assert set(record) == {field.name for field in dataclasses.fields(Summary)}
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(4.24, "4.2 s"), (59.97, "1 min 0 s"), (200, "3 min 20 s"), (3599.7, "1 h 0 min"), (4321, "1 h 12 min")],
)
def test_duration(seconds, text):
    assert summary.duration(seconds) == text
