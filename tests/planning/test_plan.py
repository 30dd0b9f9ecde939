"""A plan of a tiny model, compiled by the TPU's compiler for four chips that are not there."""

import dataclasses
import json

import pytest

from transformer.config import (
    Config,
    ConfigError,
    DataConfig,
    MeshConfig,
    ModelConfig,
    TokenizerConfig,
    TransferConfig,
)
from transformer.data.batches import WeightedStore, training_batches
from transformer.data.rows import Shape
from transformer.data.store import DocumentStore, TokenStore
from transformer.planning.errors import DoesNotFitError, PlanError
from transformer.planning.memory import advice
from transformer.planning.plan import make_plan, model_flops
from transformer.planning.program import Task, _refusal, longest_shape
from transformer.planning.report import table
from transformer.planning.topology import Topology

FOUR = Topology.parse("v5e:2x2")


def config() -> Config:
    model = ModelConfig(d_model=128, num_heads=2, d_ff=256, num_encoder_layers=2, num_decoder_layers=2)
    model.dtype = "bfloat16"
    data = DataConfig(max_length=64, batch_tokens=64 * 16)
    return Config(model=model, data=data, tokenizer=TokenizerConfig(vocab_size=512))


@pytest.fixture(scope="module")
def planned():
    task = Task.of(config(), FOUR.devices())
    return task, make_plan(task, task.compile(), FOUR)


def test_the_program_computes_what_the_model_needs(planned):
    """The formula of training/flops.py is of the mathematics; this one of the program."""
    task, plan = planned
    assert plan.flops * 4 == model_flops(task.config, task.shape)
    # By hand: multiply-adds of the forward pass; 16 rows of 64, D 128, N H 128, F 256, V 512.
    tokens, pairs, width = 16 * 64, 16 * 64 * 64, 2 * 128
    encoder = tokens * (2 * 128 * width + 2 * 128 * 256) + pairs * width
    decoder = tokens * (4 * 128 * width + 2 * 128 * 256) + 2 * pairs * width
    assert model_flops(task.config, task.shape) == 6 * (2 * encoder + 2 * decoder + tokens * 128 * 512)


def test_the_model_needs_no_gradient_of_what_is_frozen():
    shape, frozen = Shape(16, 64, 64), dataclasses.replace(config(), transfer=TransferConfig(freeze=("decoder",)))
    decoder = 16 * 64 * (2 * 128 * 256 + 2 * 128 * 256 + 2 * 128 * 256)  # of a layer, the products with matrices
    assert model_flops(frozen, shape) == model_flops(config(), shape) - 2 * 2 * decoder


def test_memory_by_kind(planned):
    _, plan = planned
    assert plan.memory.parameters == 4 * plan.parameters
    assert plan.memory.optimizer == 2 * 4 * plan.parameters + 2 * 4  # two moments, and two counts of steps
    assert plan.memory.average == 0
    assert plan.memory.batch == 7 * 4 * 4 * 64  # seven arrays, four of sixteen rows
    assert plan.memory.total < plan.chip.hbm_bytes


def test_every_gradient_is_reduced_once(planned):
    """2 (n - 1) / n of what each chip has of them, and little else."""
    _, plan = planned
    sent = sum(each.bytes for each in plan.exchanges)
    assert {each.kind for each in plan.exchanges} == {"all-reduce"}
    assert sent == pytest.approx(2 * 3 / 4 * 4 * plan.parameters, rel=0.01)


def test_what_moves_most(planned):
    _, plan = planned
    moved = [each.bytes for each in plan.traffic]
    assert moved == sorted(moved, reverse=True)
    assert 0 < sum(moved) <= plan.hbm_bytes
    assert sum(each.waited for each in plan.traffic) <= plan.roofline.chip


def test_time_is_bounded_from_below(planned):
    task, plan = planned
    assert plan.roofline.compute == pytest.approx(plan.flops / 197e12)
    assert 0 < plan.mfu <= 1
    assert plan.mfu_at(plan.roofline.unhidden) < plan.mfu
    assert plan.hours == pytest.approx(plan.roofline.step * task.config.training.steps / 3600)


def test_for_people_and_for_programs(planned):
    _, plan = planned
    record = json.loads(plan.to_json())
    assert record["topology"] == "v5e:2x2"
    assert record["memory"]["total"] == plan.memory.total
    assert record["roofline"]["bound"] == plan.roofline.bound
    assert record["chip_hours_at_least"] == pytest.approx(4 * plan.hours)
    text = table(plan)
    bound = f"bound by {plan.roofline.bound}"
    for word in ("optimizer state", "fits", "What moves most", "all-reduce", bound, "MFU at most"):
        assert word in text
    assert max(len(line) for line in text.splitlines()) <= 140


def test_rows_that_cannot_be_split_are_told():
    wrong = config()
    wrong.data.rows_multiple_of = 2
    with pytest.raises(ConfigError, match="Set it to a multiple of 4"):
        Task.of(wrong, FOUR.devices())


