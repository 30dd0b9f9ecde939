"""Code that a saved config names is executed only when it is allowed by name."""

import pytest

from transformer.config import Config, ConfigError, check_code


def config(attention):
    config = Config()
    config.model.attention = attention
    return config


def test_own_code_needs_no_leave():
    check_code(Config(), [])
    check_code(config("transformer.model.other:Attention"), [])


@pytest.mark.parametrize("allowed", [[], ["other.module"], ["mine"], ["mine.attention:Local"]])
def test_outside_code_is_refused_by_name(allowed):
    with pytest.raises(ConfigError) as caught:
        check_code(config("mine.attention:Local"), allowed)
    assert "import and run mine.attention" in str(caught.value)
    assert "--allow_code=mine.attention" in str(caught.value)


def test_outside_code_is_allowed_by_name():
    check_code(config("mine.attention:Local"), ["other", "mine.attention"])


def test_a_package_that_only_begins_like_ours_is_outside():
    with pytest.raises(ConfigError):
        check_code(config("transformers_of_others.x:Y"), [])
