"""realm init, import and check, as somebody with a table of cases uses them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.helpers import Realm, rows, write_rows
from realm_cli.recipe import load_recipe

CSV = "case;result;part\n" + "".join(
    f"Case {i}: who pays {i}?;{'yes' if i % 3 else 'no'};{'test' if i > 20 else 'train'}\n" for i in range(30)
)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_table_becomes_problems(place: Path, realm: Realm) -> None:
    Path("cases.csv").write_text(CSV + ";no;train\nCase 1: who pays 1?;no;train\n")
    words = [
        "import",
        "cases.csv",
        "-q",
        "case",
        "-a",
        "result",
        "--split",
        "part",
        "--dev",
        "0",
        "-o",
        "d/problems.jsonl",
    ]
    result = realm(*words, "--preview")
    assert result.code == 0 and not Path("d").exists()
    result = realm(*words)
    assert (result.code, result.err) == (0, "")
    out = " ".join(result.out.split())
    assert "columns are divided by ';'" in out and "answer type label: 2 different answers: no, yes" in out
    assert "cases-000001 (train): Case 0: who pays 0? -> no" in out
    assert "left out 1 row: empty question, e.g. line 32" in out and "next: realm check d/problems.jsonl" in out
    problems = rows(Path("d/problems.jsonl"))
    assert len(problems) == 30 and {p["split"] for p in problems} == {"train", "test"}
    assert [row["reason"] for row in rows(Path("d/rejects.jsonl"))] == [
        "empty question", "a question again, with another answer: that of line 3 (yes)",
    ]  # fmt: skip
    drawn = realm(*[word for word in words if word not in ("--split", "part")], "--preview")
    assert "column part has split names only: --split part keeps them" in " ".join(drawn.out.split())
    again = realm(*words)
    assert again.code == 1 and "d/problems.jsonl: exists; add --force" in again.err
    data = json.loads(realm(*words, "--force", "--json").out)
    assert (data["problems"], data["rejected"], data["splits"]) == (30, 2, {"train": 21, "dev": 0, "test": 9})


def test_parquet_and_folders_are_read(place: Path, realm: Realm) -> None:
    from datasets import Dataset

    Dataset.from_list([{"q": f"how many {i}?", "a": i} for i in range(12)]).to_parquet("x.parquet")
    assert realm("import", "x.parquet", "-q", "q", "-a", "a", "--dev", "0.2").code == 0
    assert [p["answer"] for p in rows(Path("problems.jsonl"))] == [str(i) for i in range(12)]
    Path("hub").mkdir()
    for split in ("train", "test"):
        write_rows(Path("hub") / f"{split}.jsonl", [{"q": f"{split} {i}?", "a": i} for i in range(4)])
    for n, split in enumerate((["--split", "split"], [])):  # a dataset's own splits are kept without being asked for
        assert realm("import", "hub", "-q", "q", "-a", "a", *split, "--dev", "0", "-o", f"y{n}.jsonl").code == 0
        assert sorted(p["split"] for p in rows(Path(f"y{n}.jsonl"))) == ["test"] * 4 + ["train"] * 4


def test_what_is_read_is_never_written_over(place: Path, realm: Realm) -> None:
    """Rejects that were mended by hand are imported from where they lie."""
    write_rows(Path("rejects.jsonl"), [{"q": f"how many {i}?", "a": i} for i in range(12)])
    before = Path("rejects.jsonl").read_bytes()
    for force in ([], ["--force"]):
        result = realm("import", "rejects.jsonl", "-q", "q", "-a", "a", *force)
        assert result.code == 1 and "rejects.jsonl: is read here and would be written; choose an --out" in result.err
    assert Path("rejects.jsonl").read_bytes() == before and not Path("problems.jsonl").exists()
    write_rows(Path("x.jsonl"), [{"q": "how many?", "a": 1}])
    result = realm("import", "x.jsonl", "-q", "q", "-a", "a")
    assert result.code == 1 and "rejects.jsonl: exists; add --force" in result.err
    assert realm("import", "x.jsonl", "-q", "q", "-a", "a", "-o", "other.jsonl").code == 0  # has rejects of its own
    write_rows(Path("x.jsonl"), [{"q": "how many?", "a": 1}, {"q": "", "a": 2}])
    assert realm("import", "x.jsonl", "-q", "q", "-a", "a", "-o", "third.jsonl").code == 0
    assert [row["reason"] for row in rows(Path("third.rejects.jsonl"))] == ["empty question"]
    assert Path("rejects.jsonl").read_bytes() == before


def test_written_solutions_become_a_teacher(place: Path, realm: Realm) -> None:
    """A column of solutions, or a text of columns; the answer's line is added where the text does not state it."""
    rows_ = [f"How many are {i} and {i}?,{2 * i},{i} + {i} = {2 * i},{i}" for i in range(1, 41)]
    Path("x.csv").write_text("q,a,why,n\n" + "\n".join([*rows_, "How many are 50 and 50?,100,,50"]) + "\n")
    result = realm("import", "x.csv", "-q", "q", "-a", "a", "--solution", "why", "-o", "d/problems.jsonl")
    assert "40 written solutions: --teacher jsonl:d/problems.jsonl teaches them" in " ".join(result.out.split())
    first = rows(Path("d/problems.jsonl"))[0]
    assert first["gold_solution"] == "1 + 1 = 2\nAnswer: 2"
    taught = ["--teacher", "jsonl:d/problems.jsonl", "--set", "distill.min_steps=1", "--set", "distill.nll_drop=0"]
    assert realm("distill", "--run", "r", "--problems", "d/problems.jsonl", *taught, "--data-only").code == 0
    kept = [row for row in rows(Path("r/distill/guided.jsonl")) if row["kept"]]
    assert kept and all(row["correct"] and len(row["steps"]) == 1 for row in kept)
    text = "First there is {n}.\\nSo it is {a}.\\nAnswer: {a}"
    assert realm("import", "x.csv", "-q", "q", "-a", "a", "--solution", text, "-o", "e/problems.jsonl").code == 0
    assert rows(Path("e/problems.jsonl"))[0]["gold_solution"] == "First there is 1.\nSo it is 2.\nAnswer: 2"
    missing = realm("import", "x.csv", "-q", "q", "-a", "a", "--solution", "{m}", "-o", "f/problems.jsonl")
    assert missing.code == 1 and "--solution m: x.csv has no such column; it has q, a, why, n" in missing.err
    assert realm("import", "x.csv", "-q", "q", "-a", "a", "-o", "g/problems.jsonl").code == 0
    none = realm(
        "distill", "--run", "s", "--problems", "g/problems.jsonl", "--teacher", "jsonl:g/problems.jsonl", "--data-only"
    )
    assert none.code == 1 and "none of the 41 problems has a solution; import them with --solution COLUMN" in none.err
    assert "or name a teacher that writes them (--teacher; TEACHER of pipeline.sh)" in none.err


