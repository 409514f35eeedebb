"""What teaches: every term of the loss, alone and together, of a group and of a step."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realm_cli.method.rewards import advantages
from realm_cli.method.teaching import dead_shares, step_teaches
from realm_cli.protocols import Member, Scored, teaches
from realm_cli.records import Sample


def scored(advantage: float = 0.0, bridge: float = 0.0, *, truncated: bool = False) -> Scored:
    ids = {"id": "x", "plan_id": "s", "step": 0, "problem_id": "p", "routed": False, "sample": 0, "completion": "t"}
    parts = {"r_ans": 0.0, "r_fmt": 0.0, "p_len": 0.0, "p_copy": 0.0, "reward": 0.0, "n_tokens": 1}
    own = {"advantage": advantage, "bridge_weight": bridge, "truncated": truncated}
    return Scored(Sample.model_validate({**ids, **parts, **own}))


def member(weight: float) -> Member:
    return Member("text", 0, weight, whole=True)


@pytest.mark.parametrize(
    ("group", "members", "expected"),
    [
        ([], [], False),
        ([scored(), scored()], [], False),
        ([scored(0.5), scored(-0.5)], [], True),
        ([scored(), scored(bridge=0.2)], [], True),  # the bridge alone: all right, with routes
        ([scored(), scored(bridge=-0.1)], [], True),  # bridge.negatives alone
        ([scored(), scored()], [member(0.3)], True),  # external routes alone
        ([scored(), scored()], [member(0.0)], False),
        ([scored(0.5, truncated=True), scored(bridge=0.2, truncated=True)], [], False),  # masked, all of them
        ([scored(0.5, truncated=True), scored(-0.5)], [], True),
    ],
)
def test_a_group(group: list[Scored], members: list[Member], expected: bool) -> None:
    assert teaches(group, members) is expected


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({}, None),
        ({"reward": 0.5}, None),
        ({"dead_bare": 1.0}, False),
        ({"dead_bare": 1.0, "dead_routed": 1.0}, False),
        ({"dead_bare": 1.0, "dead_routed": 0.5}, True),
        ({"dead_bare": 1.0, "zero_variance_bare": 0.0}, False),  # all of it was cut off
        ({"dead_routed": 0.0, "zero_variance_routed": 1.0}, True),  # the bridge alone
        ({"zero_variance_bare": 1.0}, False),  # rows of older runs
        ({"zero_variance_bare": 1.0, "zero_variance_routed": 1.0, "rows_bridge": 0, "loss_bridge": 0.0}, False),
        ({"zero_variance_bare": 1.0, "zero_variance_routed": 1.0, "rows_bridge": 3}, True),
        ({"zero_variance_bare": 1.0, "rows_members": 2}, True),
        ({"zero_variance_bare": 0.9}, True),
    ],
)
def test_a_step(row: dict[str, Any], expected: bool | None) -> None:
    assert step_teaches(row) is expected


def test_what_is_shown_of_old_and_new_rows() -> None:
    assert dead_shares({"dead_bare": 0.5, "zero_variance_bare": 1.0, "zero_variance_routed": 1.0}) == {"dead_bare": 0.5}
    assert dead_shares({"zero_variance_routed": 0.25}) == {"dead_routed": 0.25}
    assert dead_shares({"reward": 1.0}) == {}


@given(reward=st.floats(-1, 2), size=st.integers(1, 12), noise=st.floats(-3e-13, 3e-13))
def test_rounding_teaches_nothing(reward: float, size: int, noise: float) -> None:
    """Rewards that are one sum in two orders: .1 + .2 and .3."""
    for scale in ("none", "group"):
        found = advantages([reward] * size + [reward + noise], scale)
        assert found == [0.0] * (size + 1)
        assert not teaches([scored(a) for a in found])


@given(st.dictionaries(st.sampled_from(["dead_bare", "dead_routed"]), st.sampled_from([0.0, 0.5, 1.0])))
def test_a_row_that_is_read_as_shown_is_read_as_it_is(row: dict[str, float]) -> None:
    """What is shown and what the alarms read are the same figures, under the old names too."""
    old = {key.replace("dead", "zero_variance"): value for key, value in row.items()}
    assert dead_shares(row) == dead_shares(old) == row
    assert step_teaches(row) is step_teaches(old) is step_teaches(dead_shares(old))
    assert step_teaches(row) is (None if not row else min(row.values()) < 1)
