"""The lab's plots: dev accuracy against sampled tokens, and while the routes fade; means over seeds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

from arms import ARMS

from realm_cli.stages.report_lab import Lab, curve

COLOURS = {  # of the arms in the plots
    "grpo": "#c8553d",
    "fade": "#8d6a9f",
    "r1": "#1b6ca8",
    "no_fade": "#6fb1dd",
    "realm_r1": "#2a9d4a",
    "always": "#888",
    "zero": "#d9a404",
}


def plots(lab: Lab, folder: Path) -> Iterator[str]:
    """Dev accuracy of bare prompts against sampled tokens, mean over seeds."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "lab"
    from matplotlib import pyplot

    from realm_cli.method.eaai import lambda_at

    for regime, arms in lab.runs.items():
        figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.6), sharey=True)
        for axis, key in zip(axes, ("dev_bare", "dev_bare/unseen"), strict=True):
            for arm in [name for name in COLOURS if name in arms]:
                runs = [curve(run) for run in arms[arm] if run["curve"]]
                points = [
                    (fmean(p[1] for p in at) / 1e6, fmean(100 * p[2].get(key, 0.0) for p in at))
                    for at in zip(*runs, strict=False)
                ]
                axis.plot(*zip(*points, strict=True), label=ARMS[arm].about, color=COLOURS[arm])
            axis.set(xlabel="sampled tokens (millions)", title=key.replace("dev_bare", "bare, dev").replace("/", ", "))
        axes[0].set_ylabel("accuracy %")
        axes[1].legend(fontsize="x-small")
        yield saved(figure, folder / f"curves-{regime}.svg")
        figure, axis = pyplot.subplots(figsize=(6, 3.6))
        for arm in [name for name in COLOURS if name in arms and name not in ("always", "zero")]:
            runs = [run["curve"] for run in arms[arm] if run["curve"]]
            points = [(at[0][0], fmean(100 * p[2].get("dev_bare", 0.0) for p in at)) for at in zip(*runs, strict=False)]
            axis.plot(*zip(*points, strict=True), label=ARMS[arm].about, color=COLOURS[arm])
        axis.plot(
            [100 * lambda_at("cosine", t, 180) for t in range(301)], "k:", label="lambda of the cosine fade, x 100"
        )
        axis.set(xlabel="step of reinforcement learning", ylabel="bare, dev, %")
        axis.legend(fontsize="x-small")
        yield saved(figure, folder / f"fade-{regime}.svg")


def saved(figure: Any, path: Path) -> str:
    """The file's name, once the figure is in it."""
    from matplotlib import pyplot

    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    return path.name
