"""`realm import` on shapes of data sets that other programs write: nothing is read wrongly, or lost without a count."""

from __future__ import annotations

import datetime
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from cli.helpers import Realm, write_rows
from cli.test_import_kinds import QA, Import, place, refused, table  # noqa: F401 - a fixture

COLOURS = ("red", "green", "blue", "grey")


@pytest.fixture(autouse=True)
def _here(place: Path) -> None:  # noqa: F811
    """All of it in a folder of its own."""


# Choices


@pytest.mark.parametrize(
    "form",
    [
        "{})",
        "({})",
        "[{}]",
        "{}.",
        "{}:",
        "{}.)",
        "{} -",
        "{}-",
        "{} –",
        "{} |",
        "**{}.**",
        "Option {}:",
        "{}）",
        "（{}）",
    ],
)
@pytest.mark.parametrize("case", [str.upper, str.lower])
def test_letters_glued_to_options_are_taken_off(form: str, case: Any, realm: Realm) -> None:
    options = [f"{form.format(case(letter))} {colour} 5" for letter, colour in zip("ABCD", COLOURS, strict=True)]
    found = Import(
        realm, table(*["B", options[1], "green 5"] * 4, o=options), *QA, "--choices", "o", "--answer-is", "text"
    )
    assert {tuple(choices) for choices in found["choices"]} == {tuple(f"{colour} 5" for colour in COLOURS)}
    assert set(found["answer"]) == {"B"} and len(found.reasons) == 4  # a letter is no text
    assert set(Import(realm, table(*["B", options[1]] * 4, o=options), *QA, "--choices", "o")["answer"]) == {"B"}


@pytest.mark.parametrize(
    "options",
    [
        ["A - 1", "B - 1", "C - 1"],  # differences, not letters
        ["A only", "B only", "C only"],
        ["J. Doe", "A. Roe", "M. Poe"],  # initials
        ["1.5 m", "2.5 m", "3.5 m"],
        ["2) x", "3) y", "4) z"],
    ],
)
def test_what_only_looks_like_a_letter_stays(options: list[str], realm: Realm) -> None:
    found = Import(realm, table(*options * 3, o=options), *QA, "--choices", "o", "--answer-is", "text")
    assert found["choices"][0] == options and found["answer"][:3] == ["A", "B", "C"]


@pytest.mark.parametrize(("letters", "of_c"), [("ACD", "B"), ("BAC", "C"), ("CBA", "A"), ("ABD", None)])
def test_letters_that_are_not_those_of_their_places_are_what_answers_name(
    letters: str, of_c: str | None, realm: Realm
) -> None:
    options = [f"{letter}) {colour}" for letter, colour in zip(letters, COLOURS, strict=False)]
    found = Import(realm, table("C", letters[0], letters[1], letters[2], o=options), *QA, "--choices", "o")
    assert found["choices"][0] == list(COLOURS[:3]) and found["answer"] == [*([of_c] if of_c else []), "A", "B", "C"]
    assert len(found.reasons) == (of_c is None)


def test_letters_of_the_table_are_the_only_ones(realm: Realm) -> None:
    told = {"text": list(COLOURS[:3]), "label": ["A", "C", "D"]}
    found = Import(realm, table("C", "(d)", "a", "B", o=told), *QA, "--choices", "o")
    assert found["answer"] == ["B", "C", "A"] and len(found.reasons) == 1


def test_numbers_among_options_in_another_spelling(realm: Realm) -> None:
    assert Import(realm, table("1200", "1500.0", o=["$1,200", "$1,500"]), *QA, "--choices", "o")["answer"] == ["A", "B"]


@pytest.mark.parametrize("form", ["{}) ", "({})", "{}. ", "{}: "])
@pytest.mark.parametrize("first", [0, 1])
def test_numbers_in_front_of_options_say_what_a_number_means(form: str, first: int, realm: Realm) -> None:
    options = [form.format(i) + colour for i, colour in enumerate(COLOURS, first)]
    found = Import(realm, table(*[str(first + 1)] * 4, o=options), *QA, "--choices", "o")
    assert set(found["answer"]) == {"B"} and found["choices"][0] == list(COLOURS)
    assert "letters or numbers of the choices, as they have them" in found.said


