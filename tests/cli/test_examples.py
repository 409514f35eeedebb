"""The first example in every command's help does what it says, on real files, one command after the other."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from cli.helpers import Realm
from cli.test_help import COMMANDS

SMALL = {"data.n_train": 24, "data.n_dev": 4, "data.n_test": 8, "distill.sft.max_steps": 4, "distill.sft.batch_size": 8,
         "train_rl.group_size": 2, "train_rl.groups_per_step": 2, "train_rl.eval_every": 2, "train_rl.dev_limit": 4,
         "train_rl.dev_routed": 0, "train_rl.max_tokens": 32, "eval.max_tokens": 32, "eval.bootstrap": 200,
         "rollout.max_tokens": 48, "train_rl.preflight.stop": "false"}  # fmt: skip
SETTINGS = [part for key, value in SMALL.items() for part in ("--set", f"{key}={value}")]
LAST_RL = ["--steps", "2", "--eaai-steps", "1"]  # of an option given twice the last counts
# In the order of use. What is added makes the run small; `demo` is the whole pipeline, below.
EXTRA: dict[str, list[str]] = {
    "doctor": [],
    "init": [],
    "check": [],
    "import": [],
    "domain": [],
    "plan": [],
    "rollout": SETTINGS,
    "verify": [],
    "distill": SETTINGS,
    "refine": [],
    "train-rl": [*SETTINGS, *LAST_RL],
    "eval": [],
    "export": [],
    "ask": [],
    "merge": [],
    "show": [],
    "watch": ["--once"],
    "report": [],
    "verify-run": [],
    "demo": ["--run", "runs/again", *SETTINGS, "--set", "train_rl.steps=2", "--set", "train_rl.eaai_steps=1"],
}


def test_the_first_example_of_every_command_runs(realm: Realm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sorted(EXTRA) == sorted(COMMANDS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    rows = [f'"Is {i} even?",{"Yes" if i % 2 == 0 else "No"}' for i in range(40)]
    Path("cases.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    for command, extra in EXTRA.items():
        if command == "merge":
            for part in ("1", "2"):
                shard = ["--run", f"runs/part-{part}", "--shard", f"{part}/2", "--model", "solver:hasty"]
                assert realm("rollout", "--recipe", "demo", *shard, *SETTINGS, "--set", "rollout.models=[]").code == 0
        text = realm(command, "--help").out
        example = next(
            line for line in text.splitlines() if f"{line.strip()} ".startswith(f"Example: realm {command} ")
        )
        words = shlex.split(example.split("Example: realm ")[1])
        result = realm(*words, *extra)
        assert result.code == 0, f"{shlex.join(words)}: {result.err or result.out}"
    assert Path("runs/demo/train_rl/adapter/adapter_model.safetensors").is_file()
    assert Path("runs/demo/report.html").is_file()
    assert Path("demo-adapter/README.md").is_file()
