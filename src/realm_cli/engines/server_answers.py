"""From a server's body to one answer: text and thought apart, why it ended, tokens. Bodies come as JSON or as a stream.

    message.content             text, or parts: {"type": "text", "text": ...}, {"type": "thinking", "thinking": ...}
    message.reasoning_content   or `reasoning`, `thinking`, `thinking_blocks`, `reasoning_details`: the thought; the
                                first that is there, as servers give the same one under two names
    choices[0].text             the older completions form
    data: {"choices": [{"delta": ...}]}      a stream that nobody asked for: read to its end and joined

Usage: `answer = read_answer(load_body(response.content))`; `check(answer, keep_empty=False)` raises Failed or Again
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from realm_cli.engines.server_errors import DEPTH, FILTERED, Again, Failed, Said, said_in

THOUGHTS = ("reasoning_content", "reasoning", "thinking", "thinking_blocks", "reasoning_details")
CUT = ("length", "max_tokens", "max_output_tokens", "max_length", "model_length", "model_context_window_exceeded")
KEPT_BACK = (
    "content_filter", "safety", "recitation", "blocklist", "prohibited_content", "spii", "sensitive",
    "guardrail_intervened", "refusal",
)  # fmt: skip
BROKE_OFF = ("error", "abort", "aborted", "cancelled", "network_error", "insufficient_system_resource")
EMPTY = "an empty answer; engine.server.empty=keep counts such answers as the model's own, wrong ones"


class NoCompletion(Exception):
    """The body is no chat completion; the argument is what it is."""


@dataclass(frozen=True)
class Answer:
    """What came. finish: why it ended, lower case, "" unknown. tokens, prompt_tokens: None where nobody counts."""

    text: str
    thought: str
    finish: str
    refused: bool
    calls: bool
    tokens: int | None
    prompt_tokens: int | None

    @property
    def cut(self) -> bool:
        """Whether the token limit ended it."""
        return self.finish in CUT

    @property
    def misplaced(self) -> bool:
        """Whether the whole text stands where the thought should: the server has not found the thought's end."""
        whole = "</think>" in self.thought or "</answer>" in self.thought
        return whole and not self.cut and not self.text.strip()


def load_body(content: bytes) -> Any:
    """The value of a JSON body, or the whole completion of a stream. ValueError for neither."""
    start = content.lstrip()[:6]
    if start.startswith((b"data:", b"event:", b"id:", b":")):
        return _joined(content.decode("utf-8", "replace"))
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        raise ValueError(content[:200].decode("utf-8", "replace")) from None


def error_in(body: Any) -> Said | None:
    """The error that stands in the place of an answer, or in its first choice; None where there is an answer."""
    choice = _choice(body)
    if choice is None or (isinstance(body, dict) and body.get("error")):
        return said_in(body)
    return said_in({"error": choice["error"]}) if choice.get("error") else None


def read_answer(body: Any) -> Answer:
    """The first choice. NoCompletion where there is none."""
    choice = _choice(body)
    message = choice.get("message") if choice is not None else None
    if choice is not None and message is None and isinstance(choice.get("text"), str):
        message = {"content": choice["text"]}
    if choice is None or not isinstance(message, dict):
        raise NoCompletion(body)
    content = message.get("content")
    if isinstance(content, dict) and isinstance(content.get("type"), str):
        content = [content]
    if not isinstance(content, str | list | None):
        raise NoCompletion(body)
    text, thought, refused = _parts(content)
    thoughts = (_text_of(message.get(name)) for name in THOUGHTS)
    finish = choice.get("finish_reason")
    finish = finish.get("type") if isinstance(finish, dict) else finish
    usage = body.get("usage")
    return Answer(
        text,
        next((found for found in thoughts if found.strip()), thought),
        finish.strip().lower() if isinstance(finish, str) else "",
        refused or bool(_text_of(message.get("refusal")).strip()),
        bool(message.get("tool_calls") or message.get("function_call")),
        _count(usage, "completion_tokens"),
        _count(usage, "prompt_tokens"),
    )


