"""Saved is restored, whatever is asked: bit for bit, on any mesh, from the newest checkpoint that is sound."""

import contextlib
import dataclasses
import json
import signal
import threading
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from absl import logging
from jax.sharding import NamedSharding, PartitionSpec, SingleDeviceSharding

from transformer.config import CheckpointConfig
from transformer.training import array_files, leaves, manifest
from transformer.training.averaging import mean
from transformer.training.checkpoint import CheckpointError, CheckpointReader, Checkpoints

KEEP_ALL = CheckpointConfig(keep_last=100)


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class State:
    step: jax.Array
    params: dict
    opt_state: tuple
    ema: dict | None
    seed: jax.Array


def make_state(step: int) -> State:
    keys = jax.random.split(jax.random.key(step), 2)
    params = {
        "encoder": {"w": jax.random.normal(keys[0], (8, 16)), "scale": jnp.ones(16, jnp.bfloat16) * step},
        "output": jax.random.normal(keys[1], (3, 8, 4)),
    }
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.1))
    return State(jnp.int32(step), params, optimizer.init(params), None, jnp.uint32(4_000_000_000))


def abstract(tree, sharding=None):
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree)


def assert_same(left, right):
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def save(checkpoints, step, state=None, wait=True, **metrics):
    checkpoints.save(
        step,
        make_state(step) if state is None else state,
        data_position={"batch": step, "seed": 3},
        config_json='{"sprache": "österreichisch"}',
        tokenizer_files={"source.model": b"\x00\xff", "target.model": b"two"},
        metrics=metrics,
    )
    if wait:
        checkpoints.wait()


@pytest.fixture
def checkpoints(tmp_path):
    with Checkpoints(tmp_path / "checkpoints", KEEP_ALL, metric="bleu") as made:
        yield made


@pytest.fixture
def warnings_logged(caplog):
    return lambda: [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def path_of(checkpoints, step):
    return checkpoints._directory / str(step)


def largest_file(directory):
    return max((file for file in Path(directory).rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)


def truncate(directory):
    file = largest_file(directory)
    file.write_bytes(file.read_bytes()[:-1])
    return f"{file.name} has "


def flip_a_bit(directory):
    file = largest_file(directory)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))
    return f"{file.name} differs from its checksum"


def remove_a_file(directory):
    (directory / "config.json").unlink()
    return "config.json is missing"


def remove_the_manifest(directory):
    (directory / manifest.NAME).unlink()
    return "the save was cut short"


def leave_at_orbax_stage(directory):
    (directory / manifest.NAME).unlink()
    directory.rename(directory.parent / f"{directory.name}.orbax-checkpoint-tmp")
    return "the save was cut short"


DAMAGES = [truncate, flip_a_bit, remove_a_file, remove_the_manifest, leave_at_orbax_stage]


# --- what comes back ---


def test_everything_comes_back(checkpoints):
    state = make_state(5)
    save(checkpoints, 5, state, bleu=31.25, loss=2.5)
    restored = checkpoints.restore(abstract(state))
    assert_same(restored.state, state)
    assert restored.step == 5
    assert restored.data_position == {"batch": 5, "seed": 3}
    assert restored.config_json == '{"sprache": "österreichisch"}'
    assert restored.tokenizer_files == {"source.model": b"\x00\xff", "target.model": b"two"}
    assert restored.metrics == {"bleu": 31.25, "loss": 2.5}
    assert vars(checkpoints.read_metadata()).items() <= vars(restored).items()


def test_a_step_is_one_directory_that_can_be_moved(checkpoints, tmp_path):
    save(checkpoints, 5)
    (tmp_path / "elsewhere").mkdir()
    path_of(checkpoints, 5).rename(tmp_path / "elsewhere" / "5")
    moved = CheckpointReader(tmp_path / "elsewhere")
    assert_same(moved.restore(abstract(make_state(5))).state, make_state(5))
    assert checkpoints.steps() == []


def test_numpy_without_the_classes(checkpoints):
    state = make_state(5)
    save(checkpoints, 5, state)
    params = checkpoints.restore_params()
    assert {type(leaf) for leaf in jax.tree.leaves(params)} == {np.ndarray}
    assert_same(params, state.params)
    moments = checkpoints.restore_params(subtree="opt_state/1/0/mu")
    assert_same(moments, state.opt_state[1][0].mu)


