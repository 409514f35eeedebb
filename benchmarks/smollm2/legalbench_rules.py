"""A rule program for LegalBench diversity_1..4: parse a case, decide it, write the reasons as a short chain of thought.

Written from the rule text of LegalBench's `README_diversity_4.md` (see RULES): no plaintiff may share a state with a
defendant; the amount in controversy must exceed $75,000; one plaintiff's claims against one defendant are added;
claims against separate defendants, or of separate plaintiffs, are not. It never reads a label.

    case = parse("James is from Iowa. Lucas is from Ohio. James sues Lucas for negligence for $64,000.")
    steps, answer = write_steps(case)        # answer "Yes" or "No"

The same writer, with a `Habits` other than CAREFUL, is a noisy solver: it errs in one known way (and slips now and
then), and its wording is that of the right routes, so that only the content tells right from wrong.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from typing import Literal

LIMIT = 75_000  # dollars; the amount must be larger

RULES = """\
Diversity jurisdiction exists when both hold:
- Complete diversity: no plaintiff is from the same state as any defendant. Several plaintiffs may come from one state,
  and so may several defendants.
- The amount in controversy is more than $75,000. If one plaintiff brings several claims against the same defendant,
  their values are added. A plaintiff may not add claims against separate defendants, and two plaintiffs may not add
  their claims against the same defendant.
"""

_HOME = re.compile(r"([A-Z][a-z]+) is from ([A-Z][A-Za-z ]+)\.")
_SUIT = re.compile(r"([A-Z][\w ,]*?) (?:both )?sues? ([A-Z][A-Za-z ,]*?)(?: each)? for (.+)\.$")
_CLAIM = re.compile(r"([a-z][a-z ]*?) for \$([\d,]+)")


@dataclass(frozen=True)
class Case:
    """A case as told: who sues whom, where they are from, and the claims each pair of parties has (dollars)."""

    plaintiffs: tuple[str, ...]
    defendants: tuple[str, ...]
    state: dict[str, str]
    claims: tuple[tuple[str, int], ...]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Every (plaintiff, defendant)."""
        return [(p, d) for p in self.plaintiffs for d in self.defendants]


def parse(text: str) -> Case:
    """Read a fact pattern of variants 1-4. ValueError names what could not be read."""
    state = dict(_HOME.findall(text))
    suit = _SUIT.search(text.rpartition(" is from ")[2].partition(". ")[2])
    if suit is None or not state:
        raise ValueError(f"not a diversity case: {text!r}")
    plaintiffs, defendants = (tuple(re.split(r", | and ", suit.group(k))) for k in (1, 2))
    claims = tuple((name, int(amount.replace(",", ""))) for name, amount in _CLAIM.findall(suit.group(3)))
    unknown = [name for name in (*plaintiffs, *defendants) if name not in state]
    if unknown or not claims:
        raise ValueError(f"no {'state of ' + unknown[0] if unknown else 'claim'} in: {text!r}")
    return Case(plaintiffs, defendants, state, claims)


def is_diverse(case: Case) -> bool:
    """Complete diversity: no plaintiff and defendant from one state."""
    return all(case.state[p] != case.state[d] for p, d in case.pairs)


def amount_in_controversy(case: Case) -> int:
    """Dollars one plaintiff asks of one defendant: the sum of that pair's claims, never of several pairs."""
    return sum(amount for _, amount in case.claims)


def decide(case: Case) -> bool:
    """True where diversity jurisdiction exists."""
    return is_diverse(case) and amount_in_controversy(case) > LIMIT


@dataclass(frozen=True)
class Habits:
    """How a solver works. CAREFUL is the rule; each other setting is one way of getting it wrong.

    `slip` is the chance of one slip per route: a pair of states misjudged or an amount misread by a factor of ten.
    """

    compare: Literal["all", "first"] = "all"  # first: only the first pair of parties is looked at
    amount: Literal["rule", "across", "largest", "any"] = "rule"  # across: adds over parties; any: no minimum
    slip: float = 0.0


