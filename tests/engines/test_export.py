"""A merged model is base + adapter, and the check says so where it is not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engines.toys import toy_loaded
from realm_cli.engines import export
from realm_cli.engines.callbacks import attach_lora
from realm_cli.engines.checkpoints import save_adapter
from realm_cli.engines.export import LIMITS, Check, answers_of, compare, export_merged, load_plain, logprobs_of
from realm_cli.engines.loading import LoadedModel, load_model
from realm_cli.prompts import bare_messages
from realm_cli.recipe import LoraSettings

PROMPTS = [bare_messages(f"Parcel: vase, {i} kg, zone {i % 5}, fragile, insured. Fee?", "terse") for i in range(1, 33)]


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory, tiny_student: Path) -> Path:
    """An adapter that changes what the tiny student says."""
    return adapter_of(tmp_path_factory.mktemp("adapter"), 0.02)


def adapter_of(folder: Path, spread: float) -> Path:
    """An adapter on the tiny student with random weights."""
    loaded = load_model("tiny-student", quant="none", dtype="float32", device="cpu")
    model = attach_lora(loaded, LoraSettings(r=8, alpha=16), 0)
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, spread)
    save_adapter(model, loaded.tokenizer, folder)
    return folder


def test_a_merge_into_the_plain_base_passes(adapter: Path, tmp_path: Path) -> None:
    check, _ = export_merged("tiny-student", adapter, tmp_path / "m", PROMPTS, dtype="float32", max_tokens=48)
    assert check.passed and check.same == 1.0 and check.gap < 1e-5 and check.prompts == 32
    assert (tmp_path / "m" / "model.safetensors").is_file() and not list((tmp_path / "m").glob("adapter*"))
    check, _ = export_merged("tiny-student", adapter, tmp_path / "b", PROMPTS, dtype="bfloat16", max_tokens=48)
    assert check.passed and 0 < check.gap < LIMITS["bfloat16"][1]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_merge_into_a_quantised_base_fails(dtype: str, adapter: Path) -> None:
    reference = load_plain("tiny-student", dtype, False, adapter)
    answers = answers_of(reference, PROMPTS, 48)
    logprobs = logprobs_of(reference, answers)
    nf4 = load_model("tiny-student", quant="nf4", dtype=dtype, device="cpu", adapter=adapter)
    merged = LoadedModel(nf4.model.merge_and_unload(), nf4.tokenizer, "merged", "cpu", "nf4")
    check = compare(answers, logprobs, merged, PROMPTS, dtype, 48)
    assert not check.passed and check.gap > LIMITS[dtype][1] and check.same < LIMITS[dtype][0]


def test_a_merge_that_lost_its_adapter_fails(adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        export, "merge_into", lambda loaded, folder: (
            loaded.model.unload().save_pretrained(folder), loaded.tokenizer.save_pretrained(folder)
        )[0],
    )  # fmt: skip
    check, _ = export_merged("tiny-student", adapter, tmp_path / "m", PROMPTS, dtype="float32", max_tokens=48)
    assert not check.passed


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_small_adapter_cannot_get_lost(
    dtype: str, tmp_path: Path, tiny_student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its effect is below the largest gap of either type: only the comparison with the base sees that it is gone."""
    small = adapter_of(tmp_path / "small", 0.002)
    merge = export.merge_into
    monkeypatch.setattr(export, "merge_into", lambda loaded, folder: merge(emptied(loaded), folder))
    lost, _ = export_merged("tiny-student", small, tmp_path / "lost", PROMPTS, dtype=dtype, max_tokens=48)
    assert 0 < lost.effect < LIMITS[dtype][1] and lost.gap == pytest.approx(lost.effect, rel=1e-3)
    assert lost.gap <= lost.largest_gap and lost.same >= lost.least_same and not lost.passed
    monkeypatch.undo()
    kept, _ = export_merged("tiny-student", small, tmp_path / "kept", PROMPTS, dtype="float32", max_tokens=48)
    assert kept.passed and kept.gap < 1e-5


def emptied(loaded: LoadedModel) -> LoadedModel:
    """The same model with an adapter that does nothing."""
    for name, parameter in loaded.model.named_parameters():
        if "lora_B" in name:
            parameter.data.zero_()
    return loaded


def test_limits_are_inclusive() -> None:
    assert Check(32, 0.5, 0.02, 0.5, 0.02).passed
    assert Check(32, 0.5, 0.01, 0.5, 0.02, effect=0.02).passed
    assert not Check(32, 0.5, 0.011, 0.5, 0.02, effect=0.02).passed
    assert Check(32, 1.0, 1e-6, 0.95, 1e-3, effect=0.0).passed  # an adapter that does nothing yet
    assert not Check(32, 0.49, 0.02, 0.5, 0.02).passed and not Check(32, 0.5, 0.021, 0.5, 0.02).passed


def test_log_probabilities_are_those_of_the_answers() -> None:
    loaded = toy_loaded()
    answers = answers_of(loaded, [[{"role": "user", "content": text}] for text in ("abc", "a longer one")], 6)
    for (prompt, done), found in zip(answers, logprobs_of(loaded, answers), strict=True):
        ids = torch.tensor([[*prompt, *done.token_ids]])
        logits = loaded.model(ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        want = [logits[i, token].item() for i, token in enumerate(done.token_ids)]
        assert found == pytest.approx(want, abs=1e-4)
