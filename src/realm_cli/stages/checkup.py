"""What is missing or suspicious in a domain before hours are spent on it: problems, rules, recipe.

Usage: `findings = check_problems(path) + check_rules(rules_text, problems)`; each says what to do
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from realm_cli.artifacts import iter_rows
from realm_cli.errors import RealmError
from realm_cli.method.answers import is_correct, known_types, numbers_in, to_number
from realm_cli.method.contamination import contamination
from realm_cli.method.guidance import leak_flags
from realm_cli.method.questions import compared, question_key
from realm_cli.method.scoring import smallest_detectable
from realm_cli.method.steps import parse_route
from realm_cli.recipe import DistillConfig
from realm_cli.records import Problem
from realm_cli.stages.problems import fault_of

Level = Literal["error", "warning", "fine"]
TOTAL, FEW_TRAIN, FEW_TEST = 8000, 50, 100  # characters of a long question; problems that are few
MAJORITY, SPREAD = 0.6, 0.15  # share of one answer; difference of its share between splits
DISCORDANT = 0.2  # share of test problems on which two models differ, for what can be detected
SAMPLE_DOMAIN, WRITTEN = "rulebook", ("teacher.jsonl", "routes-a.jsonl", "routes-b.jsonl")  # of `realm init`
UNWRITTEN = "(Not written yet:"  # stands in the rules.md of `realm init --student` (_scaffold/rules-own.md)
_ANSWER_LINE = re.compile(r"\n(?:Answer:|####)[^\n]*\s*\Z")
_RULE = re.compile(
    r"^[ \t]{0,9}(?:(?:#{1,6}|\d{1,4}[.)]|[-*])[ \t]{1,9})?(?P<id>[A-Z]{1,4}-?\d{1,9}(?:\.\d{1,9}){0,9})\b", re.M
)


@dataclass(frozen=True)
class Finding:
    """One line: what was found and what to do."""

    level: Level
    text: str


def check_problems(path: Path) -> tuple[list[Finding], list[Problem]]:
    """Findings about a problems file, and its readable rows."""
    try:
        problems = list(iter_rows(path, Problem, made_by="realm import"))
    except RealmError as error:
        return [Finding("error", str(error))], []
    if not problems:
        return [Finding("error", f"{path}: no rows; make them with `realm import`")], []
    found = [
        *_ids(problems),
        *_answers(problems),
        *_repeated(problems),
        *_sizes(problems),
        *_balance(problems),
        *_leaks(problems),
        *_solutions([p for p in problems if p.split == "train" and p.gold_solution]),
    ]
    return found, problems


def _ids(problems: Sequence[Problem]) -> Iterator[Finding]:
    twice = [name for name, n in Counter(p.id for p in problems).items() if n > 1]
    if twice:
        yield Finding("error", f"{len(twice)} ids stand twice, e.g. {twice[0]}; give each problem its own")
    else:
        yield Finding("fine", f"{len(problems)} problems, each with an id of its own")


def _answers(problems: Sequence[Problem]) -> Iterator[Finding]:
    """Answers that their own type cannot read could never be right."""
    types = Counter(problem.answer_type for problem in problems)
    unknown = [name for name in types if name not in known_types()]
    if unknown:
        yield Finding("error", f"answer_type {unknown[0]!r} is unknown; known: {', '.join(known_types())}")
        return
    faults = [(problem, fault) for problem in problems if (fault := fault_of(problem))]
    if faults:
        yield Finding("error", f"{len(faults)} problems cannot be used, e.g. {faults[0][0].id}: {faults[0][1]}")
        return
    bad = [problem for problem in problems if not _readable(problem)]
    if bad:
        yield Finding(
            "error",
            f"{len(bad)} answers cannot be read as their type, e.g. {bad[0].id}: {bad[0].answer[:60]!r} as "
            f"{bad[0].answer_type}; mend them, or change answer_type",
        )
    else:
        yield Finding("fine", f"every answer is read as its type ({', '.join(f'{n} {t}' for t, n in types.items())})")
    yield from _limits(problems)
    texts = [p for p in problems if p.answer_type == "text" and to_number(p.answer) is not None]
    if len(texts) > len(problems) / 2:
        yield Finding(
            "warning", f"{len(texts)} answers of type text are numbers; type number also accepts 1,000 for 1000"
        )


def _limits(problems: Sequence[Problem]) -> Iterator[Finding]:
    """Tolerances and limits that nothing reads, and golds outside their own limits."""
    idle = [p for p in problems if p.answer_type != "number" and _has_limits(p)]
    if idle:
        yield Finding(
            "warning",
            f"{len(idle)} problems have a tolerance or limits and another type than number, e.g. {idle[0].id} "
            f"({idle[0].answer_type}); they are not read: change answer_type, or take them out",
        )
    outside = [p for p in problems if p.answer_type == "number" and not _inside(p)]
    if outside:
        yield Finding(
            "warning",
            f"{len(outside)} answers are not within their own lower and upper, e.g. {outside[0].id}: "
            f"{outside[0].answer[:60]!r}; mend one of them",
        )


def _has_limits(problem: Problem) -> bool:
    return any(x is not None for x in (problem.tolerance, problem.tolerance_rel, problem.lower, problem.upper))


def _inside(problem: Problem) -> bool:
    value = to_number(problem.answer)
    low, high = problem.lower, problem.upper
    return value is None or ((low is None or value >= low) and (high is None or value <= high))


def _readable(problem: Problem) -> bool:
    if problem.answer_type == "choice" and not problem.choices:
        return False
    if problem.answer_type == "number" and to_number(problem.answer) is None:
        return False
    return is_correct(problem.answer, problem)


def _repeated(problems: Sequence[Problem]) -> Iterator[Finding]:
    homes: dict[str, Problem] = {}
    same = conflicting = across = 0
    example = ""
    for problem in problems:
        other = homes.setdefault(question_key(problem.question, problem.choices), problem)
        if other is problem:
            continue
        same += 1
        conflicting += other.answer != problem.answer
        across += other.split != problem.split
        example = example or f"{other.id} and {problem.id}"
    if across:
        yield Finding("error", f"{across} questions stand in two splits, e.g. {example}; keep each in one")
    if conflicting:
        yield Finding(
            "warning", f"{conflicting} questions have two different answers, e.g. {example}; keep the right one"
        )
    if same and not across:
        yield Finding("warning", f"{same} questions are asked twice, e.g. {example}; they count twice")
    if not same:
        yield Finding("fine", "no question is asked twice")


def _sizes(problems: Sequence[Problem]) -> Iterator[Finding]:
    counts = Counter[str](problem.split for problem in problems)
    for split, why in (("train", "nothing can be learned"), ("test", "nothing can be shown")):
        if not counts[split]:
            yield Finding("error", f'no problem has split "{split}": {why}; mark some rows')
    if not counts["dev"]:
        yield Finding(
            "warning", 'no problem has split "dev": train-rl cannot choose the best adapter; mark 50 to 200 rows'
        )
    if 0 < counts["train"] < FEW_TRAIN:
        yield Finding("warning", f"only {counts['train']} training problems; the method was tried with 300 and more")
    if counts["test"]:
        least = smallest_detectable(counts["test"], DISCORDANT)
        level: Level = "warning" if counts["test"] < FEW_TEST else "fine"
        yield Finding(
            level,
            f"{counts['test']} test problems: differences from {100 * least:.0f} points on can be shown, smaller ones "
            f"are lost in chance (80 % power, where models differ on {DISCORDANT:.0%} of them)",
        )
    long = [problem for problem in problems if len(problem.question) > TOTAL]
    if long:
        yield Finding(
            "warning",
            f"{len(long)} questions have over {TOTAL} characters, e.g. {long[0].id}; raise max_tokens or cut them",
        )


def _balance(problems: Sequence[Problem]) -> Iterator[Finding]:
    """How good is who always gives one answer?"""
    shares: dict[str, float] = {}
    for split in ("train", "test"):
        answers = Counter(p.answer.lower() for p in problems if p.split == split)
        if not answers:
            continue
        (answer, n), total = answers.most_common(1)[0], sum(answers.values())
        shares[split] = n / total
        if n / total > MAJORITY:
            yield Finding(
                "warning", f'always saying "{answer[:40]}" is right on {n / total:.0%} of {split}; report against that'
            )
    if len(shares) == 2 and abs(shares["train"] - shares["test"]) > SPREAD:
        yield Finding(
            "warning", "the most frequent answer's share differs between train and test; draw the splits anew"
        )


def _leaks(problems: Sequence[Problem]) -> Iterator[Finding]:
    train, test = (
        {p.id: compared(p.question, p.choices) for p in problems if p.split == split and p.question}
        for split in ("train", "test")
    )
    touched = contamination(train, test)
    if touched:
        name, other = next(iter(touched.items()))
        yield Finding(
            "warning",
            f"{len(touched)} of {len(test)} test questions share 13 words in a row with a training one, e.g. {name} "
            f"and {other}; look whether it is a common case text or a leak",
        )
    elif train and test:
        yield Finding("fine", "no test question shares 13 words in a row with a training question")
    told = [
        p for p in problems if p.answer_type == "text" and len(p.answer) > 20 and p.answer.lower() in p.question.lower()
    ]
    if told:
        yield Finding("warning", f"{len(told)} questions contain their answer, e.g. {told[0].id}; take it out")


def _solutions(problems: Sequence[Problem]) -> Iterator[Finding]:
    """Written solutions that `--teacher jsonl:problems.jsonl` could not teach, or would teach wrongly."""
    told = {p.id: leak_flags(p.gold_solution or "") for p in problems}
    if named := [name for name, flags in told.items() if flags]:
        yield Finding(
            "warning",
            f"{len(named)} of {len(problems)} written solutions speak of the rules, e.g. {named[0]} "
            f"({', '.join(told[named[0]])}); `realm distill` leaves them out, since the student sees no rules: say "
            "what a rule says, not its name",
        )
    other = [(p, last) for p in problems if (last := _last_number(p)) is not None]
    if other:
        yield Finding(
            "warning",
            f"{len(other)} of {len(problems)} written solutions end in another number than their answer, e.g. "
            f"{other[0][0].id}: {other[0][1]} and {other[0][0].answer}; mend them, or the student learns both",
        )


def check_lengths(problems: Sequence[Problem], config: DistillConfig, place: str) -> Iterator[Finding]:
    """Written solutions with fewer or more steps than the recipe lets through."""
    told = [(p, len(parse_route(p.gold_solution)[0])) for p in problems if p.split == "train" and p.gold_solution]
    for key, limit, off in (
        ("min_steps", config.min_steps, [p for p, n in told if n < config.min_steps]),
        ("max_steps", config.max_steps, [p for p, n in told if n > config.max_steps]),
    ):
        if off:
            yield Finding(
                "warning",
                f"{len(off)} of {len(told)} written solutions have {'fewer' if key == 'min_steps' else 'more'} than "
                f"{limit} steps, e.g. {off[0].id}; `realm distill` leaves them out: change distill.{key} in {place}",
            )


def _last_number(problem: Problem) -> str | None:
    """The last number of a written solution, but for a line that only states the answer, where it is another one."""
    text = _ANSWER_LINE.sub("", problem.gold_solution or "")
    found = numbers_in(text[-TOTAL:])
    if problem.answer_type != "number" or not found or to_number(found[-1]) == to_number(problem.answer):
        return None
    return found[-1]


def check_leftovers(folder: Path, problems: Sequence[Problem]) -> Iterator[Finding]:
    """Files of `realm init`'s sample that stayed beside problems of another domain."""
    from realm_cli.domains import load_domain

    sample = load_domain(SAMPLE_DOMAIN)
    if not problems or any(problem.domain == SAMPLE_DOMAIN for problem in problems):
        return
    for name, text in (("rules.md", sample.rules()), ("notes.md", sample.notes())):
        path = folder / name
        if path.is_file() and path.read_bytes() == text.encode():
            yield Finding("warning", f"{path}: still the sample's, about parcels; write your own in its place")
    ids = {problem.id for problem in problems}
    left = [name for name in WRITTEN if (folder / name).is_file() and not _answers_any(folder / name, ids)]
    if left:
        yield Finding(
            "warning",
            f"{', '.join(str(folder / name) for name in left)}: for other problems than these; delete them, and name "
            "your own in TEACHER and ROUTES (docs/your-domain.md)",
        )


