"""Blocks of a recipe that say how things run (recipe.py holds the others).

They change nothing of what is made, but for `extra`, `omit` and `reasoning` of the servers: `SAMPLING`.
"""

from __future__ import annotations

import json
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator


class Block(BaseModel):
    """Frozen, complete, typed; an unknown key is an error, and so are NaN and infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class AlarmsConfig(Block):
    """When a run says that it goes wrong, and stops (stages/alarms.py)."""

    window: int = Field(10, ge=1)  # steps that means are taken over
    patience: int = Field(50, ge=0)  # steps that an alarm may hold before the run stops; 0 = never stop
    truncated: float = Field(0.5, ge=0, le=1)
    form: float = Field(0.05, ge=0, le=1)
    verdicts: float = Field(0.02, ge=0, le=0.5)  # fewer than this share of one kind
    length: float = Field(3.0, ge=1)
    gap: float = Field(0.1, gt=0)  # nats a token
    spike: float = Field(50.0, gt=1)
    bare_drop: float = Field(0.05, ge=0)  # below the best so far; dev accuracy of 200 problems varies by 0.03


class PreflightConfig(Block):
    """What is tried before the first step of RL (stages/preflight.py); its other limits are those of the alarms."""

    groups: int = Field(16, ge=0)  # groups sampled for it; 0 = no pre-flight
    zero_variance: float = Field(0.9, ge=0, le=1)  # warn where a larger share of groups teaches nothing
    stop: bool = True  # do not start where no group has, or every completion is cut off


SAMPLING = (
    "extra",
    "omit",
    "reasoning",
)  # keys of ServerConfig that change what a server writes, or what is kept of it
_OWN = {
    "model": "the model's name says it",
    "messages": "realm writes the prompts",
    "n": "each request asks for one sample; the stages have n",
    "seed": "every sample has its own, and with one they would be alike",
}
_SECRET = ("api_key", "apikey", "api-key", "authorization", "password", "secret", "access_token")


class ServerConfig(Block):
    """How servers are asked (`openai:` models and teachers). A budget is that of one command."""

    concurrency: int = Field(8, ge=1)  # requests at a time
    retries: int = Field(6, ge=0)  # of a request that failed
    timeout: float = Field(600.0, gt=0)  # seconds for one whole answer
    max_requests: int | None = Field(None, ge=1)  # retries count
    max_tokens: int | None = Field(None, ge=1)  # of prompts and answers, as the server counts them
    max_failed: float = Field(0.0, ge=0, le=1)  # share of samples that may fail in a stage that still ends well
    reasoning: Literal["think", "drop"] = "think"  # a thought beside the answer: in front as <think>, or left out
    empty: Literal["fail", "keep"] = "fail"  # an answer without a word: asked for again, or the model's own wrong one
    extra: dict[str, JsonValue] = {}  # more fields of every request, e.g. {reasoning_effort: low}; they win over ours
    omit: list[Literal["max_tokens", "temperature", "top_p", "seed", "stop", "top_k", "min_p"]] = []  # never sent

    @field_validator("extra")
    @classmethod
    def _not_ours(cls, extra: dict[str, JsonValue]) -> dict[str, JsonValue]:
        for name in extra:
            if name in _OWN:
                raise ValueError(f"{name} cannot be set: {_OWN[name]}")
            if name.lower() in _SECRET:
                raise ValueError(f"{name} would be written to files; leave it out and set REALM_API_KEY")
        json.dumps(extra, allow_nan=False)  # ValueError for infinity
        return extra


class VllmConfig(Block):
    """How vLLM samples frozen models in this process (`vllm:` models and teachers)."""

    tensor_parallel: int = Field(1, ge=1)  # GPUs that share one model
    gpu_memory: float = Field(0.8, gt=0, le=1)  # share of each GPU's memory that vLLM takes
    context: int | None = Field(None, ge=1)  # tokens of prompt and answer together; null = what the model has
    batch: int = Field(2048, ge=1)  # samples asked for at once; an interrupt loses at most those


class EngineConfig(Block):
    """How models run."""

    shared_prefix: Literal["auto", "off"] = "auto"  # compute a prompt once for all its completions; off: once for each
    batch_rows: int = Field(64, ge=1)  # completions decoded together, at most
    kv_gib: float = Field(4.0, gt=0)  # memory for keys and values while sampling; fewer rows where it does not suffice
    threads: int = Field(0, ge=0)  # 0 = the library's default
    device: Literal["auto", "cpu", "cuda"] = "auto"
    server: ServerConfig = ServerConfig()
    vllm: VllmConfig = VllmConfig()


class ChecksConfig(Block):
    """Answer checks that run in a process of their own: Math-Verify and plug-ins."""

    timeout: float = Field(5.0, gt=0)  # seconds; a check that takes longer is stopped and counts as wrong
    memory_gib: float = Field(4.0, gt=0)  # address space of that process
    workers: int = Field(0, ge=0)  # processes that score routes in `verify`; 0 = one per core
