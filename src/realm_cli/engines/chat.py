"""Chat templates as token ids: prompts, completions and what ends a turn.

    encode_prompt(messages) + encode_completion(text) = the template's rendering of the chat up to the end of turn

Usage: `encode_prompt(tokenizer, messages)`, `encode_completion(tokenizer, "4")`, `end_ids(tokenizer, model)`

Thoughts that a template opens (DeepSeek-R1 distills, Qwen3 thinking: the prompt ends with `<think>`). In rows on disk a
completion holds its `<think>`, whoever wrote it; in token ids it stands once. So a sample of such a prompt gets it back
in its text (`begun`), and a text that is tokenised after such a prompt goes without it (`prompt_for`): the ids are the
same as those of a model that writes it itself. Where what comes does not begin with a thought (the form of a routed
prompt that checks first, a step alone), the prompt ends before the template's `<think>`.

Notes. (1) A template may put white space between the generation prompt and the assistant's text, or before the end of
turn (Llama 2); completions get it too. (2) Templates that rewrite what the assistant said (Qwen3 and DeepSeek take out
thoughts) are followed for prompts only: a completion is kept as it was sampled. (3) engines/templates.py learns the
frame, and says what else a template needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from realm_cli.engines.templates import THINK, opener_of, render, specials_of, turn_of
from realm_cli.errors import EngineError
from realm_cli.prompts import checks_first
from realm_cli.records import Message

END_NAMES = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "<|endoftext|>", "<|end_of_text|>")


def encode_prompt(tokenizer: Any, messages: Sequence[Message], prefill: str = "") -> list[int]:
    """Token ids of the messages with the generation prompt; `prefill` begins the assistant's text. EngineError.

    Special tokens and a template's own lines in a message (it may hold anybody's text) are broken by a zero-width
    space: they begin no turn.
    """
    return begun(tokenizer, messages, prefill)[0]


def begun(tokenizer: Any, messages: Sequence[Message], prefill: str = "") -> tuple[list[int], str]:
    """(ids as of `encode_prompt`, what the template wrote of the assistant's text: `<think>`, or ""). EngineError.

    A prefill holds its own `<think>`, so the template's makes room for it.
    """
    text, opener = _prompt(tokenizer, messages)
    if not prefill:
        opener = "" if checks_first(messages) else opener
        return _ids(tokenizer, text + opener), opener
    turn = turn_of(tokenizer)
    lead = "" if prefill.startswith(turn.lead) else turn.lead
    return _ids(tokenizer, text + lead + prefill), ""


def prompt_for(tokenizer: Any, messages: Sequence[Message], completion: str) -> tuple[list[int], str]:
    """(ids of the prompt, the completion without the `<think>` that the prompt ends with, if it does). EngineError.

    Where the template opens a thought and the completion has none at its beginning, the prompt ends before it.
    """
    text, opener = _prompt(tokenizer, messages)
    if not opener or checks_first(messages) or not completion.startswith(THINK):
        return _ids(tokenizer, text), completion
    rest, blank = completion.removeprefix(THINK), opener.removeprefix(THINK)
    while blank and rest[:1] == blank[0]:
        rest, blank = rest[1:], blank[1:]
    return _ids(tokenizer, text + opener), rest


def encode_chat(
    tokenizer: Any, messages: Sequence[Message], completion: str, prefill: str = ""
) -> tuple[list[int], list[int]]:
    """Ids of the prompt and of a whole completion with its end of turn; a `<think>` stands in one of them. EngineError.

    prefill: the beginning of the answer, which the completion continues.
    """
    if prefill:
        return encode_prompt(tokenizer, messages, prefill), encode_completion(tokenizer, completion, continued=True)
    prompt, rest = prompt_for(tokenizer, messages, completion)
    return prompt, encode_completion(tokenizer, rest, continued=len(rest) < len(completion))


def whole_text(opener: str, text: str) -> str:
    """A sampled text with what the template wrote of it in front, unless the model has written that once more."""
    return text if not opener or text.lstrip().startswith(THINK) else opener + text


def _prompt(tokenizer: Any, messages: Sequence[Message]) -> tuple[str, str]:
    """(the prompt up to an opened thought, what opens it). EngineError."""
    turn, rows = turn_of(tokenizer), rendered(tokenizer, messages)
    try:
        text = render(tokenizer, rows, prompt=True, parts=turn.parts) + turn.head
    except Exception as error:  # templates refuse with error types of their own
        raise EngineError(f"chat template: cannot render {[m['role'] for m in rows]} ({error})") from None
    if turn.fault:
        raise EngineError(f"chat template: {turn.fault}; mend it, or choose another model")
    opener = opener_of(text)
    if opener and text.rstrip().endswith(rows[-1]["content"].rstrip()):  # the user's own, no generation prompt after it
        opener = ""
    return text[: len(text) - len(opener)], opener


def rendered(tokenizer: Any, messages: Sequence[Message]) -> list[Message]:
    """The messages as the chat template gets them."""
    rows = [dict(m) for m in messages] if turn_of(tokenizer).has_system else merge_system(messages)
    return [{**row, "content": harmless(tokenizer, row["content"])} for row in rows]


def harmless(tokenizer: Any, text: str) -> str:
    """The text without special tokens and the template's own lines; as it was where it holds none."""
    for name in turn_of(tokenizer).marks:
        if name in text:
            text = text.replace(name, f"{name[0]}\u200b{name[1:]}")
    return text


def encode_completion(tokenizer: Any, text: str, *, continued: bool = False, whole: bool = True) -> list[int]:
    """Token ids of the assistant's text with the end-of-turn id, as the chat template renders them.

    continued: the text goes on after a `prefill` of `encode_prompt`, or in an opened thought. whole False: it does not
    end.
    """
    turn = turn_of(tokenizer)
    lead = "" if continued or text.startswith(turn.lead) else turn.lead
    return [*_ids(tokenizer, lead + text + turn.tail), turn.end] if whole else _ids(tokenizer, lead + text)


def turn_end(tokenizer: Any) -> int:
    """The id that ends an assistant turn in the chat template, else the tokenizer's eos."""
    return turn_of(tokenizer).end


def end_ids(tokenizer: Any, model: Any = None) -> set[int]:
    """Ids that end a completion: the template's, the tokenizer's, the generation config's, and well-known names."""
    found = {turn_end(tokenizer)}
    for holder in (tokenizer, getattr(model, "generation_config", None), getattr(model, "config", None)):
        value = getattr(holder, "eos_token_id", None)
        found |= set(value) if isinstance(value, list | tuple) else set() if value is None else {int(value)}
    specials = specials_of(tokenizer)
    return found | {specials[name] for name in END_NAMES if name in specials}


def merge_system(messages: Sequence[Message]) -> list[Message]:
    """The messages with the system texts put in front of the first other message."""
    system = "\n\n".join(m["content"] for m in messages if m["role"] == "system")
    rest = [dict(m) for m in messages if m["role"] != "system"]
    if system and rest:
        rest[0]["content"] = f"{system}\n\n{rest[0]['content']}"
    return rest


def _ids(tokenizer: Any, text: str) -> list[int]:
    return [int(i) for i in tokenizer(text, add_special_tokens=False)["input_ids"]] if text else []
