"""Fine-tuning: what the loss covers, what is saved, and that it learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoTokenizer

from engines.toys import lora_state, toy_loaded, toy_model, toy_nf4, toy_tokenizer
from realm_cli.engines.loading import encode_prompt
from realm_cli.engines.sft import LoraSftTrainer
from realm_cli.engines.sft_rows import IGNORED, EpochOrder, encode_sample, encode_samples, micro_batch_size
from realm_cli.errors import EngineError
from realm_cli.recipe import SftConfig
from realm_cli.records import SFTSample

QUESTION = [{"role": "user", "content": "say it"}]


def _sample(completion: str, loss_start: int = 0, id: str = "s") -> SFTSample:
    return SFTSample(
        id=id, problem_id="p", kind="lemma", messages=QUESTION, completion=completion, loss_start=loss_start
    )


def _rows(n: int = 12) -> list[SFTSample]:
    return [_sample("ab" * (1 + i % 4), id=f"s{i}") for i in range(n)]


def _config(**given: Any) -> SftConfig:
    return SftConfig(**{"lr": 5e-3, "batch_size": 4, "micro_batch": 2, "epochs": 4.0, **given})


def test_labels_cover_the_completion_after_loss_start_and_the_end_token() -> None:
    tokenizer = toy_tokenizer()
    prompt = list(encode_prompt(tokenizer, QUESTION))
    row = encode_sample(tokenizer, _sample("wrong fix", loss_start=6))
    assert row.input_ids[: len(prompt)] == prompt
    assert tokenizer.decode(row.input_ids[len(prompt) :]) == "wrong fix</s>"
    kept = [label for label in row.labels if label != IGNORED]
    assert tokenizer.decode(kept) == "fix</s>"
    assert row.labels[: len(prompt) + 6] == [IGNORED] * (len(prompt) + 6)
    assert [label for label in row.labels if label != IGNORED] == row.input_ids[len(prompt) + 6 :]


def test_a_token_across_the_boundary_is_split_there() -> None:
    """`fix` is one token, so `wrong f|ix` is no token boundary: the rest is tokenised alone."""
    tokenizer = toy_tokenizer(extra=["fix"])
    whole = encode_sample(tokenizer, _sample("wrong fix"))
    split = encode_sample(tokenizer, _sample("wrong fix", loss_start=7))
    assert len(split.input_ids) == len(whole.input_ids) + 2
    assert tokenizer.decode([label for label in split.labels if label != IGNORED]) == "ix</s>"
    assert tokenizer.decode(split.input_ids) == tokenizer.decode(whole.input_ids)


def test_overlong_rows_are_dropped_and_named() -> None:
    tokenizer = toy_tokenizer()
    length = len(encode_sample(tokenizer, _sample("abc")).input_ids)
    rows, dropped = encode_samples(tokenizer, [_sample("abc", id="fits"), _sample("abcd", id="long")], length, [2])
    assert [row.id for row in rows] == ["fits"]
    assert dropped == ["long"]


def test_nothing_to_train_on_is_an_error() -> None:
    tokenizer = toy_tokenizer()
    with pytest.raises(EngineError, match=r"no trainable rows: all 1 are longer than max_length 16"):
        encode_samples(tokenizer, [_sample("abc" * 20)], 16, [2])
    with pytest.raises(EngineError, match="no row has a completion"):
        encode_samples(tokenizer, [], 16, [2])


def test_an_end_token_outside_the_loss_is_an_error() -> None:
    with pytest.raises(EngineError, match="end-of-turn token is never in the loss"):
        encode_samples(toy_tokenizer(), [_sample("abc")], 512, [999])


@pytest.mark.parametrize(("batch", "micro", "want"), [(16, 16, 16), (16, 6, 4), (4, 16, 4), (7, 2, 1)])
def test_micro_batch_divides_the_batch(batch: int, micro: int, want: int) -> None:
    assert micro_batch_size(batch, micro) == want


def test_first_loss_is_the_mean_over_the_tokens_of_the_effective_batch(tmp_path: Path) -> None:
    loaded, samples, log = toy_loaded(), _rows(4), []
    total = count = 0.0
    for sample in samples:
        row = encode_sample(loaded.tokenizer, sample)
        with torch.no_grad():
            logp = loaded.model(torch.tensor([row.input_ids])).logits[0].log_softmax(-1)
        for t, label in enumerate(row.labels):
            if label != IGNORED:
                total, count = total - logp[t - 1, label].item(), count + 1
    LoraSftTrainer(loaded, _config(max_steps=1), 0).train(samples, out_dir=tmp_path / "adapter", on_metrics=log.append)
    assert log[0] == {"step": 0, "total_steps": 1, "rows": 4, "dropped": 0, "dropped_ids": []}
    assert log[1]["step"] == 1
    assert log[1]["loss"] == pytest.approx(total / count, rel=1e-4)


def test_training_learns_and_the_adapter_loads_with_plain_peft(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    loaded, log, out = toy_loaded(), [], tmp_path / "adapter"
    result = LoraSftTrainer(loaded, _config(), 0).train(_rows(), out_dir=out, on_metrics=log.append)
    assert result.steps == 12  # 3 batches of 4 rows, 4 epochs
    assert log[-1]["step"] == log[-1]["total_steps"] == 12
    assert log[-1]["loss"] < log[1]["loss"] - 0.3
    assert result.metrics["loss"] == log[-1]["loss"]
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "%|" not in captured.err
    again = PeftModel.from_pretrained(toy_model(len(loaded.tokenizer)), str(out))
    tokenizer = AutoTokenizer.from_pretrained(out)
    ids = torch.tensor([encode_prompt(tokenizer, QUESTION)])
    with torch.no_grad():
        base = toy_model(len(tokenizer))(ids).logits
        trained = again(ids).logits
    assert (trained - base).abs().max() > 0.1
    assert again.peft_config["default"].base_model_name_or_path == "toy"
    assert tokenizer.chat_template == loaded.tokenizer.chat_template


def test_same_seed_same_adapter(tmp_path: Path) -> None:
    files = []
    for name in ("one", "two"):
        out = tmp_path / name / "adapter"
        LoraSftTrainer(toy_loaded(), _config(), 3).train(_rows(), out_dir=out, on_metrics=lambda row: None)
        files.append((out / "adapter_model.safetensors").read_bytes())
    assert files[0] == files[1]


def test_ctrl_c_keeps_the_work_and_resume_continues(tmp_path: Path) -> None:
    out = tmp_path / "adapter"

    def stop(row: dict[str, Any]) -> None:
        if row["step"] == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        LoraSftTrainer(toy_loaded(), _config(), 0).train(_rows(), out_dir=out, on_metrics=stop)
    assert (out / "adapter_model.safetensors").is_file()
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-5"]
    log: list[dict[str, Any]] = []
    LoraSftTrainer(toy_loaded(), _config(), 0).train(_rows(), out_dir=out, on_metrics=log.append, resume=True)
    assert [row["step"] for row in log] == [5, 6, 7, 8, 9, 10, 11, 12]
    assert log[0] == {"step": 5, "total_steps": 12, "resumed_from": 5}
    whole = tmp_path / "whole" / "adapter"
    LoraSftTrainer(toy_loaded(), _config(), 0).train(_rows(), out_dir=whole, on_metrics=lambda row: None)
    name = "adapter_model.safetensors"
    assert (out / name).read_bytes() == (whole / name).read_bytes()  # also within an epoch


def test_the_order_of_an_epoch_depends_on_seed_and_epoch_alone() -> None:
    lengths = [i % 7 for i in range(50)]
    orders = []
    for seed, epoch in ((0, 0), (0, 1), (1, 0), (0, 1)):
        order = EpochOrder(lengths, 4, seed)
        order.set_epoch(epoch)
        torch.rand(3)  # what was drawn before does not matter
        orders.append(list(order))
        assert sorted(orders[-1]) == list(range(50)) and len(order) == 50
    assert orders[1] == orders[3] and len({tuple(o) for o in orders}) == 3


def test_checkpoints_are_kept_on_the_way(tmp_path: Path) -> None:
    out = tmp_path / "adapter"
    LoraSftTrainer(toy_loaded(), _config(save_every=5), 0).train(_rows(), out_dir=out, on_metrics=lambda row: None)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step-10", "step-12"]


def test_nf4_on_the_cpu(tmp_path: Path) -> None:
    loaded, log = toy_nf4(tmp_path / "base"), []
    trainer = LoraSftTrainer(loaded, _config(max_steps=6, lr=1e-2), 0)
    trainer.train(_rows(), out_dir=tmp_path / "adapter", on_metrics=log.append)
    assert log[-1]["loss"] < log[1]["loss"]
    assert all(p.dtype == torch.float32 for name, p in loaded.model.named_parameters() if "lora_" in name)
    assert lora_state(loaded.model)
