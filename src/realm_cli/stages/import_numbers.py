"""Numbers and dates of a whole column: one decimal sign, one order of dates, float noise, tolerances and limits.

Usage: `set_numbers(drafts, options, notes)`, `set_dates(...)`, then `set_limits(drafts, columns, options, notes)`
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import get_args

from realm_cli.errors import ConfigError
from realm_cli.method.answers import to_number
from realm_cli.method.dates import column_order, read_date, readings
from realm_cli.records import DateOrder
from realm_cli.stages.import_cells import MISSING, lookup, shortest, text_of
from realm_cli.stages.import_rows import Columns, Draft, Options
from realm_cli.stages.import_types import rows_told

_RUN = re.compile(r"\d[\d.,]{0,60}(?:[ '’\u00a0\u202f]\d[\d.,]{0,60}){0,20}")
_COMMA = re.compile(r"0,\d+|\d+,(?:\d{1,2}|\d{4,})|\d{1,3}(?:\.\d{3})+,\d+|\d{1,3}(?:\.\d{3}){2,}")
_POINT = re.compile(r"0?\.\d+|\d+\.(?:\d{1,2}|\d{4,})|\d{1,3}(?:,\d{3})+\.\d+|\d{1,3}(?:,\d{2,3})+,\d{3}")
_OPEN = re.compile(r"[1-9]\d{0,2}[.,]\d{3}")  # thousands or decimals
_FLOAT = re.compile(r"-?\d{1,20}\.\d{1,25}(?:[eE][-+]?\d{1,3})?")


def set_numbers(drafts: Sequence[Draft], options: Options, notes: list[str]) -> None:
    """Golds of type number with a point, `decimal_comma` as the column has it, and no traces of binary fractions."""
    rows = [draft for draft in drafts if not draft.reason and draft.kind == "number"]
    _set_decimal(rows, options, notes)
    noisy = [draft for draft in rows if _without_noise(draft)]
    if noisy:
        told = f"e.g. {noisy[0].answer} ({noisy[0].place})"
        notes.append(f"{rows_told(len(noisy))}: digits left by binary fractions taken off, {told}")
    for draft in rows:
        if to_number(draft.answer) is None:
            draft.reason = draft.reason or f"answer is no number: {draft.answer[:60]!r}"


def _set_decimal(rows: Sequence[Draft], options: Options, notes: list[str]) -> None:
    texts = [(draft, run) for draft in rows if not draft.native for run in _runs(draft.answer)]
    commas = [run for _, run in texts if _COMMA.fullmatch(run)]
    points = [run for _, run in texts if _POINT.fullmatch(run)]
    unclear = [(draft, run) for draft, run in texts if _OPEN.fullmatch(run)]
    comma = options.decimal == "comma" if options.decimal else len(commas) > len(points)
    if options.decimal is None and commas and points:
        for draft, run in unclear:
            draft.reason = f"decimals or thousands, as the column has both signs (--decimal comma or point): {run!r}"
        notes.append(f"decimal commas ({commas[0]}) and points ({points[0]}) in one column: both read")
    elif options.decimal is None and unclear and not commas and not points:
        run = unclear[0][1]
        if "," in run:
            notes.append(f"{run} is read as {run.replace(',', '')} (--decimal comma: {run.replace(',', '.')})")
        else:
            notes.append(f"{run} is read with a decimal point (--decimal comma: {run.replace('.', '')})")
    before = {id(draft): draft.answer for draft in rows}
    for draft in rows:
        if comma:
            draft.fields["decimal_comma"] = True
        if not draft.native:
            draft.fields["answer"] = to_point(draft.answer, comma)
            if "answers" in draft.fields:
                draft.fields["answers"] = [to_point(text, comma) for text in draft.fields["answers"]]
    changed = [draft for draft in rows if before[id(draft)] != draft.answer]
    if changed:
        why = "--decimal comma" if options.decimal else "--decimal point changes it"
        shown = f"{before[id(changed[0])]} is read as {changed[0].answer}"
        notes.append(f"answers have decimal commas: {shown}" + (f" ({why})" if comma else ""))


def _runs(answer: str) -> list[str]:
    return [match.group().rstrip(".,") for match in _RUN.finditer(answer[:200])]


def to_point(answer: str, comma: bool) -> str:
    """The answer with a decimal point; as it is where it has no decimal comma or cannot be read."""
    found = _RUN.search(answer[:200])
    if found is None or ("," not in found.group() and not comma):
        return answer
    run = found.group().rstrip(".,")
    if not comma and not _COMMA.fullmatch(run):
        return answer
    if comma and _POINT.fullmatch(run) and not re.fullmatch(r"\d{1,3}\.\d{3}", run):
        return answer  # 2.75 in a column of commas
    value = to_number(answer, decimal_comma=comma)
    new = answer[: found.start()] + re.sub(r"[^\d,]", "", run).replace(",", ".") + answer[found.start() + len(run) :]
    return new if value is not None and to_number(new) == value else answer


def _without_noise(draft: Draft) -> bool:
    """Whether the answer's cell showed a binary fraction; the answer is the short number then."""
    answer = draft.answer
    if _FLOAT.fullmatch(answer) and len(re.sub(r"\D", "", answer)) >= 15:
        draft.fields["answer"] = shortest(float(answer))
    value = lookup(draft.cells, draft.column) if draft.native else None
    return draft.answer != answer or (isinstance(value, float) and value.is_integer() is False and _noisy(value))


