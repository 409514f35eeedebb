"""Choices and which of them is right: letter, text or number, decided for the whole column.

Options keep their places, so that letters do not shift where one is empty. Letters of their own (`A)50,50`) are taken
off where all options carry them in order.
Usage: `set_options(draft, columns)`, then `set_golds(drafts, options, notes)`
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from realm_cli.errors import ConfigError
from realm_cli.method.questions import folded
from realm_cli.prompts import LETTERS
from realm_cli.stages.import_cells import as_list, lookup, text_of
from realm_cli.stages.import_rows import Draft, Options
from realm_cli.stages.import_types import rows_told

READINGS = ("letter", "text", "index0", "index1")
SAYS = {
    "letter": "letters of the choices", "text": "texts of the choices",
    "index0": "numbers of the choices, counted from 0", "index1": "numbers of the choices, counted from 1",
}  # fmt: skip
SURE, CLOSE = 0.5, 0.05  # least share of rows that the reading has to fit; shares that are too near to choose by
_OWN = re.compile(r"\s{0,9}[(\[]?\s?([A-Za-z])\s?[).:\]]\s{0,9}")
_LONE = re.compile(r"(?:(?:option|choice|answer)\s{1,3})?[(\[]?([A-Za-z])[).:\]]{0,2}", re.IGNORECASE)


def set_options(draft: Draft, columns: Sequence[str]) -> str:
    """Sets a row's choices; the reason where they cannot be used."""
    if len(columns) > 1:
        texts = [text_of(lookup(draft.cells, column)) for column in columns]
    else:
        texts, draft.labels = _one_column(lookup(draft.cells, columns[0]))
    texts = without_letters(texts)
    draft.fields["choices"] = texts
    if sum(map(bool, texts)) < 2:
        return "fewer than two choices"
    if len(trimmed(texts)) > len(LETTERS):
        return f"more than {len(LETTERS)} choices, for which there are no letters: {len(texts)}"
    return ""


def trimmed(texts: Sequence[str]) -> list[str]:
    """Without empty places behind the last option."""
    return list(texts[: max((i for i, text in enumerate(texts, 1) if text), default=0)])


def _one_column(value: Any) -> tuple[list[str], list[str]]:
    """(texts, the table's own letters) of a list, {"text": [...], "label": [...]}, {"A": ...}, or text."""
    if isinstance(value, str):
        value = _from_text(value.strip())
    if isinstance(value, Mapping):
        texts = next((value[name] for name in ("text", "texts", "choices") if isinstance(value.get(name), list)), None)
        if texts is not None:
            given = next((value[name] for name in ("label", "labels") if isinstance(value.get(name), list)), None)
            return [text_of(one) for one in texts], [text_of(one) for one in given or ()]
        names = [str(name).strip().upper() for name in value]
        if names and all(name in LETTERS and len(name) == 1 for name in names):
            by = dict(zip(names, map(text_of, value.values()), strict=True))
            return [by.get(letter, "") for letter in LETTERS[: LETTERS.index(max(names)) + 1]], []
        return [text_of(one) for one in value.values()], [str(name) for name in value]
    if isinstance(value, list | tuple):
        if value and all(isinstance(one, Mapping) and "text" in one for one in value):
            labels = [text_of(one.get("label", one.get("key"))) for one in value]
            return [text_of(one["text"]) for one in value], labels if all(labels) else []
        return [text_of(one) for one in value], []
    return [], []


def _from_text(text: str) -> Any:
    """Choices in one text: JSON or a printed list, a line each, lettered, or divided by | or ;."""
    if text.startswith("{"):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return []
    if (listed := as_list(text)) is not None:
        return listed
    for cut in ("\n", "|"):
        if cut in text:
            return [part.strip() for part in text.split(cut)]
    return _lettered(text) or [part.strip() for part in text.split(";")]


def _lettered(text: str) -> list[str]:
    """`a) 38 , b) 27 , c) 30` as its parts, each with its letter."""
    starts: list[int] = []
    at = 0
    for letter in LETTERS:
        found = re.compile(rf"(?:^|(?<=[\s,;]))[(\[]?{letter}\s?[).:\]]", re.IGNORECASE).search(text, at)
        if found is None or (not starts and found.start() > 0):
            break
        starts.append(found.start())
        at = found.end()
    if not starts:
        return []
    parts = [text[a:b] for a, b in zip(starts, [*starts[1:], len(text)], strict=True)]
    return [part.strip().rstrip(",; ") for part in parts] if len(parts) > 1 else []


