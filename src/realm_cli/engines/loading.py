"""Load models, tokenizers and adapters.

Usage: `loaded = load_model("tiny-student")`; `encode_prompt(loaded.tokenizer, messages)`

Notes. (1) Weights load from safetensors or GGUF only, never from pickles. (2) Padding: many models have pad = eos
(SmolLM2) or no pad at all, which then becomes eos. Sampling is right all the same, since padding is known by the
attention mask and never by its id; training code must find padding by position too, as masking every pad id would
take the true end of turn out of the loss.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import logging
import random
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
from transformers.utils import logging as hf_logging

from realm_cli.engines.chat import encode_completion, encode_prompt, end_ids, turn_end
from realm_cli.engines.sources import (
    LOAD_ERRORS,
    SMOLLM2,
    SMOLLM2_HUB,
    TINY,
    ModelSource,
    fingerprint,
    first_line,
    model_folder,
    resolve_model,
)
from realm_cli.engines.templates import ready_tokenizer
from realm_cli.engines.vocabulary import note_unused
from realm_cli.errors import EngineError

log = logging.getLogger(__name__)

__all__ = [
    "LoadedModel",
    "ModelSource",
    "encode_completion",
    "encode_prompt",
    "end_ids",
    "keep_freed_memory",
    "load_model",
    "model_folder",
    "resolve_model",
    "set_seed",
    "threads",
    "turn_end",
]


@dataclass
class LoadedModel:
    """A model on its device with its tokenizer. `label` names it in artifacts; quant: "none" | "nf4".

    digest: fingerprint of the base's files, the commit of a model from the hub, or "" where neither is known.
    """

    model: Any
    tokenizer: Any
    label: str
    device: str = "cpu"
    quant: str = "none"
    digest: str = ""

    def __post_init__(self) -> None:
        note_unused(self.model, self.tokenizer)


def load_model(
    model: str = TINY,
    *,
    quant: str = "auto",
    dtype: str = "auto",
    trust_remote_code: bool = False,
    device: str = "auto",
    adapter: Path | None = None,
    trainable: bool = False,
    template_args: Mapping[str, Any] | None = None,
) -> LoadedModel:
    """Load a model, and an adapter onto it, in evaluation mode; `trainable`: to train that adapter further.

    quant auto: nf4 (with double quantisation) on CUDA, none on the CPU. dtype auto: bfloat16 on CUDA, float32 on the
    CPU; with nf4 it is the type of computation. The base is frozen. template_args: what its chat template gets in every
    rendering. Raises ConfigError for an unknown name, EngineError for what cannot be loaded or asked.
    """
    _quiet()
    source = resolve_model(model)
    place = _device(device)
    nf4 = quant == "nf4" or (quant == "auto" and place == "cuda")
    kind = torch.bfloat16 if dtype == "bfloat16" or (dtype == "auto" and place == "cuda") else torch.float32
    where = model_folder(source)
    if trust_remote_code:
        log.warning("model %s: code that comes with the model may run (student.trust_remote_code)", source.label)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tokenizer, net = _base(source, where, kind, nf4, place, trust_remote_code, template_args or {})
        label = source.label
        digest = (
            fingerprint(Path(where)) if Path(where).is_dir() else str(getattr(net.config, "_commit_hash", "") or "")
        )
        if adapter is not None:
            net = _with_adapter(net, label, Path(adapter), trainable)
            label = f"{label}+{_adapter_label(Path(adapter))}"
    net.eval()
    return LoadedModel(net, tokenizer, label, place, "nf4" if nf4 else "none", digest)


def threads(n: int) -> None:
    """Use n CPU threads; 0 keeps the library's choice."""
    if n > 0:
        torch.set_num_threads(n)


def keep_freed_memory() -> None:
    """Let the C library keep what is freed for the next tensor, where it is glibc; elsewhere nothing happens.

    By default it gives every block above some size back to the system, and each forward pass pays again for the pages
    of all its activations, which is slow in virtual machines.
    """
    top_pad, trim_threshold, mmap_threshold = -2, -1, -3  # names of glibc's mallopt
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(mmap_threshold, 32 << 20)  # the largest that glibc takes
        libc.mallopt(trim_threshold, (1 << 31) - 1)
        libc.mallopt(top_pad, 64 << 20)


def set_seed(seed: int) -> None:
    """Seed the global generators, from which only training libraries draw; sampling has its own (sampler.py)."""
    random.seed(seed)  # noqa: TID251
    np.random.seed(seed % 2**32)  # noqa: TID251
    torch.manual_seed(seed)


