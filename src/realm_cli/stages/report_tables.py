"""From predictions to the evaluation report: accuracies with CIs, pass@k, paired comparisons, and their tables."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from realm_cli.method import scoring
from realm_cli.records import Prediction
from realm_cli.stages.summary import Table, interval, percent

FEWEST = 8  # problems that have to differ, all one way, to be found 4 times in 5: (z(.975) + z(.8))^2
CUT_OFF, CUT_OFF_NAMED = 0.05, 6  # share of completions at the limit that is worth a line; how many it names


def build_report(rows: Sequence[Prediction], *, seed: int, bootstrap: int, compare: bool) -> dict[str, Any]:
    """{"results": [one per model x mode x group], "comparisons": [...]}; values are shares, CIs are 95 %."""
    cells: dict[tuple[str, str, str], list[Prediction]] = defaultdict(list)
    for row in rows:
        cells[row.model, row.mode, "all"].append(row)
        if row.group:
            cells[row.model, row.mode, row.group].append(row)
    results = [_cell(model, mode, group, found, seed, bootstrap) for (model, mode, group), found in cells.items()]
    comparisons = []
    if compare:
        models = list(dict.fromkeys(row.model for row in rows))
        modes = list(dict.fromkeys(row.mode for row in rows))
        groups = list(dict.fromkeys(key[2] for key in cells))
        for mode in modes:
            for group in sorted(groups, key=lambda g: g != "all"):
                for first, second in combinations(models, 2):
                    one, two = cells.get((first, mode, group)), cells.get((second, mode, group))
                    if one and two and _by_problem(one).keys() & _by_problem(two).keys():
                        comparisons.append(_comparison(first, second, mode, group, one, two, seed, bootstrap))
    return {"results": results, "comparisons": comparisons, "autonomy": autonomy(results)}


def _by_problem(rows: Sequence[Prediction]) -> dict[str, float]:
    flags: dict[str, list[bool]] = defaultdict(list)
    for row in rows:
        flags[row.problem_id].append(row.correct)
    return {problem: sum(found) / len(found) for problem, found in flags.items()}


def _cell(model: str, mode: str, group: str, rows: Sequence[Prediction], seed: int, bootstrap: int) -> dict[str, Any]:
    scores = _by_problem(rows)
    mean, low, high = scoring.accuracy_ci(list(scores.values()), seed, bootstrap)
    samples = max(row.sample for row in rows) + 1
    counts: dict[str, list[bool]] = defaultdict(list)
    for row in rows:
        counts[row.problem_id].append(row.correct)
    passes = {
        f"pass@{k}": sum(scoring.pass_at_k(len(f), sum(f), k) for f in counts.values()) / len(counts)
        for k in (1, 2, 4, 8, 16)
        if samples > 1 and k <= samples
    }
    verdicts = [row.verdict_bal_acc for row in rows if row.verdict_bal_acc is not None]
    return {
        "model": model,
        "mode": mode,
        "group": group,
        "n": len(scores),
        "samples": samples,
        "accuracy": mean,
        "low": low,
        "high": high,
        "accuracy_flexible": sum(row.correct_flexible for row in rows) / len(rows),
        "format_ok": sum(row.format_ok for row in rows) / len(rows),
        "truncated": sum(row.truncated for row in rows) / len(rows),
        "mean_tokens": sum(row.n_tokens for row in rows) / len(rows),
        "verdict_bal_acc": sum(verdicts) / len(verdicts) if verdicts else None,
        "rescue": _share([row.correct for row in rows if row.any_correct is False]),
        "follow": _share([bool(row.followed) for row in rows if row.plurality_correct is False]),
        **passes,
    }


def _share(flags: Sequence[bool]) -> float | None:
    return sum(flags) / len(flags) if flags else None


def autonomy(results: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Model -> bare accuracy as a share of its routed accuracy, where it has both: 1 = routes add nothing any more."""
    overall = {(r["model"], r["mode"]): r["accuracy"] for r in results if r["group"] == "all"}
    return {
        model: value / overall[model, "routed"]
        for (model, mode), value in overall.items()
        if mode == "bare" and overall.get((model, "routed"))
    }


