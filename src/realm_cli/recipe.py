"""Recipes: one sparse YAML holds all stages; `--set a.b=c` overrides; unknown keys are errors with the nearest name.

Usage: `recipe = load_recipe("recipes/demo.yaml", ["train_rl.steps=50"])`. The resolved recipe (nulls kept) is written
to every stage folder as recipe.json.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from realm_cli.errors import ConfigError, masked
from realm_cli.recipe_blocks import SAMPLING as SAMPLING
from realm_cli.recipe_blocks import AlarmsConfig as AlarmsConfig
from realm_cli.recipe_blocks import Block as Block
from realm_cli.recipe_blocks import ChecksConfig as ChecksConfig
from realm_cli.recipe_blocks import EngineConfig as EngineConfig
from realm_cli.recipe_blocks import PreflightConfig as PreflightConfig
from realm_cli.recipe_blocks import ServerConfig as ServerConfig
from realm_cli.recipe_blocks import VllmConfig as VllmConfig
from realm_cli.recipe_yaml import first_problem, read_yaml
from realm_cli.records import Bucket, Mode

Schedule = Literal["asymptotic", "linear", "cosine", "step", "abrupt", "adaptive", "none", "zero"]


class StudentConfig(Block):
    """The small model that is trained. `model`: tiny-student, smollm2-135m, a hub id, a folder or a .gguf file."""

    model: str = "tiny-student"
    quant: Literal["auto", "none", "nf4"] = "auto"  # auto: nf4 on CUDA, none on the CPU
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"  # auto: bfloat16 on CUDA, float32 on the CPU
    trust_remote_code: bool = False
    template_args: dict[str, bool | int | float | str] = {}  # for chat templates of local models


class DataConfig(Block):
    """Where problems, rules and notes come from. `domain` names a built-in domain; files win over it."""

    domain: str | None = None
    problems: Path | None = None
    rules: Path | None = None
    notes: Path | None = None
    n_train: int = Field(1200, ge=1)
    n_dev: int = Field(200, ge=0)
    n_test: int = Field(600, ge=1)


class PromptConfig(Block):
    """How students are asked (prompts.py)."""

    style: Literal["full", "terse"] = "full"
    order: Literal["verify_first", "solve_first"] = "verify_first"


class LoraSettings(Block):
    """All-linear LoRA. Dropout 0: RL with dropout measures a different policy than it samples."""

    r: int = Field(16, ge=1)
    alpha: int = Field(32, ge=1)
    dropout: float = Field(0.0, ge=0.0, lt=1.0)


class SftConfig(Block):
    """Supervised fine-tuning (method.md section 3.5)."""

    lora: LoraSettings = LoraSettings(r=32, alpha=64)
    epochs: float = Field(2.0, gt=0)
    max_steps: int | None = Field(None, ge=1)
    lr: float = Field(2e-4, gt=0)
    batch_size: int = Field(16, ge=1)  # effective
    micro_batch: int = Field(16, ge=1)
    warmup: float = Field(0.03, ge=0, lt=1)
    max_length: int = Field(2048, ge=16)
    save_every: int = Field(200, ge=1)  # steps between checkpoints, which --resume goes on from
    grad_checkpointing: bool = False


class DistillConfig(Block):
    """Guided CoT distillation (method.md section 3)."""

    teacher: str = "oracle"
    n: int = Field(4, ge=1)  # solutions a problem that a model is asked for; of a file (jsonl:) all are read
    temperature: float = Field(0.7, ge=0)
    top_p: float = Field(0.95, gt=0, le=1)
    max_tokens: int = Field(512, ge=1)
    limit: int | None = Field(None, ge=1)  # problems given to the teacher
    problems: Literal["tagged", "train"] = "tagged"  # tagged: those marked `distill`, where any is; train: all
    buckets: list[Bucket] | None = None  # only problems of these difficulties (measured by rollout); None = all
    correct_only: bool = True  # False: wrong solutions are learned as well (a baseline, not advice)
    rule_check: bool = True  # check solutions with the domain's own checker, where it has one
    min_steps: int = Field(3, ge=1)
    max_steps: int = Field(12, ge=1)
    near_duplicate: float = Field(0.8, gt=0, le=1)
    nll_drop: float = Field(0.1, ge=0, lt=1)
    keep_per_problem: int = Field(2, ge=1)
    retry_with_label: bool = True
    balance: bool = True
    mix: dict[str, float] = {"guided": 0.7, "mrpv": 0.2, "lemma": 0.1}  # and "rule_qa", "replay"
    rules_in_prompt: float = Field(0.0, ge=0, le=1)  # of guided prompts at first, none in the second half (rule fade)
    replay: Path | Literal["student"] | None = None  # fine-tuning rows mixed in; student: those its folder ships
    sft: SftConfig = SftConfig()


class RolloutConfig(Block):
    """Route collection (method.md section 4). `student` in models = the recipe's student."""

    models: list[str] = ["student"]
    n: int = Field(4, ge=1)
    self_n: int | None = Field(None, ge=1)  # samples of the student itself, for difficulty buckets; None = n
    splits: list[Literal["train", "dev", "test"]] = ["train", "dev", "test"]
    temperature: float = Field(0.7, ge=0)
    top_p: float = Field(0.95, gt=0, le=1)
    max_tokens: int = Field(512, ge=1)
    limit: int | None = Field(None, ge=1)


