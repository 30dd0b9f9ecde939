"""Every kind of damage to every file is found and named."""

import json

import pytest
from etils import epath

from transformer.training import manifest

STEP = 7


@pytest.fixture
def directory(tmp_path):
    path = epath.Path(tmp_path) / str(STEP)
    (path / "state" / "d").mkdir(parents=True)
    (path / "state" / "d" / "arrays").write_bytes(bytes(range(256)) * 40_000)  # several reads
    (path / "state" / ".hidden").write_bytes(b"also counted")
    (path / "empty").write_bytes(b"")
    (path / "config.json").write_text("{}")
    manifest.write(path, STEP)
    return path


def test_sound_directory_has_no_problems(directory):
    assert manifest.exists(directory)
    assert manifest.problems(directory, STEP) == []


def test_every_file_is_listed(directory):
    listed = json.loads((directory / manifest.NAME).read_text())["files"]
    assert set(listed) == {"state/d/arrays", "state/.hidden", "empty", "config.json"}


@pytest.mark.parametrize("position", [0, 4 << 20, 256 * 40_000 - 1])
def test_one_flipped_bit_is_found(directory, position):
    file = directory / "state" / "d" / "arrays"
    content = bytearray(file.read_bytes())
    content[position] ^= 8
    file.write_bytes(bytes(content))
    assert manifest.problems(directory, STEP) == ["state/d/arrays differs from its checksum"]


def test_swapped_bytes_are_found(directory):
    (directory / "state" / ".hidden").write_bytes(b"lsao counted")
    assert manifest.problems(directory, STEP) == ["state/.hidden differs from its checksum"]


def test_missing_and_resized_files_are_all_named(directory):
    (directory / "config.json").unlink()
    (directory / "state" / "d" / "arrays").write_bytes(b"short")
    (directory / "empty").write_bytes(b"longer")
    assert set(manifest.problems(directory, STEP)) == {
        "config.json is missing",
        "state/d/arrays has 5 bytes instead of 10240000",
        "empty has 6 bytes instead of 0",
    }


def test_file_that_became_a_directory_is_found(directory):
    (directory / "empty").unlink()
    (directory / "empty").mkdir()
    assert len(manifest.problems(directory, STEP)) == 1


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"step": 7, "files": {"config.json": {"bytes": 2}}}'])
def test_damaged_manifest_is_named(directory, content):
    (directory / manifest.NAME).write_text(content)
    (problem,) = manifest.problems(directory, STEP)
    assert problem.startswith("manifest.json cannot be read")


def test_any_flipped_bit_of_the_manifest_is_found_or_harmless(directory):
    """Whitespace and the like may change; what is checked against may not."""
    sound = json.loads((directory / manifest.NAME).read_text())
    content = (directory / manifest.NAME).read_bytes()
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 1
        (directory / manifest.NAME).write_bytes(bytes(damaged))
        if not manifest.problems(directory, STEP):
            assert json.loads(damaged) == sound


def test_missing_manifest_means_unfinished(directory):
    (directory / manifest.NAME).unlink()
    assert not manifest.exists(directory)
    assert manifest.problems(directory, STEP) == [
        "manifest.json is missing: the save was cut short, or is still being written"
    ]


def test_directory_of_another_step_is_refused(directory):
    assert manifest.problems(directory, STEP + 1) == ["manifest.json belongs to step 7"]


def test_missing_directory(tmp_path):
    assert manifest.problems(epath.Path(tmp_path / "9"), 9) == ["there is no such directory"]
