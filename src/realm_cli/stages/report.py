"""What a run's report tells, as plain data: report/page.py makes the page of it (docs/report.md).

Usage: `data = run_report(run, problems=None, progress=progress)`. Everything is read from the run's own files; what a
manifest names elsewhere is not opened. What is missing is left out, and a line of `missing` says what
makes it.
Tables are {"title", "columns", "rows"}; charts are {"title", "about", "x", "y", "percent", "series", ...}, see chart().
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from realm_cli.artifacts import digest, iter_rows
from realm_cli.errors import ArtifactError, RealmError, masked
from realm_cli.protocols import Progress
from realm_cli.records import Problem
from realm_cli.run_folder import read_json, read_manifest
from realm_cli.stages.card import settings_used
from realm_cli.stages.report_curves import curves
from realm_cli.stages.report_examples import before_after, routes
from realm_cli.stages.report_tables import cut_off, report_tables, weak_claims
from realm_cli.stages.summary import Table, percent
from realm_cli.stages.watching import past_alarms

MOST_ROWS = 60  # of a table
_STAGES = ("rollout", "verify", "distill", "train_rl")  # blocks that say nothing where the stage has not run
_CHOICES = (  # key of the recipe -> what a reader calls it
    ("student.model", "student"),
    ("student.quant", "quantisation"),
    ("seed", "seed"),
    ("data.domain", "built-in domain"),
    ("prompt.order", "routed prompts"),
    ("rollout.n", "routes per problem and model"),
    ("verify.k", "routes in a set"),
    ("distill.teacher", "teacher"),
    ("distill.mix", "distillation mix"),
    ("distill.sft.epochs", "epochs of distillation"),
    ("distill.sft.lr", "rate of distillation"),
    ("train_rl.steps", "steps of RL"),
    ("train_rl.eaai_steps", "steps of the fade"),
    ("train_rl.schedule", "schedule of the fade"),
    ("train_rl.p_max", "routed share at first"),
    ("train_rl.group_size", "completions in a group"),
    ("train_rl.groups_per_step", "groups in a step"),
    ("train_rl.lr", "rate of RL"),
    ("train_rl.loss_type", "loss of RL"),
)


def run_report(run: Path, *, problems: Path | None = None, progress: Progress) -> dict[str, Any]:
    """All that the page shows. ArtifactError where no stage has written below `run`; DataError for a broken file."""
    if not run.is_dir():
        raise ArtifactError(f"{run}: no such folder; give a run folder such as runs/demo")
    manifests = {str(path.parent.relative_to(run)): read_manifest(path) for path in sorted(run.rglob("manifest.json"))}
    manifests = dict(sorted(manifests.items(), key=lambda item: str(item[1].get("started"))))
    if not manifests:
        raise ArtifactError(f"{run}: no stage has written here; start with `realm rollout --run {run}` or `realm demo`")
    recipe = read_json(run / "recipe.json") or read_json(run / next(reversed(manifests)) / "recipe.json")
    recipe = settings_used(run, recipe)
    known = _problems(run, problems)
    missing: list[str] = []
    found = _evaluation(run, missing)
    dev = sum(row.split == "dev" for row in known.values())
    charts = curves(run, missing, dev=min(dev, _dig(recipe, "train_rl.dev_limit") or dev))
    with progress("report", None) as advance:
        shown = routes(run, known, missing, advance)
        examples = before_after(run, known, missing, advance)
    return {
        "title": str(recipe.get("name") or run.resolve().name),
        "kind": "run",
        "made": datetime.now().astimezone().isoformat(timespec="minutes"),
        "trained": _trained(run, recipe, manifests, known),
        "evaluation": found,
        "labs": [],
        "charts": charts,
        "routes": shown,
        "examples": examples,
        "findings": _findings(run),
        "manifest": _manifest(manifests),
        "limits": _limits(run, manifests, recipe, found),
        "missing": missing,
    }


def plain(table: Table) -> dict[str, Any]:
    """A table as data, its end left out where it is very long."""
    rest = len(table.rows) - MOST_ROWS
    rows = [*table.rows[:MOST_ROWS], *([[f"... {rest} more rows in the files"]] if rest > 0 else [])]
    return {"title": table.title, "columns": table.columns, "rows": rows}


def _dig(data: Mapping[str, Any], key: str) -> Any:
    value: Any = data
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _problems(run: Path, given: Path | None) -> dict[str, Problem]:
    """Problem id -> problem, of --problems and the run's own files."""
    paths = [given] if given else [run / "problems.jsonl", run / "rollout" / "problems.jsonl"]
    found: dict[str, Problem] = {}
    for path in paths:
        if given or path.exists():
            found |= {row.id: row for row in iter_rows(path, Problem)}
    return found


