"""Memory and work that `realm plan` tells, by hand-worked numbers and properties."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realm_cli.errors import ConfigError
from realm_cli.protocols import ModelShape, Speeds
from realm_cli.recipe import Recipe, parse_recipe
from realm_cli.stages.footprint import (
    GIB,
    RL_SAMPLE,
    SAMPLE,
    SFT,
    UPDATE,
    Device,
    Lengths,
    changed,
    fits,
    lowered,
    peaks,
    saved_by_layer,
    weights,
)
from realm_cli.stages.planned import plan_summary
from realm_cli.stages.workload import seconds, workload

SHAPE = ModelShape("m", 2, 8, 4, 2, 2, 16, 100, 512, linear=1000, other=840, lora_width=200, file_bytes=0)
# As Qwen2.5-1.5B-Instruct tells it.
LARGE = ModelShape(
    *("Qwen2.5-1.5B", 28, 1536, 12, 2, 128, 8960, 151936, 32768),
    linear=1_310_072_832,
    other=233_641_472,
    lora_width=28 * (1536 * 4 + 2 * 256 + 1536 + 3 * (1536 + 8960)),
)
LENGTHS = Lengths(bare=100, routed=900, row=1200, source="made up")
CPU, CUDA = Device("cpu", 100, 8.0), Device("cuda", 1000)


def recipe(**blocks: object) -> Recipe:
    return parse_recipe(blocks, "test")


def test_weights_by_hand() -> None:
    plain = recipe(student={"quant": "none", "dtype": "float32"})
    assert weights(plain, SHAPE, CUDA) == 4 * 1840
    assert weights(recipe(), SHAPE, CUDA) == int(1000 * (0.5 + 1 / 64 + 4 / 16384)) + 2 * 840
    assert weights(recipe(), dataclasses.replace(SHAPE, file_bytes=7370), CPU) == 7360  # the file is the weights
    assert weights(recipe(), dataclasses.replace(SHAPE, file_bytes=3690), CPU) == 7360 + 3690  # converted, beside it


def test_a_layer_in_float32_by_hand() -> None:
    """h 8, inner 16, queries 8, keys and values 2 x 4: residuals, LoRA's inputs, the MLP, attention, in this order."""
    values = 2 * 8 + (2 * 8 + 8 + 16) + 7 * 3 + (4 + 2) + 3 * 16 + (8 + 8)
    assert saved_by_layer(SHAPE, 4, 3, repeated=False) == 4 * values
    assert saved_by_layer(SHAPE, 4, 3, repeated=True) == 4 * (values + 8)  # keys and values for 4 heads, not for 2


def test_a_layer_in_bfloat16_by_hand() -> None:
    """LoRA copies its inputs to float32, one copy for each of q, k, v, o, gate, up and down."""
    wide = 2 * 8 + (5 * 8 + 8 + 16) + 7 * 3 + (4 + 2)
    assert saved_by_layer(SHAPE, 2, 3, repeated=False) == 4 * wide + 2 * (3 * 16 + 8 + 8 + 8)


def test_all_stages_have_their_parts() -> None:
    found = {peak.stage: peak for peak in peaks(recipe(engine={"kv_gib": 1}), LARGE, LENGTHS, CUDA)}
    assert list(found) == [SAMPLE, SFT, RL_SAMPLE, UPDATE]
    assert found[SAMPLE].parts["optimiser"] == 0
    assert found[UPDATE].parts["optimiser"] == 6 * 16 * LARGE.lora_width  # gradient in float32, AdamW in 8 bits
    assert found[SFT].parts["logits"] == 4 * 4 * 16 * 1200 * LARGE.vocab
    assert found[SAMPLE].parts["keys/values"] == GIB  # what the recipe gives it
    assert found[SFT].total == sum(found[SFT].parts.values())


@given(st.sampled_from([1, 2, 4, 8, 16]), st.integers(256, 16384), st.integers(64, 4000))
def test_less_asked_never_takes_more(micro: int, tokens: int, routed: int) -> None:
    lengths = Lengths(64, routed, 2 * routed, "")
    more = recipe(distill={"sft": {"micro_batch": 16}}, train_rl={"micro_tokens": 16384})
    less = changed(changed(more, "distill.sft.micro_batch", micro), "train_rl.micro_tokens", tokens)
    pairs = zip(peaks(less, LARGE, lengths, CUDA), peaks(more, LARGE, lengths, CUDA), strict=True)
    assert all(small.total <= large.total for small, large in pairs)


