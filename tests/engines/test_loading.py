"""Names to models, one-line errors, adapters, NF4 and GGUF."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file

from realm_cli.engines import sources
from realm_cli.engines.loading import (
    LoadedModel,
    encode_completion,
    encode_prompt,
    end_ids,
    load_model,
    model_folder,
    resolve_model,
    set_seed,
    threads,
    turn_end,
)
from realm_cli.engines.sampler import LocalGenerator
from realm_cli.engines.sources import fingerprint
from realm_cli.errors import ConfigError, EngineError
from realm_cli.protocols import GenRequest, SamplingParams
from realm_cli.records import Message

Make = Callable[..., LoadedModel]
CHAT: list[Message] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "12 + 30 = ?"}]


def save_adapter(loaded: LoadedModel, folder: Path, base: str, **given: Any) -> Path:
    model = get_peft_model(loaded.model, LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM", **given))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.constant_(parameter, 0.3)
    model.save_pretrained(folder)
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "base_model_name_or_path": base}))
    return folder


# --- names ------------------------------------------------------------------------------------------------------


def test_the_builtin_student_is_shipped(tiny_student: Path) -> None:
    source = resolve_model("tiny-student")
    assert (source.kind, source.label) == ("builtin", "tiny-student")
    assert Path(model_folder(source)) == tiny_student


def test_smollm2_without_its_wheel_comes_from_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    source = resolve_model("smollm2-135m")
    assert (source.kind, source.label, model_folder(source)) == (
        "hub",
        "smollm2-135m",
        "HuggingFaceTB/SmolLM2-135M-Instruct",
    )


def test_names_of_files_folders_and_hub_ids(tmp_path: Path, model_dir: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"")
    assert resolve_model(str(tmp_path / "a.gguf")).gguf_file == tmp_path / "a.gguf"
    assert resolve_model(str(model_dir)).path == model_dir
    assert resolve_model("Qwen/Qwen2.5-0.5B-Instruct").hub_id == "Qwen/Qwen2.5-0.5B-Instruct"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tiny-studnt", "model tiny-studnt: unknown; did you mean tiny-student?"),
        ("smollm2", "model smollm2: unknown; did you mean smollm2-135m?"),
        ("xyz", "model xyz: unknown; known are tiny-student, smollm2-135m. Else give a hub id"),
        ("a/b/c", "model a/b/c: no such folder; give a folder with config.json, or a hub id (org/name)"),
        ("missing.gguf", "model missing.gguf: no such file; check the path"),
    ],
)
def test_unknown_names(name: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve_model(name)
    assert str(caught.value).startswith(message)


def test_folders_that_are_no_models(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="has no config.json; give a folder saved by save_pretrained"):
        resolve_model(str(tmp_path))
    (tmp_path / "w.gguf").write_bytes(b"")
    with pytest.raises(EngineError, match=r"has no config.json; name the file: .*w.gguf"):
        resolve_model(str(tmp_path))
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(EngineError, match=r"has no config.json; it is an adapter: write MODEL\+"):
        resolve_model(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(EngineError, match="no \\*.safetensors in the folder; other weight formats are not loaded"):
        resolve_model(str(tmp_path))


# --- models -----------------------------------------------------------------------------------------------------


def test_a_folder_loads_frozen_and_silent(model_dir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    loaded = load_model(str(model_dir), device="cpu")
    assert (loaded.label, loaded.device, loaded.quant) == (str(model_dir), "cpu", "none")
    assert not loaded.model.training
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}
    assert not any(p.requires_grad for p in loaded.model.parameters())
    assert loaded.model.config._name_or_path == str(model_dir)  # what an adapter records as its base
    half = load_model(str(model_dir), device="cpu", dtype="bfloat16")
    assert {p.dtype for p in half.model.parameters()} == {torch.bfloat16}
    assert capfd.readouterr() == ("", "")


def test_a_missing_pad_token_becomes_eos(model_dir: Path) -> None:
    file = model_dir / "tokenizer_config.json"
    file.write_text(json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k != "pad_token"}))
    tokenizer = load_model(str(model_dir), device="cpu").tokenizer
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == 2
    assert encode_completion(tokenizer, "ab")[-1] == 2  # the end of turn is still there to be learned


def test_no_chat_template(model_dir: Path) -> None:
    (model_dir / "chat_template.jinja").unlink()
    with pytest.raises(EngineError) as caught:
        load_model(str(model_dir), device="cpu")
    assert str(caught.value) == (
        f"model {model_dir} has no chat template; give an instruct model or add chat_template to tokenizer_config.json"
    )


def test_broken_models_are_one_line(model_dir: Path) -> None:
    (model_dir / "model.safetensors").write_bytes(b"junk")
    with pytest.raises(EngineError, match=r"^model .*toy-llama: cannot be loaded \([^\n]*\)$"):
        load_model(str(model_dir), device="cpu")


def test_the_hub_is_out_of_reach() -> None:
    with pytest.raises(EngineError) as caught:  # the tests run with HF_HUB_OFFLINE=1
        load_model("nobody/nothing-at-all", device="cpu")
    message = str(caught.value)
    assert message.startswith("model nobody/nothing-at-all: cannot be fetched from the model hub (")
    assert message.endswith("; check the name and the network, or give a local folder")
    assert "\n" not in message


def test_cuda_is_asked_for_but_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(EngineError, match="engine.device: cuda is asked for, but torch sees no CUDA device"):
        load_model("tiny-student", device="cuda")


def test_nf4_on_the_cpu(tmp_path: Path, make_loaded: Make) -> None:
    source = make_loaded(hidden_size=64, intermediate_size=128, head_dim=16)
    source.model.save_pretrained(tmp_path)
    source.tokenizer.save_pretrained(tmp_path)
    loaded = load_model(str(tmp_path), quant="nf4", device="cpu")
    config = loaded.model.config.quantization_config
    assert loaded.quant == "nf4"
    assert (config.bnb_4bit_quant_type, config.bnb_4bit_use_double_quant) == ("nf4", True)
    assert config.bnb_4bit_compute_dtype == torch.float32
    assert loaded.model.model.layers[0].mlp.up_proj.weight.dtype == torch.uint8
    ids = torch.tensor([encode_prompt(loaded.tokenizer, CHAT)])
    with torch.no_grad():
        exact, rounded = source.model(ids).logits[0, -1], loaded.model(ids).logits[0, -1]
    assert torch.corrcoef(torch.stack([exact, rounded]))[0, 1] > 0.9
    done = dict(LocalGenerator(loaded).generate([GenRequest("q", CHAT, n=2)], SamplingParams(8, 1.0)))
    assert all(c.n_tokens for c in done[0])


def test_threads_and_seeds() -> None:
    before = torch.get_num_threads()
    threads(1)
    assert torch.get_num_threads() == 1
    threads(0)
    assert torch.get_num_threads() == 1
    threads(before)
    set_seed(3)
    first = torch.rand(2).tolist()
    set_seed(3)
    assert torch.rand(2).tolist() == first


# --- adapters ---------------------------------------------------------------------------------------------------


def test_adapters_load_and_name_themselves(tmp_path: Path, model_dir: Path, make_loaded: Make) -> None:
    folder = save_adapter(make_loaded(), tmp_path / "distill" / "adapter", str(model_dir))
    base = load_model(str(model_dir), device="cpu")
    frozen = load_model(str(model_dir), device="cpu", adapter=folder)
    live = load_model(str(model_dir), device="cpu", adapter=folder, trainable=True)
    assert frozen.label.startswith(f"{model_dir}+distill@") and frozen.label == live.label
    assert not any(p.requires_grad for p in frozen.model.parameters())
    assert all(p.requires_grad == ("lora_" in name) for name, p in live.model.named_parameters())
    ids = torch.tensor([encode_prompt(base.tokenizer, CHAT)])
    with torch.no_grad():
        assert not torch.allclose(base.model(ids).logits, frozen.model(ids).logits)
    other = save_adapter(make_loaded(), tmp_path / "other" / "distill" / "adapter", "", lora_alpha=1)
    weights = load_file(other / "adapter_model.safetensors")
    assert weights.keys() == load_file(folder / "adapter_model.safetensors").keys()


def test_retrained_adapters_have_other_names(tmp_path: Path, model_dir: Path, make_loaded: Make) -> None:
    folder = save_adapter(make_loaded(), tmp_path / "last_adapter", str(model_dir))
    first = load_model(str(model_dir), device="cpu", adapter=folder).label
    save_adapter(make_loaded(seed=1), folder, str(model_dir))
    second = load_model(str(model_dir), device="cpu", adapter=folder).label
    assert first != second and {label.split("+")[1].split("@")[0] for label in (first, second)} == {"last_adapter"}


def test_adapters_that_do_not_fit(tmp_path: Path, model_dir: Path, make_loaded: Make) -> None:
    def load(folder: Path) -> str:
        with pytest.raises(EngineError) as caught:
            load_model(str(model_dir), device="cpu", adapter=folder)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    empty = tmp_path / "empty"
    empty.mkdir()
    assert load(empty) == f"adapter {empty}: no adapter_config.json; give a folder that a trainer saved"
    (empty / "adapter_config.json").write_text("{}")
    assert load(empty) == f"adapter {empty}: no adapter_model.safetensors; other weight formats are not loaded"
    (empty / "adapter_model.safetensors").write_bytes(b"")
    (empty / "adapter_config.json").write_text("[")
    assert "adapter_config.json: not a JSON object; give" in load(empty)
    foreign = save_adapter(make_loaded(), tmp_path / "foreign", "Qwen/Qwen2.5-0.5B-Instruct")
    assert load(foreign).startswith(
        f"adapter {foreign}: trained on Qwen/Qwen2.5-0.5B-Instruct, not on {model_dir}; "
        "set student.model=Qwen/Qwen2.5-0.5B-Instruct"
    )
    wide = save_adapter(make_loaded(hidden_size=64), tmp_path / "wide", str(model_dir))
    assert load(wide).startswith(f"adapter {wide}: does not fit {model_dir} (")


def test_a_moved_base_is_the_same_base(tmp_path: Path, model_dir: Path, make_loaded: Make) -> None:
    folder = save_adapter(make_loaded(), tmp_path / "a", f"/somewhere/else/{model_dir.name}")
    assert load_model(str(model_dir), device="cpu", adapter=folder).label.startswith(f"{model_dir}+a@")


# --- GGUF -------------------------------------------------------------------------------------------------------


def test_smollm2_is_converted_once(smollm2_dir: Path) -> None:
    stamp = (smollm2_dir / "model.safetensors").stat().st_mtime_ns
    assert Path(model_folder(resolve_model("smollm2-135m"))) == smollm2_dir
    assert (smollm2_dir / "model.safetensors").stat().st_mtime_ns == stamp
    assert not list(smollm2_dir.parent.glob(f".{smollm2_dir.name}-*"))
    loaded = load_model("smollm2-135m", device="cpu")
    assert (loaded.label, loaded.quant) == ("smollm2-135m", "none")
    assert sum(p.numel() for p in loaded.model.parameters()) == 134_515_008
    tokenizer = loaded.tokenizer
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == turn_end(tokenizer) == 2
    assert end_ids(tokenizer, loaded.model) == {0, 2}
    request = GenRequest("q", [{"role": "user", "content": "What is the capital of France?"}])
    assert "Paris" in dict(LocalGenerator(loaded).generate([request], SamplingParams(12, 0.0)))[0][0].text


def test_of_two_conversions_at_once_one_wins(tmp_path: Path) -> None:
    mine, theirs, target = tmp_path / ".a", tmp_path / ".b", tmp_path / "model"
    for folder in (mine, theirs):
        folder.mkdir()
        (folder / "config.json").write_text(folder.name)
    sources._rename(theirs, target)
    sources._rename(mine, target)
    assert (target / "config.json").read_text() == ".b"
    (target / "config.json").unlink()
    (target / "rest").write_text("")
    with pytest.raises(OSError):  # a folder of something else is in the way
        sources._rename(mine, target)


def test_broken_gguf_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REALM_CACHE", str(tmp_path / "cache"))
    (tmp_path / "a.gguf").write_bytes(b"GGUF but not really")
    with pytest.raises(EngineError, match=r"a.gguf: cannot be converted from GGUF \(.*\); give a folder with"):
        load_model(str(tmp_path / "a.gguf"), device="cpu")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_fingerprint_changes_with_what_a_model_is_made_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, data in (("model.safetensors", b"a" * 300), ("config.json", b"{}"), ("notes.md", b"x")):
        (tmp_path / name).write_bytes(data)
    first = fingerprint(tmp_path)
    (tmp_path / "notes.md").write_bytes(b"y")
    assert fingerprint(tmp_path) == first
    seen = {first}
    for name, data in (("config.json", b"[]"), ("model.safetensors", b"a" * 299 + b"b"), ("tokenizer.json", b"{}")):
        (tmp_path / name).write_bytes(data)
        seen.add(fingerprint(tmp_path))
    assert len(seen) == 4
    monkeypatch.setattr(sources, "WHOLE", 100)  # larger files: size, beginning and end
    large = bytearray((1 << 20) * 3)
    (tmp_path / "model.safetensors").write_bytes(large)
    before = fingerprint(tmp_path)
    large[-1] = 1
    (tmp_path / "model.safetensors").write_bytes(large)
    assert fingerprint(tmp_path) != before
