from transformer.cli import listing
from transformer.config import Config, fields


def test_every_field_with_type_default_choices_and_meaning():
    text = listing.field_list()
    flat = " ".join(text.split())
    for info in fields():
        assert f"--config.{info.name}=" in text
        assert " ".join(info.meaning.split()) in flat
        assert all(choice in flat for choice in info.choices)
    assert "--config.model.d_k=none  (int | None)" in text


def test_values_of_a_config_beside_the_defaults():
    config = Config()
    config.model.d_model = 256
    text = listing.field_list(config=config)
    assert "--config.model.d_model=256  (int; default 512)" in text
    assert text.count("; default") == 1


def test_some_sections_only():
    text = listing.field_list(("decoding.", "mesh."))
    assert {line.split("=")[0].strip() for line in text.splitlines() if "--config." in line} == {
        f"--config.{info.name}" for info in fields() if info.name.startswith(("decoding.", "mesh."))
    }


def test_overview_has_every_value_in_100_columns():
    text = listing.overview(Config())
    assert max(len(line) for line in text.splitlines()) <= 100
    for info in fields():
        assert f"{info.name.split('.')[-1]}=" in text
