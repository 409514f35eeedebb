"""GRPO with routes: the loss by hand, the plan's order, learning, keeping and resuming."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from engines.toys import lora_state, toy_job, toy_loaded, toy_model, toy_nf4, toy_plan, toy_score
from realm_cli.engines.batches import TokenRow
from realm_cli.engines.callbacks import attach_lora
from realm_cli.engines.grpo import RouteGrpoTrainer
from realm_cli.engines.grpo_step import StepTrainer
from realm_cli.engines.loading import encode_completion, encode_prompt
from realm_cli.errors import EngineError
from realm_cli.protocols import Completion, Contrast, GenRequest, Member, RlJob, SamplingParams, Scored
from realm_cli.recipe import BridgeConfig, EngineConfig, TrainRlConfig
from realm_cli.records import PlanRow

G = 4


def _config(**given: Any) -> TrainRlConfig:
    defaults: dict[str, Any] = {
        "steps": 4,
        "groups_per_step": 2,
        "group_size": G,
        "lr": 1e-2,
        "warmup_steps": 0,
        "max_tokens": 24,
        "micro_tokens": 40,
        "save_every": 100,
        "bridge": BridgeConfig(beta=0.0),
    }
    return TrainRlConfig.model_construct(**(TrainRlConfig().model_dump() | defaults | given)).model_copy(
        update={k: getattr(TrainRlConfig(), k) for k in ("lora", "reward")}
        | {"bridge": given.get("bridge", defaults["bridge"])}
    )


def _small(**given: Any) -> Any:
    """Vocabulary <pad> <s> </s> <unk> a b: a random model ends after a few tokens."""
    return toy_loaded(chars="ab", **given)


def _train(tmp_path: Path, loaded: Any, config: TrainRlConfig, **given: Any) -> list[dict[str, Any]]:
    log: list[dict[str, Any]] = []
    plan = given.pop("plan", None) or toy_plan(config.steps, config.groups_per_step)
    sinks = {"on_metrics": log.append, **given}
    job = toy_job(tmp_path, plan, config.steps, config.groups_per_step, config.group_size, **sinks)
    RouteGrpoTrainer(loaded, config, 0, EngineConfig()).train(job)
    return log


class _OneStep:
    """One hand-driven training step: gradients stay on the model to be compared."""

    def __init__(self, tmp_path: Path, config: TrainRlConfig, score: Any, routed: bool = False, **given: Any) -> None:
        base = _small()
        self.model = attach_lora(base, config.lora, 0)
        torch.manual_seed(1)
        for name, p in self.model.named_parameters():
            if "lora_B" in name:  # a fresh adapter has B = 0, which hides half of the gradient
                p.data.normal_(std=0.2)
        self.loaded = type(base)(**{**vars(base), "model": self.model})
        plan = toy_plan(1, config.groups_per_step, lambda step, slot: routed)
        job = toy_job(tmp_path, plan, 1, config.groups_per_step, config.group_size, score=score, **given)
        self.trainer = StepTrainer(job, self.loaded, config, 0, EngineConfig())
        rows = [{"prompt": row.id, "row": i} for i, row in enumerate(plan) for _ in range(config.group_size)]
        self.loss = float(self.trainer.training_step(self.model, rows))
        self.grads = self._take_grads()

    def _take_grads(self) -> dict[str, torch.Tensor]:
        grads = {n: p.grad.clone() for n, p in self.model.named_parameters() if p.grad is not None}
        self.model.zero_grad()
        return grads

    def expect(self, loss: torch.Tensor) -> None:
        """Loss and gradient must be those of `loss`."""
        loss.backward()
        assert self.loss == pytest.approx(loss.item(), rel=1e-4, abs=1e-7)
        want = self._take_grads()
        assert want.keys() == self.grads.keys()
        assert any(grad.abs().max() > 1e-6 for grad in want.values())
        for name, grad in want.items():
            torch.testing.assert_close(self.grads[name], grad, rtol=1e-3, atol=1e-7)

    def logp(self, prompt: Sequence[int], completion: Sequence[int]) -> torch.Tensor:
        logits = self.model(torch.tensor([[*prompt, *completion]])).logits[0]
        logp = logits.log_softmax(-1)
        return torch.stack([logp[len(prompt) + t - 1, k] for t, k in enumerate(completion)])

    def policy_loss(self, norm: float) -> torch.Tensor:
        """- 1/norm * sum_rows A * sum_t pi/stopgrad(pi), over every row that was not truncated."""
        total = torch.zeros(())
        for plan, done, scored in self.trainer.groups:
            prompt = encode_prompt(self.loaded.tokenizer, plan.messages)
            for completion, s in zip(done, scored, strict=True):
                if not completion.truncated:
                    logp = self.logp(prompt, completion.token_ids)
                    total = total - s.sample.advantage * (logp - logp.detach()).exp().sum() / norm
        return total


def test_one_step_is_the_written_dr_grpo_step(tmp_path: Path) -> None:
    config = _config(max_tokens=8)
    step = _OneStep(tmp_path, config, toy_score(lambda text: text.count("a")))
    done = [c for _, group, _ in step.trainer.groups for c in group]
    assert all(c.token_ids[-1] == 2 for c in done if not c.truncated)  # the end token is trained
    step.expect(step.policy_loss(norm=2 * G * 8))
    assert step.trainer.parts["sampler_trainer_gap"] < 1e-4


def test_token_normalised_loss(tmp_path: Path) -> None:
    step = _OneStep(tmp_path, _config(loss_type="dapo"), toy_score(lambda text: text.count("a")))
    tokens = sum(len(c.token_ids) for _, done, _ in step.trainer.groups for c in done if not c.truncated)
    step.expect(step.policy_loss(norm=tokens))


def test_groups_without_variance_are_skipped_without_a_change(tmp_path: Path) -> None:
    """Group q1 earns 1 whatever it says: its rows stay out of the forward pass but in the normaliser."""
    inner = toy_score(lambda text: text.count("a"))
    constant = toy_score(lambda text: 1.0)

    def score(row: PlanRow, done: Sequence[Completion]) -> list[Scored]:
        return (constant if row.problem_id == "q1" else inner)(row, done)

    step = _OneStep(tmp_path, _config(), score)
    assert 0 < step.trainer.parts["rows_trained"] <= G
    step.expect(step.policy_loss(norm=2 * G * 24))
    rows = []  # TRL's own loss over the whole step in one batch
    for plan, done, scored in step.trainer.groups:
        prompt = tuple(encode_prompt(step.loaded.tokenizer, plan.messages))
        for c, s in zip(done, scored, strict=True):
            rows.append(TokenRow(prompt, c.token_ids, 0.0 if c.truncated else s.sample.advantage))
    batch = step.trainer._tensors([[row] for row in rows], sum(len(row.completion_ids) for row in rows))
    step.expect(step.trainer._compute_loss(step.model, batch))


def test_bridge_is_added_with_the_norm_of_the_policy_loss(tmp_path: Path) -> None:
    config = _config(bridge=BridgeConfig(beta=3.0))
    score = toy_score(lambda text: text.count("a"), lambda text: "ab")
    step = _OneStep(tmp_path, config, score, routed=True)
    tokenizer, norm = step.loaded.tokenizer, 2 * G * 24
    bare = encode_prompt(tokenizer, [{"role": "user", "content": "q"}])
    bridge = torch.zeros(())
    for _, _, scored in step.trainer.groups:
        for s in scored:
            if s.sample.truncated:
                continue
            logp = step.logp(bare, encode_completion(tokenizer, "ab")).sum()
            bridge = bridge - 3.0 / norm * s.sample.bridge_weight * logp
    assert step.trainer.parts["loss_bridge"] == pytest.approx(bridge.item(), rel=1e-4)
    assert bridge.item() > 0
    step.expect(step.policy_loss(norm) + bridge)


def test_external_routes_join_the_loss_of_bare_groups(tmp_path: Path) -> None:
    """A right route as a whole, of a wrong one what follows its context; norm and unit weight by hand."""
    members = [Member("ab", 0, 0.5, whole=True), Member("ab", 1, -0.25, whole=False)]
    config = _config(routes_in_group=2.0)
    score = toy_score(lambda text: text.count("a"))
    step = _OneStep(tmp_path, config, score, members=lambda row, scored: members)
    norm, tokenizer = 2 * G * 24, step.loaded.tokenizer
    loss = step.policy_loss(norm)
    prompt = encode_prompt(tokenizer, [{"role": "user", "content": "q"}])
    for _ in range(2):  # groups
        whole = step.logp(prompt, encode_completion(tokenizer, "ab"))
        likely = step.logp(prompt, tokenizer("ab", add_special_tokens=False)["input_ids"])[1]
        loss = loss - 2.0 / norm * 0.5 * whole.sum()
        if likely.item() > math.log(0.1):
            loss = loss + 2.0 / norm * 0.25 * likely
    assert step.trainer.parts["rows_members"] == 4
    step.expect(loss)
    routed = _OneStep(tmp_path, config, score, routed=True, members=lambda row, scored: members)
    assert routed.trainer.parts["rows_members"] == 0


def test_the_token_signal_scales_each_tokens_advantage(tmp_path: Path) -> None:
    """Factor 1.5 on every first token, .5 on the others, whatever the routes say."""
    asked: list[tuple[float, int, int]] = []

    def weigh(advantage: float, right: Sequence[float], wrong: Sequence[Sequence[float]]) -> list[float]:
        asked.append((advantage, len(right), len(wrong)))
        return [1.5, *[0.5] * (len(right) - 1)]

    prompts = [[{"role": "user", "content": text}] for text in ("a", "b", "ab")]
    contrast = Contrast(prompts[0], prompts[1:], weigh)
    score = toy_score(lambda text: text.count("a"))
    step = _OneStep(tmp_path, _config(token_signal=0.5), score, contrast=lambda row: contrast)
    total = torch.zeros(())
    for plan, done, scored in step.trainer.groups:
        prompt = encode_prompt(step.loaded.tokenizer, plan.messages)
        for c, s in zip(done, scored, strict=True):
            if not c.truncated and s.sample.advantage:
                logp = step.logp(prompt, c.token_ids)
                factors = torch.tensor([1.5, *[0.5] * (len(logp) - 1)])
                total = total - s.sample.advantage * (factors * (logp - logp.detach()).exp()).sum() / (2 * G * 24)
    assert asked and all(wrong == 2 for _, _, wrong in asked)
    step.expect(total)
    assert step.trainer._signalled(step.model, step.trainer.groups[0][0], []) == []


def test_the_token_signal_reads_the_routes_log_probabilities(tmp_path: Path) -> None:
    seen: list[Sequence[float]] = []

    def weigh(advantage: float, right: Sequence[float], wrong: Sequence[Sequence[float]]) -> list[float]:
        seen.extend((right, *wrong))
        return [1.0] * len(right)

    beside = [{"role": "user", "content": "ab"}]
    step = _OneStep(
        tmp_path,
        _config(token_signal=0.5),
        toy_score(lambda t: t.count("a")),
        contrast=lambda r: Contrast(beside, [beside], weigh),
    )
    first = next(
        c
        for _, done, sc in step.trainer.groups
        for c, s in zip(done, sc, strict=True)
        if s.sample.advantage and not c.truncated
    )
    by_hand = step.logp(encode_prompt(step.loaded.tokenizer, beside), first.token_ids)
    assert seen[0] == pytest.approx(by_hand.tolist(), abs=1e-4) and seen[1] == seen[0]


def test_spare_rows_take_the_place_of_groups_without_variance(tmp_path: Path) -> None:
    """Problems q0 and q1 earn nothing; of three spares the second varies: it takes the first dead group's place."""
    inner, constant = toy_score(lambda text: text.count("a")), toy_score(lambda text: 1.0)

    def score(row: PlanRow, done: Sequence[Completion]) -> list[Scored]:
        return (inner if row.problem_id == "alive" else constant)(row, done)

    names = ("dead", "alive", "dead")
    spares = [
        toy_plan(1, 1)[0].model_copy(update={"id": f"spare{i}", "slot": 2 + i, "problem_id": name})
        for i, name in enumerate(names)
    ]
    step = _OneStep(tmp_path, _config(), score, spares={0: spares})
    kept, out = step.trainer.groups, step.trainer.discarded
    assert kept[0][0].id == "spare1" and kept[1][0].slot == 1
    assert sorted(row.id for row, _, _ in out) == ["p0-0", "spare0", "spare2"]
    assert step.trainer.parts["groups_discarded"] == 3
    assert step.trainer.parts["rows_trained"] <= G
    step.expect(step.policy_loss(norm=2 * G * 24))


