"""Other people's tables as Problem rows: columns mapped, answers read by the column, splits made, rejects with reasons.

Usage: `found = convert(read_table(path)[0], Columns(question="text", answer="label"), Options())`; found.problems

A column is read as a whole: its answer type, decimal sign, order of dates and what its choices' answers are. What was
found is in the notes, with the option that changes it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pydantic import ValidationError

from realm_cli.errors import ConfigError
from realm_cli.method.answers import is_correct, known_types
from realm_cli.method.questions import folded, question_key
from realm_cli.records import Problem
from realm_cli.stages.import_cells import MISSING, UnusableCell, columns_of, inside, lookup, names_in, turns
from realm_cli.stages.import_choices import set_golds, set_options, trimmed
from realm_cli.stages.import_notes import unused_note, used_names
from realm_cli.stages.import_numbers import limit_of, set_dates, set_limits, set_numbers
from realm_cli.stages.import_rows import Columns, Draft, Options, draft_of, end_solution, texts_are_lists
from realm_cli.stages.import_splits import dev_from_train, split_columns, split_of, splits_of_values, torn
from realm_cli.stages.import_types import needs_no_choices, rows_told, set_types
from realm_cli.stages.json_tables import FROM_SPLIT, Cells

__all__ = ["Columns", "Imported", "Options", "convert"]
CHOSEN = {"answer_is": ("letter", "text", "index0", "index1"), "list_means": ("all", "any"),
          "decimal": ("comma", "point"), "date_order": ("dmy", "mdy", "ymd")}  # fmt: skip


@dataclass
class Imported:
    """problems, rejects as (place, reason, cells), and what was found, in words."""

    problems: list[Problem] = field(default_factory=list)
    rejects: list[tuple[str, str, Cells]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def convert(rows: Iterable[tuple[str, Cells]], columns: Columns, options: Options, name: str = "the table") -> Imported:
    """Problem rows of a table. ConfigError for columns that it has not, or options that make no sense."""
    rows = list(rows)
    _check_options(options)
    _check_columns(rows, columns, name)
    found = Imported()
    as_lists = texts_are_lists(rows, columns.answer)
    drafts = [draft_of(place, cells, columns, options, as_lists) for place, cells in rows]
    for draft in drafts:
        if columns.choices and not draft.reason:
            draft.reason = set_options(draft, columns.choices)
            if draft.reason and needs_no_choices(draft, columns):
                draft.reason = ""
    set_types(drafts, columns, options, found.notes)
    set_golds(drafts, options, found.notes)
    set_numbers(drafts, options, found.notes)
    set_dates(drafts, options, found.notes)
    set_limits(drafts, columns, options, found.notes)
    _set_splits(drafts, columns, options)
    for draft in drafts:
        if not draft.reason:
            end_solution(draft)
    homes = _add(drafts, options, found)
    if hidden := [p for p in found.problems if p.choices and p.answer_type != "choice"]:
        found.notes.append(
            f"{rows_told(len(hidden))} of type {hidden[0].answer_type}: prompts show choices for type choice only; "
            "write them into --question"
        )
    found.notes += _chat_notes(rows, columns)
    whole = [draft for draft in drafts if draft.whole_turn and not draft.reason]
    if whole:
        found.notes.append(
            f"{rows_told(len(whole))} whose assistant turn states no answer: all of it is the answer, "
            f"e.g. {whole[0].answer[:50]!r} ({whole[0].place})"
        )
    _finish_splits(rows, columns, options, found, homes)
    found.notes += unused_note(rows, columns)
    return found


def _check_options(options: Options) -> None:
    if options.answer_type is not None and options.answer_type not in known_types():
        raise ConfigError(
            f"--answer-type {options.answer_type}: neither a type nor a column; types: {', '.join(known_types())}"
        )
    if min(options.dev, options.test) < 0 or options.dev + options.test >= 1:
        raise ConfigError("--dev and --test: shares from 0 on, together below 1, e.g. --dev 0.1 --test 0.2")
    for key, allowed in CHOSEN.items():
        value = getattr(options, key)
        if value is not None and value not in allowed:
            raise ConfigError(f"--{key.replace('_', '-')} {value}: choose one of {', '.join(allowed)}")
    if options.tolerance is not None and ((size := limit_of(options.tolerance)) is None or size < 0):
        raise ConfigError(f"--tolerance {options.tolerance}: neither a column, nor a number from 0 on, nor such as 5%")


def _check_columns(rows: Sequence[tuple[str, Cells]], columns: Columns, name: str) -> None:
    cells = [row for _, row in rows[:1000]]
    for option, names in used_names(rows, columns).items():
        for column in names:
            if all(lookup(row, column) is MISSING for row in cells):
                has = list(inside(rows, column)) or columns_of(rows)
                raise ConfigError(f"{option} {column}: {name} has no such column; it has {', '.join(has)}")


def _set_splits(drafts: Sequence[Draft], columns: Columns, options: Options) -> None:
    rows = [draft for draft in drafts if not draft.reason and "split" not in draft.fields]
    by_value = {}
    if columns.split_by is not None:
        by_value = splits_of_values([draft.home for draft in rows], options.dev, options.test, options.seed)
    for draft in rows:
        drawn = split_of(draft.home, options.dev, options.test, options.seed)
        draft.fields["split"] = by_value.get(draft.home, drawn)


def _add(drafts: Sequence[Draft], options: Options, found: Imported) -> dict[str, str]:
    """Drafts as problems, each question once; returns problem id -> the text whose problems stay in one split."""
    seen: dict[str, tuple[Draft, Problem]] = {}
    homes: dict[str, str] = {}
    for number, draft in enumerate([draft for draft in drafts if "question" in draft.fields], 1):
        draft.fields["id"] = str(draft.fields.get("id") or f"{options.prefix}-{number:06d}")
    for draft in drafts:
        reason = draft.reason
        key = question_key(draft.fields.get("question", ""), draft.fields.get("choices"))
        if not reason and key in seen:
            reason = _again(draft, *seen[key])
        if not reason and draft.fields["id"] in homes:
            reason = f"id again: {draft.fields['id']}"
        if not reason:
            try:
                problem = _problem(draft, options)
                if not is_correct(problem.answer, problem):
                    reason = f"the answer cannot be read as {problem.answer_type}: {problem.answer[:60]!r}"
            except ValidationError as error:
                reason = str(error.errors()[0]["msg"])
        if reason:
            found.rejects.append((draft.place, reason, draft.cells))
            continue
        found.problems.append(problem)
        homes[problem.id] = draft.home
        seen[key] = (draft, problem)
    return homes


def _problem(draft: Draft, options: Options) -> Problem:
    fields = {**draft.fields, "domain": options.domain}
    if "choices" in fields:
        fields["choices"] = trimmed(fields["choices"])
    return Problem.model_validate(fields)


def _meaning(draft: Draft) -> str:
    """The answer as it is compared between rows: a letter's text, where the choices may stand in another order."""
    choices = draft.fields.get("choices")
    place = ord(draft.answer) - 65 if draft.kind == "choice" and len(draft.answer) == 1 else -1
    return folded(choices[place]) if choices and 0 <= place < len(choices) else draft.answer


