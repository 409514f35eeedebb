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

from realm_cli.artifacts import Appender, digest, iter_rows, read_rows, write_rows, write_text
from realm_cli.errors import ArtifactError, DataError
from realm_cli.records import Problem, Route


def problem(name: str, **fields: Any) -> Problem:
    return Problem(id=name, question=f"What is {name}?", answer="1", **fields)


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


@given(
    names=st.lists(st.from_regex(r"[a-z]{1,6}", fullmatch=True), unique=True, min_size=1), cut=st.integers(0, 10_000)
)
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
