"""The reference is itself checked: its gradients by finite differences, its forward pass against slow loops."""

import math

import numpy as np
import paper_reference as reference
import pytest

BOS, EOS = 1, 2
SIZES = {"vocabulary": 11, "layers": 2, "d_model": 6, "d_ff": 10, "heads": 2, "d_k": 3, "d_v": 4}
BOTH_ORDERS = pytest.mark.parametrize("pre_norm", [False, True], ids=["post_norm", "pre_norm"])


def parameters(seed=0, pre_norm=False, dtype=np.float64, **sizes):
    return reference.init(np.random.default_rng(seed), pre_norm=pre_norm, dtype=dtype, **(SIZES | sizes))


def batch_of(rows, source_length, target_length):
    """A batch of rows of (source, target) examples, target ending with EOS; the rest of each row is padding."""
    batch = {
        name: np.zeros((len(rows), source_length if name.startswith("source") else target_length), np.int32)
        for name in (
            *("source", "source_segments", "source_positions"),
            *("target_inputs", "targets", "target_segments", "target_positions"),
        )
    }

    def put(row, start, **values):
        for name, value in values.items():
            batch[name][row, start : start + len(value)] = value

    for row, examples in enumerate(rows):
        s = t = 0
        for segment, (source, target) in enumerate(examples, start=1):
            put(row, s, source=source, source_segments=[segment] * len(source), source_positions=range(len(source)))
            put(row, t, target_inputs=[BOS, *target[:-1]], targets=target)
            put(row, t, target_segments=[segment] * len(target), target_positions=range(len(target)))
            s, t = s + len(source), t + len(target)
    return batch


FIRST = ([3, 4, 5, EOS], [6, 7, EOS])
SECOND = ([8, 3, EOS], [9, 10, 4, 9, EOS])
THIRD = ([5, 5, 7, 6, EOS], [3, EOS])


def packed():
    """Two examples in one row, one and padding in the other."""
    return batch_of([[FIRST, SECOND], [THIRD]], source_length=8, target_length=9)


def leaves(tree, path=""):
    """(path, array) of every parameter, in a fixed order."""
    if isinstance(tree, np.ndarray):
        return [(path, tree)]
    items = sorted(tree.items()) if isinstance(tree, dict) else enumerate(tree)
    return [leaf for key, child in items for leaf in leaves(child, f"{path}/{key}")]


# Gradients


@BOTH_ORDERS
def test_gradients_are_finite_differences(pre_norm):
    rng = np.random.default_rng(1)
    params, batch = parameters(pre_norm=pre_norm), packed()

    def result():
        return reference.loss_and_gradients(params, batch, pre_norm=pre_norm)

    gradients = dict(leaves(result().gradients))
    assert gradients.keys() == dict(leaves(params)).keys()
    step = 1e-5
    for path, array in leaves(params):
        entries = rng.choice(array.size, size=min(4, array.size), replace=False)
        differences = []
        for entry in entries:
            kept = array.flat[entry]
            losses = []
            for moved in (kept + step, kept - step):
                array.flat[entry] = moved
                losses.append(result().loss)
            array.flat[entry] = kept
            differences.append((losses[0] - losses[1]) / (2 * step))
        assert gradients[path].shape == array.shape
        ours = gradients[path].flat[entries]
        # Relative to all the entries drawn: one that happens to be almost 0 has no digits to compare. If all are 0
        # this fails, so every array is seen to matter.
        assert np.linalg.norm(ours - differences) < 1e-6 * np.linalg.norm(ours), path


# Forward, against loops and by hand


def test_attention_equals_equation_one_in_loops():
    rng = np.random.default_rng(2)
    p = parameters()["encoder"][0]["self_attention"]
    x, memory = rng.standard_normal((2, 3, 6)), rng.standard_normal((2, 5, 6))
    mask = rng.random((2, 3, 5)) < 0.6
    mask[0, 1] = False  # a query that may see nothing
    expected = np.zeros((2, 3, 6))
    for b, t, n in np.ndindex(2, 3, 2):
        query = x[b, t] @ p["query"][:, n]
        seen = [s for s in range(5) if mask[b, t, s]]
        exponentials = [math.exp(query @ (memory[b, s] @ p["key"][:, n]) / math.sqrt(3)) for s in seen]
        for s, exponential in zip(seen, exponentials, strict=True):
            weight = exponential / sum(exponentials)
            expected[b, t] += weight * (memory[b, s] @ p["value"][:, n]) @ p["output"][n]
    output, _ = reference.attention(p, x, memory, mask)
    np.testing.assert_allclose(output, expected, rtol=1e-12, atol=1e-14)
    assert not output[0, 1].any()


