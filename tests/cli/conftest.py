"""Fixtures of the command tests: a small world made once, copied for each test."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cli.helpers import Realm, build_world, runner


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The world, never written to."""
    folder = tmp_path_factory.mktemp("world")
    build_world(folder)
    return folder


@pytest.fixture
def world(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the world, the working directory of the test."""
    folder = tmp_path / "w"
    shutil.copytree(built, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def realm(capsys: pytest.CaptureFixture[str]) -> Realm:
    """The program, in this process."""
    return runner(capsys)
