"""Reward parts and invariants (method.md section 8, acceptance test 13.2), advantages (section 10)."""

import itertools
import random
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realm_cli.method import rewards as rw
from realm_cli.prompts import bare_messages, routed_messages, routed_text, solution_text
from realm_cli.protocols import Completion
from realm_cli.records import PlanRow, ShownRoute

STEPS = ["3 boxes hold 4 pens each so 3 * 4 = 12", "take away the 2 that leak", "12 - 2 = 10 pens are left over"]
OPTIONS = rw.RewardOptions(max_tokens=100, cache_tokens=20)
grade = "10".__eq__
N_PLUS = {0: 0.10, 1: 0.25, 2: 0.30, 3: 0.25, 4: 0.10}  # section 6, K = 4


def key(answer: str | None) -> str | None:
    return answer.lower() if answer else None


def route(i: int, label: bool, answer: str, first_error: int | None = None) -> ShownRoute:
    steps = [f"route {i} step one = 12", f"route {i} step two = {answer}"]
    return ShownRoute(route_id=f"p/{i}", steps=steps, answer=answer, label=label, first_error=first_error)


SHOWN = [route(0, True, "10"), route(1, False, "14", 2)]


def row(shown=SHOWN, **update) -> PlanRow:
    base = PlanRow(
        **{"id": "000003-001", "step": 3, "slot": 1, "problem_id": "p", "lam": 0.5, "p_routed": 0.4, "mode": "a"},
        routed=bool(shown),
        shown=shown,
        shown_steps=[len(r.steps) for r in shown],
        cut=[False] * len(shown),
        verdicts=[r.label for r in shown],
        first_errors=[r.first_error for r in shown],
        messages=routed_messages("q", shown) if shown else bare_messages("q"),
    )
    return base.model_copy(update=update)


def score(text: str, plan_row: PlanRow, options: rw.RewardOptions = OPTIONS, **completion):
    group = [Completion(text, **{"n_tokens": 50, **completion})]
    return rw.score_group(plan_row, group, grade=grade, key=key, options=options)[0]


@pytest.mark.parametrize(
    ("pred", "gold", "value"),
    [
        ([True, False], [True, False], 1.0),
        ([True, True], [True, False], 0.0),
        ([False, True], [True, False], -1.0),
        ([None, None], [True, False], -1.0),
        ([True, True, False, False], [True, False, False, False], 2 / 3),  # TPR 1, TNR 2/3
        ([True, False, True], [True, True, True], 1 / 3),  # one sign: 2 * 2/3 - 1
        ([False, None], [False, False], 0.0),
        ([True, False, True], [True, False, None], 1.0),  # None in gold is left out
        ([True], [None], None),
        ([], [], None),
    ],
)
def test_verdict_reward_by_hand(pred, gold, value) -> None:
    assert rw.verdict_reward(pred, gold) == (value if value is None else pytest.approx(value))


@pytest.mark.parametrize(
    ("pred", "errors", "value"),
    [
        ([False, False, True], [3, 2, None], 1.0),
        ([False, False, True], [2, 2, None], 0.75),
        ([False, True, True], [3, None, None], 0.5),
        ([True, True, True], [3, 2, None], 0.0),
        ([False, False, False], [None, 4, 1], 0.0),
        ([None, False, False], [None, 1, 1], 0.25),
    ],
)
def test_localisation_reward_by_hand(pred, errors, value) -> None:
    assert rw.localisation_reward(pred, errors, [False, False, True], [3, 2, None]) == pytest.approx(value)


def test_localisation_is_absent_without_a_known_first_error() -> None:
    assert rw.localisation_reward([False, True], [1, None], [False, True], [None, None]) is None
    for label in (True, None):  # not a negative as it is shown
        assert rw.localisation_reward([False], [1], [label], [1]) is None


@pytest.mark.parametrize(
    ("n", "cache", "truncated", "value"),
    [(80, 20, False, 0), (85, 20, False, 0.25), (100, 20, False, 1), (130, 20, False, 1), (5, 20, True, 1)]
    + [(100, 0, False, 0), (101, 0, False, 1)],
)
def test_overlong_penalty(n, cache, truncated, value) -> None:
    assert rw.overlong_penalty(n, 100, cache, truncated) == pytest.approx(value)


