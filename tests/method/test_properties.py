"""Properties of the method's smaller functions; worked examples are in each module's own test file."""

from __future__ import annotations

import math
import random
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realm_cli.method import (
    answers,
    bridge,
    eaai,
    guidance,
    intervals,
    leak,
    members,
    mrpv,
    rewards,
    route_sets,
    scoring,
)
from realm_cli.method.parsing import parse_completion
from realm_cli.method.rule_exposure import rule_question, rules_shown_at
from realm_cli.prompts import routed_text, solution_text
from realm_cli.records import GuidedCoT, PlanRow, Problem, Route, RouteSet, ScoredRoute, SFTSample, ShownRoute

share = st.floats(0, 1)
flags = st.lists(st.booleans(), min_size=1, max_size=8)
words = st.text("abc ", min_size=1, max_size=30).filter(str.strip)
step = st.integers(0, 99).map(lambda n: f"{n} + 1 = {n + 1}")
steps = st.lists(step, min_size=1, max_size=6)


def shown(label: bool, lines: list[str], first_error: int | None = None, **given: object) -> ShownRoute:
    return ShownRoute.model_validate(
        {"route_id": "r", "steps": lines, "answer": "7", "label": label, "first_error": first_error, **given}
    )


PROBLEM = Problem(id="p", domain="d", split="train", question="How many?", answer="7", answer_type="number")


# ---- answers


@given(st.integers(-(10**9), 10**9), st.integers(1, 999))
def test_fractions_are_exact(n: int, d: int) -> None:
    assert answers.as_fraction(f"{n}/{d}") == Fraction(n, d) and answers.as_fraction(str(n)) == n
    assert answers.as_fraction(f"{n}/0") is None


@given(st.lists(st.integers(0, 10**6), max_size=6), st.sampled_from([" and ", "; ", " cats "]))
def test_numbers_are_found_in_order_without_commas(numbers: list[int], between: str) -> None:
    assert answers.numbers_in(between.join(f"{n:,}" for n in numbers)) == [str(n) for n in numbers]


@given(st.text("abcxyz019 ", min_size=1, max_size=20).map(str.strip).filter(bool))
def test_cleaning_takes_the_wrapping_off_and_nothing_else(text: str) -> None:
    for wrapped in (
        text,
        f"**{text}**.",
        f"$\\boxed{{{text}}}$",
        f"\\text{{{text}}}",
        f"<answer>{text}</answer>",
        f" {text}\n",
    ):
        assert answers.clean(wrapped) == text
    assert answers.clean(" $ ") is None


@given(st.integers(-999, 999), words)
def test_every_form_of_a_final_answer_is_read(n: int, before: str) -> None:
    for form in (f"<answer>{n}</answer>", f"\nAnswer: {n}", f"\n#### {n}", f" \\boxed{{{n}}}"):
        assert answers.flexible_answer(before + form) == answers.stated_answer(before + form) == str(n)
    assert answers.strict_answer(f"<think>\n{before}\n</think>\n<answer>{n}</answer>") == str(n)
    assert answers.strict_answer(before) is None and answers.stated_answer(before) is None
    assert answers.flexible_answer(f"We get {before} {n}") == str(n)


@given(st.sampled_from(answers.TYPES))
def test_builtin_types_are_known_first(kind: str) -> None:
    assert answers.known_types()[: len(answers.TYPES)] == list(answers.TYPES) and kind in answers.known_types()


def test_answers_by_hand() -> None:
    assert answers.numbers_in("1,250.50 is 3/4 of x2") == ["1250.50", "3/4"]
    assert answers.as_fraction("0.1") == Fraction(1, 10) and answers.as_fraction("x") is None
    assert answers.to_number("$1,250.00") == 1250 and answers.to_number("1 or 2") is None
    assert answers.stated_answer("It is 5. The answer is 6.") == "6" and answers.stated_answer("so 6") is None


# ---- bridge, members, rewards


@given(st.lists(st.tuples(share, st.lists(st.floats(-9, 0), max_size=5)), min_size=1, max_size=4), st.floats(0.1, 9))
def test_the_bridge_loss_is_linear_in_its_weight(rows: list[tuple[float, list[float]]], beta: float) -> None:
    weights, logprobs = [w for w, _ in rows], [row for _, row in rows]
    one = bridge.bridge_loss(weights, logprobs, beta=1.0, norm=4.0)
    assert bridge.bridge_loss(weights, logprobs, beta=beta, norm=4.0) == pytest.approx(beta * one)
    assert bridge.bridge_loss(weights, logprobs, beta=1.0, norm=8.0) == pytest.approx(one / 2)
    assert one >= 0  # log-probabilities are not positive


