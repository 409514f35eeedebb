"""Do test questions stand among the training questions? (method.md section 12: honest evaluation)

A test question is *touched* if it shares 13 words in a row with a training question; shorter questions are touched if
they stand whole in one. Word runs of more than `COMMON` training questions are a template's text, not a leak.
Usage: `touched = contamination({"t1": "..."}, {"q1": "..."})`; GPT-3's appendix C (2005.14165) has the 13-gram rule.

Deviation 1: numbers and signs of arithmetic count as words, so that one template with other numbers is another
question, and `1 - 1` another than `1 + 1`. A hyphen between letters is no sign.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

WORDS_IN_A_ROW, COMMON = 13, 10
MAX_CHARS = 200_000  # of a question that are compared
_WORD = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+|[+*/^=<>%×÷·√±]|(?<![^\W\d_])[-−]|[-−](?![^\W\d_])")


def word_runs(text: str, n: int = WORDS_IN_A_ROW) -> set[tuple[str, ...]]:
    """All runs of n words (case and punctuation aside); the whole text where it is shorter. Empty for no words."""
    words = _WORD.findall(text[:MAX_CHARS].casefold())
    return {tuple(words[i : i + n]) for i in range(max(1, len(words) - n + 1))} if words else set()


def contamination(train: Mapping[str, str], test: Mapping[str, str], n: int = WORDS_IN_A_ROW) -> dict[str, str]:
    """Test id -> the id of a training question that touches it; untouched ones are left out.

    >>> contamination({"a": "How many apples has Ann?"}, {"b": "how many apples has ann", "c": "How many has Bob?"})
    {'b': 'a'}
    """
    homes: dict[tuple[str, ...], str] = {}
    counts: Counter[tuple[str, ...]] = Counter()
    for name, text in train.items():
        for run in word_runs(text, n):
            counts[run] += 1
            homes.setdefault(run, name)
    touched = {}
    for name, text in test.items():
        found = [run for run in word_runs(text, n) if 0 < counts[run] <= COMMON]
        if found:
            touched[name] = homes[min(found)]
    return touched
