"""Rollouts and teachers over a server that fails in every way: nothing lost, nothing doubled, no key anywhere."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from faults.server import KINDS, Faults, Server, serving, text_for
from realm_cli.cli.app import main
from realm_cli.engines import server_calls
from realm_cli.engines.openai_client import OpenAIGenerator
from realm_cli.engines.server_calls import retry_after
from realm_cli.errors import EngineError
from realm_cli.protocols import Completion, GenRequest, SamplingParams
from realm_cli.recipe import ServerConfig

KEY = "rk-very-secret-0123456789"
FAST = {"engine.server.timeout": "0.4", "engine.server.concurrency": "16"}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(server_calls, "FIRST_PAUSE", 0.005)
    monkeypatch.setattr(server_calls, "LONGEST_PAUSE", 0.02)
    monkeypatch.setenv("REALM_API_KEY", KEY)
    monkeypatch.chdir(tmp_path)


def problems(n: int, split: str = "train") -> list[str]:
    ids = [f"p{i:04d}" for i in range(n)]
    row = {"answer": "1", "answer_type": "number", "split": split}
    rows = [{"id": i, "question": f"What is it, case {i}?", **row} for i in ids]
    Path("problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ids


def realm(*words: str, **settings: str) -> int:
    pairs = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    return main([*words, "--run", "run", "--problems", "problems.jsonl", *pairs])


def rows(name: str) -> list[dict[str, Any]]:
    path = Path("run") / name
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def rollout(server: Server, n: int, **settings: str) -> int:
    return realm("rollout", "-m", f"openai:{server.url}#m", "--n", str(n), **{**FAST, **settings})


def right_texts(server: Server, found: list[dict[str, Any]]) -> list[str]:
    """What the server says to these samples' requests."""
    generator, questions = OpenAIGenerator([server.url], "m"), {seed: question for question, seed in server.tries}
    texts = []
    for row in found:
        params = SamplingParams(seed=row["seed"])
        seed = generator._body(GenRequest(row["problem_id"], []), row["sample"], params)["seed"]
        assert f"case {row['problem_id']}?" in questions[seed]
        texts.append(text_for(questions[seed], seed))
    return texts


def test_a_thousand_requests_through_every_fault(capsys: pytest.CaptureFixture[str]) -> None:
    ids = problems(500)
    refused = frozenset(["p0003?", "p0250?"])
    with serving(Faults(share=0.3, refused=refused)) as server:
        assert rollout(server, 2) == 1
        err = capsys.readouterr().err.strip().splitlines()[-1]
        assert err.startswith(
            "error: run/rollout/errors.jsonl: 4 of 1000 samples failed: 4 x status 400 (refused for Bearer ***); "
        )
        assert "the others are kept, the same command asks for these again" in err
        assert len(rows("rollout/routes.jsonl")) == 996 and len(rows("rollout/errors.jsonl")) == 4
        assert all(server.seen[kind] > 0 for kind in KINDS), server.seen
        before = server.requests
        server.faults.refused = frozenset()
        assert rollout(server, 2) == 0
        assert server.requests - before <= 4 * 4  # only what was missing
        found = {row["id"]: row for row in rows("rollout/routes.jsonl")}
        assert len(rows("rollout/routes.jsonl")) == len(found) == 1000
        assert {(row["problem_id"], row["sample"]) for row in found.values()} == {(i, s) for i in ids for s in (0, 1)}
        assert [row["text"] for row in found.values()] == right_texts(server, list(found.values()))
        assert len({row["text"] for row in found.values()}) == 1000
        assert not Path("run/rollout/errors.jsonl").exists() and server.keys == {f"Bearer {KEY}"}
    captured = capsys.readouterr()
    written = "".join(path.read_text() for path in Path("run").rglob("*") if path.is_file())
    assert KEY not in written + captured.out + captured.err + err


