"""Cells of other people's tables as text: dotted paths, chat turns, lists, templates, numbers without float noise.

Usage: `lookup(cells, "reward_model.ground_truth")`, `filled("{a}\\n{b}", cells)`, `text_of(90.00000000000001)`
"""

from __future__ import annotations

import ast
import datetime
import io
import json
import math
import re
import tokenize
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

Cells = Mapping[str, Any]
MISSING: Final = object()
ROLES = {"user": "user", "human": "user", "prompter": "user", "assistant": "assistant", "gpt": "assistant"}
ROLES |= {"bot": "assistant", "model": "assistant", "chatgpt": "assistant", "system": "system"}
MAX_LITERAL, MAX_PATH = 100_000, 300  # characters
NOISE_FROM = 15  # digits of a number that a binary fraction may have left its traces in
_GAP = re.compile(r"\}\s{1,9}\{")
_UNSEEN = "\u200b\u2060\ufeff"  # blanks without a width, which strip leaves
_NAME = re.compile(r"\{([^{}\n]{1,100})\}")


class UnusableCell(Exception):
    """Why a cell cannot be read; becomes the reject's reason."""


def lookup(value: object, path: str) -> Any:
    """The cell of a column, or of a path into it: `a.b`, `a.0`; a column named with dots wins. MISSING if none."""
    if isinstance(value, str):
        value = printed(value)
    if isinstance(value, Mapping):
        if path in value:
            return value[path]
        for at in [m.start() for m in re.finditer(r"\.", path[:MAX_PATH])][::-1]:
            if path[:at] in value and (found := lookup(value[path[:at]], path[at + 1 :])) is not MISSING:
                return found
    elif isinstance(value, Sequence):
        head, _, rest = path.partition(".")
        if head.isdecimal() and len(head) < 9:
            found = value[int(head)] if int(head) < len(value) else MISSING
            return lookup(found, rest) if rest and found is not MISSING else found
        if value and all(isinstance(one, Mapping) for one in value):  # a field of each
            fields = [lookup(one, path) for one in value]
            return fields if MISSING not in fields else MISSING
    return MISSING


def names_in(template: str, rows: Sequence[Cells]) -> list[str]:
    """The columns that a column's name or a text with {columns} means."""
    whole = "{" not in template or any(lookup(cells, template) is not MISSING for cells in rows)
    return [template] if whole else _NAME.findall(template)


def filled(template: str, cells: Cells, role: str = "user") -> str:
    """The text of a column, or a text with the cells in the places of their {names}.

    role: whose turns count where a cell is a chat: all of the user's, or the assistant's last.
    """
    if "{" not in template or lookup(cells, template) is not MISSING:
        return _spoken(lookup(cells, template), role)
    return _NAME.sub(lambda m: _spoken(lookup(cells, m[1]), role), template.replace("\\n", "\n")).strip()


def turns(value: object) -> list[tuple[str, str]] | None:
    """(role, text) of a chat: a list of {role, content} or {from, value}, one of them, or text of it. None for others.

    Raises UnusableCell for a turn that holds more than text.
    """
    if isinstance(value, str):
        value = printed(value)
    if isinstance(value, Mapping) and isinstance(value.get("role"), list) and isinstance(value.get("content"), list):
        value = [{"role": r, "content": c} for r, c in zip(value["role"], value["content"], strict=False)]
    given = [value] if isinstance(value, Mapping) else value
    if not isinstance(given, list | tuple) or not given:
        return None
    found = []
    for turn in given:
        if not isinstance(turn, Mapping):
            return None
        names = ("role", "content") if "role" in turn else ("from", "value")
        if not isinstance(turn.get(names[0]), str) or names[1] not in turn:
            return None
        found.append((ROLES.get(turn[names[0]].lower(), "other"), _content(turn[names[1]])))
    return found


def _content(value: object) -> str:
    if not isinstance(value, list | tuple):
        return text_of(value)
    parts = []
    for part in value:
        if isinstance(part, Mapping):
            kind = str(part.get("type", "text"))
            if "text" not in kind and not (kind == "None" and part.get("text")):
                raise UnusableCell(f"a turn holds more than text: {kind}")
            parts.append(text_of(part.get("text")))
        else:
            parts.append(text_of(part))
    return "\n".join(filter(None, parts))


