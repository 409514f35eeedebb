"""Samples that a server did not give: rows beside the others, in words at the end, asked for again by the next run.

Usage: `failures = Failures(stage.path("errors.jsonl"))`; `failures.add(id, problem_id, source, sample, reason)`;
`failures.settle(have)`; then `failures.notes(again)`, or `failures.refuse(total, allowed, again)`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container
from pathlib import Path

from realm_cli.artifacts import Appender, kept_rows, write_rows
from realm_cli.errors import EngineError
from realm_cli.records import FailedSample


class Failures:
    """Rows of one errors.jsonl, those of earlier runs included."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = {row.id: row for row in kept_rows(path, FailedSample)}
        self._runs = {name: row.runs for name, row in self.rows.items()}
        self._out: Appender | None = None

    def add(self, name: str, problem_id: str, source: str, sample: int, reason: str) -> None:
        """One more, on the disk at once."""
        new = name not in self.rows
        runs = self._runs.get(name, 0) + 1
        self.rows[name] = FailedSample(
            id=name, problem_id=problem_id, source=source, sample=sample, reason=reason, runs=runs
        )
        if new:
            self._out = self._out or Appender(self.path)
            self._out.add(self.rows[name])

    def settle(self, have: Container[str]) -> None:
        """Leave only what is still missing."""
        if self._out is not None:
            self._out.close()
            self._out = None
        if not self.rows:
            return
        self.rows = {name: row for name, row in self.rows.items() if name not in have}
        if self.rows:
            write_rows(self.path, self.rows.values())
        else:
            self.path.unlink(missing_ok=True)

    def notes(self, again: str) -> list[str]:
        """One line on what failed and why, none where nothing did. again: how to ask once more."""
        if not self.rows:
            return []
        return [f"{self._told()}; {again} asks for them again ({self.path})"]

    def refuse(self, total: int, allowed: float | None, again: str) -> None:
        """EngineError where more than the share `allowed` (None: any) of `total` samples failed; the rest is kept."""
        if self.rows and len(self.rows) > (allowed or 0.0) * total:
            hint = "" if allowed is None else " (engine.server.max_failed: how many may fail)"
            if again_and_again := {row.problem_id for row in self.rows.values() if row.runs > 1}:
                first = min(again_and_again)
                hint += f"; {len(again_and_again)} problems failed in an earlier run too, such as {first}: "
                hint += "mend the cause, or leave them out of the problems"
            raise EngineError(
                f"{self.path}: {self._told(total)}; the others are kept, {again} asks for these again{hint}"
            )

    def _told(self, total: int | None = None) -> str:
        like: dict[str, str] = {}  # told as the first one was
        for row in self.rows.values():
            like.setdefault(_kind(row.reason), row.reason)
        reasons = Counter(like[_kind(row.reason)] for row in self.rows.values()).most_common()
        of = f" of {total}" if total is not None else ""
        why = ", ".join(f"{n} x {reason}" for reason, n in reasons[:2])
        if len(reasons) > 2:
            why += f", {sum(n for _, n in reasons[2:])} for {len(reasons) - 2} other reasons"
        return f"{len(self.rows)}{of} samples failed: {why}"


def _kind(reason: str) -> str:
    """A reason without what a server says of one request: how many tokens it has, which id."""
    what, mark, said = reason.partition("(")
    return what + mark + " ".join("#" if any(c.isdigit() for c in word) else word for word in said.split())


def gaps(have: Container[int], want: int) -> list[tuple[int, int]]:
    """(first, n) of the runs of samples 0 .. want-1 that are missing."""
    out: list[tuple[int, int]] = []
    for sample in range(want):
        if sample in have:
            continue
        if out and sum(out[-1]) == sample:
            out[-1] = (out[-1][0], out[-1][1] + 1)
        else:
            out.append((sample, 1))
    return out
