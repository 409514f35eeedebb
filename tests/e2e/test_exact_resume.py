"""Killed (SIGKILL) in mid-training and resumed: adapter, samples and metrics are those of an undisturbed run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import realm_cli
from e2e.test_pipeline import SMALL, realm, rows

SETTINGS = (*SMALL, "train_rl.steps=6", "train_rl.eaai_steps=4", "train_rl.save_every=2", "train_rl.eval_every=2")

# `sample`: after the second sample of step 3 is written. `checkpoint`: while the checkpoint of step 4 is written.
# `adapter`: between moving the old best adapter aside and putting the new one in its place.
KILLER = """
import os, signal, sys
from realm_cli.artifacts import Appender
from realm_cli.cli.app import main
from realm_cli.engines import checkpoints

where, add, replace = sys.argv[1], Appender.add, os.replace

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def adding(self, row):
    add(self, row)
    if where == "sample" and getattr(row, "step", None) == 3 and row.sample == 1:
        die()

def replacing(source, target):
    if where == "checkpoint" and str(target).endswith("step-4"):
        die()
    replace(source, target)
    if where == "adapter" and str(target).endswith(".adapter.old"):
        die()

Appender.add = adding
checkpoints.os.replace = replacing
sys.exit(main(sys.argv[2:]))
"""
CASES = {
    "R1, inside the fade": ("demo", "sample", (), False),
    "R1, inside a checkpoint": ("demo", "checkpoint", (), False),
    "R1, between two adapters": ("demo", "adapter", (), False),
    "Zero, inside the fade": ("realm-zero-tiny", "sample", (), True),
    "R1 in NF4, inside the fade": ("demo", "sample", ("student.quant=nf4",), False),
}


@pytest.mark.parametrize("case", CASES)
def test_a_killed_run_goes_on_bit_by_bit(case: str, tmp_path: Path) -> None:
    recipe, where, extra, zero = CASES[case]
    settings = (*SETTINGS, *extra)
    start = ("--adapter", "none") if zero else ()
    base = tmp_path / "base"
    for command in ("rollout", "verify", *(() if zero else ("distill",))):
        assert realm(command, recipe, base, settings=settings) == 0
    inputs = ["--problems", str(base / "rollout" / "problems.jsonl"), "--sets", str(base / "verify" / "sets.jsonl")]
    inputs += list(start) or ["--adapter", str(base / "distill" / "adapter")]
    assert realm("train-rl", recipe, tmp_path / "whole", *inputs, settings=settings) == 0
    pairs = [part for setting in settings for part in ("--set", setting)]
    words = ["train-rl", "--recipe", recipe, "--run", str(tmp_path / "cut"), *pairs, *inputs]
    environment = os.environ | {"PYTHONPATH": str(Path(realm_cli.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", KILLER, where, *words], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    cut, whole = tmp_path / "cut" / "train_rl", tmp_path / "whole" / "train_rl"
    assert not (cut / "last_adapter").exists()
    assert realm("train-rl", recipe, tmp_path / "cut", *inputs, "--resume", settings=settings) == 0
    for file in ("samples.jsonl", "metrics.jsonl", "plan.jsonl"):
        assert (cut / file).read_bytes() == (whole / file).read_bytes(), file
    for folder in ("adapter", "last_adapter"):
        name = f"{folder}/adapter_model.safetensors"
        assert (cut / name).read_bytes() == (whole / name).read_bytes(), name
    assert [row["step"] for row in rows(cut / "metrics.jsonl")] == list(range(7))
