"""Choices and which of them is right: letter, text or number, decided for the whole column.

Options keep their places, so that letters do not shift where one is empty. Letters of their own (`A)50,50`) are taken
off where all options carry them in order.
Usage: `set_options(draft, columns)`, then `set_golds(drafts, options, notes)`
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from realm_cli.errors import ConfigError
from realm_cli.method.answers import to_number
from realm_cli.method.questions import folded
from realm_cli.prompts import LETTERS
from realm_cli.stages.import_cells import lookup, printed, text_of
from realm_cli.stages.import_options import OWN, divided, letter_of, with_own_letters, without_letters, without_numbers
from realm_cli.stages.import_rows import Draft, Options
from realm_cli.stages.import_types import rows_told

READINGS = ("letter", "text", "index0", "index1")
SAYS = {
    "letter": "letters of the choices", "text": "texts of the choices",
    "index0": "numbers of the choices, counted from 0", "index1": "numbers of the choices, counted from 1",
}  # fmt: skip
SURE, CLOSE = 0.5, 0.05  # least share of rows that the reading has to fit; shares that are too near to choose by
_TEXTS, _LABELS = "text value content option answer choice", "label key letter id option_id"
_LONE = re.compile(r"(?:(?:option|choice|answer)\s{1,3})?[(\[]?([A-Za-z])[).:\]]{0,2}", re.IGNORECASE)


def set_options(draft: Draft, columns: Sequence[str]) -> str:
    """Sets a row's choices; the reason where they cannot be used."""
    if len(columns) > 1:
        texts = [text_of(lookup(draft.cells, column)) for column in columns]
        draft.labels = [] if list(columns) == list(LETTERS[: len(columns)]) else list(columns)
    else:
        texts, draft.labels = _one_column(lookup(draft.cells, columns[0]))
    texts = without_letters(texts)
    for taken_off in (without_numbers, with_own_letters):
        if not draft.labels:
            texts, draft.labels = taken_off(texts)
    draft.fields["choices"] = texts
    if several := _take_marks(draft):
        return several
    if sum(map(bool, texts)) < 2:
        shown = " ".join(text_of(lookup(draft.cells, columns[0])).split())[:60] if len(columns) == 1 else ""
        return f"fewer than two choices{f' (texts are divided by lines, |, ; or letters): {shown!r}' if shown else ''}"
    if len(trimmed(texts)) > len(LETTERS):
        return f"more than {len(LETTERS)} choices, for which there are no letters: {len(texts)}"
    return ""


def trimmed(texts: Sequence[str]) -> list[str]:
    """Without empty places behind the last option."""
    return list(texts[: max((i for i, text in enumerate(texts, 1) if text), default=0)])


def _one_column(value: Any) -> tuple[list[str], list[str]]:
    """(texts, the table's own letters) of a list, {"text": [...], "label": [...]}, {"A": ...}, or text."""
    if isinstance(value, str):
        value = divided(value.strip())
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
        if value and all(isinstance(one, Mapping) for one in value) and (name := _shared(_TEXTS, value)):
            label = _shared(_LABELS, value)
            return [text_of(one[name]) for one in value], [text_of(one[label]) for one in value] if label else []
        return [text_of(one) for one in value], []
    return [], []


def _shared(names: str, objects: Sequence[Mapping[str, Any]]) -> str:
    """The first of the names that every object has; "" if none."""
    return next((name for name in names.split() if all(name in one for one in objects)), "")


def _take_marks(draft: Draft) -> str:
    """Sets the letter where the answer is a list that marks the right choice (0, 1, 0); the reason where it cannot."""
    marks = lookup(draft.cells, draft.column)
    marks = printed(marks) if isinstance(marks, str) else marks
    size = len(draft.fields["choices"])
    if not isinstance(marks, list) or len(marks) != size or size < 2 or not all(one in (0, 1) for one in marks):
        return ""
    draft.several, draft.labels, draft.native = [], [], False
    draft.fields.pop("answers", None)
    if sum(marks) != 1:
        return f"not one choice is marked as right: {sum(marks)} of {size}"
    draft.fields["answer"] = LETTERS[marks.index(1)] if size <= len(LETTERS) else ""
    return ""


def place_of(answer: str, draft: Draft, reading: str) -> int | None:
    """Which choice an answer means in one reading; None if none or several."""
    choices: list[str] = draft.fields["choices"]
    own = OWN.match(answer)
    index = _place_of_letter(letter_of(own), draft.labels) if own else -1
    both = 0 <= index < len(choices) and _bare(choices[index]) == _bare(answer[own.end() :]) if own else False
    if reading == "text":
        alike = _with_text(answer, choices) or ([index] if both else [])
        return alike[0] if len(alike) == 1 else None
    if reading == "letter":
        if answer in draft.labels:
            return draft.labels.index(answer)
        lone = _LONE.fullmatch(unicodedata.normalize("NFKC", answer))
        index = _place_of_letter(lone[1].upper(), draft.labels) if lone else index if both else -1
    else:
        whole = re.fullmatch(r"([0-9]{1,3})(?:\.0{1,9})?", answer)  # 1.0 is how tables of numbers write a 1
        index = int(whole[1]) - (reading == "index1") if whole else -1
    return index if 0 <= index < len(choices) else None


def _place_of_letter(letter: str, labels: Sequence[str]) -> int:
    """The place of a letter, or of the choice that has it as its own in the table; -1 where none has."""
    own = [label.upper() for label in labels]
    if own and all(len(label) == 1 and label in LETTERS for label in own):
        return own.index(letter) if letter in own else -1
    return ord(letter) - 65


def _with_text(answer: str, choices: Sequence[str]) -> list[int]:
    """Places of the choices that an answer's text is: exactly, but for case, punctuation around it, or as a number."""
    found: list[int] = []
    for same in (str, folded, _bare):
        found = found or [i for i, choice in enumerate(choices) if choice and same(choice) == same(answer)]
    if not found and (number := to_number(answer)) is not None:  # 1200 among 1,200 and 1,500
        found = [i for i, choice in enumerate(choices) if choice and to_number(choice) == number]
    return found


def _bare(text: str) -> str:
    return folded(text).strip(" .,;:!\"'“”*`")


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
    says = "letters or numbers of the choices, as they have them" if _numbered(rows, reading) else SAYS[reading]
    for draft in rows:
        place = place_of(draft.answer, draft, reading)
        if place is None:
            twice = reading == "text" and len(_with_text(draft.answer, draft.fields["choices"])) > 1
            why = "several choices have the answer's text" if twice else "answer is none of the choices"
            draft.reason = f"{why}, read as {reading} (--answer-is): {draft.answer[:60]!r}"
        elif not draft.fields["choices"][place]:
            draft.reason = f"the answer is a choice that is empty: {LETTERS[place]}"
        else:
            draft.fields["answer"] = LETTERS[place]
            others = [place_of(other, draft, reading) for other in draft.fields.get("answers", ())]
            draft.fields["answers"] = [LETTERS[other] for other in others if other is not None and other != place]
    fits = sum(not draft.reason for draft in rows)
    changes = "--answer-is" if options.answer_is else "--answer-is letter|text|index0|index1 changes it"
    notes.append(f"answers are {says}, as {fits} of {rows_told(len(rows))} can be read ({changes})")


def _numbered(rows: Sequence[Draft], reading: str) -> bool:
    return reading == "letter" and any(draft.answer.isdecimal() and draft.answer in draft.labels for draft in rows)


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
