"""Parameters that servers refuse, in the words that servers use, and the recipe's keys for what is sent."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from engines.scripted import answer, as_json, ask, bodies, script
from realm_cli.engines.openai_client import OpenAIGenerator
from realm_cli.engines.server_errors import said_in
from realm_cli.engines.server_params import Parameters, refused_names
from realm_cli.errors import ConfigError, EngineError
from realm_cli.protocols import SamplingParams
from realm_cli.recipe import ServerConfig, load_recipe

SENT = ["max_tokens", "temperature", "top_p", "seed", "stop", "top_k", "min_p"]
LITELLM = "litellm.UnsupportedParamsError: openai does not support parameters: ['top_k'], for model=gpt-5. To drop"
PYDANTIC = {"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted", "input": 5}
VLLM = "[{'type': 'extra_forbidden', 'loc': ('body', 'min_p'), 'msg': 'Extra inputs are not permitted', 'input': 0.1}]"


def error(message: Any, **fields: Any) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", **fields}}


REFUSALS = [
    (error("Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
           param="max_tokens", code="unsupported_parameter"), ["max_tokens"]),
    (error("Unsupported value: 'temperature' does not support 0.7 with this model. Only the default (1) value is "
           "supported.", param="temperature", code="unsupported_value"), ["temperature"]),
    (error("Unrecognized request argument supplied: seed"), ["seed"]),
    (error("Unknown parameter: 'top_k'.", param="top_k", code="unknown_parameter"), ["top_k"]),
    (error("Model grok-4 does not support parameter stop."), ["stop"]),
    (error("Argument not supported on this model: topP"), ["top_p"]),
    (error("`temperature` is deprecated for this model."), ["temperature"]),
    (error("`temperature` and `top_p` cannot both be specified for this model. Please use only one."), ["top_p"]),
    (error("'min_p' : property 'min_p' is unsupported"), ["min_p"]),
    (error("invalid temperature: only 1 is allowed for this model"), ["temperature"]),
    (error("Invalid JSON payload received. Unknown name \"seed\": Cannot find field."), ["seed"]),
    (error("json: unknown field \"top_k\""), ["top_k"]),
    (error("unknown field `seed`, expected one of `model`, `messages`, `temperature`, `max_tokens`"), ["seed"]),
    (error("Unknown parameter seed; allowed are model, messages, max_tokens"), ["seed"]),
    (error("Unknown parameter 'seed'. Allowed: model, messages, max_tokens, temperature, top_p"), ["seed"]),
    (error("Additional properties are not allowed ('seed', 'top_k' were unexpected)"), ["seed", "top_k"]),
    (error("create() got an unexpected keyword argument 'min_p'"), ["min_p"]),
    (error("stop sequences are not supported yet"), ["stop"]),
    (error("The following parameters are not supported: top_p, seed"), ["top_p", "seed"]),
    (error(LITELLM), ["top_k"]),
    (error("Provider returned error", metadata={"raw": json.dumps(error("Unsupported parameter: 'seed'"))}), ["seed"]),
    ({"detail": [PYDANTIC]}, ["seed"]),
    ({"detail": [PYDANTIC, {**PYDANTIC, "loc": ["body", "top_k"]}]}, ["seed", "top_k"]),
    ({"object": "error", "message": {"detail": [PYDANTIC]}, "type": "invalid_request_error"}, ["seed"]),
    ({"object": "error", "message": VLLM, "type": "BadRequestError", "param": None, "code": 400}, ["min_p"]),
    ({"detail": "Unexpected fields in the request: {'min_p'}"}, ["min_p"]),
    ({"error": "seed is not implemented"}, ["seed"]),
    ([{"error": {"code": 400, "message": "Unknown name \"topK\"", "status": "INVALID_ARGUMENT"}}], ["top_k"]),
    (error("max_tokens is no longer supported"), ["max_tokens"]),
]  # fmt: skip
VALUES = [
    error("max_tokens too large"),
    error("max_tokens is too large: 5000. This model supports at most 4096 completion tokens", param="max_tokens"),
    error("This model's maximum context length is 4096 tokens. However, you requested 5000 tokens (1000 in the messages"
          ", 4000 in the completion). Please reduce the length of the messages or max_tokens.", param="max_tokens"),
    error("temperature must be between 0 and 2; 2.5 is not allowed", param="temperature"),
    error("`temperature` must be strictly positive"),
    error("seed: Input should be less than or equal to 2147483647", param="seed"),
    error("Only values between 0 and 1 are supported for top_p", param="top_p", code="unsupported_value"),
    error("stop: at most 4 sequences are allowed", param="stop"),
    error("The model does not support more than 4096 max_tokens"),
    error("Unsupported value: 'messages[0].role' does not support 'system' with this model.",
          param="messages[0].role", code="unsupported_value"),
    error("tools are not supported"),
    error("temperature: 2.5 is not allowed; choose one up to 2"),
    error("Unknown parameter: 'max_tokens_to_sample'"),
    error("Conversation roles must alternate user/assistant"),
    error("The seed of your request was read"),
    error("this server is only for embeddings"),
    {"detail": [{"type": "missing", "loc": ["body", "top_k"], "msg": "Field required"}]},
    {"detail": [{"type": "less_than_equal", "loc": ["body", "temperature"],
                 "msg": "Input should be less than or equal to 1"}]},
    {"detail": [{"type": "value_error", "loc": ["body"], "msg": "Value error, unexpected tool", "input":
                 {"max_tokens": 5, "seed": 3}}]},
]  # fmt: skip


@pytest.mark.parametrize(("body", "names"), REFUSALS)
@pytest.mark.parametrize("status", [400, 422])
def test_refusals_in_the_words_of_servers(body: Any, names: list[str], status: int) -> None:
    said = said_in(body, status)
    assert said is not None and refused_names(said, SENT) == names
    assert refused_names(said, ["logit_bias"]) == []  # what was not sent cannot be left out


@pytest.mark.parametrize("body", VALUES)
def test_a_wrong_value_is_no_refusal_of_the_parameter(body: Any) -> None:
    said = said_in(body, 400)
    assert said is not None and refused_names(said, SENT) == []


@pytest.mark.parametrize("status", [401, 403, 404, 408, 413, 429, 502, 503])
def test_other_statuses_are_no_refusals(status: int) -> None:
    said = said_in(error("Unsupported parameter: 'seed'"), status)
    assert said is not None and refused_names(said, SENT) == []


class Picky:
    """Refuses one of `names` at a time, in OpenAI's words, unless the request lacks them; counts what it refuses."""

    def __init__(self, *names: str, status: int = 400, delay: float = 0.0) -> None:
        self.names, self.status, self.delay = names, status, delay
        self.refused: Counter[str] = Counter()
        self.lock = threading.Lock()

    def __call__(self, request: Request) -> Response:
        time.sleep(self.delay)
        sent = request.get_json()
        for name in self.names:
            if name in sent:
                with self.lock:
                    self.refused[name] += 1
                text = f"Unsupported parameter: '{name}' is not supported with this model."
                return as_json(error(text, param=name, code="unsupported_parameter"), self.status)
        return as_json(answer("nine"))


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.startswith("realm_cli")]


