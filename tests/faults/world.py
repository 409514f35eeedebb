"""What faults are done to: all stages of a small run, made once undisturbed, and how disturbed ones are compared."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = (
    "data.n_train=60", "data.n_dev=12", "data.n_test=24", "engine.threads=1", "distill.limit=20",
    "distill.sft.max_steps=8", "distill.sft.save_every=2", "distill.sft.micro_batch=4", "distill.sft.batch_size=4",
    "refine.n=2", "train_rl.steps=8", "train_rl.eaai_steps=6", "train_rl.groups_per_step=2", "train_rl.group_size=2",
    "train_rl.micro_tokens=2048", "train_rl.max_tokens=48", "train_rl.cache_tokens=8", "train_rl.eval_every=3",
    "train_rl.dev_limit=4", "train_rl.dev_routed=2", "train_rl.save_every=2", "train_rl.alarms.patience=0",
    "train_rl.preflight.groups=2", "train_rl.preflight.stop=false", "eval.max_tokens=40", "eval.bootstrap=200",
)  # fmt: skip
PATIENCE = 180.0  # seconds after which a command hangs
ADAPTER = "adapter/adapter_model.safetensors"


@dataclass(frozen=True)
class Stage:
    """words: the command. folder: of the run. by_rows, by_bytes: files that must be as undisturbed."""

    words: tuple[str, ...]
    folder: str
    by_rows: tuple[str, ...]
    by_bytes: tuple[str, ...]


STAGES = {
    "rollout": Stage(("rollout", "-m", "solver:hasty", "-m", "solver:forgetful", "--n", "6"), "rollout",
                     ("routes.jsonl",), ("problems.jsonl",)),
    "verify": Stage(("verify",), "verify", ("scored.jsonl", "sets.jsonl"), ("summary.json",)),
    "distill": Stage(("distill",), "distill", ("teacher.jsonl", "guided.jsonl"), ("sft.jsonl", ADAPTER)),
    "refine": Stage(("refine",), "refine", ("rollout/routes.jsonl", "distill/guided.jsonl"),
                    ("distill/sft.jsonl", f"distill/{ADAPTER}")),
    "train_rl": Stage(("train-rl",), "train_rl", ("plan.jsonl",),
                      ("samples.jsonl", "metrics.jsonl", ADAPTER, f"last_{ADAPTER}")),
    "eval": Stage(("eval", "--compare"), "eval", ("predictions.jsonl",), ("report.json",)),
}  # fmt: skip


@dataclass
class Outcome:
    """What happened in one or many tries of a fault. unexpected: exit codes, tracebacks and messages not promised."""

    tries: int = 0
    faults: int = 0
    lost: int = 0
    doubled: int = 0
    different: int = 0
    unexpected: int = 0
    codes: Counter[int] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def add(self, other: Outcome) -> None:
        """Count another outcome in."""
        for name in ("tries", "faults", "lost", "doubled", "different", "unexpected"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.codes.update(other.codes)
        self.notes += other.notes

    @property
    def bad(self) -> bool:
        """Whether anything is not as promised."""
        return bool(self.lost or self.doubled or self.different or self.unexpected)


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    err: str

    @property
    def line(self) -> str:
        """The last line on stderr."""
        return (self.err.strip().splitlines() or [""])[-1]


class World:
    """An undisturbed run in `work/whole`, copies of it up to a stage, and comparisons with it."""

    def __init__(self, work: Path) -> None:
        self.work, self.whole = work, work / "whole"
        self.seconds: dict[str, float] = {}

    def prepare(self, last: str) -> None:
        """Run all stages up to `last`."""
        for name in STAGES:
            begin = time.monotonic()
            done = self.run(name, self.whole)
            if done.code:
                raise SystemExit(f"{name}: the undisturbed run failed: {done.line}")
            self.seconds[name] = time.monotonic() - begin
            if name == last:
                break

    @contextmanager
    def before(self, name: str, place: Path | None = None) -> Iterator[Path]:
        """A run folder in which `name` is the next stage; removed at the end."""
        later = {s.folder for s in list(STAGES.values())[list(STAGES).index(name) :]}
        later |= {f".{folder}.lock" for folder in later}
        with tempfile.TemporaryDirectory(dir=place or self.work) as folder:
            run = Path(folder) / "whole"
            shutil.copytree(
                self.whole, run, ignore=lambda at, names: set(names) & later if at == str(self.whole) else ()
            )
            yield run

    def start(
        self, name: str, run: Path, *more: str, before: Callable[[], None] | None = None
    ) -> subprocess.Popen[str]:
        """The stage's command under way, resuming; stderr in a file beside the run."""
        resume = [] if name == "rollout" or "--force" in more else ["--resume"]  # a rollout goes on by itself
        pairs = [part for setting in SETTINGS for part in ("--set", setting)]
        verb, *options = STAGES[name].words
        words = [verb, "--recipe", "demo", "--run", run.name, *pairs, *options, *resume, *more]
        path = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")]))
        env = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, "-m", "realm_cli", *words]

        def child() -> None:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # a harness in the background would hand on that it is ignored
            if before is not None:
                before()

        with tempfile.TemporaryFile("w+", dir=self.work) as err:
            process = subprocess.Popen(
                command, env=env, cwd=run.parent, stdout=subprocess.DEVNULL, stderr=err, text=True, preexec_fn=child
            )
            process.err = os.fdopen(os.dup(err.fileno()), "r")  # type: ignore[attr-defined]
        return process

    def end(self, process: subprocess.Popen[str], seconds: float | None = None) -> Done:
        """Wait for it; one that never ends is killed and has code -9. subprocess.TimeoutExpired after `seconds`."""
        try:
            process.wait(seconds or PATIENCE)
        except subprocess.TimeoutExpired:
            if seconds:
                raise
            process.kill()
            process.wait()
        err = process.err  # type: ignore[attr-defined]
        err.seek(0)
        return Done(process.returncode, err.read())

    def run(self, name: str, run: Path, *more: str) -> Done:
        """The stage's command from begin to end."""
        return self.end(self.start(name, run, *more))

    def judge(self, name: str, run: Path, done: Done, out: Outcome, *, exact: bool = True) -> None:
        """Count a finished run in: its exit code, and what it left."""
        out.codes[done.code] += 1
        if done.code:
            out.unexpected += 1
            out.notes.append(f"{name}: exit {done.code}: {done.line}")
            return
        compare(name, self.whole / STAGES[name].folder, run / STAGES[name].folder, out, exact=exact)

    def expect(self, name: str, done: Done, out: Outcome, codes: Sequence[int], *, says: str = "") -> None:
        """Count a disturbed run in: its exit code must be one of `codes`, and 1 comes with one line of ours."""
        out.codes[done.code] += 1
        ours = done.code != 1 or (done.line.startswith("error: ") and says in done.line)
        if done.code not in codes or not ours or "Traceback" in done.err:
            out.unexpected += 1
            out.notes.append(f"{name}: exit {done.code}: {done.line}")


def compare(name: str, whole: Path, cut: Path, out: Outcome, *, exact: bool = True) -> None:
    """Rows by id (the order may differ), other files byte by byte; not exact: only which rows there are."""
    for file in STAGES[name].by_rows:
        want, found = rows(whole / file), rows(cut / file)
        have = Counter(row["id"] for row in found)
        known = {row["id"]: row for row in want}
        out.lost += sum(key not in have for key in known)
        out.doubled += sum(count - 1 for count in have.values())
        changed = [row["id"] for row in found if known.get(row["id"]) != row] if exact else []
        out.different += bool(changed)
        out.notes += [f"{name}/{file}: {len(changed)} rows differ, e.g. {changed[0]}"] if changed else []
    for file in STAGES[name].by_bytes if exact else ():
        if not (cut / file).exists() or (cut / file).read_bytes() != (whole / file).read_bytes():
            out.different += 1
            out.notes.append(f"{name}/{file} differs")


def rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
