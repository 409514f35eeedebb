"""A stage's folder: the resume/force rule, recipe.json and manifest.json."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from realm_cli import run_folder
from realm_cli.artifacts import Appender, digest
from realm_cli.errors import ArtifactError
from realm_cli.recipe import Recipe, parse_recipe
from realm_cli.run_folder import Stage, open_stage


def recipe(**blocks: Any) -> Recipe:
    return parse_recipe(blocks, "test")


def test_manifest_and_recipe_are_written(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_bytes(b"rows\n")
    stage = open_stage(tmp_path, "rollout", recipe(seed=7), {"problems": source, "none": None})
    running = json.loads(stage.path("manifest.json").read_text(encoding="utf-8"))
    assert (running["stage"], running["status"], running["seed"]) == ("rollout", "running", 7)
    assert running["inputs"] == {"problems": {"path": str(source), "sha256": hashlib.sha256(b"rows\n").hexdigest()}}
    assert not stage.done
    with Appender(stage.path("routes.jsonl")) as out:
        out.add({"a": 1})
        out.add({"a": 2})
    (stage.folder / "checkpoints").mkdir()
    (stage.folder / "checkpoints" / "big.bin").write_bytes(b"0" * 10)
    (stage.folder / "adapter").mkdir()
    (stage.folder / "adapter" / "w.safetensors").write_bytes(b"w")
    stage.finish(best=3)
    done = json.loads(stage.path("manifest.json").read_text(encoding="utf-8"))
    assert (done["status"], done["best"]) == ("done", 3)
    assert done["outputs"] == {
        "adapter/w.safetensors": {"sha256": hashlib.sha256(b"w").hexdigest()},
        "routes.jsonl": {"sha256": hashlib.sha256(b'{"a": 1}\n{"a": 2}\n').hexdigest(), "rows": 2},
    }
    assert stage.done
    assert done["versions"]["realm"] == run_folder.versions()["realm"]
    assert json.loads(stage.path("recipe.json").read_text(encoding="utf-8"))["train_rl"]["eaai_steps"] is None


def test_filled_stage_is_refused_then_forced(tmp_path: Path) -> None:
    stage = open_stage(tmp_path, "verify", recipe(), {})
    stage.path("scored.jsonl").write_text("x\n", encoding="utf-8")
    with pytest.raises(ArtifactError) as error:
        open_stage(tmp_path, "verify", recipe(), {})
    assert str(error.value) == (
        f"{tmp_path / 'verify'}: already holds a verify stage; add --resume to continue it or --force to redo it"
    )
    assert stage.path("scored.jsonl").exists()
    open_stage(tmp_path, "verify", recipe(), {}, force=True)
    assert sorted(os.listdir(tmp_path / "verify")) == ["manifest.json", "recipe.json"]


def test_an_empty_folder_is_not_filled(tmp_path: Path) -> None:
    (tmp_path / "verify").mkdir()
    assert open_stage(tmp_path, "verify", recipe(), {}).folder == tmp_path / "verify"


def test_resume_names_the_changed_keys(tmp_path: Path) -> None:
    open_stage(tmp_path, "train_rl", recipe(train_rl={"steps": 10, "eaai_steps": 4}), {})
    changed = recipe(seed=1, train_rl={"steps": 10, "eaai_steps": 5, "bridge": {"beta": 0}})
    with pytest.raises(ArtifactError) as error:
        open_stage(tmp_path, "train_rl", changed, {}, resume=True)
    assert str(error.value) == (
        f"{tmp_path / 'train_rl'}: made with another recipe (seed: 0 -> 1, train_rl.eaai_steps: 4 -> 5, "
        "train_rl.bridge.beta: 8.0 -> 0.0); use --force or another --run"
    )


def test_a_key_that_an_older_version_did_not_have_is_no_change(tmp_path: Path) -> None:
    stage = open_stage(tmp_path, "train_rl", recipe(train_rl={"steps": 10}), {})
    old = json.loads(stage.path("recipe.json").read_text())
    del old["train_rl"]["refill"], old["refine"]
    stage.path("recipe.json").write_text(json.dumps(old))
    open_stage(tmp_path, "train_rl", recipe(train_rl={"steps": 10}), {}, resume=True)
    stage.path("recipe.json").write_text(json.dumps(old))
    with pytest.raises(ArtifactError, match=r"made with another recipe \(train_rl\.refill: 0 -> 2\)"):
        open_stage(tmp_path, "train_rl", recipe(train_rl={"steps": 10, "refill": 2}), {}, resume=True)


def test_a_key_that_is_no_more_is_a_change(tmp_path: Path) -> None:
    stage = open_stage(tmp_path, "train_rl", recipe(), {})
    old = json.loads(stage.path("recipe.json").read_text())
    old["train_rl"]["gone"] = 1
    stage.path("recipe.json").write_text(json.dumps(old))
    with pytest.raises(ArtifactError, match=r"train_rl\.gone: 1 -> None"):
        open_stage(tmp_path, "train_rl", recipe(), {}, resume=True)


def test_resume_ignores_other_stages_blocks(tmp_path: Path) -> None:
    open_stage(tmp_path, "verify", recipe(), {})
    other = recipe(train_rl={"steps": 3}, name="renamed", engine={"threads": 2})
    assert open_stage(tmp_path, "verify", other, {}, resume=True).recipe.train_rl.steps == 3


def test_a_rollout_may_grow_but_not_change_its_sampling(tmp_path: Path) -> None:
    open_stage(tmp_path, "rollout", recipe(rollout={"n": 2}), {}, append=True)
    open_stage(tmp_path, "rollout", recipe(rollout={"n": 4, "limit": 9, "models": ["solver:x"]}), {}, append=True)
    with pytest.raises(ArtifactError, match=r"rollout\.temperature: 0\.7 -> 0\.1"):
        open_stage(tmp_path, "rollout", recipe(rollout={"temperature": 0.1}), {}, append=True)


def test_resume_with_a_changed_input_names_it(tmp_path: Path) -> None:
    source = tmp_path / "sets.jsonl"
    source.write_text("1\n", encoding="utf-8")
    open_stage(tmp_path, "train_rl", recipe(), {"sets": source})
    open_stage(tmp_path, "train_rl", recipe(), {"sets": source}, resume=True)
    source.write_text("2\n", encoding="utf-8")
    with pytest.raises(ArtifactError) as error:
        open_stage(tmp_path, "train_rl", recipe(), {"sets": source}, resume=True)
    assert str(error.value) == (
        f"{tmp_path / 'train_rl'}: its input sets ({source}) has changed since; use --force to redo the stage, "
        "or another --run"
    )


def test_append_stage_accepts_more_problems(tmp_path: Path) -> None:
    source = tmp_path / "problems.jsonl"
    source.write_text("1\n", encoding="utf-8")
    open_stage(tmp_path, "rollout", recipe(), {"problems": source}, append=True)
    source.write_text("1\n2\n", encoding="utf-8")
    stage = open_stage(tmp_path, "rollout", recipe(), {"problems": source}, append=True)
    found = json.loads(stage.path("manifest.json").read_text(encoding="utf-8"))["inputs"]["problems"]["sha256"]
    assert found == digest(source)


def test_resuming_a_done_stage_keeps_its_manifest(tmp_path: Path) -> None:
    open_stage(tmp_path, "distill", recipe(), {}).finish()
    before = (tmp_path / "distill" / "manifest.json").read_bytes()
    again = open_stage(tmp_path, "distill", recipe(), {}, resume=True)
    assert again.done
    assert (tmp_path / "distill" / "manifest.json").read_bytes() == before


def test_facts_noted_while_running_are_there_for_the_next_run(tmp_path: Path) -> None:
    stage = open_stage(tmp_path, "rollout", recipe(), {}, append=True)
    assert stage.earlier == {}
    stage.note(student_sources=["hf:x"])  # interrupted after this
    again = open_stage(tmp_path, "rollout", recipe(), {}, append=True)
    assert (again.earlier["student_sources"], again.earlier["status"]) == (["hf:x"], "running")
    again.note(student_sources=["hf:x", "hf:y"])
    again.finish()
    manifest = json.loads(again.path("manifest.json").read_text(encoding="utf-8"))
    assert (manifest["student_sources"], manifest["status"]) == (["hf:x", "hf:y"], "done")
    assert open_stage(tmp_path, "rollout", recipe(), {}, force=True).earlier == {}


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"file/eval: cannot be made \(.*\); choose another --run"):
        open_stage(tmp_path / "file", "eval", recipe(), {})


def test_a_broken_or_odd_manifest_reads_as_not_done(tmp_path: Path) -> None:
    stage = Stage(tmp_path, "eval", recipe())
    assert not stage.done
    stage.path("manifest.json").write_text("{cut", encoding="utf-8")
    assert not stage.done
    stage.path("manifest.json").write_text("[1]", encoding="utf-8")
    assert not stage.done


def test_another_folder_name(tmp_path: Path) -> None:
    assert open_stage(tmp_path, "eval", recipe(), {}, folder="eval_dev").folder == tmp_path / "eval_dev"


def test_git_revision_is_absent_without_git(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert run_folder._git_revision() is None


def test_versions_leave_out_what_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_folder, "_LIBRARIES", ("no-such-library-here", "pydantic"))
    assert set(run_folder.versions()) == {"realm", "python", "pydantic"}


HOLDER = """
import sys, time
from pathlib import Path
from realm_cli.recipe import parse_recipe
from realm_cli.run_folder import open_stage
open_stage(Path(sys.argv[1]), "verify", parse_recipe({}, "test"), {})
print("held", flush=True)
time.sleep(60)
"""


def test_a_second_process_is_refused_and_a_dead_one_holds_nothing(tmp_path: Path) -> None:
    source = Path(run_folder.__file__).resolve().parents[1]
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(source)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        for given in ({}, {"resume": True}, {"force": True}):
            with pytest.raises(ArtifactError) as error:
                open_stage(tmp_path, "verify", recipe(), {}, **given)
            assert str(error.value) == (
                f"{tmp_path / 'verify'}: another realm process is writing it; wait for it, stop it, "
                "or choose another --run"
            )
        assert open_stage(tmp_path, "distill", recipe(), {}).folder.is_dir()  # other stages are free
        assert (tmp_path / "verify" / "manifest.json").exists()  # --force emptied nothing
    finally:
        process.kill()
        process.wait()
    assert open_stage(tmp_path, "verify", recipe(), {}, resume=True).folder == tmp_path / "verify"


def test_the_same_process_may_open_a_stage_again(tmp_path: Path) -> None:
    open_stage(tmp_path, "verify", recipe(), {})
    assert open_stage(tmp_path, "verify", recipe(), {}, resume=True)


def test_a_file_system_without_locks_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(self: Any, **given: Any) -> None:
        raise NotImplementedError

    monkeypatch.setattr(run_folder.FileLock, "acquire", none)
    assert open_stage(tmp_path, "verify", recipe(), {}).folder.is_dir()


def test_a_model_whose_files_changed_is_refused(tmp_path: Path) -> None:
    stage = open_stage(tmp_path, "eval", Recipe(), {})
    stage.same_model("hf:m", "one")
    stage.same_model("hf:n", "two")
    stage.same_model("server", "")  # unknown
    assert json.loads(stage.path("manifest.json").read_text())["models"] == {"hf:m": "one", "hf:n": "two"}
    again = open_stage(tmp_path, "eval", Recipe(), {}, resume=True)
    again.same_model("hf:m", "one")
    with pytest.raises(ArtifactError) as error:
        again.same_model("hf:n", "other")
    assert str(error.value) == (
        f"{tmp_path / 'eval'}: the files of hf:n have changed since; use --force to redo the stage"
    )
