"""Rows of a run's JSONL files to look at: what a row says in words, and the rows of other files that it names.

Usage: `table = RowFile(path); list(table.find("wrong zone")); describe(table.row(3)); links_of(path, table.row(3))`

Of a file only the places of its lines are kept. Nothing is checked: this shows what is there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from realm_cli.errors import DataError, printable
from realm_cli.prompts import LETTERS

ROW_CHARS = 1_000_000  # of a line that are read
MOST = 12  # files of a folder that are named
TITLE = ("split", "group", "mode", "kind", "drop_reason")
_INNER = ("schema_version", "step_support", "step_kind", "facts", "seed")  # beside a step, or of no interest
LONG = ("question", "text", "completion", "rationale")  # shown as blocks
# A field that names rows elsewhere -> files of the run, the first that has the row wins.
LINKS = {
    "problem_id": ("rollout/problems.jsonl", "problems.jsonl"),
    "plan_id": ("train_rl/plan.jsonl",),
    "set_id": ("verify/sets.jsonl",),
    "route_id": ("verify/scored.jsonl", "rollout/routes.jsonl"),
    "route_ids": ("verify/scored.jsonl", "rollout/routes.jsonl"),
}
_ID = re.compile(r'\{\s*"id":\s*("[^"\\]*")')  # rows of ours begin with it


@dataclass(frozen=True)
class Link:
    """A row elsewhere: `name` is the field that names it."""

    name: str
    path: Path
    row_id: str


class RowFile:
    """The lines of a JSONL file. DataError where it is none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offsets: list[int] = []
        at = 0
        try:
            with path.open("rb") as lines:
                for line in lines:
                    if line.strip():
                        self.offsets.append(at)
                    at += len(line)
        except OSError as error:
            inside = sorted(str(file) for depth in ("*", "*/*") for file in path.glob(f"{depth}.jsonl"))
            files = ", ".join(inside[:MOST]) + ", ..." * (len(inside) > MOST) or "a .jsonl file of a run"
            raise DataError(f"{path}: {error.strerror or error}; give {files}") from None
        if not self.offsets:
            raise DataError(f"{path}: no rows; the stage that writes it has not begun")

    def __len__(self) -> int:
        return len(self.offsets)

    def raw(self, index: int) -> str:
        """A line as it stands in the file."""
        with self.path.open("rb") as file:
            file.seek(self.offsets[index])
            return file.readline(ROW_CHARS).decode("utf-8", "replace")

    def row(self, index: int) -> dict[str, Any]:
        """A line's object; {"line": text} where it is none."""
        text = self.raw(index)
        try:
            row = json.loads(text)
        except (ValueError, RecursionError):
            row = None
        return row if isinstance(row, dict) else {"line": text.strip()[:2000]}

    def find(self, query: str) -> Iterator[int]:
        """Rows that hold every word of the query in any letter case; `key=value` compares a field."""
        words = query.lower().split()
        with self.path.open("rb") as file:
            for index, offset in enumerate(self.offsets):
                file.seek(offset)
                line = file.readline(ROW_CHARS).decode("utf-8", "replace")
                low = line.lower()
                if all(word in low or ("=" in word and _field(line, word)) for word in words):
                    yield index

    def index_of(self, row_id: str) -> int | None:
        """The row with this id."""
        return self._by_id.get(row_id)

    @cached_property
    def _by_id(self) -> dict[str, int]:
        found: dict[str, int] = {}
        with self.path.open("rb") as file:
            for index, offset in enumerate(self.offsets):
                file.seek(offset)
                begin = _ID.match(file.read(300).decode("utf-8", "replace"))
                row_id = json.loads(begin[1]) if begin else self.row(index).get("id")
                found.setdefault(str(row_id), index)
        return found


def title(row: Mapping[str, Any]) -> str:
    """A row in one line."""
    parts = [str(row["id"]) if "id" in row else _short(next(iter(row.values()), ""), 80)]
    if "id" not in row and "loss" in row:
        parts = [f"step {row.get('step')}", f"loss {_short(row['loss'])}"]
    verdict = row.get("correct", row.get("r_ans"))
    parts += ["right" if verdict in (True, 1.0) else "wrong"] if verdict is not None else []
    parts += [_short(row[key]) for key in TITLE if isinstance(row.get(key), str) and row[key]]
    parts += ["with routes"] if row.get("routed") is True else []
    answer = row.get("final_answer", row.get("answer"))
    parts += [f"answer {_short(answer)}"] if answer is not None else []
    return printable(" · ".join(parts))


