"""Stand-ins for gcloud, kubectl, xpk and SLURM's programs: they note how they were called, and answer as told."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

TPU = Path(__file__).parents[2] / "tpu"
NAMES = ("gcloud", "kubectl", "xpk", "sbatch", "srun", "scancel", "scontrol")

_PROGRAM = """#!{python} -IS
import json, os, sys, time
from pathlib import Path
folder = Path({folder!r})
call = [Path(sys.argv[0]).name, *sys.argv[1:]]
piped = sys.stdin.read() if call[0] == "kubectl" else None
with open(folder / "calls.jsonl", "a") as file:
    file.write(json.dumps([call, piped]) + chr(10))
for number, rule in enumerate(json.loads((folder / "answers.json").read_text())):
    if all(any(word in part for part in call) for word in rule["when"]):
        used = folder / f"used-{{number}}"
        turn = used.stat().st_size if used.exists() else 0
        with open(used, "a") as file:
            file.write(".")
        code, text = rule["answers"][min(turn, len(rule["answers"]) - 1)]
        print(text, file=sys.stderr if code else sys.stdout)
        sys.exit(code)
"""


@dataclass
class Programs:
    """`answers`: what a call that holds all these words gets, time after time (the last one from then on)."""

    folder: Path
    environment: dict[str, str]

    @classmethod
    def install(cls, folder: Path) -> "Programs":
        programs = folder / "programs"
        programs.mkdir()
        for name in NAMES:
            (programs / name).write_text(_PROGRAM.format(python=sys.executable, folder=str(folder)))
            (programs / name).chmod(0o755)
        environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "TMPDIR": str(folder)}
        made = cls(folder, environment)
        made.answer({})
        return made

    def answer(self, answers: dict[tuple[str, ...], list[str | tuple[int, str]]]) -> None:
        rules = [
            {"when": when, "answers": [(0, given) if isinstance(given, str) else given for given in sequence]}
            for when, sequence in answers.items()
        ]
        (self.folder / "answers.json").write_text(json.dumps(rules))
        for used in self.folder.glob("used-*"):
            used.unlink()

    def run(self, script: str, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess:
        return self.bash(str(TPU / script), *arguments, timeout=timeout)

    def bash(self, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess:
        return subprocess.run(
            ["bash", *arguments],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def calls(self) -> list[list[str]]:
        """Every call since the last look."""
        return [call for call, _ in self.calls_and_input()]

    def calls_and_input(self) -> list[tuple[list[str], str | None]]:
        file = self.folder / "calls.jsonl"
        if not file.exists():
            return []
        lines = file.read_text().splitlines()
        file.unlink()
        return [tuple(json.loads(line)) for line in lines]
