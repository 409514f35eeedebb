"""The answer type of a column's answers: given, row by row in a column of their own, or guessed; with the reasons.

Usage: `set_types(drafts, columns, options, notes)`; each draft has its `answer_type` after it
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence, Sized

from realm_cli.method.answers import clean, known_types, to_number
from realm_cli.method.dates import MONTHS, readings
from realm_cli.stages.import_cells import lookup, text_of
from realm_cli.stages.import_rows import Columns, Draft, Options

LABELS, LABEL_WORDS = 20, 6  # most distinct answers, and words in one, that still look like labels
MOST = 0.95  # share of answers that are numbers or dates, from which on the others are mistakes
FORMULAS = 0.3  # share of formulas among answers from which on words stand among formulas, not the other way round
SHOWN = 3  # answers that speak against a guess
_TEX = re.compile(r"\\[A-Za-z(\[]|\\\\|\^\s?[{(\dA-Za-z]|\$[^$\n]{0,200}[\\^=_][^$\n]{0,200}\$")
_PLAIN_MATH = re.compile(r"[\d\s.,+\-*/^()\[\]{}=<>|!×÷·√π∞≤≥≠±]{0,200}")
_MATH_WORD = re.compile(r"\b(?:sqrt|pi|sin|cos|tan|log|ln|exp|frac|[a-zA-Z])\b|(?<=\d)(?:pi|sqrt|[a-zA-Z])(?![A-Za-z])")
_RANGE = re.compile(r"[\d\s–-]{1,200}")  # 5-10, 555-1234
_OPERATOR = re.compile(
    r"[\w)\]]\s{0,3}[+*/^=<>×÷·√±-]\s{0,3}[\w(\[√π]|\w\(|^[(\[][^()]{0,60},[^()]{0,60}[)\]]$|√|π|\bpi\b|^\d{1,9}[xyznkt]$"
)


def set_types(drafts: Sequence[Draft], columns: Columns, options: Options, notes: list[str]) -> None:
    """Types of all usable drafts; `list` for those that want several answers."""
    rest = [draft for draft in drafts if not draft.reason]
    if columns.answer_type is not None:
        named = f"answer types are those of column {columns.answer_type}"
        for draft in rest:
            kind = text_of(lookup(draft.cells, columns.answer_type)).lower()
            draft.fields["answer_type"] = kind
            if kind and kind not in known_types():
                draft.reason = f"answer type is not one of {', '.join(known_types())}: {kind!r}"
        rest = [draft for draft in rest if not draft.kind]
        notes.append(named + (f"; {rows_told(len(rest))} without one: guessed" if rest else ""))
    several = [draft for draft in rest if draft.several and not draft.fields.get("choices")]
    for draft in several:
        draft.fields["answer_type"] = "list"
    if several:
        notes.append(
            f"{rows_told(len(several))} with a list: all of its members are wanted, in any order, type list "
            "(--list-means any: each alone is right)"
        )
    rest = [draft for draft in rest if draft.kind != "list"]
    if options.answer_type is not None:
        for draft in rest:
            draft.fields["answer_type"] = options.answer_type
    elif rest:
        _guess_all(rest, notes)


def needs_no_choices(draft: Draft, columns: Columns) -> bool:
    """Whether a row has no choices, and a type of its own that has none; takes the empty ones away."""
    if columns.answer_type is None or any(draft.fields["choices"]):
        return False
    kind = text_of(lookup(draft.cells, columns.answer_type)).lower()
    if kind in ("", "choice"):
        return False
    del draft.fields["choices"]
    return True


def _guess_all(drafts: Sequence[Draft], notes: list[str]) -> None:
    with_choices = [draft for draft in drafts if draft.fields.get("choices")]
    without = [draft for draft in drafts if not draft.fields.get("choices")]
    if with_choices:
        for draft in with_choices:
            draft.fields["answer_type"] = "choice"
        told = "every row has choices" if not without else f"{rows_told(len(with_choices))} with choices"
        notes.append(f"answer type choice: {told} (--answer-type changes it)")
    if not without:
        return
    kind, why, against = guess(without)
    for draft in without:
        draft.fields["answer_type"] = kind
    shown = ", ".join(f"{draft.answer[:40]!r} ({draft.place})" for draft in against[:SHOWN])
    more = f" and {len(against) - SHOWN} more" if len(against) > SHOWN else ""
    notes.append(
        f"answer type {kind}: {why}"
        + (f"; against it: {shown}{more}" if against else "")
        + " (--answer-type changes it)"
    )
    truths = {draft.answer for draft in without if draft.answer.lower() in ("true", "false")}
    if kind == "label" and truths:
        notes.append(
            f"answers {' and '.join(sorted(truths, reverse=True))} are kept as written; yes and no are read too"
        )


def guess(drafts: Sequence[Draft]) -> tuple[str, str, list[Draft]]:
    """(type, why, the rows that speak against it) of answers without choices."""

    def split(test: Callable[[str], bool]) -> tuple[list[Draft], list[Draft]]:
        yes = [test(draft.answer) for draft in drafts]
        return [d for d, y in zip(drafts, yes, strict=True) if y], [
            d for d, y in zip(drafts, yes, strict=True) if not y
        ]

    dates, no_dates = split(is_date)
    if len(dates) >= MOST * len(drafts):
        return "date", _but("dates", no_dates, "date"), no_dates
    numbers, others = split(is_number)
    if len(numbers) >= MOST * len(drafts):
        return "number", _but("numbers", others, "number"), others
    formulas, words = split(is_formula)
    words = [draft for draft in words if not is_number(draft.answer)]
    distinct = {draft.answer.lower() for draft in drafts}
    few = len(distinct) <= min(LABELS, len(drafts) // 3) and all(len(one.split()) <= LABEL_WORDS for one in distinct)
    mostly = len(formulas) >= FORMULAS * len(drafts)
    tex = any(_TEX.search(draft.answer) for draft in formulas)
    if formulas and ((mostly and (tex or not few)) or (not few and len(words) <= (1 - MOST) * len(drafts))):
        against = [draft for draft in words if draft not in formulas]
        return "expr", f"{len(formulas)} of {len(drafts)} answers are formulas", against
    if few:
        against = [draft for draft in drafts if is_number(draft.answer)] if len(numbers) < len(drafts) / 2 else others
        return "label", f"{_different(distinct)}: {', '.join(one[:40] for one in sorted(distinct)[:6])}", against
    if numbers and len(numbers) >= len(drafts) / 2:
        return "text", f"{len(numbers)} of {len(drafts)} answers are numbers, the others are not", others
    return "text", f"{_different(distinct)}, {len(numbers)} of them numbers", numbers


def _different(answers: Sized) -> str:
    return "1 answer in all rows" if len(answers) == 1 else f"{len(answers)} different answers"


def _but(what: str, odd: Sequence[Draft], one: str) -> str:
    return f"all answers but {len(odd)} are {what}" if odd else f"every answer is a {one}"


def is_number(answer: str) -> bool:
    """A number with at most a sign, a currency and a unit; x^2 and \\frac{1}{2} are formulas, `March 2024` is words."""
    answer = (clean(answer) or answer).replace("\\$", "$").replace("\\%", "%")
    if not re.search(r"\d", answer) or re.search(r"[\\^=]", answer) or len(answer.split()) > 3:
        return len(re.sub(r"[\d.,\s'’]", "", answer)) == 0 and _reads(answer)
    words = re.findall(r"[^\W\d_]{3,20}", answer.lower())
    return not any(word in MONTHS for word in words) and _reads(answer)


def _reads(answer: str) -> bool:
    return to_number(answer) is not None or to_number(answer, decimal_comma=True) is not None


def is_date(answer: str) -> bool:
    """A date in some order; eight digits alone are a number."""
    return not answer.isdecimal() and bool(readings(answer))


def is_formula(answer: str) -> bool:
    """LaTeX, or signs and single letters with an operator between them. Money ($0, $5 million) is none."""
    answer = answer.replace("\\$", "$")
    if _TEX.search(answer) or re.fullmatch(r"\$[^$\n]{1,200}\$", answer):
        return not is_number(answer)
    if len(answer) > 200 or answer.startswith("$") or _RANGE.fullmatch(answer) or not re.search(r"[\da-zπ√]", answer):
        return False
    if is_number(answer) or is_date(answer):
        return False
    return bool(_PLAIN_MATH.fullmatch(_MATH_WORD.sub("", answer))) and bool(_OPERATOR.search(answer))


def rows_told(n: int) -> str:
    """1 row, 2 rows."""
    return "1 row" if n == 1 else f"{n} rows"
