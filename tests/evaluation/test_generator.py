"""Generation: it is the model's, whatever the batch, the shapes and the chunks; streams; stop strings; scores."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_model import tiny

from transformer import sharding
from transformer.config import Config, MeshConfig
from transformer.data.character_tokenizer import CharacterTokenizer, describe
from transformer.data.tokenizer import BOS, EOS, PAD
from transformer.decoding.sampling import Sampling
from transformer.evaluation.errors import EvaluationError
from transformer.evaluation.generator import Generator
from transformer.model.blueprint import Blueprint, Params

ALPHABET = "abcdefgh\nä€"
PROMPTS = ["abc", "", "hgfedcba" * 3, "ä€a", "abc"]
GREEDY = Sampling(temperature=0)
WINDOW = 12
LONGEST = 160  # inputs of a whole pass


@dataclasses.dataclass(frozen=True)
class Case:
    """A generator, and the same model for whole passes."""

    generator: Generator
    blueprint: Blueprint
    params: Params

    def logits(self, inputs: list[int]) -> np.ndarray:
        """Of the token after each input, [T, V], by one pass without a cache."""
        batch = {"target_inputs": [inputs], "target_segments": [[1] * len(inputs)]}
        batch |= {"target_positions": [range(len(inputs))], "target_prompt": [[0] * len(inputs)]}
        batch = {name: np.zeros((1, LONGEST), np.int32) + _filled(rows[0]) for name, rows in batch.items()}
        return np.array(self._pass(self.params, batch))[0, : len(inputs)]

    def log_probabilities(self, inputs: list[int]) -> np.ndarray:
        logits_TV = self.logits(inputs)
        return logits_TV - np.logaddexp.reduce(logits_TV, axis=1, keepdims=True)

    def likeliest(self, inputs: list[int], penalty: float = 1.0) -> list[int]:
        """After each input the most probable token; those before it are made less likely by the penalty."""
        logits_TV = self.logits(inputs)
        for number, logits_V in enumerate(logits_TV, start=1):
            for token in set(inputs[:number]):
                logits_V[token] *= 1 / penalty if logits_V[token] > 0 else penalty
        logits_TV[:, [PAD, BOS]] = -np.inf
        return logits_TV.argmax(axis=1).tolist()

    @functools.cached_property
    def _pass(self):
        def whole(params: Params, batch: dict) -> jax.Array:
            model = self.blueprint.bind(params)
            return jnp.einsum("BTD,VD->BTV", model(batch), model.output_table())

        return jax.jit(whole)


def _filled(row) -> np.ndarray:
    return np.pad(np.array(row, np.int32), (0, LONGEST - len(row)))[None]


def make(devices: int = 1, *, bytes_only: bool = False, **changes) -> Case:
    tokenizer = CharacterTokenizer(describe("" if bytes_only else ALPHABET, with_bytes=bytes_only, size_multiple_of=2))
    config = Config(model=tiny(**({"architecture": "language_model", "positions": "rotary", "norm": "pre"} | changes)))
    config.data.pack_length = WINDOW
    blueprint = Blueprint.of(config.model, tokenizer.size, tokenizer.size)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: 0.5 * rng.standard_normal(leaf.shape).astype(np.float32), blueprint.shapes())
    params["target_embedding"]["table"][EOS] = 0  # texts seldom end
    mesh = sharding.make_mesh(MeshConfig(tensor=2 if devices > 1 else 1), jax.devices()[:devices])
    placed = jax.device_put(params, blueprint.shardings(mesh))
    return Case(Generator(config, blueprint, tokenizer, placed, mesh), blueprint, params)


@pytest.fixture(scope="module")
def case():
    return make()


@pytest.fixture(scope="module")
def generator(case):
    return case.generator


# --- going on with text ---


def test_greedy_text_is_the_argmax_of_whole_passes(case):
    """Also after the cache has grown, which begins with 32 columns here."""
    reasons = set()
    for prompt, [found] in zip(PROMPTS, case.generator.generate(PROMPTS, max_tokens=100, sampling=GREEDY), strict=True):
        text = [*found.tokens, *([EOS] if found.reason == "end" else [])]
        ids = case.generator.tokenizer.encode([prompt])[0]
        inputs = [BOS, *ids, *text[:-1]]
        assert text == case.likeliest(inputs)[len(ids) :]
        values_TV = case.log_probabilities(inputs)[len(ids) :]
        assert found.log_probability == pytest.approx(sum(values_TV[range(len(text)), text]), rel=1e-4)
        reasons.add(found.reason)
        assert found.reason == "end" or len(text) == 100
    assert "limit" in reasons
    drawn = case.generator.generate(PROMPTS, max_tokens=100, sampling=Sampling(2.0))
    assert "end" in {text.reason for [text] in drawn}


def test_a_text_does_not_depend_on_its_company(generator):
    settings = {"max_tokens": 20, "sampling": Sampling(temperature=1.5), "samples": 2}
    together = generator.generate(PROMPTS, seed=4, **settings)
    for prompt, found in zip(PROMPTS, together, strict=True):
        alone = generator.generate([prompt], seed=4, **settings)[0]
        assert [text.tokens for text in alone] == [text.tokens for text in found]
    assert together[0] == together[4], "the same prompt gives the same texts"
    assert any(first.tokens != second.tokens for first, second in together), "samples differ"
    assert generator.generate(PROMPTS[:1], seed=5, **settings)[0] != together[0], "seeds differ"


def test_what_is_streamed_is_what_is_generated(generator):
    for seed in range(3):
        settings = {"max_tokens": 40, "sampling": Sampling(temperature=2.0), "seed": seed, "stop": ("ba", "€")}
        assert "".join(generator.stream("abc", **settings)) == generator.generate(["abc"], **settings)[0][0].text


def test_a_stream_never_breaks_a_character():
    generator = make(bytes_only=True).generator
    parts = list(generator.stream("ä", max_tokens=60, sampling=Sampling(temperature=3.0)))
    whole = generator.generate(["ä"], max_tokens=60, sampling=Sampling(temperature=3.0))[0][0]
    assert "".join(parts) == whole.text == generator.tokenizer.decode([whole.tokens])[0]
    assert len(whole.tokens) > 10, "long enough to break one"


def test_stop_strings_end_a_text_before_them(generator):
    settings = {"max_tokens": 60, "sampling": Sampling(temperature=2.0)}
    drawn = ((seed, generator.generate(["abc"], seed=seed, **settings)[0][0]) for seed in range(100))
    seed, free = next((seed, text) for seed, text in drawn if len(text.text) > 20)
    stop = free.text[16:19]
    stopped = generator.generate(["abc"], seed=seed, stop=(stop, "@@"), **settings)[0][0]
    assert stopped.reason == "stop"
    assert stopped.text == free.text[: free.text.index(stop)]


def test_a_penalty_looks_back_on_prompt_and_text(case):
    [[found]] = case.generator.generate(["abcd"], max_tokens=20, sampling=Sampling(0, repetition_penalty=1.5))
    ids = case.generator.tokenizer.encode(["abcd"])[0]
    assert found.tokens == case.likeliest([BOS, *ids, *found.tokens[:-1]], 1.5)[len(ids) :]
    assert found.tokens != case.generator.generate(["abcd"], max_tokens=20, sampling=GREEDY)[0][0].tokens


def test_few_shapes_are_compiled(generator):
    programs = generator.rollout.programs
    before = programs.start.count(), programs.advance.count()
    lengths = range(1, 60, 3)
    generator.generate(["a" * length for length in lengths], max_tokens=5, sampling=GREEDY)
    for length in lengths:
        generator.generate(["a" * length], max_tokens=5 + length % 7, sampling=GREEDY)
    after = programs.start.count(), programs.advance.count()
    # Prompts up to 16, 32 and 64; alone or in a group of 32.
    assert max(b - a for a, b in zip(before, after, strict=True)) <= 4


def test_other_values_of_settings_compile_nothing(generator):
    generator.generate(["abc"], max_tokens=3, sampling=Sampling(0.5, top_k=3))
    compiled = generator.rollout.programs.advance.count()
    generator.generate(["abc"], max_tokens=7, sampling=Sampling(0.7, top_k=5), seed=9)
    assert generator.rollout.programs.advance.count() == compiled


def test_learned_positions_are_slid_along():
    """A text longer than the 16 of them goes on, from its last 8 tokens, as if these began one."""
    case = make(positions="learned")
    [[found]] = case.generator.generate(["abcabc"], max_tokens=50, sampling=GREEDY)
    visible = [BOS, *case.generator.tokenizer.encode(["abcabc"])[0]]
    for token in [*found.tokens, *([EOS] if found.reason == "end" else [])]:
        visible = visible[-8:] if len(visible) > 16 else visible
        assert token == case.likeliest(visible)[-1]
        visible.append(token)
    assert len(found.tokens) > 16
    assert "".join(case.generator.stream("abcabc", max_tokens=50, sampling=GREEDY)) == found.text
    prompts = ["abcabc" * 9, "abcabcdäfe" * 5, "hgfedcba€" * 3]
    for prompt, [long] in zip(prompts, case.generator.generate(prompts, max_tokens=3, sampling=GREEDY), strict=True):
        visible = case.generator.tokenizer.encode([prompt])[0][-8:]
        for token in [*long.tokens, *([EOS] if long.reason == "end" else [])]:
            assert token == case.likeliest(visible)[-1]
            visible.append(token)
        assert len(visible) == 8 + 3 or long.reason == "end"


def test_a_penalty_looks_back_on_what_is_no_longer_visible():
    case, penalty = make(positions="learned"), 1.3
    [[found]] = case.generator.generate(["abcabc"], max_tokens=50, sampling=Sampling(0, repetition_penalty=penalty))
    visible = [BOS, *case.generator.tokenizer.encode(["abcabc"])[0]]
    seen = set(visible)
    for token in found.tokens:
        visible = visible[-8:] if len(visible) > 16 else visible
        logits_V = case.logits(visible)[-1]
        logits_V[list(seen)] *= np.where(logits_V[list(seen)] > 0, 1 / penalty, penalty)
        logits_V[[PAD, BOS]] = -np.inf
        assert token == logits_V.argmax()
        visible.append(token)
        seen.add(token)
    assert len(found.tokens) > 25, "it was slid along twice"


def test_other_parameters_make_another_text(generator):
    other = jax.tree.map(lambda leaf: -leaf, generator._params)
    settings = {"max_tokens": 10, "sampling": GREEDY}
    found = generator.generate(["abc"], **settings)
    assert generator.with_params(other).generate(["abc"], **settings) != found
    assert generator.generate(["abc"], **settings) == found


# --- scoring text ---


@pytest.mark.parametrize("overlap", [0, 5, WINDOW - 1])
def test_scores_are_those_of_whole_passes(case, overlap):
    """A window begins with the token before it, and what it shares with the one before is not scored again."""
    texts = ["abcde", "abcdefgh\nä€abcdefgh" * 2, "", "ab" * WINDOW]
    for text, scored in zip(texts, case.generator.score(texts, overlap=overlap), strict=True):
        ids = [*case.generator.tokenizer.encode([text])[0], EOS]
        expected = []
        for place, token in enumerate(ids):
            later_windows = max(-(-(place + 1 - WINDOW) // (WINDOW - overlap)), 0)
            begin = later_windows * (WINDOW - overlap)
            inputs = [BOS, *ids][begin : place + 1]
            expected.append(case.log_probabilities(inputs)[-1, token])
        np.testing.assert_allclose(scored.log_probabilities, expected, rtol=1e-4, atol=1e-4)
        assert scored.pieces == case.generator.tokenizer.pieces(ids)
        assert scored.perplexity == pytest.approx(np.exp(-np.mean(expected)), rel=1e-4)
        if text:
            assert scored.bits_per_byte == pytest.approx(-np.sum(expected) / np.log(2) / len(text.encode()), rel=1e-4)


def test_scoring_compiles_few_shapes():
    scorer = make().generator
    for length in range(1, 40, 2):
        scorer.score(["a" * length])
    scorer.score(["a" * length for length in range(1, 40, 2)])
    # One window or a few at a time, of 12 tokens.
    assert scorer.scorer.program._cache_size() <= 3


def test_progress_counts_all_tokens(generator):
    done = []
    found = generator.score(["abcdefgh" * 4, "", "ab"], overlap=3, progress=done.append)
    assert sum(done) == sum(len(scored.pieces) for scored in found)


def test_an_overlap_of_a_window_is_refused(generator):
    with pytest.raises(EvaluationError, match="from 0 to 11"):
        generator.score(["abc"], overlap=WINDOW)


# --- both ---


def test_a_mesh_generates_and_scores_the_same():
    shape = {"num_heads": 4, "num_kv_heads": 2, "d_model": 16}
    one, eight = make(**shape).generator, make(8, **shape).generator
    settings = {"max_tokens": 40, "sampling": Sampling(temperature=0.7, repetition_penalty=1.2), "samples": 2}
    ours, expected = eight.generate(PROMPTS, **settings), one.generate(PROMPTS, **settings)
    assert [[text.tokens for text in found] for found in ours] == [[text.tokens for text in f] for f in expected]
    assert max(len(text.tokens) for found in ours for text in found) == 40, "the cache has grown"
    for a, b in zip(eight.score(PROMPTS, overlap=2), one.score(PROMPTS, overlap=2), strict=True):
        np.testing.assert_allclose(a.log_probabilities, b.log_probabilities, rtol=1e-4, atol=1e-4)


def test_a_single_string_is_refused(generator):
    with pytest.raises(TypeError, match="list of prompts"):
        generator.generate("abc")
    with pytest.raises(TypeError, match="list of texts"):
        generator.score("abc")
    with pytest.raises(TypeError, match="list of stop strings"):
        generator.generate(["abc"], stop="ab")


@pytest.mark.parametrize(
    ("call", "error", "told"),
    [
        (lambda it: it.generate(["abc"], samples=0), ValueError, "samples = 0: must be 1"),
        (lambda it: it.generate(["abc"], samples=2.5), TypeError, "samples = 2.5: must be a whole number"),
        (lambda it: it.generate(["abc"], max_tokens=-3), ValueError, "max_tokens = -3: must be 1"),
        (lambda it: it.stream("abc", max_tokens=1.0), TypeError, "max_tokens = 1.0"),
        (lambda it: it.generate(["abc"], seed="1"), TypeError, "seed = '1'"),
        (lambda it: it.generate(["abc"], sampling=0.8), TypeError, "sampling = 0.8: give a Sampling"),
        (lambda it: it.generate(["abc", None]), TypeError, "prompts are .* number 1 is NoneType: None"),
        (lambda it: it.generate(None), TypeError, "a list of prompts, not NoneType"),
        (lambda it: it.generate(["abc", "a\ud800"]), ValueError, "Number 1 of the prompts has .*ud800' at 1"),
        (lambda it: it.stream("a\ud800"), ValueError, "prompts has .*ud800' at 1"),
        (lambda it: it.stream(["abc"]), TypeError, "prompt = .'abc'.: give one text"),
        (lambda it: it.stream("abc", stop=[1]), TypeError, "stop strings are .* number 0 is int: 1"),
        (lambda it: it.score([None]), TypeError, "texts are .* number 0 is NoneType"),
        (lambda it: it.score(["\udcff"]), ValueError, "texts has .*udcff' at 0"),
        (lambda it: it.score(["abc"], overlap=2.5), TypeError, "overlap = 2.5"),
    ],
)
def test_what_cannot_be_asked_for_is_named(generator, call, error, told):
    """By the call itself: of a stream too, before anything is taken of it."""
    with pytest.raises(error, match=told):
        call(generator)


def test_numbers_of_numpy_are_whole_too(generator):
    settings = {"max_tokens": 4, "sampling": Sampling(2.0), "seed": 3}
    as_numpy = settings | {"max_tokens": np.int32(4), "seed": np.int64(3)}
    assert generator.generate(["abc"], **as_numpy) == generator.generate(["abc"], **settings)
