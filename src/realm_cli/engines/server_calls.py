"""One request to a server that may be slow, busy or broken: retries, a budget, a deadline, and reasons without keys.

Time-outs, lost or cut connections, 408, 409, 425, 429, 5xx and answers that are no chat completion are tried again
after growing pauses (Retry-After is honoured). A slow drip counts as a time-out: the limit is for the whole answer from
its request on. It is looked at when something comes: a body that stands still, or headers that drip, may take longer.
What a body says: engines/server_answers.py; errors: server_errors.py; parameters that are refused: server_params.py.

Of several servers the least busy one is asked; another try goes to another one.

Usage: `Caller(urls, key, model, parameters, budget).ask(messages, wanted)`; Failed: this request; EngineError: all
"""

from __future__ import annotations

import email.utils
import random
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import httpx2 as httpx
import openai

from realm_cli.engines.budget import Budget
from realm_cli.engines.programs import well_formed
from realm_cli.engines.server_answers import Answer, NoCompletion, check, error_in, load_body, read_answer
from realm_cli.engines.server_errors import FILTERED, Again, Failed, Said, said_in
from realm_cli.engines.server_params import Parameters
from realm_cli.errors import EngineError
from realm_cli.method.thinking import one_think, with_thought
from realm_cli.protocols import Completion

CONNECT_SECONDS = 10.0
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 8.0  # seconds; doubled from try to try
LONGEST_WAIT = 120.0  # a server may ask for as much by Retry-After
STARTED = "realm_started"  # a request's extension: when it was sent
STEPS = 3  # line breaks of an answer that holds steps, and not only what they come to
PLACEHOLDER = 8  # a shorter key (none, EMPTY, x) is no secret, and may be a word of an answer
Messages = Sequence[Mapping[str, str]]


class Caller:
    """Asks servers of one model with one key; threads may share it. `stop` ends pauses at once."""

    def __init__(self, urls: Sequence[str], key: str, model: str, parameters: Parameters, budget: Budget) -> None:
        self.name, self.server, self.model = parameters.name, parameters.server, model
        self._key, self._parameters, self._budget, server = key, parameters, budget, parameters.server
        self.stop = threading.Event()
        self.apart = 0  # answers that hold steps of their own beside a thought
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

    def ask(self, messages: Messages, wanted: Mapping[str, Any]) -> Completion:
        """The answer to a chat; wanted: the other fields. Failed, whose text is the same for like failures;
        EngineError, after which no thread asks any more; CancelledError where the work has stopped.
        """
        last = None
        for attempt in range(self.server.retries + 1):
            if self.stop.is_set():
                raise CancelledError
            try:
                self._budget.take(self.name)
                with self._least_busy(last) as last:
                    return self._once(self.clients[last], messages, wanted)
            except Again as error:
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

    def _once(self, client: openai.OpenAI, messages: Messages, wanted: Mapping[str, Any]) -> Completion:
        """One try, and at once another one where only a parameter was refused."""
        while True:
            sent = self._parameters.body(wanted)
            try:
                body, said, headers = self._post(client, messages, sent)
            except openai.NotFoundError:
                raise  # the caller knows the models
            except openai.APITimeoutError:
                raise Again(f"no answer within {self.server.timeout:g} s; lower max_tokens") from None
            except openai.APIConnectionError:
                raise Again("the connection was lost; see the server's log") from None
            except (openai.OpenAIError, ValueError, TypeError) as error:
                raise Again(self._no_completion(error)) from None
            if said is None:
                return self._completion(body, messages, wanted)
            said = replace(said, message=self._without_key(said.message))
            if not self._parameters.learn(said, sent):
                raise self._error(said, headers)
            self._budget.take(self.name)

    def _post(
        self, client: openai.OpenAI, messages: Messages, sent: Mapping[str, Any]
    ) -> tuple[Any, Said | None, httpx.Headers]:
        """(the body, the error that it holds, headers)."""
        create: Any = client.chat.completions.with_raw_response.create
        try:
            answer = create(model=self.model, messages=[dict(m) for m in messages], extra_body=dict(sent)).http_response
        except openai.NotFoundError:
            raise
        except openai.APIStatusError as error:
            response = error.response
            body = None
            with suppress(ValueError, RecursionError):
                body = response.json()
            said = said_in(body, error.status_code) or Said(error.status_code, response.text or error.message)
            return None, said, response.headers
        body = load_body(answer.content)
        return body, error_in(body), answer.headers

    def _error(self, said: Said, headers: httpx.Headers) -> Exception:
        """What an error is to the work: Failed, Again or EngineError."""
        if said.filtered:
            return Failed(FILTERED, here=True)
        if said.status in (401, 403):
            return EngineError(f"{self.name}: access denied; set REALM_API_KEY or OPENAI_API_KEY")
        if said.spent:
            return EngineError(f"{self.name}: {self.short(said.message)}; see to the account and rerun with --resume")
        text = f"status {said.status} ({self.short(said.message)})" if said.status else self.short(said.message)
        if said.status == 429:
            text = f"still rate-limited after {self.server.retries} retries; resume later"
        return Again(text, retry_after(headers)) if said.passing else Failed(text, here=said.too_long)

    def _completion(self, body: Any, messages: Messages, wanted: Mapping[str, Any]) -> Completion:
        try:
            answer = read_answer(body)
        except NoCompletion as error:
            raise Again(self._no_completion(*error.args)) from None
        words = len(f"{answer.thought} {answer.text}".split())
        n_tokens = answer.tokens if answer.tokens is not None else words  # where the server does not count
        prompt = sum(len(message["content"].split()) for message in messages)
        self._budget.count(n_tokens + (answer.prompt_tokens if answer.prompt_tokens is not None else prompt))
        check(answer, keep_empty=self.server.empty == "keep")
        text = self._without_key(well_formed(self._text(answer, wanted.get("stop") or ())))  # a row of a file
        return Completion(text=text, n_tokens=n_tokens, truncated=answer.cut)

    def _text(self, answer: Answer, stops: Sequence[str]) -> str:
        """Thought and answer as one text; the only place where they are put together. method/thinking.py says how."""
        text = answer.text
        for stop in stops:  # also where the server was not told, or leaves the stop text in
            text = text.partition(stop)[0]
        keep = self.server.reasoning == "think"
        if keep and answer.thought.strip() and "<think>" not in text and text.strip().count("\n") >= STEPS:
            self.apart += 1  # threads may lose one: it is only told
        whole = with_thought(text, answer.thought if keep or answer.misplaced else "", cut=answer.cut)
        return one_think(whole, keep=keep)

    def _no_completion(self, what: object) -> str:
        return f"the answer is no chat completion ({self.short(what)}); does the URL end in /v1?"

    def reason(self, error: openai.APIStatusError) -> str:
        """What the server says about an error: its message where the body has one, else the body."""
        said = said_in(error.body, error.status_code)
        return self.short(said.message if said else error.response.text or error.message)

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
