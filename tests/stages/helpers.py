"""A toy world for stage tests: bags of apples, worked out by hand.

`apples(i)` asks for a + b * c; `right(p)` works it out, `slip(p, k, by)` makes a mistake at step k and carries it on.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from realm_cli.prompts import numbered, solution_text
from realm_cli.recipe import parse_recipe
from realm_cli.records import Problem, Route, Split
from realm_cli.run_folder import Stage, open_stage

RULES = "R1: a bag of apples counts b times c.\nR2: loose apples are added at the end."


def numbers(i: int) -> tuple[int, int, int]:
    """a, b, c of problem i."""
    return 20 + 3 * i, 2 + i % 3, 5 + i


def apples(i: int, split: Split = "train", **fields: Any) -> Problem:
    """Problem i, with id `p<i>`."""
    a, b, c = numbers(i)
    question = f"Ann has {a} apples and buys {b} bags of {c} apples, then sells 1. How many has she (case {i})?"
    row = {"id": f"p{i}", "question": question, "answer": str(a + b * c - 1), "answer_type": "number", "split": split}
    return Problem.model_validate(row | fields)


def right(i: int) -> list[str]:
    """The three right steps of problem i."""
    a, b, c = numbers(i)
    return [f"{b} * {c} = {b * c}", f"{a} + {b * c} = {a + b * c}", f"{a + b * c} - 1 = {a + b * c - 1}"]


def slip(i: int, k: int, by: int = 2) -> tuple[list[str], str]:
    """(steps, answer) with the result of step k wrong by `by` and the rest worked out from it."""
    a, b, c = numbers(i)
    bag = b * c + (by if k == 1 else 0)
    total = a + bag + (by if k == 2 else 0)
    end = total - 1 + (by if k == 3 else 0)
    return [f"{b} * {c} = {bag}", f"{a} + {bag} = {total}", f"{total} - 1 = {end}"], str(end)


def gold(i: int) -> str:
    """The answer of problem i."""
    return apples(i).answer


def bare(steps: Sequence[str], answer: str) -> str:
    """A bare completion."""
    return solution_text(steps, answer)


def bare_right(i: int) -> str:
    """A right bare completion of problem i."""
    return solution_text(right(i), gold(i))


def bare_slip(i: int, k: int = 1, by: int = 2) -> str:
    """A wrong bare completion of problem i."""
    return solution_text(*slip(i, k, by))


def cot(steps: Sequence[str], answer: str) -> str:
    """A teacher's text."""
    return f"{numbered(steps)}\nAnswer: {answer}"


def route(i: int, source: str, sample: int, steps: Sequence[str], answer: str | None, **fields: Any) -> Route:
    """A route of problem i; correct if its answer is."""
    row = {
        "id": f"p{i}/{source}/{sample}",
        "problem_id": f"p{i}",
        "source": source,
        "sample": sample,
        "text": cot(steps, answer or ""),
        "steps": list(steps),
        "final_answer": answer,
        "n_tokens": 12,
        "correct": answer == gold(i),
    }
    return Route.model_validate(row | fields)


def pool(i: int) -> list[Route]:
    """Six routes: three right, two slips at step 1 with one wrong answer, one slip at step 2."""
    found = [route(i, "ext", sample, right(i), gold(i)) for sample in range(3)]
    found += [route(i, "hasty", sample, *slip(i, 1)) for sample in range(2)]
    return [*found, route(i, "hasty", 2, *slip(i, 2, 5))]


def stage_in(folder: Path, name: str, *, resume: bool = False, append: bool = False, **blocks: Any) -> Stage:
    """A stage folder under `folder`, with a recipe of the given blocks."""
    return open_stage(folder, name, parse_recipe(blocks, "test"), {}, resume=resume, append=append)


def load(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file as plain dicts."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def text_of(messages: Sequence[dict[str, str]]) -> str:
    """All contents of a prompt."""
    return "\n".join(message["content"] for message in messages)
