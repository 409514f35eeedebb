"""Two processes train one policy as one process does: the real command under `accelerate launch`, gloo on the CPU."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from realm_cli.cli.app import main
from realm_cli.cli.context import follows

STEPS = 10
WORDS = ["train-rl", "--recipe", "demo", "--steps", str(STEPS), "--eaai-steps", "8"]
SETTINGS = {
    "data.n_train": 60, "data.n_dev": 12, "data.n_test": 24, "engine.threads": 1, "train_rl.groups_per_step": 5,
    "train_rl.group_size": 4, "train_rl.max_tokens": 48, "train_rl.eval_every": 5, "train_rl.dev_limit": 8,
    "train_rl.save_every": 4, "train_rl.preflight.groups": 0,
}  # fmt: skip
PAIRS = [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]
SOURCE = Path(__file__).resolve().parents[2] / "src"


def environment() -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(SOURCE), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def launch(run: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """The command in two processes."""
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    plain = ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    command = [*launcher, *plain, "-m", "realm_cli", *WORDS, "--run", run.name, *PAIRS, *more]
    return subprocess.run(
        command, cwd=run.parent, env=environment(), capture_output=True, text=True, timeout=600, check=False
    )


def metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "train_rl" / "metrics.jsonl").read_text().splitlines()]


def samples(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "train_rl" / "samples.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process."""
    folder = tmp_path_factory.mktemp("parallel")
    before = Path.cwd()
    os.chdir(folder)
    try:
        for words in (["rollout", "--recipe", "demo"], ["verify"]):
            assert main([*words, "--run", "one", *PAIRS]) == 0
        shutil.copytree("one", "two")
        command = [sys.executable, "-m", "realm_cli", *WORDS, "--run", "one", *PAIRS]
        subprocess.run(command, env=environment(), check=True, capture_output=True)
    finally:
        os.chdir(before)
    return folder / "one"


def test_two_processes_train_as_one(one: Path) -> None:
    two = one.with_name("two")
    done = launch(two)
    assert done.returncode == 0, done.stderr[-2000:]
    expected, found = metrics(one), metrics(two)
    assert [row["step"] for row in found] == list(range(STEPS + 1))
    for want, have in zip(expected, found, strict=True):
        assert want.keys() == have.keys()
        for key in ("loss", "loss_policy", "loss_bridge", "grad_norm", "entropy"):
            assert have.get(key, 0.0) == pytest.approx(want.get(key, 0.0), abs=1e-5)
        for key in ("reward", "rows_trained", "rows_bridge", "tokens_sampled", "dev_bare"):
            assert have.get(key) == want.get(key)
    texts = [[(row["id"], row["completion"], row["advantage"]) for row in samples(run)] for run in (one, two)]
    assert texts[0] == texts[1] and len(texts[0]) == STEPS * 20
    weights = [load_file(str(run / "train_rl" / "last_adapter" / "adapter_model.safetensors")) for run in (one, two)]
    assert max(float((weights[0][name] - weights[1][name]).abs().max()) for name in weights[0]) < 1e-5
    names = [sorted(path.name for path in (run / "train_rl").iterdir()) for run in (one, two)]
    assert names[0] == names[1]  # the second process writes nothing

    shutil.rmtree(two / "train_rl" / "checkpoints" / f"step-{STEPS}")  # go on with one process from step 8
    manifest = two / "train_rl" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"status": "done"', '"status": "running"'))
    command = [sys.executable, "-m", "realm_cli", *WORDS, "--run", "two", *PAIRS, "--resume"]
    subprocess.run(command, cwd=one.parent, env=environment(), check=True, capture_output=True)
    assert metrics(two)[-1]["loss"] == pytest.approx(expected[-1]["loss"], abs=1e-5)


def test_an_error_of_the_lead_ends_all(one: Path) -> None:
    done = launch(one, "--adapter", "nothing")
    assert done.returncode != 0
    assert "error: nothing: no adapter_config.json" in done.stderr


def test_who_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    for rank, size, want in (("0", "2", False), ("1", "2", True), ("3", "1", False), ("", "", False)):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("WORLD_SIZE", size)
        assert follows() is want


def test_other_commands_do_not_run_in_several_processes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["verify", "--run", "r"]) == 1
    assert capsys.readouterr().err == (
        "error: verify: runs in one process, and 2 were started; only distill, refine, train-rl share their work "
        "among processes, rollout and distill are divided by --shard\n"
    )
