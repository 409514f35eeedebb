"""The rows of every JSONL artifact (method.md section 2). Frozen; an unknown field is an error.

Usage: `Problem.model_validate_json(line)`, `row.model_dump_json()`. Lists that run over steps are 0-based in
Python; step *numbers* (`first_error`, `decisive_step`, "wrong @k") are 1-based everywhere, as a reader counts them.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

AnswerType = Literal["number", "expr", "choice", "label", "text", "date", "list"]
DateOrder = Literal["dmy", "mdy", "ymd"]
Split = Literal["train", "dev", "test"]
Bucket = Literal["zero", "hard", "mid", "easy", "sat"]
StepKind = Literal["agreed", "suspect", "novel", "none"]
Mode = Literal["bare", "routed", "routed_hidden", "ruled"]
Message = dict[str, str]  # {"role": "system|user|assistant", "content": str}


class Row(BaseModel):
    """Base of all rows: `id` is unique within its file, `schema_version` changes when a field's meaning does."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    id: str = Field(min_length=1)
    schema_version: int = 1


class Problem(Row):
    """One question with a checkable answer. `answer_type` may be a plug-in checker's name."""

    question: str = Field(min_length=1)
    answer: str = Field(min_length=1)
    answer_type: str = "text"
    split: Split = "train"
    domain: str = ""
    group: str = ""  # stratum for reports, e.g. a product family
    tags: list[str] = []  # "distill" marks the problems a teacher may use when any problem carries the tag
    answers: list[str] = []  # further accepted answers: `answer` or any one of these is right
    choices: list[str] | None = None  # in order, without letters; "" keeps the place of an option that is missing
    tolerance: float | None = None  # absolute, for answer_type "number"; None = exact
    tolerance_rel: float | None = None  # share of the answer, 0.05 = 5 %, for answer_type "number"
    lower: float | None = None  # least number that is right, itself included
    upper: float | None = None  # greatest number that is right, itself included
    decimal_comma: bool = False  # 12,5 is 12.5 and 1.250 is 1250, as in the table that the problem is from
    date_order: DateOrder | None = None  # how 03/04/2024 is read, for answer_type "date"; None = only clear dates
    rule_ids: list[str] | None = None
    gold_solution: str | None = None
    p_ext: float | None = None
    p_self: float | None = None
    bucket: Bucket | None = None


class Route(Row):
    """One sampled chain of thought for a problem (method.md section 4). `id` = problem_id/source/sample."""

    problem_id: str
    source: str
    sample: int = 0
    temperature: float = 0.0
    seed: int = 0
    text: str
    steps: list[str] = []
    final_answer: str | None = None
    n_tokens: int = 0
    truncated: bool = False
    origin: Literal["sampled", "tampered", "gold"] = "sampled"
    correct: bool = False  # a row that does not hold it is judged where it is read


class FailedSample(Row):
    """A sample that there is not: a server did not give it, or its prompt is too long. The next run asks for it again.

    `id` is that of its row.
    """

    problem_id: str
    source: str
    sample: int
    reason: str
    runs: int = 1  # commands that have asked in vain, each with all its retries
    lasting: bool = False  # it cannot come from this model: left out, and no failure of the stage


class ScoredRoute(Route):
    """A route with its process scores (method.md section 5). All lists have one entry per step."""

    facts: list[list[str]] = []
    step_support: list[float | None] = []
    step_kind: list[StepKind] = []
    belief: list[float] | None = None
    mc_value: list[float] | None = None
    step_score: list[float | None] = []
    first_error: int | None = None  # 1-based; None = unknown
    first_error_src: str | None = None  # "support" | "tampered" | "mc" | "consensus"
    decisive_step: int | None = None  # 1-based, of a positive
    route_score: float | None = None
    lucky: bool = False


class Probe(Row):
    """What a model thinks of a route after each step (method.md sections 5.4 and 5.5). `id` is the route's.

    belief: mean log-probability of the gold answer's tokens (nats). mc_value: share of continuations that end right.
    """

    problem_id: str
    belief: list[float] | None = None
    mc_value: list[float] | None = None


class ShownRoute(BaseModel):
    """A route as a prompt shows it: canonical steps, final answer, gold verdict and first wrong step (1-based)."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    route_id: str
    steps: list[str]
    answer: str | None
    label: bool
    first_error: int | None = None
    tampered: bool = False


class RouteSet(Row):
    """K routes to be contrasted in one prompt (method.md section 6), in the order shown."""

    problem_id: str
    kind: Literal["balanced", "natural"]
    shown: list[ShownRoute]
    answers_hidden: bool = False
    order_seed: int = 0


class PlanRow(Row):
    """One GRPO group: what is shown at which step (method.md section 9). routed=false -> no routes."""

    step: int  # 0-based RL step
    slot: int  # group index within the step
    problem_id: str
    lam: float
    p_routed: float
    routed: bool
    mode: str = "full"  # which fades were active, e.g. "a", "a+c+d"
    set_id: str | None = None
    shown: list[ShownRoute] = []
    shown_steps: list[int] = []  # steps visible per route
    cut: list[bool] = []  # True: the route ends with [cut]
    verdicts: list[bool | None] = []  # gold verdict after cutting; None = excluded from r_ver
    first_errors: list[int | None] = []  # gold first error after cutting
    answers_hidden: bool = False
    members: list[ShownRoute] = []  # of a bare group: routes beside it that no prompt shows (method/members.py)
    messages: list[Message]


class Sample(Row):
    """One RL completion with every reward part (method.md section 8); reward = weighted sum of the parts."""

    plan_id: str
    step: int
    problem_id: str
    routed: bool
    sample: int
    completion: str
    verdicts: list[bool | None] | None = None
    first_errors: list[int | None] | None = None
    answer: str | None = None
    r_ans: float
    r_ver: float | None = None  # None = term absent
    r_loc: float | None = None
    r_fmt: float
    p_len: float
    p_copy: float
    reward: float
    advantage: float
    bridge_weight: float = 0.0
    n_tokens: int
    truncated: bool
    mean_logprob: float | None = None


class GuidedCoT(Row):
    """A teacher's chain of thought and what the filters said (method.md section 3)."""

    problem_id: str
    teacher: str
    rules_shown: bool
    label_given: bool = False
    text: str
    steps: list[str] = []
    final_answer: str | None = None
    correct: bool = False
    rule_check: Literal["pass", "fail", "na"] = "na"
    leak_flags: list[str] = []
    nll_student: float | None = None
    kept: bool = False
    drop_reason: str | None = None


class SFTSample(Row):
    """A fine-tuning example. `completion` continues `messages`; the loss covers completion[loss_start:] only."""

    problem_id: str
    kind: Literal["guided", "positive", "mrpv", "lemma", "rule_qa", "replay"]
    messages: list[Message]
    completion: str
    loss_start: int = 0  # characters of the completion that are context only (a wrong prefix)
    weight: float = 1.0


class Prediction(Row):
    """One evaluated completion (method.md section 12)."""

    model: str
    mode: Mode
    problem_id: str
    group: str = ""
    sample: int = 0
    route_ids: list[str] = []
    completion: str
    answer: str | None = None
    correct: bool
    correct_flexible: bool = False
    format_ok: bool = False
    verdict_bal_acc: float | None = None
    loc_acc: float | None = None
    plurality_correct: bool | None = None  # of the routes shown
    any_correct: bool | None = None
    followed: bool | None = None  # the answer is the plurality's
    n_tokens: int = 0
    truncated: bool = False
