"""Every prompt of the project (method.md sections 3 and 7). Nothing else holds prompt text.

Two styles: `full` (instructions in words, for instruct models) and `terse` (for the tiny student, whose pretraining
taught it the form). Two orders: `verify_first` (<check> <think> <answer>) and `solve_first` (<think> <check> <answer>).
Deviation 1: the template of CoT-Synthesizer hints that the most frequent answer may be right; we drop that hint.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Literal

from realm_cli.records import Message, Problem, ShownRoute

Style = Literal["full", "terse"]
Order = Literal["verify_first", "solve_first"]

NAMES = "ABCDEFGH"  # of routes
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"  # of choices
HIDDEN = "[hidden]"
CUT = "[cut]"
ROUTE_MARK = "[Route "

SYSTEM = "You solve problems by careful reasoning."
_FORM_BARE = "Use exactly this form:\n<think>\nyour own steps, one per line\n</think>\n<answer>final answer</answer>"
_CHECK_FORM = "<check>\nA: right - reason\nB: wrong @2 - reason\n...\n</check>"
_THINK_FORM = "<think>\nyour own steps, one per line\n</think>"
_ANSWER_FORM = "<answer>final answer</answer>"


_OWN = re.compile(r"\s{0,4}\(?([A-Za-z])[).:]\s{0,8}")
# Markdown, LaTeX and quotes around options, and a letter that marks one: `a)`, `(a)`, `a.`, `a:`, `a - `, `a |`, or
# alone at the start of a line.
_DRESS = re.compile(r"\\(?:text(?:bf|it|rm|sf)?|math(?:bf|it|rm|sf)|q?quad|[ ,;!])|[*_`$\"“”{}~\\]")
_MARK = re.compile(r"(?<!\w)([a-z])(?: ?[)\].:、>|]| [-–—](?= )|(?<=\n[a-z])(?= ))")
_GOES_ON = re.compile(r"\w|[-.,/:]\d")
_MARKS_READ = 1000  # of one letter


def question_text(problem: Problem) -> str:
    """The question as every prompt shows it: with lettered choices under it, unless it holds them already."""
    options = options_text(problem)
    return f"{problem.question}\n{options}" if options else problem.question


def options_text(problem: Problem) -> str:
    """The lettered choices that prompts show under the question, one a line; "" where there are none to show.

    A question holds its choices if they stand in it one after the other, each right behind its letter (`B) mercury`,
    `(b) mercury`, `B. **mercury**`). Naming them in a sentence, or behind numbers, is not enough: an option shown twice
    costs some tokens, and one that is missed leaves nothing to choose from. A missing option ("") keeps its letter.
    """
    if problem.answer_type != "choice" or not problem.choices:
        return ""
    texts = [_line(text).strip() for text in option_texts(problem.choices)]
    options = [(letter, text) for letter, text in zip(LETTERS, texts, strict=False) if text]
    return "" if _holds(problem.question, options) else "\n".join(f"{letter}) {text}" for letter, text in options)


def _holds(question: str, options: Sequence[tuple[str, str]]) -> bool:
    """Whether each option stands in the question behind its letter, in order."""
    lines = "\n" + _undressed(question)
    flat = lines.replace("\n", " ")
    marks: dict[str, list[int]] = {}
    for mark in _MARK.finditer(lines):
        marks.setdefault(mark[1].upper(), []).append(mark.end())
    at = 0
    for letter, text in options:
        wanted = _undressed(text).rstrip(" .,;")
        places = marks.get(letter, [])[:_MARKS_READ] if wanted else []
        found = next((place for place in places if place >= at and _stands(wanted, flat, place)), None)
        if found is None:
            return False
        at = found
    return True


def _stands(wanted: str, text: str, at: int) -> bool:
    """Whether all of an option stands at a place, and is not the beginning of another word or number."""
    at += text[at : at + 1] == " "
    return text.startswith(wanted, at) and not _GOES_ON.match(text, at + len(wanted))


def _undressed(text: str) -> str:
    """Lower case and single blanks, without markup; line breaks stay."""
    plain = _DRESS.sub(" ", unicodedata.normalize("NFKC", text).casefold())
    return "\n".join(line for row in plain.splitlines() if (line := " ".join(row.split())))


def option_texts(choices: Sequence[str]) -> list[str]:
    """The choices without letters of their own, where each that is not empty carries the letter of its place."""
    found = [_OWN.match(choice) for choice in choices]
    lettered = all(
        not choice.strip() or (own is not None and own[1].upper() == letter)
        for choice, own, letter in zip(choices, found, LETTERS * (1 + len(choices) // 26), strict=False)
    )
    return [choice[own.end() :] if lettered and own else choice for choice, own in zip(choices, found, strict=True)]


def render_route(name: str, route: ShownRoute, *, shown_steps: int | None = None, hide_answer: bool = False) -> str:
    """One route as a prompt shows it. `shown_steps` < len(steps) cuts it and ends it with `[cut]`.

    A step and the answer are one line each, so that no route can begin another one.

    Hiding the answer also hides the last step's result (what follows its last `=`), else the vote could be counted.
    """
    cut = shown_steps is not None and shown_steps < len(route.steps)
    steps = [_line(step) for step in (route.steps[:shown_steps] if cut else route.steps)]
    if hide_answer and not cut and steps and "=" in steps[-1]:
        steps[-1] = steps[-1].rpartition("=")[0] + "= " + HIDDEN
    lines = [f"{ROUTE_MARK}{name}]"] + [f"{k}. {step}" for k, step in enumerate(steps, 1)]
    lines.append(CUT if cut else f"Answer: {HIDDEN if hide_answer else _line(str(route.answer))}")
    return "\n".join(lines)


def _line(text: str) -> str:
    return " ".join(text.splitlines())


def bare_messages(question: str, style: Style = "full") -> list[Message]:
    """The prompt without routes."""
    if style == "terse":
        return [{"role": "user", "content": question}]
    return [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": f"Problem:\n{question}\n{_FORM_BARE}"},
    ]


def ruled_messages(question: str, rules: str, style: Style = "full") -> list[Message]:
    """The bare prompt with the domain's rules in front: only to measure what the weights do not hold yet."""
    *before, last = bare_messages(question, style)
    return [*before, {"role": last["role"], "content": f"Rules:\n{rules.strip()}\n\n{last['content']}"}]