def check(answer: Answer, *, keep_empty: bool) -> None:
    """Failed or Again for what is no answer of the model's to the question: its text is the same for like failures."""
    if answer.finish.startswith(KEPT_BACK):
        raise Failed(f"{FILTERED} (finish_reason {answer.finish})", here=True)
    if answer.refused:
        raise Failed("refused by the server (message.refusal)", here=True)
    if answer.finish in BROKE_OFF:
        raise Again(f"the server broke the answer off (finish_reason {answer.finish})")
    if answer.text.strip() or answer.cut:
        return
    if answer.calls:
        raise Failed("tool calls and no answer", here=True)
    if not answer.misplaced and not keep_empty:
        what = EMPTY if not answer.thought.strip() else EMPTY.replace("an empty answer", "a thought without an answer")
        raise Failed(what, here=True)


def _choice(body: Any) -> dict[str, Any] | None:
    choices = body.get("choices") if isinstance(body, dict) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, dict) else None


def _count(usage: Any, name: str) -> int | None:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and value >= 0 else None


def _parts(content: str | list[Any] | None) -> tuple[str, str, bool]:
    """(text, thought, whether a part is a refusal) of a message's content."""
    if not isinstance(content, list):
        return content or "", "", False
    texts, thoughts, refused = [], [], False
    for part in content:
        kind = str(part.get("type", "text")).lower() if isinstance(part, dict) else "text"
        if "think" in kind or "reason" in kind:
            thoughts.append(_text_of(part))
        elif kind == "refusal":
            refused = True
        elif kind in ("text", "output_text"):
            texts.append(_text_of(part))
    return "".join(texts), "\n".join(filter(None, thoughts)), refused


def _text_of(value: Any, depth: int = 0) -> str:
    """The text in a field that may be text, an object with text, or a list of those."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and depth < DEPTH:
        return "".join(_text_of(part, depth + 1) for part in value)
    if isinstance(value, dict) and depth < DEPTH:
        names = ("text", "thinking", "reasoning", "summary", "content", "refusal")
        return next((text for name in names if (text := _text_of(value.get(name), depth + 1))), "")
    return ""


def _joined(stream: str) -> Any:
    """A stream's events as one completion; an error in it stands as it came. Again where it has no end."""
    message: dict[str, Any] = {}
    finish, usage, ended, seen = None, None, False, False
    for data in _events(stream):
        if data is None:
            ended = True
            break
        if not isinstance(data, dict):
            continue
        if error_in(data) is not None:
            return data
        usage = data.get("usage") or usage
        choice = _choice(data)
        if choice is None or choice.get("index") not in (None, 0):
            continue
        seen = True
        finish = choice.get("finish_reason") or finish
        delta = choice.get("delta") or choice.get("message") or {"content": choice.get("text")}
        for name, value in delta.items() if isinstance(delta, dict) else ():
            message[name] = _added(message.get(name), value)
    if not seen:
        raise ValueError(" ".join(stream.split())[:200])
    if finish is None and not ended:
        raise Again("the stream broke off; see the server's log")
    return {"choices": [{"message": message, "finish_reason": finish}], "usage": usage}


def _added(old: Any, new: Any) -> Any:
    if old is None or new is None:
        return new if old is None else old
    if isinstance(old, str) and isinstance(new, str):
        return old + new
    if isinstance(old, list) or isinstance(new, list):
        return [*(old if isinstance(old, list) else [old]), *(new if isinstance(new, list) else [new])]
    return new


def _events(stream: str) -> Iterator[Any]:
    """The JSON value of each event, None for [DONE]. ValueError for an object that cannot be read: text would lack."""
    lines: list[str] = []  # of an event that is not yet whole
    for line in [*stream.replace("\r\n", "\n").replace("\r", "\n").split("\n"), ""]:
        if line.startswith("data:"):
            lines.append(line[5:].strip())
        if lines == ["[DONE]"]:
            yield None
        whole = not line or len(lines) == 1  # nearly every event is one line, and some servers leave no line between
        if not lines or not whole:
            continue
        try:
            yield json.loads("\n".join(lines))
            lines = []
        except (ValueError, RecursionError):
            if not line and lines[0].startswith("{"):
                raise ValueError(lines[0][:200]) from None
            lines = lines if line else []