def _base(
    source: ModelSource,
    where: str,
    kind: torch.dtype,
    nf4: bool,
    place: str,
    trust_remote_code: bool,
    template_args: Mapping[str, Any],
) -> tuple[Any, Any]:
    options: dict[str, Any] = {"dtype": kind, "use_safetensors": True, "trust_remote_code": trust_remote_code}
    if nf4:
        options["device_map"] = {"": place}
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=kind,
        )
    try:
        tokenizer = ready_tokenizer(where, source.label, trust_remote_code, template_args)
        net = AutoModelForCausalLM.from_pretrained(where, **options)
    except LOAD_ERRORS as error:
        raise EngineError(_why(source, error, trust_remote_code)) from None
    if not nf4:
        net = net.to(place)
    elif place == "cpu":
        _without_packing(net)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "left"
    net.config._name_or_path = net.name_or_path = source.label  # what a new adapter records as its base
    net.requires_grad_(False)
    return tokenizer, net


def _without_packing(net: Any) -> None:
    """Keep bitsandbytes from repacking NF4 weights for processors with bfloat16 products.

    It does so within the first forward without gradients, rounds the scales for good and then computes in bfloat16:
    what a model says would depend on what it was asked before, and a resumed run would not be the interrupted one's.
    """
    for module in net.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def _with_adapter(net: Any, label: str, adapter: Path, trainable: bool) -> Any:
    file = adapter / "adapter_config.json"
    if not file.is_file():
        raise EngineError(f"adapter {adapter}: no adapter_config.json; give a folder that a trainer saved")
    if not (adapter / "adapter_model.safetensors").is_file():
        raise EngineError(f"adapter {adapter}: no adapter_model.safetensors; other weight formats are not loaded")
    try:
        base = str(json.loads(file.read_text(encoding="utf-8")).get("base_model_name_or_path") or "")
    except (ValueError, AttributeError, RecursionError):
        raise EngineError(f"{file}: not a JSON object; give an adapter folder that a trainer saved") from None
    if base and _model_name(base) != _model_name(label):
        raise EngineError(
            f"adapter {adapter}: trained on {base}, not on {label}; set student.model={base} "
            "(or correct base_model_name_or_path in adapter_config.json if it is the same model)"
        )
    try:
        return PeftModel.from_pretrained(net, str(adapter), is_trainable=trainable)
    except LOAD_ERRORS as error:
        raise EngineError(f"adapter {adapter}: does not fit {label} ({first_line(error)}); give its own base") from None


def _model_name(name: str) -> str:
    """The last part of a model's name, which stays when folders move; SmolLM2's short name stands for its hub id."""
    last = name.rstrip("/").rsplit("/", 1)[-1].lower().removesuffix(".gguf")
    return SMOLLM2 if last == SMOLLM2_HUB.rsplit("/", 1)[-1].lower() else last


def _adapter_label(adapter: Path) -> str:
    """`distill@1a2b3c4d`: the stage's folder name and a digest of the weights, so that retrained adapters differ."""
    digest = hashlib.sha256((adapter / "adapter_model.safetensors").read_bytes()).hexdigest()[:8]
    resolved = adapter.resolve()
    return f"{resolved.parent.name if resolved.name == 'adapter' else resolved.name}@{digest}"


def _why(source: ModelSource, error: BaseException, trust_remote_code: bool) -> str:
    text = first_line(error)
    if "trust_remote_code" in str(error) and not trust_remote_code:
        return f"model {source.label}: brings its own code; read it, then set student.trust_remote_code=true"
    if source.kind != "hub":
        return f"model {source.label}: cannot be loaded ({text})"
    if "gated" in str(error).lower() or "401" in str(error):
        return f"model {source.hub_id}: needs access; accept its terms on the hub and run `hf auth login`"
    if "safetensors" in str(error):
        return f"model {source.hub_id}: has no safetensors weights, and other formats are not loaded; choose another"
    return (
        f"model {source.hub_id}: cannot be fetched from the model hub ({text}); check the name and the network, "
        "or give a local folder"
    )


def _quiet() -> None:
    """Only errors from transformers, and no progress bars: our own output stays readable."""
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it reports each retry


def _device(device: str) -> str:
    if device == "cuda" and not torch.cuda.is_available():
        raise EngineError("engine.device: cuda is asked for, but torch sees no CUDA device; set engine.device=cpu")
    return "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
