"""Commands over servers that filter, think apart, refuse parameters or answer with errors: never a wrong answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from realm_cli.cli.app import main

ANSWER = "<think>\nTwo and three are five.\nFive and four are nine.\n</think>\n<answer>9</answer>"
STEPS = "1. 2 + 3 = 5\n2. 5 + 4 = 9\n3. So it is 9"
Answers = Callable[[str, dict[str, Any]], Any]


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("OPENAI_API_KEY", "REALM_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def answers(httpserver: HTTPServer) -> dict[str, Any]:
    """Question -> what the server answers: a message and an end, or a whole body; "" for all others."""
    table: dict[str, Any] = {"": ({"content": ANSWER}, "stop")}

    def respond(request: Request) -> Response:
        sent = request.get_json()
        name = next((name for name in table if name and name in sent["messages"][-1]["content"]), "")
        found = table[name](sent) if callable(table[name]) else table[name]
        status = 200
        if isinstance(found, tuple) and isinstance(found[1], int):
            found, status = found
        if isinstance(found, tuple):
            found = {"choices": [{"index": 0, "message": found[0], "finish_reason": found[1]}]}
        return Response(json.dumps(found), status, mimetype="application/json")

    httpserver.expect_request("/v1/models").respond_with_json({"object": "list", "data": []})
    httpserver.expect_request("/v1/chat/completions").respond_with_handler(respond)
    return table


def problems(n: int, split: str) -> None:
    row = {"answer": "9", "answer_type": "number", "split": split}
    rows = [{"id": f"p{i}", "question": f"What is it, case {i}?", **row} for i in range(n)]
    Path("problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("rules.md").write_text("R1: numbers are added one after the other.\n")


def realm(server: HTTPServer, *words: str, **settings: str) -> int:
    name = f"openai:{server.url_for('/v1')}#m"
    loose = {
        "rollout.n": "1",
        "distill.min_steps": "1",
        "distill.n": "1",
        "distill.near_duplicate": "1.0",
        "engine.server.retries": "0",
    }
    pairs = [part for key, value in {**loose, **settings}.items() for part in ("--set", f"{key}={value}")]
    option = ["--teacher", name, "--rules", "rules.md", "--data-only"] if words[0] == "distill" else ["-m", name]
    option += ["--mode", "bare", "--no-base"] if words[0] == "eval" else []
    return main([*words, "--run", "run", "--problems", "problems.jsonl", *option, *pairs])


def rows(name: str) -> list[dict[str, Any]]:
    path = Path("run") / name
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


STAGES = {
    "rollout": ("train", "rollout/routes.jsonl", ()),
    "distill": ("train", "distill/teacher.jsonl", ("--resume",)),
    "eval": ("test", "eval/predictions.jsonl", ("--resume",)),
}
NOTHING = {
    "case 1?": ({"content": ""}, "content_filter"),
    "case 2?": ({"content": None, "refusal": "I cannot."}, "stop"),
    "case 3?": ({"content": " "}, "stop"),
    "case 4?": ({"content": None, "tool_calls": [{"id": "1"}]}, "tool_calls"),
    "case 5?": {"error": {"message": "This endpoint's maximum context length is 4096 tokens"}},
    "case 6?": ({"error": {"message": "The response was filtered", "code": "content_filter"}}, 400),
}


@pytest.mark.parametrize("stage", STAGES)
def test_no_answer_is_an_error_row_that_is_told_and_asked_again(
    stage: str, httpserver: HTTPServer, answers: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    split, file, again = STAGES[stage]
    problems(8, split)
    good = answers[""]
    answers |= NOTHING
    assert realm(httpserver, stage) == 1
    err = capsys.readouterr().err.strip().splitlines()[-1]
    assert err.startswith(f"error: run/{stage}/errors.jsonl: 6 of 8 samples failed: ")
    reasons = {row["problem_id"]: row["reason"] for row in rows(f"{stage}/errors.jsonl")}
    assert reasons == {
        "p1": "filtered by the server (finish_reason content_filter)",
        "p2": "refused by the server (message.refusal)",
        "p3": "an empty answer; engine.server.empty=keep counts such answers as the model's own, wrong ones",
        "p4": "tool calls and no answer",
        "p5": "This endpoint's maximum context length is 4096 tokens",
        "p6": "filtered by the server",
    }
    assert len(rows(file)) == 2 and all(row["correct"] for row in rows(file))
    assert not Path("run/eval/report.json").exists()
    before = len(httpserver.log)
    assert realm(httpserver, stage, *again) == 1  # the same once more: it says what else to do
    assert "6 problems failed in an earlier run too, such as p1: mend the cause, or leave them out" in (
        capsys.readouterr().err
    )
    for name in NOTHING:
        answers[name] = good
    assert realm(httpserver, stage, *again) == 0
    asked = [request for request, _ in httpserver.log[before:] if request.path.endswith("completions")]
    assert len(asked) == 6 + 6
    assert len(rows(file)) == 8 and all(row["correct"] for row in rows(file))
    assert not Path(f"run/{stage}/errors.jsonl").exists()
    if stage == "eval":
        found = json.loads(Path("run/eval/report.json").read_text())
        assert "accuracy" in json.dumps(found) and '"n": 8' in json.dumps(found)


def test_empty_answers_that_never_end_can_be_counted(httpserver: HTTPServer, answers: dict[str, Any]) -> None:
    """A model that ends at once would keep an evaluation open for ever."""
    problems(4, "test")
    answers["case 3?"] = ({"content": ""}, "stop")
    assert realm(httpserver, "eval") == 1
    assert realm(httpserver, "eval", "--resume", **{"engine.server.empty": "keep"}) == 0
    assert {row["problem_id"]: row["correct"] for row in rows("eval/predictions.jsonl")} == {
        "p0": True, "p1": True, "p2": True, "p3": False,
    }  # fmt: skip


def test_an_answer_cut_before_its_first_word_is_wrong_and_told(
    httpserver: HTTPServer, answers: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    problems(4, "test")
    answers["case 3?"] = ({"content": ""}, "length")
    assert realm(httpserver, "eval") == 0
    [row] = [row for row in rows("eval/predictions.jsonl") if not row["correct"]]
    assert row["problem_id"] == "p3" and row["truncated"] and row["completion"] == ""
    assert "1 answers ended before their first word" in caplog.text and "raise max_tokens" in caplog.text


@pytest.mark.parametrize("stage", STAGES)
def test_thoughts_reach_every_stage(stage: str, httpserver: HTTPServer, answers: dict[str, Any]) -> None:
    split, file, _ = STAGES[stage]
    problems(3, split)
    answers[""] = ({"content": "<answer>9</answer>", "reasoning_content": STEPS}, "stop")
    assert realm(httpserver, stage) == 0
    for row in rows(file):
        assert row["correct"]
        assert row.get("text", row.get("completion")) == f"<think>\n{STEPS}\n</think>\n<answer>9</answer>"
        assert row.get("steps", ["2 + 3 = 5", "5 + 4 = 9", "So it is 9"]) == ["2 + 3 = 5", "5 + 4 = 9", "So it is 9"]
    if stage == "distill":
        assert all(row["kept"] for row in rows("distill/guided.jsonl"))
        for row in rows("distill/sft.jsonl"):
            assert json.dumps(row).count("<think>") <= 1 + json.dumps(row).count("Use exactly this form")


@pytest.mark.parametrize("stage", STAGES)
def test_refused_parameters_are_in_the_manifest(
    stage: str, httpserver: HTTPServer, answers: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    split, file, again = STAGES[stage]
    problems(3, split)
    good = answers[""]

    def picky(sent: dict[str, Any]) -> Any:
        for name in ("max_tokens", "seed"):
            if name in sent:
                return {"error": {"message": f"Unsupported parameter: '{name}'", "param": name}}, 400
        return good

    answers[""] = picky
    assert realm(httpserver, stage) == 0 and len(rows(file)) == 3
    assert caplog.text.count("the server refuses max_tokens") == caplog.text.count("the server refuses seed") == 1
    manifest = json.loads(Path(f"run/{stage}/manifest.json").read_text())
    [(name, refused)] = manifest["refused"].items()
    assert name.endswith("#m") and refused == {"max_tokens": "max_completion_tokens", "seed": None}
    [(name, asked)] = manifest["servers"].items()
    assert name.endswith("#m") and asked == {"reasoning": "think", "extra": {}, "omit": []}
    assert realm(httpserver, stage, *again) == 0
    assert json.loads(Path(f"run/{stage}/manifest.json").read_text())["refused"] == manifest["refused"]


@pytest.mark.parametrize("stage", STAGES)
def test_work_goes_on_with_the_same_keys_only(
    stage: str, httpserver: HTTPServer, answers: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    split, file, again = STAGES[stage]
    problems(4, split)
    answers["case 3?"] = ({"content": ""}, "content_filter")
    assert realm(httpserver, stage, **{"engine.server.extra.reasoning_effort": "low"}) == 1
    for key, value in {"extra.reasoning_effort": "high", "omit": "[seed]", "reasoning": "drop"}.items():
        capsys.readouterr()
        assert realm(httpserver, stage, *again, **{f"engine.server.{key}": value}) == 1
        err = capsys.readouterr().err.strip().splitlines()[-1]
        assert f"error: run/{stage}: texts of openai:" in err and "were made with other settings (engine.server." in err
    del answers["case 3?"]
    same = {"engine.server.extra": "{reasoning_effort: low}", "engine.server.omit": "[]"}
    same |= {"engine.server.reasoning": "think", "engine.server.timeout": "99", "engine.server.concurrency": "2"}
    assert realm(httpserver, stage, *again, **same) == 0 and len(rows(file)) == 4
    sent = [request.get_json() for request, _ in httpserver.log if request.path.endswith("completions")]
    assert all(body["reasoning_effort"] == "low" for body in sent)
