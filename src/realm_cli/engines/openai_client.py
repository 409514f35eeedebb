"""Any OpenAI-compatible server as a generator: vLLM, llama.cpp, Ollama, `transformers serve`, hosted APIs.

One chat-completion request per sample, `engine.server.concurrency` at a time, as not every server knows `n`. What is
tried again: engines/server_calls.py; the budget: engines/budget.py. The key comes from REALM_API_KEY or OPENAI_API_KEY
(local servers need none) and is never shown.

Usage: `OpenAIGenerator.from_spec("openai:http://localhost:8000/v1#Qwen/Qwen2.5-7B-Instruct")`; several servers of one
model: `openai:http://a:8000/v1,http://b:8000/v1#MODEL`. Each request goes to the one with the fewest under way.

Notes. (1) Every sample sends its own `seed`, from (seed, key, sample); whether it is obeyed is the server's choice.
(2) `top_k` and `min_p` are no OpenAI fields: they are sent only when set. (3) Log-probabilities and token ids are not
asked for. (4) A sample that fails for good is a Completion with `failure`, and the others go on. A wrong key or model,
a spent budget, and twice as many failures in a row as requests at a time stop all: what has been completed is yielded,
then EngineError is raised.
"""

from __future__ import annotations

import difflib
import logging
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, as_completed
from typing import Any
from urllib.parse import urlsplit

import openai

from realm_cli.engines.budget import Budget
from realm_cli.engines.server_calls import Caller
from realm_cli.engines.server_errors import Failed
from realm_cli.engines.server_params import Parameters
from realm_cli.errors import ConfigError, EngineError
from realm_cli.protocols import Completion, GenRequest, SamplingParams
from realm_cli.recipe import SAMPLING, ServerConfig, refuse_secret

log = logging.getLogger(__name__)
NOT_ASKED = "not asked: the work stopped before"
WORDLESS = (
    "%s: %d answers ended before their first word (an unseen thought may have taken all tokens); they count as cut off "
    "or wrong: raise max_tokens, or ask for less thought, as by engine.server.extra={reasoning_effort: low}"
)

APART = (
    "%s: %d answers hold lines of their own behind a thought that came beside them; their steps are read from the "
    "thought (engine.server.reasoning=drop: from the answer)"
)