@pytest.mark.parametrize(
    "option",
    [
        lambda letter, text: {"key": letter, "value": text},
        lambda letter, text: {"label": letter, "text": text},
        lambda letter, text: {"id": letter, "content": text},
        lambda letter, text: {"letter": letter, "option": text},
    ],
)
def test_options_as_objects(option: Any, realm: Realm) -> None:
    options = [option(letter, text) for letter, text in zip("ABCD", COLOURS, strict=True)]
    found = Import(realm, table(*"ABCD", o=options), *QA, "--choices", "o")
    assert found["choices"][0] == list(COLOURS) and found["answer"] == list("ABCD")


def test_texts_of_choices_but_for_punctuation_and_letter_with_text(realm: Realm) -> None:
    name = table("Green.", "BLUE", '"grey"', "red", o=list(COLOURS))
    assert Import(realm, name, *QA, "--choices", "o")["answer"] == ["B", "C", "D", "A"]
    name = table("Option B", "C. blue", "(d) Grey.", "A: green", o=list(COLOURS))
    found = Import(realm, name, *QA, "--choices", "o")
    assert found["answer"] == ["B", "C", "D"] and "none of the choices" in found.reasons[0]  # A is not green


def test_a_text_that_two_choices_have_is_said(realm: Realm) -> None:
    found = Import(realm, table("yes", "no", "no", "no", o=["yes", "yes", "no"]), *QA, "--choices", "o")
    assert found.reasons == ["several choices have the answer's text, read as text (--answer-is): 'yes'"]


def test_a_list_of_marks_names_the_choice(realm: Realm) -> None:
    marks = [[0, 1, 0, 0], [1, 0, 0, 0], [False, False, True, False], [1, 1, 0, 0], [0, 0, 0, 0]]
    name = table(*["-"] * 5, m=lambda i: {"choices": list(COLOURS), "labels": marks[i]})
    found = Import(realm, name, "-q", "q", "-a", "m.labels", "--choices", "m.choices")
    assert found["answer"] == ["B", "A", "C"] and set(found["answer_type"]) == {"choice"}
    assert [reason[-6:] for reason in found.reasons] == ["2 of 4", "0 of 4"]


def test_several_right_choices_are_rejected_with_the_way_out(realm: Realm) -> None:
    name = table(["A", "C"], "B", "B", "A", o=list(COLOURS))
    found = Import(realm, name, *QA, "--choices", "o")
    assert found["answer"] == ["B", "B", "A"] and "several choices are right (--list-means any" in found.said
    assert Import(realm, name, *QA, "--choices", "o", "--list-means", "any").problems[0]["answers"] == ["C"]


def test_choices_that_only_rows_of_type_choice_have(realm: Realm) -> None:
    kinds = ["number", "choice", "label"]
    name = table("5", "B", "yes", t=lambda i: kinds[i], o=lambda i: list(COLOURS) if i == 1 else None)
    found = Import(realm, name, *QA, "--answer-type", "t", "--choices", "o")
    assert found["answer_type"] == kinds and [bool(p.get("choices")) for p in found.problems] == [False, True, False]


def test_a_solution_ends_in_the_answer_as_it_was_read(realm: Realm) -> None:
    found = Import(realm, table(*range(4), o=list(COLOURS), s="Because."), *QA, "--choices", "o", "--solution", "s")
    assert found["gold_solution"] == [f"Because.\nAnswer: {letter}" for letter in "ABCD"]
    found = Import(realm, table("1,5", "0,25", s="Because."), *QA, "--solution", "s")
    assert found["gold_solution"] == ["Because.\nAnswer: 1.5", "Because.\nAnswer: 0.25"]


@pytest.mark.parametrize(
    ("cell", "options"),
    [
        ("(A) see (b) of the act (B) green (C) blue", ["see (b) of the act", "green", "blue"]),  # letters as the first
        ("A) red B) green C) blue", ["red", "green", "blue"]),
        ("1) red 2) green 3) blue", ["red", "green", "blue"]),
        ("red\n\ngreen\n \nblue\n", ["red", "green", "blue"]),  # blank lines between all are no options
        ("red\n\nblue\ngrey", ["red", "", "blue", "grey"]),  # one is missing
        ("A. red\nand more\nB. green\nC. blue", ["red and more", "green", "blue"]),
        ("i) red\nii) green\niii) blue", ["red", "green", "blue"]),
        ("red<br>green<br/>blue", ["red", "green", "blue"]),
        ("red; green; blue", ["red", "green", "blue"]),
        ("1.5; 2.5; 3.5", ["1.5", "2.5", "3.5"]),
    ],
)
def test_choices_in_one_text(cell: str, options: list[str], realm: Realm) -> None:
    last = max(i for i, option in enumerate(options) if option)
    found = Import(realm, table(*["ABCD"[last]] * 3, o=cell), *QA, "--choices", "o")
    assert found["choices"] == [options] * 3 and found["answer"] == ["ABCD"[last]] * 3