def test_what_is_left_of_the_sample_is_said(place: Path, realm: Realm) -> None:
    assert realm("init", "mine").code == 0
    write_rows(Path("mine/problems.jsonl"), [problem(i) for i in range(300)])
    out = " ".join(realm("check", "mine").out.split())
    assert "warning mine/rules.md: still the sample's, about parcels" in out and "mine/notes.md: still" in out
    assert "mine/teacher.jsonl, mine/routes-a.jsonl, mine/routes-b.jsonl: for other problems than these" in out
    for name in ("teacher.jsonl", "routes-a.jsonl", "routes-b.jsonl"):
        Path("mine", name).unlink()
    Path("mine/rules.md").write_text("Count.\n")
    Path("mine/notes.md").write_text("")
    checked = json.loads(realm("check", "mine", "--json").out)
    assert (checked["errors"], checked["warnings"]) == (0, 0)


def test_repeated_questions_are_told_apart_from_empty_ones(place: Path, realm: Realm) -> None:
    Path("x.csv").write_text("q,a\nwho?,1\nwhat?,2\nwho?,1\nwhat?,2\n")
    out = " ".join(realm("import", "x.csv", "-q", "q", "-a", "a", "--preview").out.split())
    assert "left out 2 rows: a question again, with the same answer, e.g. line 4: that of line 2" in out
    Path("x.csv").write_text("q,a,s\nwho?,1,test\nwhat?,2,train\nwho?,1,train\n")
    out = " ".join(realm("import", "x.csv", "-q", "q", "-a", "a", "--split", "s", "--preview").out.split())
    assert "a question again, with the same answer, in train (that one is in test), e.g. line 4: that of line 2" in out


