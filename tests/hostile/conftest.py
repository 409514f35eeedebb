"""The small world of the command tests, made once and copied; the program runs in the copy."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.conftest import built as built
from cli.conftest import world as world
from cli.helpers import Realm, runner


@pytest.fixture
def realm(world: Path, capsys: pytest.CaptureFixture[str]) -> Realm:
    """The program, in this process, in a folder of its own."""
    return runner(capsys)