def test_copy_penalty_by_hand() -> None:
    words = [f"w{i}" for i in range(23)]  # 12 twelve-grams
    shown = " ".join(words)
    assert rw.copy_penalty(shown, [shown]) == 1.0
    assert rw.copy_penalty(shown, ["other text", "1. " + shown.upper() + "."]) == 1.0
    nine = " ".join(words[:20])  # 9 of 12 grams: share .75 -> .5
    assert rw.copy_penalty(shown, [nine]) == pytest.approx(0.5)
    six = " ".join(words[:17])
    assert rw.copy_penalty(shown, [six]) == 0.0
    assert rw.copy_penalty(shown, [six, " ".join(words[6:])]) == 0.0  # half from each of two routes
    assert rw.copy_penalty(" ".join(words[:11]), [shown]) == 0.0
    assert rw.copy_penalty(shown, []) == 0.0


def test_worked_example_of_a_right_completion() -> None:
    sample = score(routed_text([True, False], [None, 1], STEPS, "10"), row(), logprobs=(-1.0, -3.0), n_tokens=90)
    assert (sample.id, sample.plan_id, sample.step, sample.problem_id) == ("000003-001/0", "000003-001", 3, "p")
    assert (sample.r_ans, sample.r_ver, sample.r_loc, sample.r_fmt) == (1.0, 1.0, 0.5, 1.0)
    assert (sample.p_len, sample.p_copy) == (0.5, 0.0)
    assert sample.reward == pytest.approx(1 + 0.2 + 0.05 + 0.1 - 0.05)
    assert (sample.verdicts, sample.first_errors, sample.answer) == ([True, False], [None, 1], "10")
    assert sample.mean_logprob == -2.0
    assert sample.advantage == 0.0


def test_bare_completion_has_no_process_terms() -> None:
    lost = rw.score_group(row([]), [Completion("x")], grade=lambda a: True, key=key, options=OPTIONS)[0]
    assert lost.r_ans == 0.0  # no answer is never graded
    sample = score(solution_text(STEPS, "11"), row([]))
    assert (sample.r_ver, sample.r_loc, sample.verdicts) == (None, None, None)
    assert sample.reward == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("labels", "answer", "expected"),
    [
        ([True, False], "10", 1.0),
        ([False, True], "10", -1.0),  # inconsistent, but min keeps what is below 0
        ([True, True], "10", 0.0),
        ([True, False], "14", 0.0),  # own answer = B, judged wrong
        ([True, False], "12", 0.0),  # differs from A, judged right
        ([True, False], "10.", 0.0),
    ],
)
def test_consistency_rule(labels, answer, expected) -> None:
    assert score(routed_text(labels, [None, 2], STEPS, answer), row()).r_ver == pytest.approx(expected)


def test_consistency_reads_only_uncut_visible_answers() -> None:
    text = routed_text([True, False], [None, 2], STEPS, "12")
    assert score(text, row()).r_ver == 0.0
    assert score(text, row(shown_steps=[], cut=[])).r_ver == 0.0  # not filled in: uncut
    assert score(text, row(answers_hidden=True)).r_ver == 1.0
    assert score(text, row(cut=[True, True], shown_steps=[1, 1])).r_ver == 1.0
    assert score(text, row([SHOWN[0].model_copy(update={"answer": None}), SHOWN[1]])).r_ver == 1.0
    lost = text.replace("<answer>12</answer>", "")
    assert score(lost, row()).r_ver == 0.0  # no answer differs from the route judged right


def test_the_defaults_are_those_of_the_document() -> None:
    options = rw.RewardOptions()
    assert (options.max_tokens, options.cache_tokens, options.min_think_words) == (768, 128, 20)
    assert (options.order, options.gate_process) == ("verify_first", False)