PARAMS = SamplingParams(12, 0.7, top_p=0.9, top_k=5, min_p=0.1, stop=("END",), seed=3)


def test_a_refused_parameter_is_told_once_and_sent_no_more(
    httpserver: HTTPServer, client: OpenAIGenerator, caplog: pytest.LogCaptureFixture
) -> None:
    server = Picky("max_tokens", "seed", "temperature", delay=0.02)
    script(httpserver, server)
    found = dict(client.generate(ask(*"abcdefgh", n=5), PARAMS))
    assert [done.text for row in found.values() for done in row] == ["nine"] * 40
    lines = told(caplog)
    assert len(lines) == 3
    assert lines[0].endswith("; sent as max_completion_tokens from here on")
    assert "#m: the server refuses seed (Unsupported parameter: 'seed' is not supported with this model.); " in lines[1]
    assert "sent without it from here on: samples are others in every run" in lines[1]
    assert (
        "samples are drawn at the server's own temperature" in lines[2]
        and "engine.server.omit=[temperature]" in (lines[2])
    )
    last = bodies(httpserver)[-1]
    assert last["max_completion_tokens"] == 12 and last["top_p"] == 0.9 and last["stop"] == ["END"]
    assert not {"max_tokens", "seed", "temperature"} & set(last)
    # those under way at most, and none in the second call
    assert all(n <= client.server.concurrency for n in server.refused.values())
    before = server.refused.copy()
    list(client.generate(ask("a", n=9), PARAMS))
    assert server.refused == before and len(told(caplog)) == 3
    assert client.refused == {"max_tokens": "max_completion_tokens", "seed": None, "temperature": None}


