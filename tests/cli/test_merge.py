"""Shards of a rollout and of a distillation, put together: what an undivided run makes, or a line that says why not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.helpers import Realm, rows

P = ["--problems", "d/problems.jsonl", "--set", "data.domain=rulebook"]
MODELS = ["-m", "solver:forgetful", "-m", "solver:hasty", "--n", "2"]
DISTILL = [*P, "--teacher", "oracle", "--rules", "d/rules.md"]


def parts(realm: Realm, of: int, *words: str) -> list[str]:
    names = [f"part-{i}" for i in range(1, of + 1)]
    for i, name in enumerate(names, 1):
        result = realm(*words, "--run", name, "--shard", f"{i}/{of}")
        assert result.code == 0, result.err
    return names


@pytest.mark.parametrize("of", [1, 3])
def test_a_merged_rollout_is_the_undivided_one(of: int, world: Path, realm: Realm) -> None:
    assert realm("rollout", *P, *MODELS, "--run", "one").code == 0
    names = parts(realm, of, "rollout", *P, *MODELS)
    shutil.copytree(world / "one", world / "other")  # merging needs nothing of it
    result = realm("merge", *reversed(names), "--run", "all", "--json")
    assert result.code == 0, result.err
    assert json.loads(result.out) == {"shards": of, "rows": 152, "failed": 0}
    for file in ("routes.jsonl", "problems.jsonl"):
        assert (world / "all" / "rollout" / file).read_bytes() == (world / "one" / "rollout" / file).read_bytes()
    assert realm("verify-run", "all").code == 0
    assert realm("verify", "--run", "all").code == 0
    assert realm("rollout", "--run", "all", "-m", "solver:misreader", "--n", "1").code == 0  # more models, as ever


def test_a_merged_rollout_of_a_model_has_the_same_rows(world: Path, realm: Realm) -> None:
    words = ["rollout", *P, "-m", "student", "-m", "solver:hasty", "--n", "2", "--limit", "6"]
    words += ["--set", "rollout.max_tokens=24"]
    assert realm(*words, "--run", "one").code == 0
    assert realm("merge", *parts(realm, 2, *words), "--run", "all").code == 0
    one, merged = (rows(world / run / "rollout" / "routes.jsonl") for run in ("one", "all"))
    assert sorted(one, key=lambda row: row["id"]) == sorted(merged, key=lambda row: row["id"]) and len(merged) == 24
    assert json.loads((world / "all/rollout/manifest.json").read_text())["student_sources"] == ["hf:tiny-student"]


def test_a_merged_distillation_goes_on_as_the_undivided_one(world: Path, realm: Realm) -> None:
    assert realm("distill", *DISTILL, "--run", "one", "--data-only").code == 0
    names = parts(realm, 2, "distill", *DISTILL)
    assert not (world / "part-1" / "distill" / "guided.jsonl").exists()
    assert realm("merge", *names, "--run", "all").code == 0
    assert realm("distill", *DISTILL, "--run", "all", "--resume", "--data-only").code == 0
    for file in ("teacher.jsonl", "guided.jsonl", "sft.jsonl"):
        assert (world / "all" / "distill" / file).read_bytes() == (world / "one" / "distill" / file).read_bytes()


def change(path: str, old: str, new: str) -> Callable[[], None]:
    def make() -> None:
        text = Path(path).read_text(encoding="utf-8")
        assert old in text
        Path(path).write_text(text.replace(old, new), encoding="utf-8")

    return make


def asked_otherwise() -> None:
    """Two shards whose server was asked with other keys."""
    for part, reasoning in ((ONE, "think"), (TWO, "drop")):
        servers = f'"servers": {{"openai:a#m": {{"reasoning": "{reasoning}"}}}}, "stage": "rollout"'
        change(f"{part}/rollout/manifest.json", '"stage": "rollout"', servers)()


ONE, TWO = "part-1", "part-2"
WRONG: dict[str, tuple[list[str], str, Callable[[], object]]] = {
    "a shard is missing": ([ONE], "merge: shard 2/2 of rollout is missing", lambda: None),
    "a shard twice": ([ONE, TWO, TWO], "merge: shard 2/2 of rollout is given twice", lambda: None),
    "no shard at all": (["d"], "d: no shard in it", lambda: None),
    "a run without": ([ONE, TWO, "d"], "d: no shard of rollout", lambda: None),
    "changed by hand": ([ONE, TWO], "part-2/rollout/routes.jsonl: not as its manifest says",
        change("part-2/rollout/routes.jsonl", "solver:hasty", "solver:hastz")),
    "other problems": ([ONE, TWO], "d/problems.jsonl: not the problems that the shards were made from",
        change("d/problems.jsonl", "tent", "tents")),
    "no problems": ([ONE, TWO], "d/problems.jsonl: not found; give the shards' problems by --problems",
        lambda: Path("d/problems.jsonl").unlink()),
    "another recipe": ([ONE, TWO], "part-2/rollout: made with another recipe than part-1/rollout",
        change("part-2/rollout/recipe.json", '"seed": 0', '"seed": 1')),
    "another way to ask": ([ONE, TWO], "part-2/rollout: openai:a#m was asked with other settings of engine.server than",
        asked_otherwise),
    "not finished": ([ONE, TWO], "part-1/rollout: not finished",
        change("part-1/rollout/manifest.json", '"status": "done"', '"status": "running"')),
    "another division": ([ONE, TWO], "part-2/rollout: is shard 2/3, and part-1/rollout is 1/2",
        change("part-2/rollout/manifest.json", '"shard": "2/2"', '"shard": "2/3"')),
    "no division": ([ONE, TWO], "--shard x: expected I/N",
        change("part-2/rollout/manifest.json", '"shard": "2/2"', '"shard": "x"')),
}  # fmt: skip


@pytest.fixture
def divided(world: Path, realm: Realm) -> Path:
    parts(realm, 2, "rollout", *P, *MODELS)
    return world


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_told(
    case: tuple[list[str], str, Callable[[], object]], divided: Path, realm: Realm
) -> None:
    shards, says, prepare = case
    prepare()
    result = realm("merge", *shards, "--run", "all")
    assert result.code == 1 and says in result.err and len(result.lines) == 1
    assert not (divided / "all").exists()


def test_shards_with_other_models_do_not_fit(divided: Path, realm: Realm) -> None:
    assert realm("rollout", *P, "-m", "solver:misreader", "--n", "2", "--run", TWO, "--shard", "2/2").code == 0
    result = realm("merge", ONE, TWO, "--run", "all")
    assert result.code == 1 and "differs from part-1/rollout/routes.jsonl in its models: solver:misreader" in result.err


def test_a_folder_holds_one_shard(divided: Path, realm: Realm) -> None:
    for more, says in (
        (["--shard", "2/2"], "part-1/rollout: holds shard 1/2; choose another --run"),
        ([], "part-1/rollout: holds shard 1/2; choose another --run"),
        (["--shard", "3/2"], "--shard 3/2: expected I/N"),
        (["--shard", "x"], "--shard x: expected I/N"),
    ):
        result = realm("rollout", *P, *MODELS, "--run", ONE, *more)
        assert result.code == 1 and says in result.err and len(result.lines) == 1
    result = realm("rollout", *P, *MODELS, "--run", "n", "--limit", "2", "--shard", "3/3")
    assert result.code == 1 and "there are only 2 problems; use fewer shards" in result.err
