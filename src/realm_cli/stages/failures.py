"""Samples that there are not: rows beside the others, in words at the end, asked for again by the next run.

What a server did not give may come then. What cannot come (`lasting`: a prompt that is too long for the model) is left
out and told, and does not fail the stage, unless nothing else is left.

Usage: `failures = Failures(stage.path("errors.jsonl"))`; `failures.add(id, problem_id, source, sample, reason)`;
`failures.settle(have)`; then `failures.notes(again)`, or `failures.refuse(total, allowed, again)`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Sequence
from pathlib import Path

from realm_cli.artifacts import Appender, kept_rows, write_rows
from realm_cli.errors import EngineError
from realm_cli.records import FailedSample

SHORTER = (
    "shorten the question or the rules, show fewer or shorter routes (verify.k, eval.k, rollout.max_tokens), or take a "
    "model with a longer context"
)


class Failures:
    """Rows of one errors.jsonl, those of earlier runs included."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = {row.id: row for row in kept_rows(path, FailedSample)}
        self._runs = {name: row.runs for name, row in self.rows.items()}
        self._out: Appender | None = None

    def add(self, name: str, problem_id: str, source: str, sample: int, reason: str, *, lasting: bool = False) -> None:
        """One more, on the disk at once."""
        new = name not in self.rows
        runs = self._runs.get(name, 0) + 1
        self.rows[name] = FailedSample(
            id=name,
            problem_id=problem_id,
            source=source,
            sample=sample,
            reason=reason,
            runs=runs,
            lasting=lasting,
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

    @property
    def left_out(self) -> list[FailedSample]:
        """Those that cannot come."""
        return [row for row in self.rows.values() if row.lasting]

    def notes(self, again: str) -> list[str]:
        """A line on what failed and why, and one on what is left out; none where nothing is. again: how to ask more."""
        failed = [row for row in self.rows.values() if not row.lasting]
        said = [f"{_told(failed)} failed{_why(failed)}; {again} asks for them again ({self.path})"] if failed else []
        return [*said, *([self._left_out()] if self.left_out else [])]

    def refuse(self, total: int, allowed: float | None, again: str) -> None:
        """EngineError where more than the share `allowed` (None: any) of `total` samples failed; the rest is kept."""
        failed = [row for row in self.rows.values() if not row.lasting]
        if failed and len(failed) > (allowed or 0.0) * total:
            hint = "" if allowed is None else " (engine.server.max_failed: how many may fail)"
            if again_and_again := {row.problem_id for row in failed if row.runs > 1}:
                first = min(again_and_again)
                hint += f"; {len(again_and_again)} problems failed in an earlier run too, such as {first}: "
                hint += "mend the cause, or leave them out of the problems"
            raise EngineError(
                f"{self.path}: {_told(failed, total)} failed{_why(failed)}; the others are kept, {again} asks for "
                f"these again{hint}"
            )

    def refuse_nothing(self) -> None:
        """EngineError where some are left out; for a stage that is left with nothing."""
        if self.left_out:
            raise EngineError(f"{self.path}: {self._left_out()}")

    def _left_out(self) -> str:
        rows = self.left_out
        problems = dict.fromkeys(row.problem_id for row in rows)
        few = f"{_told(rows)} of {len(problems)} problems are left out, e.g. of {next(iter(problems))}"
        return f"{few}{_why(rows)}; {SHORTER}"


def pending(path: Path) -> bool:
    """Whether an errors.jsonl has samples that may still come."""
    return any(not row.lasting for row in kept_rows(path, FailedSample))


def _told(rows: Sequence[FailedSample], total: int | None = None) -> str:
    return f"{len(rows)}{'' if total is None else f' of {total}'} samples"


def _why(rows: Sequence[FailedSample]) -> str:
    like: dict[str, str] = {}  # told as the first one was
    for row in rows:
        like.setdefault(_kind(row.reason), row.reason)
    reasons = Counter(like[_kind(row.reason)] for row in rows).most_common()
    why = ", ".join(f"{n} x {reason}" for reason, n in reasons[:2])
    if len(reasons) > 2:
        why += f", {sum(n for _, n in reasons[2:])} for {len(reasons) - 2} other reasons"
    return f": {why}"


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
