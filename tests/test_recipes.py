"""Every recipe that is shipped loads, says what it is for, and fits its header."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from realm_cli.recipe import load_recipe

RECIPES = sorted((Path(__file__).resolve().parents[1] / "recipes").rglob("*.yaml"))
NAMES = [path.stem for path in RECIPES]


def header(path: Path) -> str:
    """The leading comment lines, joined."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return " ".join(lines)


def test_the_promised_recipes_are_there() -> None:
    models = ("tiny", "smollm2", "qwen2.5-0.5b", "qwen2.5-1.5b", "qwen2.5-3b")
    promised = {"demo", *(f"realm-{kind}-{model}" for kind in ("zero", "r1") for model in models)}
    assert promised <= set(NAMES)


@pytest.mark.parametrize("path", RECIPES, ids=NAMES)
def test_recipe_loads_and_is_sparse(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    assert recipe.train_rl.fade_steps <= recipe.train_rl.steps
    assert recipe.train_rl.eval_every <= recipe.train_rl.steps
    assert len(path.read_text(encoding="utf-8").splitlines()) < 60


@pytest.mark.parametrize("path", RECIPES, ids=NAMES)
def test_header_tells_purpose_hardware_and_command(path: Path) -> None:
    text = header(path)
    purpose = text.split("Hardware:")[0].strip()
    assert len(purpose.split()) >= 6, "the first sentence says what the recipe is for"
    assert re.search(r"Hardware: \S.{10,}", text)
    command = re.search(r"Commands?[^:]*: (.+)", text)
    assert command
    assert path.stem in text[command.start() :] or "run.py" in command.group(1)


@pytest.mark.parametrize("path", [p for p in RECIPES if "qwen" in p.stem], ids=lambda p: p.stem)
def test_gpu_recipes_train_in_nf4_with_bf16(path: Path) -> None:
    student = load_recipe(path).student
    assert (student.quant, student.dtype) == ("nf4", "bfloat16")
    assert student.model.startswith("Qwen/Qwen2.5-") and student.model.endswith("-Instruct")


@pytest.mark.parametrize("path", [p for p in RECIPES if "-tiny" in p.stem or p.stem == "demo"], ids=lambda p: p.stem)
def test_tiny_recipes_use_the_form_that_the_tiny_student_knows(path: Path) -> None:
    recipe = load_recipe(path)
    assert (recipe.student.model, recipe.prompt.style, recipe.data.domain) == ("tiny-student", "terse", "rulebook")
