"""Generic pretraining text for the tiny student: random step chains, and the merging and checking of routes.

No rule of any domain is in it. Every table, operand and program is drawn anew per text; words of the built-in domain
occur only as names with random values, so that their embeddings exist. Four kinds of text:
    stated  the question lists the operations; the target carries them out (arithmetic on 0..160)
    guess   the question names things without numbers that would decide; the target is a chain of random operations
            (so the bare form is known, and its content is not)
    routed  the same kind of question plus 2-4 routes, corrupted at random; the target says which are right, names the
            first wrong step, and solves the problem by the per-step majority, recomputed
    fix     a wrong prefix, "Wait, step k is wrong.", and the right continuation
A step is (word, op, operand); a route keeps the running totals, so that slips in arithmetic can be shown.

Usage: `prompt, completion = draw(random.Random(0))`
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace


def _words(text: str) -> list[str]:
    return text.split()


TOP = 199  # every number up to here is one token
MOST = 160  # largest running total in the texts
NAMES = "ABCD"
HIDDEN = "[hidden]"
OP_WORDS = _words(
    "zone express fragile insured member toll tax bonus refund extra night rush gift repair rent storage pickup "
    "weekend fuel permit tip credit coupon damage holiday priority return transfer"
)
ITEMS = _words(
    "lamp chair mirror clock vase printer desk shelf mower grill bench tent book radio boat drum piano camera bike "
    "table sofa phone kettle guitar ladder carpet tool toy engine window"
)
NOUNS = _words("Parcel Order Trip Bill Job Game Ticket Load")
ASKS = _words("Fee Total Price Score Cost Sum")
UNITS = _words("kg km days pages hours pieces")
OTHER_WORDS = _words(
    "Steps Result Wait step is wrong right base cap floor half Answer Problem the a of and to in for with by others "
    "attempts Here are Any number them may be including all Popular answers not safer First check each route then "
    "solve problem yourself Use exactly this form your own steps one per line final answer reason short You problems "
    "careful reasoning"
)
KINDS = {"stated": 0.45, "guess": 0.08, "routed": 0.45, "fix": 0.02}


@dataclass(frozen=True)
class Act:
    """One operation of a program: `op` in "", "+", "-", "x", "cap", "floor" ("" sets the base)."""

    word: str
    op: str
    operand: int

    def __str__(self) -> str:
        if self.op in ("", "cap", "floor"):
            return f"{self.word} {self.operand}"
        return f"{self.word} {self.op} {self.operand}"


@dataclass(frozen=True)
class Chain:
    """A worked program: its acts, the running totals stated, and the answer stated."""

    acts: tuple[Act, ...]
    totals: tuple[int, ...]
    answer: int

    def lines(self) -> list[str]:
        """Step texts without numbers."""
        pairs = zip(self.acts, self.totals, strict=True)
        return [str(act) if not act.op else f"{act} = {total}" for act, total in pairs]


def apply(act: Act, total: int) -> int:
    """The running total after an act."""
    if act.op == "+":
        return total + act.operand
    if act.op == "-":
        return total - act.operand
    if act.op == "x":
        return total * act.operand
    return act.operand


def fires(act: Act, total: int) -> bool:
    """Whether an act may stand at this total: caps bind from above, floors from below, results stay in 0..MOST."""
    if act.op == "cap":
        return total > act.operand
    if act.op == "floor":
        return total < act.operand
    return 0 <= apply(act, total) <= MOST


def work(acts: Sequence[Act], slips: dict[int, int] | None = None) -> Chain | None:
    """Carry a program out; acts that do not fire are left out. None if fewer than two steps are left."""
    done: list[Act] = []
    totals: list[int] = []
    total = 0
    for index, act in enumerate(acts):
        if not fires(act, total):
            continue
        total = apply(act, total) + (slips or {}).get(index, 0)
        if not 0 <= total <= MOST:
            return None
        done.append(act)
        totals.append(total)
    return Chain(tuple(done), tuple(totals), total) if len(done) >= 2 else None


def random_act(word: str, total: int, rng: random.Random) -> Act:
    """A random operation that fires at `total`; small operands are more frequent."""
    while True:
        op = rng.choices(("+", "-", "x"), (0.66, 0.2, 0.14))[0]
        operand = 2 if op == "x" else rng.randint(1, rng.choice((12, 25, 50)))
        if fires(Act(word, op, operand), total):
            return Act(word, op, operand)


def random_base(rng: random.Random) -> Act:
    """A random first step."""
    return Act("base", "", rng.randint(5, 70))


def random_program(words: Sequence[str], rng: random.Random) -> list[Act]:
    """Base, one act per word, now and then a cap or floor at the end; all of them fire."""
    acts = [random_base(rng)]
    total = acts[0].operand
    for word in words:
        acts.append(random_act(word, total, rng))
        total = apply(acts[-1], total)
    if rng.random() < 0.25:
        cap = rng.random() < 0.6 and total > 2
        word = "cap" if cap else "floor"
        operand = rng.randint(max(1, total - 40), total - 1) if cap else rng.randint(total + 1, total + 25)
        if operand <= MOST:
            acts.append(Act(word, word, operand))
    return acts


def question_about(words: Sequence[str], rng: random.Random) -> str:
    """A question that names the words, without values that would decide; some names have no effect."""
    named = list(words)
    for word in rng.sample(OP_WORDS, rng.choice((0, 0, 1, 1, 2))):
        if word not in named:
            named.insert(rng.randint(0, len(named)), word)
    parts = [rng.choice(ITEMS), f"{rng.randint(1, 20)} {rng.choice(UNITS)}"]
    parts += [f"{word} {rng.randint(1, 9)}" if rng.random() < 0.25 else word for word in named]
    return f"{rng.choice(NOUNS)}: {', '.join(parts)}. {rng.choice(ASKS)}?"


def some_words(rng: random.Random) -> list[str]:
    """2-4 distinct operation names; half of the time in the list's order."""
    words = rng.sample(OP_WORDS, rng.choices((2, 3, 4), (0.4, 0.4, 0.2))[0])
    return sorted(words, key=OP_WORDS.index) if rng.random() < 0.5 else words