def test_rules_that_are_named_have_to_be_there(place: Path, realm: Realm) -> None:
    write_rows(Path("problems.jsonl"), [problem(i) for i in range(30)])
    result = realm("check", "problems.jsonl", "--rules", "rulez.md")
    assert result.code == 1 and "ERROR rulez.md: no such file; check --rules" in " ".join(result.out.split())


def test_published_tables_are_imported(data_dir: Path, place: Path, realm: Realm) -> None:
    """The commands of docs/your-domain.md, on the data."""
    shutil.copytree(data_dir, "data")

    def imported(*words: str) -> Any:
        result = realm("import", *words, "--json")
        assert (result.code, result.err) == (0, "")
        return json.loads(result.out)

    def checked(*words: str) -> Any:
        data = json.loads(realm("check", *words, "--json").out)
        assert data["errors"] == 0
        return " ".join(finding["text"] for finding in data["findings"])

    legal = "data/legalbench-diversity"
    found = imported(f"{legal}/diversity_1.tsv", "-q", "text", "-a", "label", "-o", "legal/problems.jsonl")
    assert (found["problems"], found["rejected"], found["answer_type"]) == (300, 0, "label")
    said = checked("legal/problems.jsonl", "--rules", f"{legal}/README_diversity_4.md")
    assert 'always saying "no" is right on 78% of train' in said
    air = "data/rulearena-airline"
    found = imported(f"{air}/comp_0.jsonl", "-q", "prompt", "-a", "answer", "--test", "0.5", "-o", "air/problems.jsonl")
    assert (found["problems"], found["rejected"], found["answer_type"]) == (100, 0, "number")
    assert found["splits"] == {"train": 41, "dev": 11, "test": 48}
    assert "2291 words of rules" in checked("air/problems.jsonl", "--rules", f"{air}/reference_rules.txt")
    found = imported("data/gsm8k", "-q", "question", "-a", "answer", "-o", "gsm8k/problems.jsonl")
    assert (found["problems"], found["rejected"], found["answer_type"]) == (8792, 0, "number")
    assert found["splits"]["test"] == 1319 and found["splits"]["dev"] > 600
    assert "every answer is read as its type (8792 number)" in checked("gsm8k")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["none.csv", "-q", "q", "-a", "a"], "none.csv: not found; check the path"),
        (
            ["cases.csv", "-q", "text", "-a", "result"],
            "--question text: cases.csv has no such column; it has case, result",
        ),
        (
            ["cases.csv", "-q", "case", "-a", "result", "--answer-type", "number"],
            "none of the 30 rows can be used, e.g. line 2",
        ),
        (["broken.parquet", "-q", "q", "-a", "a"], "broken.parquet: cannot be read"),
        (["cases.csv", "-q", "case", "-a", "result", "--test", "1"], "--dev and --test: shares from 0 on"),
    ],
)
def test_import_says_what_is_wrong(args: list[str], says: str, place: Path, realm: Realm) -> None:
    Path("cases.csv").write_text(CSV)
    Path("broken.parquet").write_bytes(b"PAR1 no")
    result = realm("import", *args)
    assert result.code == 1 and says in result.err and len(result.lines) == 1 and result.out == ""
    assert not Path("problems.jsonl").exists()


def problem(i: int, **changes: Any) -> dict[str, Any]:
    split = ("train", "dev", "test")[i % 3]
    return {"id": f"p{i}", "question": f"How many are {i} things?", "answer": str(i), "answer_type": "number",
            "split": split, **changes}  # fmt: skip


