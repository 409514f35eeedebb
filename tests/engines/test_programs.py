"""The oracle, the noisy solvers, replayed text, and the specs that name generators."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from realm_cli.domains import load_domain
from realm_cli.engines.build import FORMS, build_generator
from realm_cli.engines.programs import JsonlGenerator, ProgramGenerator, oracle_generator, solver_generator
from realm_cli.errors import ConfigError, DataError, EngineError
from realm_cli.protocols import Generator, GenRequest, SamplingParams
from realm_cli.recipe import DataConfig, Recipe
from realm_cli.records import Problem

DOMAIN = Recipe(data=DataConfig(domain="rulebook"))
PROBLEMS = [Problem.model_validate(row) for row in load_domain("rulebook").generate(6, 2, 2, seed=0)][:4]
REQUESTS = [GenRequest(problem.id, [], n=3, problem=problem) for problem in PROBLEMS]


def texts(generator: Generator, requests: list[GenRequest] = REQUESTS, seed: int = 0) -> list[list[str]]:
    done = dict(generator.generate(requests, SamplingParams(seed=seed)))
    return [[completion.text for completion in done[i]] for i in sorted(done)]


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_oracle_gives_the_right_solution_each_time() -> None:
    oracle = oracle_generator("rulebook")
    right = [load_domain("rulebook").oracle_solution(problem.question) for problem in PROBLEMS]
    assert oracle.name == "oracle"
    assert texts(oracle) == [[text] * 3 for text in right]
    completion = next(iter(oracle.generate(REQUESTS[:1], SamplingParams())))[1][0]
    assert completion.n_tokens == len(right[0].split()) and not completion.truncated


def test_solver_samples_depend_on_seed_key_and_sample_only() -> None:
    solver = solver_generator("rulebook", "hasty")
    first = texts(solver)
    assert solver.name == "solver:hasty"
    assert first == texts(solver) == texts(solver, list(reversed(REQUESTS)))[::-1]
    assert first != texts(solver, seed=1)
    continued = [GenRequest(r.key, [], n=1, problem=r.problem, first_sample=2) for r in REQUESTS]
    assert texts(solver, continued) == [[row[2]] for row in first]


def test_program_errors() -> None:
    with pytest.raises(EngineError, match="echo: request q1 carries no problem; programs cannot read prompts"):
        texts(ProgramGenerator("echo", lambda problem, rng: problem.question), [GenRequest("q1", [])])
    with pytest.raises(ConfigError, match=r"solver:hastie: unknown in domain rulebook; did you mean solver:hasty\?"):
        solver_generator("rulebook", "hastie")
    with pytest.raises(ConfigError, match="solver:zzz: unknown in domain rulebook; known are forgetful, generalist"):
        solver_generator("rulebook", "zzz")


def test_jsonl_replays_rows_in_order(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.jsonl",
        {"problem_id": PROBLEMS[0].id, "text": "one"},
        "\n",
        {"id": PROBLEMS[1].id, "completion": "other words"},
        {"id": "row-3", "problem_id": PROBLEMS[0].id, "text": "two", "source": "x"},
    )
    generator = JsonlGenerator(path)
    assert generator.name == f"jsonl:{path}"
    assert texts(generator) == [["one", "two"], ["other words"], [], []]
    rest = [GenRequest(PROBLEMS[0].id, [], n=2, problem=PROBLEMS[0], first_sample=1)]
    assert texts(generator, rest) == [["two"]]
    by_key = [GenRequest(f"{PROBLEMS[1].id}/label", [], problem=PROBLEMS[1]), GenRequest(PROBLEMS[1].id, [])]
    assert texts(generator, by_key) == [["other words"], ["other words"]]
    assert texts(generator, []) == []
    generator.expect([PROBLEMS[3].id, PROBLEMS[1].id])  # one of them will do
    generator.expect([])


def test_a_written_text_that_begins_inside_a_thought_gets_its_tag(tmp_path: Path) -> None:
    file = tmp_path / "texts.jsonl"
    texts = ["1. a\n</think>\n<answer>4</answer>", "<think>\n1. a\n</think>\n<answer>4</answer>", "Answer: 4"]
    file.write_text("".join(json.dumps({"problem_id": "p", "text": text}) + "\n" for text in texts))
    ((_, done),) = JsonlGenerator(file).generate([GenRequest("p", [], n=3)], SamplingParams())
    assert [c.text for c in done] == [texts[1], texts[1], "Answer: 4"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{broken\n", r"x.jsonl:2: not JSON .*; each line is an object with problem_id and text"),
        ("[1]\n", "x.jsonl:2: not an object"),
        ('{"text": "a"}\n', "x.jsonl:2: no problem_id; name the problem that the text answers"),
        ('{"id": true, "text": "a"}\n', "x.jsonl:2: no problem_id"),
        ('{"id": "p"}\n', "x.jsonl:2: no text; give the completion as a string"),
        ('{"id": "p", "text": 3}\n', "x.jsonl:2: no text"),
    ],
)
def test_jsonl_errors_name_file_and_line(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        JsonlGenerator(write(tmp_path / "x.jsonl", {"id": "p", "text": "fine"}, line))


def test_jsonl_that_fits_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"no row for any of the 4 problems, e.g. {PROBLEMS[0].id}; check problem_id"):
        JsonlGenerator(write(tmp_path / "x.jsonl", {"id": "p", "text": "fine"})).expect([p.id for p in PROBLEMS])
    with pytest.raises(DataError, match=r"x.jsonl: empty; each line"):
        JsonlGenerator(write(tmp_path / "x.jsonl", "\n"))
    with pytest.raises(ConfigError, match=r"jsonl:.*none.jsonl: no such file; check the path"):
        JsonlGenerator(tmp_path / "none.jsonl")
    (tmp_path / "latin.jsonl").write_bytes(b'{"id": "p", "text": "\xff"}\n')
    with pytest.raises(DataError, match=r"latin.jsonl: cannot be read \(UnicodeDecodeError\)"):
        JsonlGenerator(tmp_path / "latin.jsonl")


def test_specs_of_programs(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", {"id": "p", "text": "fine"})
    assert build_generator("oracle", DOMAIN).name == "oracle"
    assert build_generator("solver:misreader", DOMAIN).name == "solver:misreader"
    assert build_generator(f"jsonl:{path}", Recipe()).name == f"jsonl:{path}"
    assert build_generator("openai:http://host:8000/v1#a/b", Recipe()).name == "openai:host:8000#a/b"
    with pytest.raises(ConfigError, match="the URL holds a password or key"):
        build_generator("openai:http://u:pw@host:8000/v1#a/b", Recipe())


def test_specs_of_local_models(model_dir: Path) -> None:
    recipe = Recipe.model_validate({"student": {"model": str(model_dir)}, "engine": {"device": "cpu", "batch_rows": 3}})
    for spec in ("student", str(model_dir), f"hf:{model_dir}"):
        generator = build_generator(spec, recipe)
        assert generator.name == f"hf:{model_dir}"
        assert generator.batch_rows == 3


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("studnet", rf"model studnet: unknown; did you mean student\? The forms are {FORMS[:20]}"),
        ("tinystudent", r"model tinystudent: unknown; did you mean tiny-student\?"),
        ("qqq", r"model qqq: unknown; The forms are student, MODEL, hf:MODEL"),
        ("sover:hasty", r"model sover:hasty: unknown form; did you mean solver:hasty\? The forms are"),
        ("http://host/v1", r"model http://host/v1: unknown form; The forms are"),
        ("solver:", r"model solver:: nothing after the colon"),
        ("hf:", r"model hf:: incomplete; the forms are"),
        ("student+", r"model student\+: incomplete"),
        ("openai:host#m", r"expected openai:URL#MODEL, e.g. openai:http://localhost:8000/v1#my-model"),
        ("openai:http://host/v1", r"expected openai:URL#MODEL"),
        ("./nowhere", r"model ./nowhere: no such folder; give a folder with config.json, or a hub id \(org/name\)"),
        ("a.gguf", r"model a.gguf: no such file; check the path"),
    ],
)
def test_wrong_specs(spec: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_generator(spec, DOMAIN)


def test_specs_that_do_not_fit_the_recipe(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="model oracle: needs a built-in domain; set data.domain=rulebook"):
        build_generator("oracle", Recipe())
    with pytest.raises(ConfigError, match="model oracle: takes no adapter; adapters go onto local models"):
        build_generator("oracle", DOMAIN, adapter=tmp_path)
    with pytest.raises(ConfigError, match=r"names an adapter, and .* is given too; keep one"):
        build_generator("student+x", DOMAIN, adapter=tmp_path)
    with pytest.raises(EngineError, match=r"no adapter_config.json; give a folder that a trainer saved"):
        build_generator(f"adapter:{tmp_path}", DOMAIN)


def test_programs_do_not_import_torch() -> None:
    code = (
        "import sys\n"
        "from realm_cli.engines.build import build_generator\n"
        "from realm_cli.recipe import DataConfig, Recipe\n"
        "build_generator('oracle', Recipe(data=DataConfig(domain='rulebook')))\n"
        "heavy = {'torch', 'transformers', 'openai'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})
