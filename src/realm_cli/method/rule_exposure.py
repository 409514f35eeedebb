"""Rules on their way into the weights: shown less and less, or asked for (method.md section 3.7). Both are options.

Rule fade: at the share t of training, a guided prompt shows the rules with chance p * max(0, 1 - 2 t), so none does in
the second half. Rule questions: a problem and the steps so far; the answer is the next step, which states the
content of the rule it uses. Usage: `rule_fade(samples, passes=2, share=.3, ruled=..., rng=rng)`; `rule_question(...)`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from realm_cli.prompts import Style, question_text, rule_question_messages
from realm_cli.records import GuidedCoT, Message, Problem, SFTSample

KINDS = ("guided", "positive")  # whose prompts may show the rules


def rules_shown_at(t: float, share: float) -> float:
    """Chance that a guided prompt shows the rules at the share `t` of training, in [0, 1].

    >>> [round(rules_shown_at(t, 0.3), 2) for t in (0, 0.25, 0.5, 1)]
    [0.3, 0.15, 0.0, 0.0]
    """
    return share * max(0.0, 1 - 2 * t)


def rule_fade(
    samples: Sequence[SFTSample],
    *,
    passes: int,
    share: float,
    ruled: Callable[[SFTSample], list[Message]],
    rng: random.Random,
) -> list[SFTSample]:
    """All samples `passes` times, in the order to be trained; ids of later passes end in `@2`, `@3`, ...

    ruled: sample -> its prompt with the rules in front.
    """
    total = passes * len(samples)
    out: list[SFTSample] = []
    for turn in range(passes):
        order = list(samples)
        rng.shuffle(order)
        for sample in order:
            chance = rules_shown_at(len(out) / total, share) if sample.kind in KINDS else 0.0
            update: dict[str, object] = {"id": f"{sample.id}@{turn + 1}"} if turn else {}
            if rng.random() < chance:
                update["messages"] = ruled(sample)
            out.append(sample.model_copy(update=update))
    return out


def rule_question(problem: Problem, cot: GuidedCoT, style: Style, rng: random.Random) -> SFTSample:
    """One question on a kept CoT: its steps before a drawn one, answered by that step."""
    k = rng.randrange(len(cot.steps))
    return SFTSample(
        id=f"rule_qa/{cot.id}/{k + 1}",
        problem_id=problem.id,
        kind="rule_qa",
        messages=rule_question_messages(question_text(problem), cot.steps[:k], style),
        completion=cot.steps[k],
    )
