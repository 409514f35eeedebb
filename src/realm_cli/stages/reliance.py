"""How much right routed solutions still need the routes: hint reliance (method.md section 9, after HiLL 2604.00698).

    HR = mean over right routed outputs of 1/|y| [log pi(y | x, routes) - log pi(y | x)],   y = the own solution

In nats per token: 0 = the model would write the same without routes; large = its solutions lean on them. The form is
ours. Usage: `hint_reliance(scorer, rows, problems, shown, recipe.prompt)`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import isnan
from statistics import fmean

from realm_cli.method.parsing import parse_completion
from realm_cli.prompts import bare_messages, question_text, routed_messages
from realm_cli.protocols import NllScorer
from realm_cli.recipe import PromptConfig
from realm_cli.records import Message, Prediction, Problem, ShownRoute

MOST = 100  # solutions scored, the first by problem id


def hint_reliance(
    scorer: NllScorer,
    rows: Sequence[Prediction],
    problems: Mapping[str, Problem],
    shown: Mapping[str, Sequence[ShownRoute]],
    prompt: PromptConfig,
) -> tuple[float | None, int]:
    """(HR in nats per token, solutions scored); None where no routed prediction is right with a readable solution."""
    pairs: list[tuple[Sequence[Message], str]] = []
    prefills: list[str] = []
    for row in sorted(rows, key=lambda row: (row.problem_id, row.sample)):
        if row.mode != "routed" or not row.correct or len(pairs) >= 2 * MOST:
            continue
        routes, question = shown[row.problem_id], question_text(problems[row.problem_id])
        solution = parse_completion(row.completion, k=len(routes), order=prompt.order).own_solution
        if not solution:
            continue
        before = row.completion.partition("<think>")[0] if prompt.order == "verify_first" else ""
        messages = routed_messages(question, routes, style=prompt.style, order=prompt.order)
        pairs += [(messages, solution), (bare_messages(question, prompt.style), solution)]
        prefills += [before, ""]
    if not pairs:
        return None, 0
    found = scorer.nll(pairs, prefills)
    gaps = [bare - routed for routed, bare in zip(found[::2], found[1::2], strict=True)]
    gaps = [gap for gap in gaps if not isnan(gap)]  # what is too long for the model
    return (fmean(gaps), len(gaps)) if gaps else (None, 0)


def reliance_notes(found: Mapping[str, Mapping[str, float | int | None]], rows: Sequence[Prediction]) -> Iterator[str]:
    """A line on each model of which not all right routed solutions were scored."""
    for model, one in found.items():
        right = sum(row.model == model and row.mode == "routed" and row.correct for row in rows)
        if one["n"] == MOST and right > MOST:
            yield f"hint reliance of {model}: {MOST} of {right} right routed solutions scored, the first by problem id"
