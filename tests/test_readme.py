"""What the README shows works as it stands."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np

import transformer
from transformer import config as config_module
from transformer import sharding
from transformer.cli import config_files, process
from transformer.cli.main import main
from transformer.cli.translate import TRANSLATE
from transformer.config import Config, MeshConfig, ModelConfig
from transformer.data import phrasebook
from transformer.model.blueprint import Blueprint
from transformer.training.step import Trainer

README = (Path(__file__).parents[1] / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def test_the_first_two_shell_blocks_are_the_two_commands():
    first, second = blocks("sh")[:2]
    assert "transformer train --config=configs/phrasebook.py" in first
    assert "transformer translate" in first
    assert "pytest" in second
    for block in (first, second):
        assert "python3 -m venv" in block
        assert subprocess.run(["bash", "-n"], input=block, text=True, check=False).returncode == 0


def test_own_attention_trains_by_config_alone(tmp_path, monkeypatch):
    source = next(block for block in blocks("python") if "class Recency" in block)
    (tmp_path / "my_attention.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)

    def losses(attention: str) -> list[float]:
        model = ModelConfig(d_model=16, num_heads=4, d_ff=32, num_encoder_layers=1, num_decoder_layers=1)
        config = Config(model=model)
        model.attention = attention
        mesh = sharding.make_mesh(MeshConfig(), jax.devices()[:1])
        trainer = Trainer.of(config, Blueprint.of(model, 20, 20), mesh)
        tokens = np.random.default_rng(0).integers(4, 20, (8, 6)).astype(np.int32)
        ones, positions = np.ones_like(tokens), np.broadcast_to(np.arange(6, dtype=np.int32), tokens.shape)
        batch = {
            "source": tokens,
            "source_segments": ones,
            "source_positions": positions,
            "target_inputs": tokens,
            "targets": tokens,
            "target_segments": ones,
            "target_positions": positions,
        }
        with jax.set_mesh(mesh):
            state, found = trainer.init(), []
            for _ in range(2):
                state, report = trainer.train_step(state, sharding.to_global(batch, mesh))
                found.append(float(report.window.sums.loss))
        return found

    own = losses("my_attention:Recency")
    assert np.isfinite(own).all()
    assert own[1] != own[0]
    assert own != losses(ModelConfig().attention)
    del sys.modules["my_attention"]


def test_the_command_for_own_data(monkeypatch):
    trained = []
    monkeypatch.setattr(process, "start", lambda given: None)
    monkeypatch.setattr("transformer.training.loop.train", lambda config, workdir: trained.append(config))
    [lines] = [block for block in blocks("sh") if "lines:train.en" in block]
    assert len(lines.splitlines()) <= 5
    _, *words = shlex.split(lines.replace("\\\n", " "))
    main(words)
    [config] = trained
    assert config_module.validate(config).data.train == (f"lines:{Path.cwd()}/train.en:{Path.cwd()}/train.de",)


def test_own_text_has_the_settings_of_multi30k():
    own, multi30k = config_files.load("own_text"), config_files.load("multi30k_en_de:folder")
    for section in ("model", "optimizer", "training", "decoding"):
        assert getattr(own, section) == getattr(multi30k, section)


def test_average_of_the_readme_has_its_checkpoints():
    [count] = re.findall(r"transformer average --workdir=\S+ --last=(\d+)", README)
    assert int(count) <= Config().checkpoint.keep_last


def test_example_sentences_are_in_the_language_of_the_phrasebook():
    """What is offered to be typed has no unknown word, and was not trained on."""
    patterns = {
        README: [r'echo "(.*?)" \| transformer', r'translate\(\["(.*?)"', r'attention\("(.*?)"'],
        TRANSLATE.description: [r'echo "(.*?)" \| transformer'],
        transformer.__doc__: [r'translate\(\["(.*?)"'],
    }
    sentences = {found for text, tried in patterns.items() for pattern in tried for found in _all(pattern, text)}
    trained = {pair.source for pair in phrasebook.pairs("train")}
    words = {word for source in trained for word in source.split()}
    for sentence in sentences:
        assert sentence not in trained
        assert set(sentence.split()) <= words


def _all(pattern: str, text: str) -> list[str]:
    found = re.findall(pattern, text)
    assert found, f"{pattern} matches nothing"
    return found
