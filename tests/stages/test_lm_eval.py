"""An evaluation in lm-evaluation-harness's shape: its keys, and numbers that are those of the report."""

from __future__ import annotations

import datetime
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fakes import ScriptedGenerator, no_progress
from realm_cli.artifacts import write_rows
from realm_cli.errors import ArtifactError, DataError
from realm_cli.protocols import GenRequest
from realm_cli.recipe import parse_recipe
from realm_cli.records import Message, Mode
from realm_cli.run_folder import open_stage
from realm_cli.stages.evaluate import run_eval
from realm_cli.stages.lm_eval import write_lm_eval
from stages.helpers import apples, bare_right, bare_slip, gold, load, pool

PROBLEMS = [apples(i, "test") for i in range(4)]
WHEN = datetime.datetime(2026, 1, 2, 3, 4, 5)
DATE = "2026-01-02T03-04-05"
# What lm_eval/loggers/evaluation_tracker.py and evaluator.py (0.4) write for a task like gsm8k.
SAMPLE_KEYS = {
    "doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics", "doc_hash", "prompt_hash",
    "target_hash", "exact_match",
}  # fmt: skip
RESULT_KEYS = {
    "results", "group_subtasks", "configs", "versions", "n-shot", "higher_is_better", "n-samples", "config", "date",
    "task_hashes", "model_source", "model_name", "model_name_sanitized", "transformers_version",
}  # fmt: skip


def evaluated(
    folder: Path,
    modes: Sequence[Mode],
    *,
    rules: str = "",
    label: str = "sft",
    asked: dict[str, list[Message]] | None = None,
    **config: Any,
) -> Path:
    """A run with a finished evaluation: problems 0 and 2 are solved, 3 without the answer tag."""

    def script(request: GenRequest, sample: int) -> str:
        assert request.problem
        if asked is not None:
            asked[request.key] = request.messages
        i = int(request.problem.id[1:])
        if i == 3:
            return f"So the answer is {gold(i)}."
        return str(bare_right(i) if i == 0 or (i == 2 and sample == 0) else bare_slip(i))

    run = folder / "run"
    write_rows(folder / "problems.jsonl", PROBLEMS)
    write_rows(folder / "routes.jsonl", [row for i in range(4) for row in pool(i)])
    inputs = {"problems": folder / "problems.jsonl", "routes": folder / "routes.jsonl"}
    recipe = parse_recipe({"eval": {"bootstrap": 200, "k": 4, **config}, "data": {"domain": "rulebook"}}, "test")
    stage = open_stage(run, "eval", recipe, inputs)
    models = {label: lambda: ScriptedGenerator(script)}
    run_eval(stage, PROBLEMS, models, inputs["routes"], modes=modes, compare=False, progress=no_progress, rules=rules)
    stage.finish()
    return run


def test_keys_and_numbers_are_the_harnesss(tmp_path: Path) -> None:
    run = evaluated(tmp_path, ["bare", "routed"])
    made = write_lm_eval(run, tmp_path / "out", when=WHEN)
    place = tmp_path / "out" / "sft"
    names = [f"samples_realm_rulebook_{mode}_{DATE}.jsonl" for mode in ("bare", "routed")] + [f"results_{DATE}.json"]
    assert made == [place / name for name in names] and sorted(p.name for p in place.iterdir()) == sorted(names)

    results = json.loads((place / names[2]).read_text())
    assert set(results) >= RESULT_KEYS
    scores = results["results"]["realm_rulebook_bare"]
    assert set(scores) == {
        "alias", "exact_match,strict-match", "exact_match_stderr,strict-match", "exact_match,flexible-extract",
        "exact_match_stderr,flexible-extract",
    }  # fmt: skip
    report = json.loads((run / "eval" / "report.json").read_text())
    for row in report["results"]:
        told = results["results"][f"realm_rulebook_{row['mode']}"]
        assert told["exact_match,strict-match"] == pytest.approx(row["accuracy"])
        assert told["exact_match,flexible-extract"] == pytest.approx(row["accuracy_flexible"])
    assert scores["exact_match,strict-match"] == 0.5 and scores["exact_match,flexible-extract"] == 0.75
    assert scores["exact_match_stderr,strict-match"] == pytest.approx(statistics.stdev([1, 0, 1, 0]) / 2)
    assert results["n-samples"]["realm_rulebook_bare"] == {"original": 4, "effective": 4}
    for key in ("configs", "versions", "n-shot", "higher_is_better", "group_subtasks", "task_hashes"):
        assert set(results[key]) == {"realm_rulebook_bare", "realm_rulebook_routed"}


