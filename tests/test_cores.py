import platform

import pytest

from transformer import cores


@pytest.mark.parametrize(
    ("flags", "bfloat16", "bits"),
    [
        ("fpu avx2 fma", False, False),
        ("fpu avx512f avx512_bf16", True, True),
        ("fpu avx512f amx_tile amx_bf16", True, True),
        ("avx512f avx512_vnni", False, True),
    ],
)
def test_what_cores_can_do_is_looked_up_in_the_processors_flags(flags, bfloat16, bits, tmp_path, monkeypatch):
    info = tmp_path / "cpuinfo"
    info.write_text(f"processor\t: 0\nmodel name\t: A processor\nflags\t\t: {flags}\n\n")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert cores.have_bfloat16(info) == bfloat16
    assert cores.have_512_bits(info) == bits


@pytest.mark.parametrize(("machine", "listed"), [("arm64", True), ("x86_64", False)])
def test_where_flags_are_not_known_all_is_taken_for_granted(machine, listed, tmp_path, monkeypatch):
    info = tmp_path / "cpuinfo"
    if listed:
        info.write_text("flags: none")
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert cores.have_bfloat16(info)
    assert cores.have_512_bits(info)
