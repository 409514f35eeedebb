"""Dates in many notations; what depends on an order, what is none."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realm_cli.method.dates import column_order, read_date, readings
from realm_cli.records import DateOrder

NINTH = datetime.date(2024, 3, 9)
MONTH = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
SUFFIX = {1: "st", 2: "nd", 3: "rd", 21: "st", 22: "nd", 23: "rd", 31: "st"}


@pytest.mark.parametrize(
    "text",
    [
        "2024-03-09",
        "2024/3/9",
        "2024.03.09",
        "20240309",
        "2024-03-09T00:00:00",
        "2024-03-09 00:00:00+00:00",
        "2024-03-09T00:00:00.000Z",
        "2024\u201003\u201009",
        "9 March 2024",
        "9th of March, 2024",
        "the 9th of March 2024",
        "9. März 2024",
        "9 de marzo de 2024",
        "March 9th, 2024",
        "Mar. 9 2024",
        "March 9, 2024.",
        "on Saturday, March 9, 2024",
        "Sat 9 Mar 2024 00:00:00",
        "2024 March 9",
        "2024-Mar-09",
        "9-Mar-2024",
        "9-Mar-24",
        "9 March '24",
        "09MAR2024",
        "2024年3月9日",
        "2024 年 3 月 9 日",
        "2024年3月9日(土曜日)",
        "2024년 3월 9일",
        "\uff12\uff10\uff12\uff14年\uff13月\uff19日",
    ],
)
@pytest.mark.parametrize("order", [None, "dmy", "mdy", "ymd"])
def test_clear_dates_need_no_order(text: str, order: DateOrder | None) -> None:
    assert read_date(text, order) == NINTH


@pytest.mark.parametrize(
    ("text", "order", "want"),
    [
        ("09/03/2024", "dmy", NINTH),
        ("9/3/2024", "dmy", NINTH),
        ("9.3.2024", "dmy", NINTH),
        ("9. 3. 2024", "dmy", NINTH),
        ("03-09-2024", "mdy", NINTH),
        ("3/9/2024 12:00:00 AM", "mdy", NINTH),
        ("09/03/24", "dmy", NINTH),
        ("24-03-09", "ymd", NINTH),
        ("09/03/2024", None, None),
        ("09/03/2024", "ymd", None),
        ("09/03/24", None, None),
        ("24/03/09", None, None),
        ("25/12/2024", None, datetime.date(2024, 12, 25)),
        ("25/12/2024", "mdy", None),
        ("03/03/2024", None, datetime.date(2024, 3, 3)),
        ("01/02/69", "dmy", datetime.date(1969, 2, 1)),
        ("01/02/68", "dmy", datetime.date(2068, 2, 1)),
    ],
)
def test_orders(text: str, order: DateOrder | None, want: datetime.date | None) -> None:
    assert read_date(text, order) == want


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2024",
        "March 2024",
        "9 March",
        "31/02/2024",
        "30 February 2024",
        "2024-13-09",
        "2024-02-30",
        "9/3/2024 or 10/3/2024",
        "9 March 2024 and 10 March 2024",
        "9 March 2024 - 12 March 2024",
        "not 9 March 2024",
        "before 2024-03-09",
        "9 March 2024 BC",
        "-9/3/2024",
        "9/3-2024",
        "9 3 2024",
        "1/2",
        "3.9.2024.5",
        "2024-03-09T17:30:00",
        "2024-03-09 17:00",
        "1234 9/3/2024",
        "March 9, 20245",
        "9/March/3/2024",
        "March March 9 2024",
        "march 9th 2024th",
        "9 5 March 2024",
        "March " * 100,
        "1" * 100_000,
    ],
)
@pytest.mark.parametrize("order", [None, "dmy", "mdy", "ymd"])
def test_what_is_no_date(text: str, order: DateOrder | None) -> None:
    assert read_date(text, order) is None


def test_readings_by_hand() -> None:
    assert readings("09/03/2024") == {"dmy": NINTH, "mdy": datetime.date(2024, 9, 3)}
    assert readings("25/12/2024") == {"dmy": datetime.date(2024, 12, 25)} and readings("31/02/2024") == {}
    assert readings("2024-03-09") == dict.fromkeys(("dmy", "mdy", "ymd"), NINTH)


FORMATS = (
    "{y:04}-{m:02}-{d:02}",
    "{y:04}/{m}/{d}",
    "{d} {name} {y}",
    "{d}{th} of {name}, {y}",
    "the {d}{th} of {name} {y}",
    "{name} {d}{th}, {y}",
    "{name} {d}, {y}",
    "{short}. {d} {y}",
    "{d}-{short}-{y}",
    "{weekday}, {d} {name} {y}",
    "on {weekday} {name} {d}, {y}",
    "{y}年{m}月{d}日",
    "{y:04}-{m:02}-{d:02}T00:00:00Z",
    "{y:04}-{m:02}-{d:02} 00:00:00",
)
ORDERED: tuple[tuple[str, DateOrder], ...] = (
    ("{d}/{m}/{y}", "dmy"),
    ("{d:02}.{m:02}.{y}", "dmy"),
    ("{m}/{d}/{y}", "mdy"),
    ("{m:02}-{d:02}-{y}", "mdy"),
    ("{y:04}.{m}.{d}", "ymd"),
)


def written(date: datetime.date, form: str) -> str:
    return form.format(
        y=date.year,
        m=date.month,
        d=date.day,
        name=MONTH[date.month - 1],
        short=MONTH[date.month - 1][:3],
        th=SUFFIX.get(date.day, "th"),
        weekday=("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")[date.weekday()],
    )


days = st.dates(datetime.date(1000, 1, 1))


@given(days, st.sampled_from(FORMATS), st.sampled_from([None, "dmy", "mdy", "ymd"]), st.booleans())
def test_what_is_written_is_read(date: datetime.date, form: str, order: DateOrder | None, upper: bool) -> None:
    text = written(date, form)
    assert read_date(text.upper() if upper else text, order) == date
    assert set(readings(text).values()) == {date} and len(readings(text)) == 3


@given(days, st.sampled_from(ORDERED))
def test_what_is_written_in_an_order_is_read_in_it(date: datetime.date, form: tuple[str, DateOrder]) -> None:
    text = written(date, form[0])
    assert read_date(text, form[1]) == date
    assert read_date(text, None) in (None, date)


@given(st.text(max_size=40) | st.text(alphabet="0123456789/-. marchdtT:年月日", max_size=25))
def test_any_text_is_a_date_or_none(text: str) -> None:
    for order in (None, "dmy", "mdy", "ymd"):
        assert read_date(text, order) is None or isinstance(read_date(text, order), datetime.date)


@pytest.mark.parametrize(
    ("texts", "want"),
    [
        (["09/03/2024", "25/12/2024"], ("dmy", False)),
        (["09/03/2024", "04/13/2024"], ("mdy", False)),
        (["09/03/2024", "04/12/2024"], (None, True)),
        (["03/03/2024", "2024-03-09"], (None, False)),
        (["2024-03-09", "9 March 2024", "unknown"], (None, False)),
        (["09/03/2024", "25/12/2024", "04/13/2024"], (None, True)),  # both orders
        (["25/12/2024", "04/13/2024"], (None, False)),  # both, but each is clear
        (["24-03-09", "24-03-31", "99-12-31"], ("ymd", False)),
        (["24-03-09", "24-03-11"], (None, True)),
        ([], (None, False)),
    ],
)
def test_the_order_of_a_column(texts: list[str], want: tuple[DateOrder | None, bool]) -> None:
    assert column_order(texts) == want


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
