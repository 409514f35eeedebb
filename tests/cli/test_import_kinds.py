"""`realm import` on tables of every kind that people have: what comes out, and what is said."""

from __future__ import annotations

import datetime
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from cli.helpers import Realm, rows, write_rows


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Import:
    """One import: the problems, the rejects' reasons, what was said."""

    def __init__(self, realm: Realm, source: str, *args: str) -> None:
        result = realm("import", source, *args, "-o", "out/problems.jsonl", "--force")
        assert (result.code, result.err) == (0, ""), result.err
        self.problems = rows(Path("out/problems.jsonl"))
        rejects = Path("out/rejects.jsonl")
        self.reasons = [row["reason"] for row in rows(rejects)] if rejects.exists() else []
        self.said = " ".join(result.out.split())

    def __getitem__(self, field: str) -> list[Any]:
        return [problem[field] for problem in self.problems]


def refused(realm: Realm, source: str, *args: str) -> str:
    result = realm("import", source, *args, "-o", "out/problems.jsonl")
    assert result.code == 1 and len(result.lines) == 1 and not Path("out").exists()
    return result.err


def table(*answers: Any, name: str = "x.jsonl", **columns: Any) -> str:
    """A file with a question for each answer; further columns are the same in each row, or called with its number."""
    told = [{"q": f"How is case {i}?", "a": answer} for i, answer in enumerate(answers)]
    for i, row in enumerate(told):
        row |= {key: value(i) if callable(value) else value for key, value in columns.items()}
    write_rows(Path(name), told)
    return name


QA = ("-q", "q", "-a", "a")


# Where rows and cells come from


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.json", '{"k1": {"q": "one?", "a": "1"}, "k2": {"q": "two?", "a": "2"}}'),
        ("x.json", '{"data": {"k1": {"q": "one?", "a": "1"}, "k2": {"q": "two?", "a": "2"}}}'),
        ("x.json", '{"q": ["one?", "two?"], "a": ["1", "2"]}'),
        ("x.json", '{"q": {"0": "one?", "1": "two?"}, "a": {"0": "1", "1": "2"}}'),
        ("x.json", '{"columns": ["q", "a"], "index": [0, 1], "data": [["one?", "1"], ["two?", "2"]]}'),
        ("x.json", '{"version": 2, "data": [{"q": "one?", "a": "1"}, {"q": "two?", "a": "2"}]}'),
        ("x.json", '{"features": [{"name": "q"}], "rows": [{"q": "one?", "a": "1"}, {"q": "two?", "a": "2"}]}'),
        ("x.json", '{"q": "one?", "a": "1"}\n{"q": "two?", "a": "2"}\n'),
        ("x.jsonl", '[\n {"q": "one?", "a": "1"},\n {"q": "two?", "a": "2"}\n]\n'),
        ("x.json", '{"train": [{"q": "one?", "a": "1"}], "test": [{"q": "two?", "a": "2"}]}'),
    ],
)
def test_json_in_all_its_shapes(name: str, text: str, place: Path, realm: Realm) -> None:
    Path(name).write_text(text)
    found = Import(realm, name, *QA)
    assert list(zip(found["question"], found["answer"], strict=True)) == [("one?", "1"), ("two?", "2")]
    if '"k1"' in text:
        assert found["id"] == ["k1", "k2"] and "the keys are the ids" in found.said
        assert Import(realm, name, *QA, "--id", "q")["id"] == ["one?", "two?"]
    if '"train"' in text:
        assert found["split"] == ["train", "test"] and "splits as the file has them" in found.said


def test_broken_json_lines_in_a_json_file_are_placed(place: Path, realm: Realm) -> None:
    Path("x.json").write_text('{"q": "one?", "a": "1"}\n{"q": "two?"\n')
    assert "x.json:2: broken JSON" in refused(realm, "x.json", *QA)


