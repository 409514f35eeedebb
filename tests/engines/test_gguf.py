"""A GGUF file beside base + adapter: what is compared, and llama.cpp's real programs where they are."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
import torch

from realm_cli.cli.console import progress
from realm_cli.engines.callbacks import attach_lora
from realm_cli.engines.checkpoints import save_adapter
from realm_cli.engines.export import Reference, export_merged
from realm_cli.engines.gguf import LIMITS, Answer, FileCheck, check_file, compare_answers, followed
from realm_cli.engines.llama_cpp import convert, find_tools, last_line
from realm_cli.engines.loading import load_model
from realm_cli.prompts import bare_messages
from realm_cli.protocols import Completion
from realm_cli.recipe import LoraSettings

ASKED = [{"role": "user", "content": "a"}]
LISTED = {3: -0.1, 4: -2.5, 5: -4.0}


def reference(*answers: tuple[int, ...]) -> Reference:
    """Prompts of two tokens; every token at -0.2 nats, and at -1.2 without the adapter."""
    done = [((1, 2), Completion("text", token_ids=ids)) for ids in answers]
    return Reference(
        [ASKED for _ in answers], done, [[-0.2] * len(ids) for ids in answers], [[-1.2] * len(ids) for ids in answers]
    )


def test_log_probabilities_count_up_to_where_the_answers_part() -> None:
    assert followed((3, 3, 3), [(3, LISTED), (3, LISTED)]) == [-0.1, -0.1]
    assert followed((3, 4, 3), [(3, LISTED), (3, LISTED), (3, LISTED)]) == [-0.1, -2.5]
    assert followed((9, 3), [(3, LISTED), (3, LISTED)]) == [-4.0]  # not listed: at most as likely as the last one


def test_answers_prompts_and_gaps() -> None:
    answers = [Answer("text", 2, [(3, LISTED), (3, LISTED)]), Answer("text", 3, [(3, LISTED), (3, LISTED)])]
    check = compare_answers(reference((3, 3), (3, 4)), answers, "f16")
    assert check.same == 0.5 and check.other_prompts == 1 and check.prompts == 2
    assert check.gap == pytest.approx((0.1 * 3 + 2.3) / 4) and check.effect == pytest.approx(1.0)
    assert not check.passed


def test_a_server_without_ids_is_compared_by_its_texts() -> None:
    answers = [Answer("text", 2, None), Answer("other", 2, None)]
    check = compare_answers(reference((3,), (3,)), answers, "q8_0")
    assert check.same == 0.5 and math.isnan(check.gap) and check.passed
    assert not compare_answers(reference((3,)), [Answer("other", 2, None)], "q8_0").passed
    assert not compare_answers(reference((3,)), [Answer("text", 1, None)], "q8_0").passed


def test_limits_hold_for_every_type() -> None:
    assert LIMITS["f32"][0] >= LIMITS["f16"][0] >= LIMITS["bf16"][0]
    good = FileCheck(32, 1.0, 0.001, 0.5, 0.01, effect=0.5)
    assert good.passed and not FileCheck(32, 1.0, 0.001, 0.5, 0.01, effect=0.5, other_prompts=1).passed
    assert not FileCheck(32, 1.0, 0.001, 0.5, 0.01, effect=0.0015).passed  # what a file without the adapter has


def test_the_last_line_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"x\n" * 9000 + b"Writing: 10%\rWriting: 20%\rValueError: \xff no\n\n")
    assert last_line(log) == "ValueError: \ufffd no"
    log.write_bytes(b"")
    assert last_line(log) == ""


@pytest.mark.parametrize("outtype", sorted(LIMITS))
def test_the_real_programs(outtype: str, tmp_path: Path, smollm2_dir: Path) -> None:
    """SmolLM2-135M with an adapter through llama.cpp itself, and a file without the adapter beside it."""
    if not os.environ.get("REALM_LLAMA_CPP"):
        pytest.skip("REALM_LLAMA_CPP: not set; name a folder of llama.cpp with llama-server built in it")
    tools = find_tools(Path(os.environ["REALM_LLAMA_CPP"]))
    assert tools.server is not None
    adapter, log = tmp_path / "adapter", tmp_path / "log"
    loaded = load_model(str(smollm2_dir), quant="none", dtype="float32", device="cpu")
    model = attach_lora(loaded, LoraSettings(r=8, alpha=16), 0)
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.05)
    save_adapter(model, loaded.tokenizer, adapter)
    del model, loaded
    prompts = [bare_messages(f"A parcel weighs {i} kg. What is the fee at 3 a kg?", "terse") for i in range(1, 7)]
    merged = tmp_path / "merged"
    check, said = export_merged(str(smollm2_dir), adapter, merged, prompts, dtype="float32", max_tokens=24)
    assert check.passed
    log.touch()
    for folder, passes in ((merged, True), (smollm2_dir, False)):
        file = tmp_path / f"{folder.name}.gguf"
        convert(tools.converter, folder, file, outtype, log)
        found = check_file(said, file, tools.server, outtype, max_tokens=24, log=log, progress=progress)
        assert found.passed is passes and found.other_prompts == 0, found
