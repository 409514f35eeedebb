"""Chat templates as token ids: prompts, completions and what ends a turn.

    encode_prompt(messages) + encode_completion(text) = the template's rendering of the chat up to the end of turn

Usage: `encode_prompt(tokenizer, messages)`, `encode_completion(tokenizer, "4")`, `end_ids(tokenizer, model)`

Notes. (1) A template may put white space between the generation prompt and the assistant's text, or before the end of
turn (Llama 2); completions get it too. (2) Templates that rewrite what the assistant said (Qwen3 moves <think> blocks)
are followed for prompts only: a completion is kept as it was sampled. (3) Where a template has no system role, the
system message goes in front of the user's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from realm_cli.errors import EngineError
from realm_cli.records import Message

END_NAMES = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "<|endoftext|>", "<|end_of_text|>")
_MARK = "realm0mark"
_FRAME = re.compile(r"[<\[|]\S{0,40}\w")  # <|user|>, [INST]: not plain words (User:), which any text may hold
_OURS = re.compile(r"</?(?:think|check|answer)>")  # of the form that we ask for, which some templates put into a turn


def encode_prompt(tokenizer: Any, messages: Sequence[Message], prefill: str = "") -> list[int]:
    """Token ids of the messages with the generation prompt; `prefill` begins the assistant's text. EngineError.

    Special tokens and a template's own lines in a message (it may hold anybody's text) are broken by a zero-width
    space: they begin no turn.
    """
    turn, rows = _turn_of(tokenizer), rendered(tokenizer, messages)
    try:
        text = str(tokenizer.apply_chat_template(rows, tokenize=False, add_generation_prompt=True))
    except Exception as error:  # templates refuse with error types of their own
        raise EngineError(f"chat template: cannot render {[m['role'] for m in rows]} ({error})") from None
    lead = turn.lead if prefill and not prefill.startswith(turn.lead) else ""
    return _ids(tokenizer, text + lead + prefill)


def rendered(tokenizer: Any, messages: Sequence[Message]) -> list[Message]:
    """The messages as the chat template gets them."""
    rows = [dict(m) for m in messages] if _turn_of(tokenizer).has_system else merge_system(messages)
    return [{**row, "content": harmless(tokenizer, row["content"])} for row in rows]


def harmless(tokenizer: Any, text: str) -> str:
    """The text without special tokens and the template's own lines; as it was where it holds none."""
    for name in _turn_of(tokenizer).marks:
        if name in text:
            text = text.replace(name, f"{name[0]}\u200b{name[1:]}")
    return text


def encode_completion(tokenizer: Any, text: str, *, continued: bool = False) -> list[int]:
    """Token ids of the assistant's text with the end-of-turn id, as the chat template renders them.

    continued: the text goes on after a `prefill` of `encode_prompt`.
    """
    turn = _turn_of(tokenizer)
    lead = "" if continued or text.startswith(turn.lead) else turn.lead
    return [*_ids(tokenizer, lead + text + turn.tail), turn.end]


def turn_end(tokenizer: Any) -> int:
    """The id that ends an assistant turn in the chat template, else the tokenizer's eos."""
    return _turn_of(tokenizer).end


def end_ids(tokenizer: Any, model: Any = None) -> set[int]:
    """Ids that end a completion: the template's, the tokenizer's, the generation config's, and well-known names."""
    found = {turn_end(tokenizer)}
    for holder in (tokenizer, getattr(model, "generation_config", None), getattr(model, "config", None)):
        value = getattr(holder, "eos_token_id", None)
        found |= set(value) if isinstance(value, list | tuple) else set() if value is None else {int(value)}
    specials = _specials(tokenizer)
    return found | {specials[name] for name in END_NAMES if name in specials}


def merge_system(messages: Sequence[Message]) -> list[Message]:
    """The messages with the system texts put in front of the first other message."""
    system = "\n\n".join(m["content"] for m in messages if m["role"] == "system")
    rest = [dict(m) for m in messages if m["role"] != "system"]
    if system and rest:
        rest[0]["content"] = f"{system}\n\n{rest[0]['content']}"
    return rest


@dataclass(frozen=True)
class _Turn:
    """An assistant turn in a template: generation prompt, lead, the text, tail, the end-of-turn id.

    marks: what no text may hold, the longest first: special tokens, and lines such as <|user|> that are plain text.
    """

    lead: str
    tail: str
    end: int
    has_system: bool
    marks: tuple[str, ...]


def _turn_of(tokenizer: Any) -> _Turn:
    return _probe(tokenizer, repr(tokenizer.chat_template))


@lru_cache(maxsize=16)
def _probe(tokenizer: Any, template: str) -> _Turn:
    """Learn the frame by rendering marked messages. `template` is the cache key, should it be replaced."""

    def render(*turns: tuple[str, str], prompt: bool = False) -> str:
        rows = [{"role": role, "content": content} for role, content in turns]
        try:
            return str(tokenizer.apply_chat_template(rows, tokenize=False, add_generation_prompt=prompt))
        except Exception:  # templates refuse with error types of their own
            return ""

    has_system = _MARK in render(("system", _MARK), ("user", "a"), prompt=True)
    before, _, after = render(("user", "a"), ("assistant", _MARK)).partition(_MARK)
    prompt = render(("user", "a"), prompt=True)
    lead = before[len(prompt) :] if before.startswith(prompt) else ""
    specials = _specials(tokenizer)
    places = {after.find(name): name for name in sorted(specials, key=len) if name in after}  # the longest wins
    first = min(places, default=None)
    tail, end = ("", tokenizer.eos_token_id) if first is None else (after[:first], specials[places[first]])
    if end is None:
        raise EngineError("the tokenizer has no eos_token and its chat template no end of turn; set eos_token")
    turns = render(("user", _MARK), ("assistant", _MARK), ("user", _MARK), prompt=True)
    lines = {line.strip() for part in turns.split(_MARK) for line in part.splitlines()}
    frames = {line for line in lines if _FRAME.search(line) and not _OURS.fullmatch(line)}
    marks = tuple(sorted({*specials, *frames}, key=lambda name: (-len(name), name)))
    return _Turn("" if lead.strip() else lead, "" if tail.strip() else tail, int(end), has_system, marks)


def _specials(tokenizer: Any) -> dict[str, int]:
    found = {str(token): int(i) for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    if tokenizer.eos_token is not None:
        found[str(tokenizer.eos_token)] = int(tokenizer.eos_token_id)
    return {name: i for name, i in found.items() if name.strip()}


def _ids(tokenizer: Any, text: str) -> list[int]:
    return [int(i) for i in tokenizer(text, add_special_tokens=False)["input_ids"]] if text else []