CAREFUL = Habits()
SOLVERS: dict[str, Habits] = {
    "amount_blind": Habits(amount="any", slip=0.4),
    "first_pair": Habits(compare="first", slip=0.4),
    "adds_across": Habits(amount="across", slip=0.4),
    "largest_claim": Habits(amount="largest", slip=0.4),
}


def write_steps(case: Case, habits: Habits = CAREFUL, rng: random.Random | None = None) -> tuple[list[str], str]:
    """(steps, "Yes" or "No"): 4-6 terse steps, each with the content of the rule it uses and what follows from it.

    Amounts are told in thousands. With `rng` (solvers only) a slip may happen, and three routes in ten look at the
    amount first.
    """
    slip = rng.choice(["state", "amount"]) if rng is not None and rng.random() < habits.slip else None
    pairs = case.pairs if habits.compare == "all" else case.pairs[:1]
    slipped = rng.randrange(len(pairs)) if rng is not None and slip == "state" else None
    parties, shared = [], False
    for k, (p, d) in enumerate(pairs):
        same = (case.state[p] == case.state[d]) != (k == slipped)
        shared = shared or same
        parties.append(f"{p} and {d}: {case.state[p]} and {case.state[d]}, same state {_yes(same).lower()}.")
    parties.append(f"Plaintiff and defendant may not share a state: diverse {_yes(not shared).lower()}.")
    amounts = [amount for _, amount in case.claims]
    if rng is not None and slip == "amount":
        k = rng.randrange(len(amounts))
        amounts[k] = _misread(amounts[k])
    money, met = _money(case, amounts, habits)
    answer = _yes(not shared and met)
    money_first = rng is not None and rng.random() < 0.3
    ordered = [*money, *parties] if money_first else [*parties, *money]
    found = f"Diverse {_yes(not shared).lower()}, amount met {_yes(met).lower()}"
    return [*ordered, f"{found}, both are needed: jurisdiction {answer.lower()}."], answer


def _money(case: Case, amounts: list[int], habits: Habits) -> tuple[list[str], bool]:
    """(the steps on the amount, whether it is met)."""
    several, total, steps, why = len(case.pairs) > 1, sum(amounts), [], ""
    if habits.amount == "across" and several:
        amounts = amounts * len(case.pairs)
        total = sum(amounts)
        steps = [f"All claims add up: {_sum(amounts)} thousand."]
    elif habits.amount == "largest" and len(amounts) > 1:
        total = max(amounts)
        steps = [f"Only the largest claim counts: {_k(total)} thousand."]
    elif len(amounts) > 1:
        steps = [f"Claims of one against one add up: {_sum(amounts)} thousand."]
    elif several:
        why = f"Claims {'against' if len(case.defendants) > 1 else 'of'} separate parties do not add up: "
    else:
        why = "One claim: "
    if habits.amount == "any":
        return [*steps, f"{why}{_k(total)} thousand, any amount will do: amount met yes."], True
    met = total > LIMIT
    return [*steps, f"{why}{_k(total)} thousand must be over 75: amount met {_yes(met).lower()}."], met


def _misread(amount: int) -> int:
    """Ten times too much below the limit; above it, a digit or more too few."""
    if amount <= LIMIT:
        return amount * 10
    while amount > LIMIT:
        amount //= 10
    return max(1000, amount // 1000 * 1000)


def _k(amount: int) -> str:
    """Thousands of dollars."""
    return f"{amount / 1000:,.10g}"


def _sum(amounts: list[int]) -> str:
    return " + ".join(map(_k, amounts)) + f" = {_k(sum(amounts))}"


def _yes(value: bool) -> str:
    return "Yes" if value else "No"


def route_text(steps: list[str], answer: str) -> str:
    """Numbered steps and the answer line, as `jsonl:` teachers and rollout sources carry them."""
    return "\n".join([*(f"{k}. {step}" for k, step in enumerate(steps, 1)), f"Answer: {answer}"])
