"""Several processes train one model: the first one runs the stage, the others sample and differentiate their share.

    torchrun --nproc-per-node 2 -m realm_cli train-rl --run runs/mine

The first process (the lead) works as if it were alone, and writes all files. Before it samples it sends the adapter's
weights, if they changed; each process samples its part of the prompts, and the lead gathers the completions. Then it
sends the scored groups; each process makes the gradient of its groups, normalised by the whole step's tokens, and the
sum is the step's gradient. So the number of processes changes speed, not results (up to the order of sums), and a run
can go on with another number. Fine-tuning (engines/sft.py) sends each step's micro-batches instead.

Each process sees one GPU (`own_gpu`), since the Trainer takes all that it sees for its own. transformers and TRL
see one process each: the variables that would make them divide batches too are taken away.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from realm_cli.engines.memory import out_of_memory
from realm_cli.errors import EngineError
from realm_cli.protocols import Completion, Generator, GenRequest, SamplingParams, sampled

SAMPLE, UPDATE, END = "sample", "update", "end"  # what the lead says
_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "ROLE_RANK", "ROLE_WORLD_SIZE")
_WAIT = datetime.timedelta(days=7)  # the others wait while the lead measures, writes or is stopped for a while


@dataclass(frozen=True)
class Team:
    """The processes of this run. rank 0 leads."""

    rank: int
    size: int
    device: torch.device

    def tell(self, *message: Any) -> None:
        """Send something to all others (lead)."""
        with _together():
            dist.broadcast_object_list([message], src=0, device=self.device)

    def hear(self) -> tuple[Any, ...]:
        """What the lead sends."""
        box: list[Any] = [None]
        with _together():
            dist.broadcast_object_list(box, src=0, device=self.device)
        return tuple(box[0])

    def gather(self, part: Any) -> list[Any]:
        """All processes' parts by rank; [] for all but the lead."""
        found: list[Any] | None = [None] * self.size if self.rank == 0 else None
        with _together():
            dist.gather_object(part, found, dst=0)
        return found or []

    def same(self, tensors: Sequence[torch.Tensor]) -> None:
        """Give all processes the lead's values, in place."""
        if tensors:
            flat = torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
            with _together():
                dist.broadcast(flat, src=0)
            _spread(flat, tensors)

    def add_up(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace each tensor by its sum over the processes."""
        if tensors:
            flat = torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
            with _together():
                dist.all_reduce(flat)
            _spread(flat, tensors)

    def add_up_gradients(self, trained: Sequence[torch.Tensor]) -> None:
        """Replace each gradient by its sum over the processes; none counts as zero."""
        for tensor in trained:
            if tensor.grad is None:
                tensor.grad = torch.zeros_like(tensor)
        self.add_up([tensor.grad for tensor in trained if tensor.grad is not None])

    def add_up_step(self, trained: Sequence[torch.Tensor], sums: Mapping[str, float]) -> dict[str, float]:
        """Add up the gradients, in place, and the step's sums, by name."""
        self.add_up_gradients(trained)
        values = torch.tensor(list(sums.values()), dtype=torch.float64, device=self.device)
        self.add_up([values])
        return dict(zip(sums, values.tolist(), strict=True))

    def leave(self) -> None:
        """The work is done."""
        dist.destroy_process_group()

    def mine(self, index: int) -> bool:
        """Whether the index-th piece of work is this process's."""
        return index % self.size == self.rank


class Parted(EngineError):
    """Another process of the team has ended."""


@contextmanager
def _together() -> Iterator[None]:
    """What torch says where another process has ended, as one line."""
    try:
        yield
    except RuntimeError as error:
        if out_of_memory(error):
            raise
        raise Parted(
            "another process of this run has ended (its line says why); what was written is kept: rerun with --resume"
        ) from None


def own_gpu() -> None:
    """Let this process see one GPU, the one that its local rank stands for. EngineError where there are too few.

    To be called before anything asks torch for CUDA, which looks at CUDA_VISIBLE_DEVICES once. Where a scheduler has
    given each process a GPU of its own, nothing is left to do.
    """
    local, here = int(os.environ.get("LOCAL_RANK", "0")), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    count, given = torch.cuda.device_count(), os.environ.get("CUDA_VISIBLE_DEVICES")
    if count == 0 or (count == 1 and given):
        return
    if count < here:
        raise EngineError(f"{here} processes were started for {count} GPUs; start one for each, with --num_processes")
    os.environ["CUDA_VISIBLE_DEVICES"] = given.split(",")[local] if given else str(local)


def join() -> Team | None:
    """Meet the other processes that torchrun has started; None where there are none. EngineError."""
    if dist.is_initialized():  # an earlier stage of this process
        return _team()
    size = int(os.environ.get("WORLD_SIZE", "1") or 1)
    if size < 2:
        return None
    rank, cuda = int(os.environ["RANK"]), torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(0)  # the one that it sees
    try:
        dist.init_process_group("nccl" if cuda else "gloo", rank=rank, world_size=size, timeout=_WAIT)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise EngineError(f"the {size} processes do not find each other ({reason}); start them with torchrun") from None
    for name in _VARIABLES:
        os.environ.pop(name, None)
    return _team()


def _team() -> Team:
    cuda = dist.get_backend() == "nccl"
    device = torch.device("cuda", torch.cuda.current_device()) if cuda else torch.device("cpu")
    return Team(dist.get_rank(), dist.get_world_size(), device)


def _spread(flat: torch.Tensor, tensors: Sequence[torch.Tensor]) -> None:
    at = 0
    with torch.no_grad():
        for tensor in tensors:
            tensor.copy_(flat[at : at + tensor.numel()].view_as(tensor))
            at += tensor.numel()


class SharedGenerator:
    """protocols.Generator of the lead: every process samples every size-th request with the same weights."""

    def __init__(self, own: Generator, team: Team, weights: Sequence[torch.Tensor]) -> None:
        self.own, self.team, self.weights = own, team, weights
        self.name = own.name
        self.stale = True  # the others' weights are not the lead's

    def generate(
        self, requests: Sequence[GenRequest], params: SamplingParams
    ) -> Iterator[tuple[int, list[Completion]]]:
        """See protocols.Generator; all come when all are done."""
        self.team.tell(SAMPLE, self.stale, list(requests), params)
        found = sample_share(self.own, self.team, self.weights, self.stale, requests, params)
        self.stale = False
        for part in found:
            if isinstance(part, EngineError):
                raise part
        yield from ((i, completions) for part in found for i, completions in part)


def sample_share(
    own: Generator,
    team: Team,
    weights: Sequence[torch.Tensor],
    stale: bool,
    requests: Sequence[GenRequest],
    params: SamplingParams,
) -> list[Any]:
    """This process's part of the sampling, and for the lead everybody's: (index, completions) pairs, or an error."""
    if stale:
        team.same(weights)
    mine = [i for i in range(len(requests)) if team.mine(i)]
    part: Any
    try:
        part = [(mine[i], done) for i, done in sampled(own, [requests[i] for i in mine], params)]
    except EngineError as error:
        part = error
    return team.gather(part)
