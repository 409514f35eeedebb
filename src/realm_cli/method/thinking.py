"""Thoughts whose `<think>` somebody else wrote: a chat template or a server that opens the block leaves only its end.

Usage: `with_opened_think("2 + 3 = 5</think><answer>5</answer>")` puts `<think>` and a line break in front.
"""

from __future__ import annotations

import re

_THINK = re.compile(r"<\s{0,3}(/?)\s{0,3}think\s{0,3}/?\s{0,3}>", re.IGNORECASE)  # the spellings of method/parsing.py
OPEN = "<think>\n"


def with_opened_think(text: str) -> str:
    """`text` with `<think>` and a line break in front where its first think tag is a closing one, else as it is."""
    first = _THINK.search(text)
    return f"{OPEN}{text}" if first is not None and first.group(1) else text
