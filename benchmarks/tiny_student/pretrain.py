"""Pretrain the tiny student from nothing on generic text (corpus.py).

Usage: `python benchmarks/tiny_student/pretrain.py --out src/realm_cli/assets/tiny-student --minutes 20`
The loss weighs completions 1, check blocks more, prompts less. Batches hold texts of similar length, about
`--batch-tokens` tokens each. The learning rate follows the clock (warm-up, then cosine to 0 at `--minutes`), so the run
ends in time on any machine.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Iterator
from pathlib import Path

import corpus
import torch
from tokenizer import build_tokenizer
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # ids, next ids, loss weights of the next ids; each [B, T]
PERIODS = (2.0, 3.0, 5.0, 7.0, 10.0, 20.0, 50.0, 100.0, 200.0, 400.0)
CIRCLE = 0.1  # radius; the other dimensions start at 0.02
WIDTH_STEP = 16
PROMPT_WEIGHT = 0.2  # a little loss on prompts: predicting a route from the earlier ones teaches to compare routes
CHECK_WEIGHT = 3.0  # the verdicts are few tokens and the hardest ones


def build_model(tokenizer: PreTrainedTokenizerFast, layers: int, width: int, heads: int) -> LlamaForCausalLM:
    """A Llama with random weights, but the numbers' embeddings start on circles (see `place_numbers`)."""
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=width * 3,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            rms_norm_eps=1e-6,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    place_numbers(model, tokenizer)
    return model


def place_numbers(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    """Give the tokens of n cos and sin of 2 pi n / period in their first dimensions.

    Networks that learn to add find such features by themselves, after a long time; here they start with them.
    """
    numbers = torch.arange(corpus.TOP + 1)
    angles = 2 * math.pi * numbers[:, None] / torch.tensor(PERIODS)
    circles = CIRCLE * torch.cat([angles.cos(), angles.sin()], dim=1)
    with torch.no_grad():
        for text in ("{}", " {}"):
            ids = tokenizer.convert_tokens_to_ids([tokenizer.tokenize(text.format(n))[0] for n in numbers.tolist()])
            model.get_input_embeddings().weight[ids, : circles.shape[1]] = circles


def batches(
    tokenizer: PreTrainedTokenizerFast, seed: int, batch_tokens: int, order: str, kinds: dict[str, float]
) -> Iterator[Batch]:
    """Endless batches of fresh texts of similar length. Few distinct shapes: kernels are built once per shape."""
    rng = random.Random(seed)
    check_start, check_end = (tokenizer.convert_tokens_to_ids(tag) for tag in ("<check>", "</check>"))
    held: dict[int, list[tuple[list[int], list[int]]]] = {}  # waiting until their batch is full
    while True:
        drawn = [corpus.draw(rng, order, kinds) for _ in range(1024)]
        prompts = tokenizer([f"<|user|>\n{p}<|end|>\n<|assistant|>\n" for p, _ in drawn])["input_ids"]
        targets = tokenizer([f"{c}<|end|>" for _, c in drawn])["input_ids"]
        by_width: dict[int, list[tuple[list[int], list[int]]]] = {}
        for prompt, target in zip(prompts, targets, strict=True):
            width = math.ceil((len(prompt) + len(target)) / WIDTH_STEP) * WIDTH_STEP
            by_width.setdefault(width, []).append((prompt, target))
        packs = []
        for width, rows in by_width.items():
            rows = held.pop(width, []) + rows
            n = batch_tokens // width
            packs += [(width, rows[i : i + n]) for i in range(0, len(rows) - n + 1, n)]
            held[width] = rows[len(rows) // n * n :]
        rng.shuffle(packs)
        for width, pack in packs:
            ids = torch.full((len(pack), width), tokenizer.pad_token_id)
            weights = torch.zeros((len(pack), width))
            for i, (prompt, target) in enumerate(pack):
                start, end = len(prompt), len(prompt) + len(target)
                ids[i, :end] = torch.tensor(prompt + target)
                weights[i, : start - 1] = PROMPT_WEIGHT
                weights[i, start - 1 : end - 1] = 1.0
                if check_end in target:
                    first = target.index(check_start)
                    weights[i, start - 1 + first : start - 1 + target.index(check_end)] = CHECK_WEIGHT
            yield ids, ids.roll(-1, 1), weights


def loss_on(model: LlamaForCausalLM, batch: Batch) -> torch.Tensor:
    """Weighted mean cross-entropy."""
    ids, labels, weights = batch
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model.model(input_ids=ids).last_hidden_state  # padding is on the right: causality hides it
        logits = model.lm_head(hidden)
    losses = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), reduction="none")
    return (losses * weights.flatten()).sum() / weights.sum()


