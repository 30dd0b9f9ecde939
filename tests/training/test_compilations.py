import jax
import jax.numpy as jnp
import pytest

from transformer.training import compilations as module
from transformer.training.compilations import Compilations


def double(x):
    return x * 2


def test_counts_programs_not_calls():
    x, y = jnp.arange(3.0), jnp.arange(4.0)
    with Compilations(warn=print) as compilations:
        function = jax.jit(double)
        for _ in range(3):
            function(x)
        assert compilations.count == 1
        function(y)
    assert compilations.count == 2
    assert compilations.seconds > 0


def test_counts_nothing_once_closed():
    with Compilations(warn=print) as compilations:
        pass
    jax.jit(lambda x: x + 1)(1.0)
    assert compilations.count == 0


def test_warm_up_is_silent_for_each_kind_of_work():
    warnings = []
    function = jax.jit(double)
    arrays = [jnp.arange(5.0), jnp.arange(6.0)]
    with Compilations(warn=warnings.append) as compilations:
        for step in range(4):
            x = arrays[step % 2]
            with compilations.watch(step, "training step", x.shape):
                function(x)
        with compilations.watch(4, "validation"):
            jax.jit(lambda x: x - 1)(x)
    assert warnings == []
    assert compilations.after_warm_up == 0


def test_a_recompile_names_step_work_and_function():
    warnings = []
    function = jax.jit(double)
    arrays = [jnp.arange(7.0), jnp.arange(7.0), jnp.arange(7)]
    with Compilations(warn=warnings.append) as compilations:
        for step, x in enumerate(arrays, start=100):
            with compilations.watch(step, "training step", x.shape):
                function(x)
    assert compilations.after_warm_up == 1
    (warning,) = warnings
    assert "step 102: training step" in warning
    assert "double" in warning


def test_what_may_come_late_is_counted_without_a_warning():
    warnings = []
    function, late = jax.jit(double), jax.jit(lambda x: x + 3)
    same, longer = jnp.zeros(8), jnp.zeros(9)
    with Compilations(warn=warnings.append, late=("jit(<lambda>)",)) as compilations:
        for step, text in enumerate((same, same, longer)):
            with compilations.watch(step, "validation"):
                function(same)
                late(text)
    assert compilations.count == 3
    assert compilations.after_warm_up == 0
    assert warnings == []


@pytest.mark.parametrize(("long", "expected"), [(0.0, ["trim", "run", "run"]), (1e9, ["run", "run"])])
def test_memory_is_given_back_between_compiling_and_running(long, expected, monkeypatch):
    monkeypatch.setattr(module, "LONG", long)
    events = []
    monkeypatch.setattr(module.heap, "trim", lambda: events.append("trim"))

    def run(x):
        jax.debug.callback(lambda: events.append("run"))
        return x + 3

    x = jnp.arange(3.0)
    with Compilations(warn=print):
        function = jax.jit(run)
        for _ in range(2):
            jax.block_until_ready(function(x))
            jax.effects_barrier()
    assert events == expected
