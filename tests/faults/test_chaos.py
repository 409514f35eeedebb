"""The short form of `make chaos`, and that it can fail."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("chaos", Path(__file__).with_name("chaos.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["chaos"] = module
    spec.loader.exec_module(module)
    return module


chaos = _load()


def test_killed_stages_lose_and_double_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert chaos.main(["--kills", "4", "--stages", "rollout,verify", "--jobs", "1"]) == 0
    lines = {line.split()[0]: line.split()[1:6] for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert int(lines["all"][1]) >= 4 and lines["all"][2:] == ["0", "0", "0"]


def test_the_comparison_sees_lost_doubled_and_changed_rows(tmp_path: Path) -> None:
    for name, ids in (("whole", "abc"), ("cut", "aab")):
        place = tmp_path / name
        place.mkdir()
        values = [{"id": i, "x": 1 if name == "whole" or i != "b" else 2} for i in ids]
        (place / "routes.jsonl").write_text("".join(json.dumps(v) + "\n" for v in values))
        (place / "problems.jsonl").write_text(name)
    out = chaos.Outcome()
    chaos.compare("rollout", tmp_path / "whole", tmp_path / "cut", out)
    assert (out.lost, out.doubled, out.different) == (1, 1, 2)
    assert out.notes == ["rollout/routes.jsonl: 1 rows differ, e.g. b", "rollout/problems.jsonl differs"]
