import importlib.util
import math

import pytest
from sacrebleu.tokenizers import tokenizer_ja_mecab

from transformer.evaluation.errors import EvaluationError
from transformer.evaluation.measure import Score
from transformer.evaluation.paper_bleu import split_compounds
from transformer.evaluation.scores import (
    chrf,
    corpus_bleu,
    format_scores,
    lowercased_tokenised_bleu,
    paper_bleu,
    report,
)

HYPOTHESES = ["the cat sat on the mat", "a dog runs."]
REFERENCES = ["the cat sat on a mat", "a dog runs fast."]
# Matches of 1- to 4-grams: 5/6, 3/5, 2/4, 1/3 and 4/4, 2/3, 1/2, 0/1; lengths 6 + 4 against 6 + 5.
BY_HAND = 100 * math.exp(1 - 11 / 10) * (9 / 10 * 5 / 8 * 3 / 6 * 1 / 4) ** (1 / 4)

BLEUS = [corpus_bleu, paper_bleu, lowercased_tokenised_bleu]


@pytest.mark.parametrize("bleu", BLEUS)
def test_bleu_is_the_number_counted_by_hand(bleu):
    assert bleu(HYPOTHESES, REFERENCES, "en").value == pytest.approx(BY_HAND)


@pytest.mark.parametrize("bleu", BLEUS)
def test_a_perfect_translation_is_100_and_an_unrelated_one_0(bleu):
    sentence = "Der Hund läuft heute über die Straße."
    assert bleu([sentence], [sentence], "de").value == pytest.approx(100)
    assert bleu(["nichts davon"], [sentence], "de").value == 0


def test_chrf_is_the_number_counted_by_hand():
    """Of ab and ac: one of two characters, no pair; the mean over the orders there are is 1/4, both ways."""
    assert chrf(["ab"], ["ac"]).value == pytest.approx(25)
    assert chrf(REFERENCES, REFERENCES).value == pytest.approx(100)


# --- what the three disagree about ---