@given(st.sampled_from("ABCDEFGH"), words)
def test_naming_a_route_is_seen_anywhere(name: str, text: str) -> None:
    assert bridge.mentions_routes(f"{text} Route {name} {text}") and bridge.mentions_routes(f"{text}\n{name}: wrong @2")
    assert not bridge.mentions_routes(text)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=8), st.integers(1, 3))
def test_contrast_takes_the_first_right_and_the_first_wrong_ones(rows: list[tuple[bool, bool]], most: int) -> None:
    routes = [shown(label, [f"{i} + 1 = {i + 1}"], tampered=bad) for i, (label, bad) in enumerate(rows)]
    usable = [r for r in routes if not r.tampered]
    found = members.contrast_routes(routes, most)
    right, wrong = [r for r in usable if r.label], [r for r in usable if not r.label]
    assert found == ((right[0], wrong[:most]) if right and wrong else None)


@given(st.lists(st.floats(-1, 2), min_size=2, max_size=8), st.floats(-5, 5))
def test_advantages_add_up_to_nothing_and_ignore_an_offset(values: list[float], offset: float) -> None:
    plain = rewards.advantages(values)
    assert sum(plain) == pytest.approx(0, abs=1e-9)
    assert rewards.advantages([v + offset for v in values]) == pytest.approx(plain, abs=1e-9)
    scaled = rewards.advantages(values, "group")
    assert all((a > 1e-9) == (b > 1e-9) or abs(b) < 1e-9 for a, b in zip(scaled, plain, strict=True))


@given(st.integers(0, 300), st.integers(1, 200), st.integers(0, 100))
def test_the_overlong_penalty_rises_to_one(n: int, limit: int, cache: int) -> None:
    cost = rewards.overlong_penalty(n, limit, cache, False)
    assert 0 <= cost <= rewards.overlong_penalty(n + 1, limit, cache, False) <= 1
    assert rewards.overlong_penalty(n, limit, cache, True) == 1
    assert cost == 0 if n <= limit - cache else cost > 0


@given(st.lists(words, max_size=3), words)
def test_a_copy_costs_all_and_other_words_nothing(others: list[str], own: str) -> None:
    text = " ".join(f"{own}{i}" for i in range(20)).replace("  ", " ")
    assert rewards.copy_penalty(text, [*others, text]) == 1.0
    assert rewards.copy_penalty(text, ["zz " * 30, *(o.upper() + " zz" for o in others)]) == 0.0


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 6)), min_size=1, max_size=6), st.integers(-2, 2))
def test_localisation_pays_for_nearness(routes: list[tuple[bool, int]], off: int) -> None:
    gold = [label for label, _ in routes]
    errors = [None if label else k for label, k in routes]
    said = [None if k is None else max(1, k + off) for k in errors]
    got = rewards.localisation_reward(gold, said, gold, errors)
    distances = [abs(s - k) for s, k in zip(said, errors, strict=True) if s is not None and k is not None]
    want = [{0: 1.0, 1: 0.5}.get(d, 0.0) for d in distances]
    assert got == (pytest.approx(sum(want) / len(want)) if want else None)


def plan_row(routes: list[ShownRoute], cuts: list[int]) -> PlanRow:
    return PlanRow.model_validate(
        {"id": "r", "step": 0, "slot": 0, "problem_id": "p", "lam": 1.0, "p_routed": 1.0, "routed": True,
         "shown": routes, "shown_steps": cuts, "cut": [n < len(r.steps) for r, n in zip(routes, cuts, strict=True)],
         "messages": []}
    )  # fmt: skip


@given(st.lists(steps, min_size=1, max_size=4), st.data())
def test_only_visible_steps_can_be_copied(texts: list[list[str]], data: st.DataObject) -> None:
    cuts = [data.draw(st.integers(1, len(lines))) for lines in texts]
    visible = rewards.visible_texts(plan_row([shown(True, lines) for lines in texts], cuts))
    assert visible == ["\n".join(lines[:n]) for lines, n in zip(texts, cuts, strict=True)]