def rule_question_messages(question: str, steps: Sequence[str], style: Style = "full") -> list[Message]:
    """Which rule applies next? The answer is the next step, with the content of the rule it uses."""
    so_far = numbered(steps)
    if style == "terse":
        return [{"role": "user", "content": f"{question}\n{so_far}\n[Next]" if steps else f"{question}\n[Next]"}]
    text = f"Problem:\n{question}\n" + (f"Steps so far:\n{so_far}\n" if steps else "")
    text += "Which rule applies next? Write the one step that states and uses it."
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}]


def hinted_messages(question: str, route: ShownRoute, style: Style = "full") -> list[Message]:
    """The bare prompt beside one route, without a check: only to score given tokens (method/members.py)."""
    shown = render_route(NAMES[0], route)
    if style == "terse":
        return [{"role": "user", "content": f"{question}\n{shown}"}]
    text = f"Problem:\n{question}\nAn attempt by another:\n{shown}\n{_FORM_BARE}"
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}]


def routed_messages(
    question: str,
    shown: Sequence[ShownRoute],
    *,
    style: Style = "full",
    order: Order = "verify_first",
    shown_steps: Sequence[int] | None = None,
    answers_hidden: bool = False,
) -> list[Message]:
    """The prompt that shows K routes in the given order under neutral names A, B, ..."""
    cuts: Sequence[int | None] = shown_steps if shown_steps else [None] * len(shown)
    body = "\n".join(
        render_route(NAMES[i], route, shown_steps=cuts[i], hide_answer=answers_hidden) for i, route in enumerate(shown)
    )
    if style == "terse":
        return [{"role": "user", "content": f"{question}\n{body}\n[Check]"}]
    forms = [_CHECK_FORM, _THINK_FORM] if order == "verify_first" else [_THINK_FORM, _CHECK_FORM]
    verb = "First check" if order == "verify_first" else "First solve the problem yourself. Then check"
    tail = " Then solve the problem yourself." if order == "verify_first" else ""
    text = (
        f"Problem:\n{question}\nHere are {len(shown)} attempts by others. Any number of them may be wrong, including "
        f'all. Popular answers are not safer.\n{body}\n{verb} each route: "right", or "wrong @k" with k the first '
        f"wrong step, and a short reason.{tail} Use exactly this form:\n" + "\n".join([*forms, _ANSWER_FORM])
    )
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}]


