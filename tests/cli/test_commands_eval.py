"""`realm eval` and `realm demo` with scripted models in place of engines, and the shipped student for real."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cli.helpers import Realm, rows, write_rows
from fakes import ScriptedGenerator, write_adapter
from realm_cli.cli.app import main


def recipe_of(folder: str) -> dict[str, Any]:
    return dict(json.loads(Path(folder, "recipe.json").read_text(encoding="utf-8")))


def manifest_of(folder: str) -> dict[str, Any]:
    return dict(json.loads(Path(folder, "manifest.json").read_text(encoding="utf-8")))


def serve(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str | None]]:
    """Every model answers with the gold answer if it has an adapter, else with 0. Returns what was built."""
    from realm_cli.engines import build

    made: list[tuple[str, str | None]] = []

    def build_generator(
        spec: str, recipe: object, *, adapter: Path | None = None, **kwargs: object
    ) -> ScriptedGenerator:
        made.append((spec, str(adapter) if adapter else None))
        return ScriptedGenerator(
            lambda request, sample: (
                f"<think>\n1. x\n</think>\n<answer>{request.problem.answer if adapter else 0}</answer>"
            )
        )

    monkeypatch.setattr(build, "build_generator", build_generator)
    return made


def test_other_problems_in_eval_do_not_become_the_runs_own(
    world: Path, realm: Realm, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(monkeypatch)
    write_rows(Path("other.jsonl"), [{"id": "o", "question": "Other?", "answer": "1", "split": "test"}])
    assert realm("eval", "--run", "r", "--problems", "other.jsonl", "--mode", "bare").code == 0
    assert recipe_of("r")["data"]["problems"] == "d/problems.jsonl"


def test_eval_compares_base_distilled_and_rl(world: Path, realm: Realm, monkeypatch: pytest.MonkeyPatch) -> None:
    made = serve(monkeypatch)
    write_adapter(Path("r/distill/adapter"))
    write_adapter(Path("r/train_rl/adapter"))
    result = realm("eval", "--run", "r", "--mode", "bare", "--mode", "routed", "--json")
    assert result.code == 0, result.err
    assert made == [("student", None), ("student", "r/distill/adapter"), ("student", "r/train_rl/adapter")]
    report = json.loads(result.out)
    assert report == json.loads(Path("r/eval/report.json").read_text(encoding="utf-8"))
    overall = {(c["model"], c["mode"]): c["accuracy"] for c in report["results"] if c["group"] == "all"}
    assert overall == {
        (model, mode): float(model != "base") for model in ("base", "distilled", "rl") for mode in ("bare", "routed")
    }
    pair = next(c for c in report["comparisons"] if c["group"] == "all")
    assert (pair["from"], pair["to"], pair["difference"], pair["n"]) == ("base", "distilled", 1.0, 8)
    assert pair["mcnemar_p"] == pytest.approx(2 / 2**8)
    assert len(rows(Path("r/eval/predictions.jsonl"))) == 3 * 2 * 8
    inputs = manifest_of("r/eval")["inputs"]
    assert set(inputs) == {"problems", "routes", "adapter distilled", "adapter rl"}


def test_eval_labels_limits_and_tables(world: Path, realm: Realm, monkeypatch: pytest.MonkeyPatch) -> None:
    made = serve(monkeypatch)
    write_adapter(Path("a/adapter"))
    write_adapter(Path("b"))
    result = realm("eval", "--run", "n", "--problems", "d/problems.jsonl", "--no-base", "-a", "sft=b",
                   "-a", "a/adapter", "-m", "solver:hasty", "--mode", "bare", "--split", "dev", "--limit", 3, "--n", 2,
                   "--set", "data.domain=rulebook")  # fmt: skip
    assert result.code == 0, result.err
    assert made == [("student", "b"), ("student", "a/adapter"), ("solver:hasty", None)]
    found = rows(Path("n/eval/predictions.jsonl"))
    assert [sum(r["model"] == m for r in found) for m in ("sft", "a", "solver:hasty")] == [6, 6, 6]
    assert all("-dev-" in r["problem_id"] for r in found)
    assert "Accuracy %, bare prompts" in result.out and "Paired differences" in result.out
    assert "n/eval/report.json" in result.out


def test_eval_resume_of_a_finished_stage_reads_its_predictions(
    world: Path, realm: Realm, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = serve(monkeypatch)
    first = realm("eval", "--run", "r", "--mode", "bare", "--json")
    made.clear()
    again = realm("eval", "--run", "r", "--mode", "bare", "--json", "--resume")
    assert (again.code, again.out, made) == (0, first.out, [])
    assert again.lines[0] == "r/eval: complete; reading its predictions"


def test_models_added_later_leave_the_students_own_success_as_it_is(
    world: Path, realm: Realm, monkeypatch: pytest.MonkeyPatch
) -> None:
    from realm_cli.engines import build

    def build_generator(
        spec: str, recipe: object, *, adapter: Path | None = None, **kwargs: object
    ) -> ScriptedGenerator:
        right = spec == "student"
        return ScriptedGenerator(
            lambda request, sample: f"1. fee 1\nAnswer: {request.problem.answer if right else -1}", name=f"the-{spec}"
        )

    monkeypatch.setattr(build, "build_generator", build_generator)
    for spec in ("student", "other"):
        assert realm("rollout", "--run", "n", "--problems", "d/problems.jsonl", "-m", spec, "--n", 2).code == 0
    found = rows(Path("n/rollout/problems.jsonl"))
    assert {(p["p_self"], p["p_ext"], p["bucket"]) for p in found} == {(1.0, 0.0, "sat")}
    assert manifest_of("n/rollout")["student_sources"] == ["the-student"]


def test_demo_runs_the_six_stages_in_order(realm: Realm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from importlib import import_module

    calls: list[tuple[str, dict[str, Any]]] = []
    for module, name in (("rollout", "rollout"), ("verify", "verify"), ("distill", "distill"),
                         ("refine", "refine"), ("train_rl", "train_rl"), ("evaluate", "evaluate")):  # fmt: skip
        place = import_module(f"realm_cli.cli.{module}")
        monkeypatch.setattr(place, name, lambda name=name, **given: calls.append((name, given)))
    result = realm("demo", "--run", tmp_path / "demo", "--set", "train_rl.steps=400")
    assert result.code == 0
    assert [name for name, _ in calls] == ["rollout", "verify", "distill", "refine", "train_rl", "evaluate"]
    for _, given in calls:
        assert given["recipe"] == "demo" and given["run"] == tmp_path / "demo"
        assert (given["set_"], given["resume"], given["force"]) == (["train_rl.steps=400"], True, False)
    assert calls[-1][1]["compare"] is calls[-1][1]["reliance"] is True
    assert "\\x0a" not in result.err
    assert [line[:3] for line in result.lines if line[0].isdigit()] == [f"{i}/6" for i in range(1, 7)]
    for file in ("eval/report.json", "verify/scored.jsonl", "train_rl/plan.jsonl", "train_rl/samples.jsonl"):
        assert str(tmp_path / "demo" / file) in result.out


def test_the_shipped_student_rolls_out_and_is_evaluated(world: Path, realm: Realm, tiny_student: Path) -> None:
    del tiny_student
    terse = ["--set", "prompt.style=terse", "--set", "rollout.max_tokens=24", "--set", "eval.max_tokens=24"]
    result = realm("rollout", "--run", "r", "-m", "student", "--limit", 4, "--n", 2, *terse, "--force", "--json")
    assert result.code == 0, result.err
    data = json.loads(result.out)
    (source,) = data["sources"]
    assert "tiny-student" in source and data["sources"][source]["routes"] == 8
    assert sum(data["buckets"].values()) == 4  # its own success gives the difficulty
    assert all(p["p_self"] is not None for p in rows(Path("r/rollout/problems.jsonl")))
    first = Path("r/rollout/routes.jsonl").read_bytes()
    realm("rollout", "--run", "n", "--problems", "d/problems.jsonl", "-m", "student", "--limit", 4, "--n", 2, *terse)
    assert Path("n/rollout/routes.jsonl").read_bytes() == first  # the same seed
    result = realm("eval", "--run", "r", "--mode", "bare", "--limit", 4, *terse, "--json")
    assert result.code == 0, result.err
    (cell, *_) = json.loads(result.out)["results"]
    assert (cell["model"], cell["n"], cell["samples"]) == ("base", 4, 1)


def test_main_reads_the_command_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["realm", "--version"])
    assert main() == 0
    assert capsys.readouterr().out.startswith("realm ")