def test_a_text_that_cannot_be_divided_says_what_divides(realm: Realm) -> None:
    found = refused(realm, table("A", o="red, green"), *QA, "--choices", "o")
    assert "fewer than two choices (texts are divided by lines, |, ; or letters): 'red, green'" in found


@pytest.mark.parametrize(("answers", "letters"), [(("opt2", "opt1"), "BA"), (("0.0", "1.0"), "AB"), (("2", "1"), "BA")])
def test_answers_by_column_or_number_of_a_table(answers: tuple[str, ...], letters: str, realm: Realm) -> None:
    found = Import(realm, table(*answers, opt1="red", opt2="green"), *QA, "--choices", "opt1,opt2")
    assert found["answer"] == list(letters)


def test_choices_that_no_prompt_shows_are_said(realm: Realm) -> None:
    found = Import(realm, table(["A", "B"], o=list(COLOURS)), *QA, "--choices", "o", "--answer-type", "list")
    assert "1 row of type list: prompts show choices for type choice only; write them into --question" in found.said


# Answers


def test_answers_in_solutions_that_box_them(realm: Realm) -> None:
    told = [f"We have $x = {i}$, so \\boxed{{\\frac{{{i}}}{{7}}}}." for i in range(1, 5)]
    found = Import(realm, table(*told, "\\boxed{\\sqrt{2}}"), *QA)
    assert found["answer"] == [f"\\frac{{{i}}}{{7}}" for i in range(1, 5)] + ["\\sqrt{2}"]
    assert [p.get("gold_solution") for p in found.problems] == [*told, None]


def test_an_assistant_turn_without_a_stated_answer_is_said(realm: Realm) -> None:
    chats = [
        [{"from": "human", "value": f"Case {i}?"}, {"from": "gpt", "value": "Paris" if i else "So: \\boxed{5}"}]
        for i in (0, 1)
    ]
    write_rows(Path("x.jsonl"), [{"c": chat} for chat in chats])
    found = Import(realm, "x.jsonl", "-q", "c", "-a", "c")
    assert found["answer"] == ["5", "Paris"]
    assert "1 row whose assistant turn states no answer: all of it is the answer, e.g. 'Paris' (line 2)" in found.said


def test_the_note_on_turns_left_out_names_what_works(realm: Realm) -> None:
    chat = [{"from": "system", "value": "Be brief."}, {"from": "human", "value": "Who?"}]
    found = Import(realm, table("x", c=chat), "-q", "c", "-a", "a")
    option = "{c.0.value}\\n\\n{c.1.value}"
    assert f'(-q "{option}" takes turns by number)' in found.said
    assert Import(realm, "x.jsonl", "-q", option, "-a", "a")["question"] == ["Be brief.\n\nWho?"]


def test_an_answer_that_no_answer_can_equal_is_rejected(realm: Realm) -> None:
    found = Import(realm, table(*["yes", "no"] * 4, "?"), *QA)
    assert found.reasons == ["the answer cannot be read as label: '?'"] and realm("check", "out/problems.jsonl").out


def test_a_question_again_in_another_spelling_of_the_answer_has_the_same_answer(realm: Realm) -> None:
    write_rows(Path("x.jsonl"), [{"q": "How many?", "a": answer} for answer in ("1,000.0", "1000", "1001")])
    reasons = Import(realm, "x.jsonl", *QA).reasons
    assert "with the same answer" in reasons[0] and "with another answer" in reasons[1]


def test_points_that_may_be_thousands_are_said(realm: Realm) -> None:
    found = Import(realm, table("1.234", "2.500", "12.000"), *QA)
    assert "1.234 is read with a decimal point (--decimal comma: 1234)" in found.said
    found = Import(realm, table("1.234", "2.500", "12.000"), *QA, "--decimal", "comma")
    assert found["answer"] == ["1234", "2500", "12000"]