def test_groups_that_only_the_bridge_or_members_teach_are_not_replaced(tmp_path: Path) -> None:
    """No group has variance: q0 is routed and has bridge weights, q1 has external routes beside it."""
    inner = toy_score(lambda text: 1.0, lambda text: "bb")

    def score(row: PlanRow, done: Sequence[Completion]) -> list[Scored]:
        weight = 0.2 if row.routed else 0.0
        return [Scored(s.sample.model_copy(update={"bridge_weight": weight, "truncated": False}), s.bridge_text)
                for s in inner(row, done)]  # fmt: skip

    plan = toy_plan(1, 2, lambda step, slot: slot == 0)
    spares = [plan[1].model_copy(update={"id": "spare", "slot": 2})]
    for beta in (0.0, 1.0):
        config = _config(steps=1, routes_in_group=beta, bridge=BridgeConfig(beta=8.0))
        given: dict[str, Any] = {"plan": plan, "score": score, "spares": {0: spares}}
        given["members"] = lambda row, scored: [Member("a", 0, 0.5, whole=True)]
        log = _train(tmp_path / str(beta), _small(), config, **given)
        assert (log[1]["zero_variance_routed"], log[1]["dead_routed"]) == (1.0, 0.0)
        assert (log[1]["zero_variance_bare"], log[1]["dead_bare"]) == (1.0, 0.0 if beta else 1.0)
        assert log[1]["groups_discarded"] == (0 if beta else 1)  # the spare has nothing either


