"""What a card and a report say of a run's settings."""

from __future__ import annotations

from pathlib import Path

from realm_cli.artifacts import write_json
from realm_cli.stages.card import model_card, settings_used


def test_each_stage_tells_its_own_settings(tmp_path: Path) -> None:
    last = {"seed": 3, "distill": {"teacher": "oracle"}, "train_rl": {"lr": 1e-5}}
    assert settings_used(tmp_path, last) == last
    write_json(tmp_path / "distill" / "recipe.json", {"seed": 1, "distill": {"teacher": "jsonl:p.jsonl"}})
    write_json(tmp_path / "eval" / "recipe.json", {"train_rl": {"lr": 2.0}})
    assert settings_used(tmp_path, last) == {**last, "distill": {"teacher": "jsonl:p.jsonl"}}


def test_a_card_tells_only_the_training_behind_its_adapter(tmp_path: Path) -> None:
    recipe = {"student": {"model": "s"}, "distill": {"sft": {"lr": 0.01}}, "train_rl": {"lr": 1e-5}}
    write_json(tmp_path / "recipe.json", recipe)

    def settings(adapter: Path) -> list[str]:
        card = model_card(tmp_path, adapter, kind="adapter", folder=tmp_path / "out")
        return [key for key in ("student.model", "distill.sft.lr", r"train\_rl.lr") if f"| {key} |" in card]

    distilled, trained = tmp_path / "distill" / "adapter", tmp_path / "train_rl" / "adapter"
    for folder in (distilled, trained, tmp_path / "elsewhere"):
        write_json(folder / "adapter_config.json", {})
    write_json(tmp_path / "distill" / "manifest.json", {})
    assert settings(distilled) == settings(tmp_path / "elsewhere") == ["student.model", "distill.sft.lr"]
    write_json(tmp_path / "train_rl" / "manifest.json", {})
    assert settings(distilled) == ["student.model", "distill.sft.lr"]
    assert settings(trained) == settings(tmp_path / "elsewhere") == ["student.model", "distill.sft.lr", r"train\_rl.lr"]