def test_one_branch_on_devices(checkpoints):
    state = make_state(5)
    save(checkpoints, 5, state)
    where = SingleDeviceSharding(jax.devices()[3])
    params = checkpoints.restore_params(5, abstract(state.params, where))
    assert_same(params, state.params)
    assert {leaf.sharding for leaf in jax.tree.leaves(params)} == {where}


def test_unknown_branch_is_an_error(checkpoints):
    save(checkpoints, 5)
    with pytest.raises(CheckpointError, match="has no ema"):
        checkpoints.restore_params(subtree="ema")


def test_reading_asks_for_what_was_saved(checkpoints):
    """Orbax would leave out, convert or keep abstract what does not match."""
    save(checkpoints, 5)
    wanted = abstract(make_state(5).params)

    def complaint_about(params):
        with pytest.raises(CheckpointError) as error:
            checkpoints.restore_params(5, params)
        return str(error.value)

    assert "params/more is not in it" in complaint_about({**wanted, "more": wanted["output"]})
    assert "params/output is in it, but not asked for" in complaint_about({"encoder": wanted["encoder"]})
    other_shape = {**wanted, "output": jax.ShapeDtypeStruct((3, 8, 5), jnp.float32)}
    assert "params/output is float32[3, 8, 4], not float32[3, 8, 5]" in complaint_about(other_shape)
    other_type = {**wanted, "output": jax.ShapeDtypeStruct((3, 8, 4), jnp.bfloat16)}
    assert "params/output is float32[3, 8, 4], not bfloat16[3, 8, 4]" in complaint_about(other_type)
    assert "and 16 more" in complaint_about({str(i): wanted["output"] for i in range(18)})


MESHES = {
    "one device": ((1, 1), PartitionSpec()),
    "two, split": ((1, 2), PartitionSpec("fsdp")),
    "eight, split": ((2, 4), PartitionSpec("fsdp")),
    "eight, copies": ((8, 1), PartitionSpec()),
}


def on_mesh(name):
    shape, spec = MESHES[name]
    mesh = jax.make_mesh(shape, ("data", "fsdp"), devices=jax.devices()[: shape[0] * shape[1]])
    return NamedSharding(mesh, spec)


@pytest.mark.parametrize("saved_on", ["one device", "eight, split", "eight, copies"])
def test_restores_on_any_mesh(checkpoints, saved_on):
    tree = {"params": {"w": jnp.arange(8 * 6.0).reshape(8, 6), "b": jnp.arange(8.0)}}
    save(checkpoints, 1, jax.device_put(tree, on_mesh(saved_on)))
    for name in MESHES:
        restored = checkpoints.restore(abstract(tree, on_mesh(name))).state
        assert_same(restored, tree)
        assert {leaf.sharding for leaf in jax.tree.leaves(restored)} == {on_mesh(name)}


def test_restores_where_eval_shape_says(checkpoints):
    sharding = on_mesh("eight, split")
    with jax.set_mesh(sharding.mesh):
        make = jax.jit(lambda: {"params": {"w": jnp.arange(16.0)}}, out_shardings=sharding)
        save(checkpoints, 1, make())
        restored = checkpoints.restore(jax.eval_shape(make)).state
    assert restored["params"]["w"].sharding.is_equivalent_to(sharding, 1)
    np.testing.assert_array_equal(restored["params"]["w"], np.arange(16.0))


# --- saving beside training ---


def test_buffers_may_be_donated_at_once(checkpoints):
    """On a CPU, where Orbax copies nothing, donation must not write over what is being saved."""
    state = {"params": {str(i): jnp.full((512, 1024), i, jnp.float32) for i in range(4)}}
    expected = jax.tree.map(np.array, state)
    train_step = jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf * -3 + 1, tree), donate_argnums=0)
    jax.block_until_ready(train_step(jax.tree.map(jnp.copy, state)))
    save(checkpoints, 1, state, wait=False)
    for _ in range(3):
        state = jax.block_until_ready(train_step(state))
    checkpoints.wait()
    assert_same(checkpoints.restore_params(), expected["params"])


def test_save_returns_before_the_save_ends(checkpoints, monkeypatch):
    may_end = threading.Event()
    hold(monkeypatch, manifest, "write", may_end)
    save(checkpoints, 1, wait=False)
    assert checkpoints.steps() == []
    may_end.set()
    checkpoints.wait()
    assert checkpoints.steps() == [1]


