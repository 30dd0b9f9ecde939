"""One step: the paper's gradient, the same on any mesh and in any number of parts; what is summed, what is refused."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import paper_reference
import pytest
from tiny_model import (
    VARIANTS,
    VOCABULARY,
    assert_close,
    batch_of,
    blueprint_of,
    examples_of,
    from_reference,
    named,
    relative,
    tiny,
)

from transformer import cores
from transformer.config import Config, MeshConfig, OptimizerConfig, TrainingConfig
from transformer.sharding import make_mesh, to_global
from transformer.training import parts
from transformer.training import step as step_module
from transformer.training.step import Report, Trainer, TrainState

ROWS = 16
# What makes a batch bad, see `poisonable`: targets no vocabulary holds.
INFINITE_LOSS, NAN_GRADIENT = VOCABULARY + 1, VOCABULARY + 2


def batch(seed: int) -> dict[str, np.ndarray]:
    """Packed rows, single ones and empty ones: parts and devices get very different numbers of tokens."""
    rng = np.random.default_rng(seed)
    rows = []
    for row in range(ROWS):
        sizes = [tuple(rng.integers(1, 5, 2)) for _ in range(row % 3)]
        rows.append(examples_of(*sizes, seed=100 * seed + row))
    return batch_of(rows, source_length=8, target_length=8)


BATCHES = [batch(seed) for seed in range(3)]


def marked(batch: dict[str, np.ndarray], mark: int) -> dict[str, np.ndarray]:
    targets = batch["targets"].copy()
    targets[1, 0] = mark
    return batch | {"targets": targets}


DROPPING = {"dropout": 0.3}
# Devices along slices, data, fsdp, sequence and tensor.
Sizes = tuple[int, int, int, int, int]
ONE = (1, 1, 1, 1, 1)


def config_of(model: dict, **training) -> Config:
    settings = {"ema_decay": 0.75, "log_every": 2, "label_smoothing": 0.1} | training
    return Config(
        model=tiny(**model),
        optimizer=OptimizerConfig(schedule="constant", learning_rate=0.01, warmup_steps=1),
        training=TrainingConfig(**settings),
    )


def trainer_of(config: Config, sizes: Sizes = ONE) -> Trainer:
    count = math.prod(sizes)
    return Trainer.of(config, blueprint_of(config.model), make_mesh(MeshConfig(*sizes), jax.devices()[:count]))


@dataclasses.dataclass(frozen=True)
class Course:
    """A few steps: what the host saw, and the state after each, copied to the host."""

    states: list[TrainState]
    reports: list[Report]
    last: TrainState  # on the devices

    @property
    def end(self) -> TrainState:
        return self.states[-1]


def course(trainer: Trainer, batches, state: TrainState) -> Course:
    """From a state on the host, which is `states[0]`."""
    states, reports = [state], []
    with jax.set_mesh(trainer.mesh):
        state = jax.device_put(state, trainer.state_shardings())
        for one in batches:
            state, report = trainer.train_step(state, to_global(one, trainer.mesh))
            states.append(jax.device_get(state))
            reports.append(report)
    # Read at the end: later steps must not have overwritten them.
    return Course(states, jax.device_get(reports), state)


@functools.cache
def initial() -> TrainState:
    """The first state, on the host: the same for all courses here."""
    trainer = trainer_of(config_of(DROPPING))
    with jax.set_mesh(trainer.mesh):
        return jax.device_get(trainer.init())


@functools.cache
def run(sizes: Sizes = ONE, accumulate: int = 1) -> tuple[Trainer, Course]:
    """Three steps with dropout on."""
    trainer = trainer_of(config_of(DROPPING, accumulate=accumulate), sizes)
    return trainer, course(trainer, BATCHES, initial())


# --- the same in parts and on any mesh ---


def test_training_moves_everything():
    """So that the equalities below say something."""
    _, done = run()
    for name, leaf in named(done.end.params).items():
        assert relative(leaf, named(initial().params)[name] + 1e-30) > 0.01, name


@pytest.mark.parametrize("accumulate", [2, 4])
def test_in_parts_equals_at_once(accumulate):
    _, split = run(accumulate=accumulate)
    _, whole = run()
    assert_close(split.end.params, whole.end.params, 1e-6)
    assert_close(split.end, whole.end, 3e-6)  # second moments are squares, whose errors are doubled


def test_parts_that_are_left_open_are_those_that_are_fast(monkeypatch):
    monkeypatch.setattr(parts, "cores", lambda: 1)
    monkeypatch.setattr(parts, "LEAST_POSITIONS", 1)
    monkeypatch.setattr(parts, "NUMBERS_A_CORE", BATCHES[0]["targets"].size // 4 * tiny().d_model)

    def program(accumulate):
        trainer = trainer_of(config_of(DROPPING, accumulate=accumulate))
        with jax.set_mesh(trainer.mesh):
            return trainer.train_step.lower(trainer.abstract_state(), to_global(BATCHES[0], trainer.mesh)).as_text()

    assert program(None) == program(4) != program(2)


@pytest.mark.parametrize(
    ("sizes", "accumulate"),
    [
        ((1, 8, 1, 1, 1), 2),
        ((1, 1, 8, 1, 1), 1),
        ((1, 1, 1, 8, 1), 2),
        ((1, 2, 2, 1, 2), 2),
        ((2, 1, 2, 2, 1), 1),
        ((2, 1, 1, 2, 2), 2),
    ],
)
def test_eight_devices_equal_one(sizes, accumulate):
    _, many = run(sizes, accumulate)
    _, one = run()
    assert_close(many.end, one.end, 1e-5)


def assert_traces(trainer: Trainer):
    """With explicit sharding, one that does not fit is an error while tracing."""
    with jax.set_mesh(trainer.mesh):
        state = trainer.abstract_state()
        new_state, _ = trainer.train_step.trace(state, to_global(BATCHES[0], trainer.mesh)).out_info
    assert jax.tree.map(jnp.shape, new_state) == jax.tree.map(jnp.shape, state)


@pytest.mark.parametrize(("variant", "instructions"), [*((variant, True) for variant in VARIANTS), ("paper", False)])
def test_the_shardings_of_every_variant_fit(variant, instructions, monkeypatch):
    """In bfloat16, whose products say themselves how their gradients are split."""
    monkeypatch.setattr(cores, "have_bfloat16", lambda: instructions)
    assert_traces(trainer_of(config_of(VARIANTS[variant] | DROPPING | {"dtype": "bfloat16"}), (1, 2, 1, 2, 2)))


@pytest.mark.parametrize("sizes", [ONE, (2, 1, 1, 1, 1), (1, 4, 2, 1, 1), (1, 1, 8, 1, 1)])
def test_parts_fit_where_each_device_has_one_row_of_a_part(sizes):
    assert_traces(trainer_of(config_of(DROPPING, accumulate=ROWS // math.prod(sizes)), sizes))


def test_the_state_lies_where_it_should():
    trainer, done = run((1, 1, 8, 1, 1))
    whole_everywhere = ("scale", "bias", "inner_bias", "outer_bias")
    adam = optax.tree.get(done.last.optimizer, "mu"), optax.tree.get(done.last.optimizer, "nu")
    for tree in (done.last.params, done.last.ema, *adam):
        for name, leaf in named(tree).items():
            share = 1 if name.split("/")[-1] in whole_everywhere else 8
            assert {shard.data.size * share for shard in leaf.addressable_shards} == {leaf.size}, name
    wanted = named(trainer.state_shardings())
    for name, leaf in named(done.last).items():
        assert leaf.sharding.is_equivalent_to(wanted[name], leaf.ndim), name


def test_tensor_and_fsdp_split_together():
    trainer, done = run((1, 2, 2, 1, 2), 2)
    attention = done.last.params["decoder"]["layers"]["cross_attention"]
    for name in ("query", "output"):
        assert {shard.data.size * 4 for shard in attention[name].addressable_shards} == {attention[name].size}


def test_one_program_serves_all_steps():
    trainer, _ = run((1, 2, 2, 1, 2), 2)
    assert trainer.train_step._cache_size() == 1


def test_what_is_computed_again_takes_no_memory():
    """On a CPU too, where XLA without barriers finds that it has the same already, and keeps it."""
    taken = []
    for remat in ("none", "all_but_products", "all"):
        trainer = trainer_of(config_of({"remat": remat, "unroll": 2}))
        with jax.set_mesh(trainer.mesh):
            program = trainer.train_step.lower(trainer.abstract_state(), to_global(BATCHES[0], trainer.mesh)).compile()
        taken.append(program.memory_analysis().temp_size_in_bytes)
    assert taken[2] < 0.7 * taken[0]
    assert taken[2] < taken[1] < taken[0]


def test_the_state_given_is_donated():
    trainer, done = run((1, 2, 2, 1, 2), 2)
    with jax.set_mesh(trainer.mesh):
        state = jax.device_put(done.end, trainer.state_shardings())
        trainer.train_step(state, to_global(BATCHES[0], trainer.mesh))
    kept = [name for name, leaf in named(state).items() if not leaf.is_deleted()]
    assert not kept


# --- the paper's gradient, and what is remembered ---


def poisonable(hidden_BTD, table_VD, targets_BT, real_BT, **settings):
    """The loss, made infinite by one mark in the targets; by another its gradient is made NaN while it stays finite."""
    sums = step_module_loss(hidden_BTD, table_VD, targets_BT, real_BT, **settings)
    infinite, nan = (jnp.any(targets_BT == mark) for mark in (INFINITE_LOSS, NAN_GRADIENT))
    # The root's slope at 0 is infinite, times 0.
    root = jnp.sqrt(jnp.where(nan, 0 * jnp.sum(hidden_BTD), 1.0))
    loss = sums.loss * jnp.where(infinite, jnp.inf, 1.0) + root - jax.lax.stop_gradient(root)
    return dataclasses.replace(sums, loss=loss)


step_module_loss = step_module.smoothed_cross_entropy


@functools.cache
def reference_start() -> tuple[dict, TrainState]:
    """The reference's parameters, and the first state with the same."""
    parameters = paper_reference.init(
        np.random.default_rng(0),
        **{"vocabulary": VOCABULARY, "layers": 2, "d_model": 16, "d_ff": 24, "heads": 2, "d_k": 8, "d_v": 8},
    )
    params = jax.tree.map(np.float32, from_reference(parameters))
    return parameters, dataclasses.replace(initial(), params=params, ema=params)


