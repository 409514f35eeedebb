"""One date, read whole or not at all; the one order of a column."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realm_cli.method.dates import column_order, read_date

NINTH = datetime.date(2024, 3, 9)
CLEAR = ["2024-03-09", "2024/3/9", "9 March 2024", "March 9th, 2024", "Mar 9 2024", "9th of March, 2024", "9-Mar-2024",
         "Saturday, March 9, 2024", "on 9 March 2024", "2024年3月9日", "2024-03-09T00:00:00", "2024-03-09 00:00:00Z",
         "2024 March 9", "the 9th of March 2024."]  # fmt: skip


@pytest.mark.parametrize("text", CLEAR)
def test_clear_dates_need_no_order(text: str) -> None:
    assert {read_date(text, order) for order in (None, "dmy", "mdy", "ymd")} == {NINTH}


@pytest.mark.parametrize(
    ("text", "order", "date"),
    [
        ("09/03/2024", "dmy", NINTH),
        ("9.3.2024", "dmy", NINTH),
        ("3/9/2024", "mdy", NINTH),
        ("9-3-2024", None, None),
        ("25/12/2024", None, datetime.date(2024, 12, 25)),
        ("25/12/2024", "mdy", None),
        ("5/5/2024", None, datetime.date(2024, 5, 5)),
        ("09/03/24", "dmy", NINTH),
        ("09/03/24", None, None),
        ("24-03-09", "ymd", NINTH),
        ("1/2/70", "dmy", datetime.date(1970, 2, 1)),
        ("31/02/2024", "dmy", None),
        ("2024-13-01", None, None),
        ("March 2024", None, None),
        ("9 March", None, None),
        ("9 March 2024 or 10 March 2024", None, None),
        ("2024-03-09 to 2024-03-10", None, None),
        ("9/3-2024", "dmy", None),
        ("9 Foo 2024", None, None),
        ("not 9 March 2024", None, None),
        ("2024", None, None),
        ("", None, None),
    ],
)
def test_dates_by_hand(text: str, order: object, date: object) -> None:
    assert read_date(text, order) == date  # type: ignore[arg-type]


@given(st.dates(datetime.date(1970, 1, 1), datetime.date(2068, 12, 31)))
def test_what_is_written_is_read_back(date: datetime.date) -> None:
    for form in ("%d/%m/%Y", "%-d.%-m.%Y", "%d-%m-%y"):
        assert read_date(date.strftime(form), "dmy") == date
    assert read_date(date.strftime("%m/%d/%Y"), "mdy") == date
    for form in ("%Y-%m-%d", "%d %B %Y", "%b %d, %Y", "%A, %B %d, %Y"):
        assert read_date(date.strftime(form), None) == date
    plain = read_date(date.strftime("%d/%m/%Y"), None)
    assert plain == (date if date.day > 12 or date.day == date.month else None)


def test_a_column_has_one_order() -> None:
    assert column_order(["01/02/2024", "04/13/2024"]) == ("mdy", False)
    assert column_order(["01/02/2024", "13/04/2024"]) == ("dmy", False)
    assert column_order(["01/02/2024", "03/04/2024"]) == (None, True)
    assert column_order(["13/04/2024", "04/13/2024"]) == (None, False)
    assert column_order(CLEAR) == (None, False) and column_order(["5/5/2024"]) == (None, False)


@given(
    st.lists(st.dates(datetime.date(2000, 1, 1), datetime.date(2060, 1, 1)), min_size=1),
    st.sampled_from(["dmy", "mdy"]),
)
def test_the_order_found_is_never_another(dates: list[datetime.date], order: str) -> None:
    form = {"dmy": "%d/%m/%Y", "mdy": "%m/%d/%Y"}[order]
    found, ambiguous = column_order([date.strftime(form) for date in dates])
    alike = all(date.day == date.month for date in dates)
    assert alike or found in (order, None)
    assert ambiguous == (not alike and all(date.day <= 12 for date in dates))
