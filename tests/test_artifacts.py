"""Rows on disk: reading with line numbers, atomic writes, append and repair, digests, the resume/force rule."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realm_cli import artifacts
from realm_cli.artifacts import Appender, Stage, digest, iter_rows, open_stage, read_rows, write_rows, write_text
from realm_cli.errors import ArtifactError, DataError
from realm_cli.records import Problem, Route
from realm_cli.recipe import Recipe, parse_recipe


def problem(name: str, **fields: Any) -> Problem:
    return Problem(id=name, question=f"What is {name}?", answer="1", **fields)


def recipe(**blocks: Any) -> Recipe:
    return parse_recipe(blocks, "test")


# ---- reading


def test_rows_come_back_as_written(tmp_path: Path) -> None:
    rows = [problem("a", tags=["distill"]), problem("b", choices=["x", "y"], tolerance=0.5)]
    write_rows(tmp_path / "p.jsonl", rows)
    assert read_rows(tmp_path / "p.jsonl", Problem) == rows


def test_blank_lines_are_skipped_but_counted(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(f"{problem('a').model_dump_json()}\n\n  \n{{broken\n", encoding="utf-8")
    rows = iter_rows(path, Problem)
    assert next(rows).id == "a"
    with pytest.raises(DataError) as error:
        next(rows)
    assert str(error.value).startswith(f"{path}:4: broken JSON (")
    assert str(error.value).endswith("); mend or delete the line")


BAD_LINES = {
    "wrong type": ('{"id": "a", "question": 5, "answer": "1"}', "field question: input should be a valid string"),
    "missing field": ('{"id": "a", "question": "q"}', "field answer: field required"),
    "unknown field": ('{"id": "a", "question": "q", "answer": "1", "anser": "2"}', "field anser: unknown field; known"),
    "bad split": ('{"id": "a", "question": "q", "answer": "1", "split": "tset"}', "field split: input should be 'tra"),
    "list": ("[1, 2]", "input should be an object; a Problem row is expected"),
    "empty id": ('{"id": "", "question": "q", "answer": "1"}', "field id: string should have at least 1 character"),
}


@pytest.mark.parametrize(("line", "said"), BAD_LINES.values(), ids=BAD_LINES)
def test_a_bad_line_is_named_with_its_number(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(f"{problem('ok').model_dump_json()}\n{line}\n", encoding="utf-8")
    with pytest.raises(DataError) as error:
        read_rows(path, Problem)
    assert str(error.value).startswith(f"{path}:2: {said}")
    assert "\n" not in str(error.value)


def test_unknown_field_lists_the_known_ones(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text('{"id": "a", "problem_id": "p", "source": "s", "text": "t", "score": 1}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"field score: unknown field; known fields: id, schema_version, problem_id"):
        read_rows(path, Route)


def test_missing_file_says_what_makes_it(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    with pytest.raises(DataError) as error:
        read_rows(path, Problem, made_by="realm rollout")
    assert str(error.value) == f"{path}: not found; make it with `realm rollout`"
    with pytest.raises(DataError) as error:
        read_rows(path, Problem)
    assert str(error.value) == f"{path}: not found; check the path"


def test_folder_and_binary_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is a folder; give a \.jsonl file"):
        read_rows(tmp_path, Problem)
    path = tmp_path / "p.jsonl"
    path.write_bytes(b'{"id": "\xff\xfe"}\n')
    with pytest.raises(DataError, match=r"p\.jsonl: not UTF-8 text; give a \.jsonl file"):
        read_rows(path, Problem)


def test_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match="not readable; check its permissions"):
        read_rows(tmp_path / "p.jsonl", Problem)


def test_empty_file_is_refused_unless_allowed(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text("\n", encoding="utf-8")
    with pytest.raises(DataError) as error:
        read_rows(path, Problem, made_by="realm rollout")
    assert str(error.value) == f"{path}: no rows; run `realm rollout` again"
    with pytest.raises(DataError, match="no rows; give a file with rows"):
        read_rows(path, Problem)
    assert read_rows(path, Problem, allow_empty=True) == []


def test_doubled_id_names_both_rows(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    write_rows(path, [problem("a"), problem("b"), problem("a")])
    with pytest.raises(DataError, match="id 'a' stands in rows 1 and 3; ids must be unique"):
        read_rows(path, Problem)


# ---- writing


def test_write_text_leaves_no_temporary_and_replaces_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "f.txt"
    write_text(path, "one")
    write_text(path, "zwei\n")
    assert path.read_text(encoding="utf-8") == "zwei\n"
    assert os.listdir(path.parent) == ["f.txt"]


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f.txt"
    write_text(path, "old")

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ArtifactError) as error:
        write_text(path, "new")
    assert str(error.value) == f"{path}: cannot be written (No space left on device); check space and permissions"
    assert path.read_text(encoding="utf-8") == "old"


def test_writing_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(ArtifactError, match="cannot be written"):
        write_text(tmp_path / "file" / "x.json", "1")
    with pytest.raises(ArtifactError, match=r"cannot be written \(.*\); check permissions"):
        Appender(tmp_path / "file" / "x.jsonl")


def test_appender_flushes_each_row(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    with Appender(path) as out:
        out.add(problem("a"))
        assert len(path.read_text(encoding="utf-8").splitlines()) == 1
        out.add({"step": 1, "text": "Gebühr"})
        assert json.loads(path.read_text(encoding="utf-8").splitlines()[1]) == {"step": 1, "text": "Gebühr"}


def test_appender_on_a_full_disk(tmp_path: Path) -> None:
    class Full:
        def write(self, text: str) -> None:
            raise OSError(28, "No space left on device")

        def close(self) -> None:
            pass

    with Appender(tmp_path / "p.jsonl") as out:
        out._out.close()
        out._out = Full()  # type: ignore[assignment]
        with pytest.raises(ArtifactError, match=r"\(No space left on device\); free some space, then rerun with --res"):
            out.add(problem("a"))


def test_a_cut_last_line_is_dropped_on_opening(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    whole = problem("a").model_dump_json() + "\n"
    path.write_text(whole + problem("b").model_dump_json()[:25], encoding="utf-8")
    with Appender(path) as out:
        out.add(problem("c"))
    assert [row.id for row in read_rows(path, Problem)] == ["a", "c"]


def test_a_file_that_is_one_cut_line_becomes_empty(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"id": "a', encoding="utf-8")
    with Appender(path):
        pass
    assert path.read_bytes() == b""


@given(names=st.lists(st.from_regex(r"[a-z]{1,6}", fullmatch=True), unique=True, min_size=1), cut=st.integers(0, 10_000))
def test_any_cut_loses_at_most_the_line_it_hit(names: list[str], cut: int, tmp_path_factory: Any) -> None:
    path = tmp_path_factory.mktemp("cut") / "p.jsonl"
    write_rows(path, [problem(name) for name in names])
    data = path.read_bytes()
    kept = data[: cut % (len(data) + 1)]
    path.write_bytes(kept)
    with Appender(path):
        pass
    rows = read_rows(path, Problem, allow_empty=True)
    assert [row.id for row in rows] == names[: kept.count(b"\n")]


def test_keep_steps_drops_the_tail_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    with Appender(path) as out:
        for step in range(5):
            out.add({"step": step, "x": step * step})
        out.keep_steps(3)
        out.add({"step": 3, "x": -1})
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert rows == [{"step": 0, "x": 0}, {"step": 1, "x": 1}, {"step": 2, "x": 4}, {"step": 3, "x": -1}]


def test_digest_of_file_and_folder(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"two")
    (tmp_path / "a").write_bytes(b"one")
    assert digest(tmp_path / "a") == hashlib.sha256(b"one").hexdigest()
    assert digest(tmp_path) == hashlib.sha256(b"onetwo").hexdigest()  # in name order


# ---- stages


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
    assert done["versions"]["realm"] == artifacts.versions()["realm"]
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
        f"{tmp_path / 'train_rl'}: its input sets ({source}) has changed since; use --force to redo the stage"
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
    assert artifacts._git_revision() is None


def test_versions_leave_out_what_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "_LIBRARIES", ("no-such-library-here", "pydantic"))
    assert set(artifacts.versions()) == {"realm", "python", "pydantic"}
