"""No password of a URL and no key in any file, on either stream, or in the command that a manifest records."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer

import realm_cli
from faults.server import Faults, serving
from realm_cli.cli.app import main
from realm_cli.engines import server_calls
from realm_cli.engines.openai_client import OpenAIGenerator
from realm_cli.errors import ConfigError, EngineError, masked, one_line
from realm_cli.protocols import GenRequest, SamplingParams
from realm_cli.recipe import parse_recipe, refuse_secret

PASSWORD, KEY = "pa55word", "rk-very-secret-0123456789"
ASKED = {"role": "user", "content": "hi"}
PLACE = ["--run", "run", "--problems", "problems.jsonl"]


@pytest.fixture(autouse=True)
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(server_calls, "FIRST_PAUSE", 0.005)
    monkeypatch.setenv("REALM_API_KEY", KEY)
    monkeypatch.chdir(tmp_path)
    rows = [{"id": f"p{i}", "question": f"Q {i}?", "answer": "1", "answer_type": "number"} for i in range(3)]
    rows = [{**row, "split": split} for row, split in zip(rows, ("train", "test", "test"), strict=True)]
    Path("problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def holding(secret: str) -> list[str]:
    return [str(path) for path in Path().rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]


def realm(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int, str]:
    """As from a shell: the manifest records sys.argv."""
    monkeypatch.setattr(sys, "argv", ["realm", *words])
    code = main([*words])
    captured = capsys.readouterr()
    return code, captured.out + captured.err


@pytest.mark.parametrize("user", [f"me:{PASSWORD}@", f"{PASSWORD}@", f":{PASSWORD}@"])
@pytest.mark.parametrize(
    "words",
    [
        ("rollout", "-m", "openai:URL#m"),
        ("eval", "--mode", "bare", "--no-base", "-m", "openai:URL#m"),
        ("distill", "--data-only", "--teacher", "openai:URL#m"),
        ("rollout", "-m", "oracle", "--set", "distill.teacher=openai:URL#m"),  # not used, but written to recipe.json
        ("rollout", "-m", "opnai:URL#m"),
        ("rollout", "openai:URL#m"),
    ],
    ids=["rollout", "eval", "distill", "another stage's", "misspelt", "stray"],
)
def test_a_password_gets_nowhere(
    user: str, words: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(Faults()) as server:
        url = server.url.replace("http://", f"http://{user}")
        code, said = realm(capsys, monkeypatch, *(word.replace("URL", url) for word in words), *PLACE)
        assert code in (1, 2) and server.requests == 0
    assert PASSWORD not in said and holding(PASSWORD) == []


def test_a_recipe_file_with_a_password_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("x.yaml").write_text(f"distill: {{teacher: 'openai:https://me:{PASSWORD}@h.example/v1#m'}}\n")
    code, said = realm(capsys, monkeypatch, "rollout", "-r", "x.yaml", "-m", "student", *PLACE)
    assert code == 1 and said.startswith("error: model openai:h.example: the URL holds a password or key")
    assert holding(PASSWORD) == ["x.yaml"]


def test_the_command_in_a_manifest_is_masked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("model.jsonl").write_text('{"id": "p0", "text": "Answer: 1"}\n')
    monkeypatch.setattr(sys, "argv", ["realm", "rollout", "--note", f"http://me:{PASSWORD}@h/v1?api-key={PASSWORD}"])
    assert main(["rollout", "-m", "jsonl:model.jsonl", *PLACE]) == 0
    capsys.readouterr()
    command = json.loads(Path("run/rollout/manifest.json").read_text())["command"]
    assert command == "realm rollout --note http://***@h/v1?api-key=***" and holding(PASSWORD) == []


def test_a_process_of_its_own_leaves_neither_password_nor_key() -> None:
    env = {**os.environ, "PYTHONPATH": str(Path(realm_cli.__file__).parents[1])}
    with serving(Faults(refused=frozenset(["Q 2?"]))) as server:  # a 400 that repeats the Authorization header
        good = [sys.executable, "-m", "realm_cli", "rollout", "-m", f"openai:{server.url}#m", "--n", "1", *PLACE]
        done = subprocess.run(good, capture_output=True, text=True, check=False, env=env)
        assert done.returncode == 1 and "refused for Bearer ***" in done.stderr
        bad = [word.replace("http://", f"http://me:{PASSWORD}@") for word in good]
        refused = subprocess.run(bad, capture_output=True, text=True, check=False, env=env)
        assert refused.returncode == 1
        assert server.keys == {f"Bearer {KEY}"}
    assert len(Path("run/rollout/routes.jsonl").read_text().splitlines()) == 2
    for secret in (KEY, PASSWORD):
        assert secret not in done.stdout + done.stderr + refused.stdout + refused.stderr and holding(secret) == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("openai:http://me:pw@h:1/v1#m", "openai:http://***@h:1/v1#m"),
        ("see https://tok@h/v1, then http://a:b@c", "see https://***@h/v1, then http://***@c"),
        ("http://h/v1?Api-Key=x&n=1#m", "http://h/v1?Api-Key=***&n=1#m"),
        ("http://h/v1?n=1&my_token=x", "http://h/v1?n=1&my_token=***"),
        ("http://h/v1#org/name@v2", "http://h/v1#org/name@v2"),
        ("a@b.example writes to http://h/v1", "a@b.example writes to http://h/v1"),
    ],
)
def test_what_is_masked(text: str, shown: str) -> None:
    assert masked(text) == one_line(text) == shown
    if text == shown:
        refuse_secret(text)
        return
    with pytest.raises(ConfigError, match="holds a password or key"):
        refuse_secret(text)


def test_every_text_of_a_recipe_is_looked_at() -> None:
    with pytest.raises(ConfigError, match="model openai:h: the URL holds"):
        parse_recipe({"rollout": {"models": ["student", "openai:http://a:b@h/v1#m"]}}, "x.yaml")
    with pytest.raises(ConfigError, match="model h: the URL holds"):
        parse_recipe({"student": {"model": "https://a:b@h/m"}}, "x.yaml")


def completion(content: str) -> dict[str, object]:
    return {"choices": [{"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}]}


@pytest.mark.parametrize(
    ("key", "said", "kept"),
    [
        (KEY, f"your key is {KEY}", "your key is ***"),
        ("EMPTY", "an EMPTY set", "an EMPTY set"),  # what vLLM's guide sets
        ("", "none of them", "none of them"),
    ],
)
def test_a_key_in_an_answer_is_masked_and_a_placeholder_is_not(
    key: str, said: str, kept: str, httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("REALM_API_KEY", key)
    httpserver.expect_ordered_request("/v1/models").respond_with_json({"data": []})
    httpserver.expect_ordered_request("/v1/chat/completions").respond_with_json(completion(said))
    httpserver.expect_ordered_request("/v1/models").respond_with_json({"data": []})
    httpserver.expect_ordered_request("/v1/chat/completions").respond_with_data(said, 400)
    generator = OpenAIGenerator([httpserver.url_for("/v1")], "m")
    request = [GenRequest("q", [ASKED])]
    assert [done.text for _, [done] in generator.generate(request, SamplingParams())] == [kept]
    assert [done.failure for _, [done] in generator.generate(request, SamplingParams())] == [f"status 400 ({kept})"]


def test_a_key_with_a_line_end_is_sent_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REALM_API_KEY", f" {KEY}\n")  # as a file has it
    with serving(Faults()) as server:
        list(OpenAIGenerator([server.url], "m").generate([GenRequest("q", [ASKED])], SamplingParams()))
    assert server.keys == {f"Bearer {KEY}"}


@pytest.mark.parametrize("key", ["rk-s\u00e9cret-42", "rk-secret\x01-42", "rk-secret\n-42"])
def test_a_key_that_no_header_can_hold_is_one_line_without_it(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REALM_API_KEY", key)
    with pytest.raises(EngineError) as error:
        list(OpenAIGenerator(["http://127.0.0.1:9/v1"], "m").generate([GenRequest("q", [ASKED])], SamplingParams()))
    assert str(error.value) == "REALM_API_KEY: holds a character that no key has; set it again"
