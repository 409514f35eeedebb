"""Adapter and checkpoint folders that are there as a whole or not at all.

A folder is written aside, brought to the disk (fsync) and renamed; a checkpoint carries the digests of its files, and a
damaged one is passed over. Usage: `class Trainer(AtomicCheckpoints, TrlTrainer)`; `newest_checkpoint(root)`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from peft import PeftModel
from safetensors import SafetensorError
from transformers import TrainerCallback

from realm_cli.errors import ArtifactError

log = logging.getLogger(__name__)
DIGESTS = "digests.json"
_NO_TENSORS = "Weights only load failed"  # in what torch.load says where a file would run code
_TORCH_WRITER = "inline_container"  # in what torch.save says where it cannot write


def replace_folder(new: Path, target: Path) -> None:
    """Put folder `new` in the place of `target`; a reader sees the old or the new folder, never a half."""
    _synced(new)
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        os.replace(target, old)
    os.replace(new, target)
    shutil.rmtree(old, ignore_errors=True)


def restore(target: Path) -> None:
    """Put a folder back that a replacement cut short had moved aside."""
    old = target.with_name(f".{target.name}.old")
    if old.is_dir() and not target.exists():
        os.replace(old, target)


@contextmanager
def writing(place: Path, partial: Path) -> Iterator[None]:
    """What a full disk makes of torch, safetensors and transformers, as one ArtifactError; no half folder stays."""
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and _TORCH_WRITER not in str(error):
            raise
        told = getattr(error, "strerror", None) or str(error).rpartition("I/O error: ")[2].partition(" (os error")[0]
        why = "no space left, or the disk failed" if _TORCH_WRITER in told else told
        raise ArtifactError(f"{place}: cannot be written ({why}); free some space, then rerun with --resume") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def save_adapter(model: PeftModel, tokenizer: Any, out_dir: Path) -> None:
    """Write adapter_model.safetensors, adapter_config.json and the tokenizer with its chat template, atomically."""
    partial = out_dir.with_name(f".{out_dir.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.parent.mkdir(parents=True, exist_ok=True)
    with writing(out_dir, partial):
        model.save_pretrained(str(partial), selected_adapters=["default"], save_embedding_layers=False)
        tokenizer.save_pretrained(str(partial))
        replace_folder(partial, out_dir)


def newest_checkpoint(root: Path) -> Path | None:
    """The checkpoint `step-N` with the highest N whose files are as they were written; damaged ones are named."""
    for path in reversed(_by_step(root)):
        if intact(path):
            return path
        log.warning("%s: damaged; going on from the checkpoint before it", path)
    return None


def _by_step(root: Path) -> list[Path]:
    """The folders `step-N`, the lowest N first; others are none of ours."""
    found = [path for path in root.glob("step-*") if re.fullmatch("step-[0-9]{1,12}", path.name)]
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")))


def intact(folder: Path) -> bool:
    """Whether a checkpoint holds what its digests say, and no other file."""
    try:
        digests = json.loads((folder / DIGESTS).read_text(encoding="utf-8"))
        files = {path.name for path in folder.iterdir() if path.is_file()} - {DIGESTS}
        return bool(digests) and files == set(digests) and all(_digest(folder / n) == v for n, v in digests.items())
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return False


@contextmanager
def resuming(start: Path | None) -> Iterator[None]:
    """A checkpoint whose states are more than tensors, as one ArtifactError: torch refuses to read it."""
    try:
        yield
    except Exception as error:  # torch raises a class of pickle's
        if start is None or _NO_TENSORS not in str(error):
            raise
        raise ArtifactError(
            f"{start}: holds more than tensors and is not read; remove it, then rerun with --resume"
        ) from None


def _digest(file: Path) -> str:
    total = hashlib.sha256()
    with file.open("rb") as data:
        while block := data.read(1 << 20):
            total.update(block)
    return total.hexdigest()


def _synced(folder: Path) -> None:
    """What is in the folder is on the disk when this returns."""
    for path in [*(p for p in folder.rglob("*") if p.is_file()), folder]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


class AtomicCheckpoints:
    """Mix-in for a Trainer: checkpoints are `checkpoints/step-N`, written aside and renamed; the newest two stay.

    Also: no telemetry, and `mid_update` tells whether an optimizer step is under way (then nothing is saved).
    """

    mid_update = False
    _target: str | None = None

    def _send_telemetry(self) -> None:
        """Training reports to nobody."""

    def _get_output_dir(self, trial: Any) -> str:
        return self._target or self.args.output_dir  # type: ignore[attr-defined]

    def _extra_state(self, folder: Path) -> None:
        """Hook: write further files into the checkpoint."""

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        from transformers import Trainer

        root, step = Path(self.args.output_dir), self.state.global_step  # type: ignore[attr-defined]
        partial = root / ".partial"
        shutil.rmtree(partial, ignore_errors=True)
        self._target = str(partial)
        with writing(root / f"step-{step}", partial):
            try:
                Trainer._save_checkpoint(self, model, trial)  # type: ignore[arg-type]
            finally:
                self._target = None
            written = partial / f"checkpoint-{step}"
            (written / "training_args.bin").unlink(missing_ok=True)  # a pickle that nothing reads
            self._extra_state(written)
            digests = {path.name: _digest(path) for path in sorted(written.iterdir()) if path.is_file()}
            (written / DIGESTS).write_text(json.dumps(digests), encoding="utf-8")
            replace_folder(written, root / f"step-{step}")
        for path in _by_step(root)[:-2]:
            shutil.rmtree(path, ignore_errors=True)

    def save_now(self) -> None:
        """A checkpoint of the last complete step, if there is one and no update is half done."""
        if self.state.global_step and not self.mid_update:  # type: ignore[attr-defined]
            self._save_checkpoint(self.model, None)  # type: ignore[attr-defined]


class UpdateGuard(TrainerCallback):
    """Keeps `trainer.mid_update` true."""

    def __init__(self, trainer: AtomicCheckpoints) -> None:
        self.trainer = trainer

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.trainer.mid_update = True

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.trainer.mid_update = False