def test_bare_groups_have_no_bridge(tmp_path: Path) -> None:
    config = _config(steps=1, bridge=BridgeConfig(beta=8.0))
    score = toy_score(lambda text: text.count("a"), lambda text: "ab")
    log = _train(tmp_path, _small(), config, score=score)
    assert (log[1]["loss_bridge"], log[1]["rows_bridge"]) == (0.0, 0)


def test_a_step_with_nothing_to_learn_moves_nothing(tmp_path: Path) -> None:
    loaded = _small()
    log = _train(tmp_path, loaded, _config(steps=1), score=toy_score(lambda text: 1.0))
    assert (log[1]["loss"], log[1]["grad_norm"], log[1]["rows_trained"]) == (0.0, 0.0, 0)
    assert (log[1]["zero_variance_bare"], log[1]["reward"]) == (1.0, 1.0)


def test_plan_rows_are_used_in_order_and_samples_reported_once_a_step(tmp_path: Path) -> None:
    seen, samples = [], []
    score = toy_score(lambda text: text.count("a"))

    def watch(row: PlanRow, done: Sequence[Completion]) -> list[Scored]:
        seen.append(row.id)
        assert len(done) == G
        return score(row, done)

    plan = toy_plan(3, 2, lambda step, slot: slot == 0)
    log = _train(tmp_path, _small(), _config(steps=3), plan=plan, score=watch, on_samples=samples.append)
    assert seen == [row.id for row in plan]
    assert [[s.plan_id for s in step] for step in samples] == [[f"p{t}-0"] * G + [f"p{t}-1"] * G for t in range(3)]
    assert [row["step"] for row in log] == [0, 1, 2, 3]
    assert log[1]["routed_groups"] == 1
    assert {"r_ans_routed", "r_ans_bare", "zero_variance_routed", "seconds_sample", "seconds_update", "lr"} <= set(
        log[1]
    )


