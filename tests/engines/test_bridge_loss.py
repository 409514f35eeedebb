"""The bridge (method.md 9.1, acceptance test 0) by hand-computed numbers."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from trl.trainer.utils import add_fused_lm_head

from engines.toys import toy_loaded, toy_plan, toy_score, toy_tokenizer
from realm_cli.engines.batches import TokenRow, micro_batches, packed_length, packs_of, pair_cost_of, row_logprobs
from realm_cli.engines.bridge_loss import bridge_loss, bridge_rows
from realm_cli.engines.loading import encode_completion, encode_prompt
from realm_cli.protocols import Completion

ROUTED = "<check>\nA: right\n</check>\n<think>\nab\n</think>\n<answer>2</answer>"
SOLUTION = "<think>\nab\n</think>\n<answer>2</answer>"
BARE = [{"role": "user", "content": "q"}]


class Bigram(torch.nn.Module):
    """Logits of the next token depend on the last token only: a 2 x 2 table."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Parameter(torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0]]))

    def forward(self, input_ids: torch.Tensor, logits_to_keep: int, **_: Any) -> SimpleNamespace:
        return SimpleNamespace(logits=self.table[input_ids][:, -logits_to_keep:])


def test_gradient_is_that_of_the_written_loss_on_two_tokens() -> None:
    """Prompt 0, solution (0, 1): log pi = log 1/4 + log 3/4; d(-log p_k)/d logits = p - e_k, once per token."""
    model = Bigram()
    row = TokenRow((0,), (0, 1), weight=0.5)
    loss = bridge_loss(model, SimpleNamespace(pad_token_id=0), [row], norm=4.0, beta=8.0, pair_cost=0.0)
    loss.backward()
    assert loss.item() == pytest.approx(-8 / 4 * 0.5 * (math.log(1 / 4) + math.log(3 / 4)))
    # 8/4 * 0.5 = 1 times (1/4 - 1, 3/4) + (1/4, 3/4 - 1) = (-0.5, 0.5)
    assert model.table.grad is not None
    assert model.table.grad.tolist() == [pytest.approx([-0.5, 0.5]), [0.0, 0.0]]


def test_padding_and_chunks_change_nothing() -> None:
    loaded = toy_loaded()
    rows = [
        TokenRow((1, 5, 6), (7, 8, 2), 1.0),
        TokenRow((1, 5, 6, 7, 9, 9), (7, 2), 0.25),
        TokenRow((1,), (9, 9, 9, 9, 2), 2.0),
    ]
    whole = bridge_loss(loaded.model, loaded.tokenizer, rows, norm=10.0, beta=2.0)
    whole.backward()
    grads = [p.grad.clone() for p in loaded.model.parameters() if p.grad is not None]
    loaded.model.zero_grad()
    by_hand = torch.zeros(())
    for row in rows:
        ids = torch.tensor([row.prompt_ids + row.completion_ids])
        logp = loaded.model(ids).logits[0].log_softmax(-1)
        start = len(row.prompt_ids)
        by_hand = by_hand - 0.2 * row.weight * sum(logp[start + t - 1, k] for t, k in enumerate(row.completion_ids))
    by_hand.backward()
    assert whole.item() == pytest.approx(by_hand.item(), rel=1e-5)
    for mine, p in zip(grads, [p for p in loaded.model.parameters() if p.grad is not None], strict=True):
        torch.testing.assert_close(mine, p.grad, rtol=1e-4, atol=1e-6)
    chunked = sum(bridge_loss(loaded.model, loaded.tokenizer, [row], 10.0, 2.0).item() for row in rows)
    assert chunked == pytest.approx(whole.item(), rel=1e-5)


def _group(routed: bool, texts: list[str], truncated: bool = False) -> Any:
    plan = toy_plan(1, 1, lambda step, slot: routed)[0]
    done = [Completion(text, n_tokens=3, truncated=truncated, token_ids=(1, 2, 3)) for text in texts]
    score = toy_score(lambda text: float("2</answer>" in text), lambda text: SOLUTION if "<think>" in text else "")
    return plan, score(plan, done)


def test_no_token_of_check_block_or_routes_enters_and_the_end_token_does() -> None:
    tokenizer = toy_tokenizer(extra=["<check>", "[Route A]"])
    rows = bridge_rows(tokenizer, [_group(True, [ROUTED, "no"])], lambda problem_id: BARE)
    (row,) = rows
    assert row.prompt_ids == tuple(encode_prompt(tokenizer, BARE))
    assert row.completion_ids == tuple(encode_completion(tokenizer, SOLUTION))
    assert row.completion_ids[-1] == tokenizer.eos_token_id
    assert row.weight == 0.5  # r_ans 1 against a group mean of 0.5
    shown = set(row.prompt_ids + row.completion_ids)
    assert not shown & {tokenizer.convert_tokens_to_ids("<check>"), tokenizer.convert_tokens_to_ids("[Route A]")}