def test_tolerances_with_their_sign(realm: Realm) -> None:
    found = Import(realm, table(5, 6, 7, t=lambda i: ["±0.2", "+/- 5 %", "+-3"][i]), *QA, "--tolerance", "t")
    assert [(p.get("tolerance"), p.get("tolerance_rel")) for p in found.problems] == [
        (0.2, None),
        (None, 0.05),
        (3, None),
    ]


def test_limits_and_tolerances_are_written_as_the_answers_are(realm: Realm) -> None:
    Path("x.csv").write_text("q;a;t;lo;hi\none?;1,5;1,234;1,125;2,375\ntwo?;0,25;0,125;0,125;1,250\n")
    found = Import(realm, "x.csv", *QA, "--tolerance", "t")
    assert found["tolerance"] == [1.234, 0.125]
    found = Import(realm, "x.csv", *QA, "--lower", "lo", "--upper", "hi")
    assert (found["lower"], found["upper"]) == ([1.125, 0.125], [2.375, 1.25])
    native = table("1,5", "2,5", t=1.234, lo=1.125, hi=2.875)  # numbers of JSON have points
    found = Import(realm, native, *QA, "--tolerance", "t", "--lower", "lo", "--upper", "hi")
    assert (found["tolerance"][0], found["lower"][0], found["upper"][0]) == (1.234, 1.125, 2.875)
    found = Import(realm, table("12%", "12 %", lo="10%", hi="15 %"), *QA, "--lower", "lo", "--upper", "hi")
    assert (found["lower"], found["upper"]) == ([10, 10], [15, 15])


def test_a_heading_inside_a_text_is_no_answer(realm: Realm) -> None:
    found = Import(realm, table("#### Facts\nNo rent was due.", "Sum: 3 + 4.\n #### 7 \n"), *QA)
    assert found["answer"] == ["#### Facts\nNo rent was due.", "7"]


def test_long_answers_do_not_flood_the_notes(realm: Realm) -> None:
    assert len(Import(realm, table(*["x" * 5000, "y"] * 4), *QA).said) < 3000


def test_blanks_without_a_width_are_no_difference(realm: Realm) -> None:
    assert Import(realm, table("\u200byes", "yes\ufeff", "yes"), *QA)["answer"] == ["yes"] * 3


# Files


def _written(value: Any) -> str:
    return '"' + str(value).replace('"', '""') + '"'


def test_csv_cells_as_python_and_numpy_print_them(realm: Realm) -> None:
    chat = [{"role": "user", "content": 'It\'s "who"?'}]
    options = "{'text': array(['red', 'green'], dtype=object), 'label': array(['A', 'B'],\n      dtype=object)}"
    Path("x.csv").write_text(
        f"p,m,o,n\n{_written(chat)},{_written({'a': 'B', 'n': None})},{_written(options)},\"['p' 'q']\"\n"
    )
    found = Import(realm, "x.csv", "-q", "p", "-a", "m.a", "--choices", "o")
    assert (found["question"], found["answer"], found["choices"]) == (['It\'s "who"?'], ["B"], [["red", "green"]])
    assert Import(realm, "x.csv", "-q", "p", "-a", "n")["answer"] == ["p, q"]
    two = "[{'role': 'system', 'content': 'S'}\n {'role': 'user', 'content': 'Who?'}]"  # NumPy, without commas
    Path("x.csv").write_text(f"p,a\n{_written(two)},x\n")
    assert Import(realm, "x.csv", "-q", "p", "-a", "a")["question"] == ["Who?"]


@pytest.mark.parametrize(
    "question", ["{1, 2} is a set. Why?", "[1, 2", "{x: 1}", "{__import__('os')}", "[f(1)]", "{}", "[ ]"]
)
def test_text_that_only_begins_as_a_list_stays(question: str, realm: Realm) -> None:
    write_rows(Path("x.jsonl"), [{"q": question + " ", "a": "1"}])
    assert Import(realm, "x.jsonl", *QA)["question"] == [question]


