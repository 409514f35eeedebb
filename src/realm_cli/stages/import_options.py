"""Choices as texts write them: several in one cell, with letters or numbers of their own in front.

Usage: `divided("A) 38 B) 27")` -> ["A) 38", "B) 27"]; `without_letters(...)` -> ["38", "27"]
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

from realm_cli.method.questions import folded
from realm_cli.prompts import LETTERS
from realm_cli.stages.import_cells import as_list, printed

ROMAN = ("i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x")
_WORD = r"(?:(?:option|choice|answer)\s{1,3})?"
_MARK = _WORD + r"[(\[（]?\s?(?P<own>[A-Za-zＡ-Ｚ])\s?(?:[).:\]）．：、]{1,2}|[-–—|>](?=\s))"
OWN = re.compile(rf"\s{{0,9}}(?:{_MARK}|\*\*{_MARK.replace('own', 'bold')}\*\*)\s{{0,9}}", re.IGNORECASE)
_NUMBERED = re.compile(
    r"\s{0,9}(?:\(([0-9]{1,2}|[ivx]{1,4})\)|([0-9]{1,2}|[ivx]{1,4})(?:\)|[.:](?=\s)))\s{0,9}", re.IGNORECASE
)


def divided(text: str) -> Any:
    """Choices in one text: JSON or a printed list, a line each, lettered or numbered, or divided by | or ;."""
    if text.startswith("{"):
        return printed(text) or []
    if (listed := as_list(text)) is not None:
        return listed
    text = re.sub(r"<br\s?/?>", "\n", text, flags=re.IGNORECASE)
    if "\n" in text:
        return _lines(text)
    if "|" in text:
        return [part.strip() for part in text.split("|")]
    return _in_order(text, LETTERS) or _in_order(text, [str(n) for n in range(1, 27)]) or _parts(text, ";")


def _parts(text: str, cut: str) -> list[str]:
    return [part.strip() for part in text.split(cut)]


def _lines(text: str) -> list[str]:
    """A line each; blocks where blank lines stand between all; lettered lines take those that follow with them."""
    blocks = [block.strip() for block in re.split(r"\n[ \t\r]{0,99}\n", text) if block.strip()]
    lines = blocks if len(blocks) > 1 and not any("\n" in block for block in blocks) else _parts(text, "\n")
    if (first := OWN.match(lines[0])) is None or letter_of(first) != "A" or without_letters(lines) != lines:
        return lines
    joined: list[str] = []
    for line in lines:
        own = OWN.match(line)
        if own and len(joined) < len(LETTERS) and letter_of(own) == LETTERS[len(joined)]:
            joined.append(line)
        else:
            joined[-1] = f"{joined[-1]} {line}".strip()
    return joined if len(joined) > 1 else lines


def _in_order(text: str, marks: Sequence[str]) -> list[str]:
    """`a) 38 , b) 27 , c) 30` as its parts, each with its mark, all written as the first one is; [] for others."""
    first = re.match(rf"\s{{0,9}}([(\[]?)({marks[0]})(\s?)([).:\]])", text, re.IGNORECASE)
    if first is None:
        return []
    lower, after = first[2].islower(), r"(?=\s)" if first[2].isdecimal() and first[4] in ".:" else ""
    starts: list[int] = []
    at = 0
    for mark in marks:
        spelled = re.escape(first[1] + (mark.lower() if lower else mark) + first[3] + first[4])
        found = re.compile(rf"(?:^|(?<=[\s,;])){spelled}{after}").search(text, at)
        if found is None:
            break
        starts.append(found.start())
        at = found.end()
    if len(starts) < 2:
        return []
    parts = [text[a:b] for a, b in zip(starts, [*starts[1:], len(text)], strict=True)]
    return [part.strip().rstrip(",; ") for part in parts]


def without_letters(texts: Sequence[str]) -> list[str]:
    """Options without letters of their own, where every one that is not empty has its place's letter in front."""
    found = [OWN.match(text) for text in texts]
    own = all(
        not text or (match and letter_of(match) == LETTERS[i % len(LETTERS)])
        for i, (text, match) in enumerate(zip(texts, found, strict=True))
    )
    rest = [text[match.end() :].strip() if match else "" for text, match in zip(texts, found, strict=True)]
    return rest if own and len(texts) > 1 and _apart(rest) >= _apart(texts) else list(texts)


def with_own_letters(texts: Sequence[str]) -> tuple[list[str], list[str]]:
    """(options, their letters) where all carry different ones that are not their places': A, C, D or B, A, C."""
    found = [OWN.match(text) for text in texts]
    letters = [letter_of(match) for match in found if match]
    rest = [text[match.end() :].strip() for text, match in zip(texts, found, strict=True) if match]
    known = set(letters) <= set(LETTERS[: len(texts) + 1])
    if len(texts) < 3 or not len(set(letters)) == len(texts) == _apart(rest) or not known:
        return list(texts), []
    return rest, letters


def without_numbers(texts: Sequence[str]) -> tuple[list[str], list[str]]:
    """(options, their numbers) where all carry numbers in order, from 0, 1 or i; else (options, [])."""
    found = [_NUMBERED.match(text) for text in texts]
    numbers = [(match[1] or match[2]).lower() for match in found if match]
    rest = [text[match.end() :].strip() for text, match in zip(texts, found, strict=True) if match]
    orders = ([str(n) for n in range(27)], [str(n) for n in range(1, 28)], list(ROMAN))
    in_order = any(numbers == order[: len(texts)] for order in orders)
    if len(texts) < 2 or not in_order or not all(rest) or _apart(rest) < _apart(texts):
        return list(texts), []
    return rest, numbers


def _apart(texts: Sequence[str]) -> int:
    """How many different options there are: `A - 1`, `B - 1` are no letters in front of one text."""
    return len({folded(text) for text in texts if text})


def letter_of(match: re.Match[str]) -> str:
    return unicodedata.normalize("NFKC", match["own"] or match["bold"]).upper()
