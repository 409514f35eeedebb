"""How a chat template frames a turn, learned by rendering marked messages; and what is wrong with one, said at once.

    generation prompt [opener <think>] lead TEXT tail end-of-turn

Usage: `use_arguments(tokenizer, {"enable_thinking": False})`; `check_template(tokenizer, label)`; `turn_of(tokenizer)`

Notes. (1) A role whose text a template leaves out, or refuses, gets it as a list of parts ({"type": "text"}) where that
helps. (2) Without a system turn, the system's text goes in front of the user's. (3) Where a template writes no
generation prompt, the head of its assistant turns takes its place. (4) Arguments (`student.template_args`) hold for
every rendering; `strftime_now` as a text stands for today's date.
"""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from jinja2 import Environment, TemplateError, meta, nodes
from transformers import AutoTokenizer

from realm_cli.engines.sources import first_line
from realm_cli.errors import ConfigError, EngineError
from realm_cli.records import Message

log = logging.getLogger(__name__)
THINK = "<think>"
_MARK, _ASKED, _LAST = "realm0mark", "realm1mark", "realm2mark"
_QUESTION = f"{_MARK}\n{THINK}\n{_ASKED}\n</think>\n{_LAST}"  # holds a thought's tags, as our prompts do
_OPENED = re.compile(r"<think>\s{0,8}\Z")
_FRAME = re.compile(r"[<\[|]\S{0,40}\w")  # <|user|>, [INST]: not plain words (User:), which any text may hold
_OURS = re.compile(r"</?(?:think|check|answer)>")  # of the form that we ask for, which some templates put into a turn
_ONE_DAY = "{%- macro strftime_now(form) -%}{{ realm_day }}{%- endmacro -%}"
_ARGUMENTS = "realm_template_args"  # on the tokenizer
_GENERATION = re.compile(r"\{%-?\s{0,8}(?:end)?generation\s{0,8}-?%\}")
_GIVEN = {"messages", "tools", "documents", "add_generation_prompt", "raise_exception", "namespace", "range", "dict"}
_MEND = "mend chat_template in tokenizer_config.json, or choose another model"


@dataclass(frozen=True)
class Turn:
    """An assistant turn in a template: head, lead, the text, tail, the end-of-turn id.

    head: of the turn, where the template itself writes no generation prompt. marks: what no text may hold, the longest
    first: special tokens, and lines such as <|user|> that are plain text. parts: roles whose content comes in parts.
    fault: what the template does to the user's text, "" where that stays.
    """

    head: str
    lead: str
    tail: str
    end: int
    has_system: bool
    marks: tuple[str, ...]
    parts: frozenset[str]
    fault: str


def use_arguments(tokenizer: Any, given: Mapping[str, Any]) -> None:
    """Render this tokenizer's template with these arguments from now on. ConfigError for the library's own names."""
    taken = set(inspect.signature(type(tokenizer).apply_chat_template).parameters) | {"messages"}
    for name in given:
        if name in taken:
            raise ConfigError(f"student.template_args.{name}: not a template's own argument; leave it out")
    setattr(tokenizer, _ARGUMENTS, dict(given))


def arguments(tokenizer: Any) -> dict[str, Any]:
    """The arguments that this tokenizer's template is rendered with."""
    return dict(getattr(tokenizer, _ARGUMENTS, {}))


def render(
    tokenizer: Any, rows: Sequence[Mapping[str, str]], *, prompt: bool = False, parts: frozenset[str] = frozenset()
) -> str:
    """The template's text. Templates refuse with error types of their own."""
    shaped = [
        {**row, "content": [{"type": "text", "text": row["content"]}]} if row["role"] in parts else dict(row)
        for row in rows
    ]
    given = arguments(tokenizer)
    if isinstance(day := given.pop("strftime_now", None), str):
        given |= {"chat_template": _ONE_DAY + tokenizer.get_chat_template(), "realm_day": day}
    return str(tokenizer.apply_chat_template(shaped, tokenize=False, add_generation_prompt=prompt, **given))


