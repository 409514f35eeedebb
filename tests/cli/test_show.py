"""realm show: rows in words, what they name, and the program to browse them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Input, OptionList, Static

from cli.helpers import Realm, rows
from realm_cli.cli.browser import Browser
from realm_cli.stages.browsing import RowFile, describe, links_of, title

SCORED = Path("r/verify/scored.jsonl")
SETS = Path("r/verify/sets.jsonl")


def test_a_scored_route_shows_its_steps_with_their_support(world: Path, realm: Realm) -> None:
    wrong = next(row for row in rows(SCORED) if row["first_error"])
    result = realm("show", SCORED, "--id", wrong["id"])
    assert (result.code, result.err) == (0, "")
    k = wrong["first_error"]
    line = next(text for text in result.out.splitlines() if "FIRST ERROR" in text)
    assert line.startswith(f"  {k}. {wrong['steps'][k - 1]}   [{wrong['step_support'][k - 1]:+.2f} ")
    assert f"-> problem_id {wrong['problem_id']}: r/rollout/problems.jsonl" in result.out.replace(f"{world}/", "")


def test_rows_are_found_by_words_and_fields(world: Path, realm: Realm) -> None:
    table = RowFile(SCORED)
    all_rows = rows(SCORED)
    wrong = [i for i, row in enumerate(all_rows) if not row["correct"] and row["source"] == "solver:hasty"]
    assert list(table.find("correct=false source=solver:hasty")) == wrong and wrong
    assert list(table.find("correct=false SOLVER:HASTY")) == wrong
    assert list(table.find("no such words")) == [] and list(table.find("nokey=1")) == []
    result = realm("show", SCORED, "--find", "correct=false", "--plain", "--limit", "2")
    assert result.out.count("correct: false") == 2 and "correct: true" not in result.out
    assert (
        title(all_rows[wrong[0]]) == f"{all_rows[wrong[0]]['id']} · wrong · answer {all_rows[wrong[0]]['final_answer']}"
    )


def test_a_set_names_its_problem_and_routes(world: Path) -> None:
    table = RowFile(SETS)
    row = table.row(0)
    links = links_of(SETS, row)
    assert [link.row_id for link in links] == [row["problem_id"], *(route["route_id"] for route in row["shown"])]
    assert links[0].path.name == "problems.jsonl" and links[1].path.name == "scored.jsonl"
    assert "shown A: " in describe(row) and table.index_of(row["id"]) == 0 and table.index_of("x") is None


def test_odd_rows_are_shown_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    odd = {"id": "a\x1b[2J\u202e", "steps": ["s"], "step_support": ["x"], "shown": ["y", {"steps": 3}], "text": "t\x07"}
    path.write_text(json.dumps(odd) + "\n\nbroken\n[1]\n{}\n", encoding="utf-8")
    table = RowFile(path)
    assert len(table) == 4 and table.row(1) == {"line": "broken"} and table.row(2) == {"line": "[1]"}
    for i in range(4):
        text = title(table.row(i)) + describe(table.row(i))
        assert "\x1b" not in text and "\u202e" not in text and "\x07" not in text
    assert table.index_of("a\x1b[2J\u202e") == 0


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["none.jsonl"], "none.jsonl: No such file or directory; give a .jsonl file of a run"),
        (["r/verify"], "r/verify: Is a directory; give r/verify/scored.jsonl, r/verify/sets.jsonl"),
        (["empty.jsonl"], "empty.jsonl: no rows; the stage that writes it has not begun"),
        ([SCORED, "--id", "x"], "scored.jsonl: no row x; look for it with --find"),
        ([SCORED, "--find", "no such"], "scored.jsonl: no row holds 'no such'; use fewer words"),
    ],
)
def test_what_is_not_there_is_told(args: list[Any], says: str, world: Path, realm: Realm) -> None:
    Path("empty.jsonl").write_text("")
    result = realm("show", *args)
    assert result.code == 1 and says in result.err and len(result.lines) == 1 and result.out == ""


def test_browsing_filtering_following_and_back(world: Path) -> None:
    async def use() -> None:
        app = Browser(RowFile(SETS))
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            listed, links = app.query_one("#list", OptionList), app.query_one("#links", OptionList)
            assert listed.option_count == len(rows(SETS)) and links.option_count == 5
            await pilot.press("down", "enter", "enter")  # the second set, to its links, into its problem
            await pilot.pause()
            second = rows(SETS)[1]
            assert app.table.path.name == "problems.jsonl"
            assert f"id: {second['problem_id']}" in str(app.query_one("#text", Static).render())
            await pilot.press("b")
            await pilot.pause()
            assert app.table.path == SETS and listed.highlighted == 1
            await pilot.press("slash")
            app.query_one("#filter", Input).value = f"id={second['id']}"
            await pilot.press("enter")
            await pilot.pause()
            assert listed.option_count == 1 and f"id: {second['id']}" in str(app.query_one("#text", Static).render())
            await pilot.press("slash")
            app.query_one("#filter", Input).value = "no such words"
            await pilot.press("enter")
            await pilot.pause()
            assert listed.option_count == 0 and "no row holds this" in str(app.query_one("#text", Static).render())
            await pilot.press("q")

    asyncio.run(use())


def test_the_row_that_was_asked_for_is_shown_first(world: Path) -> None:
    wanted = rows(SCORED)[-1]["id"]

    async def use() -> None:
        app = Browser(RowFile(SCORED), "", wanted)
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            assert f"id: {wanted}" in str(app.query_one("#text", Static).render())

    asyncio.run(use())
