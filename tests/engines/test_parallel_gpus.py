"""Which GPU a process takes, and what is said where another process has ended."""

from __future__ import annotations

import os

import pytest
import torch
from trl import SFTConfig

from realm_cli.engines.callbacks import one_gpu
from realm_cli.engines.parallel import Parted, Team, own_gpu
from realm_cli.errors import EngineError


def visible(monkeypatch: pytest.MonkeyPatch, count: int, given: str | None, local: int, here: int) -> str | None:
    """What a process sees afterwards."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    for name, value in {"LOCAL_RANK": local, "LOCAL_WORLD_SIZE": here}.items():
        monkeypatch.setenv(name, str(value))
    if given is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    own_gpu()
    return os.environ.get("CUDA_VISIBLE_DEVICES")


def test_each_process_sees_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # put back afterwards
    assert [visible(monkeypatch, 4, None, local, 4) for local in range(4)] == ["0", "1", "2", "3"]
    assert [visible(monkeypatch, 3, "2,5,GPU-9f", local, 3) for local in range(3)] == ["2", "5", "GPU-9f"]
    assert visible(monkeypatch, 1, "7", 3, 4) == "7"  # a scheduler gave each its own
    assert visible(monkeypatch, 0, None, 1, 2) is None  # the CPU, with gloo


def test_more_processes_than_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(EngineError, match="4 processes were started for 2 GPUs; start one for each"):
        visible(monkeypatch, 2, None, 0, 4)


def test_a_trainer_takes_one_gpu_of_several(tmp_path: object) -> None:
    args = SFTConfig(output_dir=str(tmp_path), per_device_train_batch_size=4, use_cpu=True, bf16=False, report_to=[])
    args._n_gpu = 8  # as on a machine with eight
    assert args.train_batch_size == 32
    one_gpu(args)
    assert (args.n_gpu, args.train_batch_size) == (1, 4)


def test_a_process_that_has_ended_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: object, **kwargs: object) -> None:
        raise RuntimeError("[gloo] Connection closed by peer")

    team = Team(0, 2, torch.device("cpu"))
    for name, call in {
        "broadcast_object_list": lambda: team.tell("x"),
        "all_reduce": lambda: team.add_up([torch.ones(2)]),
        "broadcast": lambda: team.same([torch.ones(2)]),
        "gather_object": lambda: team.gather(1),
    }.items():
        monkeypatch.setattr(torch.distributed, name, fails)
        with pytest.raises(Parted, match="another process of this run has ended"):
            call()