@pytest.mark.parametrize("kind", KINDS)
def test_every_fault_alone_is_survived(kind: str) -> None:
    problems(3)
    with serving(Faults(share=1.0, kinds=(kind,), bad_tries=2)) as server:
        assert rollout(server, 1) == 0
        assert server.seen == {kind: 6, "ok": 3} and len(rows("rollout/routes.jsonl")) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_every_fault_that_lasts_says_what_it_is(kind: str) -> None:
    with serving(Faults(share=1.0, kinds=(kind,), bad_tries=99)) as server:
        settings = ServerConfig(retries=1, timeout=0.4)
        [(_, [done])] = OpenAIGenerator([server.url], "m", settings).generate(ask(1), SamplingParams())
    words = {name: f"status {name} (oops)" for name in ("408", "500", "503")}
    words |= {"429": "still rate-limited after 1 retries", "cut": "the connection was lost"}
    words |= dict.fromkeys(("slow", "drip"), "no answer within 0.4 s")
    words |= {"200": "busy", "cut stream": "the stream broke off; see the server's log"}
    want = next(
        (words[name] for name in sorted(words, reverse=True) if kind.startswith(name)),
        "the answer is no chat completion (",
    )
    assert done.failure.startswith(want) and server.requests == 2


def ask(n: int, samples: int = 1) -> list[GenRequest]:
    return [GenRequest(f"q{i}", [{"role": "user", "content": f"question {i}"}], n=samples) for i in range(n)]


def test_several_servers_share_the_work() -> None:
    with serving(Faults()) as one, serving(Faults()) as two:
        generator = OpenAIGenerator([one.url, two.url], "m", ServerConfig(concurrency=4))
        found = dict(generator.generate(ask(60, samples=2), SamplingParams()))
        assert len(found) == 60 and not any(done.failure for row in found.values() for done in row)
        assert one.requests + two.requests == 120 and min(one.requests, two.requests) >= 30
        assert generator.name == OpenAIGenerator([one.url], "m").name  # servers come and go, the source stays


def test_another_try_goes_to_another_server() -> None:
    with serving(Faults(share=1.0, kinds=("500",), bad_tries=99)) as bad, serving(Faults()) as good:
        generator = OpenAIGenerator([bad.url, good.url], "m", ServerConfig(retries=1, concurrency=2))
        found = dict(generator.generate(ask(12), SamplingParams()))
    assert not any(done.failure for row in found.values() for done in row)
    assert bad.requests > 0 and good.requests == 12


def test_a_dead_one_of_several_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    problems(2)
    with serving(Faults()) as server:
        assert realm("rollout", "-m", f"openai:{server.url},http://127.0.0.1:9/v1#m", **FAST) == 1
        assert "openai:127.0.0.1:9: no answer at http://127.0.0.1:9/v1" in capsys.readouterr().err
        assert server.requests == 0
        assert realm("rollout", "-m", f"openai:{server.url},{server.url}#m", **FAST) == 1
        assert "a URL is named twice" in capsys.readouterr().err


def test_a_deadline_counts_from_the_request_on() -> None:
    with serving(Faults(share=1.0, kinds=("late drip",), bad_tries=99)) as server:
        settings, waited = ServerConfig(retries=0, timeout=1.0), []
        for _ in range(3):  # the quickest of three: a busy machine comes late
            start = time.monotonic()
            [(_, [done])] = OpenAIGenerator([server.url], "m", settings).generate(ask(1), SamplingParams())
            waited.append(time.monotonic() - start)
    assert done.failure.startswith("no answer within 1 s")
    assert min(waited) < 1.6  # headers after 0.8 s; from those on it would be 1.8


def test_a_budget_of_requests_counts_every_try(capsys: pytest.CaptureFixture[str]) -> None:
    problems(40)
    budget = {"engine.server.max_requests": "20", "engine.server.concurrency": "4"}
    with serving(Faults(share=0.4, kinds=("500",))) as server:
        assert rollout(server, 1, **budget) == 1
        assert server.requests == 20
        err = capsys.readouterr().err.strip().splitlines()[-1]
        assert (
            "the budget of 20 requests (engine.server.max_requests) is spent; raise it and rerun with --resume" in err
        )
        kept = len(rows("rollout/routes.jsonl"))
        assert 5 <= kept < 20
        more = {**budget, "engine.server.max_requests": "null"}  # the run remembers its settings
        assert rollout(server, 1, **more) == 0 and len(rows("rollout/routes.jsonl")) == 40


