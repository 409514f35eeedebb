"""Score routes against each other and build contrastive route sets (method.md sections 5 and 6).

Reads problems and routes; writes verify/scored.jsonl, verify/sets.jsonl (train and dev problems) and
verify/summary.json. No model is needed.
"""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from realm_cli.artifacts import iter_rows, write_json
from realm_cli.checking import without_verdict
from realm_cli.errors import DataError
from realm_cli.method.grading import told
from realm_cli.method.leak import leak_auc, probe_rows
from realm_cli.method.route_sets import realised
from realm_cli.method.scoring import LONG_K
from realm_cli.protocols import Progress
from realm_cli.recipe import VerifyConfig
from realm_cli.records import Problem, RouteSet
from realm_cli.run_folder import Stage, read_json
from realm_cli.stages.summary import Summary, Table, percent
from realm_cli.stages.verify_parts import Part, Tally, join_files, score_parts, split

VERDICTS = ("given", "judged", "judged_right", "checked", "contradicted", "steps", "answers")
PROBED = 20_000  # sets that the leak probe reads at most: its AUC is then known to about .003


def run_verify(
    stage: Stage, problems: Sequence[Problem], routes_path: Path, *, progress: Progress, probes: Path | None = None
) -> Summary:
    """Score every route, build the sets, run the leak probe. DataError without any positive or negative.

    probes: beliefs and Monte-Carlo values of routes (stages/probes.py).
    """
    recipe, pieces = stage.recipe, stage.path("parts")
    shutil.rmtree(pieces, ignore_errors=True)
    try:
        found = split(routes_path, {problem.id: problem for problem in problems}, pieces, progress)
        parts = [Part(part, rows, recipe.verify, recipe.checks, recipe.seed, probes) for part, rows in found.items()]
        tally = score_parts(parts, recipe.checks.workers, progress)
        _need_both_signs(tally, routes_path)
        if not tally.sets:
            raise DataError(f"{routes_path}: no train or dev problem has two usable routes; sample more with --n")
        for name in ("scored.jsonl", "sets.jsonl"):
            join_files(parts, name, stage.path(name))
    finally:
        shutil.rmtree(pieces, ignore_errors=True)
    summary = _summarise(tally, stage.path("sets.jsonl"), recipe.verify.leak_limit, recipe.seed)
    write_json(stage.path("summary.json"), summary)
    if not summary["leak"]["pass"] and recipe.verify.on_leak == "fail":
        raise DataError(
            f"{stage.path('sets.jsonl')}: labels leak through form (AUC {summary['leak']['auc']:.2f} > "
            f"{recipe.verify.leak_limit}); collect routes of more even length, or set verify.on_leak=warn"
        )
    return _show(stage, summary)


def read_summary(stage: Stage) -> Summary:
    """The result of a finished stage, from its summary.json."""
    path = stage.path("summary.json")
    data = read_json(path)
    try:
        return _show(stage, data)
    except (LookupError, TypeError, ValueError, AttributeError):  # not as it was written
        raise DataError(f"{path}: gone or broken; redo the stage with --force") from None


def _need_both_signs(tally: Tally, path: Path) -> None:
    if not tally.total("right"):
        raise DataError(
            f"{path}: no route is correct; check the problems' answers and types, or add a stronger --model"
        )
    if not tally.total("wrong"):
        raise DataError(f"{path}: every route is correct, nothing to contrast; add a weaker --model or harder problems")


def _summarise(tally: Tally, sets: Path, limit: float, seed: int) -> dict[str, Any]:
    some: list[RouteSet] = []
    sizes: Counter[int] = Counter()
    rows = _counted(iter_rows(sets, RouteSet), sizes)
    statistics = realised(_keep_some(rows, some, random.Random(f"{seed}:probe")))
    auc = leak_auc(probe_rows(some), seed)
    return {
        "problems": tally.problems,
        "routes": tally.total("routes"),
        "correct": _share(tally.total("correct"), tally.total("routes")),
        "lucky": _share(tally.total("lucky"), tally.total("correct")),
        "first_error_known": _share(tally.total("known"), tally.total("wrong")),
        "planted_errors": {
            "tried": tally.planted["tried"],
            "located": _share(tally.planted["found"], tally.planted["tried"]),
            "exact": _share(tally.planted["exact"], tally.planted["found"]),
        },
        "step_kinds": dict(tally.kinds),
        "verdicts": {
            **{name: tally.verdicts[name] for name in VERDICTS},
            "examples": tally.contradicted,
        },
        "sets": tally.sets,
        "without_set": tally.without_set,
        "routes_in_set": {str(k): n for k, n in sorted(sizes.items())},
        "set_statistics": statistics,
        "leak": {"auc": auc, "limit": limit, "pass": auc <= limit, "sets": len(some)},
        "groups": {
            name or "all": {
                "routes": counts["routes"],
                "correct": _share(counts["correct"], counts["routes"]),
                "first_error_known": _share(counts["known"], counts["wrong"]),
            }
            for name, counts in sorted(tally.groups.items())
        },
        "checker": {
            **{name: tally.checks[name] for name in ("calls", "timeouts", "crashed", "failed")},
            "examples": tally.examples,
        },
    }