def test_a_plan_that_does_not_fit_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"plan: 4 rows do not fit 4 steps of 2 groups in order \(8 rows\)"):
        _train(tmp_path, _small(), _config(), plan=toy_plan(2, 2))


def test_an_unknown_loss_is_an_error() -> None:
    with pytest.raises(EngineError, match="loss_type: bnpo is not supported; use one of dr_grpo"):
        RouteGrpoTrainer(_small(), _config(loss_type="bnpo"), 0, 64)


def test_rewarded_first_token_becomes_likely(tmp_path: Path) -> None:
    config = _config(steps=30, groups_per_step=4, group_size=8, max_tokens=12, micro_tokens=4096, lr=4e-3)
    loaded = _small()
    log = _train(tmp_path, loaded, config, score=toy_score(lambda text: float(text.startswith("a"))))
    rewards = [row["reward"] for row in log[1:]]
    assert sum(rewards[:3]) / 3 < 0.3  # one token in six
    assert sum(rewards[-10:]) / 10 > 0.8
    assert all(abs(row["loss"]) < 10 for row in log[1:])


def test_the_bridge_alone_teaches_the_bare_prompt(tmp_path: Path) -> None:
    """Every routed rollout is right: no advantage, bridge weight 0.2, so only the bridge moves the model."""
    inner = toy_score(lambda text: 1.0, lambda text: "bb")

    def score(row: PlanRow, done: Sequence[Completion]) -> list[Scored]:
        return [
            Scored(s.sample.model_copy(update={"bridge_weight": 0.2, "truncated": False}), s.bridge_text)
            for s in inner(row, done)
        ]

    rise = {}
    for beta in (0.0, 8.0):
        loaded = _small()
        bare = encode_prompt(loaded.tokenizer, [{"role": "user", "content": "q"}])
        ids = torch.tensor([[*bare, *encode_completion(loaded.tokenizer, "bb")]])
        labels = ids.masked_fill(torch.arange(ids.size(1)) < len(bare), -100)
        with torch.no_grad():
            before = float(loaded.model(ids, labels=labels).loss)
        config = _config(steps=10, lr=5e-3, bridge=BridgeConfig(beta=beta))
        _train(tmp_path / str(beta), loaded, config, plan=toy_plan(10, 2, lambda step, slot: True), score=score)
        with torch.no_grad():
            rise[beta] = before - float(loaded.model(ids, labels=labels).loss)
    assert rise[0.0] == 0.0
    assert rise[8.0] > 0.5


