"""What an import works on: which column is what, what the table does not say, and rows on their way to problems.

Usage: `draft = draft_of(place, cells, columns, options)`; a reason is a kind, then `: ` and the row's own detail
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from realm_cli.method.answers import clean, stated_answer
from realm_cli.stages.import_cells import MISSING, UnusableCell, as_list, filled, lookup, text_of, turns
from realm_cli.stages.json_tables import FROM_SPLIT, KEY, SPLITS, Cells
from realm_cli.stages.table_files import MORE

LIST_MARKS = (", ", "; ")
_HASHES = re.compile(r"[ \t]*####[ \t]*(\S.*)")


@dataclass(frozen=True)
class Columns:
    """Which column is what. question, solution: a column's name or path, or a text with {column} in it."""

    question: str
    answer: str
    id: str | None = None
    split: str | None = None
    group: str | None = None
    solution: str | None = None
    choices: Sequence[str] = ()  # one column that holds a list, or one column for each choice
    answers: Sequence[str] = ()  # further accepted answers
    split_by: str | None = None  # all rows of one value are in one split
    tolerance: str | None = None
    lower: str | None = None
    upper: str | None = None
    answer_type: str | None = None  # a column of type names


@dataclass(frozen=True)
class Options:
    """What the table does not say. answer_type, answer_is, decimal, date_order None: found by the column."""

    answer_type: str | None = None
    dev: float = 0.1
    test: float = 0.2
    seed: int = 0
    domain: str = ""
    prefix: str = "row"
    answer_is: str | None = None  # letter, text, index0, index1
    list_means: str = "all"  # all, any
    decimal: str | None = None  # comma, point
    date_order: str | None = None  # dmy, mdy, ymd
    tolerance: str | None = None  # 0.5 or 5%


@dataclass
class Draft:
    """A row on its way to a problem. `reason` is set where it cannot be one."""

    place: str
    cells: Cells
    fields: dict[str, Any] = field(default_factory=dict)
    column: str = ""  # of the answer
    native: bool = False  # the answer is a number in the table, not text
    several: list[str] = field(default_factory=list)  # all wanted, in any order
    labels: list[str] = field(default_factory=list)  # the table's own letters of the choices
    whole_turn: bool = False  # the answer is all that an assistant said, as it states none
    home: str = ""  # rows with the same one are in one split
    reason: str = ""

    @property
    def answer(self) -> str:
        """The answer as it stands now."""
        return str(self.fields.get("answer", ""))

    @property
    def kind(self) -> str:
        """The answer type, "" before it is known."""
        return str(self.fields.get("answer_type", ""))


def draft_of(place: str, cells: Cells, columns: Columns, options: Options, texts_are_lists: bool) -> Draft:
    """The row's fields as they stand, or a draft with the reason why there are none."""
    draft = Draft(place, cells, column=columns.answer)
    try:
        draft.reason = _fill(draft, columns, options, texts_are_lists)
    except UnusableCell as error:
        draft.reason = str(error)
    return draft


def _fill(draft: Draft, columns: Columns, options: Options, texts_are_lists: bool) -> str:
    cells, fields = draft.cells, draft.fields
    if cells.get(MORE):
        return "more cells than columns: put quotes around cells that hold the divider"
    fields["question"] = filled(columns.question, cells)
    reason = _take_answer(draft, columns, options, texts_are_lists)
    if isinstance(asked := lookup(cells, columns.question), dict) and turns(asked) is None:
        return f"the question is an object: {_fields_told(columns.question, asked)}"
    if not fields["question"]:
        return "empty question"
    if reason:
        return reason
    key = cells.get(KEY) if columns.id is None else text_of(lookup(cells, columns.id))
    if key:
        fields["id"] = str(key)
    if columns.group is not None and (group := text_of(lookup(cells, columns.group))):
        fields["group"] = group
    _take_solution(draft, columns)
    split = text_of(lookup(cells, columns.split)) if columns.split is not None else str(cells.get(FROM_SPLIT, ""))
    if columns.split is not None or split:
        if split.lower() not in SPLITS:
            return f"split is not one of {', '.join(SPLITS)}: {split!r}"
        fields["split"] = SPLITS[split.lower()]
    by = text_of(lookup(cells, columns.split_by)) if columns.split_by is not None else ""
    draft.home = by or fields["question"]
    return ""


