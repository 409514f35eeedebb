"""The rulebook domain: its numbers, its texts, and what its noisy solvers can and cannot do."""

import random
import re
from collections import Counter, defaultdict
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realm_cli.domains import load_domain
from realm_cli.domains.rulebook import tariff
from realm_cli.domains.rulebook.generate import GROUPS, THIN_EXAMPLES, all_parcels, group_of, held_out_combo
from realm_cli.domains.rulebook.tariff import FAMILIES, GENERAL, PRODUCTS, RULES, Parcel, Rates, charge, rates_for
from realm_cli.domains.rulebook.wording import parse_question, question_text, read_answer, read_steps
from realm_cli.errors import ConfigError, DataError

DOMAIN = load_domain("rulebook")

# Worked out by hand from rules.md.
WORKED = [
    ("Parcel: lamp, 7 kg, zone 2, express, fragile. Fee?", ["base 26", "zone + 6 = 32", "express x 2 = 64"]),
    ("Parcel: lamp, 7 kg, zone 2, fragile. Fee?", ["base 26", "zone + 6 = 32", "fragile + 11 = 43"]),
    (
        "Parcel: mirror, 15 kg, zone 4, express, fragile, insured, member. Fee?",
        [
            "base 36",
            "zone + 24 = 60",  # far haul: 36 has reached 36
            "express + 30 = 90",
            "fragile + 15 = 105",  # express, but zone 4
            "insured + 20 = 125",
            "member - 10 = 115",
            "cap 100 = 100",
        ],
    ),
    ("Parcel: vase, 1 kg, zone 1, express, fragile. Fee?", ["base 18", "express x 2 = 36", "fragile + 7 = 43"]),
    ("Parcel: desk, 12 kg, zone 3, member. Fee?", ["base 55", "zone + 10 = 65", "member - 10 = 55"]),
    (
        "Parcel: shelf, 12 kg, zone 2, insured, member. Fee?",
        ["base 48", "zone + 6 = 54", "insured + 8 = 62", "member - 6 = 56"],
    ),
    ("Parcel: tent, 2 kg, zone 2, fragile. Fee?", ["base 22", "zone + 8 = 30", "fragile + 4 = 34", "floor 36 = 36"]),
    ("Parcel: grill, 6 kg, zone 3, express. Fee?", ["base 38", "zone + 14 = 52", "express + 35 = 87"]),
]


@pytest.fixture(scope="module")
def rows():
    return DOMAIN.generate(600, 200, 400, seed=3)


@pytest.fixture(scope="module")
def routes(rows):
    """problem id -> solver -> four sampled texts."""
    made = {}
    for row in rows:
        rng = random.Random(row["id"])
        made[row["id"]] = {
            name: [DOMAIN.solve(name, row["question"], rng) for _ in range(4)] for name in DOMAIN.SOLVERS
        }
    return made


@pytest.mark.parametrize(("question", "steps"), WORKED)
def test_oracle_matches_hand_worked_fees(question, steps):
    text = DOMAIN.oracle_solution(question)
    assert read_steps(text) == steps
    assert text.splitlines()[-1] == f"Answer: {steps[-1].split()[-1]}"
    assert DOMAIN.rule_check(question, text) == "pass"


def test_thresholds_look_at_the_running_total():
    below = charge(Parcel("chair", 7, 2, express=True), rates_for("chair"))  # 29 + 6 = 35 < 40
    above = charge(Parcel("chair", 7, 3, express=True), rates_for("chair"))  # 29 + 12 = 41 >= 40
    assert [str(step) for step in below][-1] == "express x 2 = 70"
    assert [str(step) for step in above][-1] == "express + 30 = 71"


@pytest.mark.parametrize(
    "change",
    [
        ("+ 6", "+ 7"),
        ("= 32", "= 33"),
        ("1. base 26\n", ""),
        ("Answer: 64", "Answer: 63"),
        ("x 2 = 64", "x 2 = [hidden]"),
    ],
)
def test_rule_check_sees_every_kind_of_departure(change):
    question, _ = WORKED[0]
    assert DOMAIN.rule_check(question, DOMAIN.oracle_solution(question).replace(*change)) == "fail"


def test_rule_check_reads_the_tagged_form():
    text = "<think>\n1. base 26\n2. zone + 6 = 32\n3. express x 2 = 64\n</think>\n<answer>{}</answer>"
    assert DOMAIN.rule_check(WORKED[0][0], text.format(64)) == "pass"
    assert DOMAIN.rule_check(WORKED[0][0], text.format(60)) == "fail"