def _counted(sets: Iterable[RouteSet], sizes: Counter[int]) -> Iterator[RouteSet]:
    """All sets, one by one; how many show so many routes is counted in `sizes`."""
    for row in sets:
        sizes[len(row.shown)] += 1
        yield row


def _keep_some(sets: Iterable[RouteSet], kept: list[RouteSet], rng: random.Random) -> Iterator[RouteSet]:
    """All sets, one by one; at most PROBED of them, any with the same chance, are put into `kept`."""
    for number, row in enumerate(sets):
        if number < PROBED:
            kept.append(row)
        elif (place := rng.randrange(number + 1)) < PROBED:
            kept[place] = row
        yield row


def _share(count: int, of: int) -> float | None:
    return count / of if of else None


def _show(stage: Stage, summary: dict[str, Any]) -> Summary:
    rows = [
        [name, str(g["routes"]), percent(g["correct"]), percent(g["first_error_known"])]
        for name, g in summary["groups"].items()
    ]
    steps = sum(summary["step_kinds"].values()) or 1
    kinds = [
        [kind, percent(summary["step_kinds"].get(kind, 0) / steps)] for kind in ("agreed", "suspect", "novel", "none")
    ]
    leak = summary["leak"]
    unchecked = without_verdict(summary["checker"], stage.recipe.checks.timeout)
    tried, verdicts = summary["planted_errors"], summary.get("verdicts") or {}
    sampled = f" ({leak['sets']:,} of the sets, drawn by chance)" if leak["sets"] < summary["sets"] else ""
    verdict = "pass" if leak["pass"] else "above it: length or format hints at the label, r_ver may reward form"
    return Summary(
        "verify",
        summary,
        [
            Table("Routes by group", ["group", "routes", "correct %", "first error known %"], rows),
            Table("Steps", ["kind", "%"], kinds),
        ],
        notes=[
            f"{summary['sets']} route sets over {summary['problems']} problems",
            *(
                [
                    f"planted errors: {percent(tried['located'])} % of {tried['tried']} located, "
                    f"{percent(tried['exact'])} % of these at the right step"
                ]
                if tried["tried"]
                else []
            ),
            *told(Counter({name: verdicts.get(name, 0) for name in VERDICTS}), verdicts.get("examples", [])),
            *_fewer(summary, stage.recipe.verify),
            f"leak probe: AUC {leak['auc']:.2f}, limit {leak['limit']}{sampled}: {verdict}",
            *([f"{unchecked}; see checker in summary.json"] if unchecked else []),
        ],
        files=[str(stage.path(name)) for name in ("scored.jsonl", "sets.jsonl", "summary.json")],
    )


def _fewer(summary: dict[str, Any], config: VerifyConfig) -> Iterator[str]:
    """Problems without a set, and sets with fewer routes than asked for, a line each."""
    if without := summary.get("without_set"):
        yield f"{without} train and dev problems have no set: fewer than 2 usable routes, or none of one sign"
    sizes = {int(k): n for k, n in (summary.get("routes_in_set") or {}).items()}
    if any(k < config.k for k in sizes):
        limit = config.k_long_tokens
        long = f"; {LONG_K} at most where the median route has over {limit} tokens (verify.k_long_tokens)"
        shown = ", ".join(f"{n} with {k}" for k, n in sorted(sizes.items(), reverse=True))
        yield (
            f"routes in a set: {shown}; fewer than verify.k={config.k} where a problem has fewer usable ones"
            f"{long if limit is not None and config.k > LONG_K else ''}"
        )