def test_saves_in_quick_succession_are_all_made(checkpoints):
    for step in range(1, 7):
        save(checkpoints, step, wait=False)
    checkpoints.wait()
    assert checkpoints.steps() == [1, 2, 3, 4, 5, 6]
    for step in checkpoints.steps():
        assert_same(checkpoints.restore(abstract(make_state(step)), step).state, make_state(step))


def test_leaving_the_block_waits(tmp_path):
    with contextlib.suppress(KeyboardInterrupt), Checkpoints(tmp_path, KEEP_ALL, metric="bleu") as checkpoints:
        save(checkpoints, 1, wait=False)
        raise KeyboardInterrupt
    assert CheckpointReader(tmp_path).steps() == [1]


def hold(monkeypatch, module, name, may_go_on, meanwhile=lambda: None):
    """Makes a function wait for the event first; `meanwhile` is called when it begins to."""
    original = getattr(module, name)

    def held(*args, **kwargs):
        meanwhile()
        assert may_go_on.wait(60)
        return original(*args, **kwargs)

    monkeypatch.setattr(module, name, held)


@pytest.mark.parametrize("stage", ["copying", "writing"])
def test_an_interrupt_loses_nothing(checkpoints, monkeypatch, stage):
    may_go_on = threading.Event()
    held = (array_files.ocp, "save_async") if stage == "copying" else (manifest, "write")
    main = threading.get_ident()

    def interrupt():
        time.sleep(0.5)  # on its way into a wait, a thread would see the signal only after it
        signal.pthread_kill(main, signal.SIGINT)

    hold(monkeypatch, *held, may_go_on, meanwhile=interrupt)
    with pytest.raises(KeyboardInterrupt):
        save(checkpoints, 1)
    assert checkpoints.steps() == []
    may_go_on.set()
    checkpoints.wait()
    assert_same(checkpoints.restore(abstract(make_state(1))).state, make_state(1))


def test_what_orbax_dropped_is_not_declared_complete(checkpoints, monkeypatch):
    save(checkpoints, 1)
    save_async = array_files.ocp.save_async

    def drop_one(path, arrays, **options):
        kept = {name: array for name, array in leaves.named(arrays).items() if name != "params/output"}
        return save_async(path, leaves.nested(kept), **options)

    monkeypatch.setattr(array_files.ocp, "save_async", drop_one)
    with pytest.raises(CheckpointError, match="params/output is not in it"):
        save(checkpoints, 2)
    assert checkpoints.steps() == [1]


def test_a_sound_checkpoint_is_read_once(checkpoints, monkeypatch):
    """Until somebody writes to it."""
    save(checkpoints, 1)
    reader, read, checksum = CheckpointReader(checkpoints.path(1).parent), [], manifest._crc32
    monkeypatch.setattr(manifest, "_crc32", lambda file: read.append(file) or checksum(file))
    reader.read_metadata()
    files = len(read)
    reader.restore_params()
    assert len(read) == files > 0
    (checkpoints.path(1) / "config.json").write_text('{"sprache": "oesterreichisch"}')
    with pytest.raises(CheckpointError, match="config.json differs from its checksum"):
        reader.restore_params(1)