class OpenAIGenerator:
    """protocols.Generator over servers of one model. A URL ends before /chat/completions: http://localhost:8000/v1."""

    def __init__(
        self, urls: Sequence[str], model: str, server: ServerConfig | None = None, budget: Budget | None = None
    ) -> None:
        self.urls, self.model = [url.rstrip("/") for url in urls], model
        self.server = server or ServerConfig()
        self.name = f"openai:{_host(self.urls[0])}#{model}"  # other servers of the model may come and go
        self.budget = budget or Budget(self.server)
        self._parameters = Parameters(self.name, self.server)

    @property
    def settings(self) -> dict[str, Any]:
        """Recipe keys that decide what it writes: work that is continued must have the same."""
        return {key: value for key, value in self.server.model_dump(mode="json").items() if key in SAMPLING}

    @property
    def refused(self) -> dict[str, str | None]:
        """Parameters that the server has refused so far -> the name they are sent under instead; None = not sent."""
        return dict(self._parameters.refused)

    @classmethod
    def from_spec(cls, spec: str, server: ServerConfig | None = None, budget: Budget | None = None) -> OpenAIGenerator:
        """From `openai:URL[,URL...]#MODEL`. ConfigError, also for a URL with a password: files would hold it."""
        text, sep, model = spec.removeprefix("openai:").rpartition("#")
        urls = text.split(",")
        refuse_secret(spec)
        if not sep or not model or not all(map(_is_url, urls)):
            raise ConfigError("model openai: expected openai:URL#MODEL, e.g. openai:http://localhost:8000/v1#my-model")
        if len(set(urls)) < len(urls):
            raise ConfigError("model openai: a URL is named twice; name each once")
        return cls(urls, model, server, budget)

    def generate(
        self, requests: Sequence[GenRequest], params: SamplingParams
    ) -> Iterator[tuple[int, list[Completion]]]:
        """Yield (request index, n completions) as they finish. EngineError for a dead server or an unknown model."""
        yield from ((i, []) for i, request in enumerate(requests) if request.n == 0)
        jobs = [(i, request.first_sample + j) for i, request in enumerate(requests) for j in range(request.n)]
        if not jobs:
            return
        caller = self._caller()
        at_once = self.server.concurrency * len(self.urls)
        pool = ThreadPoolExecutor(at_once, thread_name_prefix="openai")
        done: dict[int, dict[int, Completion]] = defaultdict(dict)
        stop: EngineError | None = None
        in_a_row = wordless = 0
        try:
            self._check_alive(caller)
            futures: dict[Future[Completion], tuple[int, int]] = {
                pool.submit(self._ask, caller, requests[i], sample, params): (i, sample) for i, sample in jobs
            }
            for future in as_completed(futures):
                i, sample = futures[future]
                try:
                    done[i][sample] = came = future.result()
                    wordless += not came.text.strip()
                    in_a_row = 0
                except Failed as error:
                    done[i][sample] = Completion("", failure=str(error))
                    in_a_row += 0 if error.here else 1  # a filter or a long prompt says nothing of the next request
                    if in_a_row >= 2 * at_once:
                        text = f"{self.name}: {in_a_row} requests failed in a row, the last one: {error}"
                        stop = stop or EngineError(f"{text}; correct it and rerun with --resume")
                except EngineError as error:
                    stop = stop or error
                except CancelledError:
                    continue
                if stop is not None:
                    caller.stop.set()  # nobody waits for another try
                    for other in futures:
                        other.cancel()
                if len(done[i]) == requests[i].n:
                    found = done.pop(i)
                    yield i, [found[key] for key in sorted(found)]
            if stop is not None:
                yield from self._rest(requests, done)
                raise stop
        finally:  # also when the caller stops early
            if wordless:
                log.warning(WORDLESS, self.name, wordless)
            if caller.apart:
                log.warning(APART, self.name, caller.apart)
            pool.shutdown(wait=False, cancel_futures=True)
            caller.close()

    def _rest(
        self, requests: Sequence[GenRequest], done: dict[int, dict[int, Completion]]
    ) -> Iterator[tuple[int, list[Completion]]]:
        """Requests of which some samples came before the work stopped."""
        for i, found in done.items():
            if any(not completion.failure for completion in found.values()):
                samples = range(requests[i].first_sample, requests[i].first_sample + requests[i].n)
                yield i, [found.get(sample, Completion("", failure=NOT_ASKED)) for sample in samples]

    def _caller(self) -> Caller:
        found = ((name, os.environ.get(name, "").strip()) for name in ("REALM_API_KEY", "OPENAI_API_KEY"))
        name, key = next(((name, key) for name, key in found if key), ("", "none"))
        if not (key.isascii() and key.isprintable()):
            raise EngineError(f"{name}: holds a character that no key has; set it again")
        return Caller(self.urls, key, self.model, self._parameters, self.budget)

    def _check_alive(self, caller: Caller) -> None:
        """One quick request each, so that a dead server is reported at once and not after all retries."""
        for url, client in zip(self.urls, caller.clients, strict=True):
            try:
                client.with_options(max_retries=1, timeout=min(30.0, self.server.timeout)).models.list()
            except openai.APITimeoutError:
                pass  # a busy server
            except openai.APIConnectionError:
                place = f"{urlsplit(url).scheme}://{_host(url)}{urlsplit(url).path}"
                raise EngineError(
                    f"openai:{_host(url)}: no answer at {place}; start the server or correct the URL"
                ) from None
            except openai.OpenAIError:
                pass  # not every server lists its models
            except ValueError:
                pass

    def _ask(self, caller: Caller, request: GenRequest, sample: int, params: SamplingParams) -> Completion:
        try:
            return caller.ask(request.messages, self._body(request, sample, params))
        except openai.NotFoundError as error:
            raise EngineError(self._unknown(caller, error)) from None

    def _body(self, request: GenRequest, sample: int, params: SamplingParams) -> dict[str, Any]:
        """The fields beside model and messages, as OpenAI names them."""
        body: dict[str, Any] = {
            "max_tokens": params.max_tokens,
            "temperature": params.temperature,
            "top_p": params.top_p,
            "seed": params.seed_of(request.key, sample),
            "stop": list(params.stop),
            "top_k": params.top_k,
            "min_p": params.min_p,
        }
        return {key: value for key, value in body.items() if value or key not in ("stop", "top_k", "min_p")}

    def _unknown(self, caller: Caller, error: openai.APIStatusError) -> str:
        """The message for a 404: the model or the path is wrong."""
        try:
            names = [model.id for client in caller.clients for model in client.with_options(timeout=10).models.list()]
        except (openai.OpenAIError, ValueError, TypeError, AttributeError):
            names = []
        if self.model in names or not names:
            return f"{self.name}: not found ({caller.reason(error)}); check the model's name and that the URL has /v1"
        near = difflib.get_close_matches(self.model, names, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}?" if near else f"it serves {', '.join(names[:5])}"
        return f"{self.name}: the server does not know this model; {hint}"


def _host(url: str) -> str:
    """Host and port, without a user name or password that the URL may hold."""
    return urlsplit(url).netloc.rpartition("@")[2]


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets without an address, a port that is none
        return False
