"""Shapes without weights, and the bytes that a layer keeps, against what torch really saves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from realm_cli.engines.batches import TokenRow
from realm_cli.engines.callbacks import attach_lora
from realm_cli.engines.loading import LoadedModel, load_model
from realm_cli.engines.logprobs import row_logprobs
from realm_cli.engines.self_check import shares_prefix
from realm_cli.engines.shape import memory_here, model_shape, prompt_lengths, shape_of, trial
from realm_cli.errors import ConfigError
from realm_cli.recipe import LoraSettings, Recipe
from realm_cli.stages.footprint import saved_by_layer

SIZES = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}


def test_counts_of_the_tiny_student() -> None:
    shape = model_shape("tiny-student")
    loaded = load_model("tiny-student")
    assert shape.parameters == sum(p.numel() for p in loaded.model.parameters())
    model = attach_lora(loaded, LoraSettings(r=5), 0)
    assert 5 * shape.lora_width == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert shape.file_bytes == pytest.approx(2 * shape.parameters, rel=0.02)  # kept in bfloat16


@pytest.mark.parametrize("tied", [True, False])
def test_a_tied_head_counts_once_and_is_never_packed(tied: bool) -> None:
    config = Qwen2Config(**SIZES, num_key_value_heads=2, tie_word_embeddings=tied)
    with torch.device("meta"):
        shape = shape_of(Qwen2ForCausalLM(config), "m")
    layer = 32 * (32 + 16 + 16 + 32 + 3 * 48)
    assert shape.linear == 3 * layer
    assert shape.other == 64 * 32 * (1 if tied else 2) + 3 * (2 * 32 + 32 + 16 + 16) + 32
    assert (shape.kv_heads, shape.head_size) == (2, 8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shared", [True, False])
def test_a_layer_keeps_what_is_planned(dtype: torch.dtype, shared: bool) -> None:
    """Between 3 layers and 1, so that what does not belong to a layer falls out."""
    tokens, kept = 0, {}
    for layers in (1, 3):
        torch.manual_seed(0)
        config = LlamaConfig(**{**SIZES, "num_hidden_layers": layers}, num_key_value_heads=2)
        net = LlamaForCausalLM(config).to(dtype)
        model = attach_lora(LoadedModel(net, None, "m"), LoraSettings(r=4), 0)
        if shared:
            shares_prefix(model, "auto")
        rows = [TokenRow(tuple(range(1, 21)), tuple(range(1, 1 + n)), 1.0) for n in (40, 38, 36)]
        tokens = 19 + 41 + 39 + 37 if shared else 3 * 60
        kept[layers] = saved(model, lambda model=model, rows=rows: row_logprobs(model, [rows], 0, shared=shared))
    shape = shape_of(net, "m")
    mask = 0 if shared else 60 * dtype.itemsize  # of a padded batch, which footprint.py counts apart
    planned = saved_by_layer(shape, dtype.itemsize, 4, repeated=not shared) + mask
    measured = (kept[3] - kept[1]) / 2 / tokens
    assert measured == pytest.approx(planned, rel=0.04)


def saved(model: Any, run: Callable[[], Any]) -> int:
    """Bytes that autograd keeps, without parameters and buffers."""
    own = {x.untyped_storage().data_ptr() for x in (*model.parameters(), *model.buffers())}
    held: dict[int, torch.Tensor] = {}

    def pack(x: torch.Tensor) -> torch.Tensor:
        if x.untyped_storage().data_ptr() not in own:
            held[x.untyped_storage().data_ptr()] = x
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        run()
    return sum(x.untyped_storage().nbytes() for x in held.values())


def test_lengths_and_speeds_of_the_tiny_student() -> None:
    prompts = [[{"role": "user", "content": "How many?"}], [{"role": "user", "content": "How many legs?"}]]
    short, long = prompt_lengths("tiny-student", prompts)
    assert 0 < short < long
    speeds = trial(load_model("tiny-student"), Recipe(), prompts)
    assert speeds.sampled > 0
    assert speeds.trained > 0
    taken, memory = memory_here()
    assert 0 < taken < memory * 2**30


def test_an_unknown_model_is_one_line() -> None:
    with pytest.raises(ConfigError, match="did you mean tiny-student"):
        model_shape("tiny-studen")
