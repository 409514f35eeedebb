"""A scripted chat-completion server on loopback: what it is asked, and what it answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from realm_cli.protocols import GenRequest

CHAT = "/v1/chat/completions"


def ask(*questions: str, n: int = 1) -> list[GenRequest]:
    return [GenRequest(f"q{i}", [{"role": "user", "content": text}], n=n) for i, text in enumerate(questions)]


def answer(text: Any, finish: Any = "stop", tokens: int | None = 7, **fields: Any) -> dict[str, Any]:
    """A chat completion; fields: what else its message holds."""
    message = {"role": "assistant", "content": text, **fields}
    body: dict[str, Any] = {"id": "c", "object": "chat.completion", "created": 0, "model": "m"}
    body["choices"] = [{"index": 0, "message": message, "finish_reason": finish}]
    if tokens is not None:
        body["usage"] = {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": tokens + 1}
    return body


def script(server: HTTPServer, handler: Callable[[Request], Response]) -> None:
    server.expect_request(CHAT, method="POST").respond_with_handler(handler)


def bodies(server: HTTPServer) -> list[dict[str, Any]]:
    return [request.get_json() for request, _ in server.log if request.path == CHAT]


def as_json(body: Any, status: int = 200) -> Response:
    return Response(json.dumps(body), status, mimetype="application/json")


def as_stream(*events: Any, end: str = "data: [DONE]\n\n", mimetype: str = "text/event-stream") -> Response:
    """Server-sent events; text as it is, others as JSON in a `data:` line."""
    texts = [event if isinstance(event, str) else f"data: {json.dumps(event)}\n\n" for event in events]
    return Response("".join([*texts, end]), 200, mimetype=mimetype)


def delta(finish: str | None = None, **fields: Any) -> dict[str, Any]:
    """A chunk of a stream."""
    choice = {"index": 0, "delta": fields, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": [choice]}