@pytest.mark.parametrize(
    "question",
    [
        "2 + 2 = ?",
        "Parcel: cat, 3 kg, zone 2. Fee?",
        "Parcel: lamp, 16 kg, zone 2. Fee?",
        "Parcel: lamp, 3 kg, zone 9. Fee?",
    ],
)
def test_questions_outside_the_tariff_are_refused(question):
    with pytest.raises(DataError, match="rulebook domain|no such parcel"):
        DOMAIN.oracle_solution(question)


def test_unknown_names_are_refused():
    with pytest.raises(ConfigError, match="only one is 'rulebook'"):
        load_domain("cooking")
    with pytest.raises(ConfigError, match="known: forgetful, generalist, hasty, misreader"):
        DOMAIN.solve("genius", WORKED[0][0], random.Random(0))


parcels = st.builds(
    Parcel,
    st.sampled_from(sorted(PRODUCTS)),
    st.integers(1, tariff.MAX_KG),
    st.integers(1, tariff.ZONES),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)


@given(parcels)
def test_questions_read_back(parcel):
    assert parse_question(question_text(parcel)) == parcel


@given(parcels)
def test_fees_stay_between_floor_and_cap_and_rules_in_order(parcel):
    rates = rates_for(parcel.product)
    steps = charge(parcel, rates)
    fired = [RULES.index(step.rule) for step in steps]
    assert fired == sorted(set(fired)) and fired[0] == 0
    assert rates.floor <= steps[-1].total <= rates.cap
    assert all(0 <= step.total <= 199 for step in steps)


@given(parcels, st.sampled_from(sorted(DOMAIN.SOLVERS)), st.integers(0, 10_000))
def test_solver_texts_are_well_formed_and_seeded(parcel, name, seed):
    question = question_text(parcel)
    if len(read_steps(DOMAIN.oracle_solution(question))) < 3:
        return
    text = DOMAIN.solve(name, question, random.Random(seed))
    assert text == DOMAIN.solve(name, question, random.Random(seed))
    assert re.fullmatch(r"1\. base \d+(\n\d\. (\w+ [+x-] \d+|cap \d+|floor \d+) = \d+)*\nAnswer: \d+", text)
    assert all(0 <= int(step.split()[-1]) <= 199 for step in read_steps(text))


def test_rows_are_deterministic_disjoint_and_grouped(rows):
    assert rows == DOMAIN.generate(600, 200, 400, seed=3)
    assert rows != DOMAIN.generate(600, 200, 400, seed=4)
    assert Counter(row["split"] for row in rows) == {"train": 600, "dev": 200, "test": 400}
    assert len({row["question"] for row in rows}) == len({row["id"] for row in rows}) == 1200
    assert Counter(row["group"] for row in rows if row["split"] == "train") == {
        "covered": 300,
        "thin": 120,
        "unseen": 180,
    }
    assert {row["group"] for row in rows if row["split"] == "test"} == set(GROUPS)
    for row in rows:
        assert 3 <= len(read_steps(row["gold_solution"])) <= 6
        assert read_answer(row["gold_solution"]) == row["answer"]
        assert row["gold_solution"] == DOMAIN.oracle_solution(row["question"])


def test_distill_marks_all_covered_few_thin_no_unseen(rows):
    train = [row for row in rows if row["split"] == "train"]
    assert all(("distill" in row["tags"]) == (row["group"] == "covered") for row in train if row["group"] != "thin")
    thin = Counter(parse_question(row["question"]).product for row in train if row["group"] == "thin" and row["tags"])
    assert thin == {"printer": THIN_EXAMPLES, "desk": THIN_EXAMPLES, "shelf": THIN_EXAMPLES}
    assert not any(row["tags"] for row in rows if row["split"] != "train")


def test_held_out_combinations_never_train_but_their_parts_do(rows):
    train = [parse_question(row["question"]) for row in rows if row["split"] == "train" and row["group"] != "unseen"]
    assert not any(held_out_combo(parcel) for parcel in train)
    assert any(parcel.zone == 3 and parcel.express for parcel in train)
    assert any(parcel.express and parcel.insured for parcel in train)
    assert any(parcel.zone == 4 and parcel.member for parcel in train)


def test_too_many_problems_are_refused_with_the_number_left():
    with pytest.raises(ConfigError, match=r"train wants 10000 more covered problems, \d+ are left"):
        DOMAIN.generate(20_000, 0, 0, seed=0)


