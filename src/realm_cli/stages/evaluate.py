"""Evaluate models bare and routed, with confidence intervals and paired comparisons (method.md section 12).

Reads problems (and routes for routed modes, drawn without labels); writes eval/predictions.jsonl and eval/report.json.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from realm_cli.artifacts import Appender, kept_rows, read_rows, write_json
from realm_cli.errors import DataError
from realm_cli.method import scoring
from realm_cli.method.answers import answer_key, flexible_answer, is_correct
from realm_cli.method.contamination import contamination
from realm_cli.method.grading import Verdicts, told
from realm_cli.method.parsing import Parsed, parse_completion
from realm_cli.method.questions import compared
from realm_cli.prompts import bare_messages, question_text, routed_messages, ruled_messages
from realm_cli.protocols import Completion, Generator, GenRequest, NllScorer, Progress, Replay, SamplingParams, sampled
from realm_cli.records import Mode, Prediction, Problem, ShownRoute
from realm_cli.run_folder import Stage
from realm_cli.stages.failures import Failures, gaps
from realm_cli.stages.reliance import hint_reliance, reliance_notes
from realm_cli.stages.report_tables import build_report, cut_off, report_tables, rule_accuracy, weak_claims
from realm_cli.stages.same_choices import same_choices
from realm_cli.stages.shown_routes import load_routes, routes_report, shown_for_test, shown_notes
from realm_cli.stages.summary import Summary, percent

TERMS = "rescued: right though no route shown is; misled: gave the wrong answer that most routes give"
ModelFactory = Callable[[], Generator]


def run_eval(
    stage: Stage,
    problems: Sequence[Problem],
    models: Mapping[str, ModelFactory],
    routes_path: Path | None,
    *,
    modes: Sequence[Mode],
    compare: bool,
    progress: Progress,
    training: Sequence[Problem] = (),
    rules: str = "",
    scorer: Callable[[Generator], NllScorer] | None = None,
) -> Summary:
    """Predict with every model in every mode, continuing what an interrupted run left; then the report.

    rules: what `ruled` prompts show. training: problems that must not stand among the others; those that do are
    reported, with accuracy without them. scorer: what scores a model's own solutions, for hint reliance.
    """
    config, recipe = stage.recipe.eval, stage.recipe
    modes = list(dict.fromkeys(modes))
    shown: dict[str, list[ShownRoute]] = {}
    verdicts = Verdicts(check=False)
    if "ruled" in modes and not rules:
        raise DataError("eval: mode ruled shows the rules; give --rules FILE, or leave the mode out")
    if any(mode.startswith("routed") for mode in modes):
        if routes_path is None:
            raise DataError("eval: routed modes need routes; run `realm rollout`, give --routes, or use --mode bare")
        routes, long = load_routes(routes_path, problems, verdicts), recipe.verify.k_long_tokens
        shown = shown_for_test(problems, routes, config.k, recipe.seed, long)
        if not shown:
            raise DataError(
                f"{routes_path}: no {config.split} problem has {config.k} routes; run `realm rollout` on it"
            )
    path = stage.path("predictions.jsonl")
    have = kept_rows(path, Prediction)
    done, begun = {row.id for row in have}, {row.problem_id for row in have}
    failures = Failures(stage.path("errors.jsonl"))
    temperature = 0.0 if config.n == 1 else config.temperature
    params = SamplingParams(config.max_tokens, temperature, seed=recipe.seed)
    for label, factory in models.items():
        work = [
            (mode, problem, first, n)
            for mode in modes
            for problem in problems
            if not mode.startswith("routed") or problem.id in shown
            for first, n in gaps({i for i in range(config.n) if f"{label}/{mode}/{problem.id}/{i}" in done}, config.n)
        ]
        if not work:
            continue
        generator = factory()
        if isinstance(generator, Replay):
            generator.expect([problem.id for problem in problems])
        stage.same_model(generator.name, getattr(generator, "digest", ""))
        stage.same_settings(generator.name, getattr(generator, "settings", None))
        same_choices(stage, problems, begun)
        requests = [
            replace(_request(stage, mode, p, shown.get(p.id, []), rules), n=n, first_sample=first)
            for mode, p, first, n in work
        ]
        with Appender(path) as out, progress(f"eval {label}", len(requests)) as advance:
            for index, completions in sampled(generator, requests, params):
                mode, problem, first, _ = work[index]
                for sample, completion in enumerate(completions, first):
                    name = f"{label}/{mode}/{problem.id}/{sample}"
                    if completion.failure:
                        failures.add(
                            name, problem.id, generator.name, sample, completion.failure, lasting=completion.lasting
                        )
                    else:
                        out.add(predict(stage, label, mode, problem, sample, completion, shown.get(problem.id, [])))
                advance(1, "")
        stage.refused(generator.name, getattr(generator, "refused", {}))
    written = read_rows(path, Prediction, allow_empty=bool(failures.rows))
    failures.settle({row.id for row in written})
    failures.refuse(len(written) + len(failures.rows), None, "--resume")  # accuracies need all of them
    if not written:
        failures.refuse_nothing()
    # In an order that does not depend on which prediction came first, nor do the bootstrap's draws.
    place, turn = {p.id: i for i, p in enumerate(problems)}, {model: i for i, model in enumerate(models)}
    rows = [row for row in written if row.problem_id in place and row.model in models]
    seen = list(dict.fromkeys([*modes, *(row.mode for row in rows)]))
    rows.sort(key=lambda row: (turn[row.model], seen.index(row.mode), place[row.problem_id], row.sample))
    report = build_report(rows, seed=recipe.seed, bootstrap=config.bootstrap, compare=compare)
    report["routes"] = routes_report(problems, shown)
    report["rules"] = rule_accuracy(rows, {problem.id: problem.rule_ids or [] for problem in problems})
    if scorer is not None:
        report["reliance"] = _reliance(stage, rows, problems, models, shown, scorer)
    report["contamination"] = _contamination(problems, training, rows)
    report["left_out"] = _left_out(failures, models, seen, {row.id for row in problems})
    write_json(stage.path("report.json"), report)
    return Summary(
        "eval",
        report,
        report_tables(report),
        notes=[
            *([TERMS] if shown else []),
            *told(verdicts.counts, []),
            *(shown_notes(problems, shown, recipe) if shown else []),
            *reliance_notes(report.get("reliance") or {}, rows),
            *cut_off(report, config.max_tokens),
            *weak_claims(report),
            *_contaminated(report["contamination"]),
            *[f"{n} problems are in no figure of {name}" for name, n in report["left_out"].items()],
            *failures.notes("--resume"),
        ],
        files=[str(stage.path("report.json")), str(path)],
    )


def _left_out(
    failures: Failures, models: Mapping[str, ModelFactory], modes: Sequence[str], ids: Container[str]
) -> dict[str, int]:
    """Label and mode -> problems without figures there, as their prompts are too long."""
    found: dict[str, set[str]] = defaultdict(set)
    for row in failures.left_out:
        for model in models:
            for mode in modes if row.problem_id in ids else ():
                if row.id == f"{model}/{mode}/{row.problem_id}/{row.sample}":
                    found[f"{model}, {mode}"].add(row.problem_id)
    return {name: len(problems) for name, problems in found.items()}


def _reliance(
    stage: Stage,
    rows: Sequence[Prediction],
    problems: Sequence[Problem],
    models: Mapping[str, ModelFactory],
    shown: Mapping[str, Sequence[ShownRoute]],
    scorer: Callable[[Generator], NllScorer],
) -> dict[str, dict[str, float | int | None]]:
    """Model -> {"nats": per token, "n": solutions scored}."""
    by_id, out = {problem.id: problem for problem in problems}, {}
    for label, factory in models.items():
        own = [row for row in rows if row.model == label]
        nats, n = hint_reliance(scorer(factory()), own, by_id, shown, stage.recipe.prompt)
        out[label] = {"nats": nats, "n": n}
    return out


def _request(stage: Stage, mode: Mode, problem: Problem, shown: Sequence[ShownRoute], rules: str) -> GenRequest:
    prompt = stage.recipe.prompt
    if mode == "bare":
        messages = bare_messages(question_text(problem), prompt.style)
    elif mode == "ruled":
        messages = ruled_messages(question_text(problem), rules, prompt.style)
    else:
        hidden = mode == "routed_hidden"
        messages = routed_messages(
            question_text(problem), shown, style=prompt.style, order=prompt.order, answers_hidden=hidden
        )
    return GenRequest(key=f"{problem.id}/{mode}", messages=messages, n=stage.recipe.eval.n, problem=problem)


def predict(
    stage: Stage,
    label: str,
    mode: Mode,
    problem: Problem,
    sample: int,
    completion: Completion,
    shown: Sequence[ShownRoute],
) -> Prediction:
    """One graded row. `correct` uses the strict answer tag, `correct_flexible` any final answer."""
    recipe = stage.recipe
    routed = mode.startswith("routed")
    k = len(shown) if routed else 0
    words = recipe.train_rl.reward.min_think_words
    parsed = parse_completion(completion.text, k=k, order=recipe.prompt.order, min_think_words=words)
    votes = [answer_key(route.answer, problem) for route in shown] if routed else []
    plurality = scoring.plurality(votes) if votes else None
    right = not completion.truncated and is_correct(parsed.answer, problem)
    own = answer_key(parsed.answer, problem, correct=right)
    return Prediction(
        id=f"{label}/{mode}/{problem.id}/{sample}",
        model=label,
        mode=mode,
        problem_id=problem.id,
        group=problem.group,
        sample=sample,
        route_ids=[route.route_id for route in shown] if routed else [],
        completion=completion.text,
        answer=parsed.answer,
        correct=right,
        correct_flexible=is_correct(flexible_answer(completion.text, problem.answer_type), problem),
        format_ok=parsed.ok,
        verdict_bal_acc=_verdict_accuracy(parsed, shown) if routed else None,
        plurality_correct=plurality == answer_key(problem.answer, problem) if routed else None,
        followed=own is not None and own == plurality if routed else None,
        any_correct=any(route.label for route in shown) if routed else None,
        n_tokens=completion.n_tokens,
        truncated=completion.truncated,
    )


def _verdict_accuracy(parsed: Parsed, shown: Sequence[ShownRoute]) -> float | None:
    """Mean of the hit rates on right and on wrong routes; None where only one sign is shown."""
    hits: dict[bool, list[bool]] = {True: [], False: []}
    for verdict, route in zip(parsed.verdicts or [None] * len(shown), shown, strict=False):
        hits[route.label].append(verdict is route.label)
    if not hits[True] or not hits[False]:
        return None
    return sum(sum(found) / len(found) for found in hits.values()) / 2


def _contamination(
    problems: Sequence[Problem], training: Sequence[Problem], rows: Sequence[Prediction]
) -> dict[str, Any] | None:
    """Test problems that share 13 words in a row with a training problem, and bare accuracy without them."""
    if not training:
        return None
    train, test = ({p.id: compared(p.question, p.choices) for p in asked} for asked in (training, problems))
    touched = contamination(train, test)
    left: dict[str, list[bool]] = defaultdict(list)
    for row in rows:
        if row.problem_id not in touched and row.mode == "bare":
            left[row.model].append(row.correct)
    return {
        "touched": len(touched),
        "of": len(problems),
        "examples": dict(list(touched.items())[:5]),
        "accuracy_without": {model: sum(flags) / len(flags) for model, flags in left.items()} if touched else {},
    }


def _contaminated(found: Mapping[str, Any] | None) -> list[str]:
    if not found or not found["touched"]:
        return []
    without = ", ".join(f"{model} {percent(value)} %" for model, value in found["accuracy_without"].items())
    first, other = next(iter(found["examples"].items()))
    return [
        f"{found['touched']} of {found['of']} problems share 13 words in a row with a training problem "
        f"(e.g. {first} with {other})" + (f"; bare accuracy without them: {without}" if without else "")
    ]