@functools.cache
def without_dropout(non_finite: str, marks: tuple[int | None, ...]) -> tuple[Trainer, Course]:
    """Steps over the batches in turn; a mark stands for a bad batch between them."""
    good = iter(BATCHES)
    batches = [next(good) if mark is None else marked(BATCHES[0], mark) for mark in marks]
    trainer = plain_trainer(non_finite)
    return trainer, course(trainer, batches, reference_start()[1])


@functools.cache
def plain_trainer(non_finite: str) -> Trainer:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step_module, "smoothed_cross_entropy", poisonable)
        trainer = trainer_of(config_of({}, non_finite=non_finite))
        with jax.set_mesh(trainer.mesh):
            state = jax.device_put(initial(), trainer.state_shardings())
            trainer.train_step(state, to_global(BATCHES[0], trainer.mesh))  # traced while patched
    return trainer


GOOD = (None, None, None)


def test_the_first_step_follows_the_papers_gradient():
    parameters, start = reference_start()
    expected = paper_reference.loss_and_gradients(parameters, BATCHES[0])
    gradients = from_reference(expected.gradients)
    trainer, done = without_dropout("skip", GOOD)
    first = done.states[1]

    assert_close(optax.tree.get(first.optimizer, "mu"), jax.tree.map(lambda g: (1 - 0.9) * g, gradients), 1e-5)
    norm = np.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(gradients)))
    assert float(first.window.gradient_norms) == pytest.approx(norm, rel=1e-5)
    assert float(first.window.sums.loss) == pytest.approx(expected.loss_sum, rel=1e-5)
    assert int(first.window.sums.tokens) == expected.token_count

    updates, _ = trainer.optimizer.update(jax.tree.map(np.float32, gradients), start.optimizer, start.params)
    assert_close(jax.tree.map(np.subtract, first.params, start.params), updates, 1e-2)