def _trained(
    run: Path, recipe: Mapping[str, Any], manifests: Mapping[str, Any], known: Mapping[str, Problem]
) -> dict[str, Any]:
    """The recipe's main choices, models, counts of rows, digests of rules and problems."""
    choices = []
    for key, name in _CHOICES:
        stage = key.partition(".")[0]
        value = _dig(recipe, key) if stage not in _STAGES or stage in manifests else None
        if isinstance(value, dict):
            value = ", ".join(f"{part} {share}" for part, share in value.items())
        if value is not None:
            choices.append([name, masked(str(value))])
    counts = [[f"problems, {split}", str(n)] for split, n in sorted(Counter(p.split for p in known.values()).items())]
    for stage, file, name in (
        ("rollout", "routes.jsonl", "routes"),
        ("verify", "sets.jsonl", "route sets"),
        ("distill", "sft.jsonl", "rows of distillation"),
        ("refine/rollout", "routes.jsonl", "own solutions with routes shown"),
        ("refine/distill", "sft.jsonl", "rows of refinement"),
        ("train_rl", "plan.jsonl", "groups of RL"),
        ("train_rl", "samples.jsonl", "completions of RL"),
        ("eval", "predictions.jsonl", "predictions"),
    ):
        rows = _dig(manifests.get(stage, {}), "outputs")
        if isinstance(rows, dict) and file in rows:
            counts.append([name, str(rows[file].get("rows", 0))])
    digests: dict[str, str] = {}  # sha256 -> what it is of
    for manifest in manifests.values():
        for name, entry in (manifest.get("inputs") or {}).items():
            if name in ("problems", "rules", "notes"):
                digests.setdefault(entry["sha256"], f"{name} ({Path(entry['path']).name})")
    for file in ("rules.md", "notes.md"):  # of a built-in domain
        if (run / file).is_file():
            digests.setdefault(digest(run / file), file)
    named = _dig(recipe, "rollout.models") if "rollout" in manifests else None
    wrote = _dig(manifests, "rollout.sources") or named or []
    verified = read_json(run / "verify" / "summary.json")
    facts = []
    for key, name in (("correct", "routes that are right"), ("first_error_known", "wrong routes with a located error")):
        if isinstance(verified.get(key), float):
            facts.append([name, f"{percent(verified[key])} %"])
    if isinstance(auc := _dig(verified, "leak.auc"), float):
        facts.append(["leak probe, AUC (0.5 = labels do not show in the form)", f"{auc:.2f}"])
    return {
        "choices": choices,
        "models": sorted({masked(str(name)) for name in wrote}),
        "counts": counts,
        "digests": [[name, sha] for sha, name in digests.items()],
        "facts": facts,
    }


def _evaluation(run: Path, missing: list[str]) -> dict[str, Any] | None:
    """The tables of eval, and one line per model and mode for the picture."""
    path = run / "eval" / "report.json"
    report = read_json(path)
    if not report:
        missing.append(f"No evaluation yet: `realm eval --run {run} --compare` measures accuracy with intervals.")
        return None
    try:
        tables = [plain(table) for table in report_tables(report)]
        bars = [
            {
                "name": r["model"],
                "part": r["mode"],
                "at": r["accuracy"],
                "low": r["low"],
                "high": r["high"],
                "n": r["n"],
            }
            for r in report["results"]
            if r["group"] == "all"
        ]
        notes = weak_claims(report)
        if not report["comparisons"]:
            missing.append(f"No paired comparison: `realm eval --run {run} --compare --force` adds it.")
    except (LookupError, TypeError, ValueError, AttributeError):
        missing.append(f"{path} is not of this version: `realm eval --run {run} --compare --force` redoes it.")
        return None
    if not report.get("reliance"):
        missing.append(
            f"How much right routed solutions lean on the routes: `realm eval --run {run} --mode bare --mode routed "
            "--reliance --force`."
        )
    return {"tables": tables, "bars": bars, "notes": notes, "contamination": report.get("contamination") or {}}