@pytest.mark.parametrize("name", ["max_tokens", "temperature", "top_p", "seed", "stop", "top_k", "min_p"])
@pytest.mark.parametrize("status", [200, 400, 422])
def test_every_parameter_may_be_refused(
    httpserver: HTTPServer, client: OpenAIGenerator, caplog: pytest.LogCaptureFixture, name: str, status: int
) -> None:
    script(httpserver, Picky(name, status=status))
    hasty = OpenAIGenerator(client.urls, "m", ServerConfig(retries=0))  # a refusal is no failed try
    [(_, [done])] = hasty.generate(ask("a"), PARAMS)
    assert done.text == "nine" and len(bodies(httpserver)) == 2 and len(told(caplog)) == 1
    assert name not in bodies(httpserver)[1] and name in told(caplog)[0]


def test_neither_name_of_the_limit(
    httpserver: HTTPServer, client: OpenAIGenerator, caplog: pytest.LogCaptureFixture
) -> None:
    script(httpserver, Picky("max_tokens", "max_completion_tokens"))
    [(_, [done])] = client.generate(ask("a"), PARAMS)
    assert done.text == "nine" and client.refused == {"max_tokens": None}
    assert "answers end where the server ends them" in told(caplog)[1]


def test_a_refusal_of_what_is_not_sent_is_an_error(httpserver: HTTPServer, client: OpenAIGenerator) -> None:
    text = "Unsupported parameter: 'logprobs'"
    script(httpserver, lambda request: as_json(error(text, param="logprobs", code="unsupported_parameter"), 400))
    [(_, [done])] = client.generate(ask("a"), PARAMS)
    assert done.failure == f"status 400 ({text})" and len(bodies(httpserver)) == 1


def test_a_server_that_refuses_what_it_did_not_get_is_left_alone(
    httpserver: HTTPServer, client: OpenAIGenerator
) -> None:
    script(httpserver, lambda request: as_json(error("Unsupported parameter: 'seed'"), 400))
    [(_, [done])] = client.generate(ask("a"), PARAMS)
    assert done.failure == "status 400 (Unsupported parameter: 'seed')" and len(bodies(httpserver)) == 2


def test_refused_tries_count_in_the_budget(httpserver: HTTPServer, client: OpenAIGenerator) -> None:
    script(httpserver, Picky("max_tokens", "seed"))
    tight = OpenAIGenerator(client.urls, "m", ServerConfig(max_requests=2))
    with pytest.raises(EngineError, match="the budget of 2 requests"):
        list(tight.generate(ask("a"), PARAMS))
    assert tight.budget.requests == 2