def _spoken(value: object, role: str) -> str:
    chat = turns(value)
    if chat is None:
        return text_of(value)
    said = [text for who, text in chat if who == role and text]
    return "\n\n".join(said) if role == "user" else "".join(said[-1:])


def text_of(value: object) -> str:
    """A cell as text: empty for none and NaN, lists by line breaks, true and false as they are written in JSON."""
    if value is None or value is MISSING or value != value:  # NaN: how tables of numbers write an empty cell
        return ""
    if isinstance(value, str):
        return value.strip().strip(_UNSEEN).strip()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return shortest(value)
    if isinstance(value, list | tuple):
        return "\n".join(_inner(one) for one in value).strip()
    return _inner(value)


def _inner(value: object) -> str:
    """A cell inside a list: lists and objects in it stay JSON."""
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(value, ensure_ascii=False, default=text_of)
    if isinstance(value, datetime.datetime):
        midnight = value.time() == datetime.time(0)
        return value.date().isoformat() if midnight else value.isoformat(sep=" ")
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace").strip()
    return text_of(value) if value is None or isinstance(value, str | bool | float) else str(value).strip()


def shortest(value: float) -> str:
    """A number as text, without the traces of binary fractions: 90.00000000000001 is 90; 1.0 is 1."""
    if not math.isfinite(value):
        return str(value)
    text = repr(value)
    if len(_digits(text)) >= NOISE_FROM:
        for precise, most in ((12, 9), (15, 12)):  # a run of three and more zeros or nines behind it
            short = format(value, f".{precise}g")
            if len(_digits(short)) <= most:
                text = short
                break
    return str(int(float(text))) if float(text).is_integer() and abs(value) < 1e15 else text


def _digits(text: str) -> str:
    mantissa = re.split("e", text)[0]
    return re.sub(r"\D", "", mantissa.rstrip("0") if "." in mantissa else mantissa).strip("0")


def as_list(text: str) -> list[Any] | None:
    """A list that a cell of text holds: JSON, or as Python and NumPy print one. None for others."""
    found = printed(text) if text.startswith("[") else None
    return found if isinstance(found, list) else None


def columns_of(rows: Sequence[tuple[str, Cells]]) -> list[str]:
    """Names of the columns, in order, of a table's first thousand rows."""
    return list(dict.fromkeys(name for _, cells in rows[:1000] for name in cells if not name.startswith("\0")))


def inside(rows: Sequence[tuple[str, Cells]], path: str) -> Iterator[str]:
    """The paths that a column has, to be shown where one of them is missed."""
    head = path.split(".")[0]
    for _, cells in rows[:100]:
        value = cells.get(head)
        value = printed(value) if isinstance(value, str) else value
        if isinstance(value, Mapping):
            yield from (f"{head}.{name}" for name in value)
            return


def _side_by_side(text: str) -> list[Any] | None:
    """The strings of a list that NumPy printed, without commas: ['a' 'b']. None for others, [] where it is more than
    a list; Python itself would read such strings as one."""
    try:
        words = [token for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.string.strip()]
        kinds = [token.type for token in words]
        if tokenize.STRING not in [a for a, b in pairwise(kinds) if a == b]:
            return None
        strings = [ast.literal_eval(token.string) for token in words if token.type == tokenize.STRING]
    except (ValueError, SyntaxError, RecursionError, MemoryError, tokenize.TokenError):
        return None
    return strings if len(strings) + 2 == len(words) and text.startswith("[") else []


class _Plain(ast.NodeTransformer):
    """`array([...], dtype=object)` as the list in it, nan as None."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        return self.visit(node.args[0]) if getattr(node.func, "id", "") == "array" and node.args else node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Constant(None) if node.id == "nan" else node


def printed(text: str) -> Any:
    """A list or an object that a text holds: JSON, or as Python prints one, arrays in it too. None for others."""
    text = text.strip()
    if text[:1] + text[-1:] not in ("[]", "{}"):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    if len(text) > MAX_LITERAL or not re.match(r"[\[{]\s{0,9}[\[{'\"\d\]}-]", text):
        return None
    if (strings := _side_by_side(text)) is not None:
        return strings or None
    for spelled in (text, _GAP.sub("}, {", text)):  # NumPy puts no commas between objects
        try:
            found = ast.literal_eval(_Plain().visit(ast.parse(spelled, mode="eval")))
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
        return found if isinstance(found, list | dict) else None
    return None
