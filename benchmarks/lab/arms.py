"""What the lab compares: regimes, shared bases, arms. Constants and command lines, nothing else.

A *base* is what arms of one regime and seed share: problems, external routes, route sets, the cold start (guided
distillation). An *arm* is a list of `realm` commands that ends in an adapter; it is then evaluated bare and routed.
{base}, {arm} and {before} in a command are folders; RL arms are given the RL settings of RL, RFT arms those of SFT.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

SOLVERS = ("forgetful", "generalist", "hasty", "misreader")
REGIMES = {
    "hard": "external routes are often right, but never on the unseen family",
    "open": "external routes are as often right on the unseen family as on the others",
}
DATA_SEED = 0  # one set of problems for all seeds, so that runs can be paired
SIZES = {"n_train": 1200, "n_dev": 160, "n_test": 800}

Command = tuple[str, ...]


@dataclass(frozen=True)
class Arm:
    """commands: run in order. adapter: what is evaluated, below the arm's folder ("" = the base's cold start).

    base: which base it starts from. after: an arm whose commands come first (its folder is {before}). about: one line
    for the table.
    """

    about: str
    commands: tuple[Command, ...] = ()
    adapter: str = ""
    base: str = "base"
    after: str = ""

    @property
    def is_rl(self) -> bool:
        """Whether it ends in reinforcement learning."""
        return any(command[0] == "train-rl" for command in self.commands)


def settings(**values: Any) -> Command:
    """--set KEY=VALUE for each; two underscores stand for the dot."""
    return tuple(part for key, value in values.items() for part in ("--set", f"{key.replace('__', '.')}={value}"))


PROBLEMS = ("--problems", "{base}/rollout/problems.jsonl")
SETS = ("--sets", "{base}/verify/sets.jsonl")
SCORED = ("--scored", "{base}/verify/scored.jsonl")
COLD = ("--adapter", "{base}/distill/adapter")
BEFORE = ("--adapter", "{before}/distill/adapter")
MADE = ("--adapter", "{arm}/distill/adapter")
ROUTES = ("--routes", "{base}/rollout/routes.jsonl")
POSITIVES = ("--positives", "{base}/rollout/routes.jsonl")
RL_OUT, SFT_OUT = "train_rl/adapter", "distill/adapter"


def rl(*more: str, sets: Command = SETS, start: Command = COLD, **values: Any) -> Command:
    """Reinforcement learning with the bridge on the base's problems and sets."""
    given = {"train_rl__lr": 6e-4, "train_rl__p_max": 0.85, "train_rl__bridge__beta": 40, **values}
    return ("train-rl", *PROBLEMS, *sets, *start, *settings(**given), *more)


def after_rft(start: Command = BEFORE, sets: Command = SETS, **values: Any) -> Command:
    """Reinforcement learning after a round of routed RFT: a third of the rate and of the routed share, no bridge."""
    return rl(sets=sets, start=start, **{"train_rl__lr": 2e-4, "train_rl__p_max": 0.3, **PLAIN, **values})


def bridged(start: Command = BEFORE, sets: Command = SETS, **values: Any) -> Command:
    """The same with the bridge: ReaLM-R1 as it was first, until it lost to the above (docs/evidence.md)."""
    return after_rft(start, sets, **{"train_rl__bridge__beta": 40, **values})


def no_fade(**values: Any) -> Command:
    """The bridge alone, with routes to the end: where it has most to do."""
    return rl(train_rl__schedule="none", **values)


def sft(teacher: str, *more: str, **values: Any) -> Command:
    """Fine-tuning of the cold start on written solutions, without the domain's own checks."""
    given = {"distill__problems": "train", "distill__rule_check": "false", "distill__keep_per_problem": 4, **values}
    return ("distill", *PROBLEMS, *SETS, *SCORED, *COLD, "--teacher", teacher, *settings(**given), *more)