def opener_of(prompt: str) -> str:
    """The `<think>` that a rendered prompt ends with, white space after it included; "" where no thought is open."""
    found = _OPENED.search(prompt)
    return found[0] if found else ""


def turn_of(tokenizer: Any) -> Turn:
    """The frame of the tokenizer's template as it is now. EngineError where nothing ends a turn."""
    return _probe(tokenizer, repr(tokenizer.chat_template), repr(arguments(tokenizer)))


@lru_cache(maxsize=16)
def _probe(tokenizer: Any, template: str, given: str) -> Turn:
    """Learn the frame by rendering marked messages. `template` and `given` are cache keys, should they be replaced."""

    def tried(*turns: tuple[str, str], prompt: bool = False, parts: frozenset[str] = frozenset()) -> str:
        try:
            return render(tokenizer, _rows(*turns), prompt=prompt, parts=parts)
        except Exception:  # templates refuse with error types of their own
            return ""

    def kept(text: str) -> bool:
        return all(mark in text for mark in (_MARK, _ASKED, _LAST))

    user: frozenset[str] = frozenset()
    fault = ""
    if not kept(tried(("user", _QUESTION), prompt=True)):
        user = frozenset({"user"})
        if not kept(tried(("user", _QUESTION), prompt=True, parts=user)):
            user, fault = frozenset(), _fault(tokenizer)
    parts, has_system = user, False
    for more in ((), ("system",)):
        both = tried(("system", _MARK), ("user", _ASKED), prompt=True, parts=user | {*more})
        if _MARK in both and _ASKED in both:
            parts, has_system = user | {*more}, True
            break
    if _MARK not in tried(("user", "a"), ("assistant", _MARK), parts=parts):
        parts |= {"assistant"}
    before, _, after = tried(("user", "a"), ("assistant", _MARK), parts=parts).partition(_MARK)
    head, lead = _head_and_lead(
        before, tried(("user", "a"), prompt=True, parts=parts), tried(("user", "a"), parts=parts)
    )
    specials = specials_of(tokenizer)
    places = {after.find(name): name for name in sorted(specials, key=len) if name in after}  # the longest wins
    first = min(places, default=None)
    tail, end = ("", tokenizer.eos_token_id) if first is None else (after[:first], specials[places[first]])
    if end is None:
        raise EngineError("the tokenizer has no eos_token and its chat template no end of turn; set eos_token")
    turns = tried(("user", _MARK), ("assistant", _MARK), ("user", _MARK), prompt=True, parts=parts)
    lines = {line.strip() for part in turns.split(_MARK) for line in part.splitlines()}
    frames = {line for line in lines if _FRAME.search(line)}
    names = {name for name in (*specials, *frames) if not _OURS.fullmatch(name)}
    marks = tuple(sorted(names, key=lambda name: (-len(name), name)))
    return Turn(head, lead, "" if tail.strip() else tail, int(end), has_system, marks, parts, fault)


def _rows(*turns: tuple[str, str]) -> list[Message]:
    return [{"role": role, "content": content} for role, content in turns]


def _head_and_lead(before: str, prompt: str, closed: str) -> tuple[str, str]:
    """(head, lead) from what stands before an assistant's text, the prompt, and the chat without generation prompt."""
    stem = prompt[: len(prompt) - len(opener_of(prompt))]
    lead = before[len(stem) :] if before.startswith(stem) else ""
    if not lead.strip():
        return "", lead
    head = lead.partition(THINK)[0] if prompt == closed else ""
    if not head.strip():
        return "", ""
    bare = head.rstrip(" ")
    return bare, head[len(bare) :] if head == lead else ""