def test_paths_into_columns(place: Path, realm: Realm) -> None:
    given = [
        {"m": {"q": f"case {i}?", "more": {"a": i, "facts": ["one", "two"]}}, "all": [{"v": i}], "m.odd": f"odd {i}?"}
        for i in range(3)
    ]
    write_rows(Path("x.jsonl"), given)
    found = Import(realm, "x.jsonl", "-q", "{m.more.facts}\n{m.q}", "-a", "m.more.a", "--id", "all.0.v")
    assert found["question"][1] == "one\ntwo\ncase 1?" and found["answer"] == ["0", "1", "2"] == found["id"]
    assert Import(realm, "x.jsonl", "-q", "m.odd", "-a", "all.0.v")["question"][2] == "odd 2?"  # a column named so
    assert "--answer m.b: x.jsonl has no such column; it has m.q, m.more" in refused_again(
        realm, "-q", "m.q", "-a", "m.b"
    )
    Path("y.csv").write_text('q,meta\n"who?","{""a"": {""b"": 3}}"\n')
    assert Import(realm, "y.csv", "-q", "q", "-a", "meta.a.b")["answer"] == ["3"]


def refused_again(realm: Realm, *args: str) -> str:
    result = realm("import", "x.jsonl", *args, "-o", "new/problems.jsonl")
    assert result.code == 1 and len(result.lines) == 1
    return result.err


@pytest.mark.parametrize(
    "chat",
    [
        [{"role": "user", "content": "Who? {i}"}, {"role": "assistant", "content": "It is Ann.\nAnswer: Ann"}],
        [{"from": "human", "value": "Who? {i}"}, {"from": "gpt", "value": "It is Ann.\nAnswer: Ann"}],
        [{"role": "system", "content": "Think."}, {"role": "user", "content": [{"type": "text", "text": "Who? {i}"}]},
         {"role": "assistant", "content": [{"type": "text", "text": "It is Ann.\nAnswer: Ann"}]}],
    ],
)  # fmt: skip
@pytest.mark.parametrize("as_text", [False, True])
def test_chats_give_the_users_turns(chat: list[Any], as_text: bool, place: Path, realm: Realm) -> None:
    chats = [json.loads(json.dumps(chat).replace("{i}", str(i))) for i in range(3)]
    write_rows(Path("x.jsonl"), [{"c": json.dumps(c) if as_text else c, "a": "Ann"} for c in chats])
    found = Import(realm, "x.jsonl", "-q", "c", "-a", "a")
    assert found["question"] == [f"Who? {i}" for i in range(3)] and found["gold_solution"] == [None] * 3
    assert "questions are the user's turns; the assistant's are not shown (--solution c: the last one)" in found.said
    assert ("3 rows with system or tool turns, left out, e.g. 'Think.'" in found.said) == (len(chat) == 3)
    solved = Import(realm, "x.jsonl", "-q", "{c} Say.", "-a", "c", "--solution", "c")
    assert solved["question"][0] == "Who? 0 Say." and solved["answer"] == ["Ann"] * 3
    assert solved["gold_solution"] == ["It is Ann.\nAnswer: Ann"] * 3


def test_turns_that_are_not_text_are_rejected(place: Path, realm: Realm) -> None:
    picture = [
        {"role": "user", "content": [{"type": "image_url", "image_url": "x"}, {"type": "text", "text": "What?"}]}
    ]
    several = [{"role": r, "content": c} for r, c in (("user", "One."), ("assistant", "Yes?"), ("user", "Two?"))]
    write_rows(Path("x.jsonl"), [{"c": picture, "a": "1"}, {"c": several, "a": "2"}])
    found = Import(realm, "x.jsonl", "-q", "c", "-a", "a")
    assert found.reasons == ["a turn holds more than text: image_url"] and found["question"] == ["One.\n\nTwo?"]
    assert "1 row with several turns of the user" in found.said


def test_parquet_cells_are_text_as_people_write_it(place: Path, realm: Realm) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets import ClassLabel, Dataset, Features, Value

    features = Features({"q": Value("string"), "a": ClassLabel(names=["entails", "contradicts"])})
    named = Dataset.from_list([{"q": f"case {i}?", "a": -1 if i == 9 else i % 2} for i in range(10)], features=features)
    named.to_parquet("x.parquet")
    found = Import(realm, "x.parquet", *QA)
    assert set(found["answer"]) == {"entails", "contradicts"} and found.reasons == ["empty answer"]
    assert "column a: names in place of class numbers (entails, contradicts)" in found.said
    days = [datetime.date(2024, 3, 9 + i) for i in range(3)]
    cells = {"q": ["a?", "b?", "c?"], "n": [Decimal("12.50"), Decimal("0.10"), Decimal("3.00")], "d": days}
    pq.write_table(pa.table({**cells, "t": [datetime.datetime(2024, 3, 9)] * 3}), "y.parquet")
    assert Import(realm, "y.parquet", "-q", "q", "-a", "n")["answer"] == ["12.50", "0.10", "3.00"]
    dates = Import(realm, "y.parquet", "-q", "{q} {t}", "-a", "d")
    assert dates["answer"] == ["2024-03-09", "2024-03-10", "2024-03-11"] and set(dates["answer_type"]) == {"date"}
    assert dates["question"][0] == "a? 2024-03-09"