def test_splits_and_lists_of_rows_in_one_object(realm: Realm) -> None:
    row = {n: {"q": f"How is {n}?", "a": str(n)} for n in range(1, 5)}
    for data in (
        {"version": "1.1", "train": [row[1]], "test": [row[2]]},
        {"train": {"k1": row[1]}, "test": {"k2": row[2]}},
    ):
        Path("x.json").write_text(json.dumps(data))
        assert Import(realm, "x.json", *QA)["split"] == ["train", "test"]
    Path("x.json").write_text(json.dumps({"physics": [row[1], row[2]], "law": [row[3]]}))
    found = Import(realm, "x.json", *QA)
    assert found["answer"] == ["1", "2", "3"] and "rows of 2 lists: physics, law" in found.said
    Path("x.json").write_text(json.dumps({"cases": [row[1], row[2]], "notes": [{"text": "n"}]}))
    assert "rows are those of cases; left out: notes (1 row)" in Import(realm, "x.json", *QA).said


def test_columns_of_different_lengths_are_refused(realm: Realm) -> None:
    Path("x.json").write_text('{"q": ["one?", "two?", "three?"], "a": ["1", "2"]}')
    assert "columns of different lengths (q 3, a 2)" in refused(realm, "x.json", *QA)


def test_halves_of_characters_are_no_crash(realm: Realm) -> None:
    Path("x.jsonl").write_text(
        '{"q": "Who \\ud83d?", "a": "1", "b\\udc00": 1}\n{"q": "Whole \\ud83d\\ude00, \\\\ud83d?", "a": "2"}\n'
        '{"q": "", "a": "\\ud83d"}\n'
    )
    found = Import(realm, "x.jsonl", *QA)
    assert found["question"] == ["Who ??", "Whole \U0001f600, \\ud83d?"] and len(found.reasons) == 1
    assert "halves of characters, such as \\ud83d, are read as ?: 3 of them" in found.said


def test_parquet_keeps_what_was_written(realm: Realm) -> None:
    import datasets

    names = datasets.ClassLabel(names=["no", "yes"])
    features = datasets.Features(
        {"q": datasets.Value("string"), "f": datasets.Value("float32"), "m": {"a": names, "l": [names]},
         "d": datasets.Value("decimal128(8, 2)"), "t": datasets.Value("timestamp[us]")}
    )  # fmt: skip
    rows = [
        {"q": f"How is {i}?", "f": i + 0.1, "m": {"a": i % 2, "l": [i % 2]}, "d": Decimal("1.50"),
         "t": datetime.datetime(2024, 3, 1 + i)}
        for i in range(4)
    ]  # fmt: skip
    datasets.Dataset.from_list(rows, features=features).to_parquet("x.parquet")
    assert Import(realm, "x.parquet", "-q", "q", "-a", "f")["answer"] == ["0.1", "1.1", "2.1", "3.1"]
    found = Import(realm, "x.parquet", "-q", "q", "-a", "m.a")
    assert found["answer"] == ["no", "yes", "no", "yes"] and "column m.a: names in place of class numbers" in found.said
    assert Import(realm, "x.parquet", "-q", "q", "-a", "m.l")["answer"] == ["no", "yes", "no", "yes"]
    assert Import(realm, "x.parquet", "-q", "q", "-a", "d")["answer"] == ["1.50"] * 4
    assert Import(realm, "x.parquet", "-q", "q", "-a", "t")["answer"][0] == "2024-03-01"


def test_quotes_in_files_with_tabs_are_text_where_they_enclose_no_cell(realm: Realm) -> None:
    Path("x.tsv").write_text('q\ta\n"Go," he said\tyes\n"Stop\tno\nWait\tno\n')
    found = Import(realm, "x.tsv", *QA)
    assert (
        found["question"] == ['"Go," he said', '"Stop', "Wait"] and "quotes are read as part of the text" in found.said
    )
    Path("x.tsv").write_text('q\ta\n"Go ""now""\tthen"\tyes\n"two\nlines"\tno\n')
    assert Import(realm, "x.tsv", *QA)["question"] == ['Go "now"\tthen', "two\nlines"]


def test_a_question_that_is_an_object_names_its_fields(realm: Realm) -> None:
    write_rows(Path("x.jsonl"), [{"q": {"en": "Who?", "de": "Wer?"}, "a": "x"}])
    assert "the question is an object: name one of its fields, e.g. q.en, q.de" in refused(realm, "x.jsonl", *QA)
    assert Import(realm, "x.jsonl", "-q", "q.en", "-a", "a")["question"] == ["Who?"]
