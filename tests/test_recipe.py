"""Recipes: sparse YAML, `--set`, and errors that name file, key and the next step."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from realm_cli.errors import ConfigError
from realm_cli.recipe import Recipe, load_recipe, parse_recipe


def write(folder: Path, text: str) -> Path:
    path = folder / "r.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(path: Path | None, overrides: list[str] | None = None) -> str:
    with pytest.raises(ConfigError) as error:
        load_recipe(path, overrides)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_defaults_are_those_of_the_method_document() -> None:
    recipe = load_recipe(None)
    rl = recipe.train_rl
    assert (rl.steps, rl.fade_steps, rl.schedule, rl.kappa) == (500, 300, "asymptotic", 3.0)
    assert (rl.p_max, rl.p_retain, rl.fades) == (0.85, 0.0, ["a"])
    assert (rl.group_size, rl.groups_per_step, rl.bridge.beta, rl.bridge.all_right) == (8, 8, 8.0, 0.2)
    assert (rl.loss_type, rl.scale_rewards, rl.beta, rl.epsilon, rl.epsilon_high) == ("dr_grpo", "none", 0.0, 0.2, 0.28)
    assert rl.reward.model_dump() == {
        "w_ans": 1.0, "w_ver": 0.2, "w_loc": 0.1, "w_fmt": 0.1, "w_len": 0.1, "w_copy": 0.1, "min_think_words": 20,
            "placebo_verdicts": False,
    }  # fmt: skip
    assert (recipe.verify.k, recipe.verify.natural_frac, recipe.verify.same_wrong) == (4, 0.25, 0.9)
    assert (recipe.verify.hide_answers, recipe.verify.tamper_final) == (0.25, 0.1)
    assert recipe.distill.mix == {"guided": 0.7, "mrpv": 0.2, "lemma": 0.1}
    assert (recipe.distill.n, recipe.distill.temperature, recipe.distill.top_p) == (4, 0.7, 0.95)
    assert (recipe.distill.sft.lora.r, recipe.distill.sft.lora.alpha, recipe.train_rl.lora.r) == (32, 64, 16)


def test_empty_file_is_the_defaults(tmp_path: Path) -> None:
    assert load_recipe(write(tmp_path, "# nothing\n")) == Recipe()


def test_sparse_yaml_and_overrides(tmp_path: Path) -> None:
    path = write(tmp_path, "name: x\ntrain_rl: {steps: 10, lr: 1e-5}\nrollout:\n  models: [student]\n")
    recipe = load_recipe(path, ["train_rl.steps=20", "rollout.models=[a, 'solver:b']", "student.quant=nf4"])
    assert (recipe.name, recipe.train_rl.steps, recipe.train_rl.lr) == ("x", 20, 1e-5)
    assert (recipe.rollout.models, recipe.student.quant) == (["a", "solver:b"], "nf4")
    assert recipe.train_rl.fade_steps == 12


def test_the_last_override_wins_and_values_are_yaml() -> None:
    recipe = load_recipe(
        None, ["seed=1", "seed=2", "data.rules=a=b.md", "train_rl.eaai_steps=null", "train_rl.lr=2e-3"]
    )
    assert (recipe.seed, recipe.data.rules, recipe.train_rl.eaai_steps) == (2, Path("a=b.md"), None)
    assert recipe.train_rl.lr == 0.002


def test_an_override_reaches_into_a_block_that_is_null(tmp_path: Path) -> None:
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(Recipe().model_dump(mode="json")), encoding="utf-8")
    recipe = load_recipe(path, ["train_rl.bucket_weights.zero=2"])
    assert recipe.train_rl.bucket_weights == {"zero": 2.0}


@pytest.mark.parametrize("text", ["1e-5", "1E5", "2.5e-3", "-1e-5", "+3e+2", ".5e1"])
def test_exponents_are_numbers(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, f"distill: {{mix: {{guided: {text}}}}}\n")
    assert load_recipe(path).distill.mix["guided"] == float(text)


def test_frozen() -> None:
    with pytest.raises(ValidationError):
        Recipe().seed = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "said"),
    {
        "train_rl: {step: 5}": "train_rl.step: unknown key; did you mean steps?",
        "train_rl: {reward: {w_anz: 1}}": "train_rl.reward.w_anz: unknown key; did you mean w_ans?",
        "rolout: {n: 2}": "rolout: unknown key; did you mean rollout?",
        "prompt: {zzzz: 1}": "prompt.zzzz: unknown key; known keys: order, style",
        "train_rl: {steps: many}": "train_rl.steps: input should be a valid integer, unable to parse string as an "
        "integer (got 'many')",
        "train_rl: {steps: 5, eaai_steps: 6}": "train_rl: eaai_steps 6 exceeds steps 5; the fade would never end",
        "train_rl: {group_size: 1}": "train_rl.group_size: input should be greater than or equal to 2 (got 1)",
        "train_rl: {micro_batch: 7}": "train_rl.micro_batch: unknown key; did you mean micro_tokens?",
        "train_rl: {schedule: quadratic}": "train_rl.schedule: input should be 'asymptotic', 'linear', 'cosine', "
        "'step', 'abrupt', 'adaptive', 'none' or 'zero' (got 'quadratic')",
        "eval: {modes: [bare, both]}": "eval.modes.1: input should be 'bare', 'routed', 'routed_hidden' or "
        "'ruled' (got 'both')",
        "verify: 5": "verify: input should be a valid dictionary or instance of VerifyConfig (got 5)",
        "- a": "a recipe is a mapping of stages, not a list",
        "seed: 1\nseed: 2": " line 2 key 'seed' given twice; mend the YAML",
        "a: [1": " line 1 did not find expected ',' or ']'; mend the YAML",
        "a: !!python/object:os.system x": " line 1 could not determine a constructor for the tag "
        "'tag:yaml.org,2002:python/object:os.system'; mend the YAML",
    }.items(),
)  # fmt: skip
def test_a_wrong_recipe_is_one_line_that_names_the_key(tmp_path: Path, text: str, said: str) -> None:
    path = write(tmp_path, text + "\n")
    gap = "" if said.startswith(" ") else " "
    assert refusal(path) == f"{path}:{gap}{said}"


def test_an_unknown_key_is_told_before_a_wrong_value(tmp_path: Path) -> None:
    path = write(tmp_path, "train_rl: {steps: -1, eai_steps: 3}\n")
    assert refusal(path) == f"{path}: train_rl.eai_steps: unknown key; did you mean eaai_steps?"


@pytest.mark.parametrize(
    ("override", "said"),
    {
        "train_rl.steps": "--set train_rl.steps: expected KEY=VALUE, e.g. --set train_rl.steps=100",
        "=5": "--set =5: expected KEY=VALUE, e.g. --set train_rl.steps=100",
        "seed=[1": "--set seed=[1: the value is not valid YAML; quote it",
        "seed.x=1": "--set seed.x=1: seed is not a block",
        "train_rl.lrr=1": "defaults: train_rl.lrr: unknown key; did you mean lr?",
    }.items(),
)
def test_a_wrong_override_is_named(override: str, said: str) -> None:
    assert refusal(None, ["seed=0", override]) == said


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert refusal(tmp_path / "no.yaml") == f"{tmp_path / 'no.yaml'}: no such recipe; see the recipes/ folder"
    assert refusal(tmp_path) == f"{tmp_path}: cannot be read (IsADirectoryError); give a YAML file"
    path = tmp_path / "r.yaml"
    path.write_bytes(b"name: \xff\n")
    assert refusal(path) == f"{path}: cannot be read (UnicodeDecodeError); give a YAML file"


def test_the_resolved_recipe_reads_back_as_itself(tmp_path: Path) -> None:
    recipe = parse_recipe({"data": {"rules": "rules.md"}, "train_rl": {"steps": 9, "lr": 1e-7}}, "x")
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(recipe.model_dump(mode="json"), indent=2), encoding="utf-8")
    assert load_recipe(path) == recipe


@given(steps=st.integers(1, 10_000))
def test_the_default_fade_ends_at_six_tenths(steps: int) -> None:
    fade = parse_recipe({"train_rl": {"steps": steps}}, "x").train_rl.fade_steps
    assert 0.6 * steps - 1 < fade <= 0.6 * steps


def test_the_page_on_troubles_has_every_limit_with_its_default() -> None:
    page = (Path(__file__).parents[1] / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    alarms, before = (block.model_dump() for block in (Recipe().train_rl.alarms, Recipe().train_rl.preflight))
    missing = [key for key, value in alarms.items() if f"`train_rl.alarms.{key}` ({value})" not in page]
    assert missing == [] and all(f"`train_rl.preflight.{key}" in page for key in before)
