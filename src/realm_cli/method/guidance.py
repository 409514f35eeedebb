"""Guided CoT distillation: which teacher CoTs are kept, and what is fine-tuned on (method.md section 3).

Filters, in order: answer, rule check, leaks of the prompt, number of steps, tokens, near-duplicates, hard to imitate
(highest student NLL), the most diverse CoTs of a problem, share with the label given, class balance.
Usage: `kept = [c for c in filter_cots(cots, options=FilterOptions(), ...) if c.kept]`; then `sample_mix`.

Deviations and choices (teacher prompt and filters of the paper are not available to us):
1. Near-duplicates (5-gram Jaccard) are looked for within a problem: two problems with the same derivation are two
   training examples, which matters where texts are terse.
2. Class balance caps every class at max(2 * smallest, lower median) CoTs; label-given ones go first, then second CoTs
   of a problem, then the last ones. The share of label-given CoTs is checked again after it.
3. A lemma sample needs a positive whose step k differs from the wrong one, else its correction would contradict itself.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, TypeVar

from realm_cli.errors import ConfigError
from realm_cli.method.targets import target_answer
from realm_cli.prompts import (
    Order,
    Style,
    bare_messages,
    lemma_text,
    question_text,
    routed_messages,
    routed_text,
    solution_text,
)
from realm_cli.records import GuidedCoT, Problem, Route, RouteSet, ScoredRoute, SFTSample

T = TypeVar("T")
LEAK_PATTERNS: Mapping[str, re.Pattern[str]] = {
    name: re.compile(pattern, re.IGNORECASE)
    for name, pattern in {
        "rules above": r"\b(?:rules?|notes?) (?:above|below|given|provided|listed)\b",
        "above rules": r"\b(?:above|below|given|provided|listed|following|stated) (?:expert )?(?:rules?|notes)\b",
        "rule number": r"\brules?[ -](?:no\.? ?|number |id |#)?[0-9]{1,3}\b",
        "rule id": r"(?-i:\bR-?[0-9]{1,3}\b)|\brule ids?\b",
        "rule list": r"\b(?:rule ?list|list of rules|rule ?book|set of rules)\b",
        "by the rules": r"\b(?:according to|as per|per|by|following|under) the (?:rules|notes|instructions)\b",
        "expert notes": r"\bexpert notes?\b",
        "as instructed": r"\bas (?:instructed|requested|told)\b|\b(?:these|the|your) instructions\b",
        "given label": r"\b(?:given|known|provided) (?:correct )?(?:answer|label)\b(?! choices| options)",
    }.items()
}

DEFAULT_MIX: Mapping[str, float] = {"guided": 0.7, "mrpv": 0.2, "lemma": 0.1}
MIX_KINDS = (*DEFAULT_MIX, "rule_qa", "replay")


def leak_flags(text: str) -> list[str]:
    """Names of the leak patterns that a text shows: it speaks of the rule list, ids, notes or instructions.

    >>> leak_flags("By rule 3 the fee is 5."), leak_flags("Heavy parcels cost 5 more.")
    (['rule number'], [])
    """
    return [name for name, pattern in LEAK_PATTERNS.items() if pattern.search(text)]


@dataclass(frozen=True)
class FilterOptions:
    """Limits of the filters (method.md section 3); shares in [0, 1]."""

    min_steps: int = 3
    max_steps: int = 12
    max_tokens: int = 512
    near_duplicate: float = 0.8
    nll_drop: float = 0.1
    keep_per_problem: int = 2
    max_label_given: float = 0.2
    balance: bool = True
    correct_only: bool = True


def jaccard(a: set[T], b: set[T]) -> float:
    """|a & b| / |a | b|; two empty sets are equal (1)."""
    return len(a & b) / len(a | b) if a or b else 1.0


def _five_grams(text: str) -> set[tuple[str, ...]]:
    words = text.lower().split()
    return {tuple(words[i : i + 5]) for i in range(max(1, len(words) - 4))}


def filter_cots(
    cots: Sequence[GuidedCoT],
    *,
    options: FilterOptions,
    n_tokens: Callable[[str], int],
    facts: Callable[[GuidedCoT], set[str]],
    answer_class: Mapping[str, str] | None,
) -> list[GuidedCoT]:
    """All rows in the given order, with `kept`, `drop_reason` and `leak_flags` set; the first filter that hits names.

    n_tokens: text -> tokens. facts: CoT -> its intermediate facts (diversity). answer_class: problem id -> class for
    labels and choices, None = no balancing. Source: method.md section 3.3 and 3.4.
    """
    flags = [leak_flags(cot.text) for cot in cots]
    faults = (_own_fault(cot, found, options, n_tokens) for cot, found in zip(cots, flags, strict=True))
    reasons: dict[int, str] = {i: fault for i, fault in enumerate(faults) if fault}

    def alive() -> list[int]:
        return [i for i in range(len(cots)) if i not in reasons]

    reasons.update(_near_duplicates(cots, alive(), options.near_duplicate))
    reasons.update(_hard_to_imitate(cots, alive(), options.nll_drop))
    reasons.update(_too_many(cots, alive(), options.keep_per_problem, facts))
    reasons.update(_label_share(cots, alive(), options.max_label_given))
    if answer_class is not None and options.balance:
        reasons.update(_unbalanced(cots, alive(), answer_class))
        reasons.update(_label_share(cots, alive(), options.max_label_given))
    return [
        cot.model_copy(update={"kept": i not in reasons, "drop_reason": reasons.get(i), "leak_flags": flags[i]})
        for i, cot in enumerate(cots)
    ]


def _own_fault(cot: GuidedCoT, flags: list[str], options: FilterOptions, n_tokens: Callable[[str], int]) -> str | None:
    if not cot.correct and (options.correct_only or cot.final_answer is None):
        return "wrong answer"
    if cot.rule_check == "fail":
        return "rule check failed"
    if flags:
        return f"leak: {', '.join(flags)}"
    if len(cot.steps) < options.min_steps:
        return "too few steps"
    if len(cot.steps) > options.max_steps:
        return "too many steps"
    return "too long" if n_tokens(cot.text) > options.max_tokens else None


def _by_problem(cots: Sequence[GuidedCoT], alive: list[int]) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = {}
    for i in alive:
        groups.setdefault(cots[i].problem_id, []).append(i)
    return groups


def _near_duplicates(cots: Sequence[GuidedCoT], alive: list[int], limit: float) -> dict[int, str]:
    reasons = {}
    for members in _by_problem(cots, alive).values():
        kept: list[tuple[int, set[tuple[str, ...]]]] = []
        for i in members:
            grams = _five_grams(cots[i].text)
            twin = next((j for j, other in kept if jaccard(grams, other) > limit), None)
            if twin is None:
                kept.append((i, grams))
            else:
                reasons[i] = f"near-duplicate of {cots[twin].id}"
    return reasons


def _hard_to_imitate(cots: Sequence[GuidedCoT], alive: list[int], share: float) -> dict[int, str]:
    """The floor(share * n) highest per-token NLLs (nats) of those that were measured."""
    measured = sorted(((nll, i) for i in alive if (nll := cots[i].nll_student) is not None), reverse=True)
    return {i: f"hard to imitate (nll {nll:.2f})" for nll, i in measured[: int(share * len(measured) + 1e-9)]}


def _too_many(
    cots: Sequence[GuidedCoT], alive: list[int], keep: int, facts: Callable[[GuidedCoT], set[str]]
) -> dict[int, str]:
    reasons = {}
    for members in _by_problem(cots, alive).values():
        if len(members) > keep:
            chosen = _most_diverse([facts(cots[i]) for i in members], keep)
            reason = f"not among the {keep} most diverse"
            reasons.update({i: reason for place, i in enumerate(members) if place not in chosen})
    return reasons


def _most_diverse(sets: Sequence[set[str]], keep: int) -> set[int]:
    """Indices of the most distant pair, grown greedily by max-min distance; ties: the earliest."""
    apart = {pair: jaccard(sets[pair[0]], sets[pair[1]]) for pair in combinations(range(len(sets)), 2)}
    pair: tuple[int, int] = min(apart, key=apart.__getitem__)
    chosen = set(pair[: min(keep, 2)])
    while len(chosen) < keep:
        rest = [i for i in range(len(sets)) if i not in chosen]
        chosen.add(min(rest, key=lambda i: max(jaccard(sets[i], sets[j]) for j in chosen)))
    return chosen


def _label_share(cots: Sequence[GuidedCoT], alive: list[int], limit: float) -> dict[int, str]:
    """The last label-given CoTs beyond `limit` of the final set."""
    if limit >= 1:
        return {}
    given = [i for i in alive if cots[i].label_given]
    allowed = int(limit / (1 - limit) * (len(alive) - len(given)) + 1e-9)
    return dict.fromkeys(given[allowed:], f"label-given share over {limit:.0%}")


def _unbalanced(cots: Sequence[GuidedCoT], alive: list[int], answer_class: Mapping[str, str]) -> dict[int, str]:
    classes: dict[str, list[tuple[bool, bool, int]]] = {}
    seen: set[str] = set()
    for i in alive:
        problem_id = cots[i].problem_id
        if problem_id in answer_class:
            rank = (cots[i].label_given, problem_id in seen, i)  # the last in this order go first
            classes.setdefault(answer_class[problem_id], []).append(rank)
        seen.add(problem_id)
    sizes = sorted(len(members) for members in classes.values())
    cap = max(2 * sizes[0], sizes[(len(sizes) - 1) // 2]) if sizes else 0
    dropped = [i for members in classes.values() for _, _, i in sorted(members)[cap:]]
    return dict.fromkeys(dropped, "class balance")


def guided_sample(problem: Problem, cot: GuidedCoT, style: Style) -> SFTSample:
    """The bare prompt (no rules) and the teacher's steps with the gold answer; loss on the whole completion."""
    return _bare_sample("guided", problem, cot.id, cot.steps, style)


