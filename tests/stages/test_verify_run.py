"""realm verify-run: what was changed, lost or added by hand is named; the chain from outputs to inputs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from realm_cli.artifacts import write_rows
from realm_cli.errors import ArtifactError
from realm_cli.recipe import Recipe, parse_recipe
from realm_cli.run_folder import open_stage
from realm_cli.stages.summary import Summary
from realm_cli.stages.verify_run import run_verify_run
from stages.helpers import apples

RECIPE: Recipe = parse_recipe({}, "test")


def made(run: Path) -> Path:
    """rollout (two files) -> verify (one file, from rollout's), both finished."""
    stage = open_stage(run, "rollout", RECIPE, {})
    write_rows(stage.path("problems.jsonl"), [apples(0), apples(1)])
    stage.path("notes.txt").write_text("n")
    stage.finish()
    stage = open_stage(run, "verify", RECIPE, {"problems": run / "rollout" / "problems.jsonl"})
    write_rows(stage.path("sets.jsonl"), [apples(2)])
    stage.finish()
    return run


def problems(run: Path) -> list[str]:
    found: list[str] = run_verify_run(run).data["problems"]
    return found


def test_an_untouched_run_is_as_recorded(tmp_path: Path) -> None:
    summary: Summary = run_verify_run(made(tmp_path))
    assert summary.data == {"stages": 2, "problems": []}
    assert summary.tables[0].rows == [
        ["rollout", "done", "2", "2", "0", "yes"],
        ["verify", "done", "1", "1", "1", "yes"],
    ]
    assert summary.notes == []


def test_a_changed_row_is_named_with_the_stage_that_read_it(tmp_path: Path) -> None:
    path = made(tmp_path) / "rollout" / "problems.jsonl"
    path.write_text(path.read_text().splitlines()[0] + "\n")
    assert problems(tmp_path) == [
        f"{path}: changed after the stage ended, 1 rows for 2",
        f"{path}: has changed since it was read as problems",
    ]


def test_lost_added_and_unfinished_are_named(tmp_path: Path) -> None:
    made(tmp_path)
    (tmp_path / "rollout" / "notes.txt").unlink()
    (tmp_path / "verify" / "extra.jsonl").write_text("")
    (tmp_path / "verify" / "checkpoints").mkdir()
    (tmp_path / "verify" / "checkpoints" / "state").write_text("")
    open_stage(tmp_path, "distill", RECIPE, {})
    assert sorted(problems(tmp_path)) == [
        f"{tmp_path / 'distill'}: running, not finished; continue it with --resume",
        f"{tmp_path / 'rollout' / 'notes.txt'}: gone; redo the stage with --force",
        f"{tmp_path / 'verify' / 'extra.jsonl'}: not in the manifest; it was added later",
    ]


def test_stages_within_a_folder_are_found(tmp_path: Path) -> None:
    made(tmp_path / "refine")
    summary = run_verify_run(tmp_path)
    assert [row[0] for row in summary.tables[0].rows] == ["refine/rollout", "refine/verify"]


def test_other_versions_are_a_note_not_a_problem(tmp_path: Path) -> None:
    path = made(tmp_path) / "verify" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["versions"]["torch"] = "0.0.1"
    path.write_text(json.dumps(manifest))
    summary = run_verify_run(tmp_path)
    assert summary.data["problems"] == []
    (note,) = summary.notes
    assert note.startswith("made with other versions: torch 0.0.1 (now ")


def test_no_manifest_and_a_broken_one_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"no manifest.json below it; give a run folder"):
        run_verify_run(tmp_path)
    made(tmp_path)
    (tmp_path / "verify" / "manifest.json").write_text("{")
    with pytest.raises(ArtifactError, match=r"manifest.json: not a manifest; restore it, or redo the stage"):
        run_verify_run(tmp_path)
