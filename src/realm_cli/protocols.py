"""The seams between stages and engines: small protocols over stdlib types and our rows.

Stages (torch-free) receive objects that fulfil these; engines (torch, trl, servers) provide them; tests inject fakes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from realm_cli.errors import TooLong
from realm_cli.records import Message, PlanRow, Problem, Sample, SFTSample


@dataclass(frozen=True)
class SamplingParams:
    """How to sample. temperature 0 = greedy. `seed` is mixed with each request's key and the sample index."""

    max_tokens: int = 256
    temperature: float = 0.7
    top_p: float = 1.0
    top_k: int = 0  # 0 = off
    min_p: float = 0.0
    seed: int = 0
    stop: tuple[str, ...] = ()

    def seed_of(self, key: str, sample: int) -> int:
        """A sample's own seed of 31 bits, for engines that take one: from the seed, the request's key and its index."""
        digest = hashlib.sha256(f"{self.seed}\0{key}\0{sample}".encode()).digest()
        return int.from_bytes(digest[:4], "little") >> 1


@dataclass(frozen=True)
class GenRequest:
    """`n` completions of one prompt. `key` names the request in seeds; program engines read `problem`.

    prefill: the beginning of the answer, which the completions continue; only local models do that.
    """

    key: str
    messages: Sequence[Message]
    n: int = 1
    problem: Problem | None = None
    first_sample: int = 0  # index of the first sample, for continued work and seeds
    prefill: str = ""


@dataclass(frozen=True)
class Completion:
    """Sampled text without the end-of-turn token. `logprobs` (nats, one per sampled token) where known.

    failure: why there is no text: a server gave none, or the prompt is too long. lasting: asking again fails as well.
    """

    text: str
    n_tokens: int = 0
    truncated: bool = False
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    failure: str = ""
    lasting: bool = False


class Generator(Protocol):
    """Anything that completes prompts: a local model, a server, a program, written text."""

    @property
    def name(self) -> str:
        """Source label written to artifacts, e.g. `hf:tiny-student`."""

    def generate(
        self, requests: Sequence[GenRequest], params: SamplingParams
    ) -> Iterator[tuple[int, list[Completion]]]:
        """Yield (request index, its n completions) as they finish, in any order. Raises EngineError.

        A prompt that is too long for the model is a lasting failure; TooLong, before anything else, where all are.
        """


def sampled(
    generator: Generator, requests: Sequence[GenRequest], params: SamplingParams
) -> Iterator[tuple[int, list[Completion]]]:
    """What `generator.generate` yields; a failure for each, where all of them are too long for it."""
    try:
        yield from generator.generate(requests, params)
    except TooLong as error:  # said before anything is yielded
        refused = Completion("", truncated=True, failure=error.reason, lasting=True)
        yield from ((i, [refused] * request.n) for i, request in enumerate(requests))


@runtime_checkable
class Replay(Protocol):
    """A Generator of written text, which has texts of some problems only."""

    def expect(self, problem_ids: Sequence[str]) -> None:
        """DataError where it has none of any of these: all that a stage works on, also those done before."""

    def most(self, problem_ids: Sequence[str]) -> int:
        """The most texts that it has of one of these problems."""


class NllScorer(Protocol):
    """Scores text under a model (used by the hard-to-imitate filter and the belief probe)."""

    def nll(self, pairs: Sequence[tuple[Sequence[Message], str]], prefills: Sequence[str] = ()) -> list[float]:
        """Mean negative log-likelihood per completion token (nats) for each (messages, completion); nan where these are
        longer than the model. TooLong where all are.

        prefills: one a pair, the beginning of the answer that the completion continues, itself not scored.
        """


@dataclass(frozen=True)
class TrainResult:
    """What a trainer leaves: where the adapter is, and the last metrics."""

    adapter_dir: Path
    steps: int
    metrics: Mapping[str, float] = field(default_factory=dict)


class Progress(Protocol):
    """Shows long work: `with progress("rollout", total) as advance: advance(1, "note")`."""

    def __call__(self, label: str, total: int | None) -> AbstractContextManager[Callable[[int, str], None]]:
        """A bar with ETA for `total` units; `advance(n, note)` moves it."""


MetricSink = Callable[[dict[str, Any]], None]


class SftTrainer(Protocol):
    """Fine-tunes an adapter on completions. `config` is the recipe's DistillConfig.sft block."""

    def train(
        self,
        samples: Sequence[SFTSample],
        *,
        out_dir: Path,
        on_metrics: MetricSink,
        resume: bool = False,
        in_order: bool = False,
    ) -> TrainResult:
        """Train and save `out_dir/adapter_model.safetensors`. in_order: once over the samples, as they come."""


@dataclass(frozen=True)
class Scored:
    """A completion's row and what the bridge learns from it: `bridge_text` is the own solution ("" = left out).

    token_ids, logprobs: of the whole completion as sampled, for the bridge's importance ratio.
    """

    sample: Sample
    bridge_text: str = ""
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()


