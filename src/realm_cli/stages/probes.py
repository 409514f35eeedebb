"""What a model thinks of routes after each step: belief and Monte-Carlo value (method.md sections 5.4 and 5.5).

    belief  b_k = mean log-probability of the gold answer after the route's first k steps; the scored text is the same
            at every step, so length plays no part (kin: GRPO-VPS 2604.20659)
    value   c_k = share of `mc_n` continuations after k steps that end in the right answer (Math-Shepherd 2312.08935)

Written to verify/probes.jsonl row by row; a rerun continues. Both read only routes with steps that were not cut off.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from realm_cli.artifacts import Appender, iter_rows, read_rows
from realm_cli.errors import TooLong
from realm_cli.method.answers import is_correct, strict_answer
from realm_cli.method.grading import filled
from realm_cli.method.targets import target_answer
from realm_cli.prompts import answer_start, bare_messages, question_text, solution_start
from realm_cli.protocols import Generator, GenRequest, NllScorer, Progress, SamplingParams, sampled
from realm_cli.records import Probe, Problem, Route
from realm_cli.run_folder import Stage
from realm_cli.stages.same_choices import same_choices

ROUTES_AT_ONCE = 64


def run_probes(
    stage: Stage,
    problems: Mapping[str, Problem],
    routes_path: Path,
    *,
    belief: NllScorer | None,
    mc: Generator | None,
    progress: Progress,
) -> Path:
    """Probe every route that is not in probes.jsonl yet; returns that file."""
    path = stage.path("probes.jsonl")
    with Appender(path):
        pass  # drops a last line that was cut off
    have = read_rows(path, Probe, allow_empty=True)
    same_choices(stage, list(problems.values()), {row.problem_id for row in have})
    done = {row.id for row in have}
    routes = (
        route
        for route in map(filled, iter_rows(routes_path, Route, made_by="realm rollout"))
        if route.id not in done and route.steps and not route.truncated and route.problem_id in problems
    )
    with Appender(path) as out, progress("probing", None) as advance:
        while chunk := list(islice(routes, ROUTES_AT_ONCE)):
            beliefs = _beliefs(stage, problems, chunk, belief) if belief is not None else [None] * len(chunk)
            values = _values(stage, problems, chunk, mc) if mc is not None else [None] * len(chunk)
            for route, b, c in zip(chunk, beliefs, values, strict=True):
                out.add(Probe(id=route.id, problem_id=route.problem_id, belief=b, mc_value=c))
            advance(len(chunk), "")
    return path


def _beliefs(
    stage: Stage, problems: Mapping[str, Problem], routes: Sequence[Route], scorer: NllScorer
) -> list[list[float] | None]:
    pairs, prefills = [], []
    for route in routes:
        problem = problems[route.problem_id]
        messages = bare_messages(question_text(problem), stage.recipe.prompt.style)
        for k in range(1, len(route.steps) + 1):
            pairs.append((messages, f"{target_answer(problem)}</answer>"))
            prefills.append(answer_start(route.steps[:k]))
    try:
        found = scorer.nll(pairs, prefills)
    except TooLong:
        found = [math.nan] * len(pairs)
    return _whole(routes, (None if math.isnan(value) else -value for value in found))


def _whole(routes: Sequence[Route], values: Iterable[float | None]) -> list[list[float] | None]:
    """Each route's values, one a step; None for a route that is too long for the model with its prompt."""
    ordered, out = iter(values), list[list[float] | None]()
    for route in routes:
        own = list(islice(ordered, len(route.steps)))
        known = [value for value in own if value is not None]
        out.append(known if len(known) == len(own) else None)
    return out


def _values(
    stage: Stage, problems: Mapping[str, Problem], routes: Sequence[Route], generator: Generator
) -> list[list[float] | None]:
    config = stage.recipe.verify
    params = SamplingParams(config.mc_max_tokens, config.mc_temperature, seed=stage.recipe.seed)
    requests = [request for route in routes for request in _requests(stage, problems, route, config.mc_n)]
    shares: dict[int, float] = {}
    for index, completions in sampled(generator, requests, params):
        if any(c.failure for c in completions):
            continue
        request = requests[index]
        assert request.problem is not None
        right = [
            not c.truncated and is_correct(strict_answer(request.prefill + c.text), request.problem)
            for c in completions
        ]
        shares[index] = sum(right) / len(right)
    return _whole(routes, (shares.get(i) for i in range(len(requests))))


def _requests(stage: Stage, problems: Mapping[str, Problem], route: Route, n: int) -> Iterator[GenRequest]:
    problem = problems[route.problem_id]
    messages = bare_messages(question_text(problem), stage.recipe.prompt.style)
    for k in range(1, len(route.steps) + 1):
        yield GenRequest(f"{route.id}/{k}", messages, n, problem, prefill=solution_start(route.steps[:k]))
