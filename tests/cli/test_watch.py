"""realm watch, the view in train-rl, and where metrics are sent."""

from __future__ import annotations

import io
import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from cli.helpers import Realm
from realm_cli.cli import live
from realm_cli.cli.trackers import open_trackers
from realm_cli.errors import ConfigError
from realm_cli.stages.watching import Watch

STEP = {
    "total_steps": 40, "loss": 0.25, "lam": 0.5, "routed_groups": 3.0, "reward": 0.75, "r_ans_bare": 0.5,
    "r_ver": -0.25, "zero_variance_bare": 0.125, "truncated": 0.0, "length_bare": 21.0, "tokens_sampled": 400.0,
}  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Ten steps of a run, with a sample that tries the terminal."""
    folder = tmp_path / "r" / "train_rl"
    folder.mkdir(parents=True)
    rows: list[dict[str, Any]] = [{"step": 0, "total_steps": 40, "dev_bare": 0.1}]
    rows += [{"step": n, **STEP, **({"dev_bare": 0.8, "dev_routed": 0.9} if n == 5 else {})} for n in range(1, 11)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    times = {"seconds_sample": 3.0, "seconds_score": 0.0, "seconds_update": 1.0}
    (folder / "timing.jsonl").write_text("".join(json.dumps({"step": n, **times}) + "\n" for n in range(1, 11)))
    sample = {
        "problem_id": "p[bold]1",
        "routed": False,
        "r_ans": 1.0,
        "completion": "a\x1b[2J\n" + "b" * 200 + "\nc" * 20,
    }
    (folder / "samples.jsonl").write_text(json.dumps(sample) + "\n")
    return folder.parent


def test_watch_once_tells_all(run: Path, realm: Realm) -> None:
    result = realm("watch", run, "--once")
    assert (result.code, result.err) == (0, "")
    text = " ".join(result.out.split())
    assert "10/40, 4.0 s a step, 0:02:00 left, 100 tokens/s sampled, 4,000 tokens in all" in text
    assert "sample 75%, update 25%" in text and "lambda 0.50, 3 prompts with routes" in text
    assert "0.75: right alone 50%, verdicts -0.25" in text and "12% of the bare ones teach nothing" in text
    assert "alone 80.0%, with routes 90.0%, best 80.0% at step 5 ▂▇" in text
    assert "p[bold]1, alone: right" in text and "\x1b[2J" not in result.out and "\\x1b[2J" in result.out
    assert "b" * 99 + "…" in "".join(result.out.split()) and result.out.rstrip().endswith("…")


def test_watch_says_what_is_missing(run: Path, realm: Realm, tmp_path: Path) -> None:
    for args, says in (
        ([tmp_path / "none"], "none: nothing has been trained here yet"),
        ([run, "--stage", "distill"], "distill: nothing has been trained here yet"),
        ([run, "--stage", "x"], "--stage x: unknown; choose one of train_rl, refine/distill, distill"),
        ([run, "--once", "--log-to", "x"], "--log-to x: unknown; choose one of tensorboard, wandb, trackio"),
    ):
        result = realm("watch", *args)
        assert result.code == 1 and says in result.err and len(result.lines) == 1


def test_the_blocks_have_a_fixed_scale() -> None:
    assert live.spark([0, 0.5, 1, 2, -1]) == "▁▅██▁"


def test_the_view_moves_with_the_files(run: Path) -> None:
    from rich.console import Console

    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100, height=40)
    with live.showing(Watch(run / "train_rl"), console) as look:
        with (run / "train_rl" / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"step": 11, **STEP}) + "\n")
        look(["step 11: nothing is learned"])
    text = out.getvalue()
    assert "11/40" in text and "nothing is learned" in text


def test_before_the_first_step_the_view_says_what_goes_on(tmp_path: Path) -> None:
    from rich.console import Console

    out = io.StringIO()
    with live.showing(Watch(tmp_path), Console(file=out, force_terminal=True, width=100, height=40)) as look:
        look([], "train-rl: pre-flight")
    assert "train-rl: pre-flight" in out.getvalue()


def test_metrics_go_to_tensorboard_once(run: Path, realm: Realm) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for _ in range(2):
        assert realm("watch", run, "--once", "--log-to", "tensorboard").code == 0
    events = accumulator.EventAccumulator(str(run / "logs" / "tensorboard" / "train_rl")).Reload()
    found = [(event.step, event.value) for event in events.Scalars("dev_bare")]
    assert found == [(0, pytest.approx(0.1)), (5, pytest.approx(0.8))]
    assert [event.step for event in events.Scalars("reward")] == list(range(1, 11))
    assert json.loads((run / "logs" / "train_rl-tensorboard.json").read_text()) == {"step": 10}


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_metrics_go_to_wandb_and_trackio(name: str, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[int, dict[str, float]]] = []
    begun: list[dict[str, Any]] = []
    ended: list[bool] = []

    def init(**options: Any) -> Any:
        begun.append(options)
        return types.SimpleNamespace(log=lambda row, step: sent.append((step, row)), finish=lambda: ended.append(True))

    monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(init=init))
    with open_trackers([name, name], run, run / "train_rl") as track:
        track()
    assert [step for step, _ in sent] == list(range(11)) and sent[5][1]["dev_routed"] == 0.9 and ended == [True]
    assert begun[0]["project"] == "realm" and begun[0]["name"] == "r-train_rl" and begun[0]["resume"] == "allow"


def test_a_tracker_that_is_not_there_is_named(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with (
        pytest.raises(ConfigError, match="--log-to wandb: not installed; pip install wandb"),
        open_trackers(["wandb"], run, run / "train_rl"),
    ):
        pass
