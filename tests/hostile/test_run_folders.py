"""Run folders from elsewhere: odd manifests, links, devices, and checkpoints that would like to run code."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cli.helpers import Realm
from engines.toys import toy_loaded
from realm_cli.artifacts import Appender
from realm_cli.engines import checkpoints, loading
from realm_cli.engines.sft import LoraSftTrainer
from realm_cli.errors import ArtifactError, EngineError
from realm_cli.recipe import SftConfig, parse_recipe
from realm_cli.records import SFTSample
from realm_cli.run_folder import open_stage


def changed(**fields: Any) -> Callable[[dict[str, Any]], object]:
    return lambda manifest: manifest.update(fields)


ODD: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "outputs no mapping": (changed(outputs=5), "outputs"),
    "an output no mapping": (changed(outputs={"a": 5}), "outputs.a"),
    "an output without a digest": (changed(outputs={"a": {}}), "outputs.a.sha256"),
    "rows no number": (changed(outputs={"a": {"sha256": "0", "rows": "x"}}), "outputs.a.rows"),
    "inputs a list": (changed(inputs=[1]), "inputs"),
    "an input without a path": (changed(inputs={"problems": {"sha256": "0"}}), "inputs.problems.path"),
    "versions a list": (changed(versions=[1]), "versions"),
    "models a number": (changed(models=5), "models"),
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("words", [["verify-run", "r"], ["verify", "--run", "r", "--resume"]], ids=["read", "resume"])
def test_odd_manifests_are_one_line(name: str, words: list[str], realm: Realm) -> None:
    change, place = ODD[name]
    path = Path("r/verify/manifest.json")
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))
    result = realm(*words)
    assert result.code == 1 and len(result.lines) == 1
    assert f"r/verify/manifest.json: not a manifest, its {place} is odd; restore it" in result.err
    assert realm("verify", "--run", "r", "--force").code == 0  # the way out that it names


@pytest.mark.parametrize("words", [["verify-run", "r"], ["verify", "--run", "r", "--resume"]], ids=["read", "resume"])
def test_a_manifest_nested_without_end_is_one_line(words: list[str], realm: Realm) -> None:
    Path("r/verify/manifest.json").write_text('{"a":' * 100_000)
    result = realm(*words)
    assert result.code == 1 and result.lines == [
        "error: r/verify/manifest.json: not a manifest; restore it, or redo the stage with --force"
    ]


def test_devices_pipes_and_disks_that_a_manifest_names_are_not_read(realm: Realm) -> None:
    os.mkfifo("pipe")
    path = Path("r/verify/manifest.json")
    manifest = json.loads(path.read_text())
    manifest["inputs"] = {name: {"path": name, "sha256": "0"} for name in ("/dev/zero", "pipe", "/", "d/rules.md")}
    path.write_text(json.dumps(manifest))
    result = realm("verify-run", "r")
    assert result.code == 1 and "d/rules.md: has changed since" in result.out and result.out.count("has changed") == 1


def test_rows_are_not_appended_through_a_link(tmp_path: Path) -> None:
    mine = tmp_path / "notes.txt"
    mine.write_text("no line end")
    (tmp_path / "routes.jsonl").symlink_to(mine)
    with pytest.raises(ArtifactError, match=r"routes.jsonl: is a link"):
        Appender(tmp_path / "routes.jsonl")
    assert mine.read_text() == "no line end"


def test_every_model_whose_code_may_run_is_recorded(tmp_path: Path) -> None:
    def recorded(trust: bool) -> object:
        recipe = parse_recipe({"student": {"trust_remote_code": trust}}, "test")
        stage = open_stage(tmp_path / str(trust), "rollout", recipe, {})
        for name in ("tiny-student", "student", "hf:a/b", "solver:hasty"):
            stage.same_model(name, "" if name.startswith("solver") else "digest")
        return json.loads(stage.path("manifest.json").read_text()).get("trust_remote_code")

    assert recorded(True) == ["tiny-student", "hf:a/b"] and recorded(False) is None


def test_an_adapters_config_nested_without_end_is_told(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"a":' * 100_000)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(EngineError, match=r"adapter_config.json: not a JSON object"):
        loading._with_adapter(None, "m", tmp_path, False)


# --- checkpoints ----------------------------------------------------------------------------------------------


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("pwned"),))


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_resuming_runs_no_code_even_where_the_digests_hold(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [
        SFTSample(
            id=f"s{i}", problem_id="p", kind="guided", messages=[{"role": "user", "content": "a"}], completion="b"
        )
        for i in range(4)
    ]

    def train(steps: int, resume: bool) -> None:
        config = SftConfig(batch_size=2, micro_batch=2, max_steps=steps, save_every=1)
        LoraSftTrainer(toy_loaded(), config, 0).train(
            rows, out_dir=tmp_path / "adapter", on_metrics=lambda row: None, resume=resume
        )

    train(1, False)
    folder = tmp_path / "checkpoints" / "step-1"
    assert (folder / name).is_file()  # else the name has changed, and this test would see nothing
    torch.save(_Evil(), folder / name)
    digests = {path.name: checkpoints._digest(path) for path in folder.iterdir() if path.name != checkpoints.DIGESTS}
    (folder / checkpoints.DIGESTS).write_text(json.dumps(digests))
    assert checkpoints.newest_checkpoint(folder.parent) == folder
    with pytest.raises(ArtifactError, match=r"step-1: holds more than tensors and is not read; remove it"):
        train(2, True)
    assert not Path("pwned").exists()


def test_a_checkpoint_with_a_file_beside_its_digests_is_passed_over(tmp_path: Path) -> None:
    folder = tmp_path / "step-1"
    folder.mkdir()
    (folder / "weights").write_bytes(b"1")
    (folder / checkpoints.DIGESTS).write_text(json.dumps({"weights": checkpoints._digest(folder / "weights")}))
    assert checkpoints.intact(folder)
    (folder / "optimizer.pt").write_bytes(b"2")
    assert not checkpoints.intact(folder)


def test_folders_that_are_no_checkpoints_are_not_taken_for_some(tmp_path: Path) -> None:
    for name in ("step-x", "step-", "step--1", "step-" + "9" * 99, "step-٣"):
        (tmp_path / name).mkdir()
    assert checkpoints.newest_checkpoint(tmp_path) is None
    (tmp_path / "step-1").mkdir()
    for text in ("[" * 100_000, "[1]", '{"a": 1}', "null"):
        (tmp_path / "step-1" / checkpoints.DIGESTS).write_text(text)
        assert checkpoints.newest_checkpoint(tmp_path) is None