def rule_accuracy(rows: Sequence[Prediction], rules: Mapping[str, Sequence[str]]) -> dict[str, dict[str, Any]]:
    """Rule id -> {"n": problems that need it, model: bare accuracy on them}: which rules are in the weights.

    rules: problem id -> ids of the rules that its solution needs. A rule is judged by whole problems, so a weak one
    lowers those beside it. Source: method.md section 3.8.
    """
    right: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    problems: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        for rule in set(rules.get(row.problem_id, ())) if row.mode == "bare" else ():
            right[rule][row.model].append(row.correct)
            problems[rule].add(row.problem_id)
    return {
        rule: {"n": len(problems[rule]), **{model: sum(flags) / len(flags) for model, flags in models.items()}}
        for rule, models in sorted(right.items())
    }


def _rules_table(found: Mapping[str, Mapping[str, Any]]) -> Table | None:
    """The ten rules on which the last model is weakest."""
    if not found:
        return None
    models = list(dict.fromkeys(key for row in found.values() for key in row if key != "n"))
    weakest = sorted(found, key=lambda rule: (found[rule].get(models[-1], 0.0), rule))[:10]
    cells = [[rule, str(found[rule]["n"]), *(percent(found[rule].get(model)) for model in models)] for rule in weakest]
    return Table(f"Bare % by rule, weakest {len(weakest)} of {len(found)}", ["rule", "n", *models], cells)


def _comparison(
    first: str,
    second: str,
    mode: str,
    group: str,
    one: Sequence[Prediction],
    two: Sequence[Prediction],
    seed: int,
    bootstrap: int,
) -> dict[str, Any]:
    """second - first, paired by problem."""
    a, b = _by_problem(one), _by_problem(two)
    common = sorted(a.keys() & b.keys())
    found = scoring.paired_difference([b[i] for i in common], [a[i] for i in common], seed, bootstrap)
    return {
        "from": first,
        "to": second,
        "mode": mode,
        "group": group,
        "n": len(common),
        "difference": found.mean,
        "low": found.lo,
        "high": found.hi,
        "discordant": found.discordant,
        "mcnemar_p": found.mcnemar_p,
        "detectable": scoring.smallest_detectable(len(common), found.discordant / len(common)) or None,
        "pairs_needed": scoring.pairs_needed(len(common), found.discordant, found.mean),
    }


def weak_claims(report: dict[str, Any]) -> list[str]:
    """A line on each difference that looks like a finding though too few problems differ to rest a claim on.

    It looks so where its interval excludes 0, and where all problems differ; under FEWEST problems nothing can be
    shown at all. Those of single groups are only counted: with many groups, some look so by luck.
    """
    lines, rest = [], 0
    for c in report["comparisons"]:
        needed, outside = c["pairs_needed"] or FEWEST, c["low"] > 0 or c["high"] < 0
        seems = outside or c["discordant"] == c["n"] or c["n"] < FEWEST
        if not seems or c["discordant"] >= needed:
            continue
        if c["group"] == "all":
            lines.append(f"{c['mode']}, {c['from']} -> {c['to']}: {_too_few(c, needed, outside)}")
        else:
            rest += 1
    if rest:
        lines.append(f"single groups: {rest} more such claim{'s' if rest > 1 else ''} on too few problems")
    return lines


def _too_few(c: Mapping[str, Any], needed: int, outside: bool) -> str:
    differ = f"{c['discordant']} problem{' differs' if c['discordant'] == 1 else 's differ'}"
    if c["difference"] == 0:
        return f"{differ} of {c['n']}, and at least {needed} have to before any difference can be shown"
    first = f"the interval excludes 0, but only {differ}" if outside else f"only {differ} of {c['n']}"
    return f"{first} and {needed} are needed to find such a difference 4 times in 5; use more problems"


