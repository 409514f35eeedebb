"""`realm doctor` on this machine, healthy and with faults planted in it."""

from __future__ import annotations

import importlib.metadata
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from pytest_httpserver import HTTPServer

from cli.helpers import Realm, Result

pytestmark = pytest.mark.usefixtures("healthy")


@pytest.fixture
def healthy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("OMP_NUM_THREADS", "WORLD_SIZE", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)


def line_of(result: Result, word: str) -> str:
    """The finding that holds a word, in one line."""
    text = " ".join(result.out.split())
    marks = ("ok ", "warning ", "ERROR ")
    for mark in marks:
        text = text.replace(mark, f"\n{mark}")
    found = [line.strip() for line in text.splitlines() if word in line]
    assert found, result.out
    return found[0]


def planted(folder: Path, name: str, version: str) -> Path:
    """A folder in which the package's metadata tells another version."""
    info = folder / "planted" / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    return info.parent


def test_a_healthy_machine_has_no_error_and_trains_in_nf4(realm: Realm) -> None:
    result = realm("doctor", "--recipe", "demo")
    assert result.code == 0, result.out
    assert "0 errors" in result.out
    assert "NF4 on the" in line_of(result, "forward and backward work")
    assert line_of(result, "student").startswith("ok student tiny-student")


def test_a_version_that_is_not_supported(realm: Realm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(planted(tmp_path, "trl", "0.9.1")))
    result = realm("doctor", "--no-smoke")
    assert result.code == 1
    assert line_of(result, "trl 0.9.1").startswith("ERROR trl 0.9.1: <1.17,>=1.14 is needed; pip install 'trl==1.16")


def test_a_version_that_is_not_the_tested_one(realm: Realm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(planted(tmp_path, "peft", "0.19.0")))
    result = realm("doctor", "--no-smoke")
    assert result.code == 0
    assert "warning peft 0.19.0: tested is" in line_of(result, "peft 0.19.0")


def test_a_package_that_is_missing(realm: Realm, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name == "bitsandbytes":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    result = realm("doctor")
    assert result.code == 1
    assert "bitsandbytes: not installed; pip install 'bitsandbytes>=0.48'" in line_of(result, "bitsandbytes: not")


def test_nf4_that_does_not_work(realm: Realm, monkeypatch: pytest.MonkeyPatch) -> None:
    import bitsandbytes

    def broken(*args: object, **kwargs: object) -> None:
        raise RuntimeError("no kernel image is available")

    monkeypatch.setattr(bitsandbytes, "matmul_4bit", broken)
    result = realm("doctor")
    assert result.code == 1
    line = line_of(result, "bitsandbytes failed")
    assert "student.quant=none" in line


def test_a_driver_but_a_torch_for_the_processor(realm: Realm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import torch

    if torch.version.cuda is not None:
        pytest.skip("this torch is built for CUDA")
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tool.parent), prepend=":")
    result = realm("doctor", "--no-smoke")
    assert result.code == 1
    assert "built for the processor only; reinstall torch for CUDA" in line_of(result, "NVIDIA driver")


def test_a_cache_that_cannot_be_written(realm: Realm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("REALM_CACHE", str(tmp_path / "file" / "cache"))
    result = realm("doctor", "--no-smoke")
    assert result.code == 1
    assert "cannot be written (Not a directory)" in line_of(result, "cache of converted models")


def test_a_full_disk(realm: Realm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=2**29))
    result = realm("doctor", "--no-smoke")
    assert result.code == 1
    assert "0.5 GiB free; free some, a run needs 2 or more" in line_of(result, "run folder")


def test_one_thread_only(realm: Realm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    assert "one of 8 cores computes" in line_of(realm("doctor", "--no-smoke"), "OMP_NUM_THREADS=1")


def test_variables_that_a_launcher_left(realm: Realm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    result = realm("doctor", "--no-smoke")
    assert result.code == 1
    assert "unset WORLD_SIZE and RANK" in line_of(result, "WORLD_SIZE=4")


def test_hidden_gpus(realm: Realm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert line_of(realm("doctor", "--no-smoke"), "CUDA_VISIBLE_DEVICES").startswith("warning")


def test_a_student_that_does_not_exist(realm: Realm) -> None:
    result = realm("doctor", "--no-smoke", "--set", "student.model=tiny-studnet")
    assert result.code == 1
    assert "did you mean tiny-student?" in line_of(result, "tiny-studnet")


def test_a_student_from_the_hub_without_the_hub(realm: Realm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    result = realm("doctor", "--no-smoke", "--set", "student.model=nobody/nothing")
    assert result.code == 1
    assert "HF_HUB_OFFLINE is set; unset it once" in line_of(result, "nobody/nothing")


def test_a_dead_server(realm: Realm) -> None:
    result = realm("doctor", "--no-smoke", "--set", "distill.teacher=openai:http://127.0.0.1:9/v1#m")
    assert result.code == 1
    assert "does not answer" in line_of(result, "127.0.0.1:9")


def test_a_wrong_key_and_a_server_that_answers(realm: Realm, httpserver: HTTPServer) -> None:
    spec = f"openai:{httpserver.url_for('/v1')}#m"
    httpserver.expect_ordered_request("/v1/models").respond_with_data("no", status=401)
    httpserver.expect_ordered_request("/v1/models").respond_with_json({"data": []})
    assert "set REALM_API_KEY" in line_of(realm("doctor", "--no-smoke", "--set", f"distill.teacher={spec}"), "#m")
    assert line_of(realm("doctor", "--no-smoke", "--set", f"distill.teacher={spec}"), "#m").startswith("ok")


def test_json(realm: Realm) -> None:
    import json

    told = json.loads(realm("doctor", "--no-smoke", "--json").out)
    assert told["errors"] == 0
    assert any(f["text"].startswith(f"Python {sys.version_info[0]}") for f in told["findings"])
