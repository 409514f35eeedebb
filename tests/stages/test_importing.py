"""Tables of all kinds as problems."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realm_cli.errors import ConfigError, DataError
from realm_cli.method.answers import is_correct
from realm_cli.stages.import_splits import split_of
from realm_cli.stages.importing import Columns, Imported, Options, convert
from realm_cli.stages.table_files import read_table

QA = Columns(question="q", answer="a")


def table(*rows: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [(f"line {i}", row) for i, row in enumerate(rows, 1)]


def answers(found: Imported) -> list[str]:
    return [problem.answer for problem in found.problems]


@pytest.mark.parametrize(
    ("name", "data", "cells"),
    [
        ("x.csv", b'q,a\n"one, two",3\n', {"q": "one, two", "a": "3"}),
        ("x.csv", "\ufeffq;a\nwie viel?;1,5\n".encode(), {"q": "wie viel?", "a": "1,5"}),
        ("x.csv", "q,a\ncafé,1\n".encode("cp1252"), {"q": "café", "a": "1"}),
        ("x.csv", b'q,a\n"two\nlines",1\n', {"q": "two\nlines", "a": "1"}),
        ("x.tsv", b"q\ta\none, two\t3\n", {"q": "one, two", "a": "3"}),
        ("x.jsonl", b'\n{"q": "x", "a": 3}\n', {"q": "x", "a": 3}),
        ("x.json", b'[{"q": "x", "a": 3}]', {"q": "x", "a": 3}),
        ("x.csv", b"sep=;\r\nq;a\r\nx;1\r\n", {"q": "x", "a": "1"}),
        ("x.csv", b'"q";"a, b, or c"\nx;1\n', {"q": "x", "a, b, or c": "1"}),
        ("x.csv", "q\ta\ncaf\u00e9\t1\n".encode("utf-16"), {"q": "caf\u00e9", "a": "1"}),
        ("x.csv", b" q , a \nx,1\n", {"q": "x", "a": "1"}),
        ("x.csv", b",q,a,,\n0,x,1,,\n", {"q": "x", "a": "1"}),
        ("x.jsonl", '{"q": "x\u2028\u0085y", "a": 3}\n'.encode(), {"q": "x\u2028\x85y", "a": 3}),
        ("x.json", b'{"sizes": [1, 2], "data": [{"q": "x", "a": 3}]}', {"q": "x", "a": 3}),
        ("x.json", b'{"version": 1, "data": [{"q": "x", "a": 3}]}', {"q": "x", "a": 3}),
    ],
)
def test_tables_are_read(name: str, data: bytes, cells: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    rows, notes = read_table(path)
    assert [row for _, row in rows] == [cells]
    assert bool(notes) == (b";" in data or b"\xe9" in data or (b"\t" in data and name == "x.csv"))


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("none.csv", None, "No such file"),
        ("x.csv", b"", "no rows"),
        ("x.csv", b"q,a\n", "no rows"),
        ("x.csv", b"q,q\n1,2\n", "two columns are named 'q'"),
        ("x.csv", b"\x00\x01\x02\x00", "not a text table"),
        ("x.jsonl", b'{"q": 1}\n{broken\n', "x.jsonl:2: broken JSON"),
        ("x.jsonl", b'{"q": 1}\n\n\n{broken\n', "x.jsonl:4: broken JSON"),
        ("x.xlsx", b"PK", "x.xlsx: a spreadsheet; save it as CSV"),
        ("x.jsonl", b"[1]\n", "line 1 is not an object"),
        ("x.json", b"{", "broken JSON"),
        ("x.json", b"[" * 100_000, "broken JSON"),
    ],
)
def test_what_is_no_table_is_one_line(name: str, data: bytes | None, says: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(DataError, match=says):
        read_table(path)


def test_columns_that_are_not_there_are_named_with_those_that_are() -> None:
    for columns, says in (
        (Columns("text", "a"), "--question text: the table has no such column; it has q, a"),
        (Columns("{q} {x}", "a"), "--question x: "),
        (Columns("q", "a", split="s"), "--split s: "),
        (Columns("q", "a", choices=["A", "B"]), "--choices A: "),
    ):
        with pytest.raises(ConfigError, match=says.replace("{", "\\{")):
            convert(table({"q": "x", "a": "1"}), columns, Options())


def test_questions_of_several_columns() -> None:
    columns = Columns("Facts: {facts}\\n\\n{q.x}{__class__}?", "a")
    found = convert(table({"facts": "f {q}", "q.x": " y", "__class__": 3, "a": "1"}), columns, Options())
    assert found.problems[0].question == "Facts: f {q}\n\ny3?"  # plain names only, and nothing is filled in twice


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        (["1", "$2,000", "3.5 kg"], "number"),
        (["Yes", "no"] * 6, "label"),
        (["\\frac{1}{2}", "x^2"], "expr"),
        (["a long answer in words", "another one", "12"], "text"),
        ([True, False] * 6, "label"),
    ],
)
def test_answer_types_are_guessed(given: list[Any], kind: str) -> None:
    found = convert(table(*({"q": f"question {i}", "a": a} for i, a in enumerate(given))), QA, Options())
    assert {problem.answer_type for problem in found.problems} == {kind} and not found.rejects
    assert found.notes[0].startswith(f"answer type {kind}: ")


@pytest.mark.parametrize(
    ("answer", "choices", "want"),
    [
        (["a", "(B)", "C."], ["x", "y", "z"], ["A", "B", "C"]),
        (["y", "x", "z"], ["x", "y", "z"], ["B", "A", "C"]),
        ([0, 2, 1], ["x", "y", "z"], ["A", "C", "B"]),
        ([1, 3, 2], ["x", "y", "z"], ["A", "C", "B"]),
        ([7, 9, 8], [7, 8, 9], ["A", "C", "B"]),  # the choices are numbers themselves
        (["B", "A", "C"], {"label": ["A", "B", "C"], "text": ["x", "y", "z"]}, ["B", "A", "C"]),
        (["B", "A", "C"], '["x", "y", "z"]', ["B", "A", "C"]),
        (["B", "A", "C"], "x | y | z", ["B", "A", "C"]),
    ],
)
def test_choices_become_letters(answer: list[Any], choices: Any, want: list[str]) -> None:
    rows = table(*({"q": f"question {i}", "a": a, "c": choices} for i, a in enumerate(answer)))
    found = convert(rows, Columns("q", "a", choices=["c"]), Options())
    assert answers(found) == want and found.problems[0].answer_type == "choice"
    assert all(is_correct(problem.answer, problem) for problem in found.problems)


def test_choices_of_several_columns() -> None:
    rows = table({"q": "x", "A": "one", "B": "two", "a": "two"})
    assert answers(convert(rows, Columns("q", "a", choices=["A", "B"]), Options())) == ["B"]


def test_rejects_have_reasons() -> None:
    rows = table(
        {"q": "x", "a": "1", "s": "train", "i": "n"},
        {"q": " ", "a": "1", "s": "train", "i": "b"},
        {"q": "y", "a": None, "s": "train", "i": "c"},
        {"q": " X ", "a": "1", "s": "train", "i": "d"},
        {"q": "x", "a": "2", "s": "train", "i": "e"},
        {"q": "z", "a": "3", "s": "other", "i": "f"},
        {"q": "u", "a": "many", "s": "VALIDATION", "i": "g"},
        {"q": "v", "a": "5", "s": "test", "i": "n"},
        {"q": "w", "a": "6", "s": "Test", "i": "h"},
    )
    found = convert(rows, Columns("q", "a", id="i", split="s"), Options(answer_type="number"))
    assert [(p.id, p.split) for p in found.problems] == [("n", "train"), ("h", "test")]
    assert [reason for _, reason, _ in found.rejects] == [
        "empty question",
        "empty answer",
        "a question again, with the same answer: that of line 1",
        "a question again, with another answer: that of line 1 (1)",
        "split is not one of training, validation, valid, val, development, eval, train, dev, test: 'other'",
        "answer is no number: 'many'",
        "id again: n",
    ]


def test_gsm8k_answers_are_taken_apart() -> None:
    found = convert(table({"q": "x", "a": "2 + 2 = <<2+2=4>>4\n#### 4"}), QA, Options())
    assert answers(found) == ["4"] and (found.problems[0].gold_solution or "").startswith("2 + 2")


def test_gsm8k_answers_end_after_the_hashes() -> None:
    odd = "3 + 5 = <<3+5=8>>8 people.\nThe answer is <<8=8>>8.\n#### 8"
    assert answers(convert(table({"q": "x", "a": odd}), QA, Options())) == ["8"]


def test_a_cell_with_the_divider_in_it_is_rejected_not_shifted(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text('q,a\n"two\nlines",1\nwhat, is it?,2\nonly\ny?,3,,\n')
    rows, notes = read_table(path)
    found = convert(rows, QA, Options())
    assert answers(found) == ["1", "3"] and notes == []
    assert [(place, reason) for place, reason, _ in found.rejects] == [
        ("line 4", "more cells than columns: put quotes around cells that hold the divider"),
        ("line 5", "empty answer"),
    ]


def test_a_quote_that_is_not_closed_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text('q,a\nx,1\n"y,2\nz,3\n')
    assert read_table(path)[1] == [
        "quotes that are opened and not closed: look at line 3, it takes the rest of the file"
    ]


@pytest.mark.parametrize(
    ("given", "want"),
    [
        (["1,5", "2,75", "1.234,50", "-3"], ["1.5", "2.75", "1234.50", "-3"]),
        (["1,234", "2,500"], ["1,234", "2,500"]),  # as likely thousands
        (["1,5", "no"], ["1,5", "no"]),
    ],
)
def test_decimal_commas(given: list[str], want: list[str]) -> None:
    found = convert(table(*({"q": f"question {i}", "a": a} for i, a in enumerate(given))), QA, Options())
    assert answers(found) == want
    assert ("decimal commas" in " ".join(found.notes)) == (given != want)


def test_a_few_answers_that_are_no_numbers_are_rejected() -> None:
    given = [*range(40), "N/A", float("nan")]
    found = convert(table(*({"q": f"question {i}", "a": a} for i, a in enumerate(given))), QA, Options())
    assert found.problems[0].answer_type == "number" and len(found.problems) == 40
    assert [reason for _, reason, _ in found.rejects] == ["answer is no number: 'N/A'", "empty answer"]
    assert found.notes[0].startswith("answer type number: all answers but 1 are numbers")


def test_dev_is_taken_from_train_where_a_table_has_none() -> None:
    rows = table(*({"q": f"question {i}", "a": "1", "s": "test" if i % 4 == 0 else "train"} for i in range(400)))
    columns = Columns("q", "a", split="s")
    splits = [problem.split for problem in convert(rows, columns, Options(dev=0.2)).problems]
    assert splits.count("test") == 100 and 40 < splits.count("dev") < 80
    assert [s for s in splits if s == "test"] == ["test"] * 100
    assert {p.split for p in convert(rows, columns, Options(dev=0.0)).problems} == {"train", "test"}


@given(st.text(min_size=1), st.integers(0, 5))
def test_a_question_asked_twice_is_on_one_side(question: str, seed: int) -> None:
    assert split_of(question, 0.1, 0.2, seed) == split_of(f"  {question.lower()}\n", 0.1, 0.2, seed)


def test_shares_are_met() -> None:
    found = [split_of(f"question {i}", dev=0.1, test=0.3, seed=0) for i in range(4000)]
    assert abs(found.count("test") / 4000 - 0.3) < 0.03 and abs(found.count("dev") / 4000 - 0.1) < 0.02
    with pytest.raises(ConfigError, match="together below 1"):
        convert(table({"q": "x", "a": "1"}), QA, Options(dev=0.5, test=0.5))
    with pytest.raises(ConfigError, match="--answer-type x: neither a type nor a column"):
        convert(table({"q": "x", "a": "1"}), QA, Options(answer_type="x"))


@given(st.lists(st.dictionaries(st.sampled_from(["q", "a", "c", "s"]), st.one_of(st.none(), st.text(), st.integers(),
       st.floats(), st.booleans(), st.lists(st.text(max_size=5), max_size=4))), max_size=6))  # fmt: skip
def test_odd_cells_make_rows_or_rejects(rows: list[dict[str, Any]]) -> None:
    first = {"q": "q", "a": "a", "c": ["a", "b"], "s": "train"}
    found = convert(table(first, *rows), Columns("q", "a", split="s", choices=["c"]), Options())
    assert len(found.problems) + len(found.rejects) == len(rows) + 1
    json.dumps([problem.model_dump() for problem in found.problems])


@given(st.text(alphabet=st.characters(max_codepoint=126), min_size=1), st.integers(0, 5))
def test_old_tables_keep_their_splits(question: str, seed: int) -> None:
    """Draws are those of versions that compared questions by their words alone."""
    words = re.sub(r"\W+", " ", question.lower()).strip()
    digest = hashlib.sha256(f"{seed}\0{words}".encode()).digest()
    at = int.from_bytes(digest[:8], "big") / 2**64
    old = "test" if at < 0.2 else "dev" if at < 0.3 else "train"
    assert not words or split_of(question, 0.1, 0.2, seed) == old
