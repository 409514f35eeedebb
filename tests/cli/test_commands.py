"""The commands on real files: what they write, print and hand on to each other."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from cli.helpers import SOLVERS, Realm, rows, snapshot, write_rows
from fakes import write_adapter
from realm_cli import __version__


def recipe_of(folder: str) -> dict[str, Any]:
    return dict(json.loads(Path(folder, "recipe.json").read_text(encoding="utf-8")))


def manifest_of(folder: str) -> dict[str, Any]:
    return dict(json.loads(Path(folder, "manifest.json").read_text(encoding="utf-8")))


def test_version(realm: Realm) -> None:
    result = realm("--version")
    assert (result.code, result.out, result.err) == (0, f"realm {__version__}\n", "")


# ---- domain


def test_domain_writes_problems_rules_and_notes(world: Path, realm: Realm) -> None:
    result = realm("domain", "--out", "new", "--n-train", 20, "--n-dev", 3, "--n-test", 5, "--seed", 4, "--json")
    assert result.code == 0
    data = json.loads(result.out)
    found = rows(Path("new/problems.jsonl"))
    assert data["problems"] == len(found) == 28
    assert sum(data["counts"].values()) == 28
    assert [sum(r["split"] == s for r in found) for s in ("train", "dev", "test")] == [20, 3, 5]
    assert sorted(p.name for p in Path("new").iterdir()) == ["notes.md", "problems.jsonl", "rules.md"]
    first = snapshot(Path("new"))
    assert realm("domain", "--out", "new", "--n-train", 20, "--n-dev", 3, "--n-test", 5, "--seed", 4).code == 1
    assert realm(
        "domain", "--out", "new", "--n-train", 20, "--n-dev", 3, "--n-test", 5, "--seed", 4, "--force"
    ).code == 0  # fmt: skip
    assert snapshot(Path("new")) == first


# ---- rollout


def test_rollout_leaves_routes_problems_and_provenance(world: Path) -> None:
    routes, problems = rows(Path("r/rollout/routes.jsonl")), rows(Path("d/problems.jsonl"))
    assert len(routes) == len(problems) * 3 * 2
    assert {r["source"] for r in routes} == {"solver:hasty", "solver:forgetful", "solver:generalist"}
    assert len({r["id"] for r in routes}) == len(routes)
    for problem in rows(Path("r/rollout/problems.jsonl")):
        own = [r["correct"] for r in routes if r["problem_id"] == problem["id"]]
        assert problem["p_ext"] == pytest.approx(sum(own) / 6) and problem["p_self"] is None
    manifest = manifest_of("r/rollout")
    assert (manifest["stage"], manifest["status"]) == ("rollout", "done")
    assert manifest["outputs"]["routes.jsonl"]["rows"] == len(routes)
    assert manifest["inputs"]["problems"]["path"] == "d/problems.jsonl"


def test_a_rerun_is_a_no_op_and_more_samples_are_added(world: Path, realm: Realm) -> None:
    before = Path("r/rollout/routes.jsonl").read_bytes()
    again = realm("rollout", "--run", "r", *SOLVERS, "--json")
    assert again.code == 0
    assert Path("r/rollout/routes.jsonl").read_bytes() == before
    data = json.loads(realm("rollout", "--run", "r", *SOLVERS, "--n", 3, "--json").out)
    after = Path("r/rollout/routes.jsonl").read_bytes()
    assert after.startswith(before)
    assert data["routes"] == len(rows(Path("r/rollout/routes.jsonl"))) == 38 * 9
    assert {name: s["routes"] for name, s in data["sources"].items()} == dict.fromkeys(data["sources"], 38 * 3)


def test_force_starts_again(world: Path, realm: Realm) -> None:
    result = realm("rollout", "--run", "r", "-m", "solver:hasty", "--limit", 5, "--n", 1, "--force", "--json")
    assert json.loads(result.out)["routes"] == 5 == len(rows(Path("r/rollout/routes.jsonl")))


def test_later_commands_need_only_the_run(world: Path, realm: Realm) -> None:
    """`--problems` and the recipe of the rollout are remembered: no other problem set slips in."""
    assert recipe_of("r")["data"]["problems"] == "d/problems.jsonl"
    assert realm("distill", "--run", "r", "--data-only").code == 0
    assert not Path("r/problems.jsonl").exists()
    train = {r["id"] for r in rows(Path("d/problems.jsonl")) if r["split"] == "train" and "distill" in r["tags"]}
    assert {r["problem_id"] for r in rows(Path("r/distill/guided.jsonl"))} == train


def test_a_failed_command_does_not_change_the_runs_recipe(world: Path, realm: Realm) -> None:
    write_rows(Path("t.jsonl"), [{"id": "nobody", "text": "Answer: 1"}])
    assert realm("distill", "--run", "r", "--data-only", "--teacher", "jsonl:t.jsonl").code == 1
    assert recipe_of("r")["distill"]["teacher"] == "oracle"


def test_recipe_names_are_found_with_and_without_yaml(world: Path, realm: Realm) -> None:
    for name in ("demo", "demo.yaml"):
        result = realm("rollout", "-r", name, "--run", f"run-{name}", "--limit", 4, "-m", "solver:hasty", "--json")
        assert (result.code, json.loads(result.out)["problems"]) == (0, 4)
    assert recipe_of("run-demo")["name"] == "demo"
    assert len(rows(Path("run-demo/problems.jsonl"))) == 1200 + 160 + 600


def test_the_default_run_folder_is_named_after_the_recipe(world: Path, realm: Realm) -> None:
    Path("mine.yaml").write_text("name: mine\ndata: {domain: rulebook, n_train: 6, n_dev: 2, n_test: 2}\n")
    assert realm("rollout", "-r", "mine.yaml", "-m", "solver:hasty", "--n", 1).code == 0
    assert len(rows(Path("runs/mine/rollout/routes.jsonl"))) == 10


def test_written_routes_of_another_tool(world: Path, realm: Realm) -> None:
    given = [{"problem_id": r["id"], "text": f"1. fee {r['answer']}\nAnswer: {r['answer']}"}
             for r in rows(Path("d/problems.jsonl"))]  # fmt: skip
    write_rows(Path("x.jsonl"), given)
    result = realm("rollout", "--run", "n", "--problems", "d/problems.jsonl", "-m", "jsonl:x.jsonl", "--n", 2, "--json")
    assert json.loads(result.out)["sources"] == {"jsonl:x.jsonl": {"routes": 38, "correct": 1.0}}


# ---- verify


def test_verify_prints_and_writes_the_same_summary(world: Path, realm: Realm) -> None:
    before = snapshot(Path("r/verify"))
    result = realm("verify", "--run", "r", "--force", "--json")
    assert result.code == 0
    data = json.loads(result.out)
    assert data == json.loads(Path("r/verify/summary.json").read_text(encoding="utf-8"))
    assert data["routes"] == len(rows(Path("r/verify/scored.jsonl"))) == 38 * 6
    assert data["sets"] == len(rows(Path("r/verify/sets.jsonl"))) == 58  # no balanced set where every route is right
    after = snapshot(Path("r/verify"))
    assert {k: v for k, v in after.items() if "manifest" not in k} == {
        k: v for k, v in before.items() if "manifest" not in k
    }


def test_verify_resume_of_a_finished_stage_says_so(world: Path, realm: Realm) -> None:
    result = realm("verify", "--run", "r", "--resume")
    assert result.code == 0
    assert result.lines[0] == "r/verify: already complete"
    assert "route sets over 38 problems" in result.out


def test_verify_on_files_alone(world: Path, realm: Realm) -> None:
    result = realm(
        "verify", "--run", "n", "--problems", "d/problems.jsonl", "--routes", "r/rollout/routes.jsonl",
        "--set", "verify.k=3", "--set", "verify.sets_per_problem=1",
    )  # fmt: skip
    assert result.code == 0
    assert {len(s["shown"]) for s in rows(Path("n/verify/sets.jsonl"))} == {3}
    assert recipe_of("n/verify")["verify"]["k"] == 3


# ---- distill


def test_distill_with_the_oracle(world: Path, realm: Realm) -> None:
    result = realm("distill", "--run", "r", "--data-only", "--teacher", "oracle", "--set", "distill.min_steps=2",
                   "--rules", "d/rules.md", "--notes", "d/notes.md", "--json")  # fmt: skip
    data = json.loads(result.out)
    guided, sft = rows(Path("r/distill/guided.jsonl")), rows(Path("r/distill/sft.jsonl"))
    assert data["cots"] == len(guided) and data["kept"] == sum(r["kept"] for r in guided)
    assert all(r["correct"] and r["rule_check"] == "pass" and r["rules_shown"] for r in guided)
    assert data["kept"] == data["problems"]  # one each, all kept
    assert {s["kind"] for s in sft} == {"guided", "mrpv", "lemma"}
    lines = [line for line in Path("d/rules.md").read_text(encoding="utf-8").splitlines() if len(line) > 25]
    for sample in sft:
        prompt = "\n".join(m["content"] for m in sample["messages"])
        assert not any(line in prompt for line in lines)
    inputs = manifest_of("r/distill")["inputs"]
    assert set(inputs) == {"problems", "rules", "sets", "scored"}
    assert not Path("r/distill/adapter").exists()


def test_distill_from_written_cots_with_positives(world: Path, realm: Realm) -> None:
    train = [r for r in rows(Path("d/problems.jsonl")) if r["split"] == "train"]
    write_rows(Path("t.jsonl"), [{"id": r["id"], "text": r["gold_solution"]} for r in train])
    result = realm("distill", "--run", "n", "--problems", "d/problems.jsonl", "--data-only", "-t", "jsonl:t.jsonl",
                   "--positives", "r/rollout/routes.jsonl", "--set", "distill.min_steps=1", "--json")  # fmt: skip
    data = json.loads(result.out)
    right = [r for r in rows(Path("r/rollout/routes.jsonl")) if r["correct"] and "-train-" in r["problem_id"]]
    taught = {(r["problem_id"], tuple(r["steps"])) for r in rows(Path("n/distill/guided.jsonl")) if r["kept"]}
    other = {(r["problem_id"], tuple(r["steps"])) for r in right} - taught  # word for word the teacher's: left out
    kept = sum(min(2, count) for count in Counter(problem for problem, _ in other).values())
    assert data["samples"] == {"guided": data["kept"], **({"positive": kept} if kept else {})}
    assert recipe_of("n/distill")["distill"]["teacher"] == "jsonl:t.jsonl"


def test_distill_resume_of_a_finished_stage_does_nothing(world: Path, realm: Realm) -> None:
    assert realm("distill", "--run", "r", "--data-only").code == 0
    before = snapshot(Path("r"))
    result = realm("distill", "--run", "r", "--data-only", "--resume")
    assert (result.code, result.out) == (0, "")
    assert result.lines == ["r/distill: already complete; nothing to do (use --force to redo it)"]
    assert snapshot(Path("r")) == before


# ---- train-rl


def test_plan_only(world: Path, realm: Realm) -> None:
    result = realm("train-rl", "--run", "r", "--plan-only", "--steps", 20, "--eaai-steps", 10, "--schedule", "linear",
                   "--json")  # fmt: skip
    data = json.loads(result.out)
    plan = rows(Path("r/train_rl/plan.jsonl"))
    assert (data["rows"], data["steps"], data["eaai_steps"]) == (160, 20, 10)
    assert data["routed"] == sum(r["routed"] for r in plan) > 0
    assert [plan[8 * t]["lam"] for t in (0, 5, 9, 10, 19)] == pytest.approx([1.0, 0.5, 0.1, 0.0, 0.0])
    assert not any(r["routed"] for r in plan if r["step"] >= 10)
    for row in plan:
        prompt = "\n".join(m["content"] for m in row["messages"])
        assert ("[Route A]" in prompt) == row["routed"]
    assert manifest_of("r/train_rl")["status"] == "planned"
    settings = recipe_of("r/train_rl")["train_rl"]
    assert (settings["steps"], settings["eaai_steps"], settings["schedule"]) == (20, 10, "linear")


def test_train_rl_resume_of_a_finished_stage_does_nothing(world: Path, realm: Realm) -> None:
    assert realm("train-rl", "--run", "r", "--plan-only").code == 0
    path = Path("r/train_rl/manifest.json")
    path.write_text(path.read_text(encoding="utf-8").replace('"planned"', '"done"'), encoding="utf-8")
    before = snapshot(Path("r"))
    result = realm("train-rl", "--run", "r", "--resume")
    assert (result.code, result.out) == (0, "")
    assert result.lines == ["r/train_rl: already complete; nothing to do (use --force to redo it)"]
    assert snapshot(Path("r")) == before


def test_plan_of_plain_grpo_needs_no_sets(world: Path, realm: Realm) -> None:
    result = realm("train-rl", "--run", "n", "--problems", "d/problems.jsonl", "--schedule", "zero", "--plan-only",
                   "--steps", 3, "--adapter", "none", "--json")  # fmt: skip
    assert json.loads(result.out) == {"rows": 24, "routed": 0, "steps": 3, "eaai_steps": 1}


def test_the_runs_adapter_is_an_input_of_train_rl(world: Path, realm: Realm) -> None:
    write_adapter(Path("r/distill/adapter"))
    assert realm("train-rl", "--run", "r", "--plan-only").code == 0
    assert manifest_of("r/train_rl")["inputs"]["adapter"]["path"] == "r/distill/adapter"
    assert realm("train-rl", "--run", "r", "--plan-only", "--adapter", "none", "--force").code == 0
    assert "adapter" not in manifest_of("r/train_rl")["inputs"]


def test_a_rollout_of_a_model_that_was_replaced_is_refused(world: Path, realm: Realm, tiny_student: Path) -> None:
    shutil.copytree(tiny_student, "own")
    words = ["rollout", "--run", "n", "--problems", "d/problems.jsonl", "-m", "hf:own", "--limit", 2]
    words += ["--set", "rollout.max_tokens=8", "--n"]
    assert realm(*words, 1).code == 0
    assert list(manifest_of("n/rollout")["models"]) == ["hf:own"]
    assert realm(*words, 2).code == 0
    weights = Path("own/model.safetensors")
    data = weights.read_bytes()
    weights.write_bytes(data[:-4] + bytes(4))
    result = realm(*words, 3)
    assert result.code == 1
    assert result.lines == ["error: n/rollout: the files of hf:own have changed since; use --force to redo the stage"]
    assert len(rows(Path("n/rollout/routes.jsonl"))) == 4