def _noisy(value: float) -> bool:
    return math.isfinite(value) and float(shortest(value)) != value


def set_dates(drafts: Sequence[Draft], options: Options, notes: list[str]) -> None:
    """One order for all dates of the column; rows that are none, or whose order is open, get reasons."""
    rows = [draft for draft in drafts if not draft.reason and draft.kind == "date"]
    if not rows:
        return
    answers = [draft.answer for draft in rows]
    order, unclear = column_order(answers)
    if options.date_order is not None:
        order = next(one for one in get_args(DateOrder) if one == options.date_order)
        notes.append(f"dates are read in the order {order} (--date-order)")
    elif order is not None:
        shown = max(answers, key=lambda text: (read_date(text, order) is not None, len(set(readings(text).values()))))
        date = read_date(shown, order)
        notes.append(f"dates are in the order {order}: {shown} is {date} (--date-order dmy|mdy|ymd changes it)")
    elif unclear:
        shown = next(text for text in answers if len(set(readings(text).values())) > 1)
        told = " or ".join(dict.fromkeys(str(date) for date in readings(shown).values()))
        notes.append(f"the dates leave their order open: {shown} is {told}; --date-order dmy|mdy|ymd says which")
    for draft in rows:
        if read_date(draft.answer, order) is not None:
            draft.fields["date_order"] = order
        elif len(set(readings(draft.answer).values())) > 1:
            draft.reason = f"the date depends on its order, add --date-order dmy, mdy or ymd: {draft.answer!r}"
        else:
            draft.reason = f"answer is no date{f' in the order {order}' if order else ''}: {draft.answer[:60]!r}"


def set_limits(drafts: Sequence[Draft], columns: Columns, options: Options, notes: list[str]) -> None:
    """Tolerances and limits of numbers. ConfigError where there are limits and no numbers."""
    given = [f"--{name}" for name in ("tolerance", "lower", "upper") if getattr(columns, name) is not None]
    given += ["--tolerance"] if options.tolerance is not None else []
    if not given:
        return
    rows = [draft for draft in drafts if not draft.reason and draft.kind == "number"]
    if not rows and any(not draft.reason for draft in drafts):
        kind = next(draft.kind for draft in drafts if not draft.reason)
        raise ConfigError(
            f"{given[0]}: is for numbers, and the answers are of type {kind}; leave it out or name the type"
        )
    for draft in rows:
        draft.reason = next(_limits(draft, columns, options), "")
    if columns.tolerance is not None:
        notes.append(f"tolerances are those of column {columns.tolerance}")
    elif options.tolerance is not None:
        notes.append(f"every answer may be off by {options.tolerance}")
    bounds = [
        f"{name} is column {getattr(columns, name)}"
        for name in ("lower", "upper")
        if getattr(columns, name) is not None
    ]
    if bounds:
        notes.append(f"right is every number within the limits, themselves included: {', '.join(bounds)}")


def _limits(draft: Draft, columns: Columns, options: Options) -> Iterator[str]:
    """Reasons why the row's limits cannot be used; its fields are set on the way."""
    fields = draft.fields
    comma = bool(fields.get("decimal_comma"))
    given = lookup(draft.cells, columns.tolerance) if columns.tolerance is not None else None
    slack = text_of(given) if columns.tolerance is not None else options.tolerance or ""
    if slack:
        size = limit_of(slack, comma=comma and isinstance(given, str))
        if size is None or size < 0:
            yield f"tolerance is no number from 0 on: {slack!r}"
            return
        fields["tolerance_rel" if slack.endswith("%") else "tolerance"] = size
    for name in ("lower", "upper"):
        column = getattr(columns, name)
        value = lookup(draft.cells, column) if column is not None else MISSING
        if column is None or not text_of(value):
            continue
        limit = to_number(text_of(value), decimal_comma=comma and isinstance(value, str))  # 10% beside 12% is a 10
        fields[name] = None if limit is None else float(shortest(float(limit)))
        if fields[name] is None:
            yield f"{name} limit is no number: {text_of(value)[:60]!r}"
    low, high, gold = fields.get("lower"), fields.get("upper"), to_number(draft.answer)
    if low is not None and high is not None and low > high:
        yield f"the lower limit is above the upper one: {low:g} and {high:g}"
    if gold is not None and not (low if low is not None else -math.inf) <= gold <= (
        high if high is not None else math.inf
    ):
        yield f"the answer is not within its limits: {draft.answer}, {low} to {high}"


def limit_of(text: str, comma: bool = False) -> float | None:
    """A tolerance as a number; 5% is 0.05."""
    share = text.endswith("%")
    value = to_number(re.sub(r"^(?:±|\+/?-)\s{0,3}", "", text.rstrip("% ")), decimal_comma=comma)
    if value is None:
        return None
    return float(shortest(float(value / 100 if share else value)))