@given(flags, st.sampled_from(["7", "8"]), st.booleans())
def test_consistent_verdicts_are_those_of_the_own_answer(labels: list[bool], own: str, flip: bool) -> None:
    """Routes answer 7 where right and 9 where wrong."""
    routes = [shown(label, ["a"], answer="7" if label else "9") for label in labels]
    row = plan_row(routes, [1] * len(routes))
    verdicts: list[bool | None] = [(route.answer == own) != flip for route in routes]
    assert rewards.consistent(verdicts, own, row, lambda a: a) is not flip
    hidden = row.model_copy(update={"answers_hidden": True})
    assert rewards.consistent(verdicts, own, hidden, lambda a: a)


@given(flags, steps)
def test_completions_are_read_for_as_many_routes_as_are_shown(labels: list[bool], lines: list[str]) -> None:
    routes = [shown(True, ["a"]) for _ in labels]
    text = routed_text(labels, [None] * len(labels), lines, "7")
    options = rewards.RewardOptions(min_think_words=1)
    parsed = rewards.parse_for(plan_row(routes, [1] * len(routes)), text, options)
    assert (parsed.verdicts, parsed.answer, parsed.ok) == (labels, "7", True)
    assert parsed == parse_completion(text, k=len(labels), min_think_words=1)
    bare = plan_row([], []).model_copy(update={"routed": False})
    assert rewards.parse_for(bare, solution_text(lines, "7"), options).ok


def test_reward_helpers_by_hand() -> None:
    row = plan_row([shown(True, ["1 + 1 = 2", "2 + 5 = 7"]), shown(False, ["1 + 2 = 3"], 1, answer="3")], [1, 1])
    assert rewards.visible_texts(row) == ["1 + 1 = 2", "1 + 2 = 3"]
    assert rewards.consistent([True, False], "7", row, lambda a: a)
    assert not rewards.consistent([True, True], "7", row, lambda a: a)
    assert rewards.consistent([False, False], "7", row, lambda a: a)  # A is cut: its answer is not seen
    assert rewards.parse_for(row, "<check>\nA: right\nB: wrong @1\n</check>", rewards.RewardOptions()).verdicts == [
        True,
        False,
    ]


# ---- EAAI


@given(st.lists(st.tuples(flags.map(len), st.booleans()), min_size=1, max_size=4), st.data())
def test_cut_labels_only_speak_of_what_is_seen(routes: list[tuple[int, bool]], data: st.DataObject) -> None:
    for n, label in routes:
        first = None if label else data.draw(st.none() | st.integers(1, n))
        seen = data.draw(st.integers(1, n))
        verdict, error = eaai.cut_labels(shown(label, ["s"] * n, first), seen)
        if seen >= n:
            assert (verdict, error) == (label, first)
        elif label or (first is not None and first > seen):
            assert (verdict, error) == (True, None)
        else:
            assert (verdict, error) == ((None, None) if first is None else (False, first))


@given(share, share, share, st.booleans())
def test_the_routed_share_is_never_below_what_is_retained(lam: float, most: float, keep: float, fade: bool) -> None:
    p = eaai.routed_share(lam, p_max=most, p_retain=keep, fade_share=fade)
    assert keep <= p <= max(most, keep)
    assert eaai.routed_share(0.0, p_max=most, p_retain=keep, fade_share=fade) == keep


@given(st.integers(1, 8), share, share)
def test_the_number_of_routes_falls_with_lambda(k: int, one: float, other: float) -> None:
    low, high = (eaai.routes_shown(k, lam) for lam in sorted((one, other)))
    assert min(k, 2) <= low <= high <= k and eaai.routes_shown(k, 1.0) == k


@given(flags, st.integers(0, 99))
def test_a_placebo_deals_the_same_labels_anew(labels: list[bool], seed: int) -> None:
    row = plan_row([shown(label, ["a"], None if label else 1) for label in labels], [1] * len(labels))
    row = row.model_copy(update={"verdicts": labels, "first_errors": [None if label else 1 for label in labels]})
    dealt = eaai.placebo(row, seed)
    assert Counter(dealt.verdicts) == Counter(labels) and dealt.shown == row.shown
    assert [e is None for e in dealt.first_errors] == dealt.verdicts
    assert eaai.placebo(row, seed) == dealt


# ---- distillation


def cot(lines: list[str], i: int = 0) -> GuidedCoT:
    return GuidedCoT(id=f"p/cot/{i}", problem_id="p", teacher="t", rules_shown=True, text="\n".join(lines), steps=lines)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), max_size=12), st.integers(1, 3))
