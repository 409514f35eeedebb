"""What a card and a report say of a run's settings."""

from __future__ import annotations

from pathlib import Path

from realm_cli.artifacts import write_json
from realm_cli.stages.card import settings_used


def test_each_stage_tells_its_own_settings(tmp_path: Path) -> None:
    last = {"seed": 3, "distill": {"teacher": "oracle"}, "train_rl": {"lr": 1e-5}}
    assert settings_used(tmp_path, last) == last
    write_json(tmp_path / "distill" / "recipe.json", {"seed": 1, "distill": {"teacher": "jsonl:p.jsonl"}})
    write_json(tmp_path / "eval" / "recipe.json", {"train_rl": {"lr": 2.0}})
    assert settings_used(tmp_path, last) == {**last, "distill": {"teacher": "jsonl:p.jsonl"}}