@pytest.mark.parametrize(
    "group",
    [_group(False, [ROUTED, "no"]), _group(True, ["no", "no"]), _group(True, [ROUTED, "no"], truncated=True)],
    ids=["bare group", "nothing solved", "truncated"],
)
def test_nothing_to_learn_from_adds_zero(group: Any) -> None:
    tokenizer = toy_tokenizer()
    rows = bridge_rows(tokenizer, [group], lambda problem_id: BARE)
    assert rows == []
    assert bridge_loss(toy_loaded().model, tokenizer, rows, 1.0, 8.0).item() == 0.0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 300), st.integers(1, 80)), max_size=40), st.integers(1, 16))
def test_micro_batches_hold_every_row_once_and_at_most_size(lengths: list[tuple[int, int]], size: int) -> None:
    rows = [TokenRow((1,) * p, (2,) * c, float(i)) for i, (p, c) in enumerate(lengths)]
    batches = [[row for pack in batch for row in pack] for batch in micro_batches(rows, size)]
    assert sorted(row.weight for batch in batches for row in batch) == [float(i) for i in range(len(rows))]
    assert all(1 <= len(batch) <= size for batch in batches)


def test_micro_batches_pack_groups_and_split_long_from_short() -> None:
    rows = [TokenRow((1,) * 250, (2,) * 70, 1.0)] * 8 + [TokenRow((1,) * 30, (2,) * 60, 1.0)] * 8
    apart = micro_batches(rows, 16, pair_cost=float("inf"))
    assert [[packed_length(pack) for pack in batch] for batch in apart] == [[90] * 8, [320] * 8]
    shared = micro_batches(rows, 16)
    assert [[packed_length(pack) for pack in batch] for batch in shared] == [[29 + 8 * 61, 249 + 8 * 71]]


def test_a_row_joins_a_pack_while_its_prompt_is_worth_more_than_the_masked_pairs() -> None:
    """Prompt 10, completions 4: a pack of two is 9 + 2 * 5 = 19 long; a third costs 2 * 19 * 5 = 190 pairs."""
    rows = [TokenRow((1,) * 10, (2,) * 4, 1.0)] * 4
    assert [len(pack) for pack in packs_of(rows, 8, pair_cost=0.052)] == [3, 1]  # 190 * .052 < 10, 240 * .052 > 10
    assert [len(pack) for pack in packs_of(rows, 8, pair_cost=0.053)] == [2, 2]  # 190 * .053 > 10


@pytest.mark.parametrize("fused", [False, True])
def test_packed_rows_are_the_plain_rows(fused: bool) -> None:
    """Log-probabilities, entropies and gradients of two groups in one batch against a forward a row."""
    loaded = toy_loaded()
    if fused:
        add_fused_lm_head(loaded.model, outputs=("log_probs", "entropy"))
    one, two = (1, 5, 6, 7, 8), (1, 9)
    rows = [
        TokenRow(one, (7, 8, 2), 1.0),
        TokenRow(one, (9, 2), 1.0),
        TokenRow(one, (4, 4, 4, 4, 4, 2), 1.0),
        TokenRow(two, (6, 6, 2), 1.0),
        TokenRow(two, (2,), 1.0),
    ]
    packs = packs_of(rows, 8, pair_cost=0.0)
    assert [len(pack) for pack in packs] == [3, 2]
    logps, entropies = row_logprobs(loaded.model, packs, 0, fused=fused, entropy=True)
    assert logps.shape == (5, 6)
    logps.sum().backward()
    grads = {n: p.grad.clone() for n, p in loaded.model.named_parameters()}
    loaded.model.zero_grad()
    for row, logp, entropy in zip(rows, logps, entropies, strict=True):
        n, start = len(row.completion_ids), len(row.prompt_ids)
        full = loaded.model(torch.tensor([row.prompt_ids + row.completion_ids])).logits[0].log_softmax(-1)
        steps = full[start - 1 : start - 1 + n]
        plain = steps.gather(1, torch.tensor(row.completion_ids)[:, None])[:, 0]
        plain.sum().backward()
        torch.testing.assert_close(logp[:n], plain, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(entropy[:n], -(steps.exp() * steps).sum(-1), rtol=1e-4, atol=1e-5)
        assert not logp[n:].any()
    for name, p in loaded.model.named_parameters():
        torch.testing.assert_close(grads[name], p.grad, rtol=1e-3, atol=1e-5)


def test_attention_that_takes_no_mask_is_not_packed() -> None:
    model = toy_loaded().model
    assert pair_cost_of(model) == pytest.approx(2 / (4 * 32 + 3 * 64))
    model.config._attn_implementation = "flash_attention_2"
    assert pair_cost_of(model) == float("inf")