# Lists, and several right answers


def test_list_answers(place: Path, realm: Realm) -> None:
    source = table(
        ["Ann"], ["Ann", "Bob"], ["Ann, Inc.", "Bob"], ["war and peace", "x"], ["a;b", "c"], [], ["Ann", "Ann"]
    )
    found = Import(realm, source, *QA)
    assert found["answer"] == ["Ann", "Ann, Bob", "Ann, Inc.; Bob", "war and peace; x", "Ann"]
    assert found["answer_type"] == ["text", "list", "list", "list", "text"]
    assert found.reasons == ["a member of the answer's list holds a semicolon: ['a;b', 'c']", "empty answer"]
    assert "3 rows with a list: all of its members are wanted, in any order, type list (--list-means any" in found.said
    either = Import(realm, source, *QA, "--list-means", "any")
    assert either["answer"][1] == "Ann" and either["answers"][1] == ["Bob"] and "list" not in either["answer_type"]
    assert either["answer"][4] == "a;b" and either.reasons == ["empty answer"]


@pytest.mark.parametrize("form", ['["{0}", "{1}"]', "['{0}', '{1}']", "['{0}' '{1}']", "['{0}'\n '{1}']"])
def test_lists_that_are_printed_in_cells(form: str, place: Path, realm: Realm) -> None:
    source = table(*(form.replace("{0}", f"p{i}").replace("{1}", f"r{i}") for i in range(3)))
    assert Import(realm, source, *QA)["answer"] == ["p0, r0", "p1, r1", "p2, r2"]


def test_further_answers(place: Path, realm: Realm) -> None:
    source = table("colour", "grey", "plough", more=[["color"], "gray | grey", ""].__getitem__)
    found = Import(realm, source, *QA, "--answers", "more")
    assert found["answers"] == [["color"], ["gray"], []]


# Choices


CHOICES = ["iron", "mercury", "gold", "tin"]


