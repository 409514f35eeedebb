"""Any OpenAI-compatible server as a generator: vLLM, llama.cpp, Ollama, `transformers serve`, hosted APIs.

One chat-completion request per sample, 8 at a time, as not every server knows `n`. The library retries time-outs, lost
connections, 408, 409, 429 and 5xx with growing pauses and honours Retry-After. The key comes from REALM_API_KEY or
OPENAI_API_KEY (local servers need none) and is never shown.

Usage: `OpenAIGenerator.from_spec("openai:http://localhost:8000/v1#Qwen/Qwen2.5-7B-Instruct")`

Notes. (1) Every sample sends its own `seed`, from (seed, key, sample); whether it is obeyed is the server's choice.
(2) `top_k` and `min_p` are no OpenAI fields: they are sent only when set. (3) Log-probabilities and token ids are not
asked for. (4) After an error that lasts, what has been completed is still yielded, then EngineError is raised.
"""

from __future__ import annotations

import difflib
import hashlib
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, as_completed
from typing import Any
from urllib.parse import urlsplit

import openai

from realm_cli.errors import ConfigError, EngineError
from realm_cli.protocols import Completion, GenRequest, SamplingParams

CONCURRENCY = 8
RETRIES = 6
READ_SECONDS = 600.0  # a slow server may take minutes for a long completion
CONNECT_SECONDS = 10.0