def specials_of(tokenizer: Any) -> dict[str, int]:
    """Special tokens and their ids."""
    found = {str(token): int(i) for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    if tokenizer.eos_token is not None:
        found[str(tokenizer.eos_token)] = int(tokenizer.eos_token_id)
    return {name: i for name, i in found.items() if name.strip()}


def ready_tokenizer(where: str, label: str, trust_remote_code: bool, given: Mapping[str, Any]) -> Any:
    """A model's tokenizer with the template arguments `given`, looked over. EngineError for a template of no use."""
    tokenizer = AutoTokenizer.from_pretrained(where, trust_remote_code=trust_remote_code)
    if not tokenizer.chat_template:
        raise EngineError(
            f"model {label} has no chat template; give an instruct model or add chat_template to tokenizer_config.json"
        )
    use_arguments(tokenizer, given)
    check_template(tokenizer, label)
    return tokenizer


def check_template(tokenizer: Any, label: str) -> None:
    """EngineError where the user's text does not come through; what else is odd is said, once a model."""
    turn = turn_of(tokenizer)
    if turn.fault:
        raise EngineError(f"model {label}: its chat template {turn.fault}; {_MEND}")
    for remark in _remarks(tokenizer, turn):
        _say(f"model {label}: {remark}")


@lru_cache(maxsize=256)
def _say(text: str) -> None:
    log.warning("%s", text)


def _fault(tokenizer: Any) -> str:
    """What the template does to a user's text that does not come through."""
    try:
        text = render(tokenizer, _rows(("user", _QUESTION)), prompt=True)
    except Exception as error:  # templates refuse with error types of their own
        return f"refuses a user's turn ({first_line(error)})"
    if any(mark in text for mark in (_MARK, _ASKED, _LAST)):
        return "cuts a user's text at <think> or </think>, which our prompts hold"
    return "leaves out what the user says"


def _remarks(tokenizer: Any, turn: Turn) -> list[str]:
    found = []
    if not turn.has_system:
        found.append("its chat template has no system turn; the system's text goes in front of the user's")
    if turn.head:
        found.append(f"its chat template writes no generation prompt; {turn.head!r}, as its own turns begin, is added")
    if _dated(tokenizer, turn):
        found.append(
            "its chat template writes today's date, so another day gives other prompts; "
            'to keep one: --set student.template_args.strftime_now="26 Jul 2024"'
        )
    read, listed = _reads(tokenizer)
    for name in arguments(tokenizer) if read else ():
        if name not in read:
            found.append(
                f"its chat template does not read student.template_args.{name}; it reads: {', '.join(listed) or 'none'}"
            )
    return found


def _dated(tokenizer: Any, turn: Turn) -> bool:
    rows, given = _rows(("user", "a")), arguments(tokenizer)
    if "strftime_now" not in repr(tokenizer.chat_template) or "strftime_now" in given:
        return False
    today = render(tokenizer, rows, prompt=True, parts=turn.parts)
    setattr(tokenizer, _ARGUMENTS, {**given, "strftime_now": "never"})
    try:
        return render(tokenizer, rows, prompt=True, parts=turn.parts) != today
    finally:
        setattr(tokenizer, _ARGUMENTS, given)


def _reads(tokenizer: Any) -> tuple[set[str], list[str]]:
    """(all names that the template may read from outside, its own arguments among them); nothing where none can say."""
    try:
        text = _GENERATION.sub("", tokenizer.get_chat_template())  # a tag of the library's, not of Jinja
        tree = Environment(extensions=["jinja2.ext.loopcontrols"]).parse(text)
    except (TemplateError, ValueError, TypeError, AttributeError):
        return set(), []
    read = meta.find_undeclared_variables(tree) | {"messages"}
    made = {name.name for name in tree.find_all(nodes.Name) if name.ctx == "store"}
    asked = {test.node.name for test in tree.find_all(nodes.Test) if isinstance(test.node, nodes.Name)}
    return read, sorted(read - (made - asked) - _GIVEN - set(tokenizer.special_tokens_map))
