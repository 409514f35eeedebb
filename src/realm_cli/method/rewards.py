"""The reward of one GRPO group, in parts (method.md section 8), and its advantages (section 10).

    R = ans*r_ans + ver*r_ver + loc*r_loc + fmt*r_fmt - len*p_len - copy*p_copy        A_i = R_i - mean(R)

Usage: `score_group(row, completions, grade=..., key=..., options=RewardOptions())` -> one Sample per completion.
With the default weights the worst correct completion (.60) earns more than the best wrong one (.40).

Deviations and choices (the paper's reward formula is not available to us):
1. The answer and process terms follow a weak secondary source; weights and guards are ours.
2. r_ver is balanced, so constant or random verdicts earn 0 over sets with a symmetric number of positives. Following
   the plurality of the shown answers earns .70 / .34 / .24 at a same-wrong share of 0 / .7 / .9 when exactly two
   negatives share a wrong answer, and .70 / .21 / .07 when all of them do (the method document's simulation, with
   .28 / .14, lies between).
3. A natural set that shows one sign only carries no r_ver (section 6): its prior would pay for a constant verdict.
4. A completion without a readable answer counts as differing from every route that it calls right.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Literal

from realm_cli.method.parsing import Parsed, parse_completion
from realm_cli.prompts import Order
from realm_cli.protocols import Completion
from realm_cli.records import PlanRow, Sample

ALIKE = 1e-12  # rewards that differ by less are one reward


@dataclass(frozen=True)
class RewardWeights:
    """Weights of the reward parts; `len` and `copy` are subtracted."""

    ans: float = 1.0
    ver: float = 0.2
    loc: float = 0.1
    fmt: float = 0.1
    len: float = 0.1
    copy: float = 0.1


@dataclass(frozen=True, kw_only=True)
class RewardOptions:
    """What scoring needs besides the group. Lengths in tokens; `gate_process`: r_ver and r_loc count times r_ans."""

    weights: RewardWeights = field(default_factory=RewardWeights)
    order: Order = "verify_first"
    min_think_words: int = 20
    max_tokens: int = 768
    cache_tokens: int = 128
    gate_process: bool = False


def verdict_reward(pred: Sequence[bool | None], gold: Sequence[bool | None]) -> float | None:
    """Balanced verdict score in [-1, 1]: TPR + TNR - 1, or 2*accuracy - 1 where gold shows one sign only.

    A gold None is left out, a predicted None (missing line) is wrong. None where no gold verdict is left.
    Raises ValueError on unequal lengths. Source: method.md section 8.
    """
    rates = []
    for sign in (True, False):
        hits = [p is sign for p, g in zip(pred, gold, strict=True) if g is sign]
        if hits:
            rates.append(fmean(hits))
    return 2 * fmean(rates) - 1 if rates else None


def localisation_reward(
    pred: Sequence[bool | None],
    pred_errors: Sequence[int | None],
    gold: Sequence[bool | None],
    gold_errors: Sequence[int | None],
) -> float | None:
    """Mean over shown negatives with a known first error: 1 exact, .5 off by one, 0 else or judged right.

    Steps are 1-based. None where no negative has a known first error. Source: method.md section 8.
    """
    scores = []
    for verdict, said, label, first in zip(pred, pred_errors, gold, gold_errors, strict=True):
        if label is False and first is not None:
            distance = abs(said - first) if verdict is False and said is not None else 2
            scores.append({0: 1.0, 1: 0.5}.get(distance, 0.0))
    return fmean(scores) if scores else None


def overlong_penalty(n_tokens: int, max_tokens: int, cache: int, truncated: bool) -> float:
    """DAPO's soft overlong penalty (2503.14476): 0 up to max - cache tokens, linear to 1 at max, 1 if truncated."""
    if truncated:
        return 1.0
    over = n_tokens - (max_tokens - cache)
    if over <= 0:
        return 0.0
    return min(1.0, over / cache) if cache > 0 else 1.0


def copy_penalty(think: str, shown_texts: Sequence[str], n: int = 12) -> float:
    """Share of the think text's word n-grams found in one shown route (the worst one), 0 at .5 to 1 at 1.0.

    Words are compared in lower case, without step numbers and outer punctuation. Fewer than n words: 0.
    """
    own = _ngrams(think, n)
    if not own:
        return 0.0
    share = max((sum(gram in shown for gram in own) / len(own) for shown in _ngram_sets(shown_texts, n)), default=0.0)
    return max(0.0, 2 * share - 1)


def _words(text: str) -> list[str]:
    lines = (re.sub(r"^\s*\d{1,3}[.)]\s", "", line) for line in text.lower().splitlines())
    stripped = (word.strip(".,;:!?()[]\"'`*") for line in lines for word in line.split())
    return [word for word in stripped if word]


def _ngrams(text: str, n: int) -> list[tuple[str, ...]]:
    words = _words(text)
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def _ngram_sets(texts: Sequence[str], n: int) -> list[set[tuple[str, ...]]]:
    return [set(_ngrams(text, n)) for text in texts]


def visible_texts(row: PlanRow) -> list[str]:
    """What each shown route lets be copied: its visible steps, one per line."""
    cuts = row.shown_steps or [len(route.steps) for route in row.shown]
    return ["\n".join(route.steps[:cut]) for route, cut in zip(row.shown, cuts, strict=True)]


