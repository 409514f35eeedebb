"""Answers that models write and answers that a sloppy grader would accept, by kind: each is judged as it should be."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from realm_cli.method.answers import answer_key, flexible_answer, is_correct, strict_answer
from realm_cli.records import Problem

ROWS = [json.loads(line) for line in Path(__file__).with_name("answer_pairs.jsonl").read_text("utf-8").splitlines()]
KINDS = sorted({row["kind"] for row in ROWS})


@pytest.mark.parametrize("kind", KINDS)
def test_every_pair_is_judged_as_it_should_be(kind: str) -> None:
    wrong = []
    for row in (row for row in ROWS if row["kind"] == kind):
        fields = {"answer": row["gold"], "answer_type": row["type"], **row.get("fields", {})}
        problem = Problem.model_validate({"id": "p", "question": "q", **fields})
        text = row["output"]
        readings = (
            [strict_answer(text)] if "<answer>" in text else [flexible_answer(text), flexible_answer(text, row["type"])]
        )
        for read in readings:
            verdict = is_correct(read, problem)
            if verdict is not row["right"]:
                wrong.append((row["type"], row["gold"], text, read, verdict))
            elif verdict:
                assert answer_key(read, problem) == answer_key(problem.answer, problem)
    assert wrong == []


def test_there_are_pairs_of_every_kind_right_and_wrong() -> None:
    counts = Counter((row["kind"], row["right"]) for row in ROWS)
    assert len(KINDS) >= 15 and len(ROWS) >= 500
    assert sum(n for (_, right), n in counts.items() if not right) > 250