def positive_sample(problem: Problem, route: Route, style: Style) -> SFTSample:
    """An external correct route in the bare format (method.md section 11)."""
    return _bare_sample("positive", problem, route.id, route.steps, style)


def distinct(samples: Sequence[SFTSample], besides: Sequence[SFTSample], keep: int) -> list[SFTSample]:
    """The first `keep` different completions of each problem, without those that `besides` has already."""
    seen = {(sample.problem_id, sample.completion) for sample in besides}
    count: Counter[str] = Counter()
    out = []
    for sample in samples:
        key = (sample.problem_id, sample.completion)
        if key not in seen and count[sample.problem_id] < keep:
            seen.add(key)
            count[sample.problem_id] += 1
            out.append(sample)
    return out


def _bare_sample(
    kind: Literal["guided", "positive"], problem: Problem, source_id: str, steps: Sequence[str], style: Style
) -> SFTSample:
    messages, text = bare_messages(question_text(problem), style), solution_text(steps, target_answer(problem))
    return SFTSample(id=f"{kind}/{source_id}", problem_id=problem.id, kind=kind, messages=messages, completion=text)


def mrpv_sample(
    problem: Problem, route_set: RouteSet, own_steps: Sequence[str], answer: str, style: Style, order: Order
) -> SFTSample:
    """Routed prompt; gold verdicts and first errors, then a correct solution as own reasoning (section 3.6 d)."""
    shown = route_set.shown
    labels, errors = [route.label for route in shown], [route.first_error for route in shown]
    return SFTSample(
        id=f"mrpv/{route_set.id}",
        problem_id=problem.id,
        kind="mrpv",
        messages=routed_messages(
            question_text(problem), shown, style=style, order=order, answers_hidden=route_set.answers_hidden
        ),
        completion=routed_text(labels, errors, own_steps, answer, order),
    )


