"""What a stage that trains is doing now, read from the files that it writes.

Usage: `watch = Watch(run / "train_rl"); watch.poll(); watch.step, watch.eta()`

The files are the interface: the same view stands beside a run that works, in another terminal, or after its end. A file
that became shorter (a run that went on from a checkpoint drops what it does again) is read anew.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from realm_cli.errors import Alarm
from realm_cli.recipe import load_recipe
from realm_cli.stages.alarms import Alarms

WINDOW = 20  # steps that speeds and shares of time are taken over
TAIL = 1 << 16  # bytes of samples.jsonl that are looked at when it is opened
PARTS = ("sample", "score", "update", "eval")  # of a step's time


class Tail:
    """Whole lines that a growing JSONL file got since the last look; broken ones are skipped.

    last: begin this many bytes before the end. restarted: the file was cut, its rows come again.
    """

    def __init__(self, path: Path, last: int | None = None) -> None:
        self.path, self.restarted = path, False
        self._at = max(0, self._size() - last) if last is not None else 0
        self._inside = self._at > 0  # of a line

    def _size(self) -> int:
        try:
            return self.path.stat().st_size
        except OSError:
            return 0

    def rows(self) -> Iterator[dict[str, Any]]:
        """New rows, oldest first."""
        size = self._size()
        self.restarted = size < self._at
        if self.restarted:
            self._at, self._inside = 0, False
        if size <= self._at:
            return
        with self.path.open("rb") as file:
            file.seek(self._at)
            text = file.read(size - self._at)
        whole, _, _ = text.rpartition(b"\n")
        if not whole:
            return
        self._at += len(whole) + 1
        lines = whole.split(b"\n")
        for line in lines[1:] if self._inside else lines:
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(row, dict):
                yield row
        self._inside = False


class Watch:
    """The newest state of distill or train_rl in a run.

    curve: {step: dev metrics}. latest: the newest step's metrics, without times. sample: the newest completion's row.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._metrics = Tail(folder / "metrics.jsonl")
        self._timing = Tail(folder / "timing.jsonl")
        self._samples = Tail(folder / "samples.jsonl", last=TAIL)
        self._clear()

    def _clear(self) -> None:
        self.step, self.total, self.tokens = 0, 0, 0.0
        self.latest: dict[str, Any] = {}
        self.curve: dict[int, dict[str, float]] = {}
        self.sample: dict[str, Any] = {}
        self._times: deque[dict[str, float]] = deque(maxlen=WINDOW)
        self._recent: deque[float] = deque(maxlen=WINDOW)  # tokens sampled in a step

    def poll(self) -> list[dict[str, Any]]:
        """Read what is new; returns the new metrics rows."""
        rows = list(self._metrics.rows())
        if self._metrics.restarted:
            self._clear()
        for row in rows:
            self._take(row)
        for row in self._timing.rows():
            times = {part: _number(row.get(f"seconds_{part}")) for part in PARTS}
            if times["update"]:
                self._times.append(times)
        for row in self._samples.rows():
            self.sample = row
        return rows

    def _take(self, row: dict[str, Any]) -> None:
        self.step = int(_number(row.get("step")))
        self.total = int(_number(row.get("total_steps"))) or self.total
        if "dev_bare" in row:
            self.curve[self.step] = {k: _number(v) for k, v in row.items() if k.startswith("dev_")}
        if "loss" in row:
            self.latest = row
            self.tokens += _number(row.get("tokens_sampled"))
            self._recent.append(_number(row.get("tokens_sampled")))

    def shares(self) -> dict[str, float]:
        """Parts of the last steps' time; {} before there is any."""
        sums = {part: sum(times[part] for times in self._times) for part in PARTS}
        total = sum(sums.values())
        return {part: seconds / total for part, seconds in sums.items() if seconds} if total else {}

    def seconds_per_step(self) -> float | None:
        """Mean over the last steps."""
        if not self._times:
            return None
        return sum(sum(times.values()) for times in self._times) / len(self._times)

    def eta(self) -> float | None:
        """Seconds to the last step, as the last steps went."""
        each = self.seconds_per_step()
        return None if each is None or not self.total else each * max(0, self.total - self.step)

    def tokens_per_second(self) -> float | None:
        """Sampled tokens by the whole time of the last steps."""
        each = self.seconds_per_step()
        return sum(self._recent) / len(self._recent) / each if each and any(self._recent) else None

    def best(self) -> tuple[int, float] | None:
        """(step, bare dev accuracy) of the best measured one, the first of equal ones."""
        found = [(step, row["dev_bare"]) for step, row in self.curve.items() if "dev_bare" in row]
        return max(found, key=lambda pair: pair[1]) if found else None


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and value == value else 0.0


def newest(run: Path, stages: Sequence[str]) -> Path | None:
    """The folder of the stage that wrote its metrics last; None where none has."""
    found = [run / stage for stage in stages if (run / stage / "metrics.jsonl").is_file()]
    return max(found, key=lambda folder: (folder / "metrics.jsonl").stat().st_mtime, default=None)


def past_alarms(folder: Path, last: int = 3) -> list[str]:
    """The last alarms of a train_rl folder's metrics; none where its recipe is gone."""
    path = folder / "recipe.json"
    if folder.name != "train_rl" or not path.is_file():
        return []
    config = load_recipe(path, []).train_rl.alarms.model_copy(update={"patience": 0})
    alarms, said = Alarms(config), list[str]()
    for row in Tail(folder / "metrics.jsonl").rows():
        try:
            said += alarms.see(row)
        except Alarm as error:
            said.append(str(error))
    return said[-last:]
