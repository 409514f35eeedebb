"""The bridge (method.md 9.1, acceptance test 0) by hand-computed numbers."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.toys import toy_loaded, toy_plan, toy_score, toy_tokenizer
from realm_cli.engines.batches import TokenRow, micro_batches, packed_length
from realm_cli.engines.bridge_loss import bridge_loss, bridge_rows, token_factors
from realm_cli.engines.grouped_attention import use_grouped_attention
from realm_cli.engines.loading import encode_completion, encode_prompt
from realm_cli.protocols import Completion

ROUTED = "<check>\nA: right\n</check>\n<think>\nab\n</think>\n<answer>2</answer>"
SOLUTION = "<think>\nab\n</think>\n<answer>2</answer>"
BARE = [{"role": "user", "content": "q"}]


class Bigram(torch.nn.Module):
    """Logits of the next token depend on the last token only: a 2 x 2 table."""

    base_model_prefix = "body"
    config = SimpleNamespace(get_text_config=lambda: None)

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Parameter(torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0]]))

    def get_output_embeddings(self) -> None:
        return None

    def forward(self, input_ids: torch.Tensor, **_: Any) -> SimpleNamespace:
        return SimpleNamespace(logits=self.table[input_ids])


def test_gradient_is_that_of_the_written_loss_on_two_tokens() -> None:
    """Prompt 0, solution (0, 1): log pi = log 1/4 + log 3/4; d(-log p_k)/d logits = p - e_k, once per token."""
    model = Bigram()
    row = TokenRow((0,), (0, 1), weight=0.5)
    loss = bridge_loss(model, [[row]], 0, norm=4.0, beta=8.0, shared=False)
    loss.backward()
    assert loss.item() == pytest.approx(-8 / 4 * 0.5 * (math.log(1 / 4) + math.log(3 / 4)))
    # 8/4 * 0.5 = 1 times (1/4 - 1, 3/4) + (1/4, 3/4 - 1) = (-0.5, 0.5)
    assert model.table.grad is not None
    assert model.table.grad.tolist() == [pytest.approx([-0.5, 0.5]), [0.0, 0.0]]


@pytest.mark.parametrize("shared", [False, True])
def test_padding_and_chunks_change_nothing(shared: bool) -> None:
    loaded = toy_loaded()
    if shared:
        use_grouped_attention(loaded.model)
    rows = [
        TokenRow((1, 5, 6), (7, 8, 2), 1.0),
        TokenRow((1, 5, 6, 7, 9, 9), (7, 2), 0.25),
        TokenRow((1,), (9, 9, 9, 9, 2), 2.0),
    ]
    whole = bridge_loss(loaded.model, [[row] for row in rows], 0, norm=10.0, beta=2.0, shared=shared)
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
    chunked = sum(bridge_loss(loaded.model, [[row]], 0, 10.0, 2.0, shared=shared).item() for row in rows)
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
    assert bridge_loss(toy_loaded().model, [], 0, 1.0, 8.0, shared=False).item() == 0.0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 300), st.integers(1, 80)), max_size=40), st.integers(1, 900), st.booleans())
def test_micro_batches_hold_every_row_once_within_the_tokens(
    lengths: list[tuple[int, int]], tokens: int, shared: bool
) -> None:
    rows = [TokenRow((1,) * p, (2,) * c, float(i)) for i, (p, c) in enumerate(lengths)]
    batches = micro_batches(rows, tokens, shared=shared)
    held = [row.weight for batch in batches for pack in batch for row in pack]
    assert sorted(held) == [float(i) for i in range(len(rows))]
    for batch in batches:
        sizes = [packed_length(pack) for pack in batch]
        assert all(len({row.prompt_ids for row in pack}) == 1 for pack in batch)
        size = sum(sizes) if shared else max(sizes) * len(sizes)
        assert size <= tokens or (len(batch) == 1 and len(batch[0]) == 1)


def test_micro_batches_pack_groups_and_split_what_is_too_long() -> None:
    rows = [TokenRow((1,) * 250, (2,) * 70, 1.0)] * 8 + [TokenRow((1,) * 30, (2,) * 60, 1.0)] * 8

    def lengths(tokens: int, shared: bool) -> list[list[int]]:
        return [[packed_length(pack) for pack in batch] for batch in micro_batches(rows, tokens, shared=shared)]

    assert lengths(4096, True) == [[29 + 8 * 61, 249 + 8 * 71]]
    assert lengths(600, True) == [[29 + 8 * 61], [249 + 4 * 71], [249 + 4 * 71]]
    assert lengths(640, False) == [[90] * 7, [90], *[[320, 320]] * 4]


# ---- options: importance ratio, gated negatives


def test_the_ratio_is_truncated_and_takes_no_gradient() -> None:
    """Bigram: log pi = log 1/4, log 3/4. Routed: 1/2, 1/4: ratios 1/2 and 3 -> 1."""
    model = Bigram()
    row = TokenRow((0,), (0, 1), 1.0, (math.log(1 / 2), math.log(1 / 4)))
    loss = bridge_loss(model, [[row]], 0, norm=1.0, beta=1.0, shared=False, max_ratio=1.0)
    assert loss.item() == pytest.approx(-(0.5 * math.log(1 / 4) + math.log(3 / 4)))
    loss.backward()
    # 0.5 * (1/4 - 1, 3/4) + (1/4, 3/4 - 1)
    assert model.table.grad is not None
    assert model.table.grad[0].tolist() == pytest.approx([-0.125, 0.125])
    plain = bridge_loss(model, [[row]], 0, norm=1.0, beta=1.0, shared=False)
    assert plain.item() == pytest.approx(-(math.log(1 / 4) + math.log(3 / 4)))


def test_unknown_probabilities_weigh_as_one() -> None:
    row = TokenRow((0,), (0, 1), 1.0, (math.log(1 / 2), float("nan")))
    logp = torch.tensor([[math.log(1 / 4), math.log(3 / 4)]])
    assert token_factors(logp, [row], 1.0).tolist() == [[pytest.approx(0.5), 1.0]]
    assert token_factors(logp, [TokenRow((0,), (0, 1), 1.0)], 1.0).tolist() == [[1.0, 1.0]]


def test_negatives_are_pushed_down_only_where_the_bare_model_would_go() -> None:
    logp = torch.tensor([[math.log(0.5), math.log(0.05)], [math.log(0.5), math.log(0.05)]])
    rows = [TokenRow((0,), (0, 1), -0.3), TokenRow((0,), (0, 1), 0.3)]
    assert token_factors(logp, rows, None).tolist() == [[1.0, 0.0], [1.0, 1.0]]


def test_routed_probabilities_belong_to_the_tail_of_the_completion() -> None:
    tokenizer = toy_tokenizer(extra=["<check>"])
    plan, scored = _group(True, [ROUTED, "no"])
    ids = tuple(encode_completion(tokenizer, SOLUTION))
    for own, want in (
        ((9, 9, *ids), [-0.5] * len(ids)),
        ((9, 9, *ids[:-1]), [-0.5] * (len(ids) - 1)),  # its end-of-turn token was not sampled
        ((9, 9, *ids[:-2], 7), []),
    ):
        given_ids = [replace(s, token_ids=own, logprobs=(-0.5,) * len(own)) for s in scored]
        (row,) = bridge_rows(tokenizer, [(plan, given_ids)], lambda problem_id: BARE)
        assert [x for x in row.logprobs if not math.isnan(x)] == want


def test_rows_of_negative_weight_are_taken_along() -> None:
    plan, scored = _group(True, [ROUTED, ROUTED])
    weighed = [
        replace(s, sample=s.sample.model_copy(update={"bridge_weight": w}))
        for s, w in zip(scored, (0.5, -0.2), strict=True)
    ]
    rows = bridge_rows(toy_tokenizer(), [(plan, [replace(s, bridge_text=SOLUTION) for s in weighed])], lambda _: BARE)
    assert [row.weight for row in rows] == [0.5, -0.2]
