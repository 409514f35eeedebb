"""Make the SmolLM2 benchmark sets from local copies of LegalBench diversity and GSM8K, and from reasoning-gym.

    python benchmarks/smollm2/prepare.py --data DIR --out DIR

DIR holds `legalbench-diversity/diversity_{1..4}.tsv` and `gsm8k/{train,test}.jsonl` as published. Writes, per set:

    problems.jsonl              Problem rows. LegalBench: variants 1-3 -> train (Yes and No equally often), dev, test;
                                variant 4 -> test only. GSM8K: train and dev from the official train file, test from the
                                official test file, drawn without looking at the problem.
    teacher.jsonl               {"problem_id", "text"}: guided CoTs (the rule program; the published worked solutions),
                                training problems only: for `realm distill --teacher jsonl:FILE`
    routes_solver_NAME.jsonl    {"problem_id", "text"}: noisy solvers: `realm rollout --model jsonl:FILE`
    rules.md                    LegalBench and legs: what a teacher may read and the student never does

The solvers of LegalBench read the case only, so they may also be shown at test time. Those of GSM8K are made from the
worked solutions, so they cover the training problems only.
"""

from __future__ import annotations

import argparse
import ast
import csv
import json
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import legalbench_rules as rules
import legs

ASK = "Is there diversity jurisdiction? Answer Yes or No."
SAMPLES = 3  # routes per solver and problem


@dataclass(frozen=True)
class Sizes:
    """How many problems: LegalBench per variant 1-3 (and of variant 4), GSM8K in all."""

    lb_dev: int = 10
    lb_test: int = 25
    lb_train: int = 150  # at most, per variant, before balancing
    lb_variant4: int = 200
    gsm_train: int = 120
    gsm_dev: int = 16
    gsm_test: int = 60
    legs: legs.Sizes = field(default_factory=legs.Sizes)


QUICK = Sizes(
    lb_dev=4, lb_test=4, lb_train=12, lb_variant4=6, gsm_train=12, gsm_dev=4, gsm_test=6, legs=legs.Sizes(24, 4, 10)
)


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with legalbench-diversity/ and gsm8k/; not for legs")
    parser.add_argument("--out", type=Path, required=True, help="a folder per set is made in it")
    parser.add_argument("--set", choices=["legalbench", "gsm8k", "legs", "all"], default="all", dest="which")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="a handful of problems, for a smoke run")
    args = parser.parse_args(argv)
    sizes = QUICK if args.quick else Sizes()
    if args.which in ("legs", "all"):
        prepare_legs(args.out / "legs", sizes.legs, args.seed)
    if args.which != "legs" and args.data is None:
        parser.error("--data: needed for legalbench and gsm8k")
    if args.which in ("legalbench", "all"):
        prepare_legalbench(args.data / "legalbench-diversity", args.out / "legalbench", sizes, args.seed)
    if args.which in ("gsm8k", "all"):
        prepare_gsm8k(args.data / "gsm8k", args.out / "gsm8k", sizes, args.seed)


