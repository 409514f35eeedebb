"""The client against a real server process, and against a scripted one for everything that goes wrong."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from engines.scripted import answer, as_json, ask, bodies, script
from realm_cli.cli.app import main
from realm_cli.engines.loading import load_model
from realm_cli.engines.openai_client import OpenAIGenerator
from realm_cli.engines.sampler import LocalGenerator
from realm_cli.errors import EngineError
from realm_cli.protocols import GenRequest, SamplingParams
from realm_cli.recipe import ServerConfig


def test_a_real_server(smollm2_server: tuple[str, str], smollm2_dir: Path) -> None:
    url, model = smollm2_server
    generator = OpenAIGenerator.from_spec(f"openai:{url}#{model}")
    questions = ["What is the capital of France?", "Say hello."]
    got = dict(generator.generate(ask(*questions, n=2), SamplingParams(24, 0.0)))
    own = dict(
        LocalGenerator(load_model(str(smollm2_dir), device="cpu")).generate(ask(*questions), SamplingParams(24, 0.0))
    )
    assert "Paris" in got[0][0].text
    for i in range(2):
        assert [c.text for c in got[i]] == [own[i][0].text] * 2
        assert [c.truncated for c in got[i]] == [own[i][0].truncated] * 2
        assert all(0 < c.n_tokens <= 24 for c in got[i])
    cut = dict(generator.generate(ask(questions[1]), SamplingParams(4, 0.7, top_p=0.9, seed=3)))
    assert cut[0][0].truncated and cut[0][0].n_tokens == 4


def test_a_real_server_with_another_model(smollm2_server: tuple[str, str]) -> None:
    [(_, [completion])] = OpenAIGenerator([smollm2_server[0]], "other").generate(ask("hi"), SamplingParams(4))
    assert re.match(r"status 400 \(.*pinned to.*\)", completion.failure)


def test_what_is_sent_and_read(httpserver: HTTPServer, client: OpenAIGenerator) -> None:
    script(httpserver, lambda request: as_json(answer(request.get_json()["messages"][0]["content"] + "!", "length")))
    params = SamplingParams(12, 0.7, top_p=0.9, stop=("END",), seed=5)
    got = dict(client.generate(ask("a", "b", n=3), params))
    assert {i: [c.text for c in row] for i, row in got.items()} == {0: ["a!"] * 3, 1: ["b!"] * 3}
    assert all(c.truncated and c.n_tokens == 7 for row in got.values() for c in row)
    sent = bodies(httpserver)
    assert len(sent) == 6 and len({body["seed"] for body in sent}) == 6
    assert {key: sent[0][key] for key in sent[0] if key not in ("seed", "messages")} == {
        "model": "m",
        "max_tokens": 12,
        "temperature": 0.7,
        "top_p": 0.9,
        "stop": ["END"],
    }
    list(client.generate(ask("a"), SamplingParams(top_k=5, min_p=0.1)))
    assert bodies(httpserver)[-1].items() >= {"top_k": 5, "min_p": 0.1}.items()


def test_samples_come_in_order_and_continue(httpserver: HTTPServer, client: OpenAIGenerator) -> None:
    def slow_first(request: Request) -> Response:
        seed = request.get_json()["seed"]
        time.sleep(0.2 if seed == first else 0)
        return as_json(answer(str(seed), tokens=None))

    seeds = [client._body(request, sample, SamplingParams())["seed"] for request in ask("a") for sample in range(4)]
    first = seeds[0]
    script(httpserver, slow_first)
    got = dict(client.generate(ask("a", n=4), SamplingParams()))
    assert [c.text for c in got[0]] == [str(seed) for seed in seeds]
    assert got[0][0].n_tokens == 1  # words, where the server does not count
    later = [GenRequest("q0", [{"role": "user", "content": "a"}], n=2, first_sample=2)]
    assert [c.text for c in dict(client.generate(later, SamplingParams()))[0]] == [str(seed) for seed in seeds[2:]]


def test_busy_servers_are_asked_again(httpserver: HTTPServer, client: OpenAIGenerator) -> None:
    calls: Counter[str] = Counter()

    def flaky(request: Request) -> Response:
        name = request.get_json()["messages"][0]["content"]
        calls[name] += 1
        if calls[name] == 1:
            return Response("slow down", 429, {"Retry-After": "1"}) if name == "a" else Response("oops", 500)
        return as_json(answer(name))

    script(httpserver, flaky)
    start = time.monotonic()
    got = dict(client.generate(ask("a", "b"), SamplingParams()))
    assert {i: row[0].text for i, row in got.items()} == {0: "a", 1: "b"}
    assert calls == {"a": 2, "b": 2}
    assert time.monotonic() - start >= 1.0  # as Retry-After asks


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (Response("busy", 429), r"still rate-limited after 2 retries; resume later"),
        (Response("boom", 500), r"status 500 \(.*boom.*\)"),
        (Response('{"error": {"message": "max_tokens too large"}}', 400), r"status 400 \(.*too large.*\)"),
        (Response("<html>hi</html>", 200, mimetype="text/html"), r"the answer is no chat completion \(<html>hi"),
        (Response("{broken", 200, mimetype="application/json"), r"the answer is no chat completion"),
        (Response('{"choices": []}', 200, mimetype="application/json"), r"the answer is no chat completion"),
        (Response("[]", 200, mimetype="application/json"), r"the answer is no chat completion"),
        (Response("null", 200, mimetype="application/json"), r"the answer is no chat completion"),
    ],
)
def test_lasting_failures(httpserver: HTTPServer, client: OpenAIGenerator, response: Response, message: str) -> None:
    script(httpserver, lambda request: Response(response.data, response.status_code, mimetype=response.mimetype))
    [(index, [completion])] = client.generate(ask("a"), SamplingParams())
    assert index == 0 and completion.text == "" and re.match(message, completion.failure)
    assert len(bodies(httpserver)) == (1 if response.status_code == 400 else 3)


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_key_stops_at_once(httpserver: HTTPServer, client: OpenAIGenerator, status: int) -> None:
    script(httpserver, lambda request: Response("", status))
    with pytest.raises(EngineError, match=r"#m: access denied; set REALM_API_KEY or OPENAI_API_KEY"):
        list(client.generate(ask(*"abcdefghijklmnopqrstuvwxyz", n=8), SamplingParams()))
    assert len(bodies(httpserver)) <= client.server.concurrency  # those under way


def test_an_empty_answer_is_an_empty_completion(httpserver: HTTPServer, client: OpenAIGenerator) -> None:
    script(httpserver, lambda request: as_json(answer(None, "length")))
    completion = dict(client.generate(ask("a"), SamplingParams()))[0][0]
    assert completion.text == "" and completion.truncated


def test_what_is_done_is_kept_when_one_request_fails(httpserver: HTTPServer, client: OpenAIGenerator) -> None:
    def some(request: Request) -> Response:
        name = request.get_json()["messages"][0]["content"]
        if name == "bad":
            time.sleep(0.3)
            return Response("no", 400)
        return as_json(answer(name))

    script(httpserver, some)
    got = {index: row[0] for index, row in client.generate(ask("a", "bad", "c"), SamplingParams())}
    assert {i: c.text for i, c in got.items()} == {0: "a", 1: "", 2: "c"}
    assert got[1].failure == "status 400 (no)" and not got[0].failure + got[2].failure


def test_unknown_models(httpserver: HTTPServer, client: OpenAIGenerator) -> None:
    script(httpserver, lambda request: Response('{"error": {"message": "no model"}}', 404))
    for model, hint in [("minni", r"did you mean mini\?"), ("zzz", "it serves m, mini")]:
        with pytest.raises(EngineError, match=rf"#{model}: the server does not know this model; {hint}"):
            list(OpenAIGenerator(client.urls, model).generate(ask("a"), SamplingParams()))
    with pytest.raises(EngineError, match=r"#m: not found \(.*\); check the model's name and that the URL has /v1"):
        list(client.generate(ask("a"), SamplingParams()))


def test_a_dead_server_is_reported() -> None:
    with pytest.raises(EngineError) as caught:
        list(OpenAIGenerator(["http://user:secret@127.0.0.1:9/v1"], "m").generate(ask("a"), SamplingParams()))
    assert str(caught.value) == (
        "openai:127.0.0.1:9: no answer at http://127.0.0.1:9/v1; start the server or correct the URL"
    )


def test_slow_servers_time_out(httpserver: HTTPServer, client: OpenAIGenerator) -> None:
    def slow(request: Request) -> Response:
        time.sleep(0.6)
        return as_json(answer("late"))

    script(httpserver, slow)
    hasty = OpenAIGenerator(client.urls, "m", ServerConfig(retries=0, timeout=0.2))
    [(_, [completion])] = hasty.generate(ask("a"), SamplingParams())
    assert completion.failure == "no answer within 0.2 s; lower max_tokens"


@pytest.mark.parametrize(
    ("keys", "sent"),
    [
        ({}, "Bearer none"),
        ({"OPENAI_API_KEY": "sk-1"}, "Bearer sk-1"),
        ({"OPENAI_API_KEY": "sk-1", "REALM_API_KEY": "rk-2"}, "Bearer rk-2"),
    ],
)
def test_keys(
    httpserver: HTTPServer,
    client: OpenAIGenerator,
    monkeypatch: pytest.MonkeyPatch,
    keys: dict[str, str],
    sent: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name, value in keys.items():
        monkeypatch.setenv(name, value)
    script(httpserver, lambda request: Response("", 403))
    with caplog.at_level("DEBUG"), pytest.raises(EngineError) as caught:
        list(client.generate(ask("a"), SamplingParams()))
    assert {request.headers["Authorization"] for request, _ in httpserver.log} == {sent}
    assert not any(key in str(caught.value) + caplog.text for key in keys.values())


def test_stopping_early_leaves_nothing_behind(httpserver: HTTPServer, client: OpenAIGenerator) -> None:
    script(httpserver, lambda request: as_json(answer("x")))
    results = client.generate(ask(*"abcdefghijklmnopqrstuvwxyz", n=4), SamplingParams())
    next(results)
    results.close()
    time.sleep(0.3)
    assert len(bodies(httpserver)) < 104
    assert list(client.generate([], SamplingParams())) == []
    assert list(client.generate(ask("a", n=0), SamplingParams())) == [(0, [])]


def test_a_real_server_as_teacher(smollm2_server: tuple[str, str], tmp_path: Path) -> None:
    """`realm distill --teacher openai:...`: the teacher's texts are kept, and every one gets a verdict."""
    questions = {"cap": ("What is the capital of France? One word.", "Paris"), "sum": ("What is 1 + 1?", "2")}
    lines = [
        json.dumps({"id": key, "question": question, "answer": answer, "answer_type": "text", "split": "train"})
        for key, (question, answer) in questions.items()
    ]
    (tmp_path / "problems.jsonl").write_text("\n".join(lines) + "\n")
    (tmp_path / "rules.md").write_text("A sum is what both numbers make together. Paris is the capital of France.\n")
    settings = ("distill.n=2", "distill.max_tokens=48", "distill.min_steps=1", "distill.temperature=0")
    run = tmp_path / "run"
    code = main(
        ["distill", "--run", str(run), "--problems", str(tmp_path / "problems.jsonl"), "--data-only"]
        + ["--rules", str(tmp_path / "rules.md"), "--teacher", f"openai:{smollm2_server[0]}#{smollm2_server[1]}"]
        + [part for setting in settings for part in ("--set", setting)]
    )
    raw = [json.loads(line) for line in (run / "distill" / "teacher.jsonl").read_text().splitlines()]
    judged = [json.loads(line) for line in (run / "distill" / "guided.jsonl").read_text().splitlines()]
    assert sum(not row["label_given"] for row in raw) == 4
    assert all(row["text"] and row["rules_shown"] and row["teacher"].startswith("openai:127.0.0.1") for row in raw)
    assert {row["id"] for row in judged} == {row["id"] for row in raw}
    assert all(row["kept"] or row["drop_reason"] for row in judged)
    assert code == (0 if any(row["kept"] for row in judged) else 1)
