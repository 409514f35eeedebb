"""A toy tokenizer, a tiny random Llama and helpers for trainer tests: seconds on a CPU, no download."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from tokenizers.decoders import Fuse
from transformers import BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from realm_cli.engines.loading import LoadedModel
from realm_cli.protocols import Completion, RlJob, Scored
from realm_cli.records import PlanRow, Sample, ShownRoute

CHARS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 \n.,:;=+-*/<>[]@()?!'\"_"
TEMPLATE = (
    "{% for m in messages %}<s>{{ m['role'] }}\n{{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)


def toy_tokenizer(extra: Sequence[str] = (), chars: str = CHARS) -> PreTrainedTokenizerFast:
    """A token per character of `chars` and per word of `extra`, else `<unk>`; ChatML-like, `</s>` ends a turn."""
    names = ["<pad>", "<s>", "</s>", "<unk>", *extra, *chars]
    core = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="<unk>"))
    words = "|".join([*extra, r"[\s\S]"])
    core.pre_tokenizer = pre_tokenizers.Split(Regex(words), "isolated")
    core.decoder = Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def toy_model(vocab: int, *, width: int = 32, layers: int = 2, seed: int = 0) -> LlamaForCausalLM:
    """A random Llama in float32."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocab,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=1024,
        initializer_range=0.15,  # wide enough for an adapter to move the logits
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config)


def toy_loaded(*, width: int = 32, layers: int = 2, seed: int = 0, **kwargs: Any) -> LoadedModel:
    """Model and tokenizer as `load_model` returns them."""
    tokenizer = toy_tokenizer(**kwargs)
    model = toy_model(len(tokenizer), width=width, layers=layers, seed=seed)
    return LoadedModel(model=model, tokenizer=tokenizer, label="toy", device="cpu", quant="none")


def toy_nf4(folder: Path, *, width: int = 64) -> LoadedModel:
    """A tiny Llama with NF4 weights (double quantised, float32 compute) on the CPU."""
    source = toy_loaded(width=width, chars="ab")
    source.model.save_pretrained(folder)
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )
    model = LlamaForCausalLM.from_pretrained(folder, quantization_config=config, dtype=torch.float32)
    return LoadedModel(model=model, tokenizer=source.tokenizer, label="toy-nf4", device="cpu", quant="nf4")


def lora_state(model: Any) -> dict[str, torch.Tensor]:
    """Copies of the adapter's weights."""
    return {name: p.detach().clone() for name, p in model.named_parameters() if "lora_" in name}


def toy_plan(steps: int, groups: int, routed: Callable[[int, int], bool] = lambda step, slot: False) -> list[PlanRow]:
    """A plan in order; a routed row shows one route."""
    rows = []
    for step in range(steps):
        for slot in range(groups):
            shown = [ShownRoute(route_id="r", steps=["1 + 1 = 2"], answer="2", label=True)]
            is_routed = routed(step, slot)
            text = "q" + "[Route A] 1 + 1 = 2" * is_routed
            rows.append(
                PlanRow(
                    id=f"p{step}-{slot}",
                    step=step,
                    slot=slot,
                    problem_id=f"q{slot}",
                    lam=0.5,
                    p_routed=0.5,
                    routed=is_routed,
                    shown=shown if is_routed else [],
                    messages=[{"role": "user", "content": text}],
                )
            )
    return rows


def toy_score(
    reward: Callable[[str], float], bridge: Callable[[str], str] = lambda text: ""
) -> Callable[[PlanRow, Sequence[Completion]], list[Scored]]:
    """A scoring function: reward of the text, group mean as baseline, bridge weight = positive advantage."""

    def score(row: PlanRow, completions: Sequence[Completion]) -> list[Scored]:
        rewards = [reward(c.text) for c in completions]
        base = sum(rewards) / len(rewards)
        out = []
        for i, (completion, value) in enumerate(zip(completions, rewards, strict=True)):
            sample = Sample(
                id=f"{row.id}/{i}",
                plan_id=row.id,
                step=row.step,
                problem_id=row.problem_id,
                routed=row.routed,
                sample=i,
                completion=completion.text,
                r_ans=value,
                r_fmt=0.0,
                p_len=0.0,
                p_copy=0.0,
                reward=value,
                advantage=value - base,
                bridge_weight=max(value - base, 0.0) if row.routed else 0.0,
                n_tokens=completion.n_tokens,
                truncated=completion.truncated,
            )
            out.append(Scored(sample, bridge(completion.text)))
        return out

    return score


def toy_job(out: Path, plan: Sequence[PlanRow], steps: int, groups: int, size: int, **given: Any) -> RlJob:
    """An RlJob that collects into lists unless told otherwise."""
    defaults: dict[str, Any] = {
        "score": toy_score(lambda text: float(text.startswith("a"))),
        "bare_messages": lambda problem_id: [{"role": "user", "content": "q"}],
        "on_samples": lambda samples: None,
        "on_metrics": lambda row: None,
        "evaluate": lambda generator, step: {"dev_bare": 0.0},
        "eval_every": 1000,
        "out_dir": out / "adapter",
    }
    return RlJob(plan=plan, steps=steps, groups_per_step=groups, group_size=size, **{**defaults, **given})