def test_the_best_adapter_is_kept_ties_go_to_the_later(tmp_path: Path) -> None:
    scores = {0: 0.1, 1: 0.5, 2: 0.5, 3: 0.2}
    weights: dict[int, Any] = {}
    loaded = _small()

    def evaluate(generator: Any, step: int) -> dict[str, float]:
        done = dict(generator.generate([GenRequest("dev", plan[0].messages)], SamplingParams(4, temperature=0.0)))
        assert len(done[0]) == 1
        weights[step] = lora_state(loaded.model)
        return {"dev_bare": scores[step]}

    plan = toy_plan(3, 2)
    log = _train(tmp_path, loaded, _config(steps=3), plan=plan, evaluate=evaluate, eval_every=1)
    assert [row["best_step"] for row in log] == [0, 1, 2, 2]
    assert [row["dev_bare"] for row in log] == [0.1, 0.5, 0.5, 0.2]
    for folder, step in (("adapter", 2), ("last_adapter", 3)):
        model = PeftModel.from_pretrained(toy_model(len(loaded.tokenizer)), str(tmp_path / folder))
        for name, value in lora_state(model.get_base_model()).items():
            torch.testing.assert_close(value, weights[step][name], rtol=0, atol=0)
    assert (tmp_path / "adapter" / "tokenizer_config.json").is_file()


