"""One request to a server that may be slow, busy or broken: retries, a budget, a deadline, and reasons without keys.

Time-outs, lost or cut connections, 408, 409, 425, 429, 5xx and answers that are no chat completion are tried again
after growing pauses (Retry-After is honoured). A slow drip counts as a time-out: the limit is for the whole answer from
its request on. It is looked at when something comes: a body that stands still, or headers that drip, may take longer.

Of several servers the least busy one is asked; another try goes to another one.

Usage: `Caller(urls, key, server, name, budget).ask(body)`; Failed = this request, EngineError = all of them
"""

from __future__ import annotations

import email.utils
import random
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from typing import Any

import httpx2 as httpx
import openai

from realm_cli.engines.budget import Budget
from realm_cli.engines.programs import well_formed
from realm_cli.errors import EngineError
from realm_cli.protocols import Completion
from realm_cli.recipe import ServerConfig

CONNECT_SECONDS = 10.0
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 8.0  # seconds; doubled from try to try
LONGEST_WAIT = 120.0  # a server may ask for as much by Retry-After
STARTED = "realm_started"  # a request's extension: when it was sent
PLACEHOLDER = 8  # a shorter key (none, EMPTY, x) is no secret, and may be a word of an answer
AGAIN = (408, 409, 425, 429)  # and all from 500


class Failed(Exception):
    """This request is not answered, the others may be; `str` says why."""


class _Again(Exception):
    """This try failed, the next one may not. pause: what the server asked for, seconds."""

    def __init__(self, reason: str, pause: float | None = None) -> None:
        super().__init__(reason)
        self.pause = pause


