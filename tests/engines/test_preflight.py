"""The probe on a real model: what it samples, that the trainer agrees, and that nothing after it changes."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

from engines.toys import toy_loaded, toy_plan
from realm_cli.engines import preflight
from realm_cli.engines.grpo import RouteGrpoTrainer
from realm_cli.engines.logprobs import row_logprobs
from realm_cli.recipe import EngineConfig, TrainRlConfig


def test_the_probe_samples_as_a_step_would_and_leaves_random_states_alone() -> None:
    loaded, config = toy_loaded(chars="ab"), TrainRlConfig(max_tokens=24, group_size=4, micro_tokens=40)
    trainer = RouteGrpoTrainer(loaded, config, 0, EngineConfig())
    plan = toy_plan(2, 3)
    torch.manual_seed(5)
    before = torch.get_rng_state(), random.getstate()
    found = trainer.probe(plan, 4)
    assert [len(group) for group in found.completions] == [4] * 6
    assert torch.equal(before[0], torch.get_rng_state()) and before[1] == random.getstate()
    assert trainer.probe(plan, 4) == found
    assert found.gap is not None and found.gap < 1e-5 and found.ended == 1.0
    assert not any(p.grad is not None for p in loaded.model.parameters())


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_a_trainer_that_disagrees_is_seen(temperature: float, monkeypatch: pytest.MonkeyPatch) -> None:
    config = TrainRlConfig(max_tokens=24, temperature=temperature)
    trainer = RouteGrpoTrainer(toy_loaded(chars="ab"), config, 0, EngineConfig())
    exact = trainer.probe(toy_plan(1, 4), 4).gap
    assert exact is not None and exact < 1e-5

    def off(*args: Any, **kwargs: Any) -> tuple[torch.Tensor, None]:
        return row_logprobs(*args, **kwargs)[0] - 0.25, None

    monkeypatch.setattr(preflight, "row_logprobs", off)
    found = trainer.probe(toy_plan(1, 4), 4).gap
    assert found is not None and abs(found - 0.25) < 1e-5


def test_nothing_complete_means_no_figures() -> None:
    loaded, config = toy_loaded(chars="ab"), TrainRlConfig(max_tokens=1)
    seen = set()
    for seed in range(30):
        found = RouteGrpoTrainer(loaded, config, seed, EngineConfig()).probe(toy_plan(1, 1), 1)
        cut = found.completions[0][0].truncated
        seen.add(cut)
        assert (found.gap is None) == cut and found.ended == (None if cut else 1.0)
    assert seen == {True, False}
