"""The live view of a stage that trains: in `train-rl` on a terminal, and in `realm watch` beside or after a run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from realm_cli.errors import printable
from realm_cli.method.teaching import dead_shares
from realm_cli.stages.watching import Watch

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from realm_cli.protocols import Progress

BLOCKS = "▁▂▃▄▅▆▇█"
CURVE = 32  # measurements shown
SAMPLE_LINES, SAMPLE_CHARS = 8, 100
FRESH = 4.0  # seconds that one sample stays on screen


def spark(values: Sequence[float]) -> str:
    """One block per value, on a scale from 0 to 1."""
    top = len(BLOCKS) - 1
    return "".join(BLOCKS[min(top, max(0, round(value * top)))] for value in values)


def lines(watch: Watch, alarms: Sequence[str] = ()) -> list[tuple[str, str]]:
    """(label, text) of everything that is known."""
    found = [("step", _step(watch)), ("time", _times(watch))]
    row = watch.latest
    found += [("routes", _routes(row)), ("reward", _reward(row)), ("groups", _groups(row)), ("loss", _loss(row))]
    found += [("dev", _dev(watch)), *(("alarm", text) for text in alarms)]
    return [(label, printable(text)) for label, text in found if text]


def panel(watch: Watch, alarms: Sequence[str] = (), sample: Mapping[str, Any] | None = None) -> RenderableType:
    """What a terminal shows; texts of models are shown as plain text."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    if watch.total:
        grid.add_row("", ProgressBar(total=watch.total, completed=watch.step, width=60))
    for label, text in lines(watch, alarms):
        grid.add_row(Text(label, style="bold"), Text(text, style="bold red" if label == "alarm" else ""))
    parts: list[RenderableType] = [grid]
    if sample:
        parts.append(Text(_sample_head(sample), style="bold"))
        text = printable(str(sample.get("completion", "")), keep="\n")
        rows = [line if len(line) <= SAMPLE_CHARS else line[: SAMPLE_CHARS - 1] + "…" for line in text.splitlines()]
        parts.append(Text("\n".join([*rows[:SAMPLE_LINES], *(["…"] if len(rows) > SAMPLE_LINES else [])])))
    return Group(*parts)


@contextmanager
def live(folder: Path, label: str, total: int | None) -> Iterator[Callable[[int, str], None]]:
    """`Progress` for a terminal: the view of `folder`'s files, read again at each step."""
    from rich.console import Console

    with showing(Watch(folder), Console(stderr=True)) as look:

        def advance(n: int, note: str = "") -> None:
            look([], f"{label}: {note}" if note else "")

        yield advance


def tracked(progress: Progress, track: Callable[[], None]) -> Progress:
    """The same progress; `track` is called after each advance."""

    @contextmanager
    def both(label: str, total: int | None) -> Iterator[Callable[[int, str], None]]:
        with progress(label, total) as advance:

            def advance_both(n: int, note: str = "") -> None:
                advance(n, note)
                track()

            yield advance_both

    return both


@contextmanager
def showing(watch: Watch, console: Console) -> Iterator[Callable[..., None]]:
    """The view on a console; calling it with the alarms so far reads the files again.

    A second argument says what is going on before there are steps to show.
    """
    from rich.live import Live
    from rich.text import Text

    alarms: list[str] = []
    sample: dict[str, Any] = {}
    since, now = 0.0, "starting"

    def view() -> RenderableType:
        nonlocal sample, since
        if watch.sample and (not sample or time.monotonic() - since > FRESH):
            sample, since = watch.sample, time.monotonic()
        return panel(watch, alarms, sample) if watch.step or watch.curve else Text(printable(now))

    def look(said: Sequence[str], note: str = "") -> None:
        nonlocal now
        watch.poll()
        alarms[:], now = said, note or now

    with Live(get_renderable=view, console=console, refresh_per_second=2):
        look([])
        yield look
        look(alarms[:])


def _step(watch: Watch) -> str:
    each, left, speed = watch.seconds_per_step(), watch.eta(), watch.tokens_per_second()
    parts = [f"{watch.step}/{watch.total or '?'}"]
    parts += [f"{each:.1f} s a step"] if each is not None else []
    parts += [f"{timedelta(seconds=round(left))} left"] if left and watch.step < watch.total else []
    parts += [f"{speed:,.0f} tokens/s sampled"] if speed else []
    parts += [f"{watch.tokens:,.0f} tokens in all"] if watch.tokens else []
    return ", ".join(parts)


def _times(watch: Watch) -> str:
    return ", ".join(f"{part} {share:.0%}" for part, share in watch.shares().items())


def _routes(row: Mapping[str, Any]) -> str:
    if "lam" not in row:
        return ""
    return ", ".join([f"lambda {row['lam']:.2f}", *_figures(row, {"routed_groups": "{:.0f} prompts with routes"})])


def _reward(row: Mapping[str, Any]) -> str:
    shown = {
        "reward": "{:.2f}: ",
        "r_ans_bare": "right alone {:.0%}",
        "r_ans_routed": "with routes {:.0%}",
        "r_fmt_bare": "form {:.0%}",
        "r_ver": "verdicts {:+.2f}",
        "r_loc": "first errors {:+.2f}",
    }
    return ", ".join(_figures(row, shown)).replace(": , ", ": ")


def _groups(row: Mapping[str, Any]) -> str:
    shown = {
        "dead_bare": "{:.0%} of the bare ones teach nothing",
        "dead_routed": "{:.0%} of the routed ones",
        "truncated": "{:.0%} of the completions cut off",
        "length_bare": "{:.0f} tokens long",
    }
    return ", ".join(_figures({**row, **dead_shares(row)}, shown))


def _loss(row: Mapping[str, Any]) -> str:
    shown = {"loss": "{:.4g}", "grad_norm": "gradient {:.3g}", "entropy": "entropy {:.3f}", "lr": "rate {:.2g}"}
    return ", ".join(_figures(row, shown))


def _dev(watch: Watch) -> str:
    if not watch.curve:
        return ""
    newest = watch.curve[max(watch.curve)]
    bare = [row["dev_bare"] for _, row in sorted(watch.curve.items()) if "dev_bare" in row]
    shown = {"dev_bare": "alone {:.1%}", "dev_routed": "with routes {:.1%}"}
    best = watch.best()
    parts = [*_figures(newest, shown), *([f"best {best[1]:.1%} at step {best[0]}"] if best else [])]
    return ", ".join(parts) + f"  {spark(bare[-CURVE:])}"


def _figures(row: Mapping[str, Any], shown: Mapping[str, str]) -> list[str]:
    return [text.format(row[key]) for key, text in shown.items() if isinstance(row.get(key), int | float)]


def _sample_head(sample: Mapping[str, Any]) -> str:
    how = "with routes" if sample.get("routed") else "alone"
    verdict = "right" if sample.get("r_ans") == 1 else "wrong"
    return printable(f"{sample.get('problem_id', '')}, {how}: {verdict}")