class RefineConfig(Block):
    """A round of routed RFT after distillation: own right solutions, found with routes, learned for the bare prompt."""

    n: int = Field(4, ge=1)  # samples per training problem, its route sets in turn
    temperature: float = Field(1.0, ge=0)
    keep_per_problem: int = Field(4, ge=1)
    positives: bool = True  # right external routes join, in the bare format
    epochs: float | None = Field(None, gt=0)  # None = distill.sft.epochs


class VerifyConfig(Block):
    """MRPV scores and route sets (method.md sections 5 and 6)."""

    k: int = Field(4, ge=1, le=8)  # routes in a prompt; 1 = no contrast (an ablation)
    k_long_tokens: int | None = Field(300, ge=1)  # 3 at most where a problem's median route is longer; None = always k
    signs: Literal["both", "right", "wrong"] = "both"  # routes that sets may show; one sign only is an ablation
    sets_per_problem: int = Field(2, ge=1)
    natural_frac: float = Field(0.25, ge=0, le=1)
    same_wrong: float = Field(0.9, ge=0, le=1)
    hide_answers: float = Field(0.25, ge=0, le=1)
    tamper_final: float = Field(0.1, ge=0, le=1)
    facts: Literal["auto", "number", "text"] = "auto"
    # of support, belief and Monte-Carlo changes in a step's score
    weights: tuple[float, float, float] = (1.0, 0.0, 0.0)
    mc_n: int = Field(4, ge=1)  # continuations after each step (--mc)
    mc_temperature: float = Field(0.7, gt=0)
    mc_max_tokens: int = Field(512, ge=1)
    leak_limit: float = Field(0.55, ge=0.5, le=1)
    on_leak: Literal["warn", "fail"] = "warn"  # what to do when the leak probe's AUC exceeds leak_limit


class RewardConfig(Block):
    """Weights of method.md section 8: ans + ver + loc + fmt are added, len and copy are taken off."""

    w_ans: float = 1.0
    w_ver: float = 0.2
    w_loc: float = 0.1
    w_fmt: float = 0.1
    w_len: float = 0.1
    w_copy: float = 0.1
    min_think_words: int = Field(20, ge=0)
    placebo_verdicts: bool = False  # shuffle the labels that verdicts are held against: what r_ver pays must vanish


