import shlex

import pytest

from transformer.cli import overrides
from transformer.cli.overrides import Override
from transformer.cli.usage import UsageError
from transformer.config import Config, ConfigError, fields, get


def apply(*words, config=None):
    rest, found = overrides.split(list(words))
    assert rest == []
    return overrides.apply(config or Config(), found)


@pytest.mark.parametrize("words", [["--config.seed=7"], ["--config.seed", "7"], ["-config.seed=7"]])
def test_each_spelling(words):
    assert apply(*words).seed == 7


def test_other_words_are_left_in_order():
    rest, found = overrides.split(
        ["--config=a.py:b", "--config.seed", "3", "--workdir", "w", "--config.data.deduplicate"]
    )
    assert rest == ["--config=a.py:b", "--workdir", "w"]
    assert found == (Override("seed", "3"), Override("data.deduplicate", "true"))


@pytest.mark.parametrize(
    ("word", "name", "value"),
    [
        ("--config.model.d_k=64", "model.d_k", 64),
        ("--config.optimizer.learning_rate=2e-3", "optimizer.learning_rate", 0.002),
        ("--config.optimizer.learning_rate=1", "optimizer.learning_rate", 1.0),
        ("--config.data.deduplicate", "data.deduplicate", True),
        ("--config.data.deduplicate=true", "data.deduplicate", True),
        ("--noconfig.data.deduplicate", "data.deduplicate", False),
        ("--config.evaluation.bleu_sentences=-1", "evaluation.bleu_sentences", -1),
        ("--config.data.cache_dir=/a b=c", "data.cache_dir", "/a b=c"),
        ("--config.model.tied_embeddings=none", "model.tied_embeddings", "none"),
        (
            "--config.data.train=lines:/d/a.en,/d/b.en:/d/a.de,/d/b.de",
            "data.train",
            ("lines:/d/a.en,/d/b.en:/d/a.de,/d/b.de",),
        ),
        ("--config.data.train=2*tsv:/a b.tsv", "data.train", ("2*tsv:/a b.tsv",)),
        ("--config.data.train=('phrasebook', 'tsv:x')", "data.train", ("phrasebook", "tsv:x")),
        ("--config.data.test=()", "data.test", ()),
    ],
)
def test_values_by_type(word, name, value):
    assert get(apply(word), name) == value
    assert type(get(apply(word), name)) is type(value)


def test_a_negative_number_may_stand_alone():
    assert apply("--config.evaluation.bleu_sentences", "-1").evaluation.bleu_sentences == -1


def test_optional_fields_are_unset_by_none():
    config = apply("--config.model.d_k=64", "--config.data.cache_dir=/c")
    assert apply("--config.model.d_k=none", "--config.data.cache_dir=None", config=config) == Config()


def test_the_last_value_counts_and_tuples_gather():
    config = apply("--config.seed=x", "--config.seed=2", "--config.data.train=tsv:a", "--config.data.train=tsv:b,c")
    assert config.seed == 2
    assert config.data.train == ("tsv:a", "tsv:b,c")


def test_the_given_config_is_not_changed():
    config = Config()
    apply("--config.model.d_k=3", "--config.model.d_k=none", "--config.seed=3", config=config)
    assert config == Config()


def test_every_field_can_be_set_to_its_own_default():
    words = [f"--config.{info.name}={overrides.shell_text(info.default)}" for info in fields()]
    assert apply(*shlex.split(" ".join(words))) == Config()


@pytest.mark.parametrize(
    ("name", "value"),
    [("data.train", ("lines:a b.en:a b.de",)), ("data.train", ("tsv:a", "tsv:b")), ("data.cache_dir", "it's here")],
)
def test_a_shell_reads_what_is_shown(name, value):
    [word] = shlex.split(f"--config.{name}={overrides.shell_text(value)}")
    assert get(apply(word), name) == value


def test_a_tuple_is_shown_as_people_write_it():
    assert overrides.shell_text(("query", "value")) == "\"('query', 'value')\""


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (
            "--config.model.d_modle=3",
            "config.model.d_modle = '3': there is no such field. Did you mean config.model.d_model?",
        ),
        ("--config.batch_tokens=3", "Did you mean config.data.batch_tokens?"),
        ("--config.qqqqqq=3", "`transformer config` lists every field"),
        ("--config.model=3", "config.model = '3': is a section. Set a field in it, such as config.model.architecture"),
        ("--config.model.d_model=big", "'big': is not of type int. Write for example --config.model.d_model=512"),
        ("--config.model.d_model=1.5", "is not of type int"),
        ("--config.model.d_k=x", "is not of type int | None. Write for example --config.model.d_k=64"),
        ("--config.optimizer.beta1=x", "is not of type float"),
        ("--config.data.deduplicate=maybe", "is not of type bool. Write for example --config.data.deduplicate=false"),
        ("--config.data.train=('a', b", "is not of type tuple[str, ...]. Write a tuple of strings, such as"),
    ],
)
def test_faults_name_field_value_and_remedy(word, message):
    with pytest.raises(ConfigError) as caught:
        apply(word)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config.seed"], "--config.seed has no value. Write for example --config.seed=0"),
        (["--config.seed", "--workdir=x"], "--config.seed has no value"),
        (["--noconfig.seed"], "--noconfig.seed is for switches"),
        (["--config.tokenizer.model"], "Write for example --config.tokenizer.model=some/PATH"),
        (["--config.model.d_k"], "Write for example --config.model.d_k=64"),
        (["--noconfig.data.deduplicate=false"], "takes no value. Write it alone, or --config.data.deduplicate=false"),
    ],
)
def test_missing_values(words, message):
    with pytest.raises(UsageError, match=message):
        overrides.split(words)