def _again(draft: Draft, earlier: Draft, problem: Problem) -> str:
    alike = _meaning(draft) == _meaning(earlier) or (draft.kind != "choice" and is_correct(draft.answer, problem))
    same = "the same answer" if alike else "another answer"
    theirs, mine = earlier.fields["split"], draft.fields["split"]
    moved = "" if theirs == mine else f", in {mine} (that one is in {theirs})"
    other = "" if alike else f" ({earlier.answer})"
    return f"a question again, with {same}{moved}: that of {earlier.place}{other}"


def _chat_notes(rows: Sequence[tuple[str, Cells]], columns: Columns) -> list[str]:
    """What was taken of chats, and what was not."""
    chats = []
    names = names_in(columns.question, [cells for _, cells in rows[:1000]])
    for place, cells in rows:
        for name in names:
            try:
                chat = turns(lookup(cells, name))
            except UnusableCell:
                chat = None
            chats += [(place, chat)] if chat else []
    if not chats:
        return []
    kinds = Counter(who for _, chat in chats for who in {who for who, _ in chat})
    told = "questions are the user's turns"
    if kinds["assistant"]:
        answered = (
            f"; the assistant's are not shown{'' if columns.solution else f' (--solution {names[0]}: the last one)'}"
        )
        told += answered
    notes = [told]
    others = kinds["system"] + kinds["other"]
    if others:
        text = "value" if any(lookup(cells, f"{names[0]}.0.value") is not MISSING for _, cells in rows) else "content"
        example = next(text for _, chat in chats for who, text in chat if who in ("system", "other"))
        notes.append(
            f"{rows_told(others)} with system or tool turns, left out, e.g. {' '.join(example.split())[:50]!r} "
            f'(-q "{{{names[0]}.0.{text}}}\\n\\n{{{names[0]}.1.{text}}}" takes turns by number)'
        )
    several = sum(sum(who == "user" for who, _ in chat) > 1 for _, chat in chats)
    if several:
        notes.append(f"{rows_told(several)} with several turns of the user: put one below the other")
    return notes


def _finish_splits(
    rows: Sequence[tuple[str, Cells]], columns: Columns, options: Options, found: Imported, homes: dict[str, str]
) -> None:
    if not found.problems:
        return
    by = f"column {columns.split_by}" if columns.split_by is not None else "question"
    if columns.split is None and not any(FROM_SPLIT in cells for _, cells in rows):
        found.notes.append(
            f"no --split column: drawn by {by} (dev {options.dev:.0%}, test {options.test:.0%}, seed {options.seed})"
        )
        found.notes += [
            f"column {name} has split names only: --split {name} keeps them" for name in split_columns(rows)
        ]
    elif options.dev and all(problem.split != "dev" for problem in found.problems):
        found.problems, note = dev_from_train(found.problems, homes, options.dev, options.seed)
        found.notes += [f"{note}, by {by}"] if note else []
    if columns.split_by is None:
        return
    values = Counter(
        {split: len({homes[p.id] for p in found.problems if p.split == split}) for split in ("train", "dev", "test")}
    )
    found.notes.append(
        f"{len(set(homes.values()))} values of {columns.split_by}, each in one split: "
        + ", ".join(f"{n} {split}" for split, n in values.items())
    )
    if apart := torn(found.problems, homes):
        found.notes[-1] = (
            f"{len(apart)} values of {columns.split_by} stand in several splits, as column {columns.split} has them, "
            f"e.g. {apart[0][:60]!r}: leave --split out to draw by {columns.split_by}"
        )