LONG = "the landlord shall give notice of at least thirty days before any entry into the rented rooms"
TWICE = {"question": "How many are 0 things?"}
FOUND: dict[str, tuple[list[dict[str, Any]], str, int]] = {
    "fine": ([], "ok 300 problems, each with an id of its own", 0),
    "doubled id": ([problem(301, id="p1")], "ERROR 1 ids stand twice, e.g. p1", 1),
    "odd answer": ([problem(301, answer="many")], "ERROR 1 answers cannot be read as their type, e.g. p301: 'many'", 1),
    "no choices": ([problem(301, answer_type="choice")], "ERROR 1 answers cannot be read as their type", 1),
    "unknown type": ([problem(301, answer_type="x")], "ERROR answer_type 'x' is unknown", 1),
    "two splits": ([problem(301, **TWICE, split="test")], "ERROR 1 questions stand in two splits", 1),
    "two answers": ([problem(303, **TWICE)], "warning 1 questions have two different answers, e.g. p0 and p303", 0),
    "one answer": ([problem(3 * i, id=f"x{i}", question=f"What is {i}?", answer="7") for i in range(300)],
        'warning always saying "7" is right on 75% of train', 0),
    "shared words": ([problem(303, question=f"{LONG} a?"), problem(302, question=f"{LONG} b?")],
        "warning 1 of 101 test questions share 13 words in a row with a training one, e.g. p302 and p303", 0),
    "long": ([problem(303, question="w " * 5000)], "warning 1 questions have over 8000 characters", 0),
    "rules by name": ([problem(303, gold_solution="1. By R4 it is 303.\n303"), problem(306, gold_solution="1. 306")],
        "warning 1 of 2 written solutions speak of the rules, e.g. p303 (rule id); `realm distill` leaves them out", 0),
    "other result": ([problem(303, gold_solution="1. 300 + 3 = 999.\nAnswer: 303")],
        "warning 1 of 1 written solutions end in another number than their answer, e.g. p303: 999 and 303; mend", 0),
    "idle rules": ([problem(303, rule_ids=["R1"])], "warning rules.md: no problem needs 1 of 2 rules, e.g. R2", 0),
    "unknown rules": ([problem(303, rule_ids=["R9"])], "warning rules.md: problems name rules that it lacks", 0),
}  # fmt: skip


@pytest.mark.parametrize("case", FOUND.values(), ids=FOUND)
def test_check_finds_it(case: tuple[list[dict[str, Any]], str, int], place: Path, realm: Realm) -> None:
    more, says, code = case
    write_rows(Path("problems.jsonl"), [*(problem(i) for i in range(300)), *more])
    Path("rules.md").write_text("# Rules\n\nR1 count\nR2 add\n")
    result = realm("check", ".")
    assert (result.code, result.err) == (code, "")
    assert says in " ".join(result.out.split())


def test_check_finds_solutions_that_are_too_short_for_the_recipe(place: Path, realm: Realm) -> None:
    steps = ["1. 1 + 1 = 2.", "1. 1 + 1 = 2.\n2. 2 + 1 = 3."]
    rows_ = [problem(i, gold_solution=f"{steps[i % 2]}\nAnswer: {i}") for i in range(12)]
    write_rows(Path("problems.jsonl"), rows_)
    Path("recipe.yaml").write_text("distill: {min_steps: 2}\n")
    Path("rules.md").write_text("Count.\n")
    says = "warning 2 of 4 written solutions have fewer than 2 steps, e.g. p0; `realm distill` leaves them out: change"
    assert f"{says} distill.min_steps in recipe.yaml" in " ".join(realm("check", ".").out.split())
    Path("recipe.yaml").write_text("distill: {min_steps: 1, max_steps: 1}\n")
    assert "2 of 4 written solutions have more than 1 steps, e.g. p3" in " ".join(realm("check", ".").out.split())
    Path("recipe.yaml").write_text("distill: {min_steps: 1}\n")
    assert "written solutions have" not in realm("check", ".").out


