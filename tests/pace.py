"""How long something takes, in multiples of fixed work that is measured beside it.

A bound in seconds fails on a slow or busy machine; these bounds are there for texts that take quadratic time, which is
ten times theirs and more.
"""

from __future__ import annotations

import time
from collections.abc import Callable


def cpu(work: Callable[[], object]) -> float:
    """CPU seconds of this thread."""
    begin = time.thread_time()
    work()
    return time.thread_time() - begin


def paces(work: Callable[[], object], enough: float = 0.0, tries: int = 5) -> float:
    """CPU time of `work` divided by that of a loop of about 0.05 s, the least of some tries.

    Tries end where one is at most `enough`; the loop is measured before and after each, and its slower half counts.
    """
    least = float("inf")
    for _ in range(tries):
        before, taken, after = cpu(_loop), cpu(work), cpu(_loop)
        least = min(least, taken / max(before, after))
        if least <= enough:
            break
    return least


def _loop() -> None:
    words: list[str] = []
    for i in range(300_000):
        words.append(str(i))
        if len(words) > 100:
            " ".join(words).split()
            words.clear()
