"""What `realm plan` prints: work, memory by part, which GPUs suffice, and what to lower where one does not.

Usage: `plan_summary(recipe, shape, lengths, counts, work, devices, sizes, speeds)`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from realm_cli.protocols import ModelShape, Speeds
from realm_cli.recipe import Recipe
from realm_cli.stages.footprint import GIB, PARTS, Device, Lengths, Peak, fits, lowered, peaks
from realm_cli.stages.summary import Summary, Table
from realm_cli.stages.workload import Work, seconds


def plan_summary(
    recipe: Recipe,
    shape: ModelShape,
    lengths: Lengths,
    counts: Mapping[str, int],
    work: Sequence[Work],
    devices: Sequence[Device],
    sizes: Sequence[float],
    speeds: Speeds | None,
) -> Summary:
    """devices: this machine's processor, then a GPU. sizes: GiB of the GPUs asked about. counts: by split."""
    found = {device.kind: peaks(recipe, shape, lengths, device) for device in devices}
    here, gpu = devices
    places = [(f"{here.gib:.0f} GB here", here, here.gib), *((f"{size:g} GB GPU", gpu, size) for size in sizes)]
    advice = {
        place: [
            (peak.stage, _advice(recipe, shape, lengths, device, peak, size))
            for peak in found[device.kind]
            if not fits(peak, size)
        ]
        for place, device, size in places
    }
    data: dict[str, Any] = {
        "model": shape.label,
        "parameters": shape.parameters,
        "problems": dict(counts),
        "lengths": {"bare": lengths.bare, "routed": lengths.routed, "row": lengths.row, "source": lengths.source},
        "work": [vars(row) | ({"seconds": round(seconds(row, speeds))} if speeds is not None else {}) for row in work],
        "speeds": vars(speeds) if speeds is not None else None,
        "memory": {
            kind: [{"stage": p.stage, "bytes": p.total, "parts": p.parts} for p in rows] for kind, rows in found.items()
        },
        "fits": {place: not missing for place, missing in advice.items()},
        "advice": [
            {"where": place, "stage": stage, "settings": text}
            for place, missing in advice.items()
            for stage, text in missing
        ],
    }
    tables = [_work_table(work, speeds), *(_memory_table(recipe, device, found[device.kind]) for device in devices)]
    return Summary("plan", data, tables, _notes(recipe, shape, lengths, counts, advice, speeds))


def _advice(recipe: Recipe, shape: ModelShape, lengths: Lengths, device: Device, peak: Peak, size: float) -> str | None:
    """The first settings with which the stage fits; None where none does."""
    for settings, less in lowered(recipe, peak.stage, lengths):
        if fits(next(p for p in peaks(less, shape, lengths, device) if p.stage == peak.stage), size):
            return settings
    return None


def _work_table(work: Sequence[Work], speeds: Speeds | None) -> Table:
    columns = ["stage", "steps", "samples", "tokens sampled", "tokens trained", "tokens by servers"]
    rows = [
        [
            row.stage,
            *(f"{n:,}" if n else "-" for n in (row.steps, row.samples, row.sampled, row.trained, row.elsewhere)),
        ]
        for row in work
    ]
    if speeds is not None:
        columns.append("time here")
        for cells, row in zip(rows, work, strict=True):
            cells.append(_span(seconds(row, speeds)))
    return Table("Work, at most", columns, rows)


def _memory_table(recipe: Recipe, device: Device, rows: Sequence[Peak]) -> Table:
    kind = "NF4" if device.quantises(recipe) else "not quantised"
    where = "this machine's processor" if device.kind == "cpu" else "a GPU"
    dtype = "bfloat16" if device.width(recipe) == 2 else "float32"
    return Table(
        f"Memory at the peak on {where} ({kind}, {dtype}), GiB",
        ["part", *(peak.stage for peak in rows)],
        [
            *([part, *(_gib(peak.parts.get(part, 0)) for peak in rows)] for part in PARTS),
            ["all", *(_gib(peak.total) for peak in rows)],
        ],
    )


def _notes(
    recipe: Recipe,
    shape: ModelShape,
    lengths: Lengths,
    counts: Mapping[str, int],
    advice: Mapping[str, Sequence[tuple[str, str | None]]],
    speeds: Speeds | None,
) -> list[str]:
    splits = ", ".join(f"{n:,} {split}" for split, n in counts.items())
    notes = [
        f"student {shape.label}: {shape.parameters / 1e6:,.0f} M parameters, {shape.layers} layers; problems: {splits}",
        f"longest in tokens: bare prompt {lengths.bare:,}, routed prompt {lengths.routed:,}, fine-tuning row "
        f"{min(lengths.row, recipe.distill.sft.max_length):,} ({lengths.source})",
    ]
    if lengths.routed + recipe.train_rl.max_tokens > shape.positions:
        notes.append(
            f"warning: a routed prompt with its completion may take {lengths.routed + recipe.train_rl.max_tokens:,} of "
            f"{shape.positions:,} positions; lower verify.k, rollout.max_tokens or train_rl.max_tokens"
        )
    for place, missing in advice.items():
        notes.append(f"{place}: " + ("fits" if not missing else "; ".join(_said(*pair) for pair in missing)))
    if speeds is None:
        notes.append("time: add --calibrate, which loads the student and tries its speed on this machine")
    else:
        notes.append(f"this machine: {speeds.sampled:,.0f} tokens/s sampled, {speeds.trained:,.0f} tokens/s trained")
    return notes


def _said(stage: str, settings: str | None) -> str:
    if settings is None:
        return f"{stage} does not fit; take a smaller model, shorter routes or a lower max_tokens"
    return f"{stage} fits with {settings}"


def _gib(size: int) -> str:
    return f"{size / GIB:.2f}" if size else "-"


def _span(value: float) -> str:
    if value < 90:
        return f"{value:.0f} s"
    return f"{value / 60:.0f} min" if value < 5400 else f"{value / 3600:.1f} h"