def without_letters(texts: Sequence[str]) -> list[str]:
    """Options without letters of their own, where every one that is not empty has its place's letter in front."""
    found = [_OWN.match(text) for text in texts]
    own = all(
        not text or (match and match[1].upper() == LETTERS[i % len(LETTERS)])
        for i, (text, match) in enumerate(zip(texts, found, strict=True))
    )
    if not own or len(texts) < 2:
        return list(texts)
    return [text[match.end() :].strip() if match else "" for text, match in zip(texts, found, strict=True)]


def place_of(answer: str, draft: Draft, reading: str) -> int | None:
    """Which choice an answer means in one reading; None if none or several."""
    choices: list[str] = draft.fields["choices"]
    if reading == "text":
        exact = [i for i, choice in enumerate(choices) if choice and choice == answer]
        own = _OWN.match(answer)
        alike = exact or [i for i, choice in enumerate(choices) if choice and folded(choice) == folded(answer)]
        if not alike and own and (index := ord(own[1].upper()) - 65) < len(choices):
            alike = [index] if folded(choices[index]) == folded(answer[own.end() :]) else []
        return alike[0] if len(alike) == 1 else None
    if reading == "letter":
        if answer in draft.labels:
            return draft.labels.index(answer)
        lone = _LONE.fullmatch(answer)
        index = ord(lone[1].upper()) - 65 if lone else -1
    else:
        index = int(answer) - (reading == "index1") if answer.isdecimal() and len(answer) < 4 else -1
    return index if 0 <= index < len(choices) else None


def set_golds(drafts: Sequence[Draft], options: Options, notes: list[str]) -> None:
    """Golds as letters, in the one reading of the column. ConfigError where several fit or none does."""
    rows = [draft for draft in drafts if not draft.reason and draft.kind == "choice"]
    for draft in rows:
        if draft.several:
            draft.reason = "several choices are right (--list-means any: each alone is)"
        elif not draft.fields.get("choices"):
            draft.reason = "no choices for an answer of type choice"
    rows = [draft for draft in rows if not draft.reason]
    if not rows:
        return
    reading = options.answer_is or _reading(rows)
    for draft in rows:
        place = place_of(draft.answer, draft, reading)
        if place is None:
            draft.reason = f"answer is none of the choices, read as {reading} (--answer-is): {draft.answer[:60]!r}"
        elif not draft.fields["choices"][place]:
            draft.reason = f"the answer is a choice that is empty: {LETTERS[place]}"
        else:
            draft.fields["answer"] = LETTERS[place]
            others = [place_of(other, draft, reading) for other in draft.fields.get("answers", ())]
            draft.fields["answers"] = [LETTERS[other] for other in others if other is not None and other != place]
    fits = sum(not draft.reason for draft in rows)
    changes = "--answer-is" if options.answer_is else "--answer-is letter|text|index0|index1 changes it"
    notes.append(f"answers are {SAYS[reading]}, as {fits} of {rows_told(len(rows))} can be read ({changes})")


def _reading(rows: Sequence[Draft]) -> str:
    places = {name: [place_of(draft.answer, draft, name) for draft in rows] for name in READINGS}
    fits = {name: sum(place is not None for place in found) / len(rows) for name, found in places.items()}
    best = max(fits.values())
    if best < SURE:
        shown = rows[0]
        raise ConfigError(
            f"answers such as {shown.answer[:40]!r} ({shown.place}) are no letters, texts or numbers of their choices; "
            f"check --answer and --choices, or say what they are: --answer-is {'|'.join(READINGS)}"
        )
    if fits["letter"] == best and all(draft.labels for draft in rows):
        return "letter"
    near = [name for name in READINGS if fits[name] >= best - (0 if best == 1 else CLOSE)]
    for i, draft in enumerate(rows):
        read = {name: place for name in near if (place := places[name][i]) is not None}
        if len(set(read.values())) > 1:
            told = " or ".join(f"{LETTERS[place]} ({name})" for name, place in read.items())
            raise ConfigError(
                f"answers can be read in several ways: {draft.answer[:40]!r} ({draft.place}) is {told}; "
                f"say which with --answer-is {' or --answer-is '.join(read)}"
            )
    return max(near, key=lambda name: fits[name])