def test_a_failed_save_is_reported_once_and_harms_nothing(checkpoints, monkeypatch):
    save(checkpoints, 1)

    def full_disk(*_):
        raise OSError("disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(manifest, "write", full_disk)
        save(checkpoints, 2, wait=False)
        with pytest.raises(CheckpointError, match="disk is full"):
            save(checkpoints, 3, wait=False)
    checkpoints.wait()
    assert checkpoints.steps() == [1]
    assert checkpoints.read_metadata().step == 1
    save(checkpoints, 3)
    assert checkpoints.steps() == [1, 3]
    assert {path.name for path in checkpoints._directory.iterdir()} == {"1", "3"}


def test_what_cannot_be_saved_fails_at_once(checkpoints):
    with pytest.raises(CheckpointError, match="object"):
        save(checkpoints, 1, {"params": object()}, wait=False)
    with pytest.raises(ValueError, match="called a/0"):
        save(checkpoints, 1, {"a": [jnp.ones(1)], "a/0": jnp.ones(1)})
    save(checkpoints, 1)
    assert checkpoints.steps() == [1]


def test_a_sound_step_is_never_written_over(checkpoints):
    save(checkpoints, 5)
    for step in (4, 5):
        with pytest.raises(CheckpointError, match="exists and is sound"):
            save(checkpoints, step)
    assert_same(checkpoints.restore(abstract(make_state(5))).state, make_state(5))


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_step_is_written_anew(checkpoints, damage):
    """As by a run that resumed from the checkpoint before it."""
    for step in (1, 2):
        save(checkpoints, step, bleu=step)
    damage(path_of(checkpoints, 2))
    save(checkpoints, 2)
    assert {path.name for path in checkpoints._directory.iterdir()} == {"1", "2"}
    assert_same(checkpoints.restore(abstract(make_state(2))).state, make_state(2))


def test_remains_of_a_killed_save_are_removed(checkpoints):
    save(checkpoints, 1)
    for name in ("2", "3.orbax-checkpoint-tmp"):
        (checkpoints._directory / name / "state").mkdir(parents=True)
    (checkpoints._directory / "notes.txt").write_text("of the user")
    save(checkpoints, 4)
    assert {path.name for path in checkpoints._directory.iterdir()} == {"1", "4", "notes.txt"}


# --- damage ---


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_is_named_and_the_one_before_used(checkpoints, damage, warnings_logged):
    for step in (1, 2, 3):
        save(checkpoints, step)
    assert checkpoints.restore(abstract(make_state(1))).step == 3
    assert warnings_logged() == []
    reason = damage(path_of(checkpoints, 3))
    restored = checkpoints.restore(abstract(make_state(1)))
    assert restored.step == 2
    assert_same(restored.state, make_state(2))
    (warning,) = warnings_logged()
    assert str(path_of(checkpoints, 3)) in warning
    assert reason in warning
    assert "Using step 2" in warning
    assert checkpoints.read_metadata().step == 2


def test_two_damaged_ones_are_both_named(checkpoints, warnings_logged):
    for step in (1, 2, 3):
        save(checkpoints, step)
    truncate(path_of(checkpoints, 3))
    flip_a_bit(path_of(checkpoints, 2))
    assert checkpoints.read_metadata().step == 1
    assert len(warnings_logged()) == 2


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_step_asked_for_is_an_error(checkpoints, damage):
    for step in (1, 2):
        save(checkpoints, step)
    damage(path_of(checkpoints, 2))
    reads = [
        lambda: checkpoints.restore(abstract(make_state(2)), 2),
        lambda: checkpoints.restore_params(2),
        lambda: checkpoints.read_metadata(2),
    ]
    for read in reads:
        with pytest.raises(CheckpointError, match=r"cannot be used: .*Other steps there: 1\."):
            read()


def test_when_none_is_sound_all_are_listed(checkpoints):
    for step in (1, 2):
        save(checkpoints, step)
        reason = truncate(path_of(checkpoints, step))
    with pytest.raises(CheckpointError) as error:
        checkpoints.read_metadata()
    assert str(path_of(checkpoints, 1)) in str(error.value)
    assert str(path_of(checkpoints, 2)) in str(error.value)
    assert reason in str(error.value)


def test_no_checkpoints_at_all(tmp_path):
    reader = CheckpointReader(tmp_path / "nowhere")
    assert reader.steps() == []
    assert reader.latest() is None
    assert reader.best("bleu") is None
    with pytest.raises(CheckpointError, match="holds none"):
        reader.read_metadata()
    assert not (tmp_path / "nowhere").exists()


# --- what stays ---


def test_what_settings_keep(tmp_path):
    settings = CheckpointConfig(keep_last=2, keep_every=4, keep_best=1)
    with Checkpoints(tmp_path, settings, metric="loss") as checkpoints:
        for step, loss in enumerate([9.0, 3.0, 8.0, 7.0, 6.0, 5.0, 4.0], start=1):
            save(checkpoints, step, loss=loss)
        assert checkpoints.steps() == [2, 4, 6, 7]
        assert {path.name for path in tmp_path.iterdir()} == {"2", "4", "6", "7"}
        assert checkpoints.best("loss") == 2
        assert checkpoints.best("bleu") is None


def test_nothing_is_deleted_before_the_new_one_is_complete(tmp_path, monkeypatch):
    present = []
    original = Checkpoints._delete

    def watched(self, path):
        present.append(self.steps())
        original(self, path)

    monkeypatch.setattr(Checkpoints, "_delete", watched)
    with Checkpoints(tmp_path, CheckpointConfig(keep_last=1, keep_best=0), metric="bleu") as checkpoints:
        for step in (1, 2, 3):
            save(checkpoints, step)
    assert present == [[1, 2], [2, 3]]


def test_a_step_half_deleted_is_no_step(tmp_path, monkeypatch):
    def killed(path):
        (path / "config.json").unlink()
        raise OSError("killed")

    with Checkpoints(tmp_path, CheckpointConfig(keep_last=1, keep_best=0), metric="bleu") as checkpoints:
        save(checkpoints, 1)
        with monkeypatch.context() as patched:
            patched.setattr(type(checkpoints._directory), "rmtree", killed)
            with pytest.raises(CheckpointError, match="killed"):
                save(checkpoints, 2)
        assert checkpoints.steps() == [2]
        save(checkpoints, 3)
        assert {path.name for path in tmp_path.iterdir()} == {"3"}


def test_damaged_metrics_do_not_stop_the_run(tmp_path):
    with Checkpoints(tmp_path, CheckpointConfig(keep_last=2, keep_best=1), metric="bleu") as checkpoints:
        save(checkpoints, 1, bleu=50.0)
        (tmp_path / "1" / "metrics.json").write_text("{")
        for step in (2, 3, 4):
            save(checkpoints, step, bleu=float(step))
        assert checkpoints.steps() == [3, 4]
        assert checkpoints.best("bleu") == 4


# --- averages ---


def test_average_is_the_float32_mean(checkpoints):
    states = {step: make_state(step) for step in (1, 2, 3)}
    for step, state in states.items():
        save(checkpoints, step, state)
    expected = jax.tree.map(
        lambda *leaves: np.mean([np.asarray(leaf, np.float64) for leaf in leaves], axis=0),
        *(states[step].params for step in (1, 3)),
    )
    for wanted in (None, abstract(states[1].params, on_mesh("eight, copies"))):
        found = mean(checkpoints.restore_params(step, wanted) for step in (1, 3))
        assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {np.dtype(np.float32)}
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7), found, expected)


