"""Collect bare routes from the student and from external models (method.md section 4).

Reads problems; writes rollout/routes.jsonl (append-only, one row per problem x source x sample) and
rollout/problems.jsonl (with p_self, p_ext and the difficulty bucket). A rerun samples only what is missing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import get_args

from realm_cli.artifacts import Appender, Stage, read_rows, write_rows
from realm_cli.errors import DataError
from realm_cli.method.answers import is_correct
from realm_cli.method.steps import parse_route
from realm_cli.prompts import route_messages
from realm_cli.protocols import Completion, Generator, GenRequest, Progress, SamplingParams
from realm_cli.records import Bucket, Problem, Route
from realm_cli.stages.summary import Summary, Table, percent

_BUCKETS: tuple[tuple[float, Bucket], ...] = ((0.0, "zero"), (0.25, "hard"), (0.75, "mid"), (0.95, "easy"))


def run_rollout(
    stage: Stage,
    problems: Sequence[Problem],
    generators: Sequence[Generator],
    *,
    self_names: frozenset[str],
    progress: Progress,
) -> Summary:
    """Sample what is missing from each generator. `self_names`: labels that count as the student itself."""
    config = stage.recipe.rollout
    path = stage.path("routes.jsonl")
    have = _counts(stage)
    for generator in generators:
        want = (config.self_n or config.n) if generator.name in self_names else config.n
        requests = [
            GenRequest(
                key=problem.id,
                messages=route_messages(problem, stage.recipe.prompt.style),
                n=want - have[problem.id, generator.name],
                problem=problem,
                first_sample=have[problem.id, generator.name],
            )
            for problem in problems
            if have[problem.id, generator.name] < want
        ]
        if not requests:
            continue
        params = SamplingParams(config.max_tokens, config.temperature, config.top_p, seed=stage.recipe.seed)
        by_id = {problem.id: problem for problem in problems}
        with Appender(path) as out, progress(f"routes of {generator.name}", len(requests)) as advance:
            for index, completions in generator.generate(requests, params):
                request = requests[index]
                for offset, completion in enumerate(completions):
                    sample = request.first_sample + offset
                    out.add(make_route(by_id[request.key], generator.name, sample, completion, params))
                advance(1, "")
    routes = read_rows(path, Route, made_by="realm rollout") if path.exists() else []
    if not routes:
        raise DataError(f"{path}: no route was sampled; give at least one --model and one problem")
    path = stage.path("problems.jsonl")
    earlier = read_rows(path, Problem) if path.exists() else []  # of a rollout over more or other problems
    measured = difficulty(list({p.id: p for p in [*earlier, *problems]}.values()), routes, self_names)
    write_rows(path, measured)
    return _summary(stage, measured, routes)


def _counts(stage: Stage) -> Counter[tuple[str, str]]:
    path = stage.path("routes.jsonl")
    if not path.exists():
        return Counter()
    with Appender(path):
        pass  # drops a last line that was cut off
    rows = read_rows(path, Route, allow_empty=True)
    return Counter((route.problem_id, route.source) for route in rows)


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


def _summary(stage: Stage, problems: Sequence[Problem], routes: Sequence[Route]) -> Summary:
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
        notes=[f"{both} of {len(problems)} problems have right and wrong routes"],
        files=[str(stage.path("routes.jsonl")), str(stage.path("problems.jsonl"))],
    )


def _contrast(routes: Sequence[Route]) -> int:
    signs: dict[str, set[bool]] = defaultdict(set)
    for route in routes:
        signs[route.problem_id].add(route.correct)
    return sum(len(found) == 2 for found in signs.values())
