"""What is measured on dev problems while RL runs (method.md section 9): bare accuracy, and with routes beside it.

Keys: `dev_bare`, `dev_bare/GROUP`; with routes `dev_routed`, `dev_autonomy` (bare as a share of routed accuracy, same
problems), `dev_rescued` (right though no route shown is), `dev_misled` (gave the wrong answer that most routes give),
`dev_verdicts` (balanced accuracy). Greedy, strict answers; prompts that are too long for the model are left out. The
adapter is chosen by `dev_bare` alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import fmean

from realm_cli.method import answers, scoring
from realm_cli.method.parsing import parse_completion
from realm_cli.method.rewards import verdict_reward
from realm_cli.prompts import bare_messages, question_text, routed_messages
from realm_cli.protocols import Generator, GenRequest, SamplingParams, sampled
from realm_cli.recipe import Recipe
from realm_cli.records import Problem, ShownRoute
from realm_cli.stages.problems import spread

Shown = Mapping[str, Sequence[ShownRoute]]


def make_evaluator(
    recipe: Recipe, dev: Sequence[Problem], shown: Shown | None = None
) -> Callable[[Generator, int], dict[str, float]]:
    """(generator, step) -> metrics. shown: dev problem id -> routes; `train_rl.dev_routed` of them are used."""
    config, prompt = recipe.train_rl, recipe.prompt
    bare = spread(dev, config.dev_limit)
    routes = shown or {}
    routed = [p for p in bare if p.id in routes][: config.dev_routed]
    params = SamplingParams(max_tokens=config.max_tokens, temperature=0.0, seed=recipe.seed)

    def evaluate(generator: Generator, step: int) -> dict[str, float]:
        requests = [GenRequest(p.id, bare_messages(question_text(p), prompt.style), problem=p) for p in bare]
        for p in routed:
            messages = routed_messages(question_text(p), routes[p.id], style=prompt.style, order=prompt.order)
            requests.append(GenRequest(f"{p.id}/routed", messages, problem=p))
        texts = {i: done[0].text for i, done in sampled(generator, requests, params) if not done[0].failure}
        right: dict[str, list[float]] = defaultdict(list)
        alone: dict[str, float] = {}
        for i, problem in enumerate(bare):
            if i not in texts:  # its prompt is too long
                continue
            alone[problem.id] = float(answers.is_correct(answers.strict_answer(texts[i]), problem))
            right["dev_bare"].append(alone[problem.id])
            if problem.group:
                right[f"dev_bare/{problem.group}"].append(alone[problem.id])
        for i, problem in enumerate(routed, len(bare)):
            if i not in texts:
                continue
            for key, value in _with_routes(recipe, texts[i], problem, routes[problem.id]):
                right[key].append(value)
        metrics = {key: fmean(values) for key, values in right.items()}
        if metrics.get("dev_routed"):
            both = [alone[p.id] for i, p in enumerate(routed, len(bare)) if i in texts and p.id in alone]
            metrics["dev_autonomy"] = fmean(both) / metrics["dev_routed"]
        return metrics

    return evaluate


def _with_routes(
    recipe: Recipe, text: str, problem: Problem, shown: Sequence[ShownRoute]
) -> Iterator[tuple[str, float]]:
    """(key, value) of everything that one routed answer tells."""
    parsed = parse_completion(text, k=len(shown), order=recipe.prompt.order)
    right = answers.is_correct(parsed.answer, problem)
    yield "dev_routed", float(right)
    if not any(route.label for route in shown):
        yield "dev_rescued", float(right)
    top = scoring.plurality([answers.answer_key(route.answer, problem) for route in shown])
    if top != answers.answer_key(problem.answer, problem):
        own = answers.answer_key(parsed.answer, problem, correct=right)
        yield "dev_misled", float(own is not None and own == top)
    if len({route.label for route in shown}) == 2:
        score = verdict_reward(parsed.verdicts or [None] * len(shown), [route.label for route in shown])
        yield "dev_verdicts", ((score or 0.0) + 1) / 2
