"""A module with the part of vLLM's public API that we use, over transformers: LLM, SamplingParams, RequestOutput.

Signatures and meanings as in vLLM's documentation: prompts are dicts with `prompt_token_ids`, one SamplingParams each;
outputs come in the order of the prompts; `token_ids` holds the stop token, `finish_reason` is "stop" or "length".
"""

from __future__ import annotations

import types
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


@dataclass
class SamplingParams:
    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    max_tokens: int | None = 16
    skip_special_tokens: bool = True
    logit_bias: dict[int, float] | None = None


@dataclass
class CompletionOutput:
    index: int
    text: str
    token_ids: Sequence[int]
    cumulative_logprob: float | None = None
    logprobs: Any = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None


@dataclass
class RequestOutput:
    request_id: str
    prompt: str | None
    prompt_token_ids: list[int] | None
    outputs: list[CompletionOutput]
    finished: bool


@dataclass
class Calls:
    """What was asked of it."""

    made: list[dict[str, Any]] = field(default_factory=list)
    asked: list[list[tuple[list[int], SamplingParams]]] = field(default_factory=list)


def fake_vllm(calls: Calls, *, context: int = 256) -> types.ModuleType:
    """The module; `calls` hears of everything."""

    class LLM:
        def __init__(self, model: str, *, trust_remote_code: bool = False, tensor_parallel_size: int = 1,
                     gpu_memory_utilization: float = 0.9, max_model_len: int | None = None,
                     seed: int | None = None) -> None:  # fmt: skip
            calls.made.append({"model": model, "tensor_parallel_size": tensor_parallel_size, "seed": seed,
                               "gpu_memory_utilization": gpu_memory_utilization, "max_model_len": max_model_len,
                               "trust_remote_code": trust_remote_code})  # fmt: skip
            if tensor_parallel_size > torch.cuda.device_count() and tensor_parallel_size > 1:
                raise RuntimeError("World size exceeds the GPUs\nof this machine")
            self.net = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
            self.tokenizer = AutoTokenizer.from_pretrained(model)
            self.room = max_model_len or context

        def generate(self, prompts: Sequence[dict[str, list[int]]], sampling_params: Sequence[SamplingParams],
                     *, use_tqdm: bool = True) -> list[RequestOutput]:  # fmt: skip
            assert not use_tqdm and len(prompts) == len(sampling_params)
            pairs = [(prompt["prompt_token_ids"], wish) for prompt, wish in zip(prompts, sampling_params, strict=True)]
            calls.asked.append(pairs)
            return [self._answer(str(i), ids, wish) for i, (ids, wish) in enumerate(pairs)]

        def _answer(self, name: str, prompt: list[int], wish: SamplingParams) -> RequestOutput:
            if len(prompt) >= self.room:
                raise ValueError(f"The decoder prompt (length {len(prompt)}) is longer than the maximum model length")
            draw = torch.Generator().manual_seed(wish.seed or 0)
            ids: list[int] = []
            reason = "length"
            while len(ids) < (wish.max_tokens or 16) and len(prompt) + len(ids) < self.room:
                with torch.no_grad():
                    logits = self.net(torch.tensor([prompt + ids])).logits[0, -1]
                for i, bias in (wish.logit_bias or {}).items():
                    logits[i] += bias
                if wish.temperature > 0:
                    chosen = torch.multinomial((logits / wish.temperature).softmax(-1), 1, generator=draw)
                else:
                    chosen = logits.argmax()
                ids.append(int(chosen))
                text = self.tokenizer.decode(ids, skip_special_tokens=wish.skip_special_tokens)
                if ids[-1] in (wish.stop_token_ids or []) or any(stop in text for stop in wish.stop or []):
                    reason = "stop"
                    break
            output = CompletionOutput(0, text, ids, finish_reason=reason)
            return RequestOutput(name, None, prompt, [output], True)

    module = types.ModuleType("vllm")
    module.LLM, module.SamplingParams = LLM, SamplingParams  # type: ignore[attr-defined]
    module.__spec__ = types.SimpleNamespace(name="vllm")  # type: ignore[assignment]
    return module
