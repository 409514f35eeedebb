"""A dead run must not look alive: what RL's metrics are watched for, and what to do about it.

    alarm      when (means over `window` steps)                              advice
    truncated  more than `truncated` of the completions hit the limit        more tokens, or shorter solutions first
    dead       no group taught anything (protocols.teaches)                  other problems, warmer sampling
    form       fewer than `form` of the bare answers have the asked form     distillation first
    verdicts   nearly all routes are called right, or nearly all wrong       smaller verdict reward, better sets
    length     bare completions `length` times as long as at first           more p_len, fewer tokens
    gap        sampler and trainer differ by more than `gap` nats a token    engine.shared_prefix=off
    spike      the gradient's norm is `spike` times its median               a smaller rate
    bare       bare dev accuracy `bare_drop` below its best while lambda > .3  half of p_max
    nan        loss or gradient is not a number                              a smaller rate: stops at once

An alarm is said once. If one of the first three still holds `patience` steps later the run stops with its state saved;
patience 0: never.
Usage: `for text in alarms.see(row): say(text)`; rows are those of metrics.jsonl, in order.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping
from statistics import fmean, median
from typing import Any

from realm_cli.errors import Alarm
from realm_cli.method.teaching import step_teaches
from realm_cli.recipe import AlarmsConfig

STOPS = ("truncated", "dead", "form")
ADVICE = {
    "truncated": "{:.0%} of the completions are cut off; raise train_rl.max_tokens, or distill shorter solutions first",
    "dead": "no group has had any variance, nor anything for the bridge or members ({:.0%} of the last steps): nothing "
    "is learned; choose problems that are solved now and then (train_rl.bucket_quotas), or raise train_rl.temperature",
    "form": "only {:.0%} of the bare answers have the asked form; distill first, or raise train_rl.reward.w_fmt",
    "verdicts": "{:.0%} of the routes are called right, so verdicts say nothing; lower train_rl.reward.w_ver",
    "length": "bare completions are {:.1f} times as long as at first; raise train_rl.reward.w_len or lower max_tokens",
    "gap": "sampler and trainer differ by {:.2g} nats a token; set engine.shared_prefix=off and compare",
    "spike": "the gradient's norm is {:.0f} times its median; lower train_rl.lr or train_rl.max_grad_norm",
    "bare": "bare dev accuracy is {:.1%} below its best while prompts still show routes; halve train_rl.p_max",
}


class Alarms:
    """What was seen so far; one object a run."""

    def __init__(self, config: AlarmsConfig) -> None:
        self.config = config
        self.rows: deque[Mapping[str, Any]] = deque(maxlen=config.window)
        self.first_length: float | None = None
        self.norms: list[float] = []
        self.best = -1.0
        self.since: dict[str, int] = {}  # alarm -> step at which it began to hold

    def see(self, row: Mapping[str, Any], *, replay: bool = False) -> list[str]:
        """New alarms of this step, in words. Alarm (an error) where one has held too long; never while replaying."""
        step = int(row["step"])
        if not all(math.isfinite(row.get(key, 0.0)) for key in ("loss", "grad_norm")) and not replay:
            raise Alarm(
                f"train-rl: stopped at step {step}: loss {row.get('loss')}, gradient norm {row.get('grad_norm')}; "
                "lower train_rl.lr and continue from the last checkpoint in another run (--adapter)",
                keep=False,
            )
        found = dict(self._holding(row))
        said = [f"step {step}: {ADVICE[name].format(value)}" for name, value in found.items() if name not in self.since]
        self.since = {name: self.since.get(name, step) for name in found}
        patience = self.config.patience
        for name, begun in self.since.items():
            if name in STOPS and patience and step - begun >= patience and not replay:
                raise Alarm(
                    f"train-rl: stopped at step {step}, its state is saved: {ADVICE[name].format(found[name])} "
                    "(train_rl.alarms.patience=0 and --resume: go on all the same)",
                    keep=True,
                )
        return [] if replay else said

    def _holding(self, row: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
        """(alarm, its figure) of everything that is wrong now."""
        config = self.config
        if "dev_bare" in row:
            self.best = max(self.best, row["dev_bare"])
            drop = self.best - row["dev_bare"]
            if drop > config.bare_drop and row.get("lam", 0.0) > 0.3:
                yield "bare", drop
        elif "bare" in self.since:  # until it is measured again
            yield "bare", config.bare_drop
        if "reward" not in row:
            return
        self.rows.append(row)
        norm = row.get("grad_norm", 0.0)
        typical = median(self.norms) if len(self.norms) >= config.window else 0.0
        if typical > 0 and norm > config.spike * typical:
            yield "spike", norm / typical
        self.norms.append(norm)
        if row.get("sampler_trainer_gap", 0.0) > config.gap:
            yield "gap", row["sampler_trainer_gap"]
        if len(self.rows) == config.window:
            yield from self._over_the_window()

    def _over_the_window(self) -> Iterator[tuple[str, float]]:
        config, rows = self.config, self.rows

        def mean(key: str) -> float | None:
            values = [row[key] for row in rows if key in row]
            return fmean(values) if values else None

        cut, form, right, length = (mean(key) for key in ("truncated", "r_fmt_bare", "verdicts_right", "length_bare"))
        if cut is not None and cut > config.truncated:
            yield "truncated", cut
        if all(step_teaches(row) is False for row in rows):
            yield "dead", 1.0
        if form is not None and form < config.form:
            yield "form", form
        if right is not None and not config.verdicts <= right <= 1 - config.verdicts:
            yield "verdicts", right
        if length is not None:
            self.first_length = self.first_length or length
            if length > config.length * self.first_length:
                yield "length", length / self.first_length