def test_distinct_keeps_the_first_of_each_text_up_to_a_number(rows: list[tuple[int, int]], keep: int) -> None:
    samples = [
        SFTSample(id=str(i), problem_id=f"p{p}", kind="positive", messages=[], completion=f"t{t}")
        for i, (p, t) in enumerate(rows)
    ]
    taught = [s for s in samples if s.completion == "t0"]
    found = guidance.distinct(samples, taught, keep)
    assert len({(s.problem_id, s.completion) for s in found}) == len(found)
    assert all(s.completion != "t0" for s in found)
    for problem in {s.problem_id for s in samples}:
        texts = dict.fromkeys(s.completion for s in samples if s.problem_id == problem and s.completion != "t0")
        assert [s.completion for s in found if s.problem_id == problem] == list(texts)[:keep]


def test_distinct_and_jaccard_by_hand() -> None:
    rows = [
        SFTSample(id=i, problem_id="p", kind="positive", messages=[], completion=i[0]) for i in ("a1", "b1", "a2", "c1")
    ]
    assert [s.id for s in guidance.distinct(rows, rows[1:2], 2)] == ["a1", "c1"]
    assert guidance.jaccard({1, 2, 3}, {2, 3, 4}) == 0.5


@given(st.sets(st.integers(0, 9)), st.sets(st.integers(0, 9)))
def test_jaccard_is_symmetric_and_one_for_equals(a: set[int], b: set[int]) -> None:
    assert guidance.jaccard(a, b) == guidance.jaccard(b, a) and 0 <= guidance.jaccard(a, b) <= 1
    assert guidance.jaccard(a, a) == 1 and (guidance.jaccard(a, b) == 1) == (a == b)


@given(words, st.sampled_from(["By rule 3 it is 5.", "The rules above say so.", "as instructed", "expert note"]))
def test_a_leak_is_seen_wherever_it_stands(text: str, leaking: str) -> None:
    assert guidance.leak_flags(f"{text}\n{leaking} {text}") and guidance.leak_flags(text) == []


@given(steps, st.sampled_from(["full", "terse"]))
def test_samples_train_on_the_gold_answer_and_show_no_rules(lines: list[str], style: str) -> None:
    guided = guidance.guided_sample(PROBLEM, cot(lines), style)  # type: ignore[arg-type]
    route = Route(id="r", problem_id="p", source="s", sample=0, temperature=1.0, seed=0, text="", steps=lines)
    positive = guidance.positive_sample(PROBLEM, route, style)  # type: ignore[arg-type]
    assert guided.completion == positive.completion == solution_text(lines, "7")
    assert guided.messages == positive.messages and guided.loss_start == positive.loss_start == 0


@given(st.lists(st.tuples(st.booleans(), steps), min_size=1, max_size=4), steps)
def test_mrpv_samples_say_the_gold_verdicts(routes: list[tuple[bool, list[str]]], own: list[str]) -> None:
    pool = [shown(label, lines, None if label else 1) for label, lines in routes]
    row = RouteSet(id="s", problem_id="p", kind="balanced", shown=pool)
    sample = guidance.mrpv_sample(PROBLEM, row, own, "7", "full", "verify_first")
    parsed = parse_completion(sample.completion, k=len(pool), min_think_words=0)
    assert parsed.verdicts == [r.label for r in pool] and parsed.first_errors == [r.first_error for r in pool]
    assert parsed.answer == "7" and sample.messages[-1]["content"].count("[Route ") == len(pool)


@given(steps, steps, st.integers(1, 7))
def test_lemma_samples_mask_exactly_the_wrong_prefix(wrong: list[str], right: list[str], k: int) -> None:
    negative = ScoredRoute(
        id="r", problem_id="p", source="s", sample=0, temperature=1.0, seed=0, text="", steps=wrong, first_error=k
    )
    sample = guidance.lemma_sample(PROBLEM, negative, right, "full")
    if k > min(len(wrong), len(right)) or wrong[k - 1] == right[k - 1]:
        assert sample is None
        return
    assert sample is not None
    masked, trained = sample.completion[: sample.loss_start], sample.completion[sample.loss_start :]
    assert masked.splitlines()[1:] == [f"{i}. {s}" for i, s in enumerate(wrong[:k], 1)]
    assert trained.startswith(f"Wait, step {k} is wrong.\n{k}. {right[k - 1]}")