def _answers_any(path: Path, ids: Container[str]) -> bool:
    """Whether a row of a file of texts names one of the problems. A row that is no JSON names none."""
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(row, dict) and str(row.get("problem_id", row.get("id"))) in ids:
                return True
    return False


def check_rules(text: str, place: Path, problems: Sequence[Problem]) -> list[Finding]:
    """Findings about the rules that the teacher sees. Rules with ids (R1, A-2.3) are compared with `rule_ids`."""
    if not text.strip():
        return [Finding("error", f"{place}: empty; write the rules that a teacher needs to solve the problems")]
    if UNWRITTEN in text:
        why = "written solutions do without, a teacher that is a model needs them"
        return [Finding("warning", f"{place}: the rules are not written yet; {why}")]
    found = [Finding("fine", f"{place}: {len(text.split())} words of rules for the teacher")]
    copied = [p for p in problems if len(p.question) > 40 and p.question in text]
    if copied:
        found.append(
            Finding("warning", f"{place}: holds the question of {copied[0].id}; rules should not be worked examples")
        )
    used = {rule for problem in problems for rule in problem.rule_ids or ()}
    named = {match["id"] for match in _RULE.finditer(text)}
    if used and named:
        idle, unknown = sorted(named - used), sorted(used - named)
        if idle:
            found.append(
                Finding(
                    "warning",
                    f"{place}: no problem needs {len(idle)} of {len(named)} rules, e.g. {', '.join(idle[:3])}",
                )
            )
        if unknown:
            found.append(
                Finding("warning", f"{place}: problems name rules that it lacks, e.g. {', '.join(unknown[:3])}")
            )
    return found
