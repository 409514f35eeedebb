"""Growth curves as SVG: time and peak memory against prompt length, completion length, group size."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cases import AXES, CURVES, DEFAULTS
from figures import curve, exponent

NAMES = {"prompt": "prompt (tokens)", "response": "completion (tokens)", "completions": "completions of a prompt"}
COLOURS = {"ours": "#1b6ca8", "peer": "#c8553d"}


def growth(data: dict[str, Any], folder: Path) -> Iterator[str]:
    """Write speed-KIND.svg for every kind with a curve; yields a line on each curve and file."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "speed"  # the same file from the same figures
    from matplotlib import pyplot

    for kind, common in CURVES.items():
        found = {axis: curve(data, kind, axis, common, DEFAULTS) for axis in AXES}
        found = {axis: c for axis, c in found.items() if any(len(points) > 1 for points in c.values())}
        if not found:
            continue
        figure, grid = pyplot.subplots(2, len(found), figsize=(4 * len(found), 6), squeeze=False)
        for column, (axis, sides) in enumerate(found.items()):
            for row, what in enumerate(("seconds", "peak GiB")):
                panel = grid[row][column]
                panel.set(xscale="log", yscale="log", xlabel=NAMES[axis], ylabel=what)
                for side, points in sides.items():
                    values = [(point[0], point[row + 1]) for point in points]
                    power = exponent(values)
                    label = side if power is None else f"{side}: {AXES[axis]}^{power:.2f}"
                    panel.plot(*zip(*values, strict=True), "o-", color=COLOURS[side], label=label)
                    if power is not None:
                        yield f"{kind}, {what} against {NAMES[axis]}: {label} over {len(points)} points"
                ticks = sorted({point[0] for points in sides.values() for point in points})
                panel.set_xticks(ticks, labels=[f"{x:g}" for x in ticks])
                panel.minorticks_off()
                panel.legend(fontsize="small")
        fixed = ", ".join(f"{AXES.get(name, name)} {value}" for name, value in common.items())
        figure.suptitle(f"{kind} ({fixed}, but for the axis)", fontsize="small")
        figure.tight_layout()
        path = folder / f"speed-{kind}.svg"
        figure.savefig(path, metadata={"Date": None})
        pyplot.close(figure)
        yield f"plot: {path.name}"