@dataclass(frozen=True)
class Member:
    """An external route beside a bare group: a bare completion, or its beginning (`whole` False: it does not end).

    The loss leaves the first `start` characters out, and weighs the others by `weight`.
    """

    text: str
    start: int
    weight: float
    whole: bool


def teaches(scored: Iterable[Scored], members: Sequence[Member] = ()) -> bool:
    """Whether a group teaches anything: some weight of its loss is not 0 (method.md section 10). All else asks this.

    policy: A_i of each completion that was not cut off (the token signal multiplies it by .5 to 1.5, never by 0).
    bridge: w_j of each own solution (9.1; 0 where the bridge is off). members: A_r of external routes beside a bare
    group (9.1; empty where they are off). The KL weight is no term of these: it holds the policy where it began.
    """
    live = [one.sample for one in scored if not one.sample.truncated]
    own = any(sample.advantage != 0 or sample.bridge_weight != 0 for sample in live)
    return own or any(member.weight != 0 for member in members)


@dataclass(frozen=True)
class Contrast:
    """Prompts beside a right route and beside wrong ones, and what a token's advantage is multiplied by.

    weigh: (advantage, log-probabilities (T) with the right route, (J x T) with each wrong one) -> T factors.
    """

    right: Sequence[Message]
    wrong: Sequence[Sequence[Message]]
    weigh: Callable[[float, Sequence[float], Sequence[Sequence[float]]], list[float]]


@dataclass(frozen=True)
class RlJob:
    """Everything an RL engine needs, with the method passed in as plain functions.

    plan: rows of all steps, ordered by (step, slot), `groups_per_step` rows a step.
    revise: plan row -> the row as it is sampled, called in order, once a group, when its step begins.
    score: (plan row, G completions) -> G Scored, advantages and bridge weights included.
    bare_messages: problem id -> messages of the bare prompt (for the bridge).
    spares: step -> rows that are sampled in place of groups that teach nothing.
    members: (bare plan row, its Scored) -> external routes that join the group's loss (method/members.py).
    contrast: plan row -> what the token signal of its samples is read from, or None.
    without_routes: plan row -> the same row bare, for prompts that are too long for the model.
    on_samples / on_metrics: called once a step. evaluate: (generator, step) -> dev metrics with key `dev_bare`;
    called every `eval_every` steps and at the end; the best `dev_bare` adapter is kept.
    """

    plan: Sequence[PlanRow]
    steps: int
    groups_per_step: int
    group_size: int
    score: Callable[[PlanRow, Sequence[Completion]], list[Scored]]
    bare_messages: Callable[[str], Sequence[Message]]
    on_samples: Callable[[Sequence[Sample]], None]
    on_metrics: MetricSink
    evaluate: Callable[[Generator, int], dict[str, float]]
    eval_every: int
    out_dir: Path
    resume: bool = False
    revise: Callable[[PlanRow], PlanRow] = lambda row: row
    spares: Mapping[int, Sequence[PlanRow]] = field(default_factory=dict)
    members: Callable[[PlanRow, Sequence[Scored]], Sequence[Member]] = lambda row, scored: ()
    contrast: Callable[[PlanRow], Contrast | None] = lambda row: None
    without_routes: Callable[[PlanRow], PlanRow] = lambda row: row


@dataclass(frozen=True)
class Probe:
    """What the policy does before training: G completions a row, as a step would sample them.

    gap: mean difference of the log-probabilities of sampler and trainer, nats a token; None where nothing is complete.
    ended: share of the complete ones whose last trained token is one that ends sampling (else the model never learns
    to stop).
    """

    completions: Sequence[Sequence[Completion]]
    gap: float | None = None
    ended: float | None = None


class RlTrainer(Protocol):
    """Runs GRPO over a plan and saves the best-bare adapter to `job.out_dir`."""

    def probe(self, rows: Sequence[PlanRow], group_size: int) -> Probe:
        """Sample these rows without training; later draws are not changed by it. EngineError."""

    def train(self, job: RlJob) -> TrainResult:
        """Train; `job.out_dir/adapter_model.safetensors` is the checkpoint with the best bare dev accuracy."""


@dataclass(frozen=True)
class ModelShape:
    """What a model's memory follows from. Counts are numbers of values.

    linear: weights of the linear layers, which NF4 packs; other: embeddings, norms and head (tied ones once).
    lora_width: sum of inputs and outputs of the linear layers, so that LoRA of rank r has r * lora_width weights.
    file_bytes: weights as they lie on disk; 0 = not here yet.
    """

    label: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    intermediate: int
    vocab: int
    positions: int
    linear: int
    other: int
    lora_width: int
    file_bytes: int = 0

    @property
    def parameters(self) -> int:
        """All weights."""
        return self.linear + self.other


@dataclass(frozen=True)
class Speeds:
    """Tokens a second that a short trial measured: sampled (all rows together), and trained (forward and backward)."""

    sampled: float
    trained: float
