"""Generation: it is the model's, whatever the batch, the shapes and the chunks; streams; stop strings; scores."""

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
from transformer.evaluation import generator as generator_module
from transformer.evaluation.generator import Generator
from transformer.model.blueprint import Blueprint

ALPHABET = "abcdefgh\nä€"
PROMPTS = ["abc", "", "hgfedcba" * 3, "ä€a", "abc"]
GREEDY = Sampling(temperature=0)


def make(devices: int = 1, *, bytes_only: bool = False, **changes) -> Generator:
    tokenizer = CharacterTokenizer(describe("" if bytes_only else ALPHABET, with_bytes=bytes_only, size_multiple_of=2))
    config = Config(model=tiny(**({"architecture": "language_model", "positions": "rotary", "norm": "pre"} | changes)))
    config.data.pack_length = 12
    blueprint = Blueprint.of(config.model, tokenizer.size, tokenizer.size)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: 0.5 * rng.standard_normal(leaf.shape).astype(np.float32), blueprint.shapes())
    mesh = sharding.make_mesh(MeshConfig(tensor=2 if devices > 1 else 1), jax.devices()[:devices])
    return Generator(config, blueprint, tokenizer, jax.device_put(params, blueprint.shardings(mesh)), mesh)


@pytest.fixture(scope="module")
def generator():
    return make()


def logits(generator: Generator, ids: list[int]) -> np.ndarray:
    """Of the next token, by a whole pass over BOS and the tokens."""
    size = len(ids) + 1
    batch = {
        "target_inputs": np.array([[BOS, *ids]], np.int32),
        "target_segments": np.ones((1, size), np.int32),
        "target_positions": np.arange(size, dtype=np.int32)[None],
        "target_prompt": np.zeros((1, size), np.int32),
    }
    model = generator._programs._blueprint.bind(jax.tree.map(jnp.asarray, jax.device_get(generator._params)))
    return np.array(jnp.einsum("TD,VD->TV", model(batch)[0], model.output_table())[-1])


def test_greedy_text_is_the_argmax_of_whole_passes(generator):
    for prompt, found in zip(PROMPTS, generator.generate(PROMPTS, max_tokens=9, sampling=GREEDY), strict=True):
        ids, total = generator.tokenizer.encode([prompt])[0], 0.0
        for token in [*found[0].tokens, *([EOS] if found[0].reason == "end" else [])]:
            values = logits(generator, ids)
            values[[PAD, BOS]] = -np.inf
            assert token == values.argmax()
            total += values[token] - np.logaddexp.reduce(values)
            ids.append(token)
        assert found[0].log_probability == pytest.approx(total, rel=1e-4)


def test_a_text_does_not_depend_on_its_company(generator):
    settings = {"max_tokens": 20, "sampling": Sampling(temperature=1.5), "samples": 2}
    together = generator.generate(PROMPTS, seed=4, **settings)
    for prompt, found in zip(PROMPTS, together, strict=True):
        alone = generator.generate([prompt], seed=4, **settings)[0]
        assert [text.tokens for text in alone] == [text.tokens for text in found]
    assert together[0] == together[4], "the same prompt gives the same texts"
    assert together[0][0].tokens != together[0][1].tokens, "samples differ"
    assert generator.generate(PROMPTS[:1], seed=5, **settings)[0] != together[0], "seeds differ"


def test_what_is_streamed_is_what_is_generated(generator):
    for seed in range(3):
        settings = {"max_tokens": 40, "sampling": Sampling(temperature=2.0), "seed": seed, "stop": ("ba", "€")}
        assert "".join(generator.stream("abc", **settings)) == generator.generate(["abc"], **settings)[0][0].text


def test_a_stream_never_breaks_a_character():
    generator = make(bytes_only=True)
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


def test_few_shapes_are_compiled(generator):
    before = generator._programs.start._cache_size(), generator._programs.advance._cache_size()
    lengths = range(1, 60)
    generator.generate(["a" * length for length in lengths], max_tokens=5, sampling=GREEDY)
    for length in lengths:
        generator.generate(["a" * length], max_tokens=5 + length % 7, sampling=GREEDY)
    after = generator._programs.start._cache_size(), generator._programs.advance._cache_size()
    # Prompts up to 16, 32 and 64, in groups of 1, 8 and 32 rows.
    assert max(b - a for a, b in zip(before, after, strict=True)) <= 9


def test_learned_positions_are_slid_along():
    """A text longer than them goes on; each token is drawn from what the model can see."""
    generator = make(positions="learned")
    found = generator.generate(["abcabc"], max_tokens=50, sampling=GREEDY)[0][0]
    assert len(found.tokens) == 50 or found.reason == "end"
    assert "".join(generator.stream("abcabc", max_tokens=50, sampling=GREEDY)) == found.text
    long = generator.generate(["abcabc" * 9], max_tokens=3, sampling=GREEDY)[0][0]
    assert len(long.tokens) == 3 or long.reason == "end"


@pytest.mark.parametrize("text", ["abcde", "abcdefgh\nä€abcdefgh", ""])
def test_scores_are_those_of_whole_passes(generator, text):
    scored = generator.score([text, "ab"])[0]
    ids = [*generator.tokenizer.encode([text])[0], EOS]
    assert len(scored.pieces) == len(ids) == len(scored.log_probabilities)
    piece = generator.config.data.pack_length
    expected = []
    for place, token in enumerate(ids):
        begin = place // piece * piece
        if begin:
            continue  # a later piece does not begin with BOS
        values = logits(generator, ids[begin:place])
        expected.append(values[token] - np.logaddexp.reduce(values))
    np.testing.assert_allclose(scored.log_probabilities[: len(expected)], expected, rtol=1e-4, atol=1e-4)
    assert np.all(scored.log_probabilities < 0)
    if text:
        bits = -scored.log_probabilities.sum() / np.log(2) / len(text.encode())
        assert scored.bits_per_byte == pytest.approx(bits, rel=1e-5)


def test_a_mesh_generates_and_scores_the_same():
    one, eight = make(num_heads=4, num_kv_heads=2, d_model=16), make(8, num_heads=4, num_kv_heads=2, d_model=16)
    settings = {"max_tokens": 12, "sampling": Sampling(temperature=0.7), "samples": 2}
    ours, expected = eight.generate(PROMPTS, **settings), one.generate(PROMPTS, **settings)
    assert [[text.tokens for text in found] for found in ours] == [[text.tokens for text in f] for f in expected]
    for a, b in zip(eight.score(PROMPTS), one.score(PROMPTS), strict=True):
        np.testing.assert_allclose(a.log_probabilities, b.log_probabilities, rtol=1e-4, atol=1e-4)


def test_a_single_string_is_refused(generator):
    with pytest.raises(TypeError, match="list of prompts"):
        generator.generate("abc")


def test_rows_are_powers_that_hold_them():
    assert [generator_module._power(n, 16) for n in (0, 1, 16, 17, 100)] == [16, 16, 16, 32, 128]