FILES: dict[str, tuple[Callable[[], object], str]] = {
    "no problems": (lambda: Path("problems.jsonl").unlink(), "ERROR problems.jsonl: not found"),
    "broken problems": (lambda: Path("problems.jsonl").write_text("{"), "ERROR problems.jsonl:1"),
    "empty problems": (lambda: Path("problems.jsonl").write_text(""), "ERROR problems.jsonl: no rows"),
    "empty rules": (lambda: Path("rules.md").write_text(" "), "ERROR rules.md: empty"),
    "rules in bytes": (lambda: Path("rules.md").write_bytes(b"\xff\xfe"), "ERROR rules.md: cannot be read as UTF-8"),
    "broken recipe": (lambda: Path("recipe.yaml").write_text("a: ["), "ERROR recipe.yaml: line 1"),
    "unknown key": (lambda: Path("recipe.yaml").write_text("a: 1"), "ERROR recipe.yaml: a: unknown key"),
    "no test": (lambda: write_rows(Path("problems.jsonl"), [problem(0)]), 'ERROR no problem has split "test"'),
}


@pytest.mark.parametrize("case", FILES.values(), ids=FILES)
def test_check_finds_broken_files(case: tuple[Callable[[], object], str], place: Path, realm: Realm) -> None:
    write_rows(Path("problems.jsonl"), [problem(i) for i in range(30)])
    Path("rules.md").write_text("Count.\n")
    case[0]()
    result = realm("check", "problems.jsonl" if Path("recipe.yaml").exists() else ".")
    assert result.code == 1 and case[1] in " ".join(result.out.split()) and "Traceback" not in result.err


def test_a_new_domain_is_checked_and_runs(place: Path, realm: Realm) -> None:
    result = realm("init", "mine")
    assert result.code == 0 and "next: mine/pipeline.sh  (runs as it is" in result.err
    checked = json.loads(realm("check", "mine", "--json").out)
    assert (checked["errors"], checked["warnings"]) == (0, 0)
    assert os.access("mine/pipeline.sh", os.X_OK)
    subprocess.run(["bash", "-n", "mine/pipeline.sh"], check=True)
    again = realm("init", "mine")
    assert again.code == 1 and "mine/README.md: exists; choose a new folder" in again.err
    os.chdir("mine")
    common = ["--recipe", "recipe.yaml", "--run", "run"]
    small = ["--set", "distill.sft.max_steps=2", "--set", "distill.limit=20"]
    assert realm("rollout", *common, "--model", "jsonl:routes-a.jsonl", "--model", "jsonl:routes-b.jsonl").code == 0
    assert realm("verify", *common).code == 0
    taught = ["--teacher", "jsonl:teacher.jsonl", "--rules", "rules.md", "--notes", "notes.md"]
    assert realm("distill", *common, *taught, *small).code == 0
    assert (place / "mine" / "run" / "distill" / "adapter" / "adapter_model.safetensors").exists()


def test_an_own_domain_waits_for_its_problems_and_rules(place: Path, realm: Realm) -> None:
    """`realm init --student`: no sample to delete, and each thing that is missing is told when it is needed."""
    result = realm("init", "mine", "--student", "tiny-student")
    assert result.code == 0 and "next: realm import YOURS.csv" in result.err and "mine/rules.md, and run" in result.err
    made = sorted(path.name for path in Path("mine").iterdir())
    assert made == ["README.md", "notes.md", "pipeline.sh", "recipe.yaml", "rules.md"]
    assert load_recipe("mine/recipe.yaml").student.model == "tiny-student"
    result = realm("check", "mine")
    assert result.code == 1 and "ERROR mine/problems.jsonl: not found" in " ".join(result.out.split())
    solved = [
        problem(i, gold_solution=f"1. {i} + 1 = {i + 1}.\n2. {i + 1} - 1 = {i}.\nAnswer: {i}") for i in range(300)
    ]
    write_rows(Path("mine/problems.jsonl"), solved)
    found = json.loads(realm("check", "mine", "--json").out)
    assert (found["errors"], found["warnings"]) == (0, 1)
    assert any(
        "mine/rules.md: the rules are not written yet; written solutions" in f["text"] for f in found["findings"]
    )
    os.chdir("mine")
    common = ["distill", "--recipe", "recipe.yaml", "--rules", "rules.md", "--notes", "notes.md", "--data-only"]
    small = ["--set", "distill.min_steps=1", "--set", "distill.limit=8"]
    assert realm(*common, *small, "--run", "a", "--teacher", "jsonl:problems.jsonl").code == 0
    result = realm(*common, "--run", "b", "--teacher", "tiny-student")
    assert result.code == 1 and result.lines == [
        "error: rules.md: the rules are not written yet; put them in the place of this file's text"
    ]


