"""The bridge (method.md section 9.1, acceptance test 13.0)."""

import math
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realm_cli.method.bridge import bridge_loss, bridge_weights, mentions_routes
from realm_cli.method.parsing import parse_completion
from realm_cli.prompts import routed_text
from realm_cli.records import Sample

STEPS = ["3 * 4 = 12", "12 - 2 = 10"]


def sample(i: int, r_ans: float, **update) -> Sample:
    base = Sample(
        id=f"s/{i}",
        plan_id="s",
        step=0,
        problem_id="p",
        routed=True,
        sample=i,
        completion="",
        r_ans=r_ans,
        r_fmt=1.0,
        p_len=0.0,
        p_copy=0.0,
        reward=r_ans,
        advantage=0.0,
        n_tokens=9,
        truncated=False,
    )
    return base.model_copy(update=update)


def group(r_ans: list[float], steps=STEPS):
    text = routed_text([True, False], [None, 2], steps, "10")
    parsed = parse_completion(text, k=2)
    return [sample(i, r) for i, r in enumerate(r_ans)], [parsed] * len(r_ans)


def test_weights_by_hand() -> None:
    samples, parsed = group([1.0, 0.0, 0.0, 1.0])
    assert bridge_weights(samples, parsed, routed=True) == [0.5, 0.0, 0.0, 0.5]
    samples, parsed = group([1.0, 0.0, 0.0, 0.0])
    assert bridge_weights(samples, parsed, routed=True) == [0.75, 0.0, 0.0, 0.0]


def test_all_right_and_all_wrong() -> None:
    samples, parsed = group([1.0] * 3)
    assert bridge_weights(samples, parsed, routed=True) == [0.2] * 3
    assert bridge_weights(samples, parsed, routed=True, all_right=0.5) == [0.5] * 3
    samples, parsed = group([0.0] * 3)
    assert bridge_weights(samples, parsed, routed=True) == [0.0] * 3


def test_bare_groups_have_no_bridge() -> None:
    samples, parsed = group([1.0, 0.0])
    assert bridge_weights(samples, parsed, routed=False) == [0.0, 0.0]
    assert bridge_weights([], [], routed=True) == []


def test_left_out_solutions_keep_their_place_in_the_mean() -> None:
    samples, parsed = group([1.0, 1.0, 1.0, 0.0])
    samples[0] = samples[0].model_copy(update={"truncated": True})
    samples[1] = samples[1].model_copy(update={"p_copy": 0.1})
    assert bridge_weights(samples, parsed, routed=True) == [0.0, 0.0, 0.25, 0.0]
    assert bridge_weights(samples, parsed, routed=True, drop_copied=False) == [0.0, 0.25, 0.25, 0.0]


def test_missing_or_route_naming_solutions_are_left_out() -> None:
    samples, parsed = group([1.0, 1.0, 0.0])
    _, naming = group([1.0], ["As Route B shows 3 * 4 = 12", "12 - 2 = 10"])
    lost = parse_completion("<answer>10</answer>", k=2)
    assert bridge_weights(samples, [naming[0], lost, parsed[0]], routed=True) == [0.0, 0.0, 0.0]


def test_negatives_option() -> None:
    samples, parsed = group([1.0, 0.0, 0.0, 1.0])
    assert bridge_weights(samples, parsed, routed=True, negatives=0.3) == pytest.approx([0.5, -0.15, -0.15, 0.5])


def test_unequal_lengths_are_an_error() -> None:
    samples, parsed = group([1.0, 0.0])
    with pytest.raises(ValueError, match="zip"):
        bridge_weights(samples, parsed[:1], routed=True)


@pytest.mark.parametrize(
    "text",
    ["Route B is right", "as route A says", "[Route C]", "the first attempt", "Attempts differ", "the routes agree"]
    + ["other routes say 5", "so A: right", "B: wrong", "it ends with [cut]", "value [hidden]", "the routes above"],
)
def test_mentions(text: str) -> None:
    assert mentions_routes(text)


@pytest.mark.parametrize(
    "text", ["3 * 4 = 12", "A is the area", "the delivery route is 5 km", "turn right", "route a parcel", "wrong size"]
)
def test_plain_solutions_do_not_mention_routes(text: str) -> None:
    assert not mentions_routes(text)


def test_no_check_text_reaches_the_bridge() -> None:
    for order in ("verify_first", "solve_first"):
        text = routed_text([True, False], [None, 2], STEPS, "10", order)
        solution = parse_completion(text, k=2, order=order).own_solution
        assert "check" not in solution
        assert "wrong" not in solution
        assert "[Route" not in solution


def log_softmax(logits: list[float], token: int) -> float:
    return logits[token] - math.log(sum(math.exp(x) for x in logits))


def test_gradient_equals_the_written_loss_on_a_two_token_toy() -> None:
    """d/dz of -beta/norm * sum_j w_j log softmax(z)[y_j] is -beta/norm * sum_j w_j (1[y_j = v] - p_v)."""
    weights, tokens, beta, norm = [0.5, 0.25], [0, 1], 8.0, 16.0

    def loss(logits: list[float]) -> float:
        return bridge_loss(weights, [[log_softmax(logits, y)] for y in tokens], beta=beta, norm=norm)

    logits, h = [0.3, -0.2], 1e-6
    probs = [math.exp(log_softmax(logits, v)) for v in (0, 1)]
    for v in (0, 1):
        up, down = list(logits), list(logits)
        up[v] += h
        down[v] -= h
        numeric = (loss(up) - loss(down)) / (2 * h)
        by_hand = -beta / norm * sum(w * ((y == v) - probs[v]) for w, y in zip(weights, tokens, strict=True))
        assert numeric == pytest.approx(by_hand, abs=1e-7)


def test_loss_by_hand_and_zero_without_weights() -> None:
    assert bridge_loss([0.5, 0.0], [[-1.0, -2.0], [-9.0]], beta=8.0, norm=4.0) == pytest.approx(3.0)
    assert bridge_loss([0.0, 0.0], [[-1.0], [-2.0]], norm=4.0) == 0.0
    assert bridge_loss([1.0], [[-1.0]], norm=4.0) == 2.0  # beta is 8 where nothing is said


@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=8))
def test_weights_are_positive_parts_of_the_answer_advantage(r_ans) -> None:
    samples, parsed = group(r_ans)
    weights = bridge_weights(samples, parsed, routed=True)
    mean = fmean(r_ans)
    expected = [0.2] * len(r_ans) if mean == 1 else [max(r - mean, 0.0) for r in r_ans]
    assert weights == pytest.approx(expected)