@pytest.mark.parametrize("stage", [SAMPLE, SFT, RL_SAMPLE, UPDATE])
def test_what_is_lowered_takes_less_at_every_step(stage: str) -> None:
    totals = [
        next(p.total for p in peaks(less, LARGE, LENGTHS, CUDA) if p.stage == stage)
        for _, less in lowered(recipe(engine={"kv_gib": 4.0}), stage, LENGTHS)
    ]
    assert totals == sorted(totals, reverse=True)
    assert totals[-1] < totals[0]


def test_the_advice_is_a_recipe_that_fits() -> None:
    from realm_cli.recipe import load_recipe

    summary = plan_summary(recipe(), LARGE, LENGTHS, {"train": 10}, [], (CPU, CUDA), [8, 1000], None)
    assert summary.data["fits"]["1000 GB GPU"] is True
    told = [row for row in summary.data["advice"] if row["where"] == "8 GB GPU"]
    assert {row["stage"] for row in told} >= {SFT, UPDATE}
    for row in told:
        again = load_recipe(None, [text for text in row["settings"].split() if text != "--set"])
        peak = next(p for p in peaks(again, LARGE, LENGTHS, CUDA) if p.stage == row["stage"])
        assert fits(peak, 8)
    assert any(note.startswith("8 GB GPU: ") and "--set distill.sft.micro_batch" in note for note in summary.notes)


def test_what_never_fits_says_so() -> None:
    summary = plan_summary(recipe(), LARGE, LENGTHS, {"train": 10}, [], (CPU, CUDA), [0.5], None)
    assert any("does not fit; take a smaller model" in note for note in summary.notes)


def test_prompts_longer_than_the_model_are_told() -> None:
    summary = plan_summary(recipe(), SHAPE, LENGTHS, {"train": 10}, [], (CPU, CUDA), [8], None)
    assert any("of 512 positions; lower verify.k" in note for note in summary.notes)


def test_work_by_hand() -> None:
    asked = recipe(
        rollout={"models": ["student", "solver:hasty", "openai:http://a/v1#m"], "n": 2, "self_n": 3, "max_tokens": 100},
        distill={"teacher": "openai:http://a/v1#m", "n": 4, "max_tokens": 50, "keep_per_problem": 2,
                 "mix": {"guided": 0.5, "mrpv": 0.5}, "sft": {"batch_size": 8, "epochs": 2, "max_length": 64}},
        refine={"n": 4, "keep_per_problem": 4},
        train_rl={"steps": 10, "eaai_steps": 5, "groups_per_step": 2, "group_size": 4, "p_max": 0.8, "max_tokens": 10,
                  "eval_every": 4, "dev_limit": 3, "dev_routed": 2},
        eval={"modes": ["bare", "routed"], "n": 1, "max_tokens": 20},
    )  # fmt: skip
    counts = {"train": 10, "dev": 5, "test": 6}
    rollout, distill, refine, rl, evaluation = workload(asked, counts, Lengths(30, 130, 80, ""))
    assert (rollout.samples, rollout.sampled, rollout.elsewhere) == (21 * (3 + 4), 21 * 3 * 100, 21 * 2 * 100)
    assert (distill.steps, distill.samples, distill.sampled, distill.elsewhere) == (10, 40, 0, 2000)  # 40 rows
    assert distill.trained == 10 * 8 * 64
    assert (refine.samples, refine.sampled, refine.steps, refine.trained) == (40, 400, 10, 10 * 8 * 40)
    assert (rl.steps, rl.samples, rl.sampled) == (10, 80 + 3 * 5, (80 + 15) * 10)
    assert rl.trained == 20 * (0.4 * 130 + 0.6 * 30) + 80 * 10 * 1.4
    assert (evaluation.samples, evaluation.sampled) == (24, 480)
    assert seconds(rl, Speeds(sampled=10.0, trained=100.0)) == pytest.approx(95 + rl.trained / 100)
    shorter = workload(asked, counts, Lengths(30, 130, 80, ""), tokens=5)
    assert shorter[0].sampled == 21 * 3 * 5


def test_a_key_that_does_not_exist_is_not_changed() -> None:
    with pytest.raises((AttributeError, ConfigError)):
        changed(recipe(), "train_rl.nothing.at_all", 1)