class BridgeConfig(Block):
    """The bridge of method.md 9.1: what was solved with routes is credited to the bare prompt."""

    beta: float = Field(8.0, ge=0)  # 0 = off
    all_right: float = Field(0.2, ge=0)
    drop_copied: bool = True
    negatives: float = Field(0.0, ge=0)  # weight of wrong solutions, on tokens that the bare model finds likely (> .1)
    max_ratio: float | None = Field(None, gt=0)  # weigh tokens by pi(bare) / pi(routed), at most this; None = all alike
    quota: int | None = Field(None, ge=1)  # routed groups of one problem that are credited; None = all


class TrainRlConfig(Block):
    """GRPO with fading routes (method.md sections 9 and 10)."""

    steps: int = Field(500, ge=1)
    eaai_steps: int | None = Field(None, ge=0)  # None = 0.6 * steps
    schedule: Schedule = "asymptotic"
    kappa: float = Field(3.0, gt=0)
    fades: list[Literal["a", "b", "c", "d"]] = ["a"]
    p_max: float = Field(0.85, ge=0, le=1)
    p_retain: float = Field(0.0, ge=0, le=1)
    gate: float | None = Field(None, gt=0, le=1)  # no routes where a problem's running bare success is this high
    group_size: int = Field(8, ge=2)
    groups_per_step: int = Field(8, ge=1)
    lr: float = Field(1e-5, gt=0)
    lr_schedule: Literal["constant", "linear", "cosine"] = "constant"  # after the warm-up
    warmup_steps: int = Field(10, ge=0)
    lora: LoraSettings = LoraSettings()
    loss_type: str = "dr_grpo"
    scale_rewards: Literal["none", "group"] = "none"
    beta: float = Field(0.0, ge=0)  # KL weight
    epsilon: float = Field(0.2, gt=0)
    epsilon_high: float = Field(0.28, gt=0)
    max_grad_norm: float = Field(1.0, gt=0)
    temperature: float = Field(1.0, gt=0)
    max_tokens: int = Field(768, ge=1)
    cache_tokens: int = Field(128, ge=0)
    micro_tokens: int = Field(4096, ge=1)  # tokens in one forward and backward pass; fewer = less memory
    eval_every: int = Field(25, ge=1)
    dev_limit: int = Field(200, ge=1)
    dev_routed: int = Field(0, ge=0)  # of these, measured with routes too (dev problems need routes)
    bucket_weights: dict[str, float] | None = None  # sampling weight per difficulty bucket; None = uniform
    bucket_quotas: dict[str, float] | None = None  # share of the groups per difficulty bucket, e.g. {hard: .5, mid: .5}
    refill: int = Field(0, ge=0)  # spare groups a step, sampled in place of groups that teach nothing
    routes_in_group: float = Field(0.0, ge=0)  # weight of external routes as off-policy members of bare groups
    token_signal: float = Field(0.0, ge=0)  # tokens of bare samples weighed by what routes say of them (.5); 0 = off
    save_every: int = Field(50, ge=1)
    grad_checkpointing: bool = False
    bridge: BridgeConfig = BridgeConfig()
    reward: RewardConfig = RewardConfig()
    alarms: AlarmsConfig = AlarmsConfig()
    preflight: PreflightConfig = PreflightConfig()

    @property
    def fade_steps(self) -> int:
        """T_e: the step from which no route is shown."""
        return self.eaai_steps if self.eaai_steps is not None else int(0.6 * self.steps)

    @model_validator(mode="after")
    def _consistent(self) -> TrainRlConfig:
        if self.eaai_steps is not None and self.eaai_steps > self.steps:
            raise ValueError(f"eaai_steps {self.eaai_steps} exceeds steps {self.steps}; the fade would never end")
        return self


class EvalConfig(Block):
    """Evaluation (method.md section 12). Routes for routed mode are drawn without labels."""

    split: Literal["dev", "test"] = "test"
    modes: list[Mode] = ["bare", "routed"]  # ruled: with the rules in the prompt, to see what is not in the weights yet
    n: int = Field(1, ge=1)  # samples per problem; 1 = greedy
    temperature: float = Field(0.7, ge=0)  # used when n > 1
    max_tokens: int = Field(768, ge=1)
    k: int = Field(4, ge=2, le=8)  # routes in a routed prompt; verify.k_long_tokens holds here too
    limit: int | None = Field(None, ge=1)
    bootstrap: int = Field(10_000, ge=100)


