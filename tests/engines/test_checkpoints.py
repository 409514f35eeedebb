"""Checkpoint folders: whole or not at all, damaged ones passed over, folders moved aside put back."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from safetensors import SafetensorError

from realm_cli.engines import checkpoints
from realm_cli.engines.checkpoints import DIGESTS, intact, newest_checkpoint, replace_folder, restore, writing
from realm_cli.errors import ArtifactError


def made(root: Path, step: int) -> Path:
    folder = root / f"step-{step}"
    folder.mkdir(parents=True)
    (folder / "weights").write_bytes(bytes([step]) * 100)
    (folder / DIGESTS).write_text(json.dumps({"weights": checkpoints._digest(folder / "weights")}))
    return folder


def test_the_highest_number_wins(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path) is None
    for step in (9, 10, 2):
        made(tmp_path, step)
    assert newest_checkpoint(tmp_path) == tmp_path / "step-10"


@pytest.mark.parametrize("damage", ["byte", "cut", "lost", "digests", "no digests", "empty digests"])
def test_a_damaged_one_is_passed_over_and_named(damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made(tmp_path, 4)
    newest = made(tmp_path, 8)
    weights, digests = newest / "weights", newest / DIGESTS
    if damage == "byte":
        weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    elif damage == "cut":
        weights.write_bytes(weights.read_bytes()[:50])
    elif damage == "lost":
        weights.unlink()
    elif damage == "no digests":
        digests.unlink()
    else:
        digests.write_text("{" if damage == "digests" else "{}")
    with caplog.at_level(logging.WARNING):
        assert newest_checkpoint(tmp_path) == tmp_path / "step-4"
    assert f"{newest}: damaged; going on from the checkpoint before it" in caplog.text
    assert not intact(newest) and intact(tmp_path / "step-4")


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    for name in ("new", "target"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    replace_folder(tmp_path / "new", tmp_path / "target")
    assert (tmp_path / "target" / "file").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_what_a_cut_replacement_moved_aside_is_put_back(tmp_path: Path) -> None:
    (tmp_path / ".adapter.old").mkdir()
    restore(tmp_path / "adapter")
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]
    (tmp_path / ".adapter.old").mkdir()
    restore(tmp_path / "adapter")  # both there: the newer stays
    assert sorted(path.name for path in tmp_path.iterdir()) == [".adapter.old", "adapter"]


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (OSError(28, "No space left on device"), "No space left on device"),
        (
            SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
            "No space left on device",
        ),
        (
            RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 311808 vs 311700"),
            "no space left, or the disk failed",
        ),
    ],
)
def test_a_full_disk_is_one_line_and_leaves_no_half_folder(error: Exception, why: str, tmp_path: Path) -> None:
    partial = tmp_path / ".partial"
    partial.mkdir()
    with pytest.raises(ArtifactError) as found, writing(tmp_path / "step-4", partial):
        raise error
    assert str(found.value) == (
        f"{tmp_path / 'step-4'}: cannot be written ({why}); free some space, then rerun with --resume"
    )
    assert not partial.exists()


def test_other_errors_while_writing_are_not_hidden(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="a bug"), writing(tmp_path / "x", tmp_path / ".partial"):
        raise RuntimeError("a bug")