def test_a_budget_of_tokens(capsys: pytest.CaptureFixture[str]) -> None:
    problems(40)
    with serving(Faults()) as server:
        settings = {"engine.server.max_tokens": "150", "engine.server.concurrency": "1"}
        assert rollout(server, 1, **settings) == 1
        assert server.requests == 10 and len(rows("rollout/routes.jsonl")) == 10  # 15 tokens each
    assert "the budget of 150 tokens (engine.server.max_tokens) is spent" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [("rollout", "--n", "1"), ("eval", "--mode", "bare", "--no-base", "--compare")], ids=["rollout", "eval"]
)
def test_the_models_of_a_command_share_its_budget(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    problems(5, split="test")
    with serving(Faults()) as server:
        models = [part for name in ("m", "m2") for part in ("-m", f"openai:{server.url}#{name}")]
        settings = {**FAST, "engine.server.max_requests": "7", "engine.server.concurrency": "1"}
        assert realm(*words, *models, **settings) == 1
        assert server.requests == 7
        assert "#m2: the budget of 7 requests (engine.server.max_requests) is spent" in capsys.readouterr().err
        again = (*words, "--resume", *models)
        assert realm(*again, **settings) == 0  # a budget is that of one command
        assert server.requests == 10


def test_tokens_are_estimated_where_the_server_does_not_count(httpserver: HTTPServer) -> None:
    reply = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "a b c"}, "finish_reason": "stop"}]}
    httpserver.expect_request("/v1/chat/completions").respond_with_json(reply)
    generator = OpenAIGenerator([httpserver.url_for("/v1")], "m", ServerConfig(max_tokens=11, concurrency=1))
    found = []
    with pytest.raises(EngineError, match=r"budget of 11 tokens \(.*\) is spent, 15 in all; raise it and rerun"):
        found += list(generator.generate(ask(1, 1), SamplingParams()))  # 2 words asked, 3 answered
        found += list(generator.generate(ask(9, 1), SamplingParams()))
    assert generator.budget.tokens == 15 and generator.budget.requests == 3 and len(found) == 1


def test_a_server_that_dies_on_the_way_stops_the_work(capsys: pytest.CaptureFixture[str]) -> None:
    problems(200)
    settings = {"engine.server.retries": "1", "engine.server.concurrency": "4"}
    with serving(Faults(dead_after=50)) as server:
        assert rollout(server, 2, **settings) == 1
        err = capsys.readouterr().err.strip().splitlines()[-1]
        assert "8 requests failed in a row, the last one: status 500" in err and "rerun with --resume" in err
        assert server.requests < 100 and 40 <= len(rows("rollout/routes.jsonl")) <= 50
        server.faults.dead_after = None
        assert rollout(server, 2, **settings) == 0
    found = [row["id"] for row in rows("rollout/routes.jsonl")]
    assert len(found) == len(set(found)) == 400


def test_what_came_of_a_stopped_request_is_kept() -> None:
    one = ServerConfig(retries=0, concurrency=1)
    found: list[Completion] = []
    for dead_after, came in ((0, 0), (3, 3)):
        with serving(Faults(dead_after=dead_after)) as server, pytest.raises(EngineError, match="2 requests failed in"):
            for _, row in OpenAIGenerator([server.url], "m", one).generate(ask(1, samples=8), SamplingParams()):
                found = row
        assert sum(not done.failure for done in found) == came
    assert [bool(done.failure) for done in found] == [False] * 3 + [True] * 5
    assert found[-1].failure == "not asked: the work stopped before"


def test_a_teacher_over_a_failing_server(capsys: pytest.CaptureFixture[str]) -> None:
    problems(30)
    Path("rules.md").write_text("R1: cases count by themselves.\n")
    with serving(Faults(share=0.5, refused=frozenset(["p0007?"]))) as server:
        words = ("distill", "--teacher", f"openai:{server.url}#m", "--rules", "rules.md", "--data-only")
        settings = {**FAST, "distill.n": "2", "distill.retry_with_label": "false", "distill.limit": "null"}
        assert realm(*words, **settings) == 1
        assert "errors.jsonl: 2 of 60 samples failed" in capsys.readouterr().err
        assert len(rows("distill/teacher.jsonl")) == 58
        server.faults.refused = frozenset()
        realm(*words, "--resume", **settings)  # 0 or 1: its answers are random
        ids = [row["id"] for row in rows("distill/teacher.jsonl")]
        assert len(ids) == len(set(ids)) == 60 and not Path("run/distill/errors.jsonl").exists()


