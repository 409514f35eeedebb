"""All five commands through the CLI on real models: every CPU recipe at a few steps, and QLoRA in NF4 on the CPU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from realm_cli.cli.app import main

SMALL = (
    "data.n_train=60",
    "data.n_dev=12",
    "data.n_test=24",
    "engine.threads=1",
    "distill.limit=20",
    "distill.sft.max_steps=4",
    "distill.sft.epochs=1",
    "distill.sft.micro_batch=4",
    "distill.sft.batch_size=4",
    "train_rl.steps=3",
    "train_rl.eaai_steps=2",
    "train_rl.groups_per_step=2",
    "train_rl.group_size=2",
    "train_rl.micro_tokens=2048",
    "train_rl.max_tokens=48",
    "train_rl.preflight.stop=false",
    "train_rl.cache_tokens=8",
    "train_rl.eval_every=2",
    "train_rl.dev_limit=4",
    "train_rl.save_every=2",
    "eval.max_tokens=40",
    "eval.bootstrap=200",
    "eval.limit=6",
)
CPU_RECIPES = ("demo", "realm-zero-tiny", "realm-r1-tiny", "realm-zero-smollm2", "realm-r1-smollm2")


def realm(command: str, recipe: str, run: Path, *options: str, settings: tuple[str, ...] = SMALL) -> int:
    """One command with the small settings."""
    pairs = [part for setting in settings for part in ("--set", setting)]
    return main([command, "--recipe", recipe, "--run", str(run), *pairs, *options])


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("recipe", CPU_RECIPES)
def test_every_cpu_recipe_runs(recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    settings = SMALL if "tiny" in recipe or recipe == "demo" else (*SMALL, "eval.limit=2", "train_rl.dev_limit=2")
    zero = "zero" in recipe
    assert realm("rollout", recipe, run, settings=settings) == 0
    assert realm("verify", recipe, run, settings=settings) == 0
    if not zero:
        assert realm("distill", recipe, run, settings=settings) == 0
        assert {row["kind"] for row in rows(run / "distill" / "sft.jsonl")} >= {"guided", "mrpv"}
        assert (run / "distill" / "adapter" / "adapter_model.safetensors").is_file()
    refined = not zero and "smollm2" not in recipe
    if refined:
        assert realm("refine", recipe, run, settings=(*settings, "refine.n=2", "distill.n=1")) == 0
        own = rows(run / "refine" / "rollout" / "routes.jsonl")
        assert len(rows(run / "refine" / "distill" / "teacher.jsonl")) == len(own)  # all of them may be learned
        assert len(own) == 2 * len({row["problem_id"] for row in own}) > 0
        assert all(row["source"].endswith("+routes") for row in own)
        assert {row["kind"] for row in rows(run / "refine" / "distill" / "sft.jsonl")} >= {"positive"}
    start = ("--adapter", "none") if zero else ()
    assert realm("train-rl", recipe, run, *start, settings=settings) == 0
    capsys.readouterr()
    assert realm("eval", recipe, run, "--compare", "--json", settings=settings) == 0
    report = json.loads(capsys.readouterr().out)
    models = ["base", *([] if zero else ["distilled"]), *(["refined"] if refined else []), "rl"]
    assert list(dict.fromkeys(r["model"] for r in report["results"])) == models
    assert {c["to"] for c in report["comparisons"]} == set(models[1:])
    plan = rows(run / "train_rl" / "plan.jsonl")
    assert [row["step"] for row in plan] == [0, 0, 1, 1, 2, 2]
    assert not any(row["routed"] for row in plan if row["step"] >= 2)
    samples = rows(run / "train_rl" / "samples.jsonl")
    assert len(samples) == 3 * 2 * 2
    assert all(sample["r_ans"] in (0.0, 1.0) for sample in samples)
    assert [row["step"] for row in rows(run / "train_rl" / "metrics.jsonl")] == [0, 1, 2, 3]
    if refined:
        manifest = json.loads((run / "train_rl" / "manifest.json").read_text())
        assert manifest["inputs"]["adapter"]["path"].endswith("refine/distill/adapter")
    for stage in ("rollout", "verify", "train_rl", "eval"):
        assert json.loads((run / stage / "manifest.json").read_text())["status"] == "done"


def test_r1_continues_the_distilled_adapter_and_plain_peft_loads_it(tmp_path: Path, tiny_student: Path) -> None:
    run = tmp_path / "run"
    for command in ("rollout", "verify", "distill", "train-rl"):
        assert realm(command, "demo", run) == 0
    first = load_file(run / "distill" / "adapter" / "adapter_model.safetensors")
    last = load_file(run / "train_rl" / "last_adapter" / "adapter_model.safetensors")
    assert first.keys() == last.keys()
    moved = max(float((last[name] - first[name]).abs().max()) for name in first)
    assert 0 < moved < 0.1  # the same weights, a few steps on
    base = AutoModelForCausalLM.from_pretrained(tiny_student)
    model = PeftModel.from_pretrained(base, run / "train_rl" / "adapter")
    assert sum(p.numel() for n, p in model.named_parameters() if "lora_" in n) > 100_000


def test_the_same_seed_gives_the_same_numbers(tmp_path: Path) -> None:
    weights, predictions = [], []
    for name in ("a", "b"):
        run = tmp_path / name
        for command in ("rollout", "verify", "distill", "train-rl", "eval"):
            assert realm(command, "demo", run) == 0
        weights.append((run / "train_rl" / "last_adapter" / "adapter_model.safetensors").read_bytes())
        predictions.append((run / "eval" / "predictions.jsonl").read_text())
    assert weights[0] == weights[1]
    assert predictions[0] == predictions[1]


def test_qlora_nf4_on_the_cpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    settings = (*SMALL, "student.quant=nf4", "eval.limit=2")
    for command in ("rollout", "verify", "distill", "train-rl"):
        assert realm(command, "demo", run, settings=settings) == 0
    capsys.readouterr()
    assert realm("eval", "demo", run, "--mode", "bare", "--json", settings=settings) == 0
    report = json.loads(capsys.readouterr().out)
    assert [r["model"] for r in report["results"] if r["group"] == "all"] == ["base", "distilled", "rl"]
    gaps = [
        row["sampler_trainer_gap"] for row in rows(run / "train_rl" / "metrics.jsonl") if "sampler_trainer_gap" in row
    ]
    assert all(gap < 0.01 for gap in gaps)  # the sampler runs on the trainer's own NF4 weights


def test_train_rl_continues_after_ctrl_c(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from realm_cli.artifacts import Appender

    run = tmp_path / "run"
    for command in ("rollout", "verify", "distill"):
        assert realm(command, "demo", run) == 0
    add = Appender.add

    def interrupted(self: Appender, row: Any) -> None:
        if isinstance(row, dict) and row.get("step") == 2:
            raise KeyboardInterrupt
        add(self, row)

    monkeypatch.setattr(Appender, "add", interrupted)
    assert realm("train-rl", "demo", run) == 130
    monkeypatch.undo()
    assert realm("train-rl", "demo", run, "--resume") == 0
    samples = rows(run / "train_rl" / "samples.jsonl")
    assert sorted({sample["step"] for sample in samples}) == [0, 1, 2]
    assert len(samples) == len({sample["id"] for sample in samples}) == 3 * 2 * 2
