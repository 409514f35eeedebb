"""Who still needs routes? The adaptive schedule and the per-problem gate, decided while training (method.md section 9).

    adaptive  every 10 steps  lambda <- clip(lambda - eta (A - low) / (high - low), 0, 1 - tau^4),
              A = EMA(bare) / max(EMA(routed), .05), the running success of bare and routed groups
    gate      routes only where the running bare success of this very problem is below `gate`
A plan is written before training and can be read. Steering only takes routes away from its rows, so `adaptive` is
planned with its envelope 1 - tau^4, and a row keeps its routes with chance lambda / envelope.

Usage: `row = steering.revise(row)` before a group is sampled, `steering.observe(samples)` after its step; what was
seen before an interruption is given to `observe` again, step by step. Kin: GHPO 2507.10628 (gate); the rule is ours.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from statistics import fmean

from realm_cli.method.eaai import lambda_at
from realm_cli.prompts import Style, bare_messages
from realm_cli.records import PlanRow, Sample

ETA, LOW, HIGH, EVERY = 0.05, 0.5, 0.9, 10
KEEP, KEEP_PROBLEM = 0.95, 0.5  # share of the old value in the running means, a group each
FLOOR = 0.05  # of the routed success in A


def next_lambda(lam: float, bare: float, routed: float, envelope: float) -> float:
    """One step of the adaptive rule; below A = low lambda rises again, but never above the envelope.

    >>> round(next_lambda(0.8, 0.7, 0.7, 0.9), 4), round(next_lambda(0.8, 0.1, 0.8, 0.9), 4)
    (0.7375, 0.8469)
    """
    autonomy = bare / max(routed, FLOOR)
    return min(max(lam - ETA * (autonomy - LOW) / (HIGH - LOW), 0.0), envelope)


class Steering:
    """State of the rule and the gate. gate None: no gate; any schedule but `adaptive`: lambda is the plan's."""

    def __init__(
        self, *, schedule: str, fade_steps: int, gate: float | None, questions: dict[str, str], style: Style, seed: int
    ) -> None:
        self.adaptive, self.fade_steps, self.gate = schedule == "adaptive", fade_steps, gate
        self.questions, self.style, self.seed = questions, style, seed
        self.lam = 1.0
        self.bare: float | None = None
        self.routed: float | None = None
        self.problems: dict[str, float] = {}
        self._begun = -1

    def revise(self, row: PlanRow) -> PlanRow:
        """The row as it is to be sampled: its routes may be gone, `lam` is the current one."""
        if self.adaptive:
            self._begin(row.step)
            envelope, row = row.lam, row.model_copy(update={"lam": min(self.lam, row.lam)})
            if row.routed and envelope > 0:
                draw = random.Random(f"{self.seed}/{row.id}/steering").random()
                if draw >= row.lam / envelope:
                    return self.without_routes(row)
        known = self.problems.get(row.problem_id)
        if row.routed and self.gate is not None and known is not None and known >= self.gate:
            return self.without_routes(row)
        return row

    def observe(self, samples: Sequence[Sample]) -> None:
        """Take in the samples of one step."""
        groups: dict[str, list[Sample]] = {}
        for sample in samples:
            groups.setdefault(sample.plan_id, []).append(sample)
        if samples and self.adaptive:
            self._begin(samples[0].step)
        for group in groups.values():
            success, problem = fmean(sample.r_ans for sample in group), group[0].problem_id
            if group[0].routed:
                self.routed = _mix(self.routed, success, KEEP)
            else:
                self.bare = _mix(self.bare, success, KEEP)
                self.problems[problem] = _mix(self.problems.get(problem), success, KEEP_PROBLEM)

    def _begin(self, step: int) -> None:
        """Update lambda once for each multiple of EVERY up to this step."""
        for at in range(self._begun + 1, step + 1):
            envelope = lambda_at("adaptive", at, self.fade_steps)
            if at and at % EVERY == 0 and self.bare is not None and self.routed is not None:
                self.lam = next_lambda(self.lam, self.bare, self.routed, envelope)
            self.lam = min(self.lam, envelope)
        self._begun = max(self._begun, step)

    def without_routes(self, row: PlanRow) -> PlanRow:
        """The same row as a bare one."""
        empty: dict[str, object] = {key: [] for key in ("shown", "shown_steps", "cut", "verdicts", "first_errors")}
        messages = bare_messages(self.questions[row.problem_id], self.style)
        plain = {"routed": False, "set_id": None, "answers_hidden": False, "messages": messages}
        return row.model_copy(update={**empty, **plain})


def _mix(old: float | None, new: float, keep: float) -> float:
    return new if old is None else keep * old + (1 - keep) * new