def test_key_decides_equality() -> None:
    text = routed_text([True, False], [None, 2], STEPS, "TEN")
    plan_row = row([route(0, True, "ten"), route(1, False, "14", 2)])
    sample = rw.score_group(plan_row, [Completion(text)], grade=lambda a: a == "TEN", key=key, options=OPTIONS)[0]
    assert (sample.r_ans, sample.r_ver) == (1.0, 1.0)


def test_natural_sets_with_one_sign_carry_no_verdict_reward() -> None:
    shown = [route(0, True, "10"), route(1, True, "10")]
    text = routed_text([True, True], [None, None], STEPS, "10")
    assert score(text, row(shown)).r_ver == 1.0
    assert score(text, row(shown, mode="a+natural")).r_ver is None
    assert score(routed_text([True, False], [None, 2], STEPS, "10"), row(mode="a+natural")).r_ver == 1.0


def test_cut_routes_use_the_labels_of_the_row() -> None:
    plan_row = row(verdicts=[True, None], first_errors=[None, None], cut=[False, True])
    sample = score(routed_text([True, False], [None, 1], STEPS, "10"), plan_row)
    assert (sample.r_ver, sample.r_loc) == (1.0, None)


def test_gate_counts_process_terms_only_with_a_right_answer() -> None:
    gated = rw.RewardOptions(gate_process=True)
    plan_row = row(answers_hidden=True)
    wrong = score(routed_text([True, False], [None, 2], STEPS, "11"), plan_row, gated)
    assert (wrong.r_ver, wrong.r_loc, wrong.reward) == (0.0, 0.0, pytest.approx(0.1))
    right = score(routed_text([True, False], [None, 2], STEPS, "10"), plan_row, gated)
    assert right.reward == pytest.approx(1.4)
    assert score(solution_text(STEPS, "10"), row([]), gated).reward == pytest.approx(1.1)


def test_copying_a_shown_route_costs() -> None:
    steps = [f"the tall clerk counts shelf number {i} again with care and notes {i} boxes" for i in range(4)]
    copied = ShownRoute(route_id="p/0", steps=steps, answer="10", label=True)
    plan_row = row([copied, SHOWN[1]])
    text = routed_text([True, False], [None, 2], steps, "10")
    assert score(text, plan_row).p_copy == 1.0
    assert score(text, plan_row).reward == pytest.approx(1.3)
    assert score(text, plan_row.model_copy(update={"shown_steps": [1, 1]})).p_copy == 0.0


def test_worst_correct_beats_best_wrong() -> None:
    w = rw.RewardWeights()
    assert w.ans - w.ver - w.len - w.copy == pytest.approx(0.6)
    assert w.ver + w.loc + w.fmt == pytest.approx(0.4)
    hidden = row(answers_hidden=True)
    wrong = score(routed_text([True, False], [None, 2], STEPS, "11"), hidden)
    assert wrong.reward == pytest.approx(0.4)
    think = " ".join(SHOWN[0].steps + SHOWN[0].steps)
    text = f"<check>\nA: wrong\nB: right\n</check>\n<answer>10</answer><think>{think}</think>"
    worst = score(text, hidden, truncated=True)
    assert (worst.r_ans, worst.r_ver, worst.r_fmt, worst.p_len) == (1.0, -1.0, 0.0, 1.0)
    assert worst.reward > wrong.reward


FOUR = st.lists(st.sampled_from([True, False, None]), min_size=4, max_size=4)


@given(FOUR, FOUR)
def test_verdict_reward_is_bounded_and_odd(pred, gold) -> None:
    value = rw.verdict_reward(pred, gold)
    if value is None:
        assert set(gold) <= {None}
        return
    assert -1 <= value <= 1
    flipped = [None if p is None else not p for p in pred]
    if None not in pred:
        assert rw.verdict_reward(flipped, gold) == pytest.approx(-value)
    order = [2, 0, 3, 1]
    assert rw.verdict_reward([pred[i] for i in order], [gold[i] for i in order]) == pytest.approx(value)