def test_the_papers_bleu_splits_compounds():
    """a rich - text format here: of the 1- to 4-grams 5/6, 3/5, 2/4, 1/3 match. Unsplit: 3/4, 1/3, 0/2, 0/1."""
    corpus = ["a rich-text format here"], ["a rich-text form here"], "en"
    assert paper_bleu(*corpus).value == pytest.approx(100 * (5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** (1 / 4))
    assert lowercased_tokenised_bleu(*corpus).value == 0


@pytest.mark.parametrize(
    ("tokens", "split"),
    [
        ("rich-text format", "rich ##AT##-##AT## text format"),
        ("state-of-the-art", "state ##AT##-##AT## of ##AT##-##AT## the ##AT##-##AT## art"),
        ("a-b-c", "a ##AT##-##AT## b-c"),
        ("he - she -", "he - she -"),
    ],
)
def test_compounds_are_split_as_the_papers_script_does(tokens, split):
    assert split_compounds(tokens) == split


def test_quotation_marks_count_only_in_sacrebleus_bleu():
    hypotheses, references = ["„Guten Tag“, sagte er – leise…"], ['"Guten Tag", sagte er - leise...']
    assert paper_bleu(hypotheses, references, "de").value == pytest.approx(100)
    assert lowercased_tokenised_bleu(hypotheses, references, "de").value == pytest.approx(100)
    assert corpus_bleu(hypotheses, references, "de").value < 60


def test_case_counts_except_in_the_lowercased_bleu():
    hypotheses, references = ["EIN HUND LÄUFT ÜBER EIS"], ["ein hund läuft über eis"]
    assert lowercased_tokenised_bleu(hypotheses, references, "de").value == pytest.approx(100)
    assert corpus_bleu(hypotheses, references, "de").value == 0
    assert paper_bleu(hypotheses, references, "de").value == 0


def test_tokens_follow_the_language():
    """To Moses Dr. is one token in German, where it abbreviates something, and two in French."""
    corpus = ["Hallo Herr Dr. Meier"], ["Hallo Herr Dr . Meier"]
    assert paper_bleu(*corpus, "fr").value == pytest.approx(100)
    assert paper_bleu(*corpus, "de").value < 100


def test_chinese_is_counted_in_characters():
    assert corpus_bleu(["我喜欢红苹果"], ["我喜欢红的苹果"], "de").value == 0
    score = corpus_bleu(["我喜欢红苹果"], ["我喜欢红的苹果"], "zh-CN")
    assert score.value > 40
    assert "|tok:zh|" in score.signature


@pytest.mark.parametrize(("language", "package"), [("ja", "MeCab"), ("ko", "mecab_ko")])
def test_japanese_and_korean_have_their_tokenizer_or_say_what_to_install(language, package):
    if importlib.util.find_spec(package):
        assert f"|tok:{language}-mecab" in corpus_bleu(["a"], ["b"], language).signature
    else:
        with pytest.raises(EvaluationError, match=rf'pip install "sacrebleu\[{language}\]"'):
            corpus_bleu(["a"], ["b"], language)


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr(tokenizer_ja_mecab, "MeCab", None)
    with pytest.raises(EvaluationError, match=r'"ja_JP".*pip install "sacrebleu\[ja\]"'):
        corpus_bleu(["a"], ["b"], "ja_JP")


# --- what stands beside the number ---


def test_signatures_hold_what_changes_the_number():
    arguments = HYPOTHESES, REFERENCES, "en"
    common = ["nrefs:1", "bs:1000", "seed:12345", "eff:no", "version:"]
    for score, parts in [
        (corpus_bleu(*arguments), ["case:mixed", "tok:13a", "smooth:exp"]),
        (
            paper_bleu(*arguments),
            ["case:mixed", "tok:moses-en+normalised+compound-split", "smooth:none", "sacremoses:"],
        ),
        (lowercased_tokenised_bleu(*arguments), ["case:lc", "tok:moses-en+normalised|", "smooth:none", "sacremoses:"]),
    ]:
        for part in [*common, *parts]:
            assert part in score.signature
    assert "nc:6|nw:0" in chrf(HYPOTHESES, REFERENCES).signature


def test_the_confidence_interval_is_the_same_every_time():
    first, again = (corpus_bleu(HYPOTHESES * 20, REFERENCES * 20, "en") for _ in range(2))
    assert first == again
    assert 0 < first.confidence < 30
    assert first.interval == (first.value - first.confidence, first.value + first.confidence)


def test_the_confidence_interval_narrows_with_the_corpus():
    """Four times the sentences: about half the width."""
    few, many = (corpus_bleu(HYPOTHESES * n, REFERENCES * n, "en").confidence for n in (25, 100))
    assert few / many == pytest.approx(2, rel=0.15)


def test_without_confidence_there_is_no_interval():
    score = corpus_bleu(HYPOTHESES, REFERENCES, "en", confidence=False)
    assert score.confidence is None
    assert score.interval == ()
    assert "bs:" not in score.signature
    assert score.value == corpus_bleu(HYPOTHESES, REFERENCES, "en").value


def test_a_report_has_every_score_once_and_moses_only_where_words_are_spaced():
    names = [score.name for score in report(HYPOTHESES, REFERENCES, "en-GB")]
    assert names == [
        "BLEU (sacreBLEU)",
        "chrF2 (sacreBLEU)",
        "BLEU (tokenised, compound-split, as in the paper)",
        "BLEU (lower-cased, tokenised, as for Multi30k)",
    ]
    assert [score.name for score in report(["我喜欢"], ["我喜欢"], "zh")] == names[:2]


def test_the_table_shows_all_of_a_score():
    scores = [Score("BLEU", 27.3, 0.52, "nrefs:1"), Score("chrF2, longer", 100.0, None, "nc:6")]
    assert format_scores(scores).splitlines() == [
        "BLEU            27.30 ± 0.52  nrefs:1",
        "chrF2, longer  100.00         nc:6",
    ]
    assert format_scores([]) == ""


# --- faults ---


@pytest.mark.parametrize("score", [*BLEUS, report, lambda hypotheses, references, _: chrf(hypotheses, references)])
def test_sides_that_do_not_match_and_empty_ones_are_refused(score):
    with pytest.raises(EvaluationError, match="2 hypotheses but 1 references"):
        score(["a", "b"], ["a"], "en")
    with pytest.raises(EvaluationError, match="nothing to score"):
        score([], [], "en")


def test_empty_lines_are_translations_like_others():
    assert corpus_bleu(["", HYPOTHESES[0]], [REFERENCES[1], HYPOTHESES[0]], "en").value == pytest.approx(
        100 * math.exp(1 - 11 / 6)
    )
    assert corpus_bleu([""], ["a b c d"], "en").value == 0