def test_feed_forward_and_layer_norm_in_loops():
    rng = np.random.default_rng(3)
    p, norm = parameters()["encoder"][0]["feed_forward"], parameters()["encoder"][0]["feed_forward_norm"]
    x = rng.standard_normal((1, 1, 6))
    expected = p["b2"].copy()
    for f in range(10):
        expected += max(0.0, sum(x[0, 0, d] * p["w1"][d, f] for d in range(6)) + p["b1"][f]) * p["w2"][f]
    np.testing.assert_allclose(reference.feed_forward(p, x)[0][0, 0], expected, rtol=1e-12)

    mean = sum(x[0, 0]) / 6
    variance = sum((value - mean) ** 2 for value in x[0, 0]) / 6
    expected = norm["scale"] * (x[0, 0] - mean) / math.sqrt(variance + 1e-6) + norm["bias"]
    np.testing.assert_allclose(reference.layer_norm(norm, x)[0][0, 0], expected, rtol=1e-12)


def test_sinusoids_interleave_sine_and_cosine():
    encoding = reference.sinusoids(np.array([[0, 7]]), 4)
    np.testing.assert_array_equal(encoding[0, 0], [0, 1, 0, 1])
    np.testing.assert_allclose(
        encoding[0, 1], [math.sin(7), math.cos(7), math.sin(7 / 100), math.cos(7 / 100)], rtol=1e-12
    )


@BOTH_ORDERS
def test_with_silent_sublayers_only_embedding_and_norms_remain(pre_norm):
    """Shows where the norms stand, where sqrt(d_model) applies, and that output and input share one matrix."""
    params, batch = parameters(pre_norm=pre_norm), packed()
    norms = []
    for p in params["decoder"]:
        for name in ("self_attention", "cross_attention"):
            p[name]["output"][:] = 0
            norms.append(p[f"{name}_norm"])
        p["feed_forward"]["w2"][:] = p["feed_forward"]["b2"][:] = 0
        norms.append(p["feed_forward_norm"])
    if pre_norm:
        norms = [params["decoder_norm"]]

    x = math.sqrt(6) * params["embedding"][batch["target_inputs"]]
    x += reference.sinusoids(batch["target_positions"], 6)
    for norm in norms:
        x = norm["scale"] * (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6) + norm["bias"]
    logits = reference.forward(params, batch, pre_norm=pre_norm)
    np.testing.assert_allclose(logits, x @ params["embedding"].T, rtol=1e-12, atol=1e-12)


def test_float32_stays_float32_and_agrees():
    exact = reference.loss_and_gradients(parameters(), packed())
    rounded = reference.loss_and_gradients(parameters(dtype=np.float32), packed())
    assert rounded.logits.dtype == np.float32
    np.testing.assert_allclose(rounded.logits, exact.logits, atol=1e-4)
    for (path, ours), (_, theirs) in zip(leaves(rounded.gradients), leaves(exact.gradients), strict=True):
        assert ours.dtype == np.float32, path
        np.testing.assert_allclose(ours, theirs, atol=1e-4, err_msg=path)


# Masks


def test_segments_see_themselves_and_padding_sees_nothing():
    mask = reference.same_segment(np.array([[1, 2, 0]]), np.array([[1, 1, 2, 0]]))
    np.testing.assert_array_equal(mask[0], [[True, True, False, False], [False, False, True, False], [False] * 4])


@BOTH_ORDERS
def test_logits_depend_on_no_later_target_token(pre_norm):
    params, batch = parameters(pre_norm=pre_norm), batch_of([[SECOND]], source_length=3, target_length=5)
    before = reference.forward(params, batch, pre_norm=pre_norm)
    for t in range(5):
        changed = batch | {"target_inputs": batch["target_inputs"].copy()}
        changed["target_inputs"][0, t] = 5
        after = reference.forward(params, changed, pre_norm=pre_norm)
        np.testing.assert_array_equal(after[:, :t], before[:, :t])
        assert (np.abs(after[:, t:] - before[:, t:]).max(axis=-1) > 1e-6).all()