def expected_pay(verdict_of) -> float:
    """Exact mean of r_ver over balanced sets: P(n+) and all arrangements."""
    total = 0.0
    for n_plus, p in N_PLUS.items():
        golds = set(itertools.permutations([True] * n_plus + [False] * (4 - n_plus)))
        total += p * fmean(rw.verdict_reward(verdict_of(gold), gold) for gold in golds)
    return total


@pytest.mark.parametrize("pattern", list(itertools.product([True, False], repeat=4)))
def test_verdicts_blind_to_the_routes_earn_nothing(pattern) -> None:
    assert expected_pay(lambda gold: list(pattern)) == pytest.approx(0.0, abs=1e-12)


def test_random_verdicts_earn_nothing() -> None:
    rng = random.Random(0)
    pays = []
    for _ in range(20_000):
        n_plus = rng.choices(list(N_PLUS), list(N_PLUS.values()))[0]
        gold = [True] * n_plus + [False] * (4 - n_plus)
        pays.append(rw.verdict_reward([rng.random() < 0.5 for _ in gold], gold))
    assert fmean(pays) == pytest.approx(0.0, abs=0.01)
    assert expected_pay(list) == pytest.approx(1.0)


def plurality_pay(share: float, same: str, draws: int = 10_000) -> tuple[float, float]:
    """(mean r_ver of 'right' = has the plurality answer, P(plurality wrong)) over simulated balanced sets."""
    rng, pays, wrong = random.Random(1), [], 0
    for _ in range(draws):
        n_plus = rng.choices(list(N_PLUS), list(N_PLUS.values()))[0]
        answers = ["gold"] * n_plus + [f"w{i}" for i in range(4 - n_plus)]
        if 4 - n_plus >= 2 and rng.random() < share:
            for i in range(n_plus, n_plus + 2 if same == "pair" else 4):
                answers[i] = "same"
        rng.shuffle(answers)
        top = max(answers.count(a) for a in answers)
        winner = rng.choice(sorted({a for a in answers if answers.count(a) == top}))
        gold = [a == "gold" for a in answers]
        pays.append(rw.verdict_reward([a == winner for a in answers], gold))
        wrong += winner != "gold"
    return fmean(pays), wrong / draws


@pytest.mark.parametrize(
    ("share", "pair", "everyone", "plurality_wrong"),
    [(0.0, 0.70, 0.70, 0.29), (0.7, 0.34, 0.21, 0.44), (0.9, 0.24, 0.07, 0.48)],
)
def test_following_the_plurality_pays_less_with_shared_wrong_answers(share, pair, everyone, plurality_wrong) -> None:
    pay, wrong = plurality_pay(share, "pair")
    assert pay == pytest.approx(pair, abs=0.03)
    assert wrong == pytest.approx(plurality_wrong, abs=0.02)
    assert plurality_pay(share, "all")[0] == pytest.approx(everyone, abs=0.03)


def test_advantages() -> None:
    assert rw.advantages([1.0, 0.0, 0.0, 1.0]) == [0.5, -0.5, -0.5, 0.5]
    assert rw.advantages([1.0, 0.0, 0.0, 1.0], "group")[0] == pytest.approx(0.5 / 0.57745, abs=1e-4)  # std .57735
    assert rw.advantages([0.3], "group") == [0.0]
    assert rw.advantages([]) == []


@given(st.lists(st.sampled_from(["10", "11", None]), min_size=2, max_size=6), st.sampled_from(["none", "group"]))
def test_advantages_of_a_group_sum_to_zero_and_order_as_rewards(answers, scale) -> None:
    texts = ["no form" if a is None else solution_text(STEPS, a) for a in answers]
    group = [Completion(text) for text in texts]
    samples = rw.score_group(row([]), group, grade=grade, key=key, options=OPTIONS, scale=scale)
    assert sum(s.advantage for s in samples) == pytest.approx(0.0, abs=1e-9)
    assert [s.id for s in samples] == [f"000003-001/{i}" for i in range(len(answers))]
    for a, b in itertools.combinations(samples, 2):
        assert (a.reward > b.reward) == (a.advantage > b.advantage)