def test_a_teachers_failures_that_are_allowed_are_said_and_asked_for_again(capsys: pytest.CaptureFixture[str]) -> None:
    problems(20)
    Path("rules.md").write_text("R1: cases count by themselves.\n")
    loose = {"min_steps": "1", "correct_only": "false", "near_duplicate": "1.0", "n": "1", "retry_with_label": "true"}
    settings = {**FAST, "engine.server.max_failed": "0.2"}
    settings |= {f"distill.{key}": value for key, value in {**loose, "limit": "null"}.items()}
    with serving(Faults(refused=frozenset(["p0007?"]))) as server:
        words = ("distill", "--teacher", f"openai:{server.url}#m", "--rules", "rules.md", "--data-only")
        assert realm(*words, **settings) == 0
        out = " ".join(capsys.readouterr().out.split())
        assert "1 samples failed: 1 x status 400 (refused for Bearer ***); --resume asks for them again" in out
        found = rows("distill/teacher.jsonl")
        assert sum(not row["label_given"] for row in found) == 19
        assert sum(row["label_given"] for row in found) == 19  # one failure does not take the others' second try
        server.faults.refused, before = frozenset(), server.requests
        assert realm(*words, "--resume", **settings) == 0
        assert server.requests - before == 2  # the missing one, and once more with its label
        assert (
            len(rows("distill/teacher.jsonl")) == 40 and len({r["problem_id"] for r in rows("distill/sft.jsonl")}) == 20
        )
        assert not Path("run/distill/errors.jsonl").exists()
        assert json.loads(Path("run/distill/manifest.json").read_text())["status"] == "done"
        before = server.requests
        assert realm(*words, "--resume", **settings) == 0 and server.requests == before
    assert "already complete" in "".join(capsys.readouterr())


def test_an_evaluation_asks_only_for_the_samples_that_are_missing() -> None:
    problems(6, split="test")
    path = Path("run/eval/predictions.jsonl")
    with serving(Faults()) as server:
        words = ("eval", "--mode", "bare", "--no-base", "--n", "4", "-m", f"openai:{server.url}#m")
        assert realm(*words, **FAST) == 0
        whole = {row["id"]: row["completion"] for row in rows("eval/predictions.jsonl")}
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(line for line in lines if not any(f"p0002/{i}" in line for i in (1, 3))))
        before = server.requests
        assert realm(*words, "--resume", **FAST) == 0
        assert server.requests - before == 2
    found = rows("eval/predictions.jsonl")
    assert len(found) == 24 and {row["id"]: row["completion"] for row in found} == whole


@pytest.mark.parametrize("url", ["http://me:pa55@127.0.0.1:9/v1", "http://127.0.0.1:9/v1?api-key=pa55"])
@pytest.mark.parametrize("words", [("rollout", "-m"), ("distill", "--teacher")])
def test_a_password_in_the_url_is_refused(url: str, words: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    problems(1)
    assert realm(*words, f"openai:{url}#m") == 1
    captured = capsys.readouterr()
    assert captured.err.splitlines() == [
        "error: model openai:127.0.0.1: the URL holds a password or key, which would be written to files; leave it out "
        "and set REALM_API_KEY"
    ]
    written = "".join(path.read_text() for path in Path().rglob("*") if path.is_file())
    assert "pa55" not in written + captured.out


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [("7", 7, 7), ("0.5", 0.5, 0.5), ("-3", 0, 0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0), ("soon", None, None)],
)
def test_what_a_server_asks_to_wait(value: str, low: float | None, high: float | None) -> None:
    import httpx2

    found = retry_after(httpx2.Headers({"Retry-After": value}))
    assert found == low if low is None or high is None or found is None else low <= found <= high
    assert retry_after(httpx2.Headers({})) is None