def test_an_adapter_is_continued_not_replaced(tmp_path: Path) -> None:
    loaded = _small()
    model = attach_lora(loaded, _config().lora, 0)
    model.save_pretrained(str(tmp_path / "sft"), save_embedding_layers=False)
    frozen = PeftModel.from_pretrained(toy_model(len(loaded.tokenizer)), str(tmp_path / "sft"))
    before = lora_state(frozen)
    _train(
        tmp_path,
        type(loaded)(**{**vars(loaded), "model": frozen}),
        _config(steps=2),
        score=toy_score(lambda text: float(len(text) % 2)),
    )
    after = lora_state(frozen)
    assert before.keys() == after.keys()
    assert any((after[name] - before[name]).abs().max() > 1e-4 for name in before)
    config = json.loads((tmp_path / "last_adapter" / "adapter_config.json").read_text())
    assert config["inference_mode"] is True  # as saved adapters are
    assert config["r"] == 16


def test_kl_weight_keeps_every_row_and_is_zero_at_the_start(tmp_path: Path) -> None:
    log = _train(tmp_path, _small(), _config(steps=2, beta=0.1), score=toy_score(lambda text: 1.0))
    kept = (1 - log[1]["truncated"]) * 2 * G
    assert log[1]["rows_trained"] == kept
    assert log[1]["loss"] == pytest.approx(0.0, abs=1e-7)


def _outputs(folder: Path) -> dict[str, torch.Tensor]:
    return lora_state(PeftModel.from_pretrained(toy_model(6), str(folder)))


def test_ctrl_c_keeps_a_checkpoint_and_resume_goes_on(tmp_path: Path) -> None:
    plan = toy_plan(6, 2)
    seen: list[int] = []
    inner = toy_score(lambda text: text.count("a"))

    def score(row: PlanRow, done: Sequence[Completion]) -> list[Scored]:
        if row.step == 4 and len(seen) < 10 and row.slot == 1:
            raise KeyboardInterrupt
        seen.append(row.step)
        return inner(row, done)

    config = _config(steps=6)
    evaluated: list[int] = []

    def evaluate(generator: Any, step: int) -> dict[str, float]:
        evaluated.append(step)
        return {"dev_bare": 1.0 - step / 10}

    given = {"plan": plan, "score": score, "evaluate": evaluate, "eval_every": 3}
    with pytest.raises(KeyboardInterrupt):
        _train(tmp_path, _small(), config, **given)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-4"]
    assert seen == [0, 0, 1, 1, 2, 2, 3, 3, 4]
    seen += [-1]
    log = _train(tmp_path, _small(), config, **given, resume=True)
    assert seen[10:] == [4, 4, 5, 5]
    assert log[0] == {"step": 4, "total_steps": 6, "resumed_from": 4, "best_step": 0}
    assert [row["step"] for row in log[1:]] == [5, 6]
    assert evaluated == [0, 3, 6]  # not again at step 0
    whole = tmp_path / "whole"
    _train(whole, _small(), config, plan=plan, score=inner)
    ours, theirs = _outputs(tmp_path / "last_adapter"), _outputs(whole / "last_adapter")
    for name, value in theirs.items():
        assert torch.equal(ours[name], value), name


def test_resume_of_a_finished_run_trains_nothing(tmp_path: Path) -> None:
    config = _config(steps=2)
    _train(tmp_path, _small(), config)
    log = _train(tmp_path, _small(), config, resume=True)
    assert [row.get("resumed_from") for row in log] == [2]


def test_nf4_on_the_cpu(tmp_path: Path) -> None:
    loaded = toy_nf4(tmp_path / "base")
    log = _train(
        tmp_path,
        loaded,
        _config(steps=3, bridge=BridgeConfig(beta=8.0)),
        plan=toy_plan(3, 2, lambda step, slot: slot == 0),
        score=toy_score(lambda text: text.count("a"), lambda text: "ab"),
    )
    assert all(row["sampler_trainer_gap"] < 1e-3 for row in log[1:])
    assert any(row["loss_bridge"] > 0 for row in log[1:])
    state = lora_state(loaded.model)
    assert all(value.dtype == torch.float32 for value in state.values())
    assert any(value.abs().max() > 0 for name, value in state.items() if "lora_B" in name)


def test_job_shape_is_the_protocol(tmp_path: Path) -> None:
    assert isinstance(toy_job(tmp_path, [], 0, 1, 2), RlJob)