def solution_text(steps: Sequence[str], answer: str) -> str:
    """The bare completion: own steps, then the answer. Also the own-solution part of a routed completion."""
    return f"<think>\n{numbered(steps)}\n</think>\n<answer>{answer}</answer>"


def solution_start(steps: Sequence[str]) -> str:
    """A bare completion after its first steps, to be continued: by a line break first, which may be part of a token."""
    return f"<think>\n{numbered(steps)}"


def answer_start(steps: Sequence[str]) -> str:
    """A bare completion with these steps, up to where the answer stands."""
    return f"{solution_start(steps)}\n</think>\n<answer>"


def check_text(verdicts: Sequence[bool], first_errors: Sequence[int | None]) -> str:
    """A check block. A wrong route without a known first error is `wrong` without a step."""
    lines = []
    for name, right, k in zip(NAMES, verdicts, first_errors, strict=False):
        lines.append(f"{name}: right" if right else f"{name}: wrong @{k}" if k else f"{name}: wrong")
    return "<check>\n" + "\n".join(lines) + "\n</check>"


def routed_text(
    verdicts: Sequence[bool],
    first_errors: Sequence[int | None],
    steps: Sequence[str],
    answer: str,
    order: Order = "verify_first",
) -> str:
    """A complete routed completion in the given order."""
    check, solution = check_text(verdicts, first_errors), solution_text(steps, answer)
    if order == "verify_first":
        return f"{check}\n{solution}"
    think, _, tail = solution.partition("</think>\n")
    return f"{think}</think>\n{check}\n{tail}"


def numbered(steps: Sequence[str]) -> str:
    """Steps as `1. ...` lines."""
    return "\n".join(f"{k}. {step}" for k, step in enumerate(steps, 1))


def route_messages(problem: Problem, style: Style = "full") -> list[Message]:
    """What a route is sampled with: the bare prompt."""
    return bare_messages(question_text(problem), style)


def teacher_messages(problem: Problem, rules: str, notes: str, *, label: str | None = None) -> list[Message]:
    """Guided prompt: the teacher sees rules and notes, the student never does. `label` adds the known answer."""
    expert = f"You are an expert in {problem.domain or 'this domain'}."
    parts = [expert]
    if rules:
        parts.append(f"Rules:\n{rules.strip()}")
    if notes:
        parts.append(f"Expert notes:\n{notes.strip()}")
    parts.append(f"Problem:\n{question_text(problem)}")
    if label is not None:
        parts.append(f"The correct answer is {label}. Explain how it follows.")
    parts.append(
        "Reason step by step. State in your own words the content of each rule at the step where you use it; never "
        'mention a rule list, an id or these instructions. One numbered step per line. End with "Answer: <answer>".'
    )
    return [{"role": "user", "content": "\n\n".join(parts)}]


def lemma_text(wrong_steps: Sequence[str], k: int, right_steps: Sequence[str], answer: str) -> tuple[str, int]:
    """(completion, characters to mask): a wrong prefix up to step k, the correction, the right continuation.

    LEMMA (2503.17439). The wrong prefix is context; the loss starts at the correction.
    """
    prefix = f"<think>\n{numbered(wrong_steps[:k])}\n"
    fixed = "\n".join(f"{i}. {s}" for i, s in enumerate(right_steps[k - 1 :], k))
    tail = f"Wait, step {k} is wrong.\n{fixed}\n</think>\n<answer>{answer}</answer>"
    return prefix + tail, len(prefix)


def checks_first(messages: Sequence[Message]) -> bool:
    """Whether the completion that a prompt asks for begins with its check, not with a thought."""
    text = messages[-1]["content"] if messages else ""
    return text.endswith("\n[Check]") or f"{_CHECK_FORM}\n{_THINK_FORM}" in text
