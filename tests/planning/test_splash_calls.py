"""What splash attention's kernels are counted for, against sums made by hand; and in a program that libtpu compiled."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import SingleDeviceSharding
from programs import splash_call

from transformer.config import Config, DataConfig, MeshConfig, ModelConfig, TokenizerConfig
from transformer.model import splash
from transformer.model.masks import Causal, Padding, Places, SameSegment
from transformer.planning.counting import count
from transformer.planning.hlo import Program
from transformer.planning.plan import make_plan
from transformer.planning.program import Task
from transformer.planning.topology import Topology

# 2 rows, 4 heads of which 2 share one of keys, 1,024 queries and keys in two blocks each, heads of 64 and values of 32.
Q, K, V = 2 * 4 * 1024 * 64 * 2, 2 * 2 * 1024 * 64 * 2, 2 * 2 * 1024 * 32 * 2
OF_Q, OF_K = "bf16[2,4,1024,64]{3,2,1,0}", "bf16[2,2,1024,64]{3,2,1,0}"
OF_V, OUT = "bf16[2,2,1024,32]{3,2,1,0}", "bf16[2,4,1024,32]{3,2,1,0}"
BLOCKS = "s8[1,2,2]{2,1,0}"
DOT = 2 * 4 * 4 * 8  # stands after the call: nothing behind it is lost
DOT_BYTES = 4 * (2 * 4 * 8 + 4 * 4) + 2 * (4 + 4 * 8 * 4)


def counted(phase, metadata, results, operands, blocks="blocks_3_of_4"):
    return count(Program.parse(splash_call(phase, blocks, metadata, results, operands)))


def test_forward():
    counts = counted(
        "fwd_segmented_residuals",
        r"\"block_q\": 512, \"block_kv\": 512",
        f"({OUT}, f32[2,4,1024,128]{{3,2,1,0}})",
        f"next: {BLOCKS}; which: {BLOCKS}; q: {OF_Q}; k: {OF_K}; v: {OF_V}; "
        "qs: s32[2,1024,128]{2,1,0}; ks: s32[2,8,1024]{2,1,0}; columns: s32[1024,128]{1,0}",
    )
    pairs = 2 * 4 * 1024 * 1024 * 3 / 4
    assert counts.flops == 2 * pairs * (64 + 32) + DOT
    of_numbers, of_keys, of_columns = 2 * 1024 * 128 * 4, 2 * 8 * 1024 * 4, 1024 * 128 * 4
    # Keys and values are read by each of four heads for each visited pair of blocks: 3 of 4, in two heads of keys.
    read = Q + (K + V) * 2 * 2 * 3 / 4 + of_numbers * 4 + of_keys * 4 * 2 * 3 / 4 + of_columns * 2 * 4
    written = 2 * 4 * 1024 * (32 * 2 + 128 * 4)
    assert counts.bytes == read + written + DOT_BYTES


@pytest.mark.parametrize(
    ("phase", "extra", "products"),
    [
        ("dkv_segmented_no_residuals", "", 2 * 64 + 2 * 32),
        (
            "dkv_segmented_no_residuals",
            "bf16[2,1,4,1024,64]{4,3,2,1,0}, ",
            3 * 64 + 2 * 32,
        ),  # queries' in the same pass
        ("dq_segmented_no_residuals", "", 2 * 64 + 32),
    ],
)
def test_backward(phase, extra, products):
    name = "dq" if phase.startswith("dq") else "dkv"
    counts = counted(
        phase,
        rf"\"block_q_{name}\": 1024, \"block_kv_{name}\": 1024",
        f"({extra}{OF_K}, {OF_V})",
        f"next: {BLOCKS}; which: {BLOCKS}; q: {OF_Q}; k: {OF_K}; v: {OF_V}; qs: s32[2,8,1024]{{2,1,0}}; "
        f"ks: s32[2,1024,128]{{2,1,0}}; sums: f32[2,4,8,1024]{{3,2,1,0}}; do: {OUT}; di: f32[2,4,8,1024]{{3,2,1,0}}",
        blocks="blocks_1_of_1",
    )
    assert counts.flops == 2 * 2 * 4 * 1024 * 1024 * products + DOT
    # One block each: everything is read once.
    sums = 2 * 4 * 8 * 1024 * 4
    read = Q + K + V + 2 * 8 * 1024 * 4 + 2 * 1024 * 128 * 4 + 2 * sums + Q // 2
    assert counts.bytes == read + K + V + (Q if extra else 0) + DOT_BYTES


def test_kernels_of_others_are_named_when_they_do_not_say():
    text = splash_call("of_mine", "scope", "", "f32[4,8]{1,0}", "x: f32[4,8]{1,0}").replace("splash_mha_", "kernel_")
    counts = count(Program.parse(text))
    assert counts.flops == DOT
    [name] = counts.uncounted
    assert name.endswith("kernel_of_mine/pallas_call")


@pytest.mark.slow
@pytest.mark.parametrize("window", [None, 100], ids=["causal", "window"])
def test_a_plan_by_splash(window):
    """libtpu compiles the whole step; the kernels' products are those of the plain ones and scores made once more."""
    topology = Topology.parse("v5e:2x2")
    model = ModelConfig(d_model=256, num_heads=4, d_ff=512, num_encoder_layers=2, num_decoder_layers=2)
    model = dataclasses.replace(model, dtype="bfloat16", attention_window=window)
    data = DataConfig(max_length=256, batch_tokens=256 * 16)

    def plan(kernel):
        config = Config(
            model=dataclasses.replace(model, kernel=kernel), data=data, tokenizer=TokenizerConfig(vocab_size=512)
        )
        task = Task.of(config, topology.devices())
        return make_plan(task, task.compile(), topology)

    by_xla, by_auto = plan("xla"), plan("auto")
    pairs = 16 * 256 * 256
    attentions = 2 + 2 * 2
    assert by_xla.flops * 4 == by_xla.model_flops
    assert by_auto.flops * 4 == pytest.approx(by_xla.model_flops + attentions * pairs * 2 * 256, rel=1e-3)
    assert by_auto.hbm_bytes < by_xla.hbm_bytes
    assert not by_auto.uncounted