class OpenAIGenerator:
    """protocols.Generator over a server. `base_url` ends before /chat/completions, as in http://localhost:8000/v1."""

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        concurrency: int = CONCURRENCY,
        retries: int = RETRIES,
        timeout: float = READ_SECONDS,
    ) -> None:
        self.base_url, self.model = base_url.rstrip("/"), model
        self.concurrency, self.retries, self.timeout = concurrency, retries, timeout
        self.name = f"openai:{self._host}#{model}"

    @classmethod
    def from_spec(cls, spec: str) -> OpenAIGenerator:
        """From `openai:URL#MODEL`. ConfigError."""
        url, sep, model = spec.removeprefix("openai:").rpartition("#")
        if not sep or not model or urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).netloc:
            raise ConfigError("model openai: expected openai:URL#MODEL, e.g. openai:http://localhost:8000/v1#my-model")
        return cls(url, model)

    @property
    def _host(self) -> str:
        """Host and port, without a user name or password that the URL may hold."""
        return urlsplit(self.base_url).netloc.rpartition("@")[2]

    def generate(
        self, requests: Sequence[GenRequest], params: SamplingParams
    ) -> Iterator[tuple[int, list[Completion]]]:
        """Yield (request index, n completions) as they finish. EngineError for a dead server or an unknown model."""
        yield from ((i, []) for i, request in enumerate(requests) if request.n == 0)
        jobs = [(i, request.first_sample + j) for i, request in enumerate(requests) for j in range(request.n)]
        if not jobs:
            return
        client = self._client()
        pool = ThreadPoolExecutor(self.concurrency, thread_name_prefix="openai")
        done: dict[int, dict[int, Completion]] = defaultdict(dict)
        failure: EngineError | None = None
        try:
            self._check_alive(client)
            futures: dict[Future[Completion], tuple[int, int]] = {
                pool.submit(self._ask, client, requests[i], sample, params): (i, sample) for i, sample in jobs
            }
            for future in as_completed(futures):
                i, sample = futures[future]
                try:
                    done[i][sample] = future.result()
                except EngineError as error:
                    failure = failure or error
                    for other in futures:
                        other.cancel()
                    continue
                except CancelledError:
                    continue
                if len(done[i]) == requests[i].n:
                    yield i, [done[i][key] for key in sorted(done[i])]
            if failure is not None:
                raise failure
        finally:  # also when the caller stops early
            pool.shutdown(wait=False, cancel_futures=True)
            client.close()

    def _client(self) -> openai.OpenAI:
        key = os.environ.get("REALM_API_KEY") or os.environ.get("OPENAI_API_KEY") or "none"
        timeout = openai.Timeout(self.timeout, connect=min(CONNECT_SECONDS, self.timeout))
        return openai.OpenAI(base_url=self.base_url, api_key=key, max_retries=self.retries, timeout=timeout)

    def _check_alive(self, client: openai.OpenAI) -> None:
        """One quick request, so that a dead server is reported at once and not after all retries."""
        try:
            client.with_options(max_retries=1, timeout=30).models.list()
        except openai.APITimeoutError:
            pass  # a busy server
        except openai.APIConnectionError:
            raise EngineError(
                f"openai:{self._host}: no answer at {self._url}; start the server or correct the URL"
            ) from None
        except openai.OpenAIError:
            pass  # not every server lists its models
        except ValueError:
            pass

    @property
    def _url(self) -> str:
        parts = urlsplit(self.base_url)
        return f"{parts.scheme}://{self._host}{parts.path}"

    def _ask(self, client: openai.OpenAI, request: GenRequest, sample: int, params: SamplingParams) -> Completion:
        try:
            return _completion(client.chat.completions.create(**self._body(request, sample, params)), self.name)
        except openai.NotFoundError as error:
            raise EngineError(self._unknown(client, error)) from None
        except (openai.AuthenticationError, openai.PermissionDeniedError):
            raise EngineError(f"{self.name}: access denied; set REALM_API_KEY or OPENAI_API_KEY") from None
        except openai.APITimeoutError:
            raise EngineError(f"{self.name}: no answer within {self.timeout:g} s; lower max_tokens") from None
        except openai.APIConnectionError:
            raise EngineError(f"{self.name}: connection to {self._url} lost; see the server's log") from None
        except openai.RateLimitError:
            raise EngineError(f"{self.name}: still rate-limited after {self.retries} retries; resume later") from None
        except openai.APIStatusError as error:
            raise EngineError(f"{self.name}: status {error.status_code} for {request.key} ({_reason(error)})") from None
        except (openai.OpenAIError, ValueError, TypeError) as error:
            raise EngineError(
                f"{self.name}: the answer is no chat completion ({_short(error)}); does the URL end in /v1?"
            ) from None

    def _body(self, request: GenRequest, sample: int, params: SamplingParams) -> dict[str, Any]:
        digest = hashlib.sha256(f"{params.seed}\0{request.key}\0{sample}".encode()).digest()
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [dict(message) for message in request.messages],
            "max_tokens": params.max_tokens,
            "temperature": params.temperature,
            "top_p": params.top_p,
            "seed": int.from_bytes(digest[:4], "little") >> 1,
        }
        if params.stop:
            body["stop"] = list(params.stop)
        extra = {"top_k": params.top_k, "min_p": params.min_p}
        body["extra_body"] = {key: value for key, value in extra.items() if value}
        return body

    def _unknown(self, client: openai.OpenAI, error: openai.APIStatusError) -> str:
        """The message for a 404: the model or the path is wrong."""
        try:
            names = [model.id for model in client.with_options(max_retries=0, timeout=10).models.list()]
        except (openai.OpenAIError, ValueError, TypeError, AttributeError):
            names = []
        if self.model in names or not names:
            return f"{self.name}: not found ({_reason(error)}); check the model's name and that the URL has /v1"
        near = difflib.get_close_matches(self.model, names, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}?" if near else f"it serves {', '.join(names[:5])}"
        return f"{self.name}: the server does not know this model; {hint}"


def _completion(answer: Any, name: str) -> Completion:
    choices = getattr(answer, "choices", None)
    if not choices or getattr(choices[0], "message", None) is None:
        raise EngineError(f"{name}: the answer is no chat completion ({_short(answer)}); does the URL end in /v1?")
    text = choices[0].message.content or ""
    used = getattr(getattr(answer, "usage", None), "completion_tokens", None)
    return Completion(
        text=text,
        n_tokens=int(used) if used is not None else len(text.split()),
        truncated=choices[0].finish_reason == "length",
    )


def _reason(error: openai.APIStatusError) -> str:
    """What the server says about an error: its message where the body has one, else the body."""
    body = error.body if isinstance(error.body, dict) else {}
    return _short(body.get("message") or body.get("detail") or error.response.text or error.message)


def _short(value: object) -> str:
    """The beginning of a message, in one line."""
    text = " ".join(str(value).split())
    return text if len(text) <= 160 else text[:157] + "..."
