"""Routes of any tool made whole: steps, answer and verdict, each where the row has none.

    the row                            its verdict
    holds no `correct`                 judged: not cut off, and the answer is right
    holds `correct`                    kept, and held against the judgement: `counts["contradicted"]`
    holds `correct` and `steps: []`    judged, since nothing was read yet

A field counts as held if the row names it, whatever its default would be. Where comparisons are slow (Math-Verify,
plug-ins), CHECKED different answers are held against the judgement, and `counts["checked"]` says how many rows that is.
Usage: `verdicts = Verdicts(); route = verdicts.take(route, problem)`; `verdicts.counts` adds up over parts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from realm_cli.method.answers import is_correct
from realm_cli.method.steps import parse_route
from realm_cli.records import Problem, Route

QUICK = ("number", "choice", "label", "text", "date")  # types that are compared in microseconds
CHECKED, EXAMPLES = 200, 5


def filled(route: Route) -> Route:
    """The route with steps and final answer from its text, each where the row does not hold it.

    An answer of None that stands in a row with steps says that the text states none, and stays.
    """
    given = route.model_fields_set
    if route.steps and (route.final_answer is not None or "final_answer" in given):
        return route
    steps, answer = parse_route(route.text)
    known = route.final_answer if route.final_answer is not None else answer
    return route.model_copy(update={"steps": route.steps or steps, "final_answer": known})


class Verdicts:
    """Makes routes whole, one by one. check: hold given verdicts against the judgement, which costs a comparison.

    counts: `given`, `judged`, `judged_right`, `checked` (of the given), `contradicted` (of these), `steps` and
    `answers` (read from the text). examples: ids of contradicted rows, the first EXAMPLES.
    """

    def __init__(self, *, check: bool = True) -> None:
        self.check = check
        self.counts: Counter[str] = Counter()
        self.examples: list[str] = []
        self._known: dict[tuple[str, str | None], bool] = {}
        self._slow = 0

    def take(self, route: Route, problem: Problem) -> Route:
        """The route, whole."""
        whole = filled(route)
        self.counts["steps"] += not route.steps and bool(whole.steps)
        self.counts["answers"] += route.final_answer is None and whole.final_answer is not None
        given = route.model_fields_set
        if "correct" not in given or ("steps" in given and not route.steps):
            right = self._right(whole, problem)
            self.counts.update(judged=1, judged_right=int(right))
            return whole.model_copy(update={"correct": right})
        self.counts["given"] += 1
        if self.check and self._may_check(whole, problem):
            wrong = self._right(whole, problem) != route.correct
            self.counts.update(checked=1, contradicted=int(wrong))
            self.examples += [route.id] if wrong and len(self.examples) < EXAMPLES else []
        return whole

    def _right(self, route: Route, problem: Problem) -> bool:
        if route.truncated:
            return False
        key = problem.id, route.final_answer
        if key not in self._known:
            self._known[key] = is_correct(route.final_answer, problem)
        return self._known[key]

    def _may_check(self, route: Route, problem: Problem) -> bool:
        if problem.answer_type in QUICK or (problem.id, route.final_answer) in self._known or route.truncated:
            return True
        self._slow += 1
        return self._slow <= CHECKED


def told(counts: Counter[str], examples: list[str]) -> Iterator[str]:
    """What was read, judged and contradicted, a line each; nothing where the rows were whole."""
    if counts["steps"] or counts["answers"]:
        yield f"read from the texts: the steps of {counts['steps']} routes, the final answers of {counts['answers']}"
    if counts["judged"]:
        rows = counts["judged"] + counts["given"]
        yield f"{counts['judged']} of {rows} routes came without a verdict; judged: {counts['judged_right']} are right"
    if counts["contradicted"]:
        named = f"{', '.join(examples)}{' ...' if counts['contradicted'] > len(examples) else ''}"
        yield (
            f"warning: {counts['contradicted']} of {counts['checked']} given verdicts are not what the answer check "
            f"says ({named}); they are kept: take `correct` out of these rows to have them judged"
        )
