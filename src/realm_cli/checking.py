"""Answer checks in worker processes: one that hangs, grows or dies costs its time limit, never the run.

    with CheckPool(timeout=5.0) as pool, judged_by(pool):
        is_correct(answer, problem)        # plain comparisons run here, Math-Verify and plug-ins in the worker
    pool.counts                            # calls, timeouts, crashed, failed

A verdict that could not be had counts as wrong, is kept (the same pair is not tried again) and counted. The worker
starts with the first such check; answers that are numbers, choices, labels or text never need it. The comparisons
themselves are in `realm_cli.method.checks`.
"""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.context import BaseContext
from types import TracebackType
from typing import TYPE_CHECKING, Any

from realm_cli.errors import ConfigError
from realm_cli.method.checks import compare, judged_by

if TYPE_CHECKING:
    from pebble import ProcessPool

    from realm_cli.recipe import ChecksConfig

IN_A_ROW = 20  # checks of one type without a verdict, after which the checker is taken to be broken
START_SECONDS = 60.0  # a worker process may take that long to load its libraries
MEMO = 65_536
WORDS = {"timeouts": "took over {0:g} s", "crashed": "ended their process", "failed": "raised an error"}


class CheckPool:
    """A judge (see `method.checks`) that asks a worker process and gives up after `timeout` seconds.

    memory_gib: address space of the worker, libraries included. counts: checks made, and of those the ones without a
    verdict, by reason. examples: a few of the latter, each with type, reason, answer, gold and error.
    """

    def __init__(self, timeout: float = 5.0, memory_gib: float = 4.0) -> None:
        self.timeout, self.memory_gib = timeout, memory_gib
        self.counts: Counter[str] = Counter()
        self.examples: list[dict[str, str]] = []
        self._known: dict[tuple[str, str, str], bool] = {}
        self._without: Counter[str] = Counter()  # answer type -> checks in a row without a verdict
        self._pool: ProcessPool | None = None

    def __call__(self, kind: str, answer: str, gold: str) -> bool:
        """The verdict; False where none could be had. ConfigError where a checker never gives one."""
        key = (kind, answer, gold)
        if key not in self._known:
            if len(self._known) >= MEMO:
                self._known.clear()
            self._known[key] = self._checked(kind, answer, gold)
        return self._known[key]

    def _checked(self, kind: str, answer: str, gold: str) -> bool:
        self.counts["calls"] += 1
        reason, found = self._ask(kind, answer, gold)
        if reason == "verdict":
            self._without[kind] = 0
            return found == "True"
        if reason == "config":
            raise ConfigError(found)
        self.counts[reason] += 1
        self._without[kind] += 1
        if len(self.examples) < 5:
            row = {"type": kind, "reason": reason, "answer": answer[:200], "gold": gold[:200], "error": found[:200]}
            self.examples.append(row)
        if self._without[kind] >= IN_A_ROW:
            why = WORDS[reason].format(self.timeout) + (f", the last one {found}" if found else "")
            raise ConfigError(
                f"answer_type {kind!r}: {IN_A_ROW} checks in a row {why}; mend the checker, or raise checks.timeout "
                "or checks.memory_gib"
            )
        return False

    def _ask(self, kind: str, answer: str, gold: str) -> tuple[str, str]:
        """(what came back, verdict or error)"""
        from concurrent.futures import TimeoutError as LateError  # another class than the built-in one in Python 3.10
        from concurrent.futures.process import BrokenProcessPool

        from pebble import ProcessExpired, ProcessPool

        if self._pool is None:
            limit = (int(self.memory_gib * 2**30),)
            self._pool = ProcessPool(1, initializer=_prepare, initargs=limit, context=fresh_processes())
        future = self._pool.schedule(_compare, (kind, answer, gold), timeout=self.timeout)
        try:
            found: tuple[str, str] = future.result(timeout=self.timeout + START_SECONDS)
            return found
        except (TimeoutError, LateError):
            future.cancel()
            return "timeouts", ""
        except (ProcessExpired, BrokenProcessPool):
            self.close()
            return "crashed", ""

    def close(self) -> None:
        """End the worker; another check would start a new one."""
        if self._pool is not None:
            self._pool.stop()
            self._pool.join()
            self._pool = None

    def __enter__(self) -> CheckPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def without_verdict(counts: Mapping[str, Any], timeout: float) -> str | None:
    """One line on the checks that count as wrong because no verdict could be had; None if there are none."""
    parts = [f"{counts[reason]} {words.format(timeout)}" for reason, words in WORDS.items() if counts.get(reason)]
    if not parts:
        return None
    return (
        f"{sum(counts.get(reason, 0) for reason in WORDS)} of {counts['calls']} answer checks count as wrong: "
        + ", ".join(parts)
    )


@contextmanager
def checking(config: ChecksConfig, say: Callable[[str], None]) -> Iterator[CheckPool]:
    """Checks run in a worker process until the block ends; then `say` what could not be checked, if anything."""
    with CheckPool(config.timeout, config.memory_gib) as pool, judged_by(pool):
        try:
            yield pool
        finally:
            line = without_verdict(pool.counts, pool.timeout)
            if line is not None:
                say(f"{line}, e.g. {pool.examples[0]['answer']!r}")


def fresh_processes() -> Any:
    """How worker processes start: without a copy of this one's threads and memory; quickly after the first."""
    if "forkserver" not in multiprocessing.get_all_start_methods():  # Windows
        return multiprocessing.get_context("spawn")
    context: BaseContext = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["realm_cli.checking", "realm_cli.method.answers", "math_verify"])
    return context


def ignore_interrupts() -> None:
    """In a worker process: Ctrl-C reaches the whole terminal, but the parent decides what becomes of its workers."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _prepare(memory: int) -> None:
    ignore_interrupts()
    try:
        import resource
    except ImportError:  # Windows
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (memory if hard == resource.RLIM_INFINITY else min(memory, hard), hard))


def _compare(kind: str, answer: str, gold: str) -> tuple[str, str]:
    """In the worker: what came of it, in words that can always be sent back."""
    try:
        return "verdict", str(compare(kind, answer, gold))
    except ConfigError as error:
        return "config", str(error)
    except Exception as error:  # a plug-in's own mistake, or out of memory
        return "failed", f"{type(error).__name__}: {error}"