def test_a_key_in_a_refusal_is_not_shown(
    httpserver: HTTPServer, client: OpenAIGenerator, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REALM_API_KEY", "rk-very-secret-123")

    def refuse(request: Request) -> Response:
        if "seed" in request.get_json():
            return as_json(error(f"seed is not supported for {request.headers['Authorization']}"), 400)
        return as_json(answer("nine"))

    script(httpserver, refuse)
    list(client.generate(ask("a"), PARAMS))
    assert "seed is not supported for Bearer ***" in told(caplog)[0] and "very-secret" not in caplog.text


def test_extra_and_omit(httpserver: HTTPServer, client: OpenAIGenerator) -> None:
    script(httpserver, lambda request: as_json(answer("nine")))
    extra = {"reasoning_effort": "low", "chat_template_kwargs": {"enable_thinking": False}, "temperature": 0.2}
    config = ServerConfig(extra=extra, omit=["seed", "top_p", "temperature"])
    list(OpenAIGenerator(client.urls, "m", config).generate(ask("a"), PARAMS))
    [sent] = bodies(httpserver)
    assert sent.items() >= extra.items() and not {"seed", "top_p"} & set(sent)
    assert sent["max_tokens"] == 12 and sent["top_k"] == 5
    other = ServerConfig(extra={"max_completion_tokens": 99})
    list(OpenAIGenerator(client.urls, "m", other).generate(ask("a"), PARAMS))
    assert bodies(httpserver)[1]["max_completion_tokens"] == 99 and "max_tokens" not in bodies(httpserver)[1]


def test_what_the_user_asks_for_is_never_left_out(httpserver: HTTPServer, client: OpenAIGenerator) -> None:
    script(httpserver, Picky("reasoning_effort"))
    config = ServerConfig(extra={"reasoning_effort": "low"})
    with pytest.raises(EngineError) as caught:
        list(OpenAIGenerator(client.urls, "m", config).generate(ask(*"abcd", n=4), PARAMS))
    assert "#m: the server refuses reasoning_effort (Unsupported" in str(caught.value)
    assert str(caught.value).endswith("; change engine.server.extra or take it out")
    assert len(bodies(httpserver)) <= 8


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("extra={model: x}", "engine.server.extra: model cannot be set: the model's name says it"),
        ("extra={seed: 1}", "seed cannot be set: every sample has its own, and with one they would be alike"),
        ("extra={n: 4}", "n cannot be set: each request asks for one sample; the stages have n"),
        ("extra={messages: []}", "messages cannot be set"),
        ("extra={api_key: sk-123456789}", "api_key would be written to files; leave it out and set REALM_API_KEY"),
        ("extra={x: .inf}", "engine.server.extra"),
        ("extra={x: 2024-01-01}", "engine.server.extra.x"),
        ("extra=[a]", "engine.server.extra: input should be a valid dictionary"),
        ("omit=[sed]", "engine.server.omit.0: input should be 'max_tokens', 'temperature'"),
        ("reasoning=yes", "engine.server.reasoning: input should be 'think' or 'drop'"),
        ("empty=ask", "engine.server.empty: input should be 'fail' or 'keep'"),
        ("extras={}", "engine.server.extras: unknown key; did you mean extra?"),
    ],
)
def test_wrong_keys_are_one_line(setting: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe(None, [f"engine.server.{setting}"])
    assert message in str(caught.value) and "\n" not in str(caught.value) and "sk-123" not in str(caught.value)


def test_a_recipe_with_the_keys_comes_back_from_its_file() -> None:
    recipe = load_recipe(None, ["engine.server.extra.reasoning_effort=low", "engine.server.omit=[seed]"])
    assert recipe.engine.server.extra == {"reasoning_effort": "low"} and recipe.engine.server.omit == ["seed"]
    assert type(recipe).model_validate(json.loads(recipe.model_dump_json())) == recipe


def test_a_refusal_that_two_threads_meet_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    parameters = Parameters("m", ServerConfig())
    sent = parameters.body({"max_tokens": 5, "seed": 1})
    said = said_in(error("Unsupported parameter: 'max_tokens'"), 400)
    assert said is not None and parameters.learn(said, sent) and parameters.learn(said, sent)
    assert parameters.body({"max_tokens": 5, "seed": 1}) == {"max_completion_tokens": 5, "seed": 1}
    assert len(told(caplog)) == 1
