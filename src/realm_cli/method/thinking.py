"""One `<think>` block, whoever wrote its tags: the model, its chat template, or a server that keeps thoughts apart.

    2 + 3 = 5</think><answer>5</answer>            the template opened the block: `<think>` goes in front
    <answer>5</answer>, beside it "2 + 3 = 5"      a thought beside the answer becomes its block, in front
    <think>So 5.</think><answer>5</answer>, ...    the answer has a block of its own: the thought goes into it, first
    <think>a</think><think>b</think><answer>...    a thought and then the asked form: one block, a and then b

A thought that the answer repeats is not written twice, and tags that it only talks about become `[answer]`.
Usage: `with_opened_think(text)`; `with_thought(answer, thought)`; `one_think(text)`.
"""

from __future__ import annotations

import re

_THINK = re.compile(r"<\s{0,3}(/?)\s{0,3}think\s{0,3}/?\s{0,3}>", re.IGNORECASE)  # the spellings of method/parsing.py
_TAG = re.compile(r"<\s{0,3}(/?)\s{0,3}(check|think|answer)\s{0,3}/?\s{0,3}>", re.IGNORECASE)
OPEN, CLOSE = "<think>\n", "\n</think>"
_WORDS = 5  # an answer that begins with a shorter thought need not repeat it: "9" and "9 apples"


def with_opened_think(text: str) -> str:
    """`text` with `<think>` and a line break in front where its first think tag is a closing one, else as it is."""
    first = _THINK.search(text)
    return f"{OPEN}{text}" if first is not None and first.group(1) else text


def with_thought(answer: str, thought: str, *, cut: bool = False) -> str:
    """An answer and the thought that came beside it, as one text with one think block.

    The thought goes into the answer's own block where it has one, else in front, or behind a check block that the
    answer begins with: there the usual order has it. Without an answer: the thought's block, left open where it was
    `cut`; a thought that holds its own end or an answer block is the whole text, which a server took for a thought.
    """
    given = thought.strip()
    if not given:
        return with_opened_think(answer)
    if not answer.strip():
        whole = not cut and ("</think>" in given or "</answer>" in given)
        return with_opened_think(given) if whole else f"{OPEN}{_plain(given)}{'' if cut else CLOSE}"
    text, given = with_opened_think(answer), _plain(given)
    opening = _THINK.search(text)
    if opening is None:
        rest = _after(text.lstrip(), thought.strip())
        if rest == "":
            return text
        check, rest = _check_block(text.lstrip() if rest is None else rest)
        return f"{check}{OPEN}{given}{CLOSE}\n{rest}"
    end = _TAG.search(text, opening.end())
    stop = end.start() if end is not None else len(text)
    own = text[opening.end() : stop].strip()
    if _folded(given) in _folded(own):
        return text
    both = given if _folded(own) in _folded(given) else f"{given}\n{own}"
    return f"{text[: opening.end()]}\n{both}\n{text[stop:]}"


def one_think(text: str, *, keep: bool = True) -> str:
    """A text that begins with a thought and has another think block later, as a text with one; others as they are.

    keep: False leaves the first thought out.
    """
    text = with_opened_think(text)
    opening = _THINK.match(text.lstrip())
    if opening is None:
        return text
    rest = text.lstrip()[opening.end() :]
    end = _THINK.search(rest)
    again = _THINK.search(rest, end.end()) if end is not None and end.group(1) else None
    if end is None or again is None or again.group(1):
        return text
    answer = rest[end.end() :].lstrip()
    return with_thought(answer, rest[: end.start()]) if keep else answer


def _plain(thought: str) -> str:
    """A thought without tags of its own around it; those inside are talk of the form."""
    first = _THINK.match(thought)
    inner = thought[first.end() :] if first is not None and not first.group(1) else thought
    ends = [tag for tag in _THINK.finditer(inner) if tag.group(1)]
    if ends and not inner[ends[-1].end() :].strip():
        inner = inner[: ends[-1].start()]
    return _TAG.sub(r"[\1\2]", inner).strip()


def _check_block(text: str) -> tuple[str, str]:
    """(a check block at the beginning, with a line break, what follows); the first is empty where there is none."""
    end = text.find("</check>") if text.startswith("<check>") else -1
    return ("", text) if end < 0 else (text[: end + 8] + "\n", text[end + 8 :].lstrip())


def _after(text: str, start: str) -> str | None:
    """What follows `start` at the beginning of a text, blanks apart; None where the text does not repeat it."""
    words = start.split()
    if text.startswith(start) and (len(words) >= _WORDS or text[len(start) :].lstrip(" \t")[:1] in ("", "\n", "<")):
        return text[len(start) :].lstrip()
    parts = text.split(None, len(words))
    if len(words) < _WORDS or parts[: len(words)] != words:
        return None
    return parts[-1] if len(parts) > len(words) else ""


def _folded(text: str) -> str:
    return " ".join(text.split())
