"""A chat-completion server that does what servers do: busy, slow, broken, cut off. Faults are drawn from the request.

Usage: `with serving(Faults(share=0.5)) as server: ... server.url ... server.seen`
"""

from __future__ import annotations

import json
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KINDS = (
    "429", "429 wait", "429 date", "500", "503", "408", "cut headers", "cut body", "half json", "html", "no choices",
    "null", "list", "wrong types", "slow", "drip", "200 busy", "cut stream",
)  # fmt: skip


@dataclass
class Faults:
    """share: of the requests that get a fault in their first `bad_tries` tries. refused: questions that get a 400."""

    share: float = 0.0
    kinds: tuple[str, ...] = KINDS
    bad_tries: int = 3
    refused: frozenset[str] = frozenset()
    dead_after: int | None = None  # requests after which every one is a 500
    seed: int = 0


@dataclass
class Server:
    """Where it listens, and what it saw."""

    url: str
    faults: Faults
    tries: Counter[tuple[str, int]] = field(default_factory=Counter)  # (question, seed)
    seen: Counter[str] = field(default_factory=Counter)  # kinds of answers given
    keys: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def requests(self) -> int:
        """All tries."""
        return sum(self.tries.values())


def text_for(question: str, seed: int) -> str:
    """What the server answers when it does."""
    return f"1. {question[-12:]} with {seed} = {seed}\nAnswer: {seed}"


@contextmanager
def serving(faults: Faults) -> Iterator[Server]:
    """A server on a free port, in threads of this process."""
    state = Server("", faults)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            self._send(200, json.dumps({"object": "list", "data": [{"id": "m", "object": "model"}]}))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with suppress(BrokenPipeError, ConnectionResetError):
                self._answer(body["messages"][-1]["content"], body["seed"])

        def _answer(self, question: str, seed: int) -> None:
            with state.lock:
                state.keys.add(self.headers["Authorization"])
                state.tries[question, seed] += 1
                attempt, number = state.tries[question, seed], state.requests
                kind = _kind(state.faults, question, seed, attempt, number)
                state.seen[kind] += 1
            good = json.dumps(_completion(text_for(question, seed)))
            if kind == "ok":
                self._send(200, good)
            elif kind == "400":
                self._send(400, json.dumps({"error": {"message": f"refused for {self.headers['Authorization']}"}}))
            elif kind.startswith("429"):
                after = {
                    "429": {},
                    "429 wait": {"Retry-After": "0"},
                    "429 date": {"Retry-After": self.date_time_string()},
                }
                self._send(429, "slow down", after[kind])
            elif kind in ("500", "503", "408"):
                self._send(int(kind), "oops")
            elif kind == "cut headers":
                self.connection.shutdown(socket.SHUT_RDWR)
            elif kind == "cut body":
                self._send(200, good, cut=len(good) // 2)
            elif kind == "slow":
                time.sleep(0.6)
                self._send(200, good)
            elif kind in ("drip", "late drip"):
                time.sleep(0.8 if kind == "late drip" else 0)
                self._drip(good)
            else:
                broken = {
                    "half json": good[: len(good) // 2],
                    "html": "<html>busy</html>",
                    "null": "null",
                    "list": "[]",
                }
                broken["no choices"] = json.dumps({**_completion(""), "choices": []})
                broken["200 busy"] = json.dumps({"error": {"message": "busy", "code": "rate_limit_exceeded"}})
                broken["cut stream"] = f"data: {json.dumps({'choices': [{'delta': {'content': 'half'}}]})}\n\n"
                broken["wrong types"] = json.dumps({"choices": [{"message": {"content": {"a": 1}}}], "usage": "many"})
                self._send(200, broken[kind])

        def _send(self, status: int, text: str, headers: dict[str, str] | None = None, cut: int | None = None) -> None:
            data = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data[:cut])
            if cut is not None:
                self.wfile.flush()
                self.connection.shutdown(socket.SHUT_RDWR)

        def _drip(self, text: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            for byte in text.encode():
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                time.sleep(0.05)

    class Listener(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that was killed is no news."""

    listener = Listener(("127.0.0.1", 0), Handler)
    listener.daemon_threads = True
    listener.request_queue_size = 128
    state.url = f"http://127.0.0.1:{listener.server_address[1]}/v1"
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        listener.shutdown()
        listener.server_close()


def _kind(faults: Faults, question: str, seed: int, attempt: int, number: int) -> str:
    if any(name in question for name in faults.refused):
        return "400"
    if faults.dead_after is not None and number > faults.dead_after:
        return "500"
    draw = random.Random(f"{faults.seed}/{question}/{seed}/{attempt}")
    return draw.choice(faults.kinds) if attempt <= faults.bad_tries and draw.random() < faults.share else "ok"


def _completion(text: str) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    return {"id": "c", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}
