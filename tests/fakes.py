"""Stand-ins for the engines, fulfilling protocols.py without torch.

Usage: `from fakes import ScriptedGenerator`; `ScriptedGenerator({"p1": ["<answer>4</answer>"]})`.
"""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from realm_cli.method import checks
from realm_cli.protocols import (
    Completion,
    Generator,
    GenRequest,
    MetricSink,
    Probe,
    RlJob,
    SamplingParams,
    TrainResult,
)
from realm_cli.records import Message, PlanRow, SFTSample

Script = Mapping[str, Sequence[str]]


@dataclass
class ScriptedGenerator:
    """Replays given texts. `script` is looked up by request key, then by problem id, then under "*".

    Sample i (counted from `first_sample`) gets text i modulo the number of texts; a callable gets (request, i)
    instead. Unknown keys are an error that names the key. A text of more than `max_tokens` words is cut and marked as
    truncated, as a model's would be. `asked` keeps the requests, `calls` the sampling parameters of every call.
    `fail_after`: raise KeyboardInterrupt before the request of that index, as Ctrl-C would.
    """

    script: Script | Callable[[GenRequest, int], str]
    name: str = "scripted"
    fail_after: int | None = None
    asked: list[GenRequest] = field(default_factory=list)
    calls: list[SamplingParams] = field(default_factory=list)

    def generate(
        self, requests: Sequence[GenRequest], params: SamplingParams
    ) -> Iterator[tuple[int, list[Completion]]]:
        """Yield (request index, n completions) in order."""
        self.calls.append(params)
        for index, request in enumerate(requests):
            if self.fail_after is not None and len(self.asked) >= self.fail_after:
                raise KeyboardInterrupt
            self.asked.append(request)
            samples = range(request.first_sample, request.first_sample + request.n)
            yield index, [self._complete(request, i, params.max_tokens) for i in samples]

    def _complete(self, request: GenRequest, sample: int, max_tokens: int) -> Completion:
        if callable(self.script):
            text = self.script(request, sample)
        else:
            names = [request.key, request.problem.id if request.problem else "", "*"]
            found = next((name for name in names if name in self.script), None)
            if found is None:
                raise KeyError(f"no scripted completion for {names[:2]}")
            texts = self.script[found]
            text = texts[sample % len(texts)]
        words = text.split()
        cut = len(words) > max_tokens
        return Completion(" ".join(words[:max_tokens]) if cut else text, min(len(words), max_tokens), cut)


@dataclass
class FakeNll:
    """Gives every pair the value of `value(messages, completion)`; the default is the completion's length in words."""

    value: Callable[[Sequence[Message], str], float] = lambda messages, completion: float(len(completion.split()))

    def nll(self, pairs: Sequence[tuple[Sequence[Message], str]], prefills: Sequence[str] = ()) -> list[float]:
        """One number per pair; `value` gets the prefill in front of the completion."""
        given = prefills or [""] * len(pairs)
        return [self.value(messages, before + text) for (messages, text), before in zip(pairs, given, strict=True)]


@dataclass
class FakeSftTrainer:
    """Keeps the samples, reports a falling loss for `steps` steps and leaves an adapter."""

    steps: int = 2
    samples: list[SFTSample] = field(default_factory=list)
    resumed: bool = False
    in_order: bool = False

    def train(
        self,
        samples: Sequence[SFTSample],
        *,
        out_dir: Path,
        on_metrics: MetricSink,
        resume: bool = False,
        in_order: bool = False,
    ) -> TrainResult:
        """One metrics row a step (1-based), then the adapter."""
        self.samples, self.resumed, self.in_order = list(samples), resume, in_order
        for step in range(1, self.steps + 1):
            on_metrics({"step": step, "loss": 1.0 / step})
        write_adapter(out_dir)
        return TrainResult(out_dir, self.steps, {"loss": 1.0 / self.steps})


