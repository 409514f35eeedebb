"""When memory does not suffice: less at once, the same result, and one line that says so.

Sampling takes half the rows, a forward half the tokens, SFT half of a micro-batch; what a step learns from stays the
same. Where nothing is left to halve, EngineError names what else takes memory.

Usage: `loss, tokens = with_less(backward, tokens, least=lambda: longest_row, setting="train_rl.micro_tokens")`
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from realm_cli.errors import EngineError

log = logging.getLogger(__name__)
T = TypeVar("T")
ADVICE = "set train_rl.grad_checkpointing=true, show fewer or shorter routes, lower max_tokens, or take a smaller model"


def out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch or Python says that memory did not suffice."""
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "bad_alloc" in str(error)):
        return True
    return isinstance(error, Exception) and should_reduce_batch_size(error)


def with_less(attempt: Callable[[int], T], size: int, *, least: Callable[[], int], setting: str) -> tuple[T, int]:
    """(attempt(size), size), with half the size again and again while memory does not suffice.

    least: the size from which halving changes nothing. `attempt` begins anew each time. EngineError at the least size.
    """
    while True:
        try:
            return attempt(size), size
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
        size = less(size, least(), setting)  # here the failed attempt's tensors are held by nothing any more


def less(size: int, least: int, setting: str) -> int:
    """Half of a size; what can be freed is, and a line says so. EngineError where the size is `least` already."""
    clear_device_cache(garbage_collection=True)
    if size <= least:
        raise EngineError(f"out of memory with {setting} at its least ({size}); {ADVICE}")
    size = max(least, size // 2)
    log.warning("out of memory: going on with %s=%d, which changes nothing but speed", setting, size)
    return size