def test_the_average_follows_the_parameters():
    """With a decay of at most (1 + n) / (10 + n) after n updates: 0.75 only from the 26th on."""
    _, done = without_dropout("skip", GOOD)
    expected = done.states[0].params
    for updates, state in enumerate(done.states[1:], start=1):
        decay = (1 + updates) / (10 + updates)
        expected = jax.tree.map(lambda mean, new, d=decay: d * mean + (1 - d) * new, expected, state.params)
        assert_close(state.ema, expected, 1e-6)
    assert relative(done.end.ema["target_embedding"]["table"], done.end.params["target_embedding"]["table"]) > 1e-3


def test_without_a_decay_there_is_no_average():
    trainer = trainer_of(config_of({}, ema_decay=0.0))
    assert trainer.abstract_state().ema is None
    assert trainer.state_shardings().ema is None


def test_losses_of_batches_add_up_in_one_program():
    trainer, done = without_dropout("skip", GOOD)
    params = done.states[0].params
    with jax.set_mesh(trainer.mesh):
        first, second = (to_global(one, trainer.mesh) for one in BATCHES[:2])
        apart = [trainer.loss_step(params, one, trainer.no_loss()) for one in (first, second)]
        programs = trainer.loss_step._cache_size()
        together = trainer.loss_step(params, second, apart[0])
        assert trainer.loss_step._cache_size() == programs
    assert_close(together, apart[0] + apart[1], 1e-6)


