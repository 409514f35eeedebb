"""Metrics of a stage sent on to TensorBoard, Weights & Biases or trackio, from the rows of its metrics.jsonl.

Each step is sent once, however often a run is interrupted: logs/STAGE-NAME.json keeps the last one sent.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from realm_cli.artifacts import write_json
from realm_cli.errors import ConfigError
from realm_cli.run_folder import read_json
from realm_cli.stages.watching import Tail

Send = Callable[[Mapping[str, float], int], None]  # (metrics, step)
NAMES = ("tensorboard", "wandb", "trackio")


@contextmanager
def open_trackers(names: Sequence[str], run: Path, folder: Path) -> Iterator[Callable[[], None]]:
    """A function that sends what is new in folder/metrics.jsonl. ConfigError for a tracker that is not installed."""
    stage = folder.relative_to(run).as_posix().replace("/", "-")
    with ExitStack() as stack:
        senders = [_Sender(name, run, stage, folder, stack) for name in dict.fromkeys(names)]

        def track() -> None:
            for sender in senders:
                sender.send_new()

        yield track
        track()


class _Sender:
    def __init__(self, name: str, run: Path, stage: str, folder: Path, stack: ExitStack) -> None:
        if name not in NAMES:
            raise ConfigError(f"--log-to {name}: unknown; choose one of {', '.join(NAMES)}")
        self.state = run / "logs" / f"{stage}-{name}.json"
        self.sent = int(read_json(self.state).get("step", -1))
        self.tail = Tail(folder / "metrics.jsonl")
        recipe = json.loads((run / "recipe.json").read_text(encoding="utf-8")) if (run / "recipe.json").exists() else {}
        self.send: Send = stack.enter_context(_OPEN[name](run, stage, recipe))

    def send_new(self) -> None:
        before = self.sent
        for row in self.tail.rows():
            step = int(row.get("step", 0))
            if step > self.sent:
                self.send(
                    {key: float(v) for key, v in row.items() if key != "step" and isinstance(v, int | float)}, step
                )
                self.sent = step
        if self.sent > before:
            write_json(self.state, {"step": self.sent})


def _module(name: str, install: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ConfigError(f"--log-to {install}: not installed; pip install {install}") from None


@contextmanager
def _tensorboard(run: Path, stage: str, recipe: Mapping[str, Any]) -> Iterator[Send]:
    with _module("torch.utils.tensorboard", "tensorboard").SummaryWriter(
        str(run / "logs" / "tensorboard" / stage)
    ) as out:

        def send(metrics: Mapping[str, float], step: int) -> None:
            for key, value in metrics.items():
                out.add_scalar(key, value, step)
            out.flush()

        yield send


def _wandb_like(name: str) -> Callable[[Path, str, Mapping[str, Any]], Any]:
    @contextmanager
    def open_(run: Path, stage: str, recipe: Mapping[str, Any]) -> Iterator[Send]:
        module = _module(name, name)
        label = f"{run.resolve().name}-{stage}"
        options = {"id": label} if name == "wandb" else {}
        started = module.init(project="realm", name=label, config=dict(recipe), resume="allow", **options)
        try:
            yield lambda metrics, step: started.log(dict(metrics), step=step)
        finally:
            started.finish()

    return open_


_OPEN: dict[str, Callable[[Path, str, Mapping[str, Any]], Any]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb_like("wandb"),
    "trackio": _wandb_like("trackio"),
}
