"""Two processes fine-tune as one process does: the real commands under `accelerate launch`, gloo on the CPU."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from realm_cli.cli.app import main

STEPS = 10
MODULE = "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"
LAUNCH = [sys.executable, *MODULE, "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
SETTINGS = {
    "data.n_train": 90, "data.n_dev": 12, "data.n_test": 24, "engine.threads": 1, "distill.sft.batch_size": 16,
    "distill.sft.micro_batch": 4, "distill.sft.save_every": 4, "distill.replay": "null", "distill.sft.max_steps": STEPS,
    "distill.sft.lr": 1e-3, "refine.n": 2, "refine.positives": "false",
}  # fmt: skip
PAIRS = [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]
WORDS = ["distill", "--recipe", "demo", *PAIRS]
SOURCE = Path(__file__).resolve().parents[2] / "src"


def environment() -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(SOURCE), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def call(folder: Path, *words: str, launched: bool = False) -> subprocess.CompletedProcess[str]:
    """A command in one process or in two."""
    command = [*(LAUNCH if launched else [sys.executable]), "-m", "realm_cli", *words]
    return subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=600, check=False
    )


def metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "distill" / "metrics.jsonl").read_text().splitlines()]


def apart(one: Path, two: Path) -> float:
    """The largest difference between the weights of two adapters."""
    first, second = (load_file(str(run / "distill" / "adapter" / "adapter_model.safetensors")) for run in (one, two))
    return max(float((first[name] - second[name]).abs().max()) for name in first)


def same_losses(one: Path, two: Path, *, resumed: bool = False) -> None:
    expected, found = metrics(one), metrics(two)
    assert [row["step"] for row in found] == list(range(STEPS + 1))
    for want, have in zip(expected, found, strict=True):
        assert want.keys() == have.keys()
        for key in ("loss", "grad_norm", "token_accuracy", "lr"):
            assert have.get(key, 0.0) == pytest.approx(want.get(key, 0.0), abs=1e-5)
        if not resumed:  # TRL counts the tokens of a process
            assert have.get("tokens") == want.get("tokens")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run `one` that one process has fine-tuned."""
    place = tmp_path_factory.mktemp("parallel")
    done = call(place, *WORDS, "--run", "one")
    assert done.returncode == 0, done.stderr[-2000:]
    return place


def test_two_processes_fine_tune_as_one(folder: Path) -> None:
    one, two = folder / "one", folder / "two"
    done = call(folder, *WORDS, "--run", "two", launched=True)
    assert done.returncode == 0, done.stderr[-2000:]
    same_losses(one, two)
    assert apart(one, two) < 1e-5
    names = [sorted(str(p.relative_to(run)) for p in run.rglob("*") if ".lock" not in p.name) for run in (one, two)]
    assert names[0] == names[1]  # the second process writes nothing
    for name in ("teacher.jsonl", "guided.jsonl", "sft.jsonl"):
        assert (one / "distill" / name).read_bytes() == (two / "distill" / name).read_bytes()

    again = call(folder, *WORDS, "--run", "two", "--resume", launched=True)  # there is nothing to do, for all
    assert again.returncode == 0 and "already complete" in again.stderr

    shutil.rmtree(two / "distill" / "checkpoints" / f"step-{STEPS}")  # go on with one process from step 8
    manifest = two / "distill" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"status": "done"', '"status": "running"'))
    assert call(folder, *WORDS, "--run", "two", "--resume").returncode == 0
    same_losses(one, two, resumed=True)
    assert apart(one, two) < 1e-5


def test_refine_shares_its_fine_tuning(folder: Path) -> None:
    run = folder / "refined"
    shutil.copytree(folder / "one", run)
    for words in (["rollout"], ["verify"]):
        assert call(folder, *words, "--recipe", "demo", "--run", run.name, *PAIRS).returncode == 0
    done = call(folder, "refine", "--recipe", "demo", "--run", run.name, *PAIRS, launched=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stderr.count("the right ones, learned") == 1
    assert [row["step"] for row in metrics(run / "refine")] == list(range(STEPS + 1))
    assert (run / "refine" / "distill" / "adapter" / "adapter_model.safetensors").exists()


def test_an_error_of_the_lead_ends_all(folder: Path) -> None:
    done = call(folder, *WORDS, "--run", "wrong", "--teacher", "jsonl:nothing.jsonl", launched=True)
    assert done.returncode != 0
    assert done.stderr.count("error: jsonl:nothing.jsonl: no such file; check the path") == 1


@pytest.mark.parametrize("whom", ["lead", "all"])
def test_an_interrupt_ends_all_and_keeps_what_was_done(folder: Path, whom: str) -> None:
    run = folder / f"stopped-{whom}"
    words = [*WORDS, "--run", run.name, "--set", "distill.sft.max_steps=400", "--set", "distill.sft.save_every=300"]
    job = subprocess.Popen(
        [*LAUNCH, "-m", "realm_cli", *words],
        cwd=folder, env=environment(), stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        log = run / "distill" / "metrics.jsonl"
        until = time.monotonic() + 300
        while not (log.exists() and log.read_text().count("\n") > 2) and time.monotonic() < until:
            assert job.poll() is None
            time.sleep(0.1)
        os.killpg(job.pid, signal.SIGINT) if whom == "all" else os.kill(lead_of(run), signal.SIGINT)
        _, errors = job.communicate(timeout=120)
    finally:
        if job.poll() is None:
            os.killpg(job.pid, signal.SIGKILL)
    assert job.returncode != 0
    assert (
        "interrupted; what was written is kept: the same command with --resume goes on (pipeline.sh: as it is)"
        in errors
    )
    assert [path.name for path in (run / "distill" / "checkpoints").iterdir() if path.name.startswith("step-")]
    assert (run / "distill" / "adapter" / "adapter_model.safetensors").exists()


def lead_of(run: Path) -> int:
    """The process that holds the lock of a run's stage."""
    for status in Path("/proc").glob("[0-9]*/environ"):
        words = status.with_name("cmdline")
        try:
            if b"RANK=0\0" in status.read_bytes() and run.name.encode() in words.read_bytes():
                return int(status.parent.name)
        except OSError:
            continue
    raise AssertionError("no lead")


def test_followers_of_work_that_is_not_shared_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    for more in (["--data-only"], ["--shard", "1/2"]):
        assert main([*WORDS, "--run", "r", *more]) == 0
    assert capsys.readouterr().err == "" and not list(tmp_path.iterdir())