def test_average_of_one_is_itself_and_of_none_an_error(checkpoints):
    save(checkpoints, 1)
    assert_same(mean([checkpoints.restore_params(1)])["output"], make_state(1).params["output"])
    with pytest.raises(ValueError, match="no checkpoint"):
        mean([])


# --- some arrays of many ---


def test_arrays_are_read_by_name_on_a_mesh_or_on_the_host(checkpoints):
    state = make_state(1)
    save(checkpoints, 1, state)
    expected = leaves.named(state)
    arrays = checkpoints.arrays(1)
    assert {name: (leaf.shape, leaf.dtype) for name, leaf in arrays.items()} == {
        name: (leaf.shape, leaf.dtype) for name, leaf in expected.items()
    }
    name, other = [name for name in expected if name.startswith("params/")][:2]
    place = on_mesh("eight, copies")
    found = checkpoints.restore_arrays(1, {name: None, other: place})
    assert isinstance(found[name], np.ndarray)
    assert found[other].sharding == place
    assert_same(found, {name: expected[name], other: expected[other]})


def test_arrays_that_are_not_there_or_damaged(checkpoints):
    save(checkpoints, 1)
    with pytest.raises(CheckpointError, match="1 has no params/nothing"):
        checkpoints.restore_arrays(1, {"params/nothing": None})
    flip_a_bit(path_of(checkpoints, 1))
    with pytest.raises(CheckpointError, match="differs from its checksum"):
        checkpoints.restore_arrays(1, {"step": None})


# --- on the disk ---


def test_files_on_disk(checkpoints):
    save(checkpoints, 12, bleu=1.0)
    files = {file.name for file in path_of(checkpoints, 12).iterdir()}
    assert {"state", "tokenizer", "data_position.json", "config.json", "metrics.json", "manifest.json"} <= files
    names = json.loads((path_of(checkpoints, 12) / "state" / "_METADATA").read_text())["tree_metadata"]
    assert "('params', 'encoder', 'w')" in names
    assert "('opt_state', '1', '0', 'mu', 'encoder', 'w')" in names


def test_orbax_keeps_quiet(checkpoints, caplog, capfd):
    save(checkpoints, 1)
    checkpoints.restore(abstract(make_state(1)))
    logging.info("ours")
    assert [record.getMessage() for record in caplog.records] == ["ours"]
    assert "orbax" not in capfd.readouterr().err
