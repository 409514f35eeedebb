"""Memory of a recipe's stages at their peak, by part, from the model's shape: before anything is loaded.

What a layer keeps for the backward pass is counted for the Llama layout with LoRA on all linear layers and a frozen
base (a test holds it against torch's saved tensors); what the allocator holds beside it is a measured factor. Planned
against measured peaks: docs/plan-and-doctor.md.

Usage: `peaks(recipe, shape, lengths, Device("cuda", runtime))` -> one Peak a stage, bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from realm_cli.protocols import ModelShape
from realm_cli.recipe import Recipe

GIB = 2**30
NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)  # a weight: 4 bits, a byte a block of 64, four bytes a 256 blocks
CUDA_RUNTIME = int(0.6 * GIB)  # context and libraries' workspaces; not measured by us
HELD = {"cpu": 1.9, "cuda": 1.1}  # memory held per byte of activations; cpu: measured 1.75-2.03, cuda: not measured
LOGIT_COPIES = 4  # TRL's SFT: logits, log-probabilities, their gradient, and that of the logits
PIECE = 1 << 24  # logits that RL holds at once (engines/logprobs.py), times 3: logits, probabilities, a product
DRAW_COPIES = 5  # while tokens are drawn: logits in float32, sorted, their order in 64 bits, probabilities
USABLE = 0.95  # of a GPU's memory


@dataclass(frozen=True)
class Device:
    """Where it runs, cpu or cuda. runtime: bytes of Python and the libraries (cpu), or of the CUDA context.

    gib: its memory, where it is known.
    """

    kind: str
    runtime: int
    gib: float = 0.0

    def quantises(self, recipe: Recipe) -> bool:
        """Whether the student's weights are packed as NF4 here."""
        quant = recipe.student.quant
        return quant == "nf4" or (quant == "auto" and self.kind == "cuda")

    def width(self, recipe: Recipe) -> int:
        """Bytes of a value of the computation: 2 in bfloat16, 4 in float32."""
        dtype = recipe.student.dtype
        return 2 if dtype == "bfloat16" or (dtype == "auto" and self.kind == "cuda") else 4


@dataclass(frozen=True)
class Lengths:
    """Tokens of the longest of each kind. `source` says how they are known."""

    bare: int
    routed: int
    row: int  # of fine-tuning: prompt and completion
    source: str


@dataclass(frozen=True)
class Peak:
    """A stage's memory at its fullest: bytes by part."""

    stage: str
    parts: dict[str, int]

    @property
    def total(self) -> int:
        """Bytes."""
        return sum(self.parts.values())


PARTS = ("runtime", "weights", "adapter", "optimiser", "keys/values", "activations", "logits")
SAMPLE, SFT = "sampling", "fine-tuning"  # rollout, refine and eval; distill and refine
RL_SAMPLE, UPDATE = "RL: sampling", "RL: update"  # train-rl, one after the other


def peaks(recipe: Recipe, shape: ModelShape, lengths: Lengths, device: Device) -> list[Peak]:
    """The stages' peaks with this student. Sampling counts only models that run here; servers take nothing."""
    return [
        _sampling(SAMPLE, recipe, shape, lengths, device),
        _fine_tuning(recipe, shape, lengths, device),
        _sampling(RL_SAMPLE, recipe, shape, lengths, device),
        _update(recipe, shape, lengths, device),
    ]


def weights(recipe: Recipe, shape: ModelShape, device: Device) -> int:
    """Bytes of the base. On the CPU the file on disk is mapped, and stays beside weights that were converted."""
    width = device.width(recipe)
    nf4 = device.quantises(recipe)
    own = int(shape.linear * (NF4_BYTES if nf4 else width)) + shape.other * width
    mapped = shape.file_bytes if device.kind == "cpu" else 0
    as_it_lies = abs(mapped - own) < 0.01 * own  # beside the weights the file has a header
    return own if as_it_lies else own + mapped


def saved_by_layer(shape: ModelShape, width: int, r: int, *, repeated: bool) -> int:
    """Bytes a token that one layer keeps for the backward pass.

    repeated: keys and values are repeated for every head that reads them (a plain forward; the shared-prefix layout
    does not). LoRA keeps its inputs in float32: in lower precision each of its layers a copy of its own.
    """
    h, inner, q = shape.hidden, shape.intermediate, shape.heads * shape.head_size
    kv = 2 * (q if repeated else shape.kv_heads * shape.head_size)
    inputs = (2 * h + q + inner) if width == 4 else (5 * h + q + inner)
    wide = 4 * (2 * h + inputs + 7 * r + shape.heads + 2)  # two residuals, LoRA's inputs and its inner products
    narrow = width * (3 * inner + q + kv + (0 if width == 4 else q))
    return wide + narrow


def _activations(
    shape: ModelShape,
    width: int,
    r: int,
    tokens: int,
    device: Device,
    *,
    repeated: bool,
    checkpointing: bool,
    nf4: bool,
) -> int:
    layer = saved_by_layer(shape, width, r, repeated=repeated)
    kept = shape.layers * shape.hidden * width + layer if checkpointing else shape.layers * layer
    unpacked = shape.hidden * shape.intermediate * width if nf4 else 0  # the layer that is computed
    return int(tokens * kept * HELD[device.kind]) + unpacked


def _shared(recipe: Recipe, shape: ModelShape, device: Device, r: int, *, trains: bool) -> dict[str, int]:
    adapter = r * shape.lora_width
    small = device.kind == "cuda" and device.quantises(recipe)  # AdamW's state in 8 bits
    return {
        "runtime": device.runtime,
        "weights": weights(recipe, shape, device),
        "adapter": 4 * adapter,
        "optimiser": (4 + (2 if small else 8)) * adapter if trains else 0,
    }