def own_sets(**values: Any) -> Command:
    """Route sets of another make."""
    return ("verify", *PROBLEMS, *ROUTES, *settings(**values))


def sample(*more: str, n: int = 4) -> Command:
    """Solutions of the cold start on the training problems."""
    return ("rollout", "--model", "student", *PROBLEMS, *COLD, "--n", str(n),
            *settings(rollout__splits="[train]", rollout__temperature=1.0, rollout__max_tokens=128), *more)  # fmt: skip


OWN = ("--sets", "{arm}/verify/sets.jsonl")
EXTERNAL = "jsonl:{base}/external.jsonl"
MINE = "jsonl:{arm}/rollout/routes.jsonl"
PLAIN = {"train_rl__bridge__beta": 0}
NO_VERDICTS = {"train_rl__reward__w_ver": 0, "train_rl__reward__w_loc": 0}


# What ReaLM-R1 is varied in: name -> (about, settings of its reinforcement learning, or of its route sets).
RL_VARIED: dict[str, tuple[str, dict[str, Any]]] = {
    "none": ("routes to the end", {"train_rl__schedule": "none"}),
    "abrupt": ("abrupt end of the routes", {"train_rl__schedule": "abrupt"}),
    "linear": ("linear fade", {"train_rl__schedule": "linear"}),
    "asymptotic": ("asymptotic fade", {"train_rl__schedule": "asymptotic"}),
    "step": ("fade in steps", {"train_rl__schedule": "step"}),
    "adaptive": ("adaptive fade", {"train_rl__schedule": "adaptive"}),
    "acd": ("prefixes and answers fade too", {"train_rl__fades": "[a, c, d]"}),
    "p_max_1": ("all prompts routed at first", {"train_rl__p_max": 1.0}),
    "no_verdict": ("without verdict and localisation reward", NO_VERDICTS),
    "placebo": ("shuffled verdict labels", {"train_rl__reward__placebo_verdicts": "true"}),
}
SETS_VARIED: dict[str, tuple[str, dict[str, Any]]] = {
    "right": ("right routes only", {"verify__signs": "right"}),
    "wrong": ("wrong routes only", {"verify__signs": "wrong"}),
    "one_route": ("one route a prompt", {"verify__k": 1}),
    "no_tamper": ("nothing hidden or tampered", {"verify__tamper_final": 0, "verify__hide_answers": 0}),
}


def varied(prefix: str, about: str, main: str, learn: Callable[..., Command]) -> dict[str, Arm]:
    """ReaLM-R1 with one thing changed at a time. learn: its reinforcement learning; main: the arm without a change."""
    arms = {
        f"{prefix}_{name}": Arm(f"{about}, {text}", (learn(**values),), RL_OUT, after="rft_both")
        for name, (text, values) in RL_VARIED.items()
    }
    for name, (text, values) in SETS_VARIED.items():
        commands = (
            own_sets(**values),
            sample("--routed", *OWN),
            sft(MINE, *POSITIVES),
            learn(start=MADE, sets=OWN),
        )
        arms[f"{prefix}_{name}"] = Arm(f"{about}, {text}", commands, RL_OUT)
    again = (*sample("--routed", *SETS), "--adapter", "{before}/train_rl/adapter")
    arms[f"{prefix}_round2"] = Arm(
        f"{about}, a second round: fine-tuned from the cold start on what it finds, then RL",
        (again, sft(MINE, *POSITIVES), learn(start=MADE)),
        RL_OUT,
        after=main,
    )
    arms[f"{prefix}_solve_first"] = Arm(
        f"{about}, own solution before the verdicts",
        (sample("--routed", *SETS), sft(MINE, *POSITIVES), learn(start=MADE)),
        RL_OUT,
        base="base_solve_first",
    )
    return arms