def test_samples_hold_what_was_asked_and_answered(tmp_path: Path) -> None:
    asked: dict[str, list[Message]] = {}
    run = evaluated(tmp_path, ["bare", "routed", "routed_hidden"], asked=asked)
    write_lm_eval(run, tmp_path / "out", when=WHEN)
    bare = load(tmp_path / "out" / "sft" / f"samples_realm_rulebook_bare_{DATE}.jsonl")
    assert len(bare) == 8 and all(set(row) == SAMPLE_KEYS for row in bare)
    strict = {row["doc"]["id"]: row for row in bare if row["filter"] == "strict-match"}
    row = strict["p0"]
    assert row["target"] == gold(0) and row["filtered_resps"] == [gold(0)] and row["exact_match"] == 1.0
    assert row["resps"] == [[bare_right(0)]] and row["metrics"] == ["exact_match"]
    for mode in ("bare", "routed", "routed_hidden"):
        told = load(tmp_path / "out" / "sft" / f"samples_realm_rulebook_{mode}_{DATE}.jsonl")
        for line in told:
            assert json.loads(line["arguments"]["gen_args_0"]["arg_0"]) == asked[f"{line['doc']['id']}/{mode}"]
    assert row["arguments"]["gen_args_0"]["arg_1"] == {
        "until": [], "do_sample": False, "temperature": 0.0, "max_gen_toks": 768,
    }  # fmt: skip
    assert strict["p3"]["filtered_resps"] == ["[invalid]"] and strict["p3"]["exact_match"] == 0.0
    (loose,) = (row for row in bare if row["doc"]["id"] == "p3" and row["filter"] == "flexible-extract")
    assert loose["exact_match"] == 1.0


def test_several_samples_are_averaged(tmp_path: Path) -> None:
    run = evaluated(tmp_path, ["bare"], n=2)
    write_lm_eval(run, tmp_path / "out", when=WHEN)
    rows = load(tmp_path / "out" / "sft" / f"samples_realm_rulebook_bare_{DATE}.jsonl")
    found = {row["doc"]["id"]: row for row in rows if row["filter"] == "strict-match"}
    assert [found[f"p{i}"]["exact_match"] for i in range(4)] == [1.0, 0.0, 0.5, 0.0]
    assert len(found["p2"]["resps"][0]) == len(found["p2"]["filtered_resps"]) == 2
    results = json.loads((tmp_path / "out" / "sft" / f"results_{DATE}.json").read_text())
    assert results["configs"]["realm_rulebook_bare"]["repeats"] == 2


def test_the_rules_text_is_not_written(tmp_path: Path) -> None:
    run = evaluated(tmp_path, ["ruled"], rules="R1: a secret surcharge of 7.")
    made = write_lm_eval(run, tmp_path / "out", when=WHEN)
    for path in made:
        assert "secret surcharge" not in path.read_text()
    assert "[rules left out; sha256" in made[0].read_text()


def test_a_models_label_leads_nowhere_else(tmp_path: Path) -> None:
    run = evaluated(tmp_path, ["bare"], label="../../a:b")
    made = write_lm_eval(run, tmp_path / "out", when=WHEN)
    assert {path.parent for path in made} == {tmp_path / "out" / "..__..__a__b"}
    run = evaluated(tmp_path / "dots", ["bare"], label="..")
    assert {path.parent.name for path in write_lm_eval(run, tmp_path / "out", when=WHEN)} == {"model"}


def test_what_is_missing_or_changed_is_told(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no finished evaluation; run `realm eval --run"):
        write_lm_eval(tmp_path / "none", tmp_path / "out", when=WHEN)
    run = evaluated(tmp_path, ["routed"])
    write_rows(tmp_path / "routes.jsonl", [])
    with pytest.raises(DataError, match="shown in the evaluation, not among the run's routes now"):
        write_lm_eval(run, tmp_path / "out", when=WHEN)
    write_rows(tmp_path / "problems.jsonl", PROBLEMS[:1])
    with pytest.raises(DataError, match=r"problems.jsonl: changed since the evaluation; restore it"):
        write_lm_eval(run, tmp_path / "out", when=WHEN)
    (tmp_path / "problems.jsonl").unlink()
    with pytest.raises(DataError, match=r"problems.jsonl: gone, and the evaluation read it"):
        write_lm_eval(run, tmp_path / "out", when=WHEN)
    assert not (tmp_path / "out").exists()
