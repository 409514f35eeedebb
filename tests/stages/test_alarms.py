"""Alarms of RL: each by its own metrics, said once, stopping after a while, replayed without a word."""

from __future__ import annotations

from typing import Any

import pytest

from realm_cli.errors import Alarm
from realm_cli.recipe import AlarmsConfig
from realm_cli.stages.alarms import ADVICE, STOPS, Alarms

FINE = {
    "reward": 0.5, "loss": 0.1, "grad_norm": 1.0, "truncated": 0.0, "zero_variance_bare": 0.5, "r_fmt_bare": 1.0,
    "verdicts_right": 0.6, "length_bare": 50.0, "sampler_trainer_gap": 1e-4, "lam": 0.0,
}  # fmt: skip
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "truncated": ({"truncated": 0.75}, "75% of the completions are cut off; raise train_rl.max_tokens"),
    "dead": ({"zero_variance_bare": 1.0}, "no group has had any variance"),
    "form": ({"r_fmt_bare": 0.01}, "only 1% of the bare answers have the asked form; distill first"),
    "verdicts": ({"verdicts_right": 0.99}, "99% of the routes are called right, so verdicts say nothing"),
    "gap": ({"sampler_trainer_gap": 0.5}, "sampler and trainer differ by 0.5 nats a token"),
}


def watch(rows: list[dict[str, Any]], **config: Any) -> tuple[Alarms, list[str]]:
    alarms = Alarms(AlarmsConfig(window=4, **config))
    said = [text for step, row in enumerate(rows, 1) for text in alarms.see({"step": step, **row})]
    return alarms, said


def test_a_healthy_run_is_silent() -> None:
    assert watch([{**FINE, "dev_bare": 0.5}] * 30)[1] == []


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said_once_with_the_way_out(name: str) -> None:
    change, text = WRONG[name]
    _, said = watch([{**FINE, **change}] * 20, patience=0)
    assert len(said) == 1 and text in said[0]
    assert said[0].startswith("step 1:" if name == "gap" else "step 4:")  # means need a window


def test_growing_answers_a_spike_and_a_falling_bare_accuracy() -> None:
    _, said = watch([{**FINE, "length_bare": 50.0 * (1 + i)} for i in range(12)])
    assert len(said) == 1 and "times as long as at first" in said[0]
    _, said = watch([FINE] * 6 + [{**FINE, "grad_norm": 80.0}] + [FINE] * 3)
    assert said == [f"step 7: {ADVICE['spike'].format(80)}"]
    falling = [{**FINE, "lam": lam, "dev_bare": acc} for lam, acc in ((1.0, 0.6), (0.9, 0.58), (0.8, 0.5), (0.7, 0.5))]
    assert watch(falling)[1] == ["step 3: bare dev accuracy is 10.0% below its best while prompts still show routes; "
                                 "halve train_rl.p_max"]  # fmt: skip
    assert watch([{**row, "lam": 0.1} for row in falling])[1] == []


@pytest.mark.parametrize("name", STOPS)
def test_what_holds_too_long_stops_the_run_with_its_state(name: str) -> None:
    change, text = WRONG[name]
    with pytest.raises(Alarm) as error:
        watch([{**FINE, **change}] * 20, patience=5)
    assert error.value.keep and f"stopped at step {4 + 5}, its state is saved: " in str(error.value)
    assert text in str(error.value) and "train_rl.alarms.patience=0 and --resume" in str(error.value)


DEAD = {"zero_variance_bare": 1.0, "zero_variance_routed": 1.0}


@pytest.mark.parametrize(
    "change",
    [
        {"dead_bare": 1.0, "dead_routed": 0.0},
        {"dead_bare": 1.0, "dead_routed": 0.99},
        {"dead_routed": 0.0},
        {"rows_bridge": 4, "loss_bridge": -0.2},  # a run of an older version, resumed
        {"rows_members": 1, "loss_members": 0.1},
    ],
)
def test_what_only_the_bridge_or_members_teach_is_not_dead(change: dict[str, Any]) -> None:
    assert watch([{**FINE, **DEAD, **change}] * 80, patience=5)[1] == []


def test_a_step_now_and_then_that_the_bridge_teaches_keeps_a_run_alive() -> None:
    rows = [{**FINE, **DEAD, "dead_routed": 0.5 if step % 3 == 0 else 1.0} for step in range(80)]
    assert watch(rows, patience=5)[1] == []


@pytest.mark.parametrize("change", [{}, {"dead_bare": 1.0, "dead_routed": 1.0}, {"rows_bridge": 0, "loss_bridge": 0.0}])
def test_what_nothing_teaches_is_dead(change: dict[str, Any]) -> None:
    with pytest.raises(Alarm, match="stopped at step 9, .*: no group has had any variance, nor anything"):
        watch([{**FINE, **DEAD, **change}] * 80, patience=5)


@pytest.mark.parametrize("name", ["verdicts", "gap"])
def test_other_alarms_never_stop_it(name: str) -> None:
    assert len(watch([{**FINE, **WRONG[name][0]}] * 40, patience=5)[1]) == 1


def test_what_went_away_may_be_said_again() -> None:
    cut = {**FINE, "truncated": 1.0}
    _, said = watch([cut] * 4 + [FINE] * 6 + [cut] * 4, patience=0)
    assert [text.partition(":")[0] for text in said] == ["step 4", "step 13"]


@pytest.mark.parametrize("key", ["loss", "grad_norm"])
def test_no_number_stops_at_once_and_keeps_the_last_checkpoint(key: str) -> None:
    with pytest.raises(Alarm, match=r"train-rl: stopped at step 3: .*nan.*lower train_rl.lr") as error:
        watch([FINE, FINE, {**FINE, key: float("nan")}])
    assert not error.value.keep


def test_a_replayed_past_says_nothing_and_counts() -> None:
    alarms = Alarms(AlarmsConfig(window=4, patience=5))
    cut = {**FINE, "truncated": 1.0}
    for step in range(1, 9):
        assert alarms.see({"step": step, **cut}, replay=True) == []
    with pytest.raises(Alarm, match="stopped at step 9"):
        alarms.see({"step": 9, **cut})


def test_measurements_before_the_first_step_are_no_step() -> None:
    alarms = Alarms(AlarmsConfig(window=1))
    assert alarms.see({"step": 0, "dev_bare": 0.4}) == [] and len(alarms.rows) == 0