def test_the_window_holds_the_sums_since_the_last_line():
    """log_every is 2: the third step begins afresh. Reports are read after all steps were made."""
    trainer, done = without_dropout("skip", GOOD)
    with jax.set_mesh(trainer.mesh):
        sums = [
            jax.device_get(trainer.loss_step(state.params, to_global(one, trainer.mesh), trainer.no_loss()))
            for state, one in zip(done.states, BATCHES, strict=False)
        ]
    source_tokens = [int((one["source_segments"] > 0).sum()) for one in BATCHES]
    for report, steps in zip(done.reports, ([0], [0, 1], [2]), strict=True):
        for name in ("loss", "nll", "correct", "tokens"):
            total = sum(float(getattr(sums[i], name)) for i in steps)
            assert float(getattr(report.window.sums, name)) == pytest.approx(total, rel=1e-5)
        assert int(report.window.source_tokens) == sum(source_tokens[i] for i in steps)
        assert int(report.window.steps) == len(steps)
    assert [int(one.tokens) for one in sums] == [int((one["target_segments"] > 0).sum()) for one in BATCHES]
    first, second = (float(report.window.gradient_norms) for report in done.reports[:2])
    assert second > first > 0
    for report, state in zip(done.reports, done.states[1:], strict=True):
        assert_close(report.window, state.window, 0)


# --- what is not finite ---


def assert_identical(ours, expected):
    ours, expected = named(ours), named(expected)
    assert ours.keys() == expected.keys()
    for name, leaf in expected.items():
        np.testing.assert_array_equal(ours[name], leaf, err_msg=name)


def test_skip_leaves_out_just_the_bad_steps():
    _, clean = without_dropout("skip", GOOD)
    _, done = without_dropout("skip", (None, INFINITE_LOSS, None, NAN_GRADIENT, None))
    assert [int(report.bad_step) for report in done.reports] == [0, 2, 2, 4, 4]
    assert [int(report.skipped) for report in done.reports] == [0, 1, 1, 2, 2]
    assert [int(state.step) for state in done.states] == [0, 1, 2, 3, 4, 5]
    for name in ("params", "optimizer", "ema"):
        for bad, before in ((2, 1), (4, 3)):
            assert_identical(getattr(done.states[bad], name), getattr(done.states[before], name))
        assert_identical(getattr(done.end, name), getattr(clean.end, name))
    # The bad steps are in no sum: the lines are steps 1-2, 3-4 and 5.
    assert [int(report.window.steps) for report in done.reports] == [1, 1, 1, 1, 1]
    assert all(np.isfinite(leaf).all() for report in done.reports for leaf in jax.tree.leaves(report))


@pytest.mark.parametrize("mark", [INFINITE_LOSS, NAN_GRADIENT])
def test_stop_freezes_the_state_before_the_first_bad_step(mark):
    _, done = without_dropout("stop", (None, mark, None, mark))
    assert [int(report.bad_step) for report in done.reports] == [0, 2, 2, 2]
    for state in done.states[2:]:
        good = dataclasses.replace(done.states[1], bad_step=state.bad_step, skipped=state.skipped)
        assert_identical(state, good)
        assert int(state.step) == 1


def test_good_steps_are_the_same_under_stop_and_skip():
    _, skipping = without_dropout("skip", GOOD)
    _, stopping = without_dropout("stop", GOOD)
    assert_close(stopping.end, skipping.end, 1e-6)


def test_a_parameter_that_is_not_finite_is_noticed_at_once():
    trainer = plain_trainer("stop")
    _, start = reference_start()
    table = start.params["target_embedding"]["table"].copy()
    table[5, 0] = np.inf
    start = dataclasses.replace(start, params=start.params | {"target_embedding": {"table": table}})
    assert int(course(trainer, BATCHES[:1], start).end.bad_step) == 1


# --- other positions than the paper's ---


@pytest.mark.parametrize("positions", ["rotary", "t5"])
def test_an_encoder_decoder_with_other_positions_learns(positions):
    """A batch by heart, and every parameter moves: T5's tables in both stacks too."""
    trainer = trainer_of(config_of({"positions": positions}, label_smoothing=0.0, log_every=1))
    with jax.set_mesh(trainer.mesh):
        start = jax.device_get(trainer.init())
    found = course(trainer, BATCHES[:1] * 40, start)
    first, last = (found.reports[number].window.sums for number in (0, -1))
    assert first.loss / first.tokens > 0.9 * math.log(VOCABULARY)
    assert last.loss / last.tokens < 0.5 * math.log(VOCABULARY)
    before, after = named(start.params), named(found.end.params)
    assert not [name for name in before if np.array_equal(before[name], after[name])]
    tables = [name for name in before if name.endswith("relative/table")]
    assert len(tables) == (2 if positions == "t5" else 0)
