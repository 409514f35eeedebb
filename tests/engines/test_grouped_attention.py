"""Shared prompts against plain forward passes: outputs, log-probabilities, gradients, for each way through the code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.conftest import random_model
from engines.toys import toy_nf4
from realm_cli.engines import grouped_attention
from realm_cli.engines.batches import TokenRow, micro_batches
from realm_cli.engines.cache import DecodeCache
from realm_cli.engines.callbacks import attach_lora
from realm_cli.engines.grouped_attention import (
    LAYOUT,
    NO_MASK,
    PackedGroup,
    PackedLayout,
    packed_mask,
    use_grouped_attention,
    why_not,
)
from realm_cli.engines.loading import LoadedModel
from realm_cli.engines.logprobs import row_logprobs
from realm_cli.engines.self_check import shares_prefix
from realm_cli.recipe import LoraSettings

Make = Callable[..., LoadedModel]
FAMILIES = ("llama", "qwen2", "qwen3", "gemma3_text", "mistral", "phi3", "olmo2")


def group_rows(vocab: int, sizes: Sequence[tuple[int, Sequence[int]]], seed: int = 0) -> list[TokenRow]:
    """Rows of groups: (prompt length, completion lengths), random ids."""
    draw = torch.Generator().manual_seed(seed)

    def ids(n: int) -> tuple[int, ...]:
        return tuple(torch.randint(3, vocab, (n,), generator=draw).tolist())

    rows = []
    for prompt_length, lengths in sizes:
        prompt = ids(prompt_length)
        rows += [TokenRow(prompt, ids(n), float(i) - 1.3) for i, n in enumerate(lengths)]
    return rows


def by_prompt(rows: Sequence[TokenRow]) -> list[list[TokenRow]]:
    (packs,) = micro_batches(rows, 1 << 30, shared=True)
    return packs


def grads_of(model: Any) -> dict[str, torch.Tensor]:
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def compare(model: Any, rows: Sequence[TokenRow], atol: float = 1e-4, rtol: float = 1e-3) -> None:
    """Shared against plain, a row at a time: log-probabilities to `atol`, gradients to `rtol` of their norm."""
    packs = by_prompt(rows)
    logps, entropies = row_logprobs(model, packs, 0, shared=True, temperature=0.9, entropy=True)
    weights = torch.tensor([row.weight for pack in packs for row in pack])
    (logps.sum(-1) * weights).sum().backward()
    mine = grads_of(model)
    for i, row in enumerate(row for pack in packs for row in pack):
        n, start = len(row.completion_ids), len(row.prompt_ids)
        full = model(torch.tensor([row.prompt_ids + row.completion_ids])).logits[0, start - 1 : start - 1 + n]
        plain = (full / 0.9).log_softmax(-1)
        want = plain.gather(1, torch.tensor(row.completion_ids)[:, None])[:, 0]
        (want.sum() * row.weight).backward()
        torch.testing.assert_close(logps[i, :n], want, rtol=0, atol=atol)
        assert entropies is not None
        torch.testing.assert_close(entropies[i, :n], -(plain.exp() * plain).sum(-1), rtol=1e-3, atol=atol)
        assert not logps[i, n:].any()
    theirs = grads_of(model)
    assert mine.keys() == theirs.keys() and mine
    for name, grad in theirs.items():
        assert (mine[name] - grad).norm() <= rtol * grad.norm() + 1e-7, name


SIZES = [(40, (9, 5, 12)), (1, (3, 2)), (150, (7,)), (17, (6, 6, 6, 6))]


@pytest.mark.parametrize("family", FAMILIES)
def test_log_probabilities_and_lora_gradients_are_the_plain_ones(make_loaded: Make, family: str) -> None:
    loaded = make_loaded(family)
    assert why_not(loaded.model) is None
    model = attach_lora(loaded, LoraSettings(r=4, alpha=8), 0)
    torch.manual_seed(1)
    for name, p in model.named_parameters():
        if "lora_B" in name:  # B starts at 0, which hides half of the gradient
            p.data.normal_(std=0.1)
    use_grouped_attention(model)
    compare(model, group_rows(80, SIZES))


@pytest.mark.parametrize("family", ["qwen2", "gemma3_text"])
def test_sliding_windows_are_kept(make_loaded: Make, family: str) -> None:
    """A window of 16 in prompts of up to 150 tokens, on one layer of two."""
    more = {"use_sliding_window": True} if family == "qwen2" else {}
    kinds = ["sliding_attention", "full_attention"]
    loaded = make_loaded(family, sliding_window=16, layer_types=kinds, **more)
    model = attach_lora(loaded, LoraSettings(r=4, alpha=8), 0)
    use_grouped_attention(model)
    compare(model, group_rows(80, SIZES))


def test_nf4(tmp_path: Path) -> None:
    loaded = toy_nf4(tmp_path)
    model = attach_lora(loaded, LoraSettings(r=4, alpha=8), 0)
    use_grouped_attention(model)
    compare(model, group_rows(6, SIZES))


def test_gradient_checkpointing(make_loaded: Make) -> None:
    loaded = make_loaded()
    model = attach_lora(loaded, LoraSettings(r=4, alpha=8), 0, checkpointing=True)
    use_grouped_attention(model)
    rows = by_prompt(group_rows(80, SIZES))

    def step() -> dict[str, torch.Tensor]:
        model.train()
        row_logprobs(model, rows, 0, shared=True)[0].sum().backward()
        return grads_of(model)

    want = step()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    got = step()
    for name, grad in want.items():
        torch.testing.assert_close(got[name], grad, rtol=1e-4, atol=1e-6)


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.integers(0, 30), st.lists(st.integers(1, 12), max_size=4)), min_size=1, max_size=3),
    st.sampled_from([(4, 4), (4, 2), (6, 1)]),
)
def test_flash_parts_are_one_masked_attention(sizes: list[tuple[int, list[int]]], heads: tuple[int, int]) -> None:
    """Outputs and gradients of the parts against one dense mask, for any lengths and head counts."""
    groups, start = [], 0
    for prompt, lengths in sizes:
        groups.append(PackedGroup(start, prompt, tuple(lengths)))
        start += groups[-1].tokens
    if start == 0:
        return
    torch.manual_seed(start)
    q = torch.randn(1, start, heads[0], 8).transpose(1, 2).requires_grad_()
    k, v = (torch.randn(1, start, heads[1], 8).transpose(1, 2).requires_grad_() for _ in range(2))
    layout, above = PackedLayout([g for g in groups if g.tokens]), torch.randn(1, heads[0], start, 8)
    out = layout.attend(0, q, k, v, 0.3, None)
    found = torch.autograd.grad(out, (q, k, v), above)
    seen = torch.zeros(start, start, dtype=torch.bool)
    for group in layout.groups:
        span = slice(group.start, group.start + group.tokens)
        seen[span, span] = packed_mask(group)
    repeat = heads[0] // heads[1]
    scores = q @ k.repeat_interleave(repeat, 1).transpose(-1, -2) * 0.3
    dense = scores.masked_fill(~seen, float("-inf")).softmax(-1) @ v.repeat_interleave(repeat, 1)
    torch.testing.assert_close(out, dense, rtol=1e-4, atol=1e-5)
    for mine, want in zip(found, torch.autograd.grad(dense, (q, k, v), above), strict=True):
        torch.testing.assert_close(mine, want, rtol=1e-4, atol=1e-5)


def test_without_the_kernel_a_mask_does_it(make_loaded: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The way of other devices, which have no such kernel: the same numbers."""
    loaded = make_loaded("qwen3")
    model = attach_lora(loaded, LoraSettings(r=4, alpha=8), 0)
    use_grouped_attention(model)
    monkeypatch.setattr(grouped_attention, "_FLASH", None)
    compare(model, group_rows(80, SIZES))


