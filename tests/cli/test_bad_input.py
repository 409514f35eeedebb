"""Every mistake is one line on stderr that names the thing, exit 1 (usage: 2), and earlier files stay as they were."""

# ruff: noqa: E501 - a table of one line a case
from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cli.helpers import Realm, rows, snapshot, write_rows
from realm_cli.cli import console

ROLLOUT = ["rollout", "--run", "n", "-m", "solver:hasty", "--set", "data.domain=rulebook"]
DISTILL = ["distill", "--run", "r", "--data-only"]
PLAN = ["train-rl", "--run", "r", "--plan-only"]
GOOD = {"id": "a", "question": "Who?", "answer": "Ann", "answer_type": "text"}


def problems(*changes: dict[str, Any] | str) -> Callable[[], None]:
    """p.jsonl: rows of GOOD with changes, or raw lines."""

    def make() -> None:
        lines = [
            change if isinstance(change, str) else json.dumps({**GOOD, "question": f"Who {n}?", **change})
            for n, change in enumerate(changes)
        ]
        Path("p.jsonl").write_text("".join(line + "\n" for line in lines), encoding="utf-8")

    return make


def splits(*kept: str) -> Callable[[], None]:
    """p.jsonl: the world's problems of these splits only."""
    return lambda: write_rows(Path("p.jsonl"), [r for r in rows(Path("d/problems.jsonl")) if r["split"] in kept])