@dataclass
class FakeRlTrainer:
    """Goes through a plan in the order of the real engine, with `generator` in place of the policy.

    First `evaluate(generator, 0)` and metrics of step 0; then per step t = 1, 2, ...: sample, score, `on_samples`,
    `evaluate` every `eval_every` steps and at the last, `on_metrics` with both. The adapter of the best `dev_bare`
    is kept, the later of equals. It asks for the bare prompt of every completion with a bridge weight. Where it
    stopped is written beside `out_dir`; with `resume` it goes on there, after metrics with `resumed_from`.
    `fail_after`: raise KeyboardInterrupt after that many steps.
    """

    generator: Generator
    fail_after: int | None = None
    bridged: list[tuple[str, str]] = field(default_factory=list)  # (problem id, own solution) of bridge targets
    evaluated: list[int] = field(default_factory=list)
    jobs: list[RlJob] = field(default_factory=list)
    extra: dict[str, float] = field(default_factory=dict)  # further metrics of every step
    gap: float | None = 0.0
    ended: float | None = 1.0
    best: dict[str, float] = field(default_factory=lambda: {"dev_bare": -1.0, "best_step": 0})

    def probe(self, rows: Sequence[PlanRow], group_size: int) -> Probe:
        """Completions of `generator`, and the `gap` and `ended` that it was given."""
        requests = [GenRequest(row.id, row.messages, n=group_size) for row in rows]
        groups = dict(self.generator.generate(requests, SamplingParams()))
        return Probe([groups[i] for i in range(len(rows))], self.gap, self.ended)

    def train(self, job: RlJob) -> TrainResult:
        """Run `job` and leave an adapter; the result's metrics are those of the last step."""
        self.jobs.append(job)
        state = job.out_dir.parent / "fake_state.json"
        done = 0
        if job.resume and state.exists():
            done, self.best = json.loads(state.read_text(encoding="utf-8"))
            job.on_metrics({"step": done, "resumed_from": done, "best_step": self.best["best_step"]})
        else:
            job.on_metrics({"step": 0, **self._evaluate(job, 0)})
        row: dict[str, float] = {}
        for index, rows in groupby(job.plan, key=lambda row: row.step):
            step = index + 1
            if step <= done:
                continue
            if self.fail_after is not None and step > self.fail_after:
                raise KeyboardInterrupt
            row = {"step": step, "reward": self._step(job, list(rows)), **self.extra}
            if step % job.eval_every == 0 or step == job.steps:
                row |= self._evaluate(job, step)
            row["best_step"] = self.best["best_step"]
            job.on_metrics(dict(row))
            state.write_text(json.dumps([step, self.best]), encoding="utf-8")
        return TrainResult(job.out_dir, job.steps, row)

    def _evaluate(self, job: RlJob, step: int) -> dict[str, float]:
        self.evaluated.append(step)
        metrics = job.evaluate(self.generator, step)
        if metrics["dev_bare"] >= self.best["dev_bare"]:
            self.best = {"dev_bare": metrics["dev_bare"], "best_step": step}
            write_adapter(job.out_dir)
        return dict(metrics)

    def _step(self, job: RlJob, rows: Sequence[PlanRow]) -> float:
        rows = [job.revise(row) for row in rows]
        requests = [GenRequest(row.id, row.messages, n=job.group_size) for row in rows]
        groups = dict(self.generator.generate(requests, SamplingParams()))
        samples = []
        for index, row in enumerate(rows):
            for scored in job.score(row, groups[index]):
                samples.append(scored.sample)
                if scored.sample.bridge_weight > 0 and scored.bridge_text and job.bare_messages(row.problem_id):
                    self.bridged.append((row.problem_id, scored.bridge_text))
        job.on_samples(samples)
        return sum(sample.reward for sample in samples) / len(samples)


def write_adapter(folder: Path) -> None:
    """A well-formed safetensors file with one number in it, and an adapter_config.json beside it."""
    header = json.dumps({"lora_A.weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    folder.mkdir(parents=True, exist_ok=True)
    weights = struct.pack("<Q", len(header)) + header + struct.pack("<f", 0.0)
    (folder / "adapter_model.safetensors").write_bytes(weights)
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}\n', encoding="utf-8")


@contextmanager
def no_progress(label: str, total: int | None) -> Iterator[Callable[[int, str], None]]:
    """A Progress that shows nothing."""

    def advance(n: int, note: str = "") -> None:
        pass

    yield advance


@contextmanager
def installed_checker(folder: Path, code: str, entry_points: str) -> Iterator[None]:
    """An installed package whose module `a_checker` is `code`, for answer types plugged in as `name = a_checker:f`."""
    info = folder / "a_checker-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "a_checker.py").write_text(code, encoding="utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: a-checker\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[realm_cli.checkers]\n{entry_points}\n", encoding="utf-8")
    sys.path.insert(0, str(folder))
    _forget_checkers()
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        _forget_checkers()


def _forget_checkers() -> None:
    checks.plugins.cache_clear()
    checks._load.cache_clear()
    sys.modules.pop("a_checker", None)