ARMS: dict[str, Arm] = {
    "cold": Arm("guided SFT: the cold start"),
    "cold_longer": Arm("guided SFT, twice as long", (("distill", *PROBLEMS, *SETS, *SCORED, *COLD),), SFT_OUT),
    "grpo_longer": Arm(
        "guided SFT, twice as long, then vanilla GRPO",
        (rl(start=BEFORE, train_rl__schedule="zero", **PLAIN),),
        RL_OUT,
        after="cold_longer",
    ),
    "sft_all": Arm(
        "SFT on all external routes",
        (sft(EXTERNAL, distill__correct_only="false", distill__keep_per_problem=8),),
        SFT_OUT,
    ),
    "sft_pos": Arm("SFT on external positives (RFT)", (sft(EXTERNAL, distill__keep_per_problem=8),), SFT_OUT),
    "rft_own": Arm("RFT on own samples", (sample(), sft(MINE)), SFT_OUT),
    "rft_routed": Arm("routed RFT: own solutions found with routes", (sample("--routed", *SETS), sft(MINE)), SFT_OUT),
    "rft_more": Arm(
        "routed RFT with as many sampled tokens as R1",
        (sample("--routed", *SETS, n=32), sft(MINE, distill__keep_per_problem=8)),
        SFT_OUT,
    ),
    "rft_own_more": Arm(
        "RFT on own samples, as many sampled tokens as R1",
        (sample(n=40), sft(MINE, distill__keep_per_problem=8)),
        SFT_OUT,
    ),
    "instructor": Arm(
        "guided SFT again, on what it fails of the taught problems (LLMs-as-Instructor)",
        (
            sample(),
            (
                "distill",
                "--problems",
                "{arm}/rollout/problems.jsonl",
                *COLD,
                *settings(distill__buckets="[zero, hard, mid]"),
            ),
        ),
        SFT_OUT,
    ),
    "synth": Arm(
        "CoT-Synthesizer: SFT on routed prompts of the taught problems (a fifth of the rows is bare)",
        (
            (
                "distill",
                *PROBLEMS,
                "--sets",
                "{base}/verify/sets.jsonl",
                *settings(distill__mix="{guided: 0.01, mrpv: 1.0}", distill__replay="null"),
            ),
        ),
        SFT_OUT,
    ),
    "grpo": Arm("SFT + vanilla GRPO", (rl(train_rl__schedule="zero", **PLAIN),), RL_OUT),
    "grpo_more": Arm(
        "SFT + vanilla GRPO, as many sampled tokens as R1",
        (rl(train_rl__schedule="zero", train_rl__steps=380, **PLAIN),),
        RL_OUT,
    ),
    "always": Arm(
        "always-routed GRPO (AggLM)",
        (rl(train_rl__schedule="none", train_rl__p_max=1.0, **PLAIN, **NO_VERDICTS),),
        RL_OUT,
    ),
    "fade": Arm("fade straight after the cold start, no bridge", (rl(**PLAIN),), RL_OUT),
    "r1": Arm("fade and bridge straight after the cold start", (rl(),), RL_OUT),
    "rft_both": Arm("routed RFT and external positives", (sample("--routed", *SETS), sft(MINE, *POSITIVES)), SFT_OUT),
    "realm_r1": Arm("ReaLM-R1", (after_rft(),), RL_OUT, after="rft_both"),
    "r1_rft": Arm(
        "R1 with the bridge, without external positives, RL at the full rate",
        (rl(start=BEFORE),),
        RL_OUT,
        after="rft_routed",
    ),
    "r1_rft_low": Arm("R1 with the bridge, without external positives", (bridged(),), RL_OUT, after="rft_routed"),
    "rft_grpo": Arm(
        "routed RFT, then vanilla GRPO", (after_rft(train_rl__schedule="zero"),), RL_OUT, after="rft_routed"
    ),
    "rft_twice": Arm(
        "two rounds of routed RFT",
        (
            sample("--routed", *SETS),
            sft(MINE),
            (*sample("--routed", *SETS, n=8), "--run", "{arm}/two", "--adapter", "{arm}/distill/adapter"),
            (*sft("jsonl:{arm}/two/rollout/routes.jsonl"), "--run", "{arm}/two", "--adapter", "{arm}/distill/adapter"),
        ),
        "two/distill/adapter",
    ),
    "zero": Arm("ReaLM-Zero", (rl(start=("--adapter", "none")),), RL_OUT),
    "zero_grpo": Arm(
        "vanilla GRPO from the raw model",
        (rl(start=("--adapter", "none"), train_rl__schedule="zero", **PLAIN),),
        RL_OUT,
    ),
    "no_verdict": Arm("bridge only, without verdict and localisation reward", (rl(**NO_VERDICTS),), RL_OUT),
    "placebo": Arm("bridge only, shuffled verdict labels", (rl(train_rl__reward__placebo_verdicts="true"),), RL_OUT),
    "positives": Arm("bridge only, right routes only", (own_sets(verify__signs="right"), rl(sets=OWN)), RL_OUT),
    "late_fade": Arm("bridge only, routes gone at 90 %", (rl(train_rl__eaai_steps=270),), RL_OUT),
    "no_fade": Arm("bridge only, routes to the end", (rl(train_rl__schedule="none"),), RL_OUT),
    "r1_grpo": Arm(
        "R1 with vanilla GRPO for its RL", (after_rft(train_rl__schedule="zero"),), RL_OUT, after="rft_both"
    ),
    **varied("r1", "R1", "realm_r1", after_rft),
    "r1_bridge": Arm("R1 with the bridge", (bridged(),), RL_OUT, after="rft_both"),
    **varied("r1_bridge", "R1 with the bridge", "r1_bridge", bridged),
    "no_fade_negatives": Arm(
        "bridge only, routes to the end, wrong solutions at .3", (no_fade(train_rl__bridge__negatives=0.3),), RL_OUT
    ),
    "no_fade_ratio": Arm(
        "bridge only, routes to the end, ratio cut at 1", (no_fade(train_rl__bridge__max_ratio=1.0),), RL_OUT
    ),
    "no_fade_quota": Arm(
        "bridge only, routes to the end, 2 groups a problem", (no_fade(train_rl__bridge__quota=2),), RL_OUT
    ),
    "grpo_members": Arm(
        "vanilla GRPO with external routes in the group",
        (rl(train_rl__p_max=0.0, train_rl__schedule="none", train_rl__routes_in_group=8.0, **PLAIN),),
        RL_OUT,
    ),
    "grpo_signal": Arm(
        "vanilla GRPO with the token signal",
        (rl(train_rl__p_max=0.0, train_rl__schedule="none", train_rl__token_signal=0.5, **PLAIN),),
        RL_OUT,
    ),
    "grpo_refill": Arm(
        "vanilla GRPO, dead groups refilled",
        (rl(train_rl__schedule="zero", train_rl__refill=16, **PLAIN),),
        RL_OUT,
    ),
    "rule_qa": Arm("guided SFT with rule questions", base="base_rule_qa"),
    "unguided": Arm(
        "unguided SFT: solvers' right texts on the same problems",
        (
            (
                "distill",
                *PROBLEMS,
                "--sets",
                "{base}/verify/sets.jsonl",
                "--teacher",
                EXTERNAL,
                *settings(distill__keep_per_problem=1, distill__rule_check="false"),
            ),
        ),
        SFT_OUT,
    ),
}
BASES = {
    "base": {},
    "base_solve_first": {"prompt__order": "solve_first"},
    "base_rule_qa": {"distill__mix": "{guided: 0.7, mrpv: 0.08, replay: 0.22, rule_qa: 0.05}"},
}
SMOKE = ("cold", "realm_r1", "grpo")
FIVE_SEEDS = (  # of regime hard: what H1-H5 compare; all else has three
    "cold", "grpo", "synth", "zero", "zero_grpo", "unguided", "rft_both", "realm_r1", "r1_none", "r1_abrupt",
    "r1_bridge", "r1_bridge_right",
)  # fmt: skip
