"""Running `realm` in this process on real files, and looking at what it left."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from realm_cli.artifacts import digest
from realm_cli.cli.app import main

SOLVERS = ["-m", "solver:hasty", "-m", "solver:forgetful", "-m", "solver:generalist"]


@dataclass(frozen=True)
class Result:
    """What a command returned and printed."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """The non-empty lines on stderr."""
        return [line for line in self.err.splitlines() if line.strip()]


Realm = Callable[..., Result]


def runner(capsys: pytest.CaptureFixture[str]) -> Realm:
    """`realm("rollout", "--n", 2)` with both streams captured."""

    def run(*args: object) -> Result:
        capsys.readouterr()
        code = main([str(arg) for arg in args])
        out, err = capsys.readouterr()
        return Result(code, out, err)

    return run


def build_world(folder: Path) -> None:
    """d/: 24 + 6 + 8 problems with rules and notes. r/: a run on them with routes of three solvers and their sets."""
    import os

    before = Path.cwd()
    os.chdir(folder)
    try:
        assert main(["domain", "rulebook", "--out", "d", "--n-train", "24", "--n-dev", "6", "--n-test", "8"]) == 0
        domain = ["--set", "data.domain=rulebook", "--set", "rollout.n=2"]
        assert main(["rollout", "--run", "r", "--problems", "d/problems.jsonl", *domain, *SOLVERS]) == 0
        assert main(["verify", "--run", "r"]) == 0
    finally:
        os.chdir(before)


def snapshot(folder: Path) -> dict[str, str]:
    """sha256 of every file below a folder."""
    return {str(path.relative_to(folder)): digest(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_rows(path: Path, data: list[dict[str, Any]]) -> None:
    """Write rows as JSONL."""
    path.write_text("".join(json.dumps(row) + "\n" for row in data), encoding="utf-8")