class Recipe(Block):
    """All stages of one run."""

    name: str = "run"  # of the folder in runs/
    seed: int = 0
    student: StudentConfig = StudentConfig()
    data: DataConfig = DataConfig()
    prompt: PromptConfig = PromptConfig()
    engine: EngineConfig = EngineConfig()
    checks: ChecksConfig = ChecksConfig()
    rollout: RolloutConfig = RolloutConfig()
    verify: VerifyConfig = VerifyConfig()
    distill: DistillConfig = DistillConfig()
    refine: RefineConfig = RefineConfig()
    train_rl: TrainRlConfig = TrainRlConfig()
    eval: EvalConfig = EvalConfig()

    @field_validator("name")
    @classmethod
    def _one_folder(cls, name: str) -> str:
        if not 0 < len(name) <= 100 or name.startswith(".") or "/" in name or "\\" in name or not name.isprintable():
            raise ValueError("names a folder in runs/: up to 100 characters, no slash, no dot in front")
        return name


def load_recipe(path: Path | str | None, overrides: list[str] | None = None) -> Recipe:
    """Read a recipe and apply `a.b=c` overrides. ConfigError names file, key and the next step."""
    place = str(path) if path is not None else "defaults"
    data: Any = {}
    if path is not None:
        try:
            data = read_yaml(Path(path).read_text(encoding="utf-8")) or {}
        except FileNotFoundError:
            raise ConfigError(f"{place}: no such recipe; see the recipes/ folder") from None
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{place}: cannot be read ({error.__class__.__name__}); give a YAML file") from None
        except ValueError as error:
            raise ConfigError(f"{place}: {error}; mend the YAML") from None
        if not isinstance(data, dict):
            raise ConfigError(f"{place}: a recipe is a mapping of stages, not a {type(data).__name__}")
    for override in overrides or []:
        _apply(data, override)
    return parse_recipe(data, place)


def parse_recipe(data: dict[str, Any], place: str) -> Recipe:
    """Validate a mapping; `place` is named in errors."""
    try:
        recipe = Recipe.model_validate(data)
    except ValidationError as error:
        raise ConfigError(f"{place}: {first_problem(error, Recipe)}") from None
    for text in _texts(recipe.model_dump(mode="json")):  # all of it is written, whether a command uses it or not
        refuse_secret(text)
    return recipe


def refuse_secret(spec: str) -> None:
    """ConfigError for a model whose URL holds a password or key: it would be written to files."""
    if masked(spec) == spec:
        return
    kind = spec.partition("://")[0].rpartition(":")[0]
    host = re.search(r"://(?:[^/\s]*@)?([^/:?#\s]*)", spec)
    name = ":".join(part for part in (kind, host[1] if host else "") if part)
    raise ConfigError(
        f"model {name}: the URL holds a password or key, which would be written to files; "
        "leave it out and set REALM_API_KEY"
    )


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)


def _apply(data: dict[str, Any], override: str) -> None:
    key, sep, text = override.partition("=")
    if not sep or not key.strip():
        raise ConfigError(f"--set {override}: expected KEY=VALUE, e.g. --set train_rl.steps=100")
    try:
        value = read_yaml(text)
    except ValueError:
        raise ConfigError(f"--set {override}: the value is not valid YAML; quote it") from None
    *parents, last = key.strip().split(".")
    node = data
    for name in parents:
        if node.get(name) is None:  # absent, or null as a resolved recipe keeps it
            node[name] = {}
        child = node[name]
        if not isinstance(child, dict):
            raise ConfigError(f"--set {override}: {name} is not a block")
        node = child
    node[last] = value
