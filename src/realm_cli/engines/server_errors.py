"""What a server says when it does not answer: its own words, in whichever shape, and what to do about them.

    {"error": {"message": ..., "code": ..., "param": ...}}      OpenAI, vLLM, hosted APIs; also with status 200
    {"error": "text"}  {"detail": ...}  {"object": "error", "message": ...}  [{"error": ...}]  {"code": ..., "msg": ...}
    {"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": ...}]}      FastAPI and pydantic

Usage: `said = said_in(json_body, status)`; `said.message`, `said.filtered`, `said.passing`. Three ways to fail:
Failed = this request, Again = this try, EngineError = all of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

RETRIED = (408, 409, 425, 429)  # and all from 500
_PASSING = re.compile(
    r"rate.?limit|too many requests|overloaded|server.?error|internal.?error|temporar|time[ds]?.?out|unavailable"
    r"|try again|at capacity|\bbusy\b|still loading|loading model|insufficient_system_resource",
    re.IGNORECASE,
)
_FILTERED = re.compile(
    r"content.?filter|content.?policy|content management policy|data_inspection|moderation|\bflagged\b"
    r"|responsible.?ai|prohibited_content",
    re.IGNORECASE,
)
_SPENT = re.compile(r"insufficient_quota|billing_hard_limit|exceeded your current quota", re.IGNORECASE)
FILTERED = "filtered by the server"
DEPTH = 6  # of an error within an error


class Failed(Exception):
    """This request is not answered, the others may be; `str` says why. here: what this prompt or answer is, is why."""

    def __init__(self, reason: str, *, here: bool = False) -> None:
        super().__init__(reason)
        self.here = here


class Again(Exception):
    """This try failed, the next one may not. pause: what the server asked for, seconds."""

    def __init__(self, reason: str, pause: float | None = None) -> None:
        super().__init__(reason)
        self.pause = pause


@dataclass(frozen=True)
class Said:
    """A server's error. status: HTTP's or, with 200, the body's (0: none); kind: its code and type, lower case.

    forbidden: fields of the request that a list of details names as not permitted.
    """

    status: int
    message: str
    param: str = ""
    kind: str = ""
    forbidden: tuple[str, ...] = ()

    @property
    def filtered(self) -> bool:
        """Whether a filter kept the prompt or the answer back."""
        return self.status < 500 and bool(_FILTERED.search(f"{self.kind} {self.message}"))

    @property
    def spent(self) -> bool:
        """Whether the account has nothing left: waiting does not help."""
        return bool(_SPENT.search(f"{self.kind} {self.message}"))

    @property
    def passing(self) -> bool:
        """Whether another try may help: by the status, without one by the words."""
        if self.status:
            return self.status in RETRIED or self.status >= 500
        return bool(_PASSING.search(self.kind) or _PASSING.search(self.message))

    @property
    def too_long(self) -> bool:
        """Whether this prompt, and not every one, is too long."""
        text = f"{self.kind} {self.message}".lower()
        return self.status == 413 or "context length" in text or "context_length" in text or "context window" in text


def said_in(body: Any, status: int = 200) -> Said | None:
    """The error that a body holds; None where it holds none. status: HTTP's."""
    body = next((part for part in body if isinstance(part, dict)), None) if isinstance(body, list) else body
    if not isinstance(body, dict):
        return None
    error = body.get("error") or body
    inner = error if isinstance(error, dict) else body
    text, forbidden = _words(error if isinstance(error, str) else _first(inner, "message", "detail", "msg", "errors"))
    raw = inner.get("metadata")
    raw = raw.get("raw") if isinstance(raw, dict) else None
    if isinstance(raw, str) and raw not in text:  # a router hands on what the provider said
        text = f"{text}: {raw}"
    if not text and not (body.get("error") or body.get("object") == "error"):
        return None
    codes = [str(inner[key]) for key in ("code", "type", "status") if isinstance(inner.get(key), str | int)]
    number = next((int(code) for code in codes if code.isascii() and code.isdigit() and 400 <= int(code[:9]) < 600), 0)
    param = inner.get("param")
    return Said(
        number if status == 200 else status,
        text or str(body),
        param if isinstance(param, str) else "",
        " ".join(codes).lower(),
        forbidden,
    )


def _first(error: dict[str, Any], *names: str) -> Any:
    return next((error[name] for name in names if error.get(name)), None)


def _words(value: Any, depth: int = 0) -> tuple[str, tuple[str, ...]]:
    """(text, forbidden fields) of a message that may be text, an object, or a list of details."""
    if isinstance(value, str):
        return value.strip(), ()
    if isinstance(value, dict) and depth < DEPTH:
        if "loc" in value and ("msg" in value or "type" in value):
            return _detail(value)
        return _words(_first(value, "message", "detail", "msg", "error"), depth + 1)
    if isinstance(value, list) and depth < DEPTH:
        found = [_words(part, depth + 1) for part in value[:20]]
        return "; ".join(text for text, _ in found if text), tuple(name for _, names in found for name in names)
    return "", ()


def _detail(detail: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
    place = detail["loc"] if isinstance(detail["loc"], list) else [detail["loc"]]
    names = [str(part) for part in place if part != "body"]
    kind, text = str(detail.get("type", "")), str(detail.get("msg", ""))
    forbidden = "extra_forbidden" in kind or "not permitted" in text.lower()
    return f"{'.'.join(names)}: {text or kind}", tuple(names[:1]) if forbidden else ()