def consistent(
    verdicts: Sequence[bool | None], answer: str | None, row: PlanRow, key: Callable[[str | None], str | None]
) -> bool:
    """False if the own answer equals a visible route answer judged wrong, or differs from one judged right."""
    if row.answers_hidden:
        return True
    own = key(answer) if answer is not None else None
    cuts = row.cut or [False] * len(row.shown)
    for verdict, route, cut in zip(verdicts, row.shown, cuts, strict=True):
        theirs = key(route.answer) if route.answer is not None and not cut else None
        if theirs is not None and verdict is not None and verdict is not (own == theirs):
            return False
    return True


def parse_for(row: PlanRow, text: str, options: RewardOptions) -> Parsed:
    """Parse a completion of this row's prompt."""
    k = len(row.shown) if row.routed else 0
    return parse_completion(text, k=k, order=options.order, min_think_words=options.min_think_words)


def advantages(rewards_G: Sequence[float], scale: Literal["none", "group"] = "none") -> list[float]:
    """R - mean(R); `group` also divides by the sample standard deviation + 1e-4 (GRPO). Dr.GRPO (2503.20783): none.

    Exactly 0 where all rewards are alike but for rounding, which an optimiser that scales gradients would blow up.
    """
    if rewards_G and max(rewards_G) - min(rewards_G) <= ALIKE:
        return [0.0] * len(rewards_G)
    mean = fmean(rewards_G) if rewards_G else 0.0
    spread = 1.0
    if scale == "group":
        spread = (stdev(rewards_G) if len(rewards_G) > 1 else 0.0) + 1e-4
    return [(reward - mean) / spread for reward in rewards_G]


def score_group(
    row: PlanRow,
    completions: Sequence[Completion],
    *,
    grade: Callable[[str | None], bool],
    key: Callable[[str | None], str | None],
    options: RewardOptions,
    scale: Literal["none", "group"] = "none",
) -> list[Sample]:
    """One Sample per completion, with all reward parts and the group's advantages.

    grade: answer -> correct. key: answer -> canonical form, for equality with route answers (None = unreadable).
    Source: method.md sections 8 and 10.
    """
    texts = visible_texts(row) if row.routed else []
    samples = [
        _score(row, i, completion, texts, grade=grade, key=key, options=options)
        for i, completion in enumerate(completions)
    ]
    scaled = advantages([sample.reward for sample in samples], scale)
    return [s.model_copy(update={"advantage": a}) for s, a in zip(samples, scaled, strict=True)]


def _score(
    row: PlanRow,
    index: int,
    completion: Completion,
    texts: Sequence[str],
    *,
    grade: Callable[[str | None], bool],
    key: Callable[[str | None], str | None],
    options: RewardOptions,
) -> Sample:
    parsed = parse_for(row, completion.text, options)
    r_ans = 1.0 if parsed.answer is not None and grade(parsed.answer) else 0.0
    r_ver, r_loc = _process(row, parsed, key)
    if options.gate_process:
        r_ver = None if r_ver is None else r_ver * r_ans
        r_loc = None if r_loc is None else r_loc * r_ans
    r_fmt = float(parsed.ok)
    p_len = overlong_penalty(completion.n_tokens, options.max_tokens, options.cache_tokens, completion.truncated)
    p_copy = copy_penalty(parsed.think, texts)
    w = options.weights
    reward = (
        w.ans * r_ans
        + w.ver * (r_ver or 0.0)
        + w.loc * (r_loc or 0.0)
        + w.fmt * r_fmt
        - w.len * p_len
        - w.copy * p_copy
    )
    return Sample(
        id=f"{row.id}/{index}",
        plan_id=row.id,
        step=row.step,
        problem_id=row.problem_id,
        routed=row.routed,
        sample=index,
        completion=completion.text,
        verdicts=parsed.verdicts,
        first_errors=parsed.first_errors,
        answer=parsed.answer,
        r_ans=r_ans,
        r_ver=r_ver,
        r_loc=r_loc,
        r_fmt=r_fmt,
        p_len=p_len,
        p_copy=p_copy,
        reward=reward,
        advantage=0.0,
        n_tokens=completion.n_tokens,
        truncated=completion.truncated,
        mean_logprob=fmean(completion.logprobs) if completion.logprobs else None,
    )


def _process(
    row: PlanRow, parsed: Parsed, key: Callable[[str | None], str | None]
) -> tuple[float | None, float | None]:
    """(r_ver, r_loc) of a routed completion; (None, None) where a term is absent."""
    if not row.routed or parsed.verdicts is None or parsed.first_errors is None:
        return None, None
    r_ver = verdict_reward(parsed.verdicts, row.verdicts)
    signs = {gold for gold in row.verdicts if gold is not None}
    if "natural" in row.mode and len(signs) < 2:
        r_ver = None
    if r_ver is not None and not consistent(parsed.verdicts, parsed.answer, row, key):
        r_ver = min(r_ver, 0.0)
    return r_ver, localisation_reward(parsed.verdicts, parsed.first_errors, row.verdicts, row.first_errors)
