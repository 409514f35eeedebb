"""One problem's routes with the evidence for each step: numbers by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from fakes import no_progress
from realm_cli.artifacts import write_rows
from realm_cli.errors import DataError
from realm_cli.stages.explain import explain
from realm_cli.stages.verify import run_verify
from stages.helpers import apples, pool, right, route, stage_in

PROBLEMS = [apples(0), apples(1)]


@pytest.fixture
def scored(tmp_path: Path) -> Path:
    cut = route(0, "ext", 9, right(0)[:1], None, truncated=True)
    write_rows(tmp_path / "routes.jsonl", [*pool(0), cut, *pool(1)])
    stage = stage_in(tmp_path, "verify", verify={"leak_limit": 1.0})
    run_verify(stage, PROBLEMS, tmp_path / "routes.jsonl", progress=no_progress)
    return tmp_path / "verify" / "scored.jsonl"


def test_every_step_has_its_evidence(scored: Path) -> None:
    summary = explain(scored, PROBLEMS, "p0")
    assert [table.title.partition(":")[0] for table in summary.tables][:3] == ["p0/ext/0", "p0/ext/1", "p0/ext/2"]
    first = summary.tables[0]
    assert first.title == "p0/ext/0: right, answer 29"
    assert first.columns == ["step", "kind", "support", "facts"]
    step, kind, support, facts = first.rows[0]
    assert (step, facts) == ("1. 2 * 5 = 10", "2*5 (+2/2 -3/3); =10 (+2/2 -1/3)")
    assert kind.split()[0] == "agreed" and support.startswith("+")
    early = next(table for table in summary.tables if table.title.startswith("p0/hasty/0"))
    assert "FIRST ERROR" in early.rows[0][1]
    assert early.rows[0][3] == "2*5 (+3/3 -2/2); =12 (+0/3 -1/2)"
    assert any(row[1].endswith("decisive") for row in first.rows)
    cut = next(table for table in summary.tables if table.title.startswith("p0/ext/9"))
    assert cut.title == "p0/ext/9: cut off, answer None"
    assert cut.rows == [["1. 2 * 5 = 10", "", "-", ""]]
    assert summary.notes[1] == "answer: 29; 3 of 7 routes are right"
    row = summary.data["routes"][0]["evidence"][0][0]
    assert (row["fact"], row["c_pos"], row["n_pos"], row["c_neg"], row["n_neg"]) == ("op:2*5", 2, 2, 3, 3)


def test_the_evidence_adds_up_to_the_support_that_was_written(scored: Path) -> None:
    for routes in (explain(scored, PROBLEMS, name).data["routes"] for name in ("p0", "p1")):
        for found in routes:
            for facts, support in zip(found["evidence"], found["step_support"], strict=False):
                mean = sum(fact["support"] for fact in facts) / len(facts) if facts else None
                assert mean == pytest.approx(support) if facts else support is None


def test_unknown_problems_and_problems_without_routes(scored: Path) -> None:
    with pytest.raises(DataError, match="--explain p7: no such problem; known are p0 and 1 more"):
        explain(scored, PROBLEMS, "p7")
    with pytest.raises(DataError, match="no route of problem p2; run `realm rollout`"):
        explain(scored, [*PROBLEMS, apples(2)], "p2")