def _fields_told(column: str, value: dict[str, Any]) -> str:
    return f"name one of its fields, e.g. {', '.join(f'{column}.{name}' for name in list(value)[:4])}"


def _take_answer(draft: Draft, columns: Columns, options: Options, texts_are_lists: bool) -> str:
    value: Any = lookup(draft.cells, columns.answer)
    if (chat := turns(value)) is not None:
        said = [text for who, text in chat if who == "assistant" and text]
        stated = stated_answer(said[-1]) if said else None
        draft.whole_turn = bool(said) and stated is None
        value = (stated or said[-1]) if said else ""
        if said and value != said[-1]:
            draft.fields["gold_solution"] = said[-1]
    if isinstance(value, str) and texts_are_lists and (found := as_list(value.strip())) is not None:
        value = found
    draft.native = isinstance(value, int | float) and not isinstance(value, bool)
    further = _further(draft.cells, columns.answers)
    if isinstance(value, dict):
        return f"the answer is an object: {_fields_told(columns.answer, value)}"
    if isinstance(value, list | tuple):
        if any(isinstance(one, dict | list | tuple) for one in value):
            return "the answer is a list of lists or objects: name a path to the answers"
        members = list(dict.fromkeys(text for one in value if (text := text_of(one))))
        draft.native = len(members) == 1 and not isinstance(value[0], str | bool)
        if options.list_means == "any":
            further = members[1:] + further
        elif len(members) > 1:
            draft.several = members
            joined = joined_list(members)
            if joined is None:
                return f"a member of the answer's list holds a semicolon: {members}"
            draft.fields["answer"] = joined
        value = members[0] if members else ""
    answer = draft.fields.setdefault("answer", text_of(value))
    if not answer:
        return "empty answer"
    if (marked := _HASHES.fullmatch(answer.rpartition("\n")[2])) and (
        last := clean(marked[1])
    ):  # GSM8K: the solution, then the answer
        draft.fields |= {"answer": last, "gold_solution": answer}
    elif "\\boxed" in answer and (boxed := stated_answer(answer)):  # MATH: the answer is in the solution
        draft.fields["answer"] = boxed
        if not answer.startswith("\\boxed{"):
            draft.fields["gold_solution"] = answer
    if further:
        draft.fields["answers"] = [text for text in dict.fromkeys(further) if text != draft.answer]
    return ""


def joined_list(members: Sequence[str]) -> str | None:
    """The members as the grader takes them apart: by commas, or by semicolons where one holds a comma or `and`."""
    if any(";" in member or "\n" in member for member in members):
        return None
    plain = not any("," in member or "and" in member.casefold().split() for member in members)
    return LIST_MARKS[0 if plain else 1].join(members)


def _further(cells: Cells, names: Sequence[str]) -> list[str]:
    """Accepted answers of a list, of text divided by | or line breaks, or of a column each."""
    found: list[str] = []
    for name in names:
        value = lookup(cells, name)
        if isinstance(value, str):
            listed = as_list(value.strip())
            value = listed if listed is not None else value.replace("\n", "|").split("|")
        found += [text_of(one) for one in (value if isinstance(value, list | tuple) else [value])]
    return [text for text in found if text]


def _take_solution(draft: Draft, columns: Columns) -> None:
    fields = draft.fields
    if columns.solution is not None and (solution := filled(columns.solution, draft.cells, role="assistant")):
        fields["gold_solution"] = solution


def end_solution(draft: Draft) -> None:
    """Lets a written solution state its answer, as it is after all readings, so that it can be a teacher's text."""
    fields = draft.fields
    if (told := fields.get("gold_solution")) and stated_answer(told) is None:
        fields["gold_solution"] = f"{told}\nAnswer: {fields['answer']}"


def texts_are_lists(rows: Sequence[tuple[str, Cells]], column: str) -> bool:
    """Whether all answers of a column are lists of texts, written as text (CSV knows no others)."""
    answers = [value for _, cells in rows if (value := lookup(cells, column)) not in (None, "", MISSING)]
    if not answers or not all(isinstance(value, str) and value.strip().startswith("[") for value in answers):
        return False
    lists = [as_list(value.strip()) for value in answers]
    return all(found is not None for found in lists) and any(isinstance(m, str) for found in lists for m in found or ())
