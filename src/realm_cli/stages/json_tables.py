"""JSON files as tables: lists of rows, lines, rows by key, columns, splits, and what other programs wrap around them.

Usage: `rows = json_rows(path, text, notes)`; the key of a row stands in its cell `KEY`, its split in `FROM_SPLIT`
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from realm_cli.errors import DataError
from realm_cli.records import Split

Cells = dict[str, Any]
Rows = list[tuple[str, Cells]]
KEY, FROM_SPLIT = "\0key", "\0split"  # cells that no column of a file can have
SPLITS = {"training": "train", "validation": "dev", "valid": "dev", "val": "dev", "development": "dev", "eval": "test"}
SPLITS |= {name: name for name in get_args(Split)}
# An escaped backslash, a character of two halves, or a half alone
_ESCAPES = re.compile(
    r"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<half>\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)
WRAPPERS = ("data", "rows", "examples", "items", "instances", "questions", "problems", "records", "results", "samples")


def json_rows(path: Path, text: str, notes: list[str]) -> Rows:
    """(place, cells) of each row, whether the file is one value or one object a line. DataError for broken JSON."""
    text = _whole_characters(text, notes)
    lines = [(n, line) for n, line in enumerate(text.split("\n"), 1) if line.strip()]  # U+2028 may stand in a line
    whole = path.suffix.lower() == ".json"
    if whole or text.lstrip().startswith("["):
        try:
            data = json.loads(text if lines else "[]")
            if whole or _is_table(data):
                return _rows(path, data, notes)
        except (ValueError, RecursionError) as error:
            if whole and not _is_object(lines[0][1]):
                raise DataError(f"{path}: broken JSON ({error}); mend it") from None
    return _checked(path, [(f"line {number}", _line(path, number, line)) for number, line in lines])


def _whole_characters(text: str, notes: list[str]) -> str:
    """Without halves of characters, which no file can hold: what is left where a text was cut inside an emoji."""
    halves = [match["half"] for match in _ESCAPES.finditer(text) if match["half"]]
    if not halves:
        return text
    notes.append(f"halves of characters, such as {halves[0]}, are read as ?: {len(halves)} of them")
    return _ESCAPES.sub(lambda match: "?" if match["half"] else match[0], text)


def _is_object(line: str) -> bool:
    """Whether a line holds an object of its own, as JSON Lines have it."""
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _line(path: Path, number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}:{number}: broken JSON ({error}); mend or delete the line") from None


def _checked(path: Path, rows: list[tuple[str, Any]]) -> Rows:
    wrong = next((place for place, row in rows if not isinstance(row, dict)), None)
    if wrong is not None:
        raise DataError(f"{path}: {wrong} is not an object; each row needs named fields")
    return rows


def _rows(path: Path, data: Any, notes: list[str]) -> Rows:
    if isinstance(data, Mapping):
        return _of_object(path, data, notes)
    given = data if isinstance(data, list) else [data]
    return _checked(path, [(f"row {i}", row) for i, row in enumerate(given, 1)])


def _of_object(path: Path, data: Mapping[str, Any], notes: list[str]) -> Rows:
    """Rows of one object: by split, by key, by column, inside a wrapper; else it is itself a row."""
    lists = {name: value for name, value in data.items() if _is_table(value)}
    if lists:
        return _of_lists(path, lists, notes)
    values = list(data.values())
    if values and set(map(str.lower, data)) <= set(SPLITS) and all(_is_keyed(value) for value in values):
        return _of_splits({name: list(value.values()) for name, value in data.items()}, notes)
    if values and all(isinstance(value, Mapping) for value in values):
        inner = [set(value) for value in values]
        if all(name.isdecimal() for names in inner for name in names) and any(inner):  # a data frame's columns
            return _columns({name: [value[key] for key in value] for name, value in data.items()})
        if len(data) == 1 and next(iter(data)) in WRAPPERS:
            return _of_object(path, values[0], notes)
        notes.append("rows by key: the keys are the ids (--id COLUMN takes others)")
        return [(f"row {i}", {**value, KEY: key}) for i, (key, value) in enumerate(data.items(), 1)]
    if isinstance(data.get("columns"), list) and _is_matrix(data.get("data")):  # a data frame, split
        return [(f"row {i}", dict(zip(data["columns"], row, strict=False))) for i, row in enumerate(data["data"], 1)]
    if values and all(isinstance(value, list) for value in values) and len(set(map(len, values))) == 1:
        return _columns(dict(data))
    if len(values) > 1 and all(_is_column(value) for value in values):
        lengths = ", ".join(f"{name} {len(value)}" for name, value in data.items())
        raise DataError(f"{path}: columns of different lengths ({lengths}); mend them, or write one row a line")
    wrapped = next((data[name] for name in WRAPPERS if isinstance(data.get(name), Mapping)), None)
    if wrapped is not None:
        return _of_object(path, wrapped, notes)
    if any(isinstance(data.get(name), list) for name in WRAPPERS) or not values:
        return []
    return [("row 1", dict(data))]


def _of_lists(path: Path, lists: Mapping[str, list[Cells]], notes: list[str]) -> Rows:
    """Rows of several lists: splits, lists of the same kind, or one that is meant among others."""
    if set(map(str.lower, lists)) <= set(SPLITS):
        return _of_splits(lists, notes)
    wrapper = next((name for name in WRAPPERS if name in lists), None)
    if wrapper is None and len({frozenset(rows[0]) for rows in lists.values()}) == 1 and len(lists) > 1:
        notes.append(f"rows of {len(lists)} lists: {', '.join(lists)}")
        return [(f"{name} row {i}", dict(row)) for name, rows in lists.items() for i, row in enumerate(rows, 1)]
    name = wrapper or max(lists, key=lambda name: len(lists[name]))
    others = [f"{other} ({len(lists[other])} row{'s' * (len(lists[other]) > 1)})" for other in lists if other != name]
    if others:
        notes.append(f"rows are those of {name}; left out: {', '.join(others)}")
    return _rows(path, lists[name], notes)


def _of_splits(lists: Mapping[str, list[Cells]], notes: list[str]) -> Rows:
    notes.append(f"splits as the file has them: {', '.join(lists)}")
    return [
        (f"{name} row {i}", {**row, FROM_SPLIT: name}) for name, rows in lists.items() for i, row in enumerate(rows, 1)
    ]


def _is_keyed(value: Any) -> bool:
    """An object of rows by key."""
    return isinstance(value, Mapping) and bool(value) and all(isinstance(row, Mapping) for row in value.values())


def _is_column(value: Any) -> bool:
    """Cells of a column, several of them, none an object."""
    return isinstance(value, list) and len(value) > 1 and not any(isinstance(cell, dict | list) for cell in value)


def _is_table(value: Any) -> bool:
    """A list of objects that are rows, not turns of a chat."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(row, dict) for row in value)
        and not all({"role", "content"} <= set(row) or {"from", "value"} <= set(row) for row in value)
    )


def _is_matrix(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, list) for row in value)


def _columns(data: dict[str, list[Any]]) -> Rows:
    names = list(data)
    cells = zip(*data.values(), strict=False)
    return [(f"row {i}", dict(zip(names, row, strict=True))) for i, row in enumerate(cells, 1)]
