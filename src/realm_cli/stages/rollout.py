"""Collect routes from the student and from external models (method.md section 4).

Reads problems; writes rollout/routes.jsonl (append-only, one row per problem x source x sample) and
rollout/problems.jsonl (with p_self, p_ext and the difficulty bucket). A rerun samples only what is missing.

Prompts are bare, or show a set of routes (`sets`): then a route is the completion's own solution, in the form in which
a bare prompt would be answered (source `NAME+routes`; without such a part it counts as wrong, and it says nothing about
the problem's difficulty). Fine-tuning on the correct ones is routed RFT.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

from realm_cli.artifacts import Appender, iter_rows, kept_rows, read_rows, write_rows
from realm_cli.errors import DataError
from realm_cli.method.answers import is_correct
from realm_cli.method.bridge import mentions_routes
from realm_cli.method.parsing import parse_completion
from realm_cli.method.steps import parse_route
from realm_cli.prompts import question_text, route_messages, routed_messages
from realm_cli.protocols import Completion, Generator, GenRequest, Progress, Replay, SamplingParams, sampled
from realm_cli.records import Bucket, Problem, Route, RouteSet
from realm_cli.run_folder import Stage
from realm_cli.stages.failures import Failures, gaps
from realm_cli.stages.same_choices import same_choices
from realm_cli.stages.summary import Summary, Table, percent

ROUTED = "+routes"  # end of the source's name of solutions found with routes in the prompt
_BUCKETS: tuple[tuple[float, Bucket], ...] = ((0.0, "zero"), (0.25, "hard"), (0.75, "mid"), (0.95, "easy"))


def run_rollout(
    stage: Stage,
    problems: Sequence[Problem],
    generators: Sequence[Generator],
    *,
    self_names: frozenset[str],
    progress: Progress,
    sets: Mapping[str, Sequence[RouteSet]] | None = None,
) -> Summary:
    """Sample what is missing from each generator. `self_names`: labels that count as the student itself.

    sets: problem id -> sets of routes to show, sample j the j-th in turn; problems without one are left out.
    """
    config = stage.recipe.rollout
    path = stage.path("routes.jsonl")
    have = _samples(path)
    failures, wanted = Failures(stage.path("errors.jsonl")), 0
    for generator in generators:
        if isinstance(generator, Replay):
            generator.expect([problem.id for problem in problems])
        want = (config.self_n or config.n) if generator.name in self_names else config.n
        wanted += want * len(problems)
        source = generator.name if sets is None else generator.name + ROUTED
        asked = [
            (request, k)
            for problem in problems
            for request, k in _requests(stage, problem, gaps(have[problem.id, source], want), sets)
        ]
        requests = [request for request, _ in asked]
        if not requests:
            continue
        stage.same_model(generator.name, getattr(generator, "digest", ""))
        stage.same_settings(generator.name, getattr(generator, "settings", None))
        if not isinstance(generator, Replay):
            same_choices(
                stage, problems, {name for (name, known), samples in have.items() if known == source and samples}
            )
        params = SamplingParams(config.max_tokens, config.temperature, config.top_p, seed=stage.recipe.seed)
        with Appender(path) as out, progress(f"routes of {source}", len(requests)) as advance:
            for index, completions in sampled(generator, requests, params):
                request, k = asked[index]
                assert request.problem is not None
                for sample, completion in enumerate(completions, request.first_sample):
                    if completion.failure:
                        name = f"{request.problem.id}/{source}/{sample}"
                        failures.add(
                            name, request.problem.id, source, sample, completion.failure, lasting=completion.lasting
                        )
                        continue
                    own = _own_solution(stage, completion.text, k) if k else completion.text
                    whole = replace(completion, text=own or completion.text)
                    route = make_route(request.problem, source, sample, whole, params)
                    out.add(route if own else route.model_copy(update={"correct": False}))
                advance(1, "")
        stage.refused(generator.name, getattr(generator, "refused", {}))
    routes = kept_rows(path, Route)
    failures.settle({route.id for route in routes})
    if not routes:
        failures.refuse(wanted, None, "the same command")
        failures.refuse_nothing()
        raise DataError(f"{path}: no route was sampled; give at least one --model and one problem")
    path = stage.path("problems.jsonl")
    earlier = read_rows(path, Problem) if path.exists() else []  # of a rollout over more or other problems
    measured = difficulty(list({p.id: p for p in [*earlier, *problems]}.values()), routes, self_names)
    write_rows(path, measured)
    failures.refuse(wanted, stage.recipe.engine.server.max_failed, "the same command")
    return _summary(stage, measured, routes, failures.notes("the same command"))


def load_sets(path: Path, problems: Sequence[Problem]) -> dict[str, list[RouteSet]]:
    """Problem id -> route sets of these problems. DataError if there are none."""
    ids = {problem.id for problem in problems}
    found: dict[str, list[RouteSet]] = defaultdict(list)
    for row in iter_rows(path, RouteSet, made_by="realm verify"):
        if row.problem_id in ids:
            found[row.problem_id].append(row)
    if not found:
        raise DataError(f"{path}: no set for any of the {len(ids)} problems; run `realm verify` on their routes")
    return dict(found)


def _requests(
    stage: Stage,
    problem: Problem,
    missing: Sequence[tuple[int, int]],
    sets: Mapping[str, Sequence[RouteSet]] | None,
) -> list[tuple[GenRequest, int]]:
    """(request, routes shown) for the missing runs of samples; the sets take turns, sample j shows the j-th."""
    prompt = stage.recipe.prompt
    if sets is None:
        messages = route_messages(problem, prompt.style)
        return [(GenRequest(problem.id, messages, n, problem, first), 0) for first, n in missing]
    found = sets.get(problem.id, ())
    if len(found) > 1:
        missing = [(sample, 1) for first, n in missing for sample in range(first, first + n)]
    out = []
    for first, n in missing if found else ():
        route_set = found[first % len(found)]
        messages = routed_messages(
            question_text(problem),
            route_set.shown,
            style=prompt.style,
            order=prompt.order,
            answers_hidden=route_set.answers_hidden,
        )
        out.append((GenRequest(f"{problem.id}/{route_set.id}", messages, n, problem, first), len(route_set.shown)))
    return out


def _own_solution(stage: Stage, text: str, k: int) -> str:
    """A routed completion as an answer to the bare prompt; "" where it has none, or speaks of the routes."""
    own = parse_completion(text, k=k, order=stage.recipe.prompt.order, min_think_words=0).own_solution
    return "" if mentions_routes(own) else own


def _samples(path: Path) -> dict[tuple[str, str], set[int]]:
    """(problem id, source) -> the samples that there are."""
    found: dict[tuple[str, str], set[int]] = defaultdict(set)
    for route in kept_rows(path, Route):
        found[route.problem_id, route.source].add(route.sample)
    return found


def make_route(problem: Problem, source: str, sample: int, completion: Completion, params: SamplingParams) -> Route:
    """One row from a completion; a truncated completion never counts as correct."""
    steps, answer = parse_route(completion.text)
    return Route(
        id=f"{problem.id}/{source}/{sample}",
        problem_id=problem.id,
        source=source,
        sample=sample,
        temperature=params.temperature,
        seed=params.seed,
        text=completion.text,
        steps=steps,
        final_answer=answer,
        n_tokens=completion.n_tokens,
        truncated=completion.truncated,
        correct=not completion.truncated and is_correct(answer, problem),
    )


def difficulty(problems: Sequence[Problem], routes: Sequence[Route], self_names: frozenset[str]) -> list[Problem]:
    """Problems with p_self, p_ext (shares of correct routes) and the bucket by p_self (method.md section 4)."""
    own: dict[str, list[bool]] = defaultdict(list)
    external: dict[str, list[bool]] = defaultdict(list)
    for route in routes:
        if route.source.endswith(ROUTED):
            continue
        (own if route.source in self_names else external)[route.problem_id].append(route.correct)
    measured = []
    for problem in problems:
        p_self, p_ext = _share(own[problem.id]), _share(external[problem.id])
        bucket = problem.bucket if p_self is None else bucket_of(p_self)
        measured.append(problem.model_copy(update={"p_self": p_self, "p_ext": p_ext, "bucket": bucket}))
    return measured


def bucket_of(p_self: float) -> Bucket:
    """zero =0; hard (0,.25]; mid (.25,.75]; easy (.75,.95]; sat >.95."""
    return next((name for limit, name in _BUCKETS if p_self <= limit), "sat")


def _share(flags: Sequence[bool]) -> float | None:
    return sum(flags) / len(flags) if flags else None


def _summary(stage: Stage, problems: Sequence[Problem], routes: Sequence[Route], said: list[str]) -> Summary:
    by_source: dict[str, list[Route]] = defaultdict(list)
    for route in routes:
        by_source[route.source].append(route)
    rows = [
        [
            source,
            str(len(found)),
            percent(_share([r.correct for r in found])),
            percent(_share([r.final_answer is None for r in found])),
            percent(_share([r.truncated for r in found])),
        ]
        for source, found in sorted(by_source.items())
    ]
    buckets = Counter(str(p.bucket) for p in problems if p.bucket)
    both = _contrast(routes)
    tables = [Table("Routes", ["source", "routes", "correct %", "no answer %", "truncated %"], rows)]
    if buckets:
        names = list(get_args(Bucket))
        tables.append(Table("Difficulty for the student", names, [[str(buckets.get(name, 0)) for name in names]]))
    data: Mapping[str, object] = {
        "routes": len(routes),
        "problems": len(problems),
        "contrast_problems": both,
        "sources": {s: {"routes": len(f), "correct": _share([r.correct for r in f])} for s, f in by_source.items()},
        "buckets": {str(key): value for key, value in buckets.items()},
    }
    return Summary(
        "rollout",
        dict(data),
        tables,
        notes=[f"{both} of {len(problems)} problems have right and wrong routes", *said],
        files=[str(stage.path("routes.jsonl")), str(stage.path("problems.jsonl"))],
    )


def _contrast(routes: Sequence[Route]) -> int:
    signs: dict[str, set[bool]] = defaultdict(set)
    for route in routes:
        signs[route.problem_id].add(route.correct)
    return sum(len(found) == 2 for found in signs.values())