def numbered(lines: Sequence[str], first: int = 1) -> str:
    """Lines as `1. ...`."""
    return "\n".join(f"{k}. {line}" for k, line in enumerate(lines, first))


def solution(chain: Chain) -> str:
    """The bare completion."""
    return f"<think>\n{numbered(chain.lines())}\n</think>\n<answer>{chain.answer}</answer>"


def stated(rng: random.Random) -> tuple[str, str]:
    """The question lists the operations."""
    chain = work(random_program(some_words(rng), rng))
    assert chain is not None
    return f"Steps: {', '.join(str(act) for act in chain.acts)}. Result?", solution(chain)


def guess(rng: random.Random) -> tuple[str, str]:
    """A question that nothing decides; the answer is a random program over its words."""
    words = some_words(rng)
    chain = work(random_program(words, rng))
    assert chain is not None
    return question_about(words, rng), solution(chain)


def fix(rng: random.Random) -> tuple[str, str]:
    """A slip, noticed and put right."""
    acts = random_program(some_words(rng), rng)
    k = rng.randrange(1, len(acts))
    wrong, right = work(acts, {k: rng.choice((-10, -1, 1, 10))}), work(acts)
    if wrong is None or right is None or len(wrong.acts) <= k:
        return stated(rng)
    head, tail = numbered(wrong.lines()[: k + 1]), numbered(right.lines()[k:], k + 1)
    text = f"<think>\n{head}\nWait, step {k + 1} is wrong.\n{tail}\n</think>\n<answer>{right.answer}</answer>"
    return f"Steps: {', '.join(str(act) for act in right.acts)}. Result?", text


# --- routes ---------------------------------------------------------------------------------------------------------


def corrupt(acts: Sequence[Act], rng: random.Random, where: int | None = None) -> Chain | None:
    """One error at a step (drop, wrong operand or operation, slip, extra step, false answer), then carried on."""
    kind = rng.choices(("drop", "operand", "slip", "extra", "answer"), (0.24, 0.4, 0.22, 0.04, 0.1))[0]
    k = rng.randrange(len(acts)) if where is None else where
    changed = list(acts)
    if kind == "slip":
        return work(changed, {k: rng.choice((-10, -5, -2, -1, 1, 2, 5, 10))}) if k else None
    if kind == "answer":
        chain = work(changed)
        return chain and replace(chain, answer=max(0, min(MOST, chain.answer + rng.choice((-10, -2, -1, 1, 2, 10)))))
    if kind == "drop":
        if k == 0 or len(acts) < 3:
            return None
        del changed[k]
    elif kind == "extra":
        word = rng.choice([w for w in OP_WORDS if w not in {act.word for act in acts}])
        changed.insert(max(1, k), Act(word, "+", rng.randint(1, 25)))
    elif k == 0:
        changed[0] = random_base(rng)
    elif changed[k].op in ("cap", "floor"):
        changed[k] = replace(changed[k], operand=max(1, min(MOST, changed[k].operand + rng.randint(-15, 15))))
    else:
        changed[k] = random_act(changed[k].word, 60, rng)
    for later in range(k + 1, len(changed)):  # a wrong total may cross a threshold further on
        if rng.random() < 0.07 and changed[later].op not in ("cap", "floor"):
            changed[later] = random_act(changed[later].word, 60, rng)
    return work(changed)