def _findings(run: Path) -> dict[str, list[str]]:
    """Alarms of RL, replayed from its metrics; what pre-flight said; answers of the evaluation that were cut off."""
    stage = run / "train_rl"
    try:
        alarms = past_alarms(stage, last=1000) if (stage / "metrics.jsonl").is_file() else []
    except (RealmError, LookupError, TypeError, ValueError) as error:
        alarms = [f"alarms cannot be told again from the metrics: {error}"]
    limit = _dig(read_json(run / "eval" / "recipe.json"), "eval.max_tokens")
    evaluated = read_json(run / "eval" / "report.json")
    alarms += cut_off(evaluated, limit) if limit and evaluated.get("results") else []
    preflight = read_json(stage / "preflight.json")
    said = [str(text) for key in ("stop", "warn") for text in _list(preflight.get(key))]
    figures = [
        f"{key} {value:g}"
        for key, value in preflight.items()
        if isinstance(value, int | float) and math.isfinite(value)
    ]
    return {"alarms": alarms, "preflight": said, "figures": figures}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _manifest(manifests: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """One row per stage; versions as they are in all, or per stage where they differ."""
    rows, inputs, versions = [], [], dict[str, set[str]]()
    for name, manifest in manifests.items():
        outputs = manifest.get("outputs") or {}
        rows.append(
            [
                name,
                str(manifest.get("status", "?")),
                str(manifest.get("started", "?")),
                duration(manifest.get("started"), manifest.get("finished")),
                str(manifest.get("seed", "?")),
                str(len(outputs)),
                str(sum(entry.get("rows", 0) for entry in outputs.values())),
                str(manifest.get("git") or "-")[:12],
            ]
        )
        for key, entry in (manifest.get("inputs") or {}).items():
            inputs.append([name, key, Path(entry["path"]).name, entry["sha256"][:16]])
        for key, value in {**(manifest.get("models") or {})}.items():
            inputs.append([name, f"model {key}", "", str(value)[:16]])
        for library, version in (manifest.get("versions") or {}).items():
            versions.setdefault(library, set()).add(version)
    columns = ["stage", "status", "started", "took", "seed", "files", "rows", "revision"]
    return {
        "stages": plain(Table("Stages", columns, rows)),
        "inputs": plain(Table("Inputs, sha256 (first 16 digits)", ["stage", "input", "file", "digest"], inputs)),
        "versions": [f"{library} {' / '.join(sorted(found))}" for library, found in versions.items()],
    }


def duration(started: object, finished: object) -> str:
    """`4 min 12 s`; `-` where either end is not known."""
    try:
        seconds = (datetime.fromisoformat(str(finished)) - datetime.fromisoformat(str(started))).total_seconds()
    except (TypeError, ValueError):
        return "-"
    hours, rest = divmod(round(seconds), 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {left} s" if minutes else f"{left} s"


def _limits(
    run: Path, manifests: Mapping[str, Mapping[str, Any]], recipe: Mapping[str, Any], found: Mapping[str, Any] | None
) -> list[str]:
    """What these figures do not show, as far as the files tell."""
    lines = []
    if open_ := [name for name, manifest in manifests.items() if manifest.get("status") != "done"]:
        lines.append(f"Not finished: {', '.join(open_)}. Continue with --resume before you rest anything on this page.")
    seeds = sorted({str(manifest.get("seed")) for manifest in manifests.values()})
    lines.append(
        f"Seed{'s' if seeds[1:] else ''} {', '.join(seeds)}, one training run: the intervals are over test problems "
        "and say nothing about another seed. Train with other seeds before you compare methods."
    )
    if found:
        lines += [f"{text[0].upper()}{text[1:]}." for text in found["notes"]]
        touched, of = found["contamination"].get("touched"), found["contamination"].get("of")
        if touched:
            lines.append(
                f"{touched} of {of} test problems share 13 words in a row with a training problem (templates count, "
                "too); eval/report.json holds the accuracy without them."
            )
        if len({bar["n"] for bar in found["bars"]}) > 1:
            lines.append(
                "Models or modes were measured on different numbers of problems; the paired table matches them."
            )
    leak = read_json(run / "verify" / "summary.json").get("leak")
    if isinstance(leak, dict) and leak.get("pass") is False:
        lines.append("The leak probe is above its limit: length or form of the routes hints at their labels.")
    if domain := _dig(recipe, "data.domain"):
        lines.append(f"The built-in domain {domain} is synthetic; figures on it say little about other domains.")
    if (run / "train_rl" / "metrics.jsonl").is_file():
        lines.append(
            "The adapter of RL is the step with the best bare accuracy on dev, so dev figures flatter it a little."
        )
    lines.append(
        "Support of a step compares routes with each other; it is evidence, not a proof that the step is wrong."
    )
    return lines
