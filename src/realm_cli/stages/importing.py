"""Other people's tables as Problem rows: columns mapped, answer types guessed, splits made, rejects with reasons.

Usage: `found = convert(read_table(path), Columns(question="text", answer="label"), Options())`; found.problems

Splits that the table lacks are drawn by a hash of the question, so that a question asked twice is never on both sides,
and a longer table keeps the splits of its old rows.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, get_args

from pydantic import ValidationError

from realm_cli.errors import ConfigError
from realm_cli.method.answers import clean, known_types, stated_answer, to_number
from realm_cli.records import Problem, Split
from realm_cli.stages.table_files import MORE, Cells

SPLITS = {"training": "train", "validation": "dev", "valid": "dev", "val": "dev", "development": "dev", "eval": "test"}
SPLITS |= {name: name for name in get_args(Split)}
LABELS, LABEL_WORDS = 20, 6  # most distinct answers, and words in one, that still look like labels
FEW = 20  # training rows below which none are taken away for dev
NUMBERS = 0.95  # share of answers that are numbers, from which on the others are mistakes
_EURO = re.compile(r"-?(?:\d{1,3}(?:\.\d{3})+|\d+)(?:,\d+)?")  # 1.234,50
_HASHES = re.compile(r"^[ \t]*####[ \t]*(\S.*)$", re.MULTILINE)
_NAME = re.compile(r"\{([^{}\n]{1,100})\}")


@dataclass(frozen=True)
class Columns:
    """Which column is what. question, solution: a column's name, or a text with {column} in it."""

    question: str
    answer: str
    id: str | None = None
    split: str | None = None
    group: str | None = None
    solution: str | None = None
    choices: Sequence[str] = ()  # one column that holds a list, or one column for each choice


@dataclass(frozen=True)
class Options:
    """What the table does not say. answer_type None: guessed."""

    answer_type: str | None = None
    dev: float = 0.1
    test: float = 0.2
    seed: int = 0
    domain: str = ""
    prefix: str = "row"