@pytest.mark.parametrize(
    ("answers", "says", "want"),
    [
        (["B", "(c)", "option D", "A."], "letters of the choices", "BCDA"),
        (["mercury", "Gold", "tin", "B) mercury"], "texts of the choices", "BCDB"),
        ([0, 3, 1, 2], "numbers of the choices, counted from 0", "ADBC"),
        (["1", "4", "2", "3"], "numbers of the choices, counted from 1", "ADBC"),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "options",
    [
        CHOICES,
        json.dumps(CHOICES),
        str(CHOICES),
        " | ".join(CHOICES),
        "; ".join(CHOICES),
        "\n".join(CHOICES),
        [f"{letter}) {text}" for letter, text in zip("ABCD", CHOICES, strict=True)],
        [f"({letter}){text}" for letter, text in zip("abcd", CHOICES, strict=True)],
        "a ) iron , b ) mercury , c ) gold , d ) tin",
        dict(zip("BACD", [CHOICES[1], CHOICES[0], *CHOICES[2:]], strict=True)),
        {"text": CHOICES, "label": ["A", "B", "C", "D"]},
        [{"label": letter, "text": text} for letter, text in zip("ABCD", CHOICES, strict=True)],
    ],
)
def test_choices_in_all_forms(
    options: Any, answers: list[Any], says: str, want: str, place: Path, realm: Realm
) -> None:
    found = Import(realm, table(*answers, o=options), *QA, "--choices", "o")
    assert "".join(found["answer"]) == want and found["choices"] == [CHOICES] * 4
    assert (
        f"answers are {says}, as 4 of 4 rows can be read (--answer-is letter|text|index0|index1 changes it)"
        in found.said
    )


def test_labels_of_the_table_count_as_letters(place: Path, realm: Realm) -> None:
    options = [{"text": CHOICES, "label": list("1234" if i % 2 else "ABCD")} for i in range(4)]
    found = Import(realm, table("B", "3", "A", "1", o=options.__getitem__), *QA, "--choices", "o")
    assert found["answer"] == ["B", "C", "A", "A"]


def test_what_answers_are_is_one_thing_for_a_column(place: Path, realm: Realm) -> None:
    source = table(*[1, 2] * 10, o=CHOICES)
    said = refused(realm, source, *QA, "--choices", "o")
    assert "'1' (line 1) is B (index0) or A (index1); say which with --answer-is index0 or --answer-is index1" in said
    assert set(Import(realm, source, *QA, "--choices", "o", "--answer-is", "index0")["answer"]) == {"B", "C"}
    assert set(Import(realm, source, *QA, "--choices", "o", "--answer-is", "index1")["answer"]) == {"A", "B"}
    numbers = table("2", "1", "3", "4", o=["4", "3", "2", "1"], name="y.jsonl")
    assert "--answer-is text" in refused_file(realm, numbers, "--choices", "o")
    values = Import(realm, numbers, *QA, "--choices", "o", "--answer-is", "text")
    assert values["answer"] == ["C", "D", "B", "A"]
    nonsense = table("Zoe", "Max", o=CHOICES, name="z.jsonl")
    assert "are no letters, texts or numbers of their choices" in refused_file(realm, nonsense, "--choices", "o")
    assert "--answer-is roman: choose one of letter, text" in refused_file(realm, numbers, "--answer-is", "roman")


def refused_file(realm: Realm, source: str, *args: str) -> str:
    result = realm("import", source, *QA, *args, "-o", "none/problems.jsonl")
    assert result.code == 1 and len(result.lines) == 1
    return result.err


def test_empty_choices_keep_their_places(place: Path, realm: Realm) -> None:
    Path("x.csv").write_text("q,A,B,C,D,E,a\nwho 1?,iron,,mercury,zinc,,C\nwho 2?,iron,,gold,zinc,,B\nwho 3?,x,,,,,A\n")
    found = Import(realm, "x.csv", *QA, "--choices", "A,B,C,D,E")
    assert found["choices"] == [["iron", "", "mercury", "zinc"]] and found["answer"] == ["C"]
    assert found.reasons == ["the answer is a choice that is empty: B", "fewer than two choices"]


def test_more_choices_than_letters_are_refused(place: Path, realm: Realm) -> None:
    few, many = [f"t{i}" for i in range(26)], [f"t{i}" for i in range(27)]
    found = Import(realm, table("t25", "t3", o=[few, many].__getitem__), *QA, "--choices", "o")
    assert found["answer"] == ["Z"] and found.reasons == ["more than 26 choices, for which there are no letters: 27"]


def test_one_question_with_other_choices_is_another(place: Path, realm: Realm) -> None:
    given = [{"q": "Which?", "a": "x", "o": o} for o in (["x", "y"], ["x", "z"], ["y", "x"])]
    write_rows(Path("x.jsonl"), given)
    found = Import(realm, "x.jsonl", *QA, "--choices", "o")
    assert len(found.problems) == 2 and found.reasons == ["a question again, with the same answer: that of line 1"]
    assert realm("check", "out/problems.jsonl").code in (0, 1)


# What type answers have


@pytest.mark.parametrize(
    ("answers", "kind", "against"),
    [
        (["March 2024", "June 2024", "May 2023"] * 4, "label", ""),
        ([f"Article {i}" if i % 2 else f"Section {i}" for i in range(12)], "text", ""),
        ([f"{i} January" if i % 2 else f"{i} March" for i in range(1, 13)], "text", ""),
        (["yes", "no"] * 20 + ["$0"], "label", "'$0' (line 41)"),
        (["yes", "no"] * 20 + ["$5 million"], "label", "'$5 million' (line 41)"),
        ([f"${i},000" for i in range(1, 9)], "number", ""),
        ([*map(str, range(40)), "N/A"], "number", "'N/A' (line 41)"),
        (["1,00,000", "12,34,567", "5"], "number", ""),
        (["1'234'567", "12 500", "\u2212 7", "(5)"], "number", ""),
        (["x+1", "2x", "x^2", "7"], "expr", ""),
        (["\\frac{1}{2}", "7", "\\text{Ann}"], "expr", ""),
        (["N/A", "A/B", "C/D"], "text", ""),
        (["5-10", "10-15", "15-20"], "text", ""),
        (["2024-03-09", "9 March 2024", "March 10th, 2024"], "date", ""),
        ([True, False] * 6, "label", ""),
    ],
)
def test_types_are_guessed_and_say_why(answers: list[Any], kind: str, against: str, place: Path, realm: Realm) -> None:
    found = Import(realm, table(*answers), *QA)
    assert f"answer type {kind}: " in found.said and {kind} == set(found["answer_type"])
    assert ("against it: " in found.said) == bool(against) and against in found.said


def test_true_and_false_stay_as_they_are(place: Path, realm: Realm) -> None:
    found = Import(realm, table(*[True, False] * 6), *QA)
    assert set(found["answer"]) == {"true", "false"}
    assert "answers true and false are kept as written; yes and no are read too" in found.said
    assert set(Import(realm, table(*["True", "False"] * 6), *QA)["answer"]) == {"True", "False"}


def test_types_row_by_row(place: Path, realm: Realm) -> None:
    kinds = ["number", "label", "", "nubmer"]
    source = table("5", "Yes", "7", "8", kind=kinds.__getitem__, text="x")
    found = Import(realm, source, *QA, "--answer-type", "kind")
    assert found["answer_type"] == ["number", "label", "number"]
    assert "answer types are those of column kind; 1 row without one: guessed" in found.said
    assert found.reasons[0].startswith("answer type is not one of number, ") and "'nubmer'" in found.reasons[0]
    plain = Import(realm, source, *QA, "--answer-type", "text")  # a type first; the column needs braces
    assert set(plain["answer_type"]) == {"text"} and "the column of this name is --answer-type {text}" in plain.said
    assert "neither a type nor a column" in refused_file(realm, source, "--answer-type", "kinds")


# Numbers and dates of a column


@pytest.mark.parametrize(
    ("answers", "args", "want", "comma"),
    [
        (["0,125", "1,250", "2,5", "7"], (), ["0.125", "1.250", "2.5", "7"], True),
        (["1.234,50 €", "-12,5 kg", "1.000"], (), ["1234.50 €", "-12.5 kg", "1000"], True),
        (["1.234.567", "12"], (), ["1234567", "12"], True),
        (["1,234.50", "2,000", "0.5"], (), ["1,234.50", "2,000", "0.5"], False),
        (["1,234", "2,500"], (), ["1,234", "2,500"], False),
        (["1,234", "2,500"], ("--decimal", "comma"), ["1.234", "2.500"], True),
        (["0,125", "3", "4.5"], ("--decimal", "point"), ["0.125", "3", "4.5"], False),
        ([1.25, 1000.5, 3], (), ["1.25", "1000.5", "3"], False),
    ],
)
def test_decimal_signs_are_those_of_the_column(
    answers: list[Any], args: tuple[str, ...], want: list[str], comma: bool, place: Path, realm: Realm
) -> None:
    found = Import(realm, table(*answers), *QA, *args)
    assert found["answer"] == want and set(found["decimal_comma"]) == {comma}
    assert ("answers have decimal commas: " in found.said) == (want != [str(a) for a in answers])


def test_what_a_column_leaves_open_is_said(place: Path, realm: Realm) -> None:
    found = Import(realm, table("1,234", "2,500"), *QA)
    assert "1,234 is read as 1234 (--decimal comma: 1.234)" in found.said
    both = Import(realm, table("1,5", "2.75", "1,234"), *QA)
    assert "decimal commas (1,5) and points (2.75) in one column: both read" in both.said
    assert both["answer"] == ["1.5", "2.75"] and both.reasons[0].endswith("(--decimal comma or point): '1,234'")


@pytest.mark.parametrize(
    ("value", "want"),
    [
        (90.00000000000001, "90"),
        (0.1 + 0.2, "0.3"),
        (57.900000000000006, "57.9"),
        (123456789.12000001, "123456789.12"),
        (sum([0.1] * 10), "1"),
        (-4.999999999999999, "-5"),
        (50.142857142857146, "50.142857142857146"),
        (1 / 3, "0.3333333333333333"),
        (3.141592653589793, "3.141592653589793"),
        (1080.0, "1080"),
        (2.5, "2.5"),
        (12345678901234567, "12345678901234567"),
        ("90.00000000000001", "90"),
        ("3.14159265358979", "3.14159265358979"),
    ],
)
def test_float_noise_is_taken_off(value: Any, want: str, place: Path, realm: Realm) -> None:
    found = Import(realm, table(value, 7), *QA)
    assert found["answer"] == [want, "7"]
    assert ("1 row: digits left by binary fractions taken off" in found.said) == (want not in (str(value), "1080"))


@pytest.mark.parametrize(
    ("answers", "args", "order", "says"),
    [
        (["03/09/2024", "04/13/2024"], (), "mdy", "dates are in the order mdy: 03/09/2024 is 2024-03-09"),
        (["03.09.2024", "13.04.2024"], (), "dmy", "dates are in the order dmy: 03.09.2024 is 2024-09-03"),
        (["03/09/2024", "04/12/2024"], ("--date-order", "dmy"), "dmy", "dates are read in the order dmy"),
        (["2024-03-09", "9 March 2024"], (), None, "every answer is a date"),
    ],
)
def test_dates_have_one_order(
    answers: list[str], args: tuple[str, ...], order: str | None, says: str, place: Path, realm: Realm
) -> None:
    found = Import(realm, table(*answers), *QA, *args)
    assert set(found["date_order"]) == {order} and set(found["answer_type"]) == {"date"} and says in found.said


def test_dates_that_leave_their_order_open_name_the_option(place: Path, realm: Realm) -> None:
    found = Import(realm, table("03/09/2024", "04/04/2024", "2024-05-05"), *QA)
    assert "03/09/2024 is 2024-09-03 or 2024-03-09; --date-order dmy|mdy|ymd says which" in found.said
    assert found.reasons == ["the date depends on its order, add --date-order dmy, mdy or ymd: '03/09/2024'"]
    assert "add --date-order dmy, mdy or ymd" in refused_file(realm, table("03/09/2024", name="y.jsonl"))


# Tolerances, limits, splits


@pytest.mark.parametrize(
    ("args", "fields"),
    [
        (("--tolerance", "0.5"), {"tolerance": 0.5}),
        (("--tolerance", "5%"), {"tolerance_rel": 0.05}),
        (("--tolerance", "slack"), {"tolerance": 0.25}),
        (("--tolerance", "share"), {"tolerance_rel": 0.1}),
        (("--lower", "low", "--upper", "limits.high"), {"lower": 1.5, "upper": 9.9}),
        (("--upper", "limits.high"), {"upper": 9.9}),
    ],
)
def test_tolerances_and_limits(args: tuple[str, ...], fields: dict[str, float], place: Path, realm: Realm) -> None:
    extra = {"slack": 0.25, "share": "10 %", "low": "1.5", "limits": {"high": 9.900000000000002}}
    found = Import(realm, table(2, 3, **extra), *QA, *args)
    for name in ("tolerance", "tolerance_rel", "lower", "upper"):
        assert found[name] == [fields.get(name)] * 2
    unused = {"slack", "share", "low", "limits"} - {word.partition(".")[0] for word in args}
    assert all(name in found.said.partition("columns not used: ")[2] for name in unused)


def test_limits_that_make_no_sense(place: Path, realm: Realm) -> None:
    limits = [(1, 9), (9, 1), (4, 9), ("x", 9), (None, 9)]
    source = table(
        *[2] * 5, lo=lambda i: limits[i][0], hi=lambda i: limits[i][1], t=["1", "-1", "z", "", "2%"].__getitem__
    )
    found = Import(realm, source, *QA, "--lower", "lo", "--upper", "hi")
    assert found["lower"] == [1, None] and found.reasons == [
        "the lower limit is above the upper one: 9 and 1",
        "the answer is not within its limits: 2, 4.0 to 9.0",
        "lower limit is no number: 'x'",
    ]
    slack = Import(realm, source, *QA, "--tolerance", "t")
    assert slack["tolerance"] == [1, None, None] and slack["tolerance_rel"] == [None, None, 0.02]
    assert slack.reasons == ["tolerance is no number from 0 on: '-1'", "tolerance is no number from 0 on: 'z'"]
    assert "--tolerance x: neither a column, nor a number from 0 on, nor such as 5%" in refused_file(
        realm, source, "--tolerance", "x"
    )
    words = table("long words", "other words", name="w.jsonl")
    assert "--tolerance: is for numbers, and the answers are of type text" in refused_file(
        realm, words, "--tolerance", "1"
    )


def test_rows_of_one_value_stay_in_one_split(place: Path, realm: Realm) -> None:
    source = table(*range(200), note=lambda i: f"note {i // 10}", part=lambda i: "test" if i >= 150 else "train")
    for args in ((), ("--split", "part")):
        found = Import(realm, source, *QA, "--split-by", "note", "--dev", "0.2", *args)
        homes: dict[int, set[str]] = {}
        for problem in found.problems:
            homes.setdefault(int(problem["answer"]) // 10, set()).add(problem["split"])
        assert all(len(splits) == 1 for splits in homes.values()) and len(homes) == 20
        assert set(found["split"]) == {"train", "dev", "test"} and "20 values of note, each in one split" in found.said
    torn = table(*range(40), note="one", part=lambda i: "test" if i % 2 else "train", name="t.jsonl")
    said = Import(realm, torn, *QA, "--split-by", "note", "--split", "part").said
    assert "1 values of note stand in several splits, as column part has them, e.g. 'one'" in said


@pytest.mark.parametrize("seed", range(8))
def test_few_values_fill_all_splits(seed: int, place: Path, realm: Realm) -> None:
    source = table(*range(12), note=lambda i: f"note {i // 3}")
    found = Import(realm, source, *QA, "--split-by", "note", "--seed", str(seed))
    assert set(found["split"]) == {"train", "dev", "test"}


def test_columns_that_nothing_uses_are_named(place: Path, realm: Realm) -> None:
    source = table(1, 2, Tolerance=1, lower=0, note="n", remark="r", choices=["a", "b"])
    said = Import(realm, source, *QA).said
    assert (
        "columns not used: Tolerance (--tolerance), lower (--lower), note (--split-by), choices (--choices), remark"
        in said
    )


def test_every_reject_is_counted(place: Path, realm: Realm) -> None:
    """By reason, all of them, with one example each."""
    bad = [("", "1"), ("e?", ""), ("f?", "x"), ("g?", "y"), ("case 3?", "3"), ("case 4?", "9")]
    good = [(f"case {i}?", str(i)) for i in range(60)]
    ids = [str(i) for i in range(len(good))]
    write_rows(Path("x.jsonl"), [
        *({"q": q, "a": a, "i": i, "s": "train"} for (q, a), i in zip(good, ids, strict=True)),
        *({"q": q, "a": a, "i": f"b{i}", "s": "train"} for i, (q, a) in enumerate(bad)),
        {"q": "h?", "a": "1", "i": "0", "s": "train"}, {"q": "j?", "a": "1", "i": "k", "s": "moon"},
    ])  # fmt: skip
    found = Import(realm, "x.jsonl", *QA, "--id", "i", "--split", "s")
    assert len(found.problems) == 60 and len(found.reasons) == 8
    for line in (
        "left out 8 rows of 68, for 7 reasons",
        "left out 2 rows: answer is no number, e.g. line 63: 'x'",
        "left out 1 row: empty question, e.g. line 61",
        "left out 1 row: empty answer, e.g. line 62",
        "left out 1 row: a question again, with the same answer, e.g. line 65: that of line 4",
        "left out 1 row: a question again, with another answer, e.g. line 66: that of line 5 (4)",
        "left out 1 row: id again, e.g. line 67: 0",
        "left out 1 row: split is not one of",
    ):
        assert line in found.said


def test_questions_that_differ_by_a_sign_are_kept(place: Path, realm: Realm) -> None:
    given = [{"q": f"What is {a} {sign} {b}?", "a": a} for a in range(4) for b in range(4) for sign in "+-*/<"]
    write_rows(Path("x.jsonl"), given)
    found = Import(realm, "x.jsonl", *QA)
    assert len(found.problems) == 80 and not found.reasons
    checked = json.loads(realm("check", "out/problems.jsonl", "--json").out)
    told = " ".join(finding["text"] for finding in checked["findings"])
    assert "no question is asked twice" in told and "no test question shares 13 words" in told
