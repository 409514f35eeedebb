"""What real servers answer with status 200: thoughts, parts, streams, filters, nothing at all, errors."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Response

from engines.scripted import answer, as_json, as_stream, ask, bodies, delta, script
from pace import paces
from realm_cli.engines.openai_client import OpenAIGenerator
from realm_cli.engines.server_answers import load_body, read_answer
from realm_cli.errors import EngineError
from realm_cli.method.parsing import parse_completion
from realm_cli.method.steps import parse_route
from realm_cli.protocols import Completion, SamplingParams
from realm_cli.recipe import ServerConfig

STEPS = "1. 2 + 3 = 5\n2. 5 + 4 = 9"
WHOLE = f"<think>\n{STEPS}\n</think>\n<answer>9</answer>"


def one(server: HTTPServer, body: Any, **settings: Any) -> Completion:
    """The completion that comes of an answer: a body, or a response."""
    server.expect_request("/v1/models").respond_with_json({"object": "list", "data": []})
    script(server, lambda request: body if isinstance(body, Response) else as_json(body))
    config = ServerConfig(**{"retries": 0, "timeout": 10, **settings})
    [(_, [done])] = OpenAIGenerator([server.url_for("/v1")], "m", config).generate(ask("a"), SamplingParams(12))
    return done


THOUGHTS = {
    "deepseek, vllm": {"reasoning_content": STEPS},
    "openrouter, ollama, vllm": {"reasoning": STEPS},
    "both": {"reasoning": STEPS, "reasoning_content": STEPS},
    "null and text": {"reasoning_content": None, "reasoning": STEPS},
    "thinking": {"thinking": STEPS},
    "litellm": {"thinking_blocks": [{"type": "thinking", "thinking": STEPS, "signature": "x"}]},
    "details": {"reasoning_details": [{"type": "reasoning.text", "text": STEPS, "format": "x"}]},
    "summary": {"reasoning_details": [{"type": "reasoning.summary", "summary": STEPS}]},
    "details and text": {"reasoning": STEPS, "reasoning_details": [{"type": "reasoning.text", "text": STEPS}]},
    "encrypted": {"reasoning": STEPS, "reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}]},
    "object": {"reasoning": {"content": STEPS}},
    "blanks and tags": {"reasoning_content": f"<think>\n{STEPS}\n</think>\n"},
}


@pytest.mark.parametrize("fields", THOUGHTS.values(), ids=THOUGHTS)
def test_a_thought_beside_the_answer_goes_in_front(httpserver: HTTPServer, fields: dict[str, Any]) -> None:
    done = one(httpserver, answer("<answer>9</answer>", **fields))
    assert done.text == WHOLE and not done.failure and not done.truncated
    assert parse_route(done.text) == (["2 + 3 = 5", "5 + 4 = 9"], "9")
    parsed = parse_completion(done.text, k=0, min_think_words=5)
    assert parsed.ok and parsed.answer == "9" and parsed.own_solution


PARTS = {
    "mistral": [{"type": "thinking", "thinking": [{"type": "text", "text": STEPS}]}, {"type": "text", "text": "<ANS>"}],
    "anthropic": [{"type": "thinking", "thinking": STEPS, "signature": "x"}, {"type": "text", "text": "<ANS>"}],
    "bedrock": [{"type": "reasoning", "text": STEPS}, {"type": "output_text", "text": "<ANS>"}],
    "summary": [{"type": "reasoning", "summary": [{"type": "summary_text", "text": STEPS}]}, {"text": "<ANS>"}],
    "in pieces": [{"type": "reasoning", "reasoning": STEPS}, {"type": "text", "text": "<AN"}, "S>"],
}


@pytest.mark.parametrize("content", PARTS.values(), ids=PARTS)
def test_parts_are_joined(httpserver: HTTPServer, content: list[Any]) -> None:
    text = json.dumps(answer(content)).replace("<ANS>", "<answer>9</answer>").replace("<AN", "<answer>9<")
    text = text.replace('"S>"', '"/answer>"')
    done = one(httpserver, Response(text, 200, mimetype="application/json"))
    assert done.text == WHOLE


def test_a_single_part_and_unknown_ones(httpserver: HTTPServer) -> None:
    assert one(httpserver, answer({"type": "text", "text": "nine"})).text == "nine"


@pytest.mark.parametrize(
    ("content", "kept", "dropped"),
    [
        ("<answer>9</answer>", WHOLE, "<answer>9</answer>"),
        (WHOLE, WHOLE, WHOLE),
        (f"{STEPS}\n</think>\n<answer>9</answer>", WHOLE, WHOLE),
        (f"{STEPS}\n\n<answer>9</answer>", WHOLE, f"{STEPS}\n\n<answer>9</answer>"),
        (
            "<think>So I add.</think><answer>9</answer>",
            f"<think>\n{STEPS}\nSo I add.\n</think><answer>9</answer>",
            "<think>So I add.</think><answer>9</answer>",
        ),
        (
            "<think>Hm.</think>\n<think>So I add.</think><answer>9</answer>",
            f"<think>\n{STEPS}\nHm.\nSo I add.\n</think><answer>9</answer>",
            "<think>So I add.</think><answer>9</answer>",
        ),
    ],
)
def test_one_block_of_thought_and_a_key_to_leave_it_out(
    httpserver: HTTPServer, content: str, kept: str, dropped: str
) -> None:
    body = answer(content, reasoning_content=STEPS)
    assert one(httpserver, body, reasoning="drop").text == dropped
    httpserver.clear()
    assert one(httpserver, body).text == kept
    if kept != content:
        assert parse_completion(kept, k=0, min_think_words=5).ok


@pytest.mark.parametrize(("reasoning", "told"), [("think", 1), ("drop", 0)])
def test_two_sets_of_steps_are_told(
    httpserver: HTTPServer, caplog: pytest.LogCaptureFixture, reasoning: str, told: int
) -> None:
    """What a teacher that thinks apart makes of a prompt that asks for numbered steps."""
    own = "1. Two and three are 5.\n2. Five and four are 9.\n3. So 9.\nAnswer: 9"
    done = one(httpserver, answer(own, reasoning_content=STEPS), reasoning=reasoning)
    steps, final = parse_route(done.text)
    assert steps[0] == ("2 + 3 = 5" if told else "Two and three are 5.") and final == "9"
    assert caplog.text.count("#m: 1 answers hold lines of their own behind a thought") == told
    assert caplog.text.count("engine.server.reasoning=drop") == told


def test_a_text_that_begins_inside_the_thought(httpserver: HTTPServer) -> None:
    assert one(httpserver, answer(f"{STEPS}\n</think>\n<answer>9</answer>")).text == WHOLE


def test_a_thought_that_was_cut_is_a_truncated_answer(httpserver: HTTPServer, caplog: pytest.LogCaptureFixture) -> None:
    done = one(httpserver, answer("", "length", reasoning_content=STEPS))
    assert done == Completion(f"<think>\n{STEPS}", n_tokens=7, truncated=True)
    assert "before their first word" not in caplog.text


@pytest.mark.parametrize("fields", [{}, {"reasoning_content": ""}, {"reasoning_content": None}])
def test_an_answer_cut_before_its_first_word_is_told(
    httpserver: HTTPServer, caplog: pytest.LogCaptureFixture, fields: dict[str, Any]
) -> None:
    done = one(httpserver, answer("", "length", **fields))
    assert done.text == "" and done.truncated and not done.failure
    [line] = [record.getMessage() for record in caplog.records if record.name.startswith("realm_cli")]
    assert "#m: 1 answers ended before their first word" in line and "raise max_tokens" in line


def test_the_whole_text_in_the_field_of_the_thought(httpserver: HTTPServer) -> None:
    for settings in ({}, {"reasoning": "drop"}):
        done = one(httpserver, answer(None, reasoning_content=f"{STEPS}\n</think>\n<answer>9</answer>"), **settings)
        assert done.text == WHOLE
        httpserver.clear()
    assert one(httpserver, answer("", reasoning=WHOLE)).text == WHOLE


NO_ANSWER = {
    "filtered": (answer("", "content_filter"), "filtered by the server (finish_reason content_filter)"),
    "half filtered": (answer("1. 2 +", "content_filter"), "filtered by the server (finish_reason content_filter)"),
    "safety": (answer(None, "SAFETY"), "filtered by the server (finish_reason safety)"),
    "refusal": (answer(None, refusal="I cannot help."), "refused by the server (message.refusal)"),
    "refusal part": (answer([{"type": "refusal", "refusal": "No."}]), "refused by the server (message.refusal)"),
    "refusal end": (answer("", "refusal"), "filtered by the server (finish_reason refusal)"),
    "tools": (answer(None, "tool_calls", tool_calls=[{"id": "1", "type": "function"}]), "tool calls and no answer"),
    "tools, stop": (answer("", tool_calls=[{"id": "1"}]), "tool calls and no answer"),
    "function": (answer(None, function_call={"name": "f"}), "tool calls and no answer"),
    "empty": (answer(""), "an empty answer; engine.server.empty=keep counts"),
    "blank": (answer(" \n"), "an empty answer; engine.server.empty=keep counts"),
    "null": (answer(None), "an empty answer; engine.server.empty=keep counts"),
    "no parts": (answer([]), "an empty answer; engine.server.empty=keep counts"),
    "no end": (answer("", None), "an empty answer; engine.server.empty=keep counts"),
    "only a thought": (answer("", reasoning_content="Hm."), "a thought without an answer; engine.server.empty=keep"),
    "broke off": (answer("1. 2", "error"), "the server broke the answer off (finish_reason error)"),
}


@pytest.mark.parametrize(("body", "reason"), NO_ANSWER.values(), ids=NO_ANSWER)
def test_what_is_no_answer_of_the_model_fails(httpserver: HTTPServer, body: dict[str, Any], reason: str) -> None:
    done = one(httpserver, body)
    assert done.failure.startswith(reason) and done.text == "" and len(bodies(httpserver)) == 1


def test_empty_answers_may_count_as_the_models_own(httpserver: HTTPServer, caplog: pytest.LogCaptureFixture) -> None:
    assert one(httpserver, answer(" "), empty="keep") == Completion(" ", n_tokens=7)
    assert "1 answers ended before their first word" in caplog.text
    httpserver.clear()
    assert one(httpserver, answer("", reasoning="Hm."), empty="keep").text == "<think>\nHm.\n</think>"


def test_filters_do_not_stop_the_work(httpserver: HTTPServer) -> None:
    """A problem that is always filtered, many times: the server is there all the same."""
    script(httpserver, lambda request: as_json(answer("", "content_filter")))
    client = OpenAIGenerator([httpserver.url_for("/v1")], "m", ServerConfig(concurrency=1))
    [(_, found)] = client.generate(ask("a", n=9), SamplingParams())
    assert [done.failure for done in found] == ["filtered by the server (finish_reason content_filter)"] * 9
    assert client.budget.tokens == 9 * 8  # they are paid for


ENDS = {
    "length": True, "max_tokens": True, "MAX_TOKENS": True, "model_length": True, "stop": False, "eos": False,
    "end_turn": False, "eos_token": False, "STOP": False, "tool_calls": False, "": False,
}  # fmt: skip


@pytest.mark.parametrize(("finish", "cut"), [*ENDS.items(), (None, False), ({"type": "length"}, True), (3, False)])
def test_reasons_for_the_end(httpserver: HTTPServer, finish: Any, cut: bool) -> None:
    done = one(httpserver, answer("nine", finish))
    assert (done.text, done.truncated, done.failure) == ("nine", cut, "")


def test_the_older_form(httpserver: HTTPServer) -> None:
    body = {"choices": [{"index": 0, "text": "nine", "finish_reason": "length"}]}
    assert one(httpserver, body) == Completion("nine", n_tokens=1, truncated=True)


LONG = "This endpoint's maximum context length is 4096 tokens"
ERRORS = {
    "message": ({"error": {"message": LONG}}, LONG),
    "code": ({"error": {"message": LONG, "code": 400}}, f"status 400 ({LONG})"),
    "text": ({"error": LONG}, LONG),
    "detail": ({"detail": LONG}, LONG),
    "object": ({"object": "error", "message": LONG, "code": 400}, f"status 400 ({LONG})"),
    "msg": ({"code": 1261, "msg": LONG}, LONG),
    "nested": ({"object": "error", "message": {"detail": [{"loc": ["body", "x"], "msg": LONG}]}}, f"x: {LONG}"),
    "list": ([{"error": {"code": 400, "message": LONG, "status": "INVALID_ARGUMENT"}}], f"status 400 ({LONG})"),
    "with choices": ({"error": {"message": LONG}, "choices": []}, LONG),
    "in a choice": ({"choices": [{"error": {"message": LONG, "code": 400}}]}, f"status 400 ({LONG})"),
    "router": (
        {"error": {"message": "Provider returned error", "code": 400, "metadata": {"raw": LONG}}},
        f"status 400 (Provider returned error: {LONG})",
    ),
    "filter": ({"error": {"message": "no", "code": "content_filter"}}, "filtered by the server"),
}


@pytest.mark.parametrize(("body", "reason"), ERRORS.values(), ids=ERRORS)
def test_an_error_with_status_200_is_told_in_the_servers_words(httpserver: HTTPServer, body: Any, reason: str) -> None:
    done = one(httpserver, body, retries=2)
    assert done.failure == reason and len(bodies(httpserver)) == 1


PASSING = [
    {"error": {"message": "slow down", "code": 429}},
    {"error": {"message": "slow down", "code": "rate_limit_exceeded"}},
    {"error": {"message": "Rate limit reached for m", "type": "requests"}},
    {"error": {"message": "x", "type": "overloaded_error"}},
    {"error": "The model is currently overloaded, try again"},
    {"error": {"message": "Bad gateway", "code": 502}},
    {"detail": "The server is busy"},
    {"choices": [{"error": {"message": "Provider timed out", "code": 504}}]},
]


@pytest.mark.parametrize("body", PASSING)
def test_an_error_that_passes_is_tried_again(
    httpserver: HTTPServer, body: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("realm_cli.engines.server_calls.FIRST_PAUSE", 0.01)
    script(httpserver, lambda request: as_json(body if len(httpserver.log) < 4 else answer("nine")))
    generator = OpenAIGenerator([httpserver.url_for("/v1")], "m", ServerConfig(retries=9))
    [(_, [done])] = generator.generate(ask("a"), SamplingParams())
    assert done.text == "nine" and len(bodies(httpserver)) > 2


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (as_json({"error": {"message": "no", "code": 401}}), "access denied; set REALM_API_KEY or OPENAI_API_KEY"),
        (
            as_json({"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}, 429),
            "You exceeded your current quota; see to the account and rerun with --resume",
        ),
    ],
)
def test_what_waiting_does_not_mend_stops_all(httpserver: HTTPServer, response: Response, message: str) -> None:
    with pytest.raises(EngineError, match=message):
        one(httpserver, response, retries=3)
    assert len(bodies(httpserver)) == 1


@pytest.mark.parametrize("status", [400, 403])
def test_a_prompt_that_a_filter_keeps_back_is_a_failed_sample(httpserver: HTTPServer, status: int) -> None:
    error = {"error": {"message": "Your input was flagged", "metadata": {"reasons": ["violence"]}}}
    assert one(httpserver, as_json(error, status)).failure == "filtered by the server"


USAGE = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 5}}
STREAMS = {
    "plain": [delta(role="assistant", content=""), delta(content="<answer>9"), delta(content="</answer>"), USAGE],
    "finish": [delta(content="<answer>9</answer>"), delta("stop"), USAGE],
    "comments": [": keep-alive\n\n", delta(content="<answer>9</answer>"), ": ping\n\n", USAGE, "event: ping\n\n"],
    "one event": [{**answer("<answer>9</answer>", tokens=5)}],
    "no gaps": ["".join(f"data:{json.dumps(delta(content=part))}\n" for part in ("<answer>", "9</answer>")), USAGE],
    "crlf": [f"data: {json.dumps(delta(content='<answer>9</answer>'))}\r\n\r\n", USAGE],
    "two lines": ['data: {"choices": [{"delta":\ndata: {"content": "<answer>9</answer>"}}]}\n\n', USAGE],
}


@pytest.mark.parametrize("events", STREAMS.values(), ids=STREAMS)
def test_a_stream_that_nobody_asked_for_is_joined(httpserver: HTTPServer, events: list[Any]) -> None:
    assert one(httpserver, as_stream(*events)) == Completion("<answer>9</answer>", n_tokens=5)
    httpserver.clear()
    done = one(httpserver, as_stream(*events, mimetype="application/json"))
    assert done.text == "<answer>9</answer>"


def test_thoughts_and_ends_of_a_stream(httpserver: HTTPServer) -> None:
    events = [delta(reasoning_content=STEPS[:9]), delta(reasoning_content=STEPS[9:], content=None)]
    events += [delta(content="<answer>9"), delta("length", content="</answer>")]
    done = one(httpserver, as_stream(*events, end=""))
    assert done.text == WHOLE and done.truncated
    httpserver.clear()
    parts = [delta(reasoning_details=[{"type": "reasoning.text", "text": part}]) for part in (STEPS[:9], STEPS[9:])]
    assert one(httpserver, as_stream(*parts, delta(content="<answer>9</answer>"))).text == WHOLE


@pytest.mark.parametrize(
    ("events", "end", "reason"),
    [
        ([delta(content="1. 2"), {"error": {"message": LONG, "code": 400}}], "", f"status 400 ({LONG})"),
        (["event: error\n", {"message": LONG}], "", LONG),
        ([{"object": "error", "message": LONG}], "data: [DONE]\n\n", LONG),
        ([delta(content="1. 2")], "", "the stream broke off; see the server's log"),
        ([delta(content="1. 2"), 'data: {"choices": [{"del'], "", "the answer is no chat completion ("),
        ([], "data: [DONE]\n\n", "the answer is no chat completion ("),
        ([delta(content="")], "data: [DONE]\n\n", "an empty answer"),
        ([delta("content_filter", content="1.")], "", "filtered by the server (finish_reason content_filter)"),
    ],
)
def test_streams_that_fail(httpserver: HTTPServer, events: list[Any], end: str, reason: str) -> None:
    done = one(httpserver, as_stream(*events, end=end))
    assert done.failure.startswith(reason) and done.text == ""


def test_a_server_that_only_streams_is_told_to(httpserver: HTTPServer) -> None:
    done = one(httpserver, as_stream(delta(content="nine"), delta("stop")), extra={"stream": True})
    assert done.text == "nine" and bodies(httpserver)[0]["stream"] is True


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"choices": [{"message": {"content": ' + b"[" * 900 + b"]" * 900 + b"}}]}",
        b'{"choices": [{"message": {"content": {"a": 1}}}], "usage": "many"}',
        b'{"choices": [{"message": {"content": 3}}]}',
        b'{"choices": [[]]}',
        b'{"choices": [{"message": "nine"}]}',
        b'{"choices": {"0": 1}}',
        b'"text"',
        b"\xff\xfe\x00",
        b"data: [[[",
        b"data: " + b"[" * 100_000 + b"\n\n",
        b'data: {"a": ' + b"[" * 100_000 + b"\n\n",
        b"",
    ],
)
def test_odd_bodies_are_no_completion(httpserver: HTTPServer, body: bytes) -> None:
    done = one(httpserver, Response(body, 200, mimetype="application/json"))
    assert done.failure.startswith(("the answer is no chat completion (", "an empty answer"))


@pytest.mark.parametrize("status", [400, 500])
@pytest.mark.parametrize("body", [b"[" * 100_000, b"", b"\xff", b'{"error": {}}', b'{"error": [3]}', b"<html>"])
def test_odd_bodies_of_errors(httpserver: HTTPServer, status: int, body: bytes) -> None:
    done = one(httpserver, Response(body, status, mimetype="application/json"))
    assert done.failure.startswith(f"status {status} (") and len(done.failure) < 200


def test_long_streams_are_read_quickly() -> None:
    chunk = json.dumps(delta(content="word "))
    data = "".join(f"data: {chunk}\n\n" for _ in range(10_000)).encode() + b"data: [DONE]\n\n"
    assert len(read_answer(load_body(data)).text) == 50_000
    assert paces(lambda: load_body(data), enough=10) < 60
    assert paces(lambda: load_body_of_lines(), enough=10) < 60


def load_body_of_lines() -> None:
    """An event of many lines that is no JSON until its end, which never comes."""
    with pytest.raises(ValueError, match="{"):
        load_body(b"data: {\n" + b"data: 1,\n" * 5_000)


def test_stop_texts_are_cut_here_too(httpserver: HTTPServer) -> None:
    script(httpserver, lambda request: as_json(answer("nine END ten")))
    generator = OpenAIGenerator([httpserver.url_for("/v1")], "m", ServerConfig())
    [(_, [done])] = generator.generate(ask("a"), SamplingParams(stop=("END",)))
    assert done.text == "nine "