@pytest.mark.slow
@pytest.mark.parametrize("size", [20, 64, 128, 256])
def test_the_compiler_takes_heads_of_any_size(size):
    topology = Topology.parse("v5e:2x2")
    model = ModelConfig(d_model=128, num_heads=2, d_ff=128, d_k=size, num_encoder_layers=1, num_decoder_layers=1)
    model = dataclasses.replace(model, dtype="bfloat16", kernel="splash", num_kv_heads=1, logit_soft_cap=2.0)
    data = DataConfig(max_length=600, batch_tokens=600 * 8)
    task = Task.of(Config(model=model, data=data, tokenizer=TokenizerConfig(vocab_size=512)), topology.devices())
    assert "splash_mha_dq_segmented" in task.compile().text


@pytest.mark.slow
@pytest.mark.parametrize("name", ["v4:2x2x1", "v5p:2x2x1", "v6e:2x2", "tpu7x:2x2x1"])
def test_compilers_of_other_chips_take_it(name):
    """Several blocks, one block, and lengths that are filled up; heads as wide as the fast memory has to hold."""
    where = SingleDeviceSharding(Topology.parse(name).devices()[0])

    def array(*shape, dtype=jnp.bfloat16):
        return jax.ShapeDtypeStruct(shape, dtype, sharding=where)

    for length, key_length, mask in ((1500, 1500, Causal()), (300, 257, Padding())):
        places = [Places(*[array(2, size, dtype=jnp.int32)] * 2) for size in (length, key_length)]
        arrays = array(2, length, 4, 256), array(2, key_length, 2, 256), array(2, key_length, 2, 256)

        def loss(arrays, queries, keys, mask):
            found = splash.attend(*arrays, SameSegment() & mask, queries, keys, soft_cap=30.0)
            return found.astype(jnp.float32).sum()

        compiled = jax.jit(jax.grad(loss)).lower(arrays, *places, mask).compile()
        assert "splash_mha_dkv_segmented" in compiled.as_text()


@pytest.mark.slow
def test_the_compiler_takes_parts_of_a_row():
    topology = Topology.parse("v5e:2x2")
    model = ModelConfig(d_model=128, num_heads=2, d_ff=128, num_encoder_layers=1, num_decoder_layers=1)
    model = dataclasses.replace(model, dtype="bfloat16", kernel="splash", attention_window=100)
    data = DataConfig(max_length=1200, batch_tokens=1200 * 8, lengths_multiple_of=2)
    mesh = MeshConfig(data=1, fsdp=2, sequence=2)
    config = Config(model=model, data=data, mesh=mesh, tokenizer=TokenizerConfig(vocab_size=512))
    task = Task.of(config, topology.devices())
    # Of 2 blocks of queries and 3 of keys the first part visits 4, those behind the window of the second 4, too.
    assert "blocks_4_of_6" in task.compile().text
