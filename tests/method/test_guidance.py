"""Filters over teacher CoTs and the fine-tuning mix (method.md section 3, acceptance test 13.6)."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realm_cli.errors import ConfigError
from realm_cli.method import guidance as gd
from realm_cli.method.parsing import parse_completion
from realm_cli.prompts import bare_messages, solution_text
from realm_cli.records import GuidedCoT, Problem, Route, RouteSet, ScoredRoute, ShownRoute

RULE = "Parcels above 20 kg pay a surcharge of 5."
PROBLEM = Problem(id="p0", question="A parcel weighs 22 kg. Base fee 10. What is the fee?", answer="15")


def cot(i: int, problem_id: str = "p0", **update) -> GuidedCoT:
    steps = [f"parcel {i} of {problem_id} is {w}" for w in ("heavy", "surcharged", "paid")]
    text = " ".join(f"{w}{i}" for w in ("alpha", "beta", "gamma", "delta", "epsilon", "zeta"))
    common = {"teacher": "t", "rules_shown": True, "final_answer": "15", "correct": True}
    base = GuidedCoT(id=f"c{i}", problem_id=problem_id, text=text, steps=steps, **common)
    return base.model_copy(update=update)


def run(cots, options=None, answer_class=None, facts=lambda c: {c.id}, n_tokens=lambda text: len(text.split())):
    options = options or gd.FilterOptions(nll_drop=0.0)
    return gd.filter_cots(cots, options=options, n_tokens=n_tokens, facts=facts, answer_class=answer_class)


def reasons(rows) -> dict[str, str | None]:
    return {row.id: row.drop_reason for row in rows}


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ("By rules above, pay 5.", ["rules above"]),
        ("The given rules say so.", ["above rules"]),
        ("By rule 3 the fee is 5.", ["rule number"]),
        ("Rules 2 and 4 apply.", ["rule number"]),
        ("R12 applies here.", ["rule id"]),
        ("The rule list has it.", ["rule list"]),
        ("According to the notes, pay.", ["by the rules"]),
        ("As per the rules we pay.", ["by the rules"]),
        ("The expert notes say.", ["expert notes"]),
        ("As instructed, I go on.", ["as instructed"]),
        ("The known answer is 5.", ["given label"]),
    ],
)
def test_leaks(text, flags) -> None:
    assert gd.leak_flags(text) == flags


@pytest.mark.parametrize(
    "text",
    ["Heavy parcels cost 5 more.", "By the product rule, 3 * 4 = 12.", "The rule of 72 gives 9 years.", "r12 = 4"]
    + ["Two of the given answer choices are odd.", "The ruler is 3 cm.", "Take note 5 of the scale."],
)
def test_plain_reasoning_is_no_leak(text) -> None:
    assert gd.leak_flags(text) == []


@pytest.mark.parametrize(
    ("update", "reason"),
    [
        ({"correct": False}, "wrong answer"),
        ({"rule_check": "fail"}, "rule check failed"),
        ({"rule_check": "pass"}, None),
        ({"text": "by rule 3 as instructed"}, "leak: rule number, as instructed"),
        ({"steps": ["a", "b"]}, "too few steps"),
        ({"steps": ["a"] * 13}, "too many steps"),
        ({"steps": ["a"] * 12}, None),
        ({"text": "w " * 513}, "too long"),
        ({"text": "w " * 512}, None),
        ({"correct": False, "rule_check": "fail", "steps": []}, "wrong answer"),
        ({"rule_check": "fail", "text": "by rule 3"}, "rule check failed"),
        ({"text": "by rule 3", "steps": []}, "leak: rule number"),
    ],
)
def test_own_faults_in_order(update, reason) -> None:
    row = run([cot(0, **update)])[0]
    assert (row.drop_reason, row.kept) == (reason, reason is None)


def test_all_rows_come_back_in_order_with_flags() -> None:
    rows = run([cot(0), cot(1, correct=False, text="rule 7 says so")])
    assert [r.id for r in rows] == ["c0", "c1"]
    assert rows[1].leak_flags == ["rule number"]
    assert rows[0].kept
    assert run([]) == []


def test_near_duplicates_within_a_problem() -> None:
    text = " ".join(f"w{i}" for i in range(104))  # 100 five-grams
    close = text.replace("w103", "other")  # Jaccard 99 / 101
    far = " ".join([*text.split()[:90], *(f"x{i}" for i in range(14))])  # 86 / 114 = .75
    rows = run([cot(0, text=text), cot(1, text=close), cot(2, text=far), cot(3, "p1", text=text)])
    assert reasons(rows) == {"c0": None, "c1": "near-duplicate of c0", "c2": None, "c3": None}


def test_only_whole_runs_of_five_words_count() -> None:
    rows = [cot(0, text="a b c d e f"), cot(1, text="a b c d e g")]  # one of three five-grams is in both
    for limit, kept in ((0.33, 1), (0.34, 2)):
        found = run(rows, gd.FilterOptions(near_duplicate=limit, nll_drop=0.0))
        assert sum(row.kept for row in found) == kept


def test_short_texts_are_compared_whole() -> None:
    rows = run([cot(0, text="a b c"), cot(1, text="A b c"), cot(2, text="a b d")])
    assert reasons(rows) == {"c0": None, "c1": "near-duplicate of c0", "c2": None}


def test_a_dropped_cot_shadows_no_other() -> None:
    rows = run([cot(0, text="a b c", correct=False), cot(1, text="a b c")])
    assert reasons(rows)["c1"] is None


def test_hardest_tenth_is_dropped() -> None:
    cots = [cot(i, f"p{i}", nll_student=0.1 * i) for i in range(20)] + [cot(20, "p20")]
    rows = run(cots, gd.FilterOptions())
    dropped = {k: v for k, v in reasons(rows).items() if v}
    assert dropped == {"c18": "hard to imitate (nll 1.80)", "c19": "hard to imitate (nll 1.90)"}
    assert all(r.kept for r in run(cots[:9], gd.FilterOptions()))


def test_most_diverse_pair_is_kept() -> None:
    facts = {"c0": {"1", "2", "3"}, "c1": {"1", "2"}, "c2": {"1", "9"}, "c3": {"1", "2", "3", "9"}}
    rows = run([cot(i) for i in range(4)], facts=lambda c: facts[c.id])  # c0-c2 is furthest: 1 / 4
    assert reasons(rows) == {
        "c0": None,
        "c1": "not among the 2 most diverse",
        "c2": None,
        "c3": "not among the 2 most diverse",
    }


def test_keep_one_or_three() -> None:
    facts = {"c0": {"1"}, "c1": {"1"}, "c2": {"2"}, "c3": {"1", "3"}}
    one = run([cot(i) for i in range(4)], gd.FilterOptions(keep_per_problem=1, nll_drop=0), facts=lambda c: facts[c.id])
    assert [r.id for r in one if r.kept] == ["c0"]
    assert one[1].drop_reason == "not among the 1 most diverse"
    three = run([cot(i) for i in range(4)], gd.FilterOptions(keep_per_problem=3), facts=lambda c: facts[c.id])
    assert [r.id for r in three if r.kept] == ["c0", "c2", "c3"]


def test_label_given_share_is_capped() -> None:
    cots = [cot(i, f"p{i}", label_given=i >= 8) for i in range(12)]
    rows = run(cots)
    assert [r.id for r in rows if r.kept] == [f"c{i}" for i in range(10)]  # 2 of 10
    assert rows[11].drop_reason == "label-given share over 20%"
    assert all(r.kept for r in run(cots, gd.FilterOptions(max_label_given=1.0, nll_drop=0)))
    assert not any(r.kept for r in run(cots[8:]))


def test_class_balance() -> None:
    cots = [cot(i, f"p{i % 10}", label_given=i == 0) for i in range(14)]  # p0..p3 have two CoTs
    classes = {f"p{i}": "yes" if i < 8 else "no" for i in range(10)}  # 12 yes, 2 no -> cap 4
    rows = run(cots, answer_class=classes)
    assert [r.id for r in rows if r.kept] == ["c1", "c2", "c3", "c4", "c8", "c9"]
    assert {r.drop_reason for r in rows if not r.kept} == {"class balance"}
    assert all(r.kept for r in [*run(cots), *run(cots, answer_class={})])
    assert all(r.kept for r in run(cots, gd.FilterOptions(balance=False, nll_drop=0), answer_class=classes))


def test_balance_cannot_raise_the_label_given_share() -> None:
    cots = [cot(i, f"p{i}", label_given=i in (20, 21)) for i in range(22)]
    classes = {f"p{i}": "yes" if i < 20 else "no" for i in range(22)}
    rows = run(cots, answer_class=classes)  # cap 4: 4 yes + 2 label-given no -> 1 of 5
    assert [r.id for r in rows if r.kept] == ["c0", "c1", "c2", "c3", "c20"]
    assert rows[21].drop_reason == "label-given share over 20%"


SPEC = st.tuples(st.integers(0, 4), st.booleans(), st.booleans(), st.none() | st.floats(0, 5))


@given(st.lists(SPEC, min_size=1, max_size=30))
def test_filter_invariants(spec) -> None:
    cots = [
        cot(i, f"p{p}", correct=right, label_given=given, nll_student=nll)
        for i, (p, right, given, nll) in enumerate(spec)
    ]
    classes = {f"p{i}": "ab"[i % 2] for i in range(5)}
    rows = run(cots, gd.FilterOptions(), answer_class=classes)
    kept = [r for r in rows if r.kept]
    assert [r.id for r in rows] == [c.id for c in cots]
    assert all((r.drop_reason is None) == r.kept for r in rows)
    assert all(r.correct for r in kept)
    assert sum(r.label_given for r in kept) <= 0.2 * len(kept) + 1e-9
    for p in range(5):
        assert sum(r.problem_id == f"p{p}" for r in kept) <= 2


def scored(**update) -> ScoredRoute:
    steps = ["22 kg is heavy", "the surcharge is 4", "10 + 4 = 14"]
    common = {"problem_id": "p0", "source": "s", "text": "", "final_answer": "14", "first_error": 2}
    base = ScoredRoute(id="p0/s/0", steps=steps, **common)
    return base.model_copy(update=update)


RIGHT = ["22 kg is above 20 kg", "the surcharge is 5", "10 + 5 = 15"]


@pytest.mark.parametrize("style", ["full", "terse"])
def test_guided_and_positive_samples_have_no_rules_and_full_loss(style) -> None:
    guided = gd.guided_sample(PROBLEM, cot(3, steps=RIGHT), style)
    route = Route(id="p0/m/1", problem_id="p0", source="m", text="", steps=RIGHT, correct=True)
    positive = gd.positive_sample(PROBLEM, route, style)
    for sample, kind, sample_id in ((guided, "guided", "guided/c3"), (positive, "positive", "positive/p0/m/1")):
        assert (sample.kind, sample.id, sample.problem_id, sample.loss_start) == (kind, sample_id, "p0", 0)
        assert sample.messages == bare_messages(PROBLEM.question, style)
        assert sample.completion == solution_text(RIGHT, "15")
        assert all(RULE not in m["content"] and "[Route" not in m["content"] for m in sample.messages)
        assert parse_completion(sample.completion, k=0, min_think_words=10).ok


@pytest.mark.parametrize("order", ["verify_first", "solve_first"])
@pytest.mark.parametrize("hidden", [True, False])
def test_mrpv_sample(order, hidden) -> None:
    shown = [
        ShownRoute(route_id="a", steps=scored().steps, answer="14", label=False, first_error=2),
        ShownRoute(route_id="b", steps=RIGHT, answer="15", label=True),
        ShownRoute(route_id="c", steps=["22 kg is light", "10 + 0 = 10"], answer="10", label=False),
    ]
    route_set = RouteSet(id="p0/set0", problem_id="p0", kind="balanced", shown=shown, answers_hidden=hidden)
    sample = gd.mrpv_sample(PROBLEM, route_set, RIGHT, "15", "full", order)
    assert (sample.id, sample.kind, sample.loss_start) == ("mrpv/p0/set0", "mrpv", 0)
    parsed = parse_completion(sample.completion, k=3, order=order, min_think_words=10)
    assert parsed.ok
    assert (parsed.verdicts, parsed.first_errors, parsed.answer) == ([False, True, False], [2, None, None], "15")
    assert ("Answer: 14" in sample.messages[-1]["content"]) is not hidden
    assert "[Route C]" in sample.messages[-1]["content"]


def test_lemma_sample_masks_exactly_the_wrong_prefix() -> None:
    sample = gd.lemma_sample(PROBLEM, scored(), RIGHT, "full")
    assert sample is not None
    assert (sample.id, sample.kind) == ("lemma/p0/s/0", "lemma")
    masked, learned = sample.completion[: sample.loss_start], sample.completion[sample.loss_start :]
    assert masked == "<think>\n1. 22 kg is heavy\n2. the surcharge is 4\n"
    assert learned == ("Wait, step 2 is wrong.\n2. the surcharge is 5\n3. 10 + 5 = 15\n</think>\n<answer>15</answer>")
    assert "10 + 4" not in sample.completion


@pytest.mark.parametrize(
    ("negative", "steps"),
    [
        (scored(first_error=None), RIGHT),
        (scored(correct=True), RIGHT),
        (scored(first_error=3), RIGHT[:2]),
        (scored(first_error=4), [*RIGHT, "done"]),
        (scored(first_error=0), RIGHT),
        (scored(), ["22 kg", "the  surcharge is 4", "so 15"]),
    ],
)
def test_lemma_needs_a_known_error_and_another_step(negative, steps) -> None:
    assert gd.lemma_sample(PROBLEM, negative, steps, "full") is None


def pool(kind: str, n: int):
    samples = [gd.guided_sample(PROBLEM, cot(i), "terse") for i in range(n)]
    return [s.model_copy(update={"id": f"{kind}/{i}", "kind": kind}) for i, s in enumerate(samples)]


def test_mix_meets_the_shares() -> None:
    parts = (pool("guided", 60), pool("positive", 10), pool("mrpv", 99), pool("lemma", 7))
    samples = gd.sample_mix(*parts, rng=random.Random(0))
    assert gd.mix_counts(samples) == {"guided": 60, "positive": 10, "mrpv": 20, "lemma": 10}
    ids = [s.id for s in samples]
    assert len(set(ids)) == 100
    assert sum(i.startswith("lemma") and i.endswith("#2") for i in ids) == 3
    assert [s.kind for s in samples[:60]] != ["guided"] * 60  # shuffled


def test_small_pools_stand_at_most_twice() -> None:
    samples = gd.sample_mix(pool("guided", 70), [], pool("mrpv", 3), [], rng=random.Random(0))
    assert gd.mix_counts(samples) == {"guided": 70, "mrpv": 6}


def test_mix_weights() -> None:
    parts = (pool("guided", 6), [], pool("mrpv", 5), pool("lemma", 5))
    only = gd.sample_mix(*parts, weights={"guided": 1.0}, rng=random.Random(0))
    assert gd.mix_counts(only) == {"guided": 6}
    half = gd.sample_mix(*parts, weights={"guided": 2, "lemma": 1}, rng=random.Random(0))
    assert gd.mix_counts(half) == {"guided": 6, "lemma": 3}
    none = gd.sample_mix([], [], *parts[2:], weights={"mrpv": 1.0}, rng=random.Random(0))
    assert gd.mix_counts(none) == {"mrpv": 5}
    assert gd.DEFAULT_MIX == {"guided": 0.7, "mrpv": 0.2, "lemma": 0.1}


def test_mix_is_reproducible() -> None:
    parts = (pool("guided", 9), pool("positive", 2), pool("mrpv", 9), pool("lemma", 9))
    assert gd.sample_mix(*parts, rng=random.Random(5)) == gd.sample_mix(*parts, rng=random.Random(5))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"critique": 1.0}, "distill.mix: unknown kind critique; choose from guided, mrpv, lemma"),
        ({"guided": -1.0}, "weights must be >= 0"),
        ({"mrpv": 1.0}, "guided needs a weight > 0"),
    ],
)
def test_mix_errors(weights, message) -> None:
    with pytest.raises(ConfigError, match=message):
        gd.sample_mix(pool("guided", 2), [], [], [], weights=weights, rng=random.Random(0))
