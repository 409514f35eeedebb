"""Choices reach what models get: rollout, distill (teacher and fine-tuning rows), train-rl's plan, eval, lm-eval."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from cli.helpers import Realm, rows, write_rows
from engines.scripted import answer, as_json, bodies, script

METALS = ["iron", "mercury", "gold", ""]
SHOWN = "A) iron\nB) mercury\nC) gold"
RIGHT = "1. Mercury melts at -39 degrees, so it is liquid here.\n2. Iron and gold melt far above.\nAnswer: B"
WRONG = "1. Iron melts at 10 degrees, so it is liquid here.\n2. The others melt far above.\nAnswer: A"


def problem(number: int, split: str) -> dict[str, object]:
    return {
        "id": f"m{number}",
        "question": f"Which metal is liquid in room {number}?",
        "answer": "B",
        "answer_type": "choice",
        "choices": METALS,
        "split": split,
    }


@pytest.fixture
def metals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    splits = ["train"] * 8 + ["dev"] * 2 + ["test"] * 2
    write_rows(tmp_path / "p.jsonl", [problem(n, split) for n, split in enumerate(splits)])
    (tmp_path / "rules.md").write_text("Mercury is liquid at room temperature.", encoding="utf-8")
    return tmp_path


def texts(body: dict[str, object]) -> str:
    return "\n".join(message["content"] for message in body["messages"])  # type: ignore[attr-defined]


def told(text: str) -> str:
    return " ".join(text.split())


def test_every_stage_shows_the_options(metals: Path, realm: Realm, httpserver: HTTPServer) -> None:
    def reply(request: Request) -> Response:
        return as_json(answer(RIGHT if request.get_json()["seed"] % 2 else WRONG))

    script(httpserver, reply)
    model = f"openai:{httpserver.url_for('/v1')}#m"
    run = ("--run", "r", "--problems", "p.jsonl")

    assert realm("rollout", *run, "-m", model, "--n", 4).code == 0
    asked = [texts(body) for body in bodies(httpserver)]
    assert len(asked) >= 32 and all(f"room {n}?\n{SHOWN}" in "".join(asked) for n in range(8))
    assert all(f"{SHOWN}\nUse exactly" in text or text.endswith(SHOWN) for text in asked)
    routes = rows(metals / "r/rollout/routes.jsonl")
    assert {row["correct"] for row in routes} == {True, False}
    assert realm("verify", *run).code == 0

    httpserver.log.clear()
    small = ("--set", "distill.min_steps=1", "--set", "distill.sft.epochs=1", "--set", "distill.sft.max_steps=1")
    done = realm("distill", *run, "--rules", "rules.md", "--teacher", model, *small)
    assert done.code == 0, done.err
    taught = [texts(body) for body in bodies(httpserver)]
    assert taught and all(SHOWN in text and "Mercury is liquid" in text for text in taught)
    fine = rows(metals / "r/distill/sft.jsonl")
    assert fine and all(SHOWN in row["messages"][-1]["content"] for row in fine)

    assert realm("train-rl", *run, "--adapter", "none", "--plan-only", "--steps", 4, "--eaai-steps", 2).code == 0
    plan = rows(metals / "r/train_rl/plan.jsonl")
    assert plan and all(SHOWN in row["messages"][-1]["content"] for row in plan)
    assert any("[Route A]" in row["messages"][-1]["content"] for row in plan)

    httpserver.log.clear()
    assert realm("eval", *run, "--model", model).code == 0
    tested = [texts(body) for body in bodies(httpserver)]
    assert tested and all(SHOWN in text for text in tested)
    assert {row["problem_id"] for row in rows(metals / "r/eval/predictions.jsonl")} == {"m10", "m11"}

    assert realm("export", "--run", "r", "--format", "lm-eval", "--out", "out").code == 0
    samples = [row for path in (metals / "out").rglob("samples_*.jsonl") for row in rows(path)]
    assert len(samples) >= 4 and all(SHOWN in prompt_of(row) for row in samples)
    assert told(SHOWN) in told(realm("verify", "--run", "r", "--explain", "m0").out)
    assert told("A) iron B) mercury C) gold D)") in told(realm("show", "r/rollout/problems.jsonl", "--id", "m0").out)


def prompt_of(row: dict[str, Any]) -> str:
    return str(json.loads(row["arguments"]["gen_args_0"]["arg_0"])[-1]["content"])


def test_work_begun_without_options_is_refused_in_one_line(metals: Path, realm: Realm, httpserver: HTTPServer) -> None:
    script(httpserver, lambda request: as_json(answer(RIGHT)))
    run = ("--run", "r", "--problems", "p.jsonl", "-m", f"openai:{httpserver.url_for('/v1')}#m")
    assert realm("rollout", *run, "--n", 1).code == 0
    path = metals / "r/rollout/manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    del manifest["choices_shown"]
    path.write_text(json.dumps(manifest), encoding="utf-8")
    before = (metals / "r/rollout/routes.jsonl").read_bytes()
    for _ in range(2):
        done = realm("rollout", *run, "--n", 2)
        assert done.code == 1 and (metals / "r/rollout/routes.jsonl").read_bytes() == before
        (line,) = (line for line in done.lines if "older version" in line)
        assert "r/rollout" in line and "m0" in line and "--force" in line
    assert realm("rollout", *run, "--n", 2, "--force").code == 0
    assert realm("rollout", *run, "--n", 3).code == 0


def test_questions_that_hold_their_options_are_asked_as_they_stand(
    metals: Path, realm: Realm, httpserver: HTTPServer
) -> None:
    question = "Which metal is liquid?\n**A.** iron\n**B.** mercury\n**C.** gold"
    write_rows(metals / "p.jsonl", [problem(0, "train") | {"question": question}])
    script(httpserver, lambda request: as_json(answer(RIGHT)))
    model = f"openai:{httpserver.url_for('/v1')}#m"
    assert realm("rollout", "--run", "r", "--problems", "p.jsonl", "-m", model, "--n", 1).code == 0
    (body,) = bodies(httpserver)
    assert question in texts(body) and texts(body).count("mercury") == 1
