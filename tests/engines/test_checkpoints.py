"""Checkpoint folders: whole or not at all, damaged ones passed over, folders moved aside put back."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from realm_cli.engines import checkpoints
from realm_cli.engines.checkpoints import DIGESTS, intact, newest_checkpoint, replace_folder, restore


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