def test_plain_passes_are_untouched(make_loaded: Make) -> None:
    loaded = make_loaded()
    ids = torch.randint(3, 80, (2, 30))
    mask = torch.ones_like(ids)
    mask[0, :11] = 0
    before = loaded.model(ids, attention_mask=mask).logits
    use_grouped_attention(loaded.model)
    assert torch.equal(loaded.model(ids, attention_mask=mask).logits, before)


def test_one_prompt_is_computed_once(make_loaded: Make) -> None:
    """Tokens in the forward: 199 + 8 * 21 in place of 8 * 220."""
    loaded = make_loaded()
    use_grouped_attention(loaded.model)
    widths: list[tuple[int, ...]] = []
    loaded.model.get_decoder().register_forward_pre_hook(
        lambda module, args, kwargs: widths.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    row_logprobs(loaded.model, by_prompt(group_rows(80, [(200, (20,) * 8)])), 0, shared=True)
    assert widths == [(1, 199 + 8 * 21)]


def test_models_that_we_do_not_serve_say_why() -> None:
    model = random_model("llama")
    model.config._attn_implementation = "eager"
    assert why_not(model) == "attention implementation eager"
    model = random_model("gpt2", n_embd=32, n_layer=1, n_head=2)
    assert why_not(model) == "positions other than rotary ones"
    model = random_model("gemma2")
    model.config._attn_implementation = "sdpa"
    assert why_not(model) == "capped attention scores"


def test_the_switch_and_the_trial(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model("llama")
    assert not shares_prefix(model, "off")
    assert model.config._attn_implementation == "sdpa"
    assert shares_prefix(model, "auto") and not caplog.records
    wrong = random_model("llama", seed=1)
    true = PackedLayout.attend

    def attend(self: PackedLayout, layer: int, *args: Any) -> torch.Tensor:
        out = true(self, layer, *args)
        return out * 1.2 if layer == 1 else out

    monkeypatch.setattr(PackedLayout, "attend", attend)
    assert not shares_prefix(wrong, "auto")
    assert not shares_prefix(wrong, "auto")
    (record,) = caplog.records
    assert record.getMessage().startswith(
        "LlamaForCausalLM: shared prefix off, each completion computes its prompt: log-probabilities differ by "
    )
    eager = random_model("llama")
    eager.config._attn_implementation = "eager"
    assert not shares_prefix(eager, "auto")
    assert caplog.records[-1].getMessage().endswith("attention implementation eager")


def test_the_trial_covers_decoding_and_each_state_of_a_model(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = random_model("llama").requires_grad_(False)
    assert shares_prefix(model, "auto")
    true = DecodeCache.attend
    monkeypatch.setattr(DecodeCache, "attend", lambda self, *args: 1.2 * true(self, *args))
    assert shares_prefix(model, "auto")  # the answer is kept
    model.requires_grad_(True)
    assert not shares_prefix(model, "auto")  # in training it is tried again
    (record,) = caplog.records
    assert "log-probabilities differ by " in record.getMessage()


def test_a_layout_reaches_the_attention(make_loaded: Make) -> None:
    """The self-check's blind spot would be a model that ignores the layout: then every token sees all before it."""
    loaded = make_loaded()
    use_grouped_attention(loaded.model)
    ids = torch.randint(3, 80, (1, 12))
    places = torch.tensor([[0, 1, 2, 3, 4, 5, 4, 5, 6, 7, 8, 9]])
    layout = PackedLayout([PackedGroup(0, 4, (2, 6))])
    with_layout = loaded.model(ids, position_ids=places, attention_mask=NO_MASK, use_cache=False, **{LAYOUT: layout})
    second = torch.cat([ids[:, :4], ids[:, 6:]], dim=1)
    torch.testing.assert_close(with_layout.logits[:, 6:], loaded.model(second).logits[:, 4:], rtol=1e-4, atol=1e-5)
