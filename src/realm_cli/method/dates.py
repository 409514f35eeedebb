"""One date in the notations that people use: 09/03/2024, 2024-03-09, 9 March 2024, March 9th, 2024, 2024年3月9日
(method.md section 8).

A text is read whole: a word that is not known here, a second date, a time of day other than midnight make it no date.
Year first and worded months are clear by themselves; 09/03/2024 needs the order of its column. Years of two digits:
69 to 99 are 1969 to 1999, 00 to 68 are 2000 to 2068 (POSIX); beside a worded month the year is the last of the two.
Usage: `read_date("9/3/2024", "mdy")` -> date(2024, 9, 3); `order, unclear = column_order(texts)`
"""

from __future__ import annotations

import datetime
import re
import unicodedata
from collections.abc import Iterable
from typing import get_args

from realm_cli.records import DateOrder

ORDERS: tuple[DateOrder, ...] = get_args(DateOrder)
MAX_CHARS, PIVOT = 100, 69  # characters that are read; the first year of two digits that is in the 20th century
_NAMES = (  # English, German, French, Spanish, Italian, Portuguese, Dutch, where they differ
    "january jan januar jänner janvier enero gennaio janeiro januari",
    "february feb februar février fevrier febrero febbraio fevereiro februari",
    "march mar märz maerz mars marzo março maart",
    "april apr avril abril aprile",
    "may mai mayo maggio maio mei",
    "june jun juni juin junio giugno junho",
    "july jul juli juillet julio luglio julho",
    "august aug août aout agosto augustus",
    "september sep sept septembre septiembre settembre setembro",
    "october oct oktober okt octobre octubre ottobre outubro",
    "november nov novembre noviembre novembro",
    "december dec dezember dez décembre diciembre dicembre dezembro",
)
MONTHS = {name: number for number, names in enumerate(_NAMES, 1) for name in names.split()}
_WEEKDAYS = "monday mon tuesday tue tues wednesday wed thursday thu thur thurs friday fri saturday sat sunday sun"
_PROSE = "on the of de date day due it is"
_SILENT = frozenset(f"{_WEEKDAYS} {_PROSE} montag dienstag mittwoch donnerstag freitag samstag sonntag".split())
_MIDNIGHT = re.compile(
    r"(?<=\d)(?:t|,? (?:at )?)(?:00?:00(?::00(?:\.0{1,9})?)?|12:00(?::00)? ?a\.?m\.?)(?: ?(?:z|utc|gmt|\+00:?00))?$"
)
_EAST = re.compile(r"(\d{1,4}) ?[年년] ?(\d{1,2}) ?[月월] ?(\d{1,2}) ?[日号號일]$")
_EAST_DAY = re.compile(r" ?\(?(?:星期|周|週)[一二三四五六日天]\)?$| ?\(?[月火水木金土日]曜日?\)?$")
_NUMBERS = re.compile(r"(\d{1,4}) ?([-/.]) ?(\d{1,2}) ?\2 ?(\d{1,4})$")
_COMPACT = re.compile(r"((?:19|20)\d\d)(\d\d)(\d\d)$")
_TOKEN = re.compile(r"\d{1,4}(?:st|nd|rd|th|er|º|ª)?(?![^\W_])|\d{1,4}(?=[a-z]{3})|[^\W\d_]{1,20}|[-/.,']| |.")
_DASHES = re.compile("[\u2010-\u2015\u2212]")


def read_date(text: str, order: DateOrder | None) -> datetime.date | None:
    """The one date that a text is; None if it is none, an impossible one (31/02), or one that depends on the order.

    order: how 09/03/2024 is read; 25/12/2024 is none in the order mdy. None: only what is clear by itself is read.
    """
    found = readings(text)
    if order is not None:
        return found.get(order)
    return next(iter(found.values())) if len(set(found.values())) == 1 else None


def column_order(texts: Iterable[str]) -> tuple[DateOrder | None, bool]:
    """(the one order in which all dates of a column can be read, whether the column leaves it open).

    Order None, False: none is needed, as every date is clear by itself. Texts that are no dates are passed over.
    """
    found = [dates for text in texts if (dates := readings(text))]
    fits = [order for order in ORDERS if all(order in dates for dates in found)]
    if len(fits) == 1:
        return fits[0], False
    if fits:
        return None, any(len({dates[order] for order in fits}) > 1 for dates in found)
    return None, any(len(set(dates.values())) > 1 for dates in found)


def readings(text: str) -> dict[DateOrder, datetime.date]:
    """The dates that a text is in each order; empty if it is none in any."""
    if len(text) > MAX_CHARS or not any(char.isdigit() for char in text):
        return {}
    text = " ".join(_DASHES.sub("-", unicodedata.normalize("NFKC", text)).casefold().split())
    text = _EAST_DAY.sub("", _MIDNIGHT.sub("", text.strip(" .,;:!?()[]\"'")))
    if match := _EAST.match(text):
        return _every(*map(int, match.groups())) if len(match[1]) == 4 else {}
    tokens = [token for token in _TOKEN.findall(text) if token not in _SILENT]
    months = [MONTHS[token] for token in tokens if token in MONTHS]
    if len(months) == 1:
        return _worded(tokens, months[0])
    plain = "".join(tokens).strip(" .,:()")
    if match := _NUMBERS.match(plain):
        return _numeric(match[1], match[3], match[4])
    match = _COMPACT.match(plain)
    return _every(*map(int, match.groups())) if match else {}


def _numeric(first: str, middle: str, last: str) -> dict[DateOrder, datetime.date]:
    """Three numbers: a year of four digits says where it stands, one of two digits may stand at either end."""
    if len(first) == 4:
        return _every(int(first), int(middle), int(last)) if len(last) <= 2 else {}
    if len(first) > 2 or len(last) not in (2, 4):
        return {}
    one, two, year = int(first), int(middle), _year(last)
    parts: dict[DateOrder, tuple[int, int, int]] = {"dmy": (year, two, one), "mdy": (year, one, two)}
    if len(last) == len(first) == 2:
        parts["ymd"] = (_year(first), two, int(last))
    return {order: date for order, part in parts.items() if (date := _date(*part)) is not None}


def _worded(tokens: list[str], month: int) -> dict[DateOrder, datetime.date]:
    """A month's name and two numbers: day and year in this order, or a year of four digits in front."""
    kinds = [token for token in tokens if token not in " -/.,'"]
    numbers = [token for token in kinds if token[0].isdecimal()]
    if len(kinds) != 3 or len(numbers) != 2:
        return {}
    if len(numbers[0]) == 4 and numbers[0].isdecimal() and kinds[0] == numbers[0]:
        numbers.reverse()
        if kinds[1] in numbers:  # 2024 9 March is written by nobody
            return {}
    day, year = "".join(filter(str.isdecimal, numbers[0])), numbers[1]
    if not year.isdecimal() or len(year) not in (2, 4) or len(day) > 2:
        return {}
    return _every(_year(year), month, int(day))


def _year(digits: str) -> int:
    return int(digits) if len(digits) > 2 else int(digits) + (1900 if int(digits) >= PIVOT else 2000)


def _every(year: int, month: int, day: int) -> dict[DateOrder, datetime.date]:
    """A date that is the same in every order."""
    date = _date(year, month, day)
    return {} if date is None else dict.fromkeys(ORDERS, date)


def _date(year: int, month: int, day: int) -> datetime.date | None:
    try:
        return datetime.date(year, month, day)
    except ValueError:
        return None
