"""What a search tries, in which order, and how it goes on when something fails."""

import dataclasses
import os

import pytest

from transformer.config import Config, DataConfig, MeshConfig, ModelConfig, TokenizerConfig, validate
from transformer.planning import search as search_module
from transformer.planning.errors import DoesNotFitError
from transformer.planning.program import Task, longest_shape
from transformer.planning.report import ranking
from transformer.planning.search import Candidate, candidates, search
from transformer.planning.topology import Topology

FOUR = Topology.parse("v5e:2x2")


def config() -> Config:
    model = ModelConfig(d_model=128, num_heads=2, d_ff=256, num_encoder_layers=2, num_decoder_layers=2)
    return Config(
        model=model, data=DataConfig(max_length=64, batch_tokens=1024), tokenizer=TokenizerConfig(vocab_size=512)
    )


def found(most_tokens: int = 1024) -> list[Candidate]:
    return list(candidates(config(), FOUR, 4, most_tokens))


def test_meshes_are_those_of_all_devices_that_the_model_divides():
    shapes = {(each.mesh.data, each.mesh.fsdp, each.mesh.sequence, each.mesh.tensor) for each in found()}
    # Two heads: tensor is at most 2.
    assert (4, 1, 1, 1) in shapes and (1, 4, 1, 1) in shapes and (1, 1, 4, 1) in shapes and (2, 1, 1, 2) in shapes
    assert all(data * fsdp * sequence * tensor == 4 and tensor <= 2 for data, fsdp, sequence, tensor in shapes)
    assert len(shapes) == 9


def test_shared_heads_of_keys_are_not_split():
    one = config()
    one.model.num_kv_heads = 1
    assert {each.mesh.tensor for each in candidates(one, FOUR, 4, 1024)} == {1}


def test_a_language_models_candidates_have_rows_of_documents():
    alone = config()
    alone.model.architecture = "language_model"
    alone.data.pack_length = 128
    tried = list(candidates(alone, FOUR, 4, 1024))
    assert {each.applied(alone).data.batch_tokens for each in tried} == {128, 256, 512, 1024}


def test_every_candidate_is_a_config_that_can_be():
    for candidate in found():
        changed = validate(candidate.applied(config()))
        assert changed.data.batch_tokens == candidate.rows * 64 <= 1024
        assert longest_shape(changed).rows == candidate.rows


def test_each_is_tried_once():
    settings = [(tuple(vars(each.mesh).items()), each.rows, each.remat, each.accumulate) for each in found()]
    assert len(settings) == len(set(settings))
    assert {rows for _, rows, _, _ in settings} == {1, 2, 4, 8, 16}


def test_flags_say_what_is_changed():
    candidate = Candidate(MeshConfig(1, 2, 1, 1, 2), 8, "all", 2)
    assert candidate.flags(config()) == (
        "--config.mesh.data=2 --config.mesh.tensor=2 --config.data.batch_tokens=512 --config.data.rows_multiple_of=4 "
        "--config.model.remat=all --config.training.accumulate=2"
    )


@dataclasses.dataclass(frozen=True)
class Planned:
    """Stands for a plan: faster with more rows, slower with more tensor parallelism."""

    config: Config

    @property
    def tokens_per_second(self) -> float:
        return self.config.data.batch_tokens / self.config.mesh.tensor


@dataclasses.dataclass(frozen=True)
class Tried:
    """Stands for a task, and compiles nothing: 16 rows have to be computed again, fsdp cannot be traced."""

    config: Config

    def compile(self) -> None:
        if self.config.mesh.fsdp > 1:
            raise TypeError("no such sharding\nmore of it")
        if self.config.data.batch_tokens >= 16 * 64 and self.config.model.remat != "all":
            raise DoesNotFitError(20 * 2**30, 15 * 2**30, 0, ())


@pytest.fixture
def tried(monkeypatch):
    """The configs that would have been compiled."""
    configs = []

    def of(config: Config, devices) -> Tried:
        configs.append(config)
        return Tried(config)

    monkeypatch.setattr(Task, "of", of)
    monkeypatch.setattr(search_module, "make_plan", lambda task, step, topology: Planned(task.config))
    return configs


def run(seconds: float = 100.0, clock=lambda: 0.0):
    seen = []
    results = search(
        config(),
        FOUR,
        most_tokens=1024,
        seconds=seconds,
        progress=lambda *what: seen.append(what),
        clock=clock,
        attempt=search_module.tried,
    )
    return results, seen


def test_ranks_those_that_fit_and_says_why_others_do_not(tried):
    results, seen = run()
    fitting = [result for result in results if result.plan is not None]
    speeds = [result.plan.tokens_per_second for result in fitting]
    assert speeds == sorted(speeds, reverse=True)
    assert fitting[0].candidate.rows == 16 and fitting[0].candidate.remat == "all"
    reasons = {result.reason for result in results if result.plan is None}
    assert reasons == {"needs 20.0 GiB of 15.0 GiB", "TypeError: no such sharding"}
    assert results[: len(fitting)] == fitting
    assert seen[-1][0] == seen[-1][1] == len(found())
    assert len(tried) < len(found())  # what could only be slower is left out


def test_stops_when_the_time_is_over(tried):
    ticks = iter(range(1000))
    results, _ = run(seconds=3, clock=lambda: next(ticks))
    assert len(tried) == 3
    assert len(results) == 3


class Abort:
    """Ends the process that unpickles it."""

    def __reduce__(self):
        return os._exit, (1,)


def test_a_crash_of_the_compiler_is_a_reason_too():
    candidate = found()[0]
    result = search_module.apart(candidate, config(), Abort())
    assert result.plan is None
    assert result.reason == "the TPU's compiler crashed"


def test_a_ranking_without_any_that_fits(tried, monkeypatch):
    def refuse(task):
        raise DoesNotFitError(20 * 2**30, 15 * 2**30, 0, ())

    monkeypatch.setattr(Tried, "compile", refuse)
    text = ranking(run()[0])
    assert "none" in text and "needs 20.0 GiB of 15.0 GiB" in text