def cut_off(report: dict[str, Any], limit: int) -> list[str]:
    """A line that names the models and groups of which more than CUT_OFF of the completions hit the limit."""
    found = []
    for result in report["results"]:
        if result["truncated"] > CUT_OFF:
            where = "" if result["group"] == "all" else f", {result['group']}"
            found.append(f"{result['model']} {result['mode']}{where} {percent(result['truncated'])} %")
    if not found:
        return []
    more = f" and {len(found) - CUT_OFF_NAMED} more" if len(found) > CUT_OFF_NAMED else ""
    text = "; ".join(found[:CUT_OFF_NAMED]) + more
    return [
        f"warning: completions cut off at eval.max_tokens={limit}, which count as wrong: {text}; "
        "where a model only needs more room, raise it and rerun with --force"
    ]


def report_tables(report: dict[str, Any]) -> list[Table]:
    """Accuracy by group (rows) and model (columns) for each mode; the routes' own lines; the paired differences."""
    results = report["results"]
    groups = list(dict.fromkeys(r["group"] for r in sorted(results, key=lambda r: r["group"] != "all")))
    tables = []
    for mode in dict.fromkeys(r["mode"] for r in results):
        cells = {(r["model"], r["group"]): r for r in results if r["mode"] == mode}
        models = list(dict.fromkeys(model for model, _ in cells))
        rows = []
        for group in groups:
            own = [cells.get((model, group)) for model in models]
            sizes = [cell["n"] for cell in own if cell]
            if sizes:
                values = [interval(c["accuracy"], c["low"], c["high"]) if c else "-" for c in own]
                rows.append([group, "/".join(dict.fromkeys(map(str, sizes))), *values])
        overall = [cells.get((model, "all")) for model in models]
        rows.append(["flexible %", "", *(percent(c["accuracy_flexible"]) if c else "-" for c in overall)])
        rows.append(["format %", "", *(percent(c["format_ok"]) if c else "-" for c in overall)])
        if any(c and c["verdict_bal_acc"] is not None for c in overall):
            rows.append(["verdicts %", "", *(percent(c["verdict_bal_acc"]) if c else "-" for c in overall)])
        for key, label in (("rescue", "rescued %"), ("follow", "misled %")):
            if any(c and c[key] is not None for c in overall):
                rows.append([label, "", *(percent(c[key]) if c else "-" for c in overall)])
        if mode == "routed" and report.get("autonomy"):
            rows.append(["bare/routed %", "", *(percent(report["autonomy"].get(m)) for m in models)])
        if mode == "routed" and (needed := report.get("reliance")):
            nats = [needed.get(m, {}).get("nats") for m in models]
            rows.append(["reliance, nats", "", *("-" if x is None else f"{round(x, 2) + 0.0:.2f}" for x in nats)])
        tables.append(Table(f"Accuracy %, {mode} prompts [95 % CI]", ["group", "n", *models], rows))
    if lines := report.get("routes"):
        shown = [[g, percent(lines[g]["plurality"]), percent(lines[g]["any_correct"])] for g in groups if g in lines]
        tables.append(Table("The routes shown, by themselves", ["group", "plurality %", "any correct %"], shown))
    if weak := _rules_table(report.get("rules") or {}):
        tables.append(weak)
    pairs = [
        [
            c["mode"],
            f"{c['from']} -> {c['to']}",
            interval(c["difference"], c["low"], c["high"]),
            str(c["discordant"]),
            f"{c['mcnemar_p']:.2g}" if c["mcnemar_p"] is not None else "-",
            percent(c["detectable"] or None),
        ]
        for c in report["comparisons"]
        if c["group"] == "all"
    ]
    if pairs:
        columns = ["mode", "pair", "points [95 % CI]", "differ on", "McNemar p", "detectable"]
        tables.append(Table("Paired differences, all groups", columns, pairs))
    return tables
