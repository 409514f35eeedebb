"""Ids without a token, in a vocabulary that is padded or has holes: never drawn, of probability 0 in training too."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from engines.conftest import random_model
from engines.fake_vllm import Calls, fake_vllm
from engines.toys import toy_job, toy_plan, toy_score, toy_tokenizer
from realm_cli.engines.batches import TokenRow
from realm_cli.engines.grpo import RouteGrpoTrainer
from realm_cli.engines.loading import LoadedModel, encode_prompt
from realm_cli.engines.logprobs import row_logprobs
from realm_cli.engines.sampler import LocalGenerator
from realm_cli.engines.self_check import shares_prefix
from realm_cli.engines.vllm_engine import VllmGenerator
from realm_cli.engines.vocabulary import unused_ids, without_unused
from realm_cli.protocols import Completion, GenRequest, SamplingParams, Scored
from realm_cli.recipe import BridgeConfig, EngineConfig, Recipe, TrainRlConfig
from realm_cli.records import Message, PlanRow

ASKED: list[Message] = [{"role": "user", "content": "hi"}]
TOKENS, ROWS = 89, 128  # of the toy tokenizer, of the padded model


def padded(tied: bool = True) -> LoadedModel:
    """A model with 39 rows beyond the tokenizer, which it likes most of all."""
    tokenizer = toy_tokenizer()
    assert len(tokenizer) == TOKENS
    model = random_model(vocab=ROWS, tie_word_embeddings=tied)
    with torch.no_grad():
        head = model.get_output_embeddings().weight
        head[TOKENS:] = 3 * head[3 : 3 + ROWS - TOKENS]
    return LoadedModel(model, tokenizer, "padded")


@pytest.mark.parametrize("shared", ["auto", "off"])
@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(30, 0.0),
        SamplingParams(30, 1.0),
        SamplingParams(30, 2.0, top_p=0.9),
        SamplingParams(30, 0.5, top_k=60),
        SamplingParams(30, 1.5, min_p=0.01),
    ],
)
def test_no_id_without_a_token_is_drawn(shared: str, params: SamplingParams) -> None:
    loaded = padded()
    loaded.model.__dict__["_realm_unused_ids"] = None
    request = [GenRequest("q", ASKED, n=8)]
    ((_, before),) = LocalGenerator(loaded, shared=shared).generate(request, params)
    assert max(i for c in before for i in c.token_ids) >= TOKENS  # what it would do
    loaded = padded()
    ((_, done),) = LocalGenerator(loaded, shared=shared).generate(request, params)
    assert max(i for c in done for i in c.token_ids) < TOKENS
    assert all(len(c.text) >= c.n_tokens - 1 for c in done)  # nothing vanishes: a token has a character at least


def test_log_probabilities_are_those_of_the_tokens_that_there_are() -> None:
    loaded = padded()
    ((_, (one,)),) = LocalGenerator(loaded).generate([GenRequest("q", ASKED)], SamplingParams(12, 0.7))
    prompt = encode_prompt(loaded.tokenizer, ASKED)
    with torch.no_grad():
        logits = loaded.model(torch.tensor([[*prompt, *one.token_ids]])).logits[0, len(prompt) - 1 : -1]
    want = (logits[:, :TOKENS] / 0.7).log_softmax(-1).gather(-1, torch.tensor(one.token_ids)[:, None]).squeeze(-1)
    assert torch.allclose(torch.tensor(one.logprobs), want, atol=1e-5)
    row = TokenRow(tuple(prompt), one.token_ids, 1.0)
    for shared in (False, shares_prefix(loaded.model, "auto")):
        found, spread = row_logprobs(loaded.model, [[row]], 0, shared=shared, temperature=0.7, entropy=True)
        assert torch.allclose(found[0], want, atol=1e-5)
        probs = (logits[:, :TOKENS] / 0.7).softmax(-1)
        assert spread is not None and torch.allclose(spread[0], -(probs * probs.log()).sum(-1), atol=1e-4)


@pytest.mark.parametrize("tied", [True, False])
def test_gradients_are_those_of_the_smaller_softmax(tied: bool) -> None:
    loaded = padded(tied)
    assert shares_prefix(loaded.model, "auto")  # the shared passes agree with the plain one, and so do their gradients
    head = loaded.model.get_output_embeddings()
    row = TokenRow(tuple(encode_prompt(loaded.tokenizer, ASKED)), (7, 9, 11, 2), 1.0)
    loaded.model.requires_grad_(False)
    norm = loaded.model.model.norm.weight.requires_grad_(True)
    ours, _ = row_logprobs(loaded.model, [[row]], 0, shared=False)
    (gradient,) = torch.autograd.grad(ours.sum(), norm)
    ids = torch.tensor([[*row.prompt_ids, *row.completion_ids]])
    logits = loaded.model(ids).logits[0, len(row.prompt_ids) - 1 : -1, :TOKENS]
    plain = logits.log_softmax(-1).gather(-1, torch.tensor(row.completion_ids)[:, None]).sum()
    (want,) = torch.autograd.grad(plain, norm)
    assert float(want.norm()) > 0 and torch.allclose(gradient, want, atol=1e-4)
    assert head.weight.shape[0] == ROWS


def test_sampler_and_trainer_agree_in_rl(tmp_path: Path) -> None:
    tokenizer = toy_tokenizer(chars="ab")
    loaded = LoadedModel(random_model(vocab=16), tokenizer, "padded")
    log: list[dict[str, Any]] = []
    config = TrainRlConfig(
        steps=2, groups_per_step=2, group_size=4, max_tokens=24, warmup_steps=0, lr=1e-3, bridge=BridgeConfig(beta=0.0)
    )
    seen: list[int] = []

    def scored(row: PlanRow, done: Sequence[Completion]) -> list[Scored]:
        seen.extend(i for c in done for i in c.token_ids)
        return toy_score(lambda text: float(text.count("a")))(row, done)

    job = toy_job(tmp_path, toy_plan(2, 2), 2, 2, 4, on_metrics=log.append, score=scored)
    RouteGrpoTrainer(loaded, config, 0, EngineConfig()).train(job)
    assert len(seen) > 20 and max(seen) < len(tokenizer) == 6
    gaps = [row["sampler_trainer_gap"] for row in log if "sampler_trainer_gap" in row]
    assert gaps and max(gaps) < 1e-5


def test_holes_in_the_vocabulary_count_too() -> None:
    tokenizer = toy_tokenizer()
    tokenizer.add_tokens(["<extra>"])
    tokens = tokenizer.get_vocab()
    gone = tokens["q"]
    holed = type("Holed", (), {"get_vocab": lambda self: {t: i for t, i in tokens.items() if i != gone}})()
    model = random_model(vocab=len(tokenizer) + 3)
    LoadedModel(model, holed, "holed")
    found = unused_ids(model)
    assert found is not None and found.tolist() == [gone, 90, 91, 92]
    logits = torch.zeros(2, 93)
    assert without_unused(model, logits).softmax(-1)[0, found].max() == 0


def test_nothing_changes_where_every_id_is_a_token(make_loaded: Callable[..., LoadedModel]) -> None:
    loaded = make_loaded()
    assert unused_ids(loaded.model) is None
    logits = torch.randn(3, TOKENS)
    assert without_unused(loaded.model, logits) is logits


def test_vllm_is_told_which_ids_to_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = padded()
    loaded.model.save_pretrained(tmp_path / "m")
    loaded.tokenizer.save_pretrained(tmp_path / "m")
    calls = Calls()
    monkeypatch.setitem(sys.modules, "vllm", fake_vllm(calls))
    generator = VllmGenerator.from_spec(f"vllm:{tmp_path / 'm'}", Recipe())
    ((_, done),) = generator.generate([GenRequest("q", ASKED, n=6)], SamplingParams(10, 1.0))
    assert max(i for c in done for i in c.token_ids) < TOKENS
    assert calls.asked[0][0][1].logit_bias == dict.fromkeys(range(TOKENS, ROWS), -100.0)