@given(st.integers(1, 30), st.integers(0, 30), st.integers(0, 30), st.integers(0, 5))
def test_the_mix_keeps_every_guided_sample(n: int, n_mrpv: int, n_lemma: int, seed: int) -> None:
    def make(kind: str, count: int) -> list[SFTSample]:
        return [
            SFTSample.model_validate(
                {"id": f"{kind}{i}", "problem_id": "p", "kind": kind, "messages": [], "completion": ""}
            )
            for i in range(count)
        ]

    mix = guidance.sample_mix(
        make("guided", n), [], make("mrpv", n_mrpv), make("lemma", n_lemma), rng=random.Random(seed)
    )
    counts = guidance.mix_counts(mix)
    assert counts["guided"] == n and sum(counts.values()) == len(mix) == len({s.id for s in mix})
    assert counts.get("mrpv", 0) == min(round(n * 0.2 / 0.7), 2 * n_mrpv)
    assert counts.get("lemma", 0) == min(round(n * 0.1 / 0.7), 2 * n_lemma)


@given(steps, st.integers(0, 20))
def test_a_rule_question_is_answered_by_one_of_the_steps(lines: list[str], seed: int) -> None:
    sample = rule_question(PROBLEM, cot(lines), "full", random.Random(seed))
    k = int(sample.id.rsplit("/", 1)[1])
    assert sample.completion == lines[k - 1]
    assert all(f"{i}. {s}" in sample.messages[-1]["content"] for i, s in enumerate(lines[: k - 1], 1))


@given(share, share, share)
def test_rules_are_shown_less_and_less(one: float, other: float, p: float) -> None:
    early, late = sorted((one, other))
    assert p >= rules_shown_at(early, p) >= rules_shown_at(late, p) >= 0
    assert rules_shown_at(late, p) == 0 or late < 0.5


# ---- leak probe, process scores, sets


@given(steps, st.integers(0, 7), words)
def test_form_features_do_not_read_the_label(lines: list[str], position: int, source: str) -> None:
    right, wrong = (leak.route_features(shown(label, lines), position) for label in (True, False))
    assert right == wrong and right["position"] == position and right["steps"] == len(lines)
    assert leak.route_features(shown(True, lines), position, source) == right | {f"source={source}": 1.0}


@given(st.lists(st.tuples(st.booleans(), steps), min_size=1, max_size=5))
def test_probe_rows_are_relative_to_their_set(routes: list[tuple[bool, list[str]]]) -> None:
    row = RouteSet(id="s", problem_id="p", kind="balanced", shown=[shown(label, lines) for label, lines in routes])
    rows = leak.probe_rows([row])
    assert len(rows) == (len(routes) if len({label for label, _ in routes}) == 2 else 0)
    for name in rows[0][0] if rows else ():
        assert sum(features[name] for features, _, _ in rows) == pytest.approx(0, abs=1e-9)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 50))
def test_the_probe_finds_a_planted_sign_and_nothing_in_noise(seed: int) -> None:
    rng = random.Random(seed)
    labels = [i % 2 == 0 for i in range(200)]
    planted = [({"x": rng.gauss(2.0 * label, 1.0)}, label, f"p{i // 4}") for i, label in enumerate(labels)]
    assert leak.leak_auc(planted, seed) > 0.8
    assert leak.leak_auc([({"x": 1.0}, label, f"p{i // 4}") for i, label in enumerate(labels)], seed) == 0.5


@given(st.lists(st.none() | st.floats(-1, 1), min_size=1, max_size=6), st.data())
def test_step_scores_stay_between_their_parts(support: list[float | None], data: st.DataObject) -> None:
    belief = data.draw(st.lists(st.floats(-3, 0), min_size=len(support), max_size=len(support)))
    scores = mrpv.step_scores(support, belief, None, (1.0, 1.0, 0.0))
    for k, (value, score) in enumerate(zip(support, scores, strict=True)):
        change = min(1.0, max(-1.0, belief[k] - belief[k - 1])) if k else None
        parts = [x for x in (value, change) if x is not None]
        assert (score is None) == (not parts)
        if score is not None:
            assert min(parts) - 1e-9 <= score <= max(parts) + 1e-9
    assert mrpv.step_scores(support) == support


