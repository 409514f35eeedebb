r"""From any model's text to canonical steps, and from steps to facts (method.md sections 4 and 5.1-5.2).

A step is one line without numbering or markup. Facts are what a step states anew:
    zone + 6 = 36            op:zone + 6   zone=36        a terse step: the result carries the step's word (its role)
    She sold 48 / 2 = 24     op:48/2       =24            prose: the sum as exact text, the result without a role
    base 30                  base=30                      Half of it is 24.    =24
    same state: yes          same state: yes              a decision or another pair of words
Operation and result are two facts: after an earlier slip, a route that applies the right rule still holds the operation
that right routes hold, but not their result. The role makes the same number in another rule another fact.
What the question or an earlier step already holds is not new. Nor is a number of the choices that prompts show under
the question, where a step names it; one that a step works out (`= 24`) is: choices are the results that routes disagree
about. Texts are cut: 40,000 characters a route, 2,000 a step.
Usage: `steps, answer = parse_route(text)`; `facts = step_facts(steps, question)`.

Deviations: (1) expressions are compared as normalised text, not by sympy. (2) Operations are facts of ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise

from realm_cli.errors import ConfigError
from realm_cli.method.answers import as_fraction, numbers_in, stated_answer

EXTRACTORS = ("auto", "number", "text")
MAX_STEPS, MIN_WORDS, MAX_CHARS, MAX_STEP_CHARS, MANY = 12, 5, 40_000, 2_000, 240
_TAGS = re.compile(r"</?(?:think|answer|check)>|<\|[^|>]{1,40}\|>")
_CALC = re.compile(r"<<[^<>]{0,200}>>")
_NUMBERING = re.compile(
    r"^\s*(?:[-*•+]\s+)?(?:(?:step\s+\d{1,2}\b\s*[:.)–—-]?|\(?\d{1,2}\s*[.)](?!\d)|\d{1,2}:(?=\s))\s*)?", re.IGNORECASE
)
_ANSWER_LINE = re.compile(
    r"^[\s*_#>]*(?:(?:so,? |therefore,? |thus,? )?(?:the )?(?:final )?answer(?:[\s*_]*[:=]|\s+is\b)"
    r"|####\s*(?:[-+$€£\d.]|\w+\W*$))",
    re.IGNORECASE,
)
_GREETING = re.compile(
    r"^(?:(?:sure|certainly|of course|okay|ok|alright|hello|hi)(?:[,.!:][^=\d]{0,80})?"
    r"|let(?:'s|’s| us| me) (?:think|work|solve|break|start|go|begin|see|do)\b[^=\d]{0,80}"
    r"|here(?: is|'s|’s| are)\b[^=\d]{0,80}:)$",
    re.IGNORECASE,
)
_MARKUP = re.compile(r"\*\*|__|`|^#+\s*|\$(?=\\)|(?<=})\$|\\[()\[\]]")
_BOX = re.compile(r"\\(?:boxed|text)\{([^{}]{0,200})\}")
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z\d])|(?<!\s)\s+(?=Step \d)")  # once a gap: long gaps in linear time
_CLAUSE = re.compile(r";\s|,\s+(?=[A-Za-z])|(?<=[\d\w)])\.\s|\s+(?:and|so|then|because|since)\s+")
_TERSE = re.compile(r"([a-z][a-z_]*) ?(?:[-+x*×/÷] ?)?-?[\d.,]+%?")
_SUM_END = re.compile(r"[-+(]?[$€£]?[\d.(][\d\s.,()$€£%+*/×÷·x^-]*$")
_RESULT = re.compile(r"\s*[-+]?\s*[$€£]?\s*[-+]?[\d.][\d,.]*(?:/\d+)?(?![\d,]|\.\d|\s*[-+*/×÷·^x]\s*[\d(])")
_PAIR = re.compile(r"([A-Za-z][\w' /-]{1,60}?)\s*(?::|\bis\b|\bare\b|=)\s*([\w$%.,' -]{1,60})")
_DECISION = re.compile(r"(?:yes|no|true|false|met|not met|applies|does not apply)\b")


def parse_route(text: str) -> tuple[list[str], str | None]:
    """(canonical steps, final answer) of any model's output; at most 12 steps. The answer is None if none is stated:
    a number at the end of a sentence is not taken for one. Source: method.md sections 4 and 5.1."""
    steps = []
    for line in _lines(_CALC.sub("", _body(text[:MAX_CHARS]))):
        plain = " ".join(_NUMBERING.sub("", line, count=1).split())
        if plain and not _GREETING.match(plain) and plain != "[cut]":
            steps.append(plain)
    return _merge(steps), stated_answer(text)


def _body(text: str) -> str:
    """The thought, if it is marked; else everything but answer and check blocks."""
    head, mark, tail = text.partition("</think>")
    inside = (head if mark else text).rpartition("<think>") if "<think>" in text else ("", "", head if mark else text)
    body = inside[2]
    if not body.strip():
        body = tail or text
    for tag in ("answer", "check"):
        first, *rest = body.split(f"<{tag}>")
        body = "\n".join([first, *(part.partition(f"</{tag}>")[2] for part in rest)])
    return _TAGS.sub("\n", body)


def _lines(body: str) -> list[str]:
    """Lines without markup and answer lines; a single paragraph is split at inline numbers, "Step k" or sentences."""
    lines = [line for line in body.splitlines() if not _ANSWER_LINE.match(line)]
    lines = [_MARKUP.sub("", _BOX.sub(r"\1", line)).strip() for line in lines]
    lines = [line for line in lines if line and not _ANSWER_LINE.match(line)]
    if len(lines) == 1:
        lines = _inline_numbers(lines[0]) or _SENTENCE.split(lines[0])
    return [line for line in lines if not _ANSWER_LINE.match(line)]


def _inline_numbers(line: str) -> list[str]:
    """The parts of "1. a 2. b 3. c"; [] if the numbers do not run from 1 to 2 at least."""
    starts: list[int] = []
    while found := re.compile(rf"(?:^|\s)\(?{len(starts) + 1}[.)]\s").search(line, starts[-1] + 1 if starts else 0):
        if not starts and found.start() > 0:
            return []
        starts.append(found.start())
    return [line[a:b].strip() for a, b in zip(starts, [*starts[1:], len(line)], strict=True)] if len(starts) > 1 else []


def _merge(steps: list[str]) -> list[str]:
    """Fragments of under 5 words without a fact join the next step; then the shortest neighbours join, down to 12."""
    merged: list[str] = []
    pending = ""
    for step in steps:
        whole = f"{pending} {step}".strip()
        if len(step.split()) < MIN_WORDS and not numbers_in(step) and not _PAIR.search(step):
            pending = whole
        else:
            merged.append(whole)
            pending = ""
    if pending:
        merged = [*merged[:-1], f"{merged[-1]} {pending}"] if merged else [pending]
    if len(merged) > MANY:  # a list without end: equal shares first, since the search below is quadratic
        share = -(-len(merged) // MANY)
        merged = ["; ".join(merged[i : i + share]) for i in range(0, len(merged), share)]
    while len(merged) > MAX_STEPS:
        short = min(range(len(merged) - 1), key=lambda i: len(merged[i]) + len(merged[i + 1]))
        glue = " " if merged[short].endswith((".", ";", "!", "?", ":")) else "; "
        merged[short : short + 2] = [merged[short] + glue + merged[short + 1]]
    return merged


def step_facts(steps: Sequence[str], question: str, extractor: str = "auto", options: str = "") -> list[list[str]]:
    """New facts of each step, in order, without doubles (method.md section 5.2).

    extractor: `number` (equations, else the last number), `text` (pairs of words), or `auto`: equations, else
    decisions (yes, no ...), else the last number if the question does not hold it, else pairs.
    options: what prompts show under the question (prompts.options_text).
    Raises ConfigError for another extractor.
    """
    if extractor not in EXTRACTORS:
        raise ConfigError(f"facts {extractor!r}: unknown extractor; choose one of {', '.join(EXTRACTORS)}")
    given = _given(question[:MAX_CHARS], extractor)
    named = frozenset(f"={n}" for n in _values(options[:MAX_CHARS]))
    known = set(given)
    found: list[list[str]] = []
    for step in steps:
        new = [
            fact for fact in dict.fromkeys(_facts(step[:MAX_STEP_CHARS], given, extractor, named)) if fact not in known
        ]
        known.update(new)
        found.append(new)
    return found


@lru_cache(maxsize=8)  # all routes of a problem share its question
def _given(question: str, extractor: str) -> frozenset[str]:
    """What the question states already."""
    return frozenset([f"={n}" for n in _values(question)] + ([] if extractor == "number" else _pairs(question)))


def _facts(step: str, given: frozenset[str], extractor: str, named: frozenset[str]) -> list[str]:
    if extractor == "text":
        return _pairs(step)
    equations = list(_equations(step)) if "=" in step else []
    if equations:
        return equations
    numbers = [fact for fact in _last_number(step) if fact not in named]
    if extractor == "number":
        return numbers
    if ":" in step or " is " in step or " are " in step:
        decisions = [pair for pair in _pairs(step) if _DECISION.match(pair.rpartition(": ")[2])]
        if decisions:
            return decisions
    return numbers if numbers and numbers[0] not in given else _pairs(step)


def _equations(step: str) -> Iterator[str]:
    """Operation and result facts of every `a = b` in a step."""
    for clause in _CLAUSE.split(step):
        parts = clause.split("=")
        role = ""
        for index, (left, right) in enumerate(pairwise(parts)):
            plain = " ".join(left.split()).casefold().lstrip("-•* ")
            terse = _TERSE.fullmatch(plain) if index == 0 else None
            if terse:
                role = terse.group(1)
                yield f"op:{plain}"
            elif (total := _SUM_END.search(left)) and (operation := _operation(total.group())):
                yield f"op:{operation}"
            result = _RESULT.match(
                " ".join(right.split())
            )  # single blanks: three runs of them in a row cost their cube
            value = as_fraction("".join(result.group().translate(_MONEY).split()).rstrip(".")) if result else None
            if value is not None:
                yield f"{role}={value}"


_MONEY = str.maketrans("", "", "$€£,")
_SIGNS = str.maketrans({"×": "*", "·": "*", "÷": "/", "$": "", "€": "", "£": "", ",": "", "%": "", " ": ""})


def _operation(text: str) -> str:
    """`24 + $1,000` as `1000+24`: one spelling for a plain sum or product; "" if there is no operator."""
    plain = re.sub(r"(?<=[\d)])x(?=[\d(])", "*", "".join(text.translate(_SIGNS).split()).strip("."))
    if not re.search(r"[\dx)][-+*/^]", plain):
        return ""
    for sign in "+*":
        if re.fullmatch(rf"[\d.]+(?:\{sign}[\d.]+)+", plain):
            return sign.join(sorted(plain.split(sign)))
    return plain


def _last_number(step: str) -> list[str]:
    values = _values(step)
    if not values:
        return []
    word = re.match(r"[A-Za-z]+", step)
    return [f"{word.group(0).casefold()}={values[-1]}" if word and len(step.split()) <= 3 else f"={values[-1]}"]


def _values(text: str) -> list[Fraction]:
    found = (as_fraction(number) for number in numbers_in(text))
    return [value for value in found if value is not None]


def _pairs(text: str) -> list[str]:
    """`key: value` of "key: value", "key is value"; a decision is kept without its reasons."""
    found = []
    for key, value in _PAIR.findall(text):
        value = _plain(re.split(r",\s|\.\s|\s+(?:because|since|so)\b", value)[0])
        decision = _DECISION.match(value)
        found.append(f"{re.sub(r'^(?:the|a|an) ', '', _plain(key))}: {decision.group() if decision else value}")
    return found


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).strip(" .,")