def describe(row: Mapping[str, Any]) -> str:
    """All of a row: what it is, its texts, steps with their scores and shown routes, then its other fields."""
    blocks, fields = [], []
    for key, value in row.items():
        if key in LONG and isinstance(value, str):
            blocks.append(f"{key}\n{_indented(value)}")
        elif key == "messages" and isinstance(value, list):
            blocks += [f"{m.get('role')}\n{_indented(str(m.get('content')))}" for m in value if isinstance(m, dict)]
        elif key == "choices" and isinstance(value, list):
            blocks.append("choices\n" + "\n".join(f"  {a}) {text}" for a, text in zip(LETTERS, value, strict=False)))
        elif key == "steps" and isinstance(value, list):
            blocks.append("steps\n" + "\n".join(f"  {line}" for line in _steps(row)))
        elif key in ("shown", "members") and isinstance(value, list):
            blocks += [_shown(key, i, route) for i, route in enumerate(value) if isinstance(route, dict)]
        elif key in _INNER or value is None or value == []:
            continue
        else:
            fields.append(f"{key}: {_short(value, 300)}")
    head, rest = fields[:1], fields[1:]
    return printable("\n\n".join(filter(None, ["\n".join(head), *blocks, "\n".join(rest)])), keep="\n")


def run_of(path: Path) -> Path | None:
    """The run folder that a file lies in."""
    for folder in path.resolve().parents:
        if (folder / "recipe.json").is_file() and not (folder / "manifest.json").is_file():
            return folder
    return None


def links_of(path: Path, row: Mapping[str, Any]) -> list[Link]:
    """Rows of the run's other files that this row names, and which are there."""
    run = run_of(path)
    found: list[Link] = []
    for key, value in _named(row):
        for name in LINKS[key] if run is not None else ():
            file = (run or path) / name
            if file.resolve() != path.resolve() and file.is_file() and open_rows(file).index_of(value) is not None:
                found.append(Link(key, file, value))
                break
    return list(dict.fromkeys(found))


@lru_cache(maxsize=8)
def open_rows(path: Path) -> RowFile:
    """A file that is looked at more than once."""
    return RowFile(path)


def _named(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key in LINKS:
        value = row.get(key)
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, str):
                yield key, one
    for route in row.get("shown") or []:
        if isinstance(route, dict) and isinstance(route.get("route_id"), str):
            yield "route_id", route["route_id"]


def _field(line: str, word: str) -> bool:
    key, _, value = word.partition("=")
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(row, dict) and key in row and str(row[key]).lower() == value


def _steps(row: Mapping[str, Any]) -> Iterator[str]:
    """Steps with what the comparison of routes says of each (method.md section 5)."""
    for k, step in enumerate(row["steps"], 1):
        support = next(iter((row.get("step_support") or [])[k - 1 : k]), None)
        kind = next(iter((row.get("step_kind") or [])[k - 1 : k]), "")
        marks = [f"{support:+.2f}" if isinstance(support, int | float) else "", str(kind)]
        marks += ["FIRST ERROR"] if row.get("first_error") == k else []
        marks += ["decisive"] if row.get("decisive_step") == k else []
        note = " ".join(filter(None, marks))
        yield f"{k}. {step}" + (f"   [{note}]" if note else "")


def _shown(key: str, index: int, route: Mapping[str, Any]) -> str:
    verdict = "right" if route.get("label") else f"wrong from step {route.get('first_error') or '?'}"
    head = f"{key} {chr(65 + index % 26)}: {route.get('route_id')}, {verdict}, answer {route.get('answer')}"
    steps = route.get("steps") if isinstance(route.get("steps"), list) else []
    return "\n".join([head, *(f"  {k}. {step}" for k, step in enumerate(steps or [], 1))])


def _short(value: object, limit: int = 40) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list) and all(isinstance(one, float) for one in value):
        return ", ".join(f"{one:.4g}" for one in value)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
