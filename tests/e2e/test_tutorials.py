"""The shell blocks of docs/tutorials, from the first to the last, on the data that they name and the tiny student.

Only the variables of a page's first block are supplied here; the commands are those that the page prints.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from cli.helpers import write_rows

PAGES = Path(__file__).resolve().parents[2] / "docs" / "tutorials"
SMALL = {
    "engine.threads": "1", "rollout.n": "1", "verify.k": "2", "verify.sets_per_problem": "1",
    "distill.limit": "6", "distill.sft.epochs": "1", "distill.sft.max_steps": "2", "distill.sft.batch_size": "2",
    "distill.sft.micro_batch": "2", "distill.sft.max_length": "2048", "refine.n": "1",
    "train_rl.steps": "2", "train_rl.eaai_steps": "1", "train_rl.group_size": "2", "train_rl.groups_per_step": "1",
    "train_rl.max_tokens": "12", "train_rl.eval_every": "2", "train_rl.dev_limit": "2", "train_rl.save_every": "2",
    "train_rl.preflight.groups": "0", "eval.limit": "4", "eval.k": "2",
    "eval.max_tokens": "12", "eval.bootstrap": "200",
}  # fmt: skip
SET = " ".join(f"--set {key}={value}" for key, value in SMALL.items())


def run_page(page: str, place: Path, **settings: object) -> str:
    """Every `sh` block of a page in one shell, in an empty folder, up to the first failure; what it printed."""
    blocks = re.findall(r"^```sh\n(.*?)^```", (PAGES / page).read_text(encoding="utf-8"), re.M | re.S)
    assert len(blocks) >= 4
    tool = place / "bin" / "realm"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m realm_cli "$@"\n')
    tool.chmod(0o755)
    known = {key: value for key, value in os.environ.items() if key not in ("DATA", "TEACHER", "ROUTES", "SET")}
    known |= {"PATH": f"{tool.parent}:{os.environ['PATH']}", "STUDENT": "tiny-student", "SET": SET, "COLUMNS": "200"}
    known |= {key: str(value) for key, value in settings.items()}
    (place / "work").mkdir()
    script = "set -euo pipefail\n" + "\n".join(blocks)
    done = subprocess.run(
        ["bash", "-c", script], cwd=place / "work", env=known, capture_output=True, text=True, timeout=1800
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def attempts(place: Path, name: str, answers: dict[str, str], text: Callable[[int, str], str]) -> str:
    """A file of one text a problem, and its model spec: they stand in for a model on a server."""
    rows = [{"problem_id": key, "text": text(i, answer)} for i, (key, answer) in enumerate(answers.items())]
    write_rows(place / name, rows)
    return f"jsonl:{place / name}"


def accuracy_rows(run: Path) -> set[tuple[str, str]]:
    report = json.loads((run / "eval" / "report.json").read_text(encoding="utf-8"))
    return {(row["model"], row["mode"]) for row in report["results"]}


def test_legalbench(data_dir: Path, tmp_path: Path) -> None:
    """Labels; the solutions are made of the table's columns."""
    lines = (data_dir / "legalbench-diversity" / "diversity_3.tsv").read_text(encoding="utf-8").splitlines()[1:]
    answers = {f"diversity_3-{i:06d}": line.split("\t")[1] for i, line in enumerate(lines, 1)}
    other = {"Yes": "No", "No": "Yes"}

    def solver(every: int) -> Callable[[int, str], str]:
        return lambda i, answer: (
            "1. The states are compared.\n2. The amount is looked at.\n"
            f"Answer: {other[answer] if i % 3 == every else answer}"
        )

    routes = [attempts(tmp_path, f"routes-{n}.jsonl", answers, solver(n)) for n in range(2)]
    said = run_page("legalbench.md", tmp_path, DATA=data_dir / "legalbench-diversity", ROUTES=" ".join(routes))
    assert "300 written solutions" in said and "0 errors" in said
    assert "answer type label: 2 different answers: no, yes" in said
    run = tmp_path / "work" / "legal" / "run"
    assert (run / "train_rl" / "adapter" / "adapter_model.safetensors").exists() and (run / "report.html").exists()
    first = json.loads((run / "distill" / "guided.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert first["kept"] and len(first["steps"]) == 3 and first["steps"][0].endswith(("True.", "False."))
    assert "Diversity jurisdiction is one way" in (run.parent / "rules.md").read_text(encoding="utf-8")


def test_airline(data_dir: Path, tmp_path: Path) -> None:
    """Dollars and a rule book; texts stand in for the models on the server."""
    lines = (data_dir / "rulearena-airline" / "comp_0.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    answers = {f"comp_0-{i:06d}": str(row["answer"]) for i, row in enumerate(rows, 1)}
    tickets = [row["info"]["base_price"] for row in rows]

    def solver(slip: int, every: int) -> Callable[[int, str], str]:
        def text(i: int, answer: str) -> str:
            bags = int(answer) - tickets[i] + (slip if i % 2 == every else 0)
            return (
                f"1. The ticket costs {tickets[i]} dollars.\n2. The bags cost {bags} dollars.\n"
                f"3. {tickets[i]} + {bags} = {tickets[i] + bags}\nAnswer: {tickets[i] + bags}"
            )

        return text

    routes = [attempts(tmp_path, f"routes-{n}.jsonl", answers, solver(30 + n, n)) for n in range(2)]
    teacher = attempts(tmp_path, "teacher.jsonl", answers, solver(0, 0))
    said = run_page(
        "airline.md", tmp_path, DATA=data_dir / "rulearena-airline", TEACHER=teacher, ROUTES=" ".join(routes)
    )
    assert "2291 words of rules for the teacher" in said and "0 errors" in said
    run = tmp_path / "work" / "air" / "run"
    assert (run / "train_rl" / "adapter" / "adapter_model.safetensors").exists() and (run / "report.html").exists()


def test_gsm8k(data_dir: Path, tmp_path: Path) -> None:
    """Numbers with written solutions: guided distillation alone. A part of the rows, for the time it takes."""
    part = tmp_path / "gsm8k"
    part.mkdir()
    for name in ("train.jsonl", "test.jsonl"):
        lines = (data_dir / "gsm8k" / name).read_text(encoding="utf-8").splitlines(keepends=True)
        (part / name).write_text("".join(lines[:120]), encoding="utf-8")
    said = run_page("gsm8k.md", tmp_path, DATA=part)
    assert "240 written solutions" in said and "0 errors" in said
    run = tmp_path / "work" / "gsm" / "run"
    assert accuracy_rows(run) == {("base", "bare"), ("distilled", "bare")} and (run / "report.html").exists()
    assert not (run / "rollout").exists()