def prepare_legalbench(source: Path, out: Path, sizes: Sizes, seed: int) -> None:
    """Variants 1-3: seeded dev and test (natural label shares), the rest balanced for training. Variant 4: test."""
    problems: list[dict[str, Any]] = []
    cases: dict[str, rules.Case] = {}
    for variant in range(1, 5):
        rng = random.Random(f"legalbench/{seed}/{variant}")
        rows = []
        for k, (text, label) in enumerate(read_cases(source, variant), 1):
            row = {
                "id": f"lb{variant}-{k:03d}",
                "question": f"{text} {ASK}",
                "answer": label,
                "answer_type": "label",
                "choices": ["Yes", "No"],
                "domain": "US federal diversity jurisdiction",
                "group": f"variant{variant}",
            }
            cases[str(row["id"])] = rules.parse(text)
            rows.append(row)
        rng.shuffle(rows)
        if variant == 4:
            problems += [{**row, "split": "test"} for row in rows[: sizes.lb_variant4]]
            continue
        dev, rest = rows[: sizes.lb_dev], rows[sizes.lb_dev :]
        test, pool = rest[: sizes.lb_test], rest[sizes.lb_test :]
        by_label = {label: [row for row in pool if row["answer"] == label] for label in ("Yes", "No")}
        n = min(sizes.lb_train // 2, *(len(found) for found in by_label.values()))
        train = [row for pair in zip(by_label["Yes"][:n], by_label["No"][:n], strict=True) for row in pair]
        for split, chosen in (("train", train), ("dev", dev), ("test", test)):
            tags = ["distill"] if split == "train" else []
            problems += [{**row, "split": split, "tags": tags} for row in chosen]
    write_jsonl(out / "problems.jsonl", problems)
    write_jsonl(
        out / "teacher.jsonl",
        (
            {"problem_id": p["id"], "text": rules.route_text(*rules.write_steps(cases[p["id"]]))}
            for p in problems
            if p["split"] == "train"
        ),
    )
    for name, habits in rules.SOLVERS.items():
        rows = []
        for problem in problems:
            for k in range(SAMPLES):
                rng = random.Random(f"{name}/{seed}/{problem['id']}/{k}")
                text = rules.route_text(*rules.write_steps(cases[problem["id"]], habits, rng))
                rows.append({"problem_id": problem["id"], "text": text})
        write_jsonl(out / f"routes_solver_{name}.jsonl", rows)
    (out / "rules.md").write_text(rules.RULES, encoding="utf-8")


def prepare_legs(out: Path, sizes: legs.Sizes, seed: int) -> None:
    """reasoning-gym's leg_counting: the teacher writes on taught animals only, solvers have some legs wrong."""
    try:
        table, rows = legs.table(), legs.problems(sizes, seed)
    except ImportError:
        raise SystemExit("legs: needs reasoning-gym; pip install -c constraints.txt -e '.[smollm2]'") from None
    if legs.check(rows, table):
        raise SystemExit("leg_counting: the table of legs does not give reasoning-gym's answers; another version?")
    write_jsonl(out / "problems.jsonl", rows)
    taught = [row for row in rows if row["tags"]]
    texts = [(row["id"], rules.route_text(*legs.solve(row["question"], table))) for row in taught]
    write_jsonl(out / "teacher.jsonl", ({"problem_id": key, "text": text} for key, text in texts))
    for name in legs.SOLVERS:
        known, routes = legs.beliefs(name, table, seed), []
        for row in rows:
            for k in range(2):
                rng = random.Random(f"{name}/{seed}/{row['id']}/{k}")
                text = rules.route_text(*legs.solve(row["question"], known, rng))
                routes.append({"problem_id": row["id"], "text": text})
        write_jsonl(out / f"routes_solver_{name}.jsonl", routes)
    (out / "rules.md").write_text(legs.rules(table), encoding="utf-8")


def read_cases(source: Path, variant: int) -> list[tuple[str, str]]:
    """(text, label) of a variant's published table."""
    with (source / f"diversity_{variant}.tsv").open(encoding="utf-8", newline="") as handle:
        return [(row["text"].strip(), row["label"]) for row in csv.DictReader(handle, delimiter="\t")]


def prepare_gsm8k(source: Path, out: Path, sizes: Sizes, seed: int) -> None:
    """Training problems: those of 2-5 worked steps, each with its sum annotated. Test: a plain random subset."""
    train_file = [(k, row) for k, row in enumerate(read_jsonl(source / "train.jsonl"), 1)]
    test_file = [(k, row) for k, row in enumerate(read_jsonl(source / "test.jsonl"), 1)]
    rng = random.Random(f"gsm8k/{seed}")
    rng.shuffle(train_file)
    rng.shuffle(test_file)
    dev, rest = train_file[: sizes.gsm_dev], train_file[sizes.gsm_dev :]
    usable = [
        (k, row) for k, row in rest if 2 <= len(worked_steps(row)) <= 5 and all(map(_SUM.search, worked_steps(row)))
    ]
    train = usable[: sizes.gsm_train]
    problems = [gsm_problem(f"gsm-train-{k:05d}", row, "train") for k, row in train]
    problems += [gsm_problem(f"gsm-train-{k:05d}", row, "dev") for k, row in dev]
    problems += [gsm_problem(f"gsm-test-{k:05d}", row, "test") for k, row in test_file[: sizes.gsm_test]]
    write_jsonl(out / "problems.jsonl", problems)
    teacher, slips, early = [], [], []
    for k, row in train:
        key, steps, answer = f"gsm-train-{k:05d}", worked_steps(row), gold_answer(row)
        teacher.append({"problem_id": key, "text": rules.route_text([plain(s) for s in steps], answer)})
        for sample in range(SAMPLES):
            rng = random.Random(f"{key}/{seed}/{sample}")
            slips.append({"problem_id": key, "text": rules.route_text(*maybe(slip, steps, answer, rng))})
            early.append({"problem_id": key, "text": rules.route_text(*maybe(stop_early, steps, answer, rng))})
    write_jsonl(out / "teacher.jsonl", teacher)
    write_jsonl(out / "routes_solver_slips.jsonl", slips)
    write_jsonl(out / "routes_solver_stops_early.jsonl", early)


def gsm_problem(key: str, row: Mapping[str, str], split: str) -> dict[str, Any]:
    """A GSM8K row as a Problem row."""
    return {
        "id": key,
        "question": row["question"].strip(),
        "answer": gold_answer(row),
        "answer_type": "number",
        "split": split,
        "domain": "grade-school mathematics",
        "group": "gsm8k",
        "tags": ["distill"] if split == "train" else [],
    }


_SUM = re.compile(r"<<([^<>=]+)=([^<>=]+)>>")
_NUMBER = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?|(?<![\w.])\.\d+")


def gold_answer(row: Mapping[str, str]) -> str:
    """What follows `####`, without thousands commas."""
    return row["answer"].rpartition("####")[2].strip().replace(",", "")


def worked_steps(row: Mapping[str, str]) -> list[str]:
    """The worked lines, calculator annotations (`<<48/2=24>>`) included."""
    return [line.strip() for line in row["answer"].rpartition("####")[0].splitlines() if line.strip()]


def plain(step: str) -> str:
    """A line without its annotations."""
    return re.sub(r"<<[^<>]*>>", "", step)


def maybe(spoil: Any, steps: list[str], answer: str, rng: random.Random) -> tuple[list[str], str]:
    """The worked solution as it is (4 of 10), else spoiled. A solution that cannot be spoiled stays right."""
    spoiled = spoil(steps, answer, rng) if rng.random() < 0.6 else None
    return spoiled if spoiled is not None else ([plain(s) for s in steps], answer)


def stop_early(steps: list[str], answer: str, rng: random.Random) -> tuple[list[str], str] | None:
    """Leaves out the last step and answers with the result before it."""
    found = list(_SUM.finditer(steps[-2])) if len(steps) > 2 else []
    return ([plain(s) for s in steps[:-1]], found[-1].group(2).strip()) if found else None


def slip(steps: list[str], answer: str, rng: random.Random) -> tuple[list[str], str] | None:
    """One sum is off; every later sum is done again with the wrong number. None if a sum cannot be read."""
    sums = [(i, m.start()) for i, step in enumerate(steps) for m in _SUM.finditer(step)]
    at = rng.choice(sums)
    changed: dict[Fraction, Fraction] = {}
    out = []
    for i, step in enumerate(steps):
        for found in _SUM.finditer(step):
            old, new = value(found.group(2)), value(_swap(found.group(1), changed))
            if old is None or new is None:
                return None
            if (i, found.start()) == at:
                new += rng.choice([-10, -1, 1, 2, 10]) if new > 10 else rng.choice([1, 2])
            if new != old:
                changed[old] = new
        out.append(_swap(plain(step), changed))
    right = value(answer)
    if right is None or right not in changed or changed[right] < 0:
        return None
    return out, show(changed[right])


def _swap(text: str, changed: Mapping[Fraction, Fraction]) -> str:
    def new(found: re.Match[str]) -> str:
        number = Fraction(found.group().replace(",", ""))
        return show(changed[number]) if number in changed else found.group()

    return _NUMBER.sub(new, text) if changed else text


def show(number: Fraction) -> str:
    """An integer, else two decimals."""
    return str(number.numerator) if number.denominator == 1 else f"{float(number):.2f}"


def value(text: str) -> Fraction | None:
    """Value of a sum of numbers, + - * / and brackets; None for anything else."""
    try:
        return _value(ast.parse(re.sub(r"(?<![\d.])0+(?=\d)", "", text.replace(",", "").strip()), mode="eval").body)
    except (SyntaxError, ValueError, ZeroDivisionError):
        return None


def _value(node: ast.expr) -> Fraction:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return Fraction(str(node.value))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand)
    if isinstance(node, ast.BinOp):
        a, b = _value(node.left), _value(node.right)
        if isinstance(node.op, ast.Add):
            return a + b
        if isinstance(node.op, ast.Sub):
            return a - b
        if isinstance(node.op, ast.Mult):
            return a * b
        if isinstance(node.op, ast.Div):
            return a / b
    raise ValueError("not a sum")


def read_jsonl(path: Path) -> list[dict[str, str]]:
    """All rows of a file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """One JSON object per line; the folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main()