@dataclass
class Imported:
    """problems, rejects as (place, reason, cells), and what was guessed, in words."""

    problems: list[Problem] = field(default_factory=list)
    rejects: list[tuple[str, str, Cells]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def convert(rows: Iterable[tuple[str, Cells]], columns: Columns, options: Options, name: str = "the table") -> Imported:
    """Problem rows of a table. ConfigError for columns that it has not, or options that make no sense."""
    rows = list(rows)
    if options.answer_type is not None and options.answer_type not in known_types():
        raise ConfigError(f"--answer-type {options.answer_type}: unknown; choose one of {', '.join(known_types())}")
    if min(options.dev, options.test) < 0 or options.dev + options.test >= 1:
        raise ConfigError("--dev and --test: shares from 0 on, together below 1, e.g. --dev 0.1 --test 0.2")
    _check_columns(rows, columns, name)
    found = Imported()
    drafts = []
    for place, cells in rows:
        draft = _draft(cells, columns)
        if isinstance(draft, str):
            found.rejects.append((place, draft, cells))
        else:
            drafts.append((place, cells, draft))
    if options.answer_type in (None, "number"):
        _decimal_points([draft for _, _, draft in drafts], found.notes)
    kind = options.answer_type or _guess([draft for _, _, draft in drafts], found.notes)
    base = _index_base([draft for _, _, draft in drafts]) if kind == "choice" else 0
    seen: dict[str, tuple[str, str, str]] = {}  # question -> place, answer, split
    ids: set[str] = set()
    for number, (place, cells, draft) in enumerate(drafts, 1):
        draft["answer_type"] = kind
        draft["id"] = str(draft.get("id") or f"{options.prefix}-{number:06d}")
        draft["domain"] = options.domain
        draft.setdefault("split", split_of(draft["question"], options))
        reason = _wrong(draft, kind, base, seen, ids)
        if not reason:
            try:
                found.problems.append(Problem.model_validate(draft))
            except ValidationError as error:
                reason = str(error.errors()[0]["msg"])
        if reason:
            found.rejects.append((place, reason, cells))
            continue
        ids.add(draft["id"])
        seen[_key(draft["question"])] = (place, draft["answer"], draft["split"])
    if columns.split is None and found.problems:
        shares = f"dev {options.dev:.0%}, test {options.test:.0%}"
        found.notes.append(f"no --split column: drawn by question ({shares}, seed {options.seed})")
        found.notes += [f"column {name} has split names only: --split {name} keeps them" for name in _splits(rows)]
    elif options.dev and all(problem.split != "dev" for problem in found.problems):
        _take_dev(found, options)
    return found


def _take_dev(found: Imported, options: Options) -> None:
    """Dev problems out of the training ones, as most published tables have none. A handful of rows is left alone."""
    if sum(problem.split == "train" for problem in found.problems) < FEW:
        return
    only_dev = replace(options, test=0.0)
    for i, problem in enumerate(found.problems):
        if problem.split == "train" and split_of(problem.question, only_dev) == "dev":
            found.problems[i] = problem.model_copy(update={"split": "dev"})
    found.notes.append(
        f"no dev rows: {options.dev:.0%} of train taken by question, seed {options.seed} (--dev 0: none)"
    )


def _splits(rows: Sequence[tuple[str, Cells]]) -> list[str]:
    """Columns in which every cell names a split, and not the same one."""
    values: dict[str, set[str]] = {}
    for _, cells in rows:
        for name, value in cells.items():
            values.setdefault(name, set()).add(_text(value).lower())
    return [name for name, found in values.items() if len(found) > 1 and found <= set(SPLITS)]


def split_of(question: str, options: Options) -> str:
    """A split by the question's hash, so that a repeated question never stands on both sides."""
    digest = hashlib.sha256(f"{options.seed}\0{_key(question)}".encode()).digest()
    at = int.from_bytes(digest[:8], "big") / 2**64
    return "test" if at < options.test else "dev" if at < options.test + options.dev else "train"


def _key(question: str) -> str:
    """As `load_problems` compares questions."""
    return re.sub(r"\W+", " ", question.lower()).strip()


def _check_columns(rows: Sequence[tuple[str, Cells]], columns: Columns, name: str) -> None:
    known = dict.fromkeys(key for _, cells in rows[:1000] for key in cells if key != MORE)
    wanted = {"--question": _names(columns.question, known), "--choices": list(columns.choices)}
    singles = {"answer": columns.answer, "id": columns.id, "split": columns.split, "group": columns.group}
    wanted |= {"--solution": _names(columns.solution, known)} if columns.solution is not None else {}
    wanted |= {f"--{key}": [value] for key, value in singles.items() if value is not None}
    for option, names in wanted.items():
        for column in names:
            if column not in known:
                raise ConfigError(f"{option} {column}: {name} has no such column; it has {', '.join(map(str, known))}")


def _names(template: str, known: Mapping[str, Any]) -> list[str]:
    return [template] if template in known or "{" not in template else _NAME.findall(template)


def _draft(cells: Cells, columns: Columns) -> dict[str, Any] | str:
    """The row's fields as they stand, or why there are none."""
    if cells.get(MORE):
        return "more cells than columns: put quotes around cells that hold the divider"
    question = _filled(columns.question, cells)
    answer = _text(cells.get(columns.answer))
    if not question:
        return "empty question"
    if not answer:
        return "empty answer"
    draft: dict[str, Any] = {"question": question, "answer": answer}
    if (stated := _HASHES.findall(answer)) and (last := clean(stated[-1])):  # GSM8K: the solution, then the answer
        draft |= {"answer": last, "gold_solution": answer}
    for key, column in (("id", columns.id), ("group", columns.group)):
        if column is not None and _text(cells.get(column)):
            draft[key] = _text(cells.get(column))
    if columns.solution is not None and (solution := _filled(columns.solution, cells)):
        draft["gold_solution"] = solution
    if (told := draft.get("gold_solution")) and stated_answer(told) is None:  # so that it can be a teacher's text
        draft["gold_solution"] = f"{told}\nAnswer: {answer}"
    if columns.split is not None:
        split = SPLITS.get(_text(cells.get(columns.split)).lower())
        if split is None:
            return f"split {_text(cells.get(columns.split))!r}: not one of {', '.join(SPLITS)}"
        draft["split"] = split
    if columns.choices:
        choices = _choices(cells, columns.choices)
        if len(choices) < 2:
            return "fewer than two choices"
        draft["choices"] = choices
    return draft


def _filled(template: str, cells: Cells) -> str:
    """The text of a column, or a text with the cells in the places of their {names}."""
    if template in cells or "{" not in template:
        return _text(cells.get(template))
    return _NAME.sub(lambda m: _text(cells.get(m[1])), template.replace("\\n", "\n")).strip()


def _choices(cells: Cells, columns: Sequence[str]) -> list[str]:
    """A list, {"text": [...]} (ARC), JSON of these, or a text divided by | or ;."""
    if len(columns) > 1:
        return [text for column in columns if (text := _text(cells.get(column)))]
    value = cells.get(columns[0])
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            value = re.split(r"[|;]", value)
    if isinstance(value, Mapping):
        value = value.get("text", list(value.values()))
    return [_text(one) for one in value if _text(one)] if isinstance(value, list | tuple) else []


def _text(value: object) -> str:
    if value is None or value != value:  # NaN: how tables of numbers write an empty cell
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)).strip()


