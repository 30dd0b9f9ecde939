"""The sides of a comparison: each a process of its own that works when it is asked to, so that all run in turns."""

import json
import os
import subprocess
import sys
from collections.abc import Collection, Mapping

from transformer.cli.own_process import MALLOC


class Side:
    """One side. It answers every line with a line; what it says last, when there is nothing more, is its report."""

    def __init__(self, name: str, command: list[str]):
        # All on the CPU, also where JAX would find something else.
        environment = os.environ | {"GLIBC_TUNABLES": MALLOC, "JAX_PLATFORMS": "cpu"}
        pipe = subprocess.PIPE
        self._name = name
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)

    def ask(self, line: str) -> str:
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self.answer()

    def answer(self) -> str:
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"The process of {self._name!r} ended; what it said stands above.")
        return line

    def close(self) -> None:
        """There is nothing more to do."""
        self._process.stdin.close()

    def wait(self) -> None:
        self._process.wait()


def installed(command: list[str], needs: Mapping[str, Collection[str]], names: Collection[str]) -> list[str]:
    """Those of the peers `names` whose packages are there. Prints all versions, and what is left out.

    Args:
      command: of the program of the peers, which prints the versions as JSON.
      needs: the packages of each peer.
    """
    versions = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
    there = []
    for name in names:
        missing = [package for package in needs[name] if not versions[package]]
        if missing:
            print(f"{name}: left out, {', '.join(missing)} is not installed.")
        else:
            there.append(name)
    print("peers:", ", ".join(f"{package} {version}" for package, version in versions.items() if version) or "none")
    return there