def optimizers(model: LlamaForCausalLM, lr: float, muon: bool) -> list[torch.optim.Optimizer]:
    """AdamW, or Muon for the matrices inside the layers and AdamW for the rest."""
    named = list(model.named_parameters())
    matrices = [p for name, p in named if muon and p.ndim == 2 and "embed" not in name]
    rest = [p for name, p in named if not (muon and p.ndim == 2 and "embed" not in name)]
    made: list[torch.optim.Optimizer] = [torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.98), weight_decay=0.01)]
    if matrices:
        made.append(torch.optim.Muon(matrices, lr=lr, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"))
    return made


def rate(done: float) -> float:
    """Share of the peak learning rate after a share `done` of the time: 3 % warm-up, then cosine to 0."""
    return min(done / 0.03, 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Weights in float16 and the tokenizer, as transformers reads them."""
    state = {name: tensor.detach().to(torch.float16) for name, tensor in model.state_dict().items()}
    copy = LlamaForCausalLM(model.config).to(torch.float16)
    copy.load_state_dict(state)
    copy.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, max_new_tokens=128, do_sample=False
    )
    copy.save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)
    copy.config.dtype = torch.float32  # what to compute in; the file is half as large
    copy.config.save_pretrained(out)
    tokenizer.save_pretrained(out)


def write_replay(out: Path, order: str, n: int = 600) -> None:
    """`replay.jsonl`: generic routed texts as fine-tuning rows (records.SFTSample), from a seed of their own.

    Fine-tuned on one domain alone, the student stops reading routes, since its own memory suffices there. A quarter of
    these in the mix keeps the skill.
    """
    rng = random.Random("replay")
    with (out / "replay.jsonl").open("w", encoding="utf-8") as file:
        for k in range(n):
            prompt, completion = corpus.routed(rng, order)
            row = {
                "id": f"replay-{k:04d}",
                "problem_id": f"replay-{k:04d}",
                "kind": "mrpv",
                "messages": [{"role": "user", "content": prompt}],
                "completion": completion,
            }
            file.write(json.dumps(row) + "\n")


def main() -> None:
    """Parse the options, train, save; prints one line a minute."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--order", choices=("verify_first", "solve_first"), default="verify_first")
    parser.add_argument("--optimizer", choices=("adamw", "muon"), default="muon")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=tuple(corpus.KINDS), help="one kind of text only, for trials")
    parser.add_argument("--init", type=Path, help="go on from a saved student")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    logging.disable_progress_bar()
    tokenizer = build_tokenizer()
    model = (
        LlamaForCausalLM.from_pretrained(args.init, dtype=torch.float32)
        if args.init
        else build_model(tokenizer, args.layers, args.width, args.heads)
    )
    print(f"{model.num_parameters()} parameters, vocabulary {len(tokenizer)}", flush=True)
    kinds = {args.kind: 1.0} if args.kind else corpus.KINDS
    made = optimizers(model, args.lr, args.optimizer == "muon")
    begin, step, seen, mean, last = time.monotonic(), 0, 0, 0.0, 0.0
    for batch in batches(tokenizer, args.seed, args.batch_tokens, args.order, kinds):
        done = (time.monotonic() - begin) / 60 / args.minutes
        if done >= 1:
            break
        for optimizer in made:
            for group in optimizer.param_groups:
                group["lr"] = args.lr * rate(done)
        loss = loss_on(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in made:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        step, seen = step + 1, seen + batch[0].numel()
        mean = loss.item() if step == 1 else 0.98 * mean + 0.02 * loss.item()
        if time.monotonic() - begin - last > 30:
            last = time.monotonic() - begin
            print(f"{last / 60:5.1f} min  step {step}  {seen / 1e6:.1f}M tokens  loss {mean:.3f}", flush=True)
            save(model, tokenizer, args.out)
    save(model, tokenizer, args.out)
    write_replay(args.out, args.order)
    print(f"{(time.monotonic() - begin) / 60:.1f} min  step {step}  loss {mean:.3f}  -> {args.out}", flush=True)


if __name__ == "__main__":
    main()