def test_solver_accuracy_bands_and_spread_of_errors(rows, routes):
    right = defaultdict(list)
    plural, any_of, same_wrong = defaultdict(list), defaultdict(list), defaultdict(list)
    for row in rows:
        group = row["group"]
        pool = [(name, read_answer(text)) for name, texts in routes[row["id"]].items() for text in texts]
        for name, answer in pool:
            right[group, name].append(answer == row["answer"])
        drawn = [answer for _, answer in random.Random(row["id"]).sample(pool, 4)]
        plural[group].append(Counter(drawn).most_common(1)[0][0] == row["answer"])
        any_of[group].append(row["answer"] in drawn)
        wrong = Counter(answer for _, answer in pool if answer != row["answer"])
        same_wrong[group].append(max(wrong.values(), default=0) > 1)
    for (group, _), hits in right.items():
        assert _mean(hits) == 0 if group == "unseen" else 0.3 < _mean(hits) < 0.8
    for group in ("covered", "thin", "combo"):
        assert 0.55 < _mean(plural[group]) < 0.85
        assert 0.85 < _mean(any_of[group]) < 0.99
        assert _mean(same_wrong[group]) > 0.8
    assert _mean(any_of["unseen"]) == 0


def test_unseen_routes_are_each_wrong_but_together_usually_right(rows, routes):
    hits = []
    for row in rows:
        if row["group"] != "unseen":
            continue
        one_each = [texts[0] for texts in routes[row["id"]].values()]
        assert all(DOMAIN.rule_check(row["question"], text) == "fail" for text in one_each)
        hits.append(_step_majority(one_each) == row["answer"])
    assert 0.6 < _mean(hits) < 0.9


def test_rules_md_states_every_number_of_the_tariff():
    text = DOMAIN.rules()
    table = {cells[0]: cells[1:] for cells in _cells(text)}
    columns = (GENERAL, FAMILIES["household"], FAMILIES["office"], FAMILIES["garden"])
    stated = {
        "base light / medium / heavy": lambda r: " / ".join(map(str, r.base)),
        "zone 2 / 3 / 4": lambda r: " / ".join(map(str, r.zone)),
        "far-haul threshold": lambda r: str(r.far_from),
        "far-haul surcharge": lambda r: str(r.far),
        "express limit": lambda r: str(r.express_limit),
        "express surcharge": lambda r: str(r.express_add),
        "fragile surcharge": lambda r: str(r.fragile),
        "insurance limit": lambda r: str(r.insured_limit),
        "premium low / high": lambda r: f"{r.insured_low} / {r.insured_high}",
        "member threshold": lambda r: str(r.member_above),
        "member discount": lambda r: str(r.member_off),
        "cap": lambda r: str(r.cap),
        "floor": lambda r: str(r.floor),
    }
    for label, value in stated.items():
        general = value(GENERAL)
        assert [general if cell == "-" else cell for cell in table[label]] == [value(rates) for rates in columns], label
    names = {field.name for field in fields(Rates)}
    for product, (family, own) in PRODUCTS.items():
        assert table[product][0] == family
        assert set(own) <= names
        numbers = {int(n) for n in re.findall(r"(?<!zone )\b\d+\b", table[product][1])}
        changed = set()
        for name, new in own.items():
            old = getattr(FAMILIES[family], name)
            pairs = zip(new, old, strict=True) if isinstance(new, tuple) else [(new, old)]
            changed |= {a for a, b in pairs if a != b and not isinstance(a, bool)}
        assert numbers == changed, product
    assert "Answer: 36" in DOMAIN.notes()


def test_every_group_has_enough_parcels():
    counts = Counter(map(group_of, all_parcels()))
    assert counts["covered"] > 2500 and counts["thin"] > 1500 and counts["unseen"] > 2500 and counts["combo"] > 700


def _mean(values):
    return sum(values) / len(values)


def _cells(markdown):
    lines = [line.strip("|").split("|") for line in markdown.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line] for line in lines]


def _step_majority(texts):
    """Vote on (operation, operand) per rule, then recompute."""
    votes = [{step.split()[0]: step.split(" = ")[0] for step in read_steps(text)} for text in texts]
    total = 0
    for rule in RULES:
        choice = Counter(vote.get(rule) for vote in votes).most_common(1)[0][0]
        if choice is None:
            continue
        *_, op, operand = ["", *choice.split()]
        total = {"+": total + int(operand), "-": total - int(operand), "x": total * int(operand)}.get(op, int(operand))
    return str(total)