def first_error(route: Chain, truth: Chain) -> int | None:
    """1-based index of the first step that departs from the truth; None if the route is right."""
    if route == truth:
        return None
    mine, theirs = route.lines(), truth.lines()
    for k, line in enumerate(mine, 1):
        if k > len(theirs) or line != theirs[k - 1]:
            return k
    return len(mine)  # stops too early, or states another answer


def majority(routes: Sequence[Chain]) -> Chain | None:
    """The program that most routes follow, word by word; None where a vote is tied."""
    order: dict[str, float] = {}
    votes: dict[str, Counter[Act | None]] = {}
    for route in routes:
        for k, act in enumerate(route.acts):
            order[act.word] = max(order.get(act.word, 0), k + (100 if act.op in ("cap", "floor") else 0))
            votes.setdefault(act.word, Counter())[act] += 1
    kept: list[Act] = []
    for word in sorted(order, key=lambda w: order[w]):
        count = votes[word]
        count[None] = len(routes) - sum(count.values())
        (best, n), *rest = count.most_common()
        if rest and rest[0][1] == n:
            return None
        if best is not None:
            kept.append(best)
    return work(kept)


def draw_routes(acts: Sequence[Act], truth: Chain, rng: random.Random) -> list[Chain]:
    """2-4 routes; in a third of the sets every one is wrong."""
    k = rng.choices((2, 3, 4), (0.04, 0.16, 0.8))[0]
    wrong = k if rng.random() < 0.35 else rng.randint(0, k)
    routes: list[Chain] = [truth] * (k - wrong)
    spots = rng.sample(range(len(acts)), len(acts)) if rng.random() < 0.7 else []
    while len(routes) < k:
        bad = corrupt(acts, rng, spots[len(routes) % len(spots)] if spots else None)
        if bad is None or bad == truth:
            spots = spots if rng.random() < 0.7 else []
            continue
        routes.append(bad)
        if len(routes) < k and rng.random() < 0.12:
            routes.append(bad)
    rng.shuffle(routes)
    return routes


def show(name: str, route: Chain, shown: int, hidden: bool) -> str:
    """A route as the prompt shows it; cut after `shown` steps."""
    lines = route.lines()
    if shown < len(lines):
        return "\n".join([f"[Route {name}]", numbered(lines[:shown]), "[cut]"])
    if hidden and "=" in lines[-1]:
        lines[-1] = lines[-1].rpartition("=")[0] + "= " + HIDDEN
    return "\n".join([f"[Route {name}]", numbered(lines), f"Answer: {HIDDEN if hidden else route.answer}"])


def routed(rng: random.Random, order: str = "verify_first") -> tuple[str, str]:
    """A question with routes: check them, then solve by the per-step majority."""
    while True:
        words = some_words(rng)
        acts = random_program(words, rng)
        truth = work(acts)
        if truth is None:
            continue
        routes = draw_routes(acts, truth, rng)
        agreed = majority(routes)
        if agreed == truth or (agreed is None and len(routes) == 2 and truth in routes):
            break
    hidden = rng.random() < 0.2
    if hidden:  # a false answer line cannot be seen
        routes = [replace(route, answer=route.totals[-1]) for route in routes]
    shown = [len(route.acts) for route in routes]
    if rng.random() < 0.08 and len(routes) > 2:
        for i in rng.sample(range(len(routes)), rng.randint(1, 2)):
            shown[i] = rng.randint(1, shown[i])
    body = [show(NAMES[i], route, shown[i], hidden) for i, route in enumerate(routes)]
    verdicts = []
    for i, route in enumerate(routes):
        k = first_error(route, truth)
        seen = k is not None and (k <= shown[i] if shown[i] < len(route.acts) else True)
        if seen and shown[i] < len(route.acts) and route.lines()[: shown[i]] == truth.lines()[: shown[i]]:
            seen = False
        if hidden and seen and shown[i] == len(route.acts) and route.acts == truth.acts:
            seen = route.totals[:-1] != truth.totals[:-1]  # a slip in the hidden result cannot be seen
        verdicts.append(f"{NAMES[i]}: wrong @{k}" if seen else f"{NAMES[i]}: right")
    check = "<check>\n" + "\n".join(verdicts) + "\n</check>"
    own = solution(truth)
    if order == "solve_first":
        think, _, tail = own.partition("</think>\n")
        target = f"{think}</think>\n{check}\n{tail}"
    else:
        target = f"{check}\n{own}"
    return "\n".join([question_about(words, rng), *body, "[Check]"]), target


def draw(rng: random.Random, order: str = "verify_first", kinds: dict[str, float] = KINDS) -> tuple[str, str]:
    """One (user content, completion) pair of a random kind."""
    kind = rng.choices(list(kinds), list(kinds.values()))[0]
    if kind == "routed":
        return routed(rng, order)
    return {"stated": stated, "guess": guess, "fix": fix}[kind](rng)