def _fine_tuning(recipe: Recipe, shape: ModelShape, lengths: Lengths, device: Device) -> Peak:
    sft = recipe.distill.sft
    width = device.width(recipe)
    rows = min(sft.micro_batch, sft.batch_size)
    row = min(lengths.row, sft.max_length)
    nf4 = device.quantises(recipe)
    kept = _activations(
        *(shape, width, sft.lora.r, rows * row, device),
        repeated=True,
        checkpointing=sft.grad_checkpointing,
        nf4=nf4,
    )
    masks = 0 if sft.grad_checkpointing else shape.layers * rows * row * row * width
    logits = LOGIT_COPIES * rows * row * shape.vocab * 4
    parts = _shared(recipe, shape, device, sft.lora.r, trains=True)
    return Peak(SFT, parts | {"activations": kept + masks, "logits": logits})


def _update(recipe: Recipe, shape: ModelShape, lengths: Lengths, device: Device) -> Peak:
    rl = recipe.train_rl
    width = device.width(recipe)
    rank = rl.lora.r
    longest = lengths.routed + rl.max_tokens
    step = rl.groups_per_step * (lengths.routed + rl.group_size * (rl.max_tokens + 1))
    tokens = min(max(rl.micro_tokens, longest), step)
    nf4 = device.quantises(recipe)
    kept = _activations(
        *(shape, width, rank, tokens, device), repeated=False, checkpointing=rl.grad_checkpointing, nf4=nf4
    )
    logits = 3 * 4 * min(tokens * shape.vocab, PIECE)
    return Peak(UPDATE, _shared(recipe, shape, device, rank, trains=True) | {"activations": kept, "logits": logits})


def _sampling(stage: str, recipe: Recipe, shape: ModelShape, lengths: Lengths, device: Device) -> Peak:
    rl = stage == RL_SAMPLE
    width = device.width(recipe)
    most = recipe.train_rl.max_tokens if rl else max(recipe.rollout.max_tokens, recipe.eval.max_tokens)
    rows = recipe.engine.batch_rows
    if rl:
        rows = min(rows, recipe.train_rl.groups_per_step * recipe.train_rl.group_size)
    each = recipe.train_rl.group_size if rl else 1  # rows that share a prompt
    prompts = -(-rows // each) * lengths.routed
    token = 2 * shape.layers * shape.kv_heads * shape.head_size * width
    held = min((rows * most + prompts) * token, max(int(recipe.engine.kv_gib * GIB), (most + lengths.routed) * token))
    layer = saved_by_layer(shape, width, 0, repeated=False)
    first = min(prompts, held // token) * layer  # the prompts' forward, a layer at a time
    rank = recipe.train_rl.lora.r if rl else recipe.distill.sft.lora.r
    unpacked = shape.hidden * shape.intermediate * width if device.quantises(recipe) else 0
    parts = _shared(recipe, shape, device, rank, trains=rl)
    return Peak(
        stage,
        parts | {"keys/values": held, "activations": first + unpacked, "logits": DRAW_COPIES * 4 * rows * shape.vocab},
    )


def fits(peak: Peak, gib: float) -> bool:
    """Whether a GPU of so many GiB takes it."""
    return peak.total <= USABLE * gib * GIB


def lowered(recipe: Recipe, stage: str, lengths: Lengths) -> Iterator[tuple[str, Recipe]]:
    """Recipes that take less and less memory in this stage, each with the settings that made it so; results stay."""
    steps = {SFT: _less_fine_tuning, UPDATE: _less_update}.get(stage, _less_sampling)
    settings: dict[str, object] = {}
    for key, value in steps(recipe, lengths):
        settings[key] = value
        recipe = changed(recipe, key, value)
        yield " ".join(f"--set {name}={str(given).lower()}" for name, given in settings.items()), recipe


def changed(recipe: Recipe, key: str, value: object) -> Recipe:
    """The recipe with one key (`a.b.c`) replaced."""
    *blocks, last = key.split(".")
    nodes = [recipe]
    for name in blocks:
        nodes.append(getattr(nodes[-1], name))
    made = nodes.pop().model_copy(update={last: value})
    while nodes:
        made = nodes.pop().model_copy(update={blocks[len(nodes)]: made})
    return made


def _less_fine_tuning(recipe: Recipe, lengths: Lengths) -> Iterator[tuple[str, object]]:
    size = min(recipe.distill.sft.micro_batch, recipe.distill.sft.batch_size)
    while size > 1:
        size //= 2
        yield "distill.sft.micro_batch", size
    if not recipe.distill.sft.grad_checkpointing:
        yield "distill.sft.grad_checkpointing", True


def _less_update(recipe: Recipe, lengths: Lengths) -> Iterator[tuple[str, object]]:
    tokens, least = recipe.train_rl.micro_tokens, lengths.routed + recipe.train_rl.max_tokens
    while tokens > least:
        tokens = max(tokens // 2, least)
        yield "train_rl.micro_tokens", tokens
    if not recipe.train_rl.grad_checkpointing:
        yield "train_rl.grad_checkpointing", True


def _less_sampling(recipe: Recipe, lengths: Lengths) -> Iterator[tuple[str, object]]:
    size, rows = recipe.engine.kv_gib, recipe.engine.batch_rows
    while size > 0.5:
        size /= 2
        yield "engine.kv_gib", size
    while rows > 4:
        rows //= 2
        yield "engine.batch_rows", rows
