"""When two questions are the same one: case and blanks folded, signs and punctuation kept (method.md section 12).

`1 + 1` and `1 - 1` are two questions; one text with other choices is another question. Import, `realm check`, reading a
problems file and eval all compare by this key.
Usage: `question_key("What is  1 + 1?") == question_key("what is 1 + 1?")`
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence


def question_key(question: str, choices: Sequence[str] | None = None) -> str:
    """The text without differences of case, blanks and Unicode composition, then the choices, in any order."""
    options = sorted(filter(None, map(folded, choices or ())))
    return "\n".join([folded(question), *options])


def compared(question: str, choices: Sequence[str] | None = None) -> str:
    """The text in which leaks are sought: the question with its choices, which make another question of one stem."""
    return "\n".join([question, *filter(None, choices or ())])


def folded(text: str) -> str:
    """One spelling of a text: no case, single blanks, composed letters."""
    text = unicodedata.normalize("NFC", text).casefold()
    return " ".join(unicodedata.normalize("NFC", text).split())