def test_an_own_domain_is_not_put_over_the_sample(place: Path, realm: Realm) -> None:
    """Its stand-ins would be taken for the own domain's teacher and routes."""
    assert realm("init", "mine").code == 0
    result = realm("init", "mine", "--student", "smollm2-135m", "--force")
    assert result.code == 1 and "mine/routes-a.jsonl: the folder holds the sample of `realm init`" in result.err
    assert load_recipe("mine/recipe.yaml").student.model == "tiny-student"


def test_the_pipeline_of_an_own_domain_takes_the_solutions_of_its_table(place: Path, realm: Realm) -> None:
    """Without TEACHER and ROUTES: guided distillation on what the table says, then the evaluation and the report."""
    assert realm("init", "mine", "--student", "tiny-student").code == 0
    calls = place / "bin" / "realm"
    calls.parent.mkdir()
    calls.write_text(f'#!/bin/sh\necho "$@" >> {place}/calls\n')
    calls.chmod(0o755)
    known = {key: value for key, value in os.environ.items() if key not in ("TEACHER", "ROUTES", "SET")}
    for sample, teacher in ((False, "jsonl:problems.jsonl"), (True, "jsonl:teacher.jsonl")):
        if sample:
            assert realm("init", "mine", "--force").code == 0
        (place / "calls").unlink(missing_ok=True)
        done = subprocess.run(
            ["mine/pipeline.sh"],
            env=known | {"PATH": f"{calls.parent}:{known['PATH']}"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0 and f"paths below are in {place / 'mine'}" in done.stderr
        lines = (place / "calls").read_text().splitlines()
        stages = ["rollout", "verify", "distill", "refine", "train-rl"] if sample else ["distill"]
        assert [line.split()[0] for line in lines] == ["check", *stages, "eval", "report"]
        assert f"--teacher {teacher}" in next(line for line in lines if line.startswith("distill"))
        if not sample:  # a model would be asked without the rules
            environment = known | {"PATH": f"{calls.parent}:{known['PATH']}", "TEACHER": "hf:some/model"}
            done = subprocess.run(["mine/pipeline.sh"], env=environment, capture_output=True, text=True)
            assert done.returncode == 1 and done.stderr.splitlines()[-1] == (
                "error: rules.md: the rules are not written yet, and hf:some/model needs them; put them in its place"
            )


@pytest.mark.parametrize("student", ["smollm2-135m", "Qwen/Qwen2.5-0.5B-Instruct", "a: #odd.gguf"])
def test_a_domain_for_an_instruct_model(student: str, place: Path, realm: Realm) -> None:
    assert realm("init", "mine", "--student", student).code == 0
    recipe = load_recipe("mine/recipe.yaml")
    assert (recipe.student.model, recipe.prompt.style) == (student, "full")
    assert recipe.distill.replay is None
    assert recipe.distill.mix == {"guided": 0.9, "mrpv": 0.1}


def test_a_small_student_learns_at_a_higher_rate(place: Path, realm: Realm) -> None:
    for folder, student, rate in (("a", "smollm2-135m", 1e-3), ("b", "Qwen/Qwen2.5-1.5B-Instruct", 2e-4)):
        assert realm("init", folder, "--student", student).code == 0
        assert load_recipe(f"{folder}/recipe.yaml").distill.sft.lr == rate


def test_the_default_recipe_is_that_of_the_tiny_student(place: Path, realm: Realm) -> None:
    assert realm("init", "mine").code == 0
    recipe = load_recipe("mine/recipe.yaml")
    assert (recipe.student.model, recipe.prompt.style) == ("tiny-student", "terse")
    refused = realm("init", "other", "--student", "openai:http://a:secret@b/v1#m")
    assert refused.code == 1 and "holds a password" in refused.lines[-1] and not Path("other").exists()
