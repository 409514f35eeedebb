"""One date, read whole: ISO, 09/03/2024, 9 March 2024, March 9th, 2024, 2024年3月9日 (method.md section 8).

Usage: `read_date("9/3/2024", "dmy")` -> 2024-03-09; `column_order(texts)` finds the one order of a column. Without an
order only clear dates are read: ISO, dates with a month's name, and 25/12/2024. One cell's order is never guessed.

Choice of ours: years of two digits are read where the order is known, as POSIX does: 69 to 99 are 19xx, others 20xx.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable

from realm_cli.records import DateOrder

MAX_TEXT = 100
_NAMES = "january february march april may june july august september october november december"
MONTHS = {name: n for n, name in enumerate(_NAMES.split(), 1)}
MONTHS |= {name[:3]: n for name, n in MONTHS.items()} | {"sept": 9}
_DAYS = r"(?:mon|tues?|wed(?:nes)?|thu(?:rs)?|fri|sat(?:ur)?|sun)(?:day)?\.?"
_AROUND = re.compile(rf"(?:(?:it is|is|on|the|date:?|due|by|{_DAYS}),?\s{{1,4}}){{0,4}}", re.IGNORECASE)
_TIME = re.compile(
    r"(?:[ T]\d{1,2}:\d\d(?::\d\d(?:\.\d{1,9})?)?\s?(?:Z|UTC|[-+]\d\d:?\d\d|[ap]\.?m\.?)?)?[.\s]{0,4}\Z", re.IGNORECASE
)
_YEAR_FIRST = re.compile(r"(\d{4})([-/.])(\d{1,2})\2(\d{1,2})(?!\d)", re.ASCII)
_NUMERIC = re.compile(r"(\d{1,2})\s?([-/.])\s?(\d{1,2})\s?\2\s?(\d{4}|\d{2})(?!\d)", re.ASCII)
_MONTH = r"(?P<month>[A-Za-z]{3,9})\.?"
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_YEAR = r"(?P<year>\d{4})(?!\d)"
_WORDED = tuple(
    re.compile(pattern, re.ASCII)
    for pattern in (
        rf"{_DAY}[\s-]{{1,4}}(?:of\s)?{_MONTH}[\s,-]{{1,4}}{_YEAR}",
        rf"{_MONTH}\s{{1,4}}{_DAY}[\s,]{{1,4}}{_YEAR}",
        rf"{_YEAR}[\s,-]{{1,4}}{_MONTH}[\s-]{{1,4}}{_DAY}",
    )
)
_CHINESE = re.compile(r"(\d{4})\s?年\s?(\d{1,2})\s?月\s?(\d{1,2})\s?日", re.ASCII)


def read_date(text: str, order: DateOrder | None) -> datetime.date | None:
    """The one date that a text states; None for none, several, an impossible one, or one that depends on an order that
    is not known. Nothing may be left over but a weekday, a time and a few words in front."""
    text = text.strip(" \t\n.\"'")
    if len(text) > MAX_TEXT:
        return None
    begin = _AROUND.match(text)
    text = text[begin.end() :] if begin else text
    if found := (_YEAR_FIRST.match(text) or _CHINESE.match(text)):
        numbers = [int(group) for group in found.groups() if group.isdigit()]
        return _date(*numbers) if _TIME.match(text, found.end()) else None
    for pattern in _WORDED:
        if (found := pattern.match(text)) and _TIME.match(text, found.end()):
            month = MONTHS.get(found["month"].lower())
            return _date(int(found["year"]), month, int(found["day"])) if month else None
    found = _NUMERIC.match(text)
    if found is None or not _TIME.match(text, found.end()):
        return None
    return _ordered(int(found[1]), int(found[3]), found[4], order)


def _ordered(first: int, second: int, year: str, order: DateOrder | None) -> datetime.date | None:
    if len(year) == 2:
        if order == "ymd":
            return _date(_century(first), second, int(year))
        full = _century(int(year)) if order else None
    else:
        full = int(year)
    if full is None or order == "ymd":
        return None
    readings = {"dmy": _date(full, second, first), "mdy": _date(full, first, second)}
    if order in readings:
        return readings[order]
    clear = {date for date in readings.values() if date is not None}
    return clear.pop() if len(clear) == 1 else None


def _century(year: int) -> int:
    return year + (1900 if year > 68 else 2000)


def _date(year: int, month: int, day: int) -> datetime.date | None:
    try:
        return datetime.date(year, month, day)
    except ValueError:
        return None


def column_order(texts: Iterable[str]) -> tuple[DateOrder | None, bool]:
    """(the order in which all of a column's dates can be read, whether another order would do as well).

    (None, False): every date is clear by itself, or no order reads them all. Where both orders would do (no day is
    above 12), the column is ambiguous: (None, True).
    """
    texts = list(texts)
    if all(read_date(text, "dmy") == read_date(text, "mdy") is not None for text in texts):
        return None, False
    fits: list[DateOrder] = [order for order in ("dmy", "mdy", "ymd") if all(read_date(t, order) for t in texts)]
    return (fits[0], False) if len(fits) == 1 else (None, len(fits) > 1)