def test_every_target_token_depends_on_every_source_token():
    params, batch = parameters(), batch_of([[SECOND]], source_length=3, target_length=5)
    before = reference.forward(params, batch)
    for s in range(3):
        changed = batch | {"source": batch["source"].copy()}
        changed["source"][0, s] = 5
        assert (np.abs(reference.forward(params, changed) - before).max(axis=-1) > 1e-6).all()


def test_packed_examples_equal_examples_alone():
    params, batch = parameters(), packed()
    together = reference.loss_and_gradients(params, batch)
    alone = [
        reference.loss_and_gradients(params, batch_of([[example]], len(example[0]), len(example[1])))
        for example in (FIRST, SECOND, THIRD)
    ]
    real = batch["target_segments"] > 0
    np.testing.assert_allclose(together.logits[real], np.concatenate([one.logits[0] for one in alone]), atol=1e-12)
    assert together.token_count == sum(one.token_count for one in alone) == 10
    assert together.loss_sum == pytest.approx(sum(one.loss_sum for one in alone), rel=1e-12)
    assert together.loss == pytest.approx(together.loss_sum / 10, rel=1e-12)
    for i, (path, gradient) in enumerate(leaves(together.gradients)):
        expected = sum(one.token_count * leaves(one.gradients)[i][1] for one in alone) / 10
        np.testing.assert_allclose(gradient, expected, atol=1e-12, err_msg=path)


def test_padding_is_finite_and_counts_for_nothing():
    params, batch = parameters(), packed()
    before = reference.loss_and_gradients(params, batch)
    changed = {name: array.copy() for name, array in batch.items()}
    for side, names in {"source": ["source"], "target": ["target_inputs", "targets"]}.items():
        padding = batch[f"{side}_segments"] == 0
        assert padding.any()
        for name in names:
            changed[name][padding] = 9
    after = reference.loss_and_gradients(params, changed)
    assert np.isfinite(before.logits).all()
    assert after.loss == before.loss
    for (path, ours), (_, theirs) in zip(leaves(after.gradients), leaves(before.gradients), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-14, err_msg=path)


# Loss and decoding


def test_loss_is_the_smoothed_cross_entropy_in_loops():
    batch = packed()
    result = reference.loss_and_gradients(parameters(), batch, label_smoothing=0.1)
    total = 0.0
    for b, t in np.argwhere(batch["target_segments"] > 0):
        probabilities = np.exp(result.logits[b, t]) / np.exp(result.logits[b, t]).sum()
        for v in range(11):
            wanted = 0.1 / 11 + (0.9 if v == batch["targets"][b, t] else 0.0)
            total -= wanted * math.log(probabilities[v])
    assert result.loss_sum == pytest.approx(total, rel=1e-12)


def test_loss_without_target_tokens_is_an_error():
    with pytest.raises(ValueError, match="target_segments"):
        reference.loss_and_gradients(parameters(), batch_of([[]], source_length=2, target_length=2))


@BOTH_ORDERS
def test_descent_along_the_gradients_learns_the_batch_and_greedy_says_it(pre_norm):
    params, batch = parameters(pre_norm=pre_norm), packed()
    for _ in range(200):
        result = reference.loss_and_gradients(params, batch, pre_norm=pre_norm)
        for (_, array), (_, gradient) in zip(leaves(params), leaves(result.gradients), strict=True):
            array -= 0.1 * gradient
    # The entropy of the smoothed targets, 0.514 with 11 classes, is the least loss there is.
    assert 0.514 < result.loss < 0.7

    def greedy(source, max_length, eos=EOS):
        return reference.greedy(params, source, max_length, bos=BOS, eos=eos, pre_norm=pre_norm)

    for source, target in (FIRST, SECOND, THIRD):
        assert greedy(source, max_length=9) == target
        assert greedy(source, max_length=2) == target[:2]
    # Nothing ends this one, and one pass over it gives each prefix's prediction.
    output = greedy(SECOND[0], max_length=8, eos=-1)
    logits = reference.forward(params, batch_of([[(SECOND[0], output)]], 3, 8), pre_norm=pre_norm)
    assert output == logits[0].argmax(axis=-1).tolist()