def _guess(drafts: Sequence[Mapping[str, Any]], notes: list[str]) -> str:
    """The answer type that all answers fit, and why, as a note."""
    answers = [str(draft["answer"]) for draft in drafts]
    distinct = set(map(str.lower, answers))
    if drafts and all("choices" in draft for draft in drafts):
        kind, why = "choice", "every row has choices"
    elif answers and sum(map(_is_number, answers)) >= NUMBERS * len(answers):
        odd = [answer for answer in answers if not _is_number(answer)]
        kind, why = "number", f"all answers but {len(odd)} are numbers" if odd else "every answer is a number"
    elif any("\\" in answer or "$" in answer for answer in answers):
        kind, why = "expr", "some answers are formulas"
    elif len(distinct) <= min(LABELS, len(answers) // 3) and all(len(a.split()) <= LABEL_WORDS for a in distinct):
        kind, why = "label", f"{len(distinct)} different answers: {', '.join(sorted(distinct)[:6])}"
    else:
        kind, why = "text", f"{len(distinct)} different answers, not all numbers"
    notes.append(f"answer type {kind}: {why} (--answer-type changes it)")
    return kind


def _is_number(answer: str) -> bool:
    """A number with at most a sign, a currency and a unit; x^2 and \\frac{1}{2} are formulas."""
    return to_number(answer) is not None and len(answer.split()) <= 3 and not re.search(r"[\\^=]", answer)


def _decimal_points(drafts: Sequence[dict[str, Any]], notes: list[str]) -> None:
    """1.234,50 becomes 1234.50 where every answer can be read so and one cannot be read otherwise."""
    answers = [str(draft["answer"]) for draft in drafts]
    if all(map(_EURO.fullmatch, answers)) and any(to_number(answer) is None for answer in answers):
        for draft, answer in zip(drafts, answers, strict=True):
            draft["answer"] = answer.replace(".", "").replace(",", ".")
        notes.append(f"answers have decimal commas: {answers[0]} is read as {drafts[0]['answer']}")


def _index_base(drafts: Sequence[Mapping[str, Any]]) -> int | None:
    """From where choices are counted, if all answers are their numbers; None if they are not."""
    answers = [str(draft["answer"]) for draft in drafts]
    if not all(answer.isdecimal() and len(answer) < 3 for answer in answers):
        return None
    if any(answer in draft.get("choices", ()) for answer, draft in zip(answers, drafts, strict=True)):
        return None  # the choices are numbers themselves
    return min(map(int, answers), default=0) and 1


def _wrong(
    draft: dict[str, Any], kind: str, base: int | None, seen: Mapping[str, tuple[str, str, str]], ids: set[str]
) -> str:
    """Why a row cannot be used, "" if it can; a choice's answer becomes its letter."""
    earlier = seen.get(_key(draft["question"]))
    if earlier is not None:
        same = "the same answer" if earlier[1] == draft["answer"] else f"another answer ({earlier[1]})"
        moved = "" if earlier[2] == draft["split"] else f", in {draft['split']} (that one is in {earlier[2]})"
        return f"the question of {earlier[0]} again, with {same}{moved}"
    if draft["id"] in ids:
        return f"id {draft['id']} again"
    if kind == "number" and to_number(draft["answer"]) is None:
        return f"answer {draft['answer'][:60]!r} is no number"
    if kind != "choice":
        return ""
    choices, answer = draft.get("choices", []), draft["answer"]
    letters = [chr(65 + i) for i in range(len(choices))]
    if base is not None and answer.isdecimal() and 0 <= int(answer) - base < len(choices):
        draft["answer"] = letters[int(answer) - base]
    elif answer.strip("(). ").upper() in letters:
        draft["answer"] = answer.strip("(). ").upper()
    elif answer in choices:
        draft["answer"] = letters[choices.index(answer)]
    else:
        return f"answer {answer[:60]!r} is none of the choices"
    return ""


def place_counts(problems: Sequence[Problem]) -> Iterator[tuple[str, int, int, str]]:
    """(split, problems, different answers, the most frequent answer) by split."""
    for split in get_args(Split):
        chosen = [problem.answer for problem in problems if problem.split == split]
        common = Counter(chosen).most_common(1)
        yield split, len(chosen), len(set(chosen)), f"{common[0][0]} ({common[0][1]})" if common else "-"