def lemma_sample(
    problem: Problem, negative: ScoredRoute, positive_steps: Sequence[str], style: Style
) -> SFTSample | None:
    """Wrong prefix (masked), correction and right continuation: LEMMA (2503.17439), section 3.6 b.

    None where the first error k is unknown, the positive has fewer than k steps, or both have the same step k.
    """
    k = negative.first_error
    if negative.correct or k is None or not 1 <= k <= min(len(negative.steps), len(positive_steps)):
        return None
    if negative.steps[k - 1].split() == positive_steps[k - 1].split():
        return None
    completion, masked = lemma_text(negative.steps, k, positive_steps, target_answer(problem))
    return SFTSample(
        id=f"lemma/{negative.id}",
        problem_id=problem.id,
        kind="lemma",
        messages=bare_messages(question_text(problem), style),
        completion=completion,
        loss_start=masked,
    )


def sample_mix(
    guided: Sequence[SFTSample],
    positives: Sequence[SFTSample],
    mrpv: Sequence[SFTSample],
    lemma: Sequence[SFTSample],
    replay: Sequence[SFTSample] = (),
    rule_qa: Sequence[SFTSample] = (),
    *,
    weights: Mapping[str, float] = DEFAULT_MIX,
    rng: random.Random,
) -> list[SFTSample]:
    """Join the kinds to target shares, shuffled; positives count with guided, and none of these is dropped.

    `replay`: rows of another origin that keep an older skill, such as reading routes, alive. `rule_qa`: questions on
    rules (method/rule_exposure.py).

    The other kinds are down-sampled, or repeated at most once (a sample stands at most twice; the copy's id ends in
    `#2`), so a small pool stays below its share: see `mix_counts`. Without guided or positive samples all others with
    a weight are taken. Raises ConfigError for unknown kinds, negative weights, or no weight for guided ones at hand.
    """
    unknown = sorted(set(weights) - set(MIX_KINDS))
    if unknown:
        raise ConfigError(f"distill.mix: unknown kind {unknown[0]}; choose from {', '.join(MIX_KINDS)}")
    if any(weight < 0 for weight in weights.values()):
        raise ConfigError("distill.mix: weights must be >= 0")
    out = [*guided, *positives]
    base, base_weight = len(out), weights.get("guided", 0)
    if base and base_weight <= 0:
        raise ConfigError("distill.mix: guided needs a weight > 0, it is never dropped; or give no guided samples")
    for kind, pool in (("mrpv", mrpv), ("lemma", lemma), ("replay", replay), ("rule_qa", rule_qa)):
        weight = weights.get(kind, 0.0)
        wanted = round(base * weight / base_weight) if base else len(pool) * (weight > 0)
        out += _draw(pool, wanted, rng)
    rng.shuffle(out)
    return out


def _draw(pool: Sequence[SFTSample], wanted: int, rng: random.Random) -> list[SFTSample]:
    if wanted <= len(pool):
        return rng.sample(list(pool), wanted)
    extra = rng.sample(list(pool), min(len(pool), wanted - len(pool)))
    return [*pool, *(sample.model_copy(update={"id": f"{sample.id}#2"}) for sample in extra)]


def mix_counts(samples: Iterable[SFTSample]) -> dict[str, int]:
    """Samples per kind, for the stage's summary."""
    return dict(Counter(sample.kind for sample in samples))
