"""A run with frozen parameters, adapters and averages: resumed, translated with, averaged, merged, started from.

It starts from the tiny run, with a second layer in each stack.
"""

import dataclasses
import shutil

import jax
import numpy as np
import pytest
import tiny_run
from tiny_model import assert_close, named

from transformer import config as config_module
from transformer import sharding
from transformer.config import Config, MeshConfig, TransferConfig
from transformer.model.blueprint import Blueprint
from transformer.training.checkpoint import CheckpointReader
from transformer.training.run import Run
from transformer.training.saved_params import SavedParams
from transformer.training.saved_run import choose, open_translator, write_average, write_merged
from transformer.training.sizes import Sizes
from transformer.training.workdir import Workdir, WorkdirError

SENTENCES = ["anna is very kind", "ben is not tall", "finn is always happy"]


def config_in(folder, init_from) -> Config:
    config = tiny_run.config(folder)
    config.model.num_encoder_layers = config.model.num_decoder_layers = 2
    config.transfer = TransferConfig(
        init_from=str(init_from),
        init_fresh=("layers:1",),
        train_only=("encoder:1", "*norm"),
        lora_rank=2,
        lora_targets=("query", "outer:1"),
    )
    config.training.steps, config.training.log_every, config.training.ema_decay = 4, 2, 0.5
    config.evaluation.every, config.checkpoint.every = 4, 2
    return config


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Its origin is gone after the first step."""
    folder = tmp_path_factory.mktemp("adapted")
    shutil.copytree(tiny_run.trained(), folder / "origin")
    return config_in(folder, folder / "origin")


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run") / "workdir"
    tiny_run.train_steps(config, workdir)
    return Workdir(workdir)


def saved_at(workdir: Workdir, step: int) -> SavedParams:
    return choose(workdir, str(step))


def expected_at(workdir: Workdir, step: int, config: Config) -> dict[str, np.ndarray]:
    """What the model computes with, said with numpy."""
    state = CheckpointReader(workdir.checkpoints).restore_params(step, subtree="")
    params, ema = named(state["params"]), named(state["ema"])
    found = {}
    for name, array in params.items():
        if name.startswith("lora/"):
            continue
        array = np.array(array)
        if name in ema:
            array[-len(ema[name]) :] = ema[name]
        if f"lora/{name}/a" in ema:
            a, b = ema[f"lora/{name}/a"], ema[f"lora/{name}/b"]
            product = np.einsum("ldr,lrnh->ldnh" if name.endswith("query") else "lfr,lrd->lfd", a, b)
            array[-len(a) :] += config.transfer.lora_alpha / 2 * product
        found[name] = array
    return found


def test_parameters_are_read_as_the_model_uses_them(run, config):
    saved = saved_at(run, 4)
    found, expected = named(saved.restore_on_host()), expected_at(run, 4, config)
    assert_close(found, expected, 1e-6)
    assert {type(array) for array in found.values()} == {np.ndarray}
    origin = named(choose(Workdir(tiny_run.trained())).restore_on_host())
    for name, array in found.items():
        if name.startswith("encoder/") and "norm" not in name and not name.endswith("query"):
            np.testing.assert_array_equal(array[0], origin[name][0], err_msg=name)
    # Adapters alone are not enough to change a matrix: b moved from zero.
    query = "decoder/layers/self_attention/query"
    assert np.abs(found[query][0] - origin[query][0]).max() > 1e-5


@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 2, 2)])
def test_on_any_mesh(run, config, sizes):
    saved = saved_at(run, 4)
    mesh = sharding.make_mesh(MeshConfig(1, sizes[0], sizes[1], 1, sizes[2]), jax.devices()[: int(np.prod(sizes))])
    size = saved.shapes()["target_embedding/table"].shape[0]
    blueprint = Blueprint.of(saved.config.model, size, size)
    params = saved.restore(blueprint, mesh)
    assert_close(named(params), expected_at(run, 4, config), 1e-6)
    wanted = named(blueprint.shardings(mesh))
    for name, array in named(params).items():
        assert array.sharding.is_equivalent_to(wanted[name], array.ndim), name


def test_only_what_is_asked_for_is_read(run, config, monkeypatch):
    read = []
    restore = CheckpointReader.restore_arrays
    monkeypatch.setattr(
        CheckpointReader, "restore_arrays", lambda self, step, where: read.extend(where) or restore(self, step, where)
    )
    names = ["encoder/layers/self_attention/key", "decoder/layers/self_attention/query", "decoder_norm/scale"]
    saved = saved_at(run, 4)
    names = [name for name in names if name in saved.shapes()]
    found, expected = saved.read(dict.fromkeys(names)), expected_at(run, 4, config)
    assert_close(found, {name: expected[name] for name in names}, 1e-6)
    assert sorted(read) == [
        "ema/encoder/layers/self_attention/key",
        "ema/lora/decoder/layers/self_attention/query/a",
        "ema/lora/decoder/layers/self_attention/query/b",
        "params/decoder/layers/self_attention/query",
        "params/encoder/layers/self_attention/key",
    ]


def test_it_resumes_to_the_bit_though_its_origin_is_gone(run, config, tmp_path):
    workdir = Workdir(tmp_path / "workdir")
    half = dataclasses.replace(config, training=dataclasses.replace(config.training, steps=2))
    origin = tmp_path.parent / "origin_moved"
    tiny_run.train_steps(half, workdir.root)
    shutil.move(config.transfer.init_from, origin)
    try:
        tiny_run.train_steps(config, workdir.root)
    finally:
        shutil.move(origin, config.transfer.init_from)
    one, two = (CheckpointReader(place.checkpoints).restore_params(4, subtree="") for place in (run, workdir))
    jax.tree.map(np.testing.assert_array_equal, one, two)


def test_its_sizes(run, config, caplog):
    caplog.set_level("INFO")
    with tiny_run.on_devices(1):
        sizes = Sizes.of(Run.open(config, run).trainer)
    state = CheckpointReader(run.checkpoints).restore_params(4, subtree="")
    assert sizes.parameters == sum(leaf.size for leaf in jax.tree.leaves(state["params"]))
    assert sizes.trained == sum(leaf.size for leaf in jax.tree.leaves(state["ema"])) < sizes.parameters
    assert sizes.optimizer_bytes == sum(leaf.nbytes for leaf in jax.tree.leaves(state["optimizer"]))
    assert 2 * 4 * sizes.trained <= sizes.optimizer_bytes <= 2 * 4 * sizes.trained + 64
    assert f"{sizes.parameters:,} parameters, {sizes.trained:,} of them train" in caplog.text


def one_device() -> jax.sharding.Mesh:
    return sharding.make_mesh(MeshConfig(), jax.devices()[:1])


def translations(workdir: Workdir, which: str) -> list[str]:
    with tiny_run.on_devices(1):
        return open_translator([workdir], [which]).translate(SENTENCES)


def test_merged_equals_unmerged(run, config, tmp_path):
    merged = Workdir(tmp_path / "merged")
    write_merged(saved_at(run, 4), merged, one_device())
    plain = choose(merged)
    assert (plain.subtree, plain.config.transfer, plain.config.model) == ("params", TransferConfig(), config.model)
    assert list(CheckpointReader(merged.checkpoints).restore_params(4, subtree="")) == ["params"]
    jax.tree.map(np.testing.assert_array_equal, plain.restore_on_host(), saved_at(run, 4).restore_on_host())
    assert translations(merged, "auto") == translations(run, "4")
    assert config_module.from_json(merged.config.read_text()) == plain.config

    with pytest.raises(WorkdirError, match="--output=.*merged holds a run already"):
        write_merged(saved_at(run, 4), merged, one_device())
    with pytest.raises(WorkdirError, match="--output=.*config.json is a file. Choose another folder"):
        write_merged(saved_at(run, 4), Workdir(merged.config / "below"), one_device())
    with tiny_run.on_devices(1), pytest.raises(WorkdirError, match=r"parameters alone.*--config.transfer.init_from=/"):
        Run.open(plain.config, merged)
    again = dataclasses.replace(plain.config, transfer=TransferConfig(init_from=str(merged.root)))
    with tiny_run.on_devices(1):
        assert Run.open(again, Workdir(tmp_path / "again")).origin.saved.path == plain.path


def test_an_average_is_of_what_the_model_uses(run, config, tmp_path):
    """The mean of products, which is not the product of means."""
    copy = Workdir(tmp_path / "copy")
    shutil.copytree(run.root, copy.root)
    average = write_average(copy, [2, 4], one_device())
    both = [expected_at(run, step, config) for step in (2, 4)]
    expected = {name: (array + both[1][name]) / 2 for name, array in both[0].items()}
    assert_close(named(average.restore_on_host()), expected, 1e-6)
    assert average.config.transfer == TransferConfig()
    assert len(translations(copy, "average")) == len(SENTENCES)


def test_another_run_starts_from_an_adapted_one(run, config, tmp_path):
    new = dataclasses.replace(
        config, transfer=TransferConfig(init_from=str(run.root), init_checkpoint="4", freeze=("*norm",))
    )
    new.mesh = MeshConfig(data=2, fsdp=2, tensor=2)
    with tiny_run.on_devices(8):
        opened = Run.open(new, Workdir(tmp_path / "workdir"))
        with jax.set_mesh(opened.mesh), opened.open_checkpoints() as checkpoints:
            params = jax.device_get(opened.start(checkpoints).params)
    assert_close(named(params), expected_at(run, 4, config), 1e-6)
