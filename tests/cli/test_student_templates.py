"""The shipped student under chat templates of thinking models, and with prompts longer than it can read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from cli.helpers import SOLVERS, Realm, rows, write_rows
from realm_cli.recipe import LoraSettings

TERSE = ["--set", "prompt.style=terse", "--set", "data.domain=rulebook"]
OPENED = "<|assistant|>\n<think>"  # without a line break, which is part of the next token in this student's tokenizer
KEEP = "message['content']"
DROP = "(message['content'].split('</think>')[-1] if message['role'] == 'assistant' else message['content'])"


def thinking_student(folder: Path, tiny_student: Path) -> Path:
    """The student with a template that opens a thought, and takes thoughts out of earlier turns."""
    shutil.copytree(tiny_student, folder)
    file = folder / "chat_template.jinja"
    text = file.read_text()
    assert text.count("<|assistant|>\n") == 1 and text.count(KEEP) == 1
    file.write_text(text.replace("<|assistant|>\n", OPENED).replace(KEEP, DROP))
    return folder


def short_student(folder: Path, tiny_student: Path, positions: int) -> Path:
    """The student with fewer positions."""
    shutil.copytree(tiny_student, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": positions}))
    return folder


def test_evaluation_is_the_same_whoever_opens_the_thought(world: Path, realm: Realm, tiny_student: Path) -> None:
    """The student writes `<think>` by itself; a template that writes it must change nothing, bare or routed."""
    thinking_student(Path("opened"), tiny_student)
    found = {}
    for run, model in (("own", "tiny-student"), ("given", "opened")):
        shutil.copytree("r", run)
        args = ["--set", f"student.model={model}", *TERSE, "--mode", "bare", "--mode", "routed", "--set", "eval.k=2"]
        result = realm("eval", "--run", run, *args, "--limit", 6)
        assert result.code == 0, result.err
        found[run] = rows(Path(run, "eval/predictions.jsonl"))
    assert len(found["own"]) == len(found["given"]) == 12
    for one, other in zip(found["own"], found["given"], strict=True):
        for key in ("id", "completion", "answer", "correct", "format_ok", "verdict_bal_acc"):
            assert one[key] == other[key], key
    bare = [row for row in found["given"] if row["mode"] == "bare"]
    assert all(row["completion"].startswith("<think>\n") for row in bare)
    assert all(row["completion"].count("<think>") == 1 for row in found["given"])
    assert sum(row["format_ok"] for row in bare) >= 4
    own = {row["id"]: row["n_tokens"] for row in found["own"]}
    assert {own[row["id"]] - row["n_tokens"] for row in bare} == {1}  # the tag was given


def test_a_whole_run_under_an_opened_thought(world: Path, realm: Realm, tiny_student: Path) -> None:
    """Rollout, distillation and RL: texts hold one `<think>`, rewards see the form, sampler and trainer agree."""
    thinking_student(Path("opened"), tiny_student)
    common = ["--run", "n", "--set", "student.model=opened", *TERSE, "--problems", "d/problems.jsonl"]
    result = realm("rollout", *common, "-m", "student", *SOLVERS, "--n", 2, "--limit", 24)
    assert result.code == 0, result.err
    own = [row for row in rows(Path("n/rollout/routes.jsonl")) if row["source"] == "hf:opened"]
    assert len(own) == 48 and all(row["text"].startswith("<think>\n") for row in own)
    assert all(row["text"].count("<think>") == 1 for row in own)
    assert sum(len(row["steps"]) > 1 for row in own) >= 40
    assert realm("verify", *common[:8]).code == 0
    result = realm("distill", *common, "--teacher", "oracle", "--set", "data.domain=rulebook",
                   "--set", "distill.limit=8", "--set", "distill.sft.max_steps=2")  # fmt: skip
    assert result.code == 0, result.err
    small = [
        "groups_per_step=2",
        "group_size=4",
        "dev_limit=2",
        "max_tokens=256",
        "preflight.groups=0",
        "schedule=none",
        "p_max=0.5",
    ]
    result = realm("train-rl", *common, "--steps", 3, *(x for key in small for x in ("--set", f"train_rl.{key}")))
    assert result.code == 0, result.err
    samples = rows(Path("n/train_rl/samples.jsonl"))
    assert len(samples) == 24 and {row["routed"] for row in samples} == {True, False}
    for row in samples:
        assert row["completion"].startswith("<check>\n" if row["routed"] else "<think>\n")
        assert row["completion"].count("<think>") <= 1
    assert sum(row["r_fmt"] > 0 for row in samples) >= 8
    metrics = rows(Path("n/train_rl/metrics.jsonl"))
    gaps = [row["sampler_trainer_gap"] for row in metrics if "sampler_trainer_gap" in row]
    assert gaps and max(gaps) < 1e-4


def long_world(where: Path) -> None:
    """Problems of the world, two of them with a question that is far too long."""
    data = rows(where / "d/problems.jsonl")
    tests = [row for row in data if row["split"] == "test"]
    for row in tests[1:3]:
        row["question"] += " Note: nothing." * 300
    write_rows(where / "long.jsonl", data)


def test_prompts_that_are_too_long_are_left_out_and_told(world: Path, realm: Realm, tiny_student: Path) -> None:
    long_world(world)
    short_student(Path("short"), tiny_student, 512)
    args = ["--run", "r", "--set", "student.model=short", *TERSE, "--problems", "long.jsonl"]
    result = realm("eval", *args, "--mode", "bare", "--json")
    assert result.code == 0, result.err
    report = json.loads(result.out)
    assert report["results"][0]["n"] == 6 and report["left_out"] == {"base, bare": 2}
    failed = rows(Path("r/eval/errors.jsonl"))
    assert len(failed) == 2 and all(row["lasting"] for row in failed)
    assert {row["reason"] for row in failed} == {"its prompt is longer than the 512 tokens that short can read"}
    shown = realm("eval", *args, "--mode", "bare", "--resume")
    assert shown.code == 0 and "2 problems are in no figure of base, bare" in shown.out + shown.err
    assert "2 samples of 2 problems are left out, e.g. of" in shown.out + shown.err
    assert "2 x its prompt is longer than the 512 tokens that short can read; shorten the question" in " ".join(
        (shown.out + shown.err).split()
    )
    args[1] = "n"
    result = realm("rollout", *args, "-m", "student", "--n", 2, "--set", "rollout.splits=[test]")
    assert result.code == 0, result.err
    routes = [row for row in rows(Path("n/rollout/routes.jsonl")) if row["source"] == "hf:short"]
    assert len(routes) == 12
    again = realm("rollout", *args, "-m", "student", "--n", 3, "--set", "rollout.splits=[test]")
    assert again.code == 0, again.err  # what cannot be asked stands in nobody's way
    assert len(rows(Path("n/rollout/errors.jsonl"))) == 6


def test_all_prompts_too_long_is_an_error(world: Path, realm: Realm, tiny_student: Path) -> None:
    short_student(Path("short"), tiny_student, 16)
    args = ["--run", "n", "--set", "student.model=short", *TERSE, "--problems", "d/problems.jsonl"]
    for command in (["eval", "--mode", "bare"], ["rollout", "-m", "student"]):
        result = realm(command[0], *args, *command[1:])
        assert result.code == 1
        assert "longer than the 16 tokens that short can read" in result.lines[-1]
        assert result.lines[-1].startswith(f"error: n/{command[0]}/errors.jsonl: ")
    assert realm("ask", "Fee?", "--run", "r", "--set", "student.model=short").code == 1


def test_rl_leaves_out_what_is_too_long(
    world: Path, realm: Realm, tiny_student: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = rows(world / "d/problems.jsonl")
    train = [row for row in data if row["split"] == "train"]
    for row in train[:12]:
        row["question"] += " Note: nothing." * 300
    write_rows(world / "long.jsonl", data)
    short_student(Path("short"), tiny_student, 512)
    args = ["--set", "student.model=short", *TERSE, "--problems", "long.jsonl", "--adapter", "none", "--steps", 2,
            "--set", "train_rl.groups_per_step=4", "--set", "train_rl.group_size=2", "--set", "train_rl.dev_limit=2",
            "--set", "train_rl.max_tokens=64", "--set", "train_rl.preflight.stop=false"]  # fmt: skip
    result = realm("train-rl", "--run", "r", *args)
    assert result.code == 0, result.err
    (line,) = [line for line in caplog.messages if "planned prompts" in line]
    assert "are longer than the 512 tokens that short can read" in line and "are left out (e.g. of problem" in line
    samples = rows(Path("r/train_rl/samples.jsonl"))
    assert len(samples) == 16
    assert 0 < sum(row["n_tokens"] == 0 for row in samples) < 16
    assert all(row["advantage"] == 0 and row["truncated"] for row in samples if row["n_tokens"] == 0)
    short_student(Path("tiny"), tiny_student, 16)
    result = realm("train-rl", "--run", "s", "--set", "train_rl.schedule=zero", *args, "--set", "student.model=tiny")
    assert result.code == 1 and "all 8 are too long, e.g. the prompt of" in result.lines[-1]


def adapter_of(folder: Path, **given: Any) -> Path:
    folder.mkdir()
    config = {"peft_type": "LORA", "r": 32, "lora_alpha": 64, "lora_dropout": 0.0, **given}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    return folder


def test_an_adapter_keeps_its_own_settings_and_they_are_recorded(world: Path, realm: Realm) -> None:
    adapter_of(Path("a"))
    Path("mine.yaml").write_text("train_rl: {lora: {r: 8, alpha: 16}}\n")
    plan = ["train-rl", "--plan-only", "--steps", 4, "--problems", "d/problems.jsonl", "--run", "r"]
    result = realm(*plan, "--adapter", "a", "--recipe", "mine.yaml")
    assert result.code == 0, result.err
    told = [line for line in result.lines if line.startswith("a: ")]
    assert told == ["a: trained further as it is, with r 32, alpha 64, dropout 0; train_rl.lora is for new adapters"]
    recorded = json.loads(Path("r/train_rl/recipe.json").read_text())["train_rl"]["lora"]
    assert LoraSettings(**recorded) == LoraSettings(r=32, alpha=64)
    before = Path("r/train_rl/plan.jsonl").read_bytes()
    old = json.loads(Path("r/train_rl/recipe.json").read_text())
    old["train_rl"]["lora"] = {"r": 8, "alpha": 16, "dropout": 0.0}  # as an earlier version wrote it down
    Path("r/train_rl/recipe.json").write_text(json.dumps(old))
    assert realm(*plan, "--adapter", "a", "--recipe", "mine.yaml", "--resume").code == 0
    assert Path("r/train_rl/plan.jsonl").read_bytes() == before
    refused = realm(*plan, "--adapter", "a", "--set", "train_rl.lora.r=8", "--force")
    assert refused.code == 1 and refused.lines == [
        "error: --set train_rl.lora.r=8: a has r 32, alpha 64, dropout 0, and it is that adapter which is trained "
        "further; leave the setting out, or start a new adapter (train-rl: --adapter none)"
    ]
    assert realm(*plan, "--adapter", "a", "--set", "train_rl.lora.r=32", "--force").code == 0
    assert realm(*plan, "--adapter", "none", "--recipe", "mine.yaml", "--force").code == 0
    assert json.loads(Path("r/train_rl/recipe.json").read_text())["train_rl"]["lora"]["r"] == 8


@pytest.mark.parametrize("text", ["[]", "{", '{"r": "x"}', "null"])
def test_an_odd_adapter_config_is_left_to_the_loader(tmp_path: Path, text: str) -> None:
    from realm_cli.cli.adapters import with_own_lora
    from realm_cli.recipe import Recipe

    (tmp_path / "adapter_config.json").write_text(text)
    assert with_own_lora(Recipe(), tmp_path, "train_rl", ["train_rl.lora.r=8"]) == Recipe()