@given(
    st.lists(
        st.tuples(st.booleans(), st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=3, unique=True)),
        min_size=1,
        max_size=6,
    )
)
def test_evidence_counts_the_other_routes_only(routes: list[tuple[bool, list[str]]]) -> None:
    scored = [
        ScoredRoute(id=f"r{i}", problem_id="p", source="s", sample=i, temperature=1.0, seed=0, text="", steps=facts,
                    facts=[[fact] for fact in facts], correct=label)
        for i, (label, facts) in enumerate(routes)
    ]  # fmt: skip
    found = mrpv.evidence(scored)
    for i, (_, facts) in enumerate(routes):
        others = [row for j, row in enumerate(routes) if j != i]
        for fact, (got,) in zip(facts, found[f"r{i}"], strict=True):
            right, wrong = ([f for label, f in others if label is sign] for sign in (True, False))
            assert (got.fact, got.n_pos, got.n_neg) == (fact, len(right), len(wrong))
            assert (got.c_pos, got.c_neg) == (sum(fact in f for f in right), sum(fact in f for f in wrong))
            assert mrpv.Evidence(**got.as_row()) == got  # type: ignore[arg-type]
            assert got.support == mrpv.fact_support(got.c_pos, got.n_pos, got.c_neg, got.n_neg)[2]


@given(st.lists(st.tuples(flags, st.booleans(), st.booleans()), min_size=1, max_size=8))
def test_what_was_drawn_is_counted(rows: list[tuple[list[bool], bool, bool]]) -> None:
    sets = [
        RouteSet(id=f"s{i}", problem_id="p", kind="natural" if natural else "balanced", answers_hidden=hidden,
                 shown=[shown(label, ["a"], answer="7" if label else "9") for label in labels])
        for i, (labels, natural, hidden) in enumerate(rows)
    ]  # fmt: skip
    found = route_sets.realised(sets)
    assert found["natural"] == pytest.approx(sum(n for _, n, _ in rows) / len(rows))
    assert found["hidden"] == pytest.approx(sum(h for _, _, h in rows) / len(rows))
    assert found["one_sign"] == pytest.approx(sum(len(set(labels)) == 1 for labels, _, _ in rows) / len(rows))
    assert all(0 <= value <= 8 for value in found.values()) and route_sets.realised([]) == {}


# ---- statistics


@settings(max_examples=30, deadline=None)
@given(st.lists(share, min_size=1, max_size=30), st.integers(0, 9))
def test_intervals_hold_their_mean(values: list[float], seed: int) -> None:
    mean, low, high = scoring.accuracy_ci(values, seed, 200)
    assert mean == pytest.approx(math.fsum(values) / len(values))
    assert 0 <= low <= mean <= high <= 1 and low < high  # also where no resample is another one
    if set(values) in ({0.0}, {1.0}):
        assert (low, high) == intervals.wilson(int(sum(values)), len(values))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30), st.integers(0, 9))
def test_paired_differences_mirror(pairs: list[tuple[bool, bool]], seed: int) -> None:
    a, b = [float(x) for x, _ in pairs], [float(y) for _, y in pairs]
    one, other = scoring.paired_difference(a, b, seed, 200), scoring.paired_difference(b, a, seed, 200)
    assert one.mean == pytest.approx(-other.mean) and one.lo == pytest.approx(-other.hi)
    assert one.discordant == other.discordant == sum(x != y for x, y in pairs)
    assert one.mcnemar_p == other.mcnemar_p


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(share, min_size=3, max_size=3), min_size=1, max_size=3), st.integers(0, 9))
def test_runs_compared_with_themselves_differ_by_nothing(runs: list[list[float]], seed: int) -> None:
    mean, low, high = scoring.seeded_difference(runs, runs, seed, 100)
    assert mean == pytest.approx(0) and low <= 1e-9 and high >= -1e-9
    shifted = [[v + 1 for v in run] for run in runs]
    assert scoring.seeded_difference(shifted, runs, seed, 100)[0] == pytest.approx(1)


@given(st.sets(st.text("xyz", min_size=1, max_size=4), max_size=9), st.integers(1, 9), st.integers(0, 9))
def test_routes_for_a_test_prompt_are_drawn_by_id_alone(ids: set[str], k: int, seed: int) -> None:
    listed = sorted(ids)
    chosen = scoring.choose_routes(listed, k, random.Random(seed))
    assert len(chosen) == len(set(chosen)) == min(k, len(ids)) and set(chosen) <= ids
    assert scoring.choose_routes(listed[::-1], k, random.Random(seed)) == chosen


@given(st.lists(st.tuples(st.sampled_from(["a", "b", None]), st.booleans()), max_size=8))
def test_the_plurality_is_a_most_frequent_answer(votes: list[tuple[str | None, bool]]) -> None:
    keys = [key for key, _ in votes]
    right = {key for key, flag in votes if flag}
    top = scoring.plurality(keys)
    counts = Counter(key for key in keys if key is not None)
    assert top is None if not counts else counts[top] == max(counts.values())
    assert scoring.maj_at_k(keys, [key in right for key in keys]) == (top is not None and top in right)
