"""A model's shape without its weights, the lengths of texts in its tokens, and a short trial of its speed.

Usage: `shape = model_shape("Qwen/Qwen2.5-0.5B-Instruct")`; only the configuration is fetched.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import logging as hf_logging

from realm_cli.engines.batches import TokenRow, pad_id_of
from realm_cli.engines.callbacks import attach_lora, quiet
from realm_cli.engines.chat import encode_prompt
from realm_cli.engines.loading import LoadedModel
from realm_cli.engines.logprobs import row_logprobs
from realm_cli.engines.sampler import LocalGenerator
from realm_cli.engines.self_check import shares_prefix
from realm_cli.engines.sources import LOAD_ERRORS, first_line, model_folder, resolve_model
from realm_cli.engines.templates import ready_tokenizer
from realm_cli.errors import EngineError
from realm_cli.protocols import GenRequest, ModelShape, SamplingParams, Speeds
from realm_cli.recipe import Recipe
from realm_cli.records import Message

TRIAL_TOKENS, TRIAL_ROWS, TRIAL_TRAINED = 32, 32, 1024


def model_shape(name: str, *, trust_remote_code: bool = False) -> ModelShape:
    """Counts of the model `name`, from its configuration. ConfigError, EngineError."""
    source = resolve_model(name)
    where = model_folder(source)
    hf_logging.set_verbosity_error()
    try:
        config = AutoConfig.from_pretrained(where, trust_remote_code=trust_remote_code)
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            net = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    except LOAD_ERRORS as error:
        raise EngineError(
            f"model {source.label}: its configuration cannot be read ({first_line(error)}); check the name and the "
            "network, or give a local folder"
        ) from None
    return shape_of(net, source.label, Path(where))


def shape_of(net: Any, label: str, folder: Path | None = None) -> ModelShape:
    """Counts of a causal model, which may be without weights (on the meta device). EngineError for other layouts."""
    config = net.config.get_text_config()
    heads = config.num_attention_heads
    head = net.get_output_embeddings()
    linears = [m for m in net.modules() if isinstance(m, torch.nn.Linear) and m is not head]
    linear = sum(m.weight.numel() for m in linears)
    files = sorted(folder.glob("*.safetensors")) if folder is not None and folder.is_dir() else []
    try:
        return ModelShape(
            label=label,
            layers=config.num_hidden_layers,
            hidden=config.hidden_size,
            heads=heads,
            kv_heads=getattr(config, "num_key_value_heads", None) or heads,
            head_size=getattr(config, "head_dim", None) or config.hidden_size // heads,
            intermediate=config.intermediate_size,
            vocab=config.vocab_size,
            positions=int(getattr(config, "max_position_embeddings", None) or 1 << 30),
            linear=linear,
            other=sum(p.numel() for p in net.parameters()) - linear,
            lora_width=sum(m.in_features + m.out_features for m in linears),
            file_bytes=sum(file.stat().st_size for file in files),
        )
    except AttributeError as error:
        raise EngineError(f"model {label}: a layout that is not planned for ({first_line(error)})") from None


def memory_here() -> tuple[int, float]:
    """(bytes that Python and all that training imports take before a model, GiB of this machine)."""
    import realm_cli.engines.grpo
    import realm_cli.engines.sft  # noqa: F401

    return int(psutil.Process().memory_info().rss), psutil.virtual_memory().total / 2**30


def prompt_lengths(
    name: str,
    prompts: Sequence[Sequence[Message]],
    *,
    trust_remote_code: bool = False,
    template_args: Mapping[str, Any] | None = None,
) -> list[int]:
    """Tokens of each prompt in the model's chat form. EngineError where there is none."""
    source = resolve_model(name)
    try:
        tokenizer = ready_tokenizer(model_folder(source), source.label, trust_remote_code, template_args or {})
    except LOAD_ERRORS as error:
        raise EngineError(f"model {source.label}: its tokenizer cannot be read ({first_line(error)})") from None
    return [len(encode_prompt(tokenizer, prompt)) for prompt in prompts]


def trial(loaded: LoadedModel, recipe: Recipe, prompts: Sequence[Sequence[Message]]) -> Speeds:
    """Sample some tokens and train on some, each a second time for the clock; the adapter it puts on is left random."""
    engine, rl = recipe.engine, recipe.train_rl
    with quiet():
        model = attach_lora(loaded, rl.lora, recipe.seed, checkpointing=rl.grad_checkpointing)
    live = LoadedModel(model, loaded.tokenizer, loaded.label, loaded.device, loaded.quant)
    generator = LocalGenerator(live, engine.batch_rows, shared=engine.shared_prefix, kv_gib=engine.kv_gib)
    rows = min(engine.batch_rows, TRIAL_ROWS)
    requests = [GenRequest(key=str(i), messages=prompts[i % len(prompts)]) for i in range(rows)]
    params = SamplingParams(max_tokens=min(TRIAL_TOKENS, rl.max_tokens), temperature=1.0, seed=recipe.seed)

    def sample() -> int:
        return sum(c.n_tokens for _, found in generator.generate(requests, params) for c in found)

    sampled = _rate(sample)
    shared = shares_prefix(model, engine.shared_prefix)
    prompt = tuple(encode_prompt(loaded.tokenizer, prompts[0]))
    each = max(1, min(rl.max_tokens, TRIAL_TRAINED // 4))
    packs = [[TokenRow(prompt, tuple((prompt * (each // len(prompt) + 1))[:each]), 1.0) for _ in range(4)]]

    def train() -> int:
        model.train()
        values, _ = row_logprobs(model, packs, pad_id_of(loaded.tokenizer), shared=shared)
        values.sum().backward()
        return len(prompt) + 4 * each

    return Speeds(sampled, _rate(train))


def _rate(work: Any) -> float:
    """Tokens a second of the second run; the first warms up."""
    work()
    start = time.perf_counter()
    done: int = work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return done / (time.perf_counter() - start)
