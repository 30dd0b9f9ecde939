"""Patterns over the names of parameters: what they mean, and what is said of those that mean nothing."""

import pytest

from transformer.config import ConfigError
from transformer.training.patterns import Rename, everything, old_names, select

DEPTHS = {
    "decoder/layers/cross_attention/query": 2,
    "decoder/layers/self_attention/query": 2,
    "decoder/layers/self_attention_residual/norm/scale": 2,
    "decoder_norm/scale": None,
    "encoder/layers/feed_forward/inner": 3,
    "encoder/layers/self_attention/query": 3,
    "encoder_norm/scale": None,
    "target_embedding/table": None,
}
ENCODER = ["encoder/layers/feed_forward/inner", "encoder/layers/self_attention/query"]


def chosen(*texts: str) -> dict[str, list[int]]:
    return {name: sorted(layers) for name, layers in select("transfer.freeze", texts, DEPTHS).items() if layers}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("encoder", ENCODER),
        ("encoder*", [*ENCODER, "encoder_norm/scale"]),
        ("*_attention", [name for name in DEPTHS if "_attention/" in name]),
        ("decoder/*/cross_attention", ["decoder/layers/cross_attention/query"]),
        ("layers/?elf_attention", [name for name in DEPTHS if "/self_attention/" in name]),
        ("norm/scale", ["decoder/layers/self_attention_residual/norm/scale"]),
        ("target_embedding/table", ["target_embedding/table"]),
        ("*", list(DEPTHS)),
    ],
)
def test_whole_parts_wherever_they_stand_and_what_is_below(text, names):
    assert chosen(text) == {name: list(range(DEPTHS[name] or 1)) for name in names}


@pytest.mark.parametrize(
    ("text", "layers"),
    [("encoder:0-1", [0, 1]), ("encoder:2", [2]), ("encoder:1-", [1, 2]), ("encoder*:0-2", [0, 1, 2])],
)
def test_layers_of_a_stack(text, layers):
    """What is in no stack is not meant by a pattern with layers."""
    assert chosen(text) == dict.fromkeys(ENCODER, layers)


def test_several_patterns_mean_what_any_of_them_does():
    assert chosen("encoder:0", "inner:2", "encoder_norm") == {
        "encoder/layers/feed_forward/inner": [0, 2],
        "encoder/layers/self_attention/query": [0],
        "encoder_norm/scale": [0],
    }
    assert chosen() == {}
    assert everything(DEPTHS) == select("transfer.freeze", ["*"], DEPTHS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("self_atention", "no parameter has such a name. Did you mean self_attention"),
        ("*_atention:0", "Did you mean "),
        ("zzz", "Parts of names are cross_attention, decoder, decoder_norm, encoder,"),
        ("encoder:2-3", "has no layer 3. Its layers are 0 to 2"),
        ("encoder:3-", "has no layer 3"),
        ("query:0-2", "decoder/layers/cross_attention/query has no layer 2.*name each stack by itself"),
        ("encoder:2-1", "is no range of layers"),
        ("encoder_norm:0", "encoder_norm/scale has no layers. Leave out the colon"),
        ("encoder:first", "is no pattern. Write parts of a name"),
        ("/encoder", "is no pattern"),
        ("", "is no pattern"),
    ],
)
def test_what_means_nothing_is_refused(text, message):
    with pytest.raises(ConfigError, match=f"config.transfer.freeze = '{text.replace('*', '[*]')}': .*{message}"):
        chosen(text)


@pytest.mark.parametrize(
    ("rule", "new", "old"),
    [
        ("encoder=decoder", "encoder/layers/self_attention/query", "decoder/layers/self_attention/query"),
        ("encoder=decoder", "encoder_norm/scale", None),
        ("encoder*=decoder*", "encoder_norm/scale", "decoder_norm/scale"),
        ("cross_attention=self_attention", "decoder/layers/cross_attention/key", "decoder/layers/self_attention/key"),
        ("source_embedding=target_embedding", "source_embedding/table", "target_embedding/table"),
        ("*_embedding=embeddings/*", "source_embedding/table", "embeddings/source/table"),
        ("*_embedding=embedding", "source_embedding/table", "embedding/table"),
        ("encoder/layers=stack", "encoder/layers/x", "stack/x"),
    ],
)
def test_renaming(rule, new, old):
    assert Rename.parse("transfer.init_rename", rule).old_name(new) == old


@pytest.mark.parametrize("rule", ["encoder", "=decoder", "encoder=", "a:0=b", "a=b*", "a=b=c"])
def test_what_is_no_renaming_is_refused(rule):
    with pytest.raises(ConfigError, match="is no pair of names NEW=OLD. Write for example encoder=decoder"):
        Rename.parse("transfer.init_rename", rule)


def test_the_first_rule_that_fits_counts():
    rules = ("encoder*=decoder*", "self_attention=attention", "cross_attention=attention")
    found = old_names("transfer.init_rename", rules, DEPTHS)
    assert list(found) == list(DEPTHS)
    assert found["encoder/layers/self_attention/query"] == "decoder/layers/self_attention/query"
    assert found["decoder/layers/self_attention/query"] == "decoder/layers/attention/query"
    assert found["decoder/layers/cross_attention/query"] == "decoder/layers/attention/query"
    assert found["target_embedding/table"] == "target_embedding/table"


def test_a_renaming_of_nothing_is_refused():
    with pytest.raises(ConfigError, match="'encodr=decoder': no parameter .* is called encodr. Did you mean en"):
        old_names("transfer.init_rename", ("encodr=decoder",), DEPTHS)
