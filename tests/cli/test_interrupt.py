"""Ctrl-C or SIGTERM in the middle of a rollout: what was made is kept, a rerun completes it without loss or doubles."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from cli.helpers import rows

N = 40


def _serve(server: HTTPServer, gate: threading.Event) -> list[str]:
    """A server that answers five prompts, then waits for the gate. Returns the prompts that were asked."""
    asked: list[str] = []
    lock = threading.Lock()

    def answer(request: Request) -> Response:
        body = json.loads(request.get_data())
        with lock:
            asked.append(body["messages"][-1]["content"])
            late = len(asked) > 5
        if late:
            gate.wait(30)
        message = {"role": "assistant", "content": "1. fee 5\nAnswer: 5"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        reply = {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
        return Response(json.dumps(reply), content_type="application/json")

    server.expect_request("/v1/models").respond_with_json({"object": "list", "data": []})
    server.expect_request("/v1/chat/completions", method="POST").respond_with_handler(answer)
    return asked


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_keeps_routes_and_a_rerun_completes_them(
    sent: signal.Signals, code: int, tmp_path: Path, httpserver: HTTPServer
) -> None:
    gate = threading.Event()
    asked = _serve(httpserver, gate)
    problems = [{"id": f"q{i}", "question": f"What is the fee of parcel {i}?", "answer": "5", "answer_type": "number"}
                for i in range(N)]  # fmt: skip
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps(p) + "\n" for p in problems), encoding="utf-8")
    url = httpserver.url_for("/v1")
    command = [sys.executable, "-m", "realm_cli", "rollout", "--run", "run", "--problems", "p.jsonl", "--n", "1",
               "-m", f"openai:{url}#m", "--json"]  # fmt: skip
    source = Path(__file__).resolve().parents[2] / "src"
    environment = os.environ | {"PYTHONPATH": str(source), "no_proxy": "127.0.0.1,localhost"}
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # background shells have it ignored
    )  # fmt: skip
    routes = tmp_path / "run" / "rollout" / "routes.jsonl"
    try:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and not (routes.exists() and routes.read_bytes().count(b"\n") >= 5):
            time.sleep(0.02)
        process.send_signal(sent)
        time.sleep(0.5)  # requests under way are answered only after Ctrl-C has been seen
        gate.set()
        out, err = process.communicate(timeout=30)
    finally:
        gate.set()
        process.kill()
    assert process.returncode == code, err
    assert out == ""
    lines = [line for line in err.splitlines() if line.strip()]
    assert (
        lines[-1]
        == "interrupted; what was written is kept: the same command with --resume goes on (pipeline.sh: as it is)"
    )
    assert "Traceback" not in err
    kept = routes.read_bytes()
    assert 5 <= len(rows(routes)) < N
    manifest = json.loads((tmp_path / "run/rollout/manifest.json").read_text(encoding="utf-8"))
    assert manifest["status"] == "running"

    asked.clear()
    again = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert again.returncode == 0, again.stderr
    assert routes.read_bytes().startswith(kept)
    found = rows(routes)
    assert sorted(r["problem_id"] for r in found) == sorted(p["id"] for p in problems)
    assert len({r["id"] for r in found}) == N
    assert len(asked) == N - len(kept.splitlines())
    assert json.loads(again.stdout)["routes"] == N


def test_an_interrupt_in_a_librarys_exec_does_not_change_the_exit_code(tmp_path: Path) -> None:
    """CPython ends such a process by SIGINT, however it was caught (also where SIGTERM came)."""
    code = (
        "import sys\n"
        "from realm_cli.cli import app, console\n"
        "console.show = lambda *given: exec('raise KeyboardInterrupt')\n"
        "sys.exit(app.main(['domain', 'rulebook', '--n-train', '1', '--n-dev', '0', '--n-test', '1']))\n"
    )
    source = Path(__file__).resolve().parents[2] / "src"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(source)}, capture_output=True
    )
    assert done.returncode == 130, done.stderr