def routes(change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> Callable[[], None]:
    """x.jsonl: the world's routes, changed."""
    return lambda: write_rows(Path("x.jsonl"), change(rows(Path("r/rollout/routes.jsonl"))))


def file(name: str, text: str | bytes = "") -> Callable[[], None]:
    """A file with this content."""

    def make() -> None:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(text if isinstance(text, bytes) else text.encode())

    return make


def edit(name: str, old: str, new: str) -> Callable[[], None]:
    """A text replaced in a file."""

    def make() -> None:
        text = Path(name).read_text(encoding="utf-8")
        assert old in text
        Path(name).write_text(text.replace(old, new), encoding="utf-8")

    return make


def nothing() -> None:
    """The world as it is."""


@dataclass(frozen=True)
class Case:
    """`prepare` makes the mistake's files, `args` the command; `says`: what the line must name."""

    args: list[str]
    says: tuple[str, ...]
    prepare: Callable[[], object] = nothing
    code: int = 1


P = ["--problems", "p.jsonl"]
X = ["verify", "--run", "n", "--problems", "d/problems.jsonl", "--routes", "x.jsonl"]
CASES = {
    # problems
    "problems missing": Case([*ROLLOUT, "--problems", "no.jsonl"], ("no.jsonl: not found", "realm domain")),
    "problems empty": Case([*ROLLOUT, *P], ("p.jsonl: no rows",), file("p.jsonl")),
    "problems of blank lines": Case([*ROLLOUT, *P], ("p.jsonl: no rows",), file("p.jsonl", "\n\n")),
    "broken line": Case([*ROLLOUT, *P], ("p.jsonl:3: broken JSON",), problems({}, {"id": "b"}, '{"id": "c", ')),
    "wrong type": Case([*ROLLOUT, *P], ("p.jsonl:1: field answer", "valid string"), problems({"answer": 5})),
    "missing field": Case([*ROLLOUT, *P], ("p.jsonl:1: field question", "required"), problems('{"id": "a"}')),
    "unknown field": Case([*ROLLOUT, *P], ("p.jsonl:2: field anser", "known fields"), problems({}, {"id": "b", "anser": 1})),
    "not an object": Case([*ROLLOUT, *P], ("p.jsonl:1:", "object"), problems('["a"]')),
    "unknown split": Case([*ROLLOUT, *P], ("p.jsonl:1: field split", "'test'"), problems({"split": "tset"})),
    "doubled problem id": Case([*ROLLOUT, *P], ("p.jsonl: id 'a' stands in rows 1 and 2",), problems({}, {})),
    "unknown answer_type": Case([*ROLLOUT, *P], ("p.jsonl: problem a", "'numbr'", "number"), problems({"answer_type": "numbr"})),
    "choice without choices": Case([*ROLLOUT, *P], ("problem a", "list of choices"), problems({"answer_type": "choice"})),
    "train/test overlap": Case(
        [*ROLLOUT, *P],
        ("problems a (train) and b (test) ask the same question",),
        problems({"question": "Who?"}, {"id": "b", "question": " who? ", "split": "test"}),
    ),
    "not UTF-8": Case([*ROLLOUT, *P], ("p.jsonl: not UTF-8 text",), file("p.jsonl", b'{"id": "\xff"}\n')),
    "folder as file": Case([*ROLLOUT, "--problems", "d"], ("d: is a folder",)),
    "no train split, distill": Case([*DISTILL, *P], ('split "train"',), splits("dev", "test")),
    "no train split, train-rl": Case([*PLAN, *P], ('p.jsonl: no problem with split "train"', "dev, test"), splits("dev", "test")),
    "no dev split": Case([*PLAN, *P], ('p.jsonl: no problem with split "dev"',), splits("train", "test")),
    "no test split": Case(["eval", "--run", "r", *P], ('p.jsonl: no problem with split "test"',), splits("train", "dev")),
    "no split left": Case([*ROLLOUT, *P, "--set", "rollout.splits=[dev]"], ("p.jsonl: no problem in splits dev",), splits("train")),
    "no problems named": Case(["rollout", "--run", "n", "-m", "jsonl:x"], ("n/problems.jsonl: not found", "--problems")),
    # recipes and overrides
    "unknown recipe key": Case([*ROLLOUT, "-r", "y.yaml"], ("y.yaml: train_rl.step: unknown key; did you mean steps?",), file("y.yaml", "train_rl: {step: 3}\n")),
    "unknown --set key": Case([*ROLLOUT, "--set", "rollout.models_=1"], ("rollout.models_: unknown key; did you mean models?",)),
    "--set without =": Case([*ROLLOUT, "--set", "rollout.n"], ("--set rollout.n: expected KEY=VALUE",)),
    "--set into a value": Case([*ROLLOUT, "--set", "seed.x=1"], ("seed", "valid integer")),
    "--set wrong type": Case([*ROLLOUT, "--set", "rollout.n=many"], ("rollout.n", "'many'")),
    "recipe missing": Case([*ROLLOUT, "-r", "no.yaml"], ("no.yaml: no such recipe",)),
    "recipe name unknown": Case([*ROLLOUT, "-r", "dmeo"], ("dmeo.yaml: no such recipe",)),
    "broken YAML": Case([*ROLLOUT, "-r", "y.yaml"], ("y.yaml: line 1",), file("y.yaml", "train_rl: {steps: 3\n")),
    "recipe is a list": Case([*ROLLOUT, "-r", "y.yaml"], ("y.yaml: a recipe is a mapping",), file("y.yaml", "- 1\n")),
    "run's own recipe broken": Case(["verify", "--run", "r"], ("r/recipe.json: line 1",), file("r/recipe.json", "{")),
    "T < N": Case([*PLAN, "--steps", "5", "--eaai-steps", "9"], ("eaai_steps 9 exceeds steps 5",)),
    "steps 0": Case([*PLAN, "--steps", "0"], ("train_rl.steps", "(got 0)")),
    "G < 2": Case([*PLAN, "--set", "train_rl.group_size=1"], ("train_rl.group_size", "(got 1)")),
    "micro_tokens": Case([*PLAN, "--set", "train_rl.micro_tokens=0"], ("train_rl.micro_tokens",)),
    "unknown schedule": Case([*PLAN, "--schedule", "quadratic"], ("train_rl.schedule", "'quadratic'", "'cosine'")),
    "unknown mode": Case(["eval", "--run", "r", "--mode", "both"], ("eval.modes", "'both'", "'routed_hidden'")),
    "unknown eval split": Case(["eval", "--run", "r", "--split", "train"], ("eval.split", "'train'")),
    "unknown kind in the mix": Case([*DISTILL, "--set", "distill.mix={guided: 1, critic: 1}"], ("distill.mix", "critic", "lemma")),
    "recipe nested without end": Case([*PLAN, "--recipe", "x.yaml"], ("x.yaml: line 1 nested too deeply",), file("x.yaml", "[" * 5000)),
    "recipe with an object's tag": Case([*PLAN, "--recipe", "x.yaml"], ("x.yaml: line 1", "mend the YAML"), file("x.yaml", "name: !!python/object/apply:os.system [id]\n")),
    "recipe with an impossible date": Case([*PLAN, "--recipe", "x.yaml"], ("x.yaml:", "mend the YAML"), file("x.yaml", "name: 2026-99-99\n")),
    "recipe with a list as a key": Case([*PLAN, "--recipe", "x.yaml"], ("x.yaml:", "mend the YAML"), file("x.yaml", "? [a]\n: b\n")),
    "recipe named out of runs": Case([*PLAN, "--set", "name=../../x"], ("name: names a folder in runs/", "(got '../../x')")),
    "recipe with NaN": Case([*PLAN, "--set", "distill.mix={guided: .nan}"], ("distill.mix.guided: input should be a finite number",)),
    "recipe with infinity": Case([*PLAN, "--set", "train_rl.lr=.inf"], ("train_rl.lr: input should be a finite number",)),
    "recipe of two megabytes": Case([*PLAN, "--recipe", "x.yaml"], ("x.yaml: longer than 100000 characters",), file("x.yaml", "# x\n" * 600_000)),
    "--set nested without end": Case([*PLAN, "--set", "seed=" + "[" * 5000], ("--set seed=", "not valid YAML")),
    # models and teachers
    "model with a NUL": Case([*ROLLOUT, "-m", "a\x00b"], ("a\\x00b: unknown", "The forms are")),
    "model's name without end": Case([*ROLLOUT, "-m", "a" * 5000], ("unknown", "The forms are")),
    "model of nobody": Case([*ROLLOUT, "-m", "~nobody0/x"], ("~nobody0/x: no such folder",)),
    "password in the URL": Case([*ROLLOUT, "-m", "openai:http://a:b@127.0.0.1:9/v1#m"], ("holds a password or key", "REALM_API_KEY")),
    "teacher nested without end": Case([*DISTILL, "--teacher", "jsonl:t.jsonl"], ("t.jsonl:1: not JSON",), file("t.jsonl", "[" * 100_000)),
    "unknown model": Case([*ROLLOUT, "-m", "tiny-studen"], ("tiny-studen", "tiny-student")),
    "unknown hub-less model": Case([*ROLLOUT, "-m", "./no/folder"], ("./no/folder", "no such folder")),
    "unknown kind": Case([*ROLLOUT, "-m", "opnai:http://x/v1#m"], ("opnai", "openai:")),
    "unknown solver": Case([*ROLLOUT, "-m", "solver:hastyy"], ("solver:hastyy", "solver:hasty?")),
    "solver without domain": Case(["rollout", "--run", "n", *P, "-m", "solver:hasty"], ("solver:hasty: needs a built-in domain",), splits("train")),
    "model twice": Case([*ROLLOUT, "-m", "solver:hasty"], ("named twice", "solver:hasty")),
    "model folder without config": Case([*ROLLOUT, "-m", "hf:d"], ("model d", "config.json")),
    "gguf missing": Case([*ROLLOUT, "-m", "hf:no.gguf"], ("no.gguf: no such file",)),
    "unknown domain": Case(["domain", "rulebok"], ("'rulebok'", "rulebook")),
    "domain would overwrite": Case(["domain", "rulebook", "--out", "d"], ("d/problems.jsonl: exists", "--force")),
    "unknown teacher": Case([*DISTILL, "--teacher", "oracel"], ("oracel", "oracle")),
    "teacher without a file": Case([*DISTILL, "--teacher", "jsonl:no.jsonl"], ("no.jsonl", "no such file")),
    "teacher with a broken line": Case([*DISTILL, "--teacher", "jsonl:t.jsonl"], ("t.jsonl:2: not JSON",), file("t.jsonl", '{"id": "a", "text": "x"}\n{"id": \n')),
    "teacher of other problems": Case([*DISTILL, "--teacher", "jsonl:t.jsonl"], ("t.jsonl: no row for any",), file("t.jsonl", '{"id": "a", "text": "x"}\n')),
    "teacher always wrong": Case([*DISTILL, "--teacher", "jsonl:t.jsonl"], ("CoTs were dropped", "wrong answer"), lambda: write_rows(Path("t.jsonl"), [{"id": r["id"], "text": "1. no\nAnswer: -1"} for r in rows(Path("d/problems.jsonl"))])),
    "dead server": Case([*ROLLOUT, "-m", "openai:http://127.0.0.1:9/v1#m"], ("127.0.0.1:9", "start the server")),
    "dead teacher": Case([*DISTILL, "--teacher", "openai:http://127.0.0.1:9/v1#m"], ("127.0.0.1:9", "start the server")),
    "openai with half an address": Case([*ROLLOUT, "-m", "openai:http://[bad/v1#m"], ("expected openai:URL#MODEL",)),
    "openai with a port that is none": Case([*ROLLOUT, "-m", "openai:http://h:99999/v1#m"], ("expected openai:URL#MODEL",)),
    "openai without model": Case([*ROLLOUT, "-m", "openai:http://127.0.0.1:9/v1"], ("expected openai:URL#MODEL",)),
    "adapter folder missing, train-rl": Case(["train-rl", "--run", "r", "--adapter", "no/adapter"], ("no/adapter: no adapter_config.json",)),
    "adapter without config, train-rl": Case([*PLAN, "--adapter", "d"], ("d: no adapter_config.json", "--adapter none")),
    "adapter folder missing, eval": Case(["eval", "--run", "r", "--adapter", "x=no/adapter"], ("no/adapter", "adapter_config.json")),
    "adapter on a program": Case(["rollout", "--run", "n", "--problems", "d/problems.jsonl", "-m", "student", "--adapter", "no/adapter"], ("no/adapter",)),
    "adapter label twice": Case(["eval", "--run", "r", "-a", "x=a1", "-a", "x=a2"], ("label 'x' is taken",), lambda: [file(f"a{n}/adapter_config.json", "{}")() for n in (1, 2)]),
    "model twice, eval": Case(["eval", "--run", "r", "-m", "x/y", "-m", "x/y"], ("--model x/y: named twice",)),
    "nothing to evaluate": Case(["eval", "--run", "r", "--no-base"], ("nothing to evaluate",)),
    # routes, sets, rules
    "routes missing": Case(["verify", "--run", "n", "--problems", "d/problems.jsonl"], ("n/rollout/routes.jsonl: not found", "realm rollout")),
    "routes empty": Case(X, ("x.jsonl: no rows",), file("x.jsonl")),
    "route nested without end": Case(X, ("x.jsonl:1:",), file("x.jsonl", "[" * 100_000 + "\n")),
    "route with NaN": Case(X, ("x.jsonl:1:",), file("x.jsonl", '{"id": NaN}\n')),
    "route of ten megabytes": Case(X, ("x.jsonl:1: broken JSON",), file("x.jsonl", '{"id": "' + "a" * 10_000_000 + "\n")),
    "broken route": Case(X, ("x.jsonl:1: broken JSON",), file("x.jsonl", "{]\n")),
    "no positives": Case(X, ("x.jsonl: no route is correct",), routes(lambda r: [x for x in r if not x["correct"]])),
    "no negatives": Case(X, ("x.jsonl: every route is correct",), routes(lambda r: [x for x in r if x["correct"]])),
    "route of an unknown problem": Case(X, ("x.jsonl:1: problem 'zz' is not among",), routes(lambda r: [{**r[0], "problem_id": "zz"}, *r])),
    "doubled route id": Case(X, ("stands twice", "x.jsonl:2"), routes(lambda r: [r[0], *r])),
    "routes for routed eval missing": Case(["eval", "--run", "n", "--problems", "d/problems.jsonl"], ("eval: routed modes need routes", "--mode bare")),
    "eval routes missing": Case(["eval", "--run", "r", "--routes", "no.jsonl"], ("no.jsonl",)),
    "positives missing": Case([*DISTILL, "--positives", "no.jsonl"], ("no.jsonl: not found",)),
    "sets missing": Case([*PLAN, "--sets", "no.jsonl"], ("no.jsonl",)),
    "sets empty": Case([*PLAN, "--sets", "x.jsonl"], ("x.jsonl: no route set for any training problem",), file("x.jsonl")),
    "refine before distill": Case(["refine", "--run", "n"], ("n/distill/adapter: no adapter_config.json", "run `realm distill` first")),
    "refine before verify": Case(["refine", "--run", "n", "--adapter", "a1"], ("n/verify/sets.jsonl: not found", "realm verify"), file("a1/adapter_config.json", "{}")),
    "sets never made": Case(["train-rl", "--run", "n", "--problems", "d/problems.jsonl", "--plan-only"], ("train-rl: no route sets", "realm verify")),
    "rules missing": Case([*DISTILL, "--rules", "no.md"], ("no.md: rules file not found",)),
    "rules empty": Case([*DISTILL, "--rules", "x.md"], ("x.md: rules file is empty",), file("x.md", " \n")),
    "rules a folder": Case([*DISTILL, "--rules", "d"], ("d: rules file cannot be read",)),
    "notes not UTF-8": Case([*DISTILL, "--notes", "x.md"], ("x.md: notes file cannot be read",), file("x.md", b"\xff\xfe")),
    # run folders
    "stage filled": Case(["verify", "--run", "r"], ("r/verify: already holds a verify stage", "--resume", "--force")),
    "resume with another recipe": Case(["verify", "--run", "r", "--resume", "--set", "verify.k=3"], ("r/verify: made with another recipe", "verify.k: 4 -> 3")),
    "a run that wants a model's code": Case(["verify", "--run", "r", "--force"], ("r/recipe.json: lets code that comes with", "--set student.trust_remote_code=true"), edit("r/recipe.json", '"trust_remote_code": false', '"trust_remote_code": true')),
    "resume with another seed": Case(["verify", "--run", "r", "--resume", "--set", "seed=9"], ("seed: 0 -> 9",)),
    "rollout with another temperature": Case([*ROLLOUT[:2], "r", *ROLLOUT[3:], "--set", "rollout.temperature=0.1"], ("r/rollout: made with another recipe", "rollout.temperature: 0.7 -> 0.1")),
    "manifest nested without end": Case(["verify-run", "r"], ("r/verify/manifest.json: not a manifest", "--force"), file("r/verify/manifest.json", '{"a":' * 100_000)),
    "manifest of numbers": Case(["verify", "--run", "r", "--resume"], ("r/verify/manifest.json: not a manifest, its inputs is odd", "--force"), file("r/verify/manifest.json", '{"inputs": 5}')),
    "routes behind a link": Case([*ROLLOUT, "--problems", "d/problems.jsonl"], ("n/rollout/routes.jsonl: is a link",), lambda: (Path("n/rollout").mkdir(parents=True), Path("n/rollout/routes.jsonl").symlink_to(Path("d/rules.md").resolve()))),
    "resume with another input": Case(["verify", "--run", "r", "--resume"], ("r/verify: its input routes (r/rollout/routes.jsonl) has changed",), edit("r/rollout/routes.jsonl", "solver:hasty", "solver:hastz")),
    "--force on a folder of other things": Case(["verify", "--run", "n", "--problems", "d/problems.jsonl", "--routes", "r/rollout/routes.jsonl", "--force"], ("n/verify: holds no manifest.json of a stage",), file("n/verify/thesis.txt", "x")),
    "run below a file": Case(["verify", "--run", "f/n", "--problems", "d/problems.jsonl", "--routes", "r/rollout/routes.jsonl"], ("f/n",), file("f", "x")),
    "run is a file": Case([*ROLLOUT[:2], "f", *ROLLOUT[3:], "--problems", "d/problems.jsonl"], ("f/",), file("f", "x")),
    "stage is a file": Case(["distill", "--run", "r", "--data-only"], ("r/distill",), file("r/distill", "x")),
    "domain below a file": Case(["domain", "rulebook", "--out", "f"], ("f/problems.jsonl: cannot be written",), file("f", "x")),
    # usage
    "limit 0": Case([*ROLLOUT, "--limit", "0"], ("--limit", "greater than or equal to 1. See"), code=2),
    "n 0": Case(["eval", "--run", "r", "--n", "0"], ("--n", "greater than or equal to 1"), code=2),
    "unknown option": Case([*ROLLOUT, "--modle", "x"], ("--modle",), code=2),
    "unknown command": Case(["rolout"], ("rolout",), code=2),
    "steps not a number": Case([*PLAN, "--steps", "ten"], ("--steps", "valid integer"), code=2),
    "option without a value": Case(["verify", "--run"], ("--run",), code=2),
    "stray argument": Case(["verify", "stray"], ("stray",), code=2),
}  # fmt: skip


def test_the_table_is_long_enough() -> None:
    assert len(CASES) >= 60


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_bad_input(case: Case, world: Path, realm: Realm, monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("_QUIET_SECONDS", "_WORTH_SECONDS"):  # no line of progress on a busy machine
        monkeypatch.setattr(console, limit, 1e9)
    case.prepare()
    before = snapshot(world)
    result = realm(*case.args)
    assert result.code == case.code, result.err
    assert len(result.lines) == 1, result.err
    (line,) = result.lines
    assert line.startswith("usage: " if case.code == 2 else "error: ")
    for part in case.says:
        assert part in line
    assert "Traceback" not in result.err + result.out
    assert result.out == ""
    after = snapshot(world)
    assert {name: after.get(name) for name in before} == before


def test_no_command_shows_the_help_and_is_a_usage_error(realm: Realm) -> None:
    result = realm()
    assert result.code == 2
    assert "Usage: realm [OPTIONS] COMMAND [ARGS]..." in result.err
    assert "realm rollout -> verify -> distill -> refine" in " ".join(result.err.split())