def test_a_slice_is_the_outermost_axis():
    two = Topology.parse("2xv5e:2x2")
    many = dataclasses.replace(config(), mesh=MeshConfig(slices=2))
    mesh = Task.of(many, two.devices()).mesh
    assert [device.slice_index for device in mesh.devices.flat] == [0] * 4 + [1] * 4


def test_the_longest_batch():
    data = DataConfig(max_length=100, batch_tokens=4096, rows_multiple_of=8, lengths_multiple_of=16)
    assert str(longest_shape(Config(data=data))) == "32x112+112"
    packed = dataclasses.replace(data, batching="packing", pack_length=256)
    assert str(longest_shape(Config(data=packed))) == "16x256+256"
    of_documents = dataclasses.replace(data, pack_length=512)
    assert str(longest_shape(Config(data=of_documents, model=ModelConfig(architecture="language_model")))) == "8x512"


def language_model() -> Config:
    changed = config()
    changed.model.architecture, changed.model.num_kv_heads = "language_model", 1
    changed.data = DataConfig(train=("text:a",), validation=("text:b",), test=(), pack_length=64, batch_tokens=64 * 16)
    changed.evaluation.metric = "loss"
    return changed


PAIRS = TokenStore.from_lists([[5] * 63] * 64, [[5] * 63] * 64)
DOCUMENTS = DocumentStore.from_lists([[]] * 64, [[5] * 63] * 64)


@pytest.mark.parametrize(("settings", "store"), [(config, PAIRS), (language_model, DOCUMENTS)])
def test_the_batch_is_that_of_a_run(settings, store):
    """Names, shapes and kinds of numbers."""
    batch = training_batches([WeightedStore(store)], settings().data, 0).batch(0)
    planned = Task.of(settings(), FOUR.devices()).batch()
    assert {name: (array.shape, array.dtype) for name, array in planned.items()} == {
        name: (array.shape, array.dtype) for name, array in batch.items()
    }


def test_a_language_models_program_computes_what_it_needs():
    task = Task.of(language_model(), FOUR.devices())
    plan = make_plan(task, task.compile(), FOUR)
    assert plan.flops * 4 == model_flops(task.config, task.shape)
    # By hand: one of the two heads is of keys and values; 16 rows of 64.
    tokens, pairs = 16 * 64, 16 * 64 * 64
    layer = tokens * (2 * 128 * 128 + 2 * 128 * 64 + 2 * 128 * 256) + pairs * 2 * 128
    assert model_flops(task.config, task.shape) == 6 * (2 * layer + tokens * 128 * 512)
    assert (plan.batch, plan.tokens) == ("16x64", tokens)
    assert plan.memory.batch == 5 * 4 * 4 * 64


# --- what does not fit ---


@pytest.mark.parametrize(
    "message",
    [
        "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 20.00G of 15.75G hbm. Exceeded by 4.25G.",
        "the total memory required for HLO temporaries (20.00G) exceeds available HBM (15.75G).",
    ],
)
def test_by_how_much_it_does_not_fit(message):
    error = _refusal(RuntimeError(message), config(), 2**30)
    assert isinstance(error, DoesNotFitError)
    assert (error.needed, error.available) == (20 * 2**30, 15.75 * 2**30)
    assert "4.25 GiB too much" in str(error)
    assert "--config.model.remat" in str(error)


def test_all_that_lies_in_memory_counts(planned):
    """Also where the compiler, which looks at its temporaries alone, has nothing against it."""
    _, plan = planned
    full = dataclasses.replace(plan.memory, temporaries=15 * 2**30, average=2**30)
    full.check(config(), 17 * 2**30)
    with pytest.raises(DoesNotFitError) as caught:
        full.check(config(), 16 * 2**30)
    assert caught.value.needed == full.total
    assert caught.value.available == 15.75 * 2**30


def test_other_refusals_are_passed_on():
    error = _refusal(RuntimeError("INTERNAL: no"), config(), 0)
    assert type(error) is PlanError
    assert "INTERNAL: no" in str(error)


def test_what_helps_most_comes_first():
    state, kept, *_ = advice(config(), 12, 4, 16)
    assert "mesh.fsdp" in state and "remat" in kept
    assert "remat" in advice(config(), 4, 12, 16)[0]
    assert "mesh.fsdp" in advice(config(), 4, 12, 16)[-1]
    assert not any("mesh.fsdp" in each for each in advice(config(), 1, 15, 16))
    [only] = advice(config(), 20, 4, 16)
    assert "mesh.fsdp" in only
    assert "max_length" in advice(config(), 4, 12, 16)[2]
    assert "pack_length" in advice(language_model(), 4, 12, 16)[2]
    assert not any("mesh" in each for each in advice(config(), 4, 12, 16, splits=False))
    assert "smaller model" in advice(config(), 20, 4, 16, splits=False)[0]
    half = config()
    half.model.remat = "all_but_products"
    assert "--config.model.remat=all." in advice(half, 4, 12, 16)[0]
    kept_already = config()
    kept_already.model.remat = "all"
    kept_already.training.accumulate = 2
    assert "accumulate=4" in advice(kept_already, 4, 12, 16)[0]
