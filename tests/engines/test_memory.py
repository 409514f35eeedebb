"""Too little memory: less at once, the same samples and the same update, or one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from engines.test_sft import _rows
from engines.toys import lora_state, toy_job, toy_loaded, toy_plan
from realm_cli.engines.grpo import RouteGrpoTrainer
from realm_cli.engines.loading import LoadedModel
from realm_cli.engines.memory import out_of_memory, with_less
from realm_cli.engines.sampler import LocalGenerator
from realm_cli.engines.self_check import shares_prefix
from realm_cli.engines.sft import LoraSftTrainer
from realm_cli.errors import EngineError
from realm_cli.protocols import GenRequest, SamplingParams
from realm_cli.recipe import BridgeConfig, EngineConfig, SftConfig, TrainRlConfig

FULL = (
    "DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes. Error code 12 (Cannot allocate memory)"
)


@contextmanager
def limited(loaded: LoadedModel, tokens: int, *, backward: bool = False) -> Iterator[list[int]]:
    """A model whose first layer fails on more than `tokens` tokens at once, in its forward or its backward pass.

    The tokens of failed passes are listed.
    """
    failed: list[int] = []
    layer = loaded.model.model.layers[0].mlp

    def check(x: torch.Tensor) -> None:
        if x.shape[:-1].numel() > tokens:
            failed.append(x.shape[:-1].numel())
            raise RuntimeError(FULL)

    if backward:  # by then the later layers have their gradients
        hook = layer.register_forward_hook(lambda module, args, out: _on_gradient(out, check))
    else:
        hook = layer.register_forward_pre_hook(lambda module, args: check(args[0]))
    try:
        yield failed
    finally:
        hook.remove()


def _on_gradient(out: torch.Tensor, check: Any) -> None:
    if out.requires_grad:
        out.register_hook(lambda grad: check(out))


def requests(n: int) -> list[GenRequest]:
    return [GenRequest(f"q{i}", [{"role": "user", "content": "ab" * (1 + i % 3)}], n=4) for i in range(n)]


@pytest.mark.parametrize("shared", ["auto", "off"])
def test_sampling_goes_on_with_fewer_rows(shared: str, caplog: pytest.LogCaptureFixture) -> None:
    params = SamplingParams(max_tokens=12, temperature=1.0, seed=1)
    loaded = toy_loaded(chars="ab")
    want = dict(LocalGenerator(loaded, 16, shared=shared).generate(requests(6), params))
    generator = LocalGenerator(loaded, 16, shared=shared)
    with limited(loaded, 40) as failed:
        got = dict(generator.generate(requests(6), params))
    assert failed and generator.batch_rows < 16
    assert {i: [c.text for c in row] for i, row in got.items()} == {i: [c.text for c in row] for i, row in want.items()}
    assert "out of memory: going on with engine.batch_rows=8, which changes nothing but speed" in caplog.text


def test_sampling_that_does_not_fit_at_all_says_so() -> None:
    loaded = toy_loaded(chars="ab")
    with (
        limited(loaded, 3),
        pytest.raises(EngineError, match=r"out of memory with engine.batch_rows at its least \(1\)"),
    ):
        list(LocalGenerator(loaded, 4, shared="off").generate(requests(1), SamplingParams(max_tokens=4)))


def test_likelihoods_are_the_same_in_smaller_passes() -> None:
    loaded = toy_loaded(chars="ab")
    pairs = [([{"role": "user", "content": "a" * i}], "ab" * 5) for i in range(1, 9)]
    want = LocalGenerator(loaded).nll(pairs)
    generator = LocalGenerator(loaded)
    with limited(loaded, 128) as failed:
        got = generator.nll(pairs)
    assert failed and generator.nll_tokens < 8192 and got == pytest.approx(want, abs=1e-5)
    assert generator.nll(pairs) == pytest.approx(want, abs=1e-5)


def sft(folder: Path, tokens: int | None, *, micro: int = 4, backward: bool = False) -> tuple[Any, list[int]]:
    loaded = toy_loaded()
    config = SftConfig(lr=5e-3, batch_size=8, micro_batch=micro, epochs=2.0)
    trainer = LoraSftTrainer(loaded, config, 0)
    with limited(loaded, tokens or 1 << 30, backward=backward) as failed:
        trainer.train(_rows(), out_dir=folder / "adapter", on_metrics=lambda row: None)
    return lora_state(loaded.model), failed


@pytest.mark.parametrize("backward", [False, True])
def test_fine_tuning_learns_the_same_from_halved_micro_batches(backward: bool, tmp_path: Path) -> None:
    want, _ = sft(tmp_path / "a", None)
    got, failed = sft(tmp_path / "b", 70, backward=backward)
    assert failed and len(failed) <= 3  # the smaller size is kept
    assert max(float((got[name] - want[name]).abs().max()) for name in want) < 1e-5


def test_fine_tuning_of_rows_that_do_not_fit_says_so(tmp_path: Path) -> None:
    with pytest.raises(
        EngineError, match=r"out of memory with distill.sft.micro_batch at its least \(1\); set train_rl"
    ):
        sft(tmp_path, 5)


def rl(
    folder: Path, tokens: int | None, backward: bool, micro: int = 512
) -> tuple[Any, list[int], list[dict[str, Any]]]:
    loaded = toy_loaded(chars="ab")
    config = TrainRlConfig(
        steps=3, groups_per_step=4, group_size=4, lr=1e-2, warmup_steps=0, max_tokens=24, micro_tokens=micro,
        save_every=100, bridge=BridgeConfig(beta=1.0),
    )  # fmt: skip
    log: list[dict[str, Any]] = []
    job = toy_job(folder / "adapter", toy_plan(3, 4, lambda step, slot: slot > 1), 3, 4, 4, on_metrics=log.append)
    with limited(loaded, tokens or 1 << 30, backward=backward) as failed:
        RouteGrpoTrainer(loaded, config, 0, EngineConfig()).train(job)
    return lora_state(loaded.model), failed, log


@pytest.mark.parametrize("backward", [False, True])
def test_rl_takes_the_same_step_from_smaller_passes(backward: bool, tmp_path: Path) -> None:
    """Bit by bit that of a run with such passes from the start."""
    want, _, before = rl(tmp_path / "a", None, backward, micro=64)
    got, failed, after = rl(tmp_path / "b", 70, backward)
    assert failed and len(failed) <= 3  # the smaller size is kept
    assert all(torch.equal(got[name], want[name]) for name in want)
    for a, b in zip(before, after, strict=True):
        same = ("loss", "grad_norm", "reward", "rows_trained", "sampler_trainer_gap")
        assert [b.get(key) for key in same] == [a.get(key) for key in same]


def test_only_memory_is_taken_for_memory() -> None:
    assert out_of_memory(RuntimeError(FULL)) and out_of_memory(MemoryError())
    assert out_of_memory(RuntimeError("std::bad_alloc"))
    assert out_of_memory(RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB"))
    assert not out_of_memory(RuntimeError("shapes do not match")) and not out_of_memory(ValueError(FULL))

    def attempt(size: int) -> int:
        if size > 5:
            raise MemoryError
        return size

    assert with_less(attempt, 64, least=lambda: 3, setting="x") == (4, 4)
    with pytest.raises(RuntimeError, match="shapes"):
        with_less(lambda size: (_ for _ in ()).throw(RuntimeError("shapes")), 4, least=lambda: 1, setting="x")


def test_a_trial_without_memory_says_nothing_of_the_model() -> None:
    loaded = toy_loaded(chars="ab")
    with limited(loaded, 3), pytest.raises(RuntimeError, match="can't allocate"):
        shares_prefix(loaded.model, "auto")
    assert shares_prefix(loaded.model, "auto")