class Caller:
    """Asks servers of one model with one key; threads may share it. `stop` ends pauses at once."""

    def __init__(self, urls: Sequence[str], key: str, server: ServerConfig, name: str, budget: Budget) -> None:
        self.name, self.server, self._key, self._budget = name, server, key, budget
        self.stop = threading.Event()
        self._jitter = random.Random()  # of pauses: of nothing that is written
        limit = httpx.Timeout(server.timeout, connect=min(CONNECT_SECONDS, server.timeout))
        hooks: dict[str, list[Any]] = {"request": [self._start], "response": [self._give_deadline]}
        self.clients = [
            openai.OpenAI(
                base_url=url,
                api_key=key,
                max_retries=0,
                timeout=limit,
                http_client=openai.DefaultHttpxClient(timeout=limit, event_hooks=hooks),
            )
            for url in urls
        ]
        self._busy = [0] * len(urls)  # requests under way
        self._lock = threading.Lock()

    def close(self) -> None:
        """No more requests; pauses end."""
        self.stop.set()
        for client in self.clients:
            client.close()

    def ask(self, body: dict[str, Any]) -> Completion:
        """The answer to one chat request. Failed, whose text is the same for like failures; EngineError, after which no
        thread asks any more; CancelledError where the work has stopped.
        """
        last = None
        for attempt in range(self.server.retries + 1):
            if self.stop.is_set():
                raise CancelledError
            try:
                self._budget.take(self.name)
                with self._least_busy(last) as last:
                    return self._once(self.clients[last], body)
            except _Again as error:
                reason, asked = str(error), error.pause
            except (EngineError, openai.NotFoundError):
                self.stop.set()
                raise
            if attempt < self.server.retries:
                usual = min(FIRST_PAUSE * 2**attempt, LONGEST_PAUSE) * self._jitter.uniform(0.75, 1.0)
                self.stop.wait(usual if asked is None else min(asked, LONGEST_WAIT))
        raise Failed(reason)

    @contextmanager
    def _least_busy(self, last: int | None) -> Iterator[int]:
        """A server's number, another one than `last` where there are several."""
        with self._lock:
            number = min(range(len(self._busy)), key=lambda i: (i == last, self._busy[i]))
            self._busy[number] += 1
        try:
            yield number
        finally:
            with self._lock:
                self._busy[number] -= 1

    def _once(self, client: openai.OpenAI, body: dict[str, Any]) -> Completion:
        try:
            answer = client.chat.completions.create(**body)
        except openai.NotFoundError:
            raise  # the caller knows the models
        except (openai.AuthenticationError, openai.PermissionDeniedError):
            raise EngineError(f"{self.name}: access denied; set REALM_API_KEY or OPENAI_API_KEY") from None
        except openai.APITimeoutError:
            raise _Again(f"no answer within {self.server.timeout:g} s; lower max_tokens") from None
        except openai.APIConnectionError:
            raise _Again("the connection was lost; see the server's log") from None
        except openai.RateLimitError as error:
            reason = f"still rate-limited after {self.server.retries} retries; resume later"
            raise _Again(reason, retry_after(error.response.headers)) from None
        except openai.APIStatusError as error:
            text = f"status {error.status_code} ({self.reason(error)})"
            if error.status_code in AGAIN or error.status_code >= 500:
                raise _Again(text, retry_after(error.response.headers)) from None
            raise Failed(text) from None
        except (openai.OpenAIError, ValueError, TypeError) as error:
            raise _Again(self._no_completion(error)) from None
        return self._completion(answer, body)

    def _completion(self, answer: Any, body: dict[str, Any]) -> Completion:
        choices = getattr(answer, "choices", None)
        first = choices[0] if isinstance(choices, list) and choices else None
        message = getattr(first, "message", None)
        if first is None or message is None or not isinstance(message.content, str | None):
            raise _Again(self._no_completion(answer))
        text = self._without_key(well_formed(message.content or ""))  # it will be a row of a file
        usage = getattr(answer, "usage", None)
        used, shown = getattr(usage, "completion_tokens", None), getattr(usage, "prompt_tokens", None)
        n_tokens = used if isinstance(used, int) else len(text.split())  # words, where the server does not count
        prompt = (len(message["content"].split()) for message in body["messages"])
        self._budget.count(n_tokens + (shown if isinstance(shown, int) else sum(prompt)))
        return Completion(text=text, n_tokens=n_tokens, truncated=first.finish_reason == "length")

    def _no_completion(self, what: object) -> str:
        return f"the answer is no chat completion ({self.short(what)}); does the URL end in /v1?"

    def reason(self, error: openai.APIStatusError) -> str:
        """What the server says about an error: its message where the body has one, else the body."""
        body = error.body if isinstance(error.body, dict) else {}
        return self.short(body.get("message") or body.get("detail") or error.response.text or error.message)

    def short(self, value: object) -> str:
        """The beginning of a message, in one line; a server that repeats the key does not get it into our words."""
        text = " ".join(self._without_key(str(value)).split())
        return text if len(text) <= 160 else text[:157] + "..."

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "***") if len(self._key) >= PLACEHOLDER else text

    def _start(self, request: httpx.Request) -> None:
        request.extensions = {**request.extensions, STARTED: time.monotonic()}

    def _give_deadline(self, response: httpx.Response) -> None:
        if isinstance(response.stream, httpx.SyncByteStream):
            end = response.request.extensions[STARTED] + self.server.timeout
            response.stream = _Deadline(response.stream, end, response.request)


class _Deadline(httpx.SyncByteStream):
    """A body that must be through in time, however it drips."""

    def __init__(self, stream: httpx.SyncByteStream, end: float, request: httpx.Request) -> None:
        self.stream, self.end, self.request = stream, end, request

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self.stream:
            if time.monotonic() > self.end:
                raise httpx.ReadTimeout("the whole answer took too long", request=self.request)
            yield chunk

    def close(self) -> None:
        self.stream.close()


def retry_after(headers: httpx.Headers) -> float | None:
    """Seconds that a server asks to wait for (a number, or a date); None where it does not say so."""
    value = headers.get("retry-after", "")
    with suppress(ValueError):
        return max(0.0, float(value))
    with suppress(ValueError, TypeError):
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    return None
