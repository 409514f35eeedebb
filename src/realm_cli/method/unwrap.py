r"""What stands around an answer: tags, delimiters, markdown, `\boxed{}`, `answer is`, a final stop (section 8).

Usage: `unwrap("**$\\boxed{5}$**.")` -> "5"; `clean` gives the content of `\text{}` too. The answer keeps its notation.
"""

from __future__ import annotations

import re

from realm_cli.method.notation import TEXT
from realm_cli.method.numbers import MAX_CHARS, PLAIN

TAIL = 20_000
_MONEY = re.compile(r"\$\s?\\\$\s?([\d.,{}\\!]{1,40})\s?\$")
_SAID = re.compile(
    r"(?i)\s{0,8}(?:(?:so|therefore|thus|hence),? ){0,2}(?:the |my )?(?:final |correct |right )?answer"
    r"(?:[ \t*_]{0,8}[:=]|\s{1,4}is\b\s{0,4}:?)\s{0,4}"
)
_HOPE = re.compile(r"(?i)[.!]?\s{1,4}I hope (?:it|this) (?:is|helps)\b")
_PAIRS = (('"', '"'), ("“", "”"), ("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"))
_POWER = re.compile(r"\d\s?\*\*\s?[-\d{(]")


def boxed(text: str) -> tuple[int, str] | None:
    r"""(place, content) of the last `\boxed{}`; of several that are joined by commas or `and`, all of them."""
    contents: list[str] = []
    at, end = 0, len(text)
    while len(contents) < 8:
        begin = max(text.rfind("\\boxed{", 0, end), text.rfind("\\fbox{", 0, end))
        if begin < 0:
            break
        inside = text.index("{", begin) + 1
        close = brace_end(text, inside)
        if close is None or (contents and close >= end):
            break
        between = re.sub(r"\\text\s?\{|\\quad|\\[ ,;]|[{}$\s\\()\[\]]", "", text[close + 1 : end]) if contents else ","
        if between.lower() not in ("", ",", "and", ",and", "or", ",or", ";"):
            break
        contents.insert(0, text[inside:close])
        at, end = begin, begin
    return (at, ", ".join(contents)) if contents else None


def brace_end(text: str, begin: int) -> int | None:
    """Index of the brace that closes the one before `begin`; None if it is more than 1,000 characters away."""
    depth = 1
    for end in range(begin, min(len(text), begin + MAX_CHARS)):
        if text[end] in "{}" and text[end - 1 : end] != "\\":
            depth += 1 if text[end] == "{" else -1
            if depth == 0:
                return end
    return None


def plain_money(text: str) -> str:
    r"""`$\$5$`, money between delimiters, as `$5`."""
    return _MONEY.sub(r"$\1", text)


def unwrap(text: str) -> str | None:
    r"""An answer without tags, delimiters, markdown and words around it, `\boxed{}` opened; None if nothing is left."""
    if PLAIN.fullmatch(text):
        return text
    if hope := _HOPE.search(text[:TAIL]):
        text = text[: hope.start()]
    if len(text) > MAX_CHARS:
        return text
    text = plain_money(re.sub(r"</?answer>", " ", text))
    for _ in range(6):
        before = text
        box = boxed(text)
        if box is not None:
            text = _opened(text)
        text = _unmarked(re.sub(r"^(?:=>|⇒|→)\s{0,4}", "", text.strip()))
        text = text.rstrip(".").rstrip() if not text.endswith("...") else text
        text = text.rstrip("! ") if re.search(r"(?:[A-Za-z]{3}|[*\s])!{1,3}$", text) else text
        for a, b in _PAIRS:
            inner = text[len(a) : len(text) - len(b)]
            if (
                text.startswith(a)
                and text.endswith(b)
                and len(text) > len(a) + len(b)
                and a not in inner
                and b not in inner
            ):
                text = inner.strip()
        if part := re.fullmatch(r"\$([^$]{1,400})\$\s{0,4}([^$]{1,80})", text):  # "$28$ percent"
            text = f"{part[1].strip()} {part[2]}"
        said = _SAID.match(text)
        if said and said.end() < len(text):
            text = text[said.end() :]
        text = _lone_dollars(text)
        if text == before:
            break
    return text or None


def _unmarked(text: str) -> str:
    """Without markdown and back quotes around all of a text; a half pair of stars goes too."""
    text = text.strip(" \n\t`")
    for mark in ("**", "__", "*"):
        inner = text[len(mark) : len(text) - len(mark)]
        if (
            text.startswith(mark)
            and text.endswith(mark)
            and len(text) > 2 * len(mark)
            and mark not in _POWER.sub("", inner)
        ):
            text = inner.strip()
    if text.count("**") == 1 and (lone := re.search(r"^\*\*|(?<=[\w$)])\*\*(?=[\s.,!]|$)", text)):
        text = (text[: lone.start()] + text[lone.end() :]).strip()
    return text if re.search(r"[^\s*_`$.]", text) else ""


def _opened(text: str) -> str:
    r"""Without the first `\boxed{}`, its content kept."""
    found = [at for at in (text.find("\\boxed{"), text.find("\\fbox{")) if at >= 0]
    start = min(found)
    inside = text.index("{", start) + 1
    end = brace_end(text, inside)
    return text if end is None else text[:start] + text[inside:end] + text[end + 1 :]


def _lone_dollars(text: str) -> str:
    """Without a dollar sign that belongs to no number."""
    if text.count("$") != 1:
        return text
    before, after = text.partition("$")[::2]
    money = re.match(r"\s?[-+(]?\s?[\d.]", after) or re.search(r"\d\s?$", before)
    return text if money or "\\$" in text else (before + after).strip()


def clean(text: str) -> str | None:
    r"""`unwrap`, and `\text{}` gives its content: an answer as plain text, for types that are words or numbers."""
    if len(text) > MAX_CHARS:
        return text
    opened = unwrap(text)
    if opened is None or "\\" not in opened:
        return opened
    return unwrap(TEXT.sub(r"\1", opened))
