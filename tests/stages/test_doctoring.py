"""Findings about machines that we do not have."""

from __future__ import annotations

import math

import pytest

from realm_cli.stages.doctoring import (
    Gpu,
    check_environment,
    check_gpu,
    check_load,
    check_memory,
    check_packages,
    check_place,
    check_python,
    check_smoke,
    check_student,
    pinned_versions,
)


@pytest.mark.parametrize(("version", "level"), [((3, 9), "error"), ((3, 11), "fine"), ((3, 99), "warning")])
def test_python(version: tuple[int, int], level: str) -> None:
    assert check_python(version).level == level


def test_the_pinned_versions_are_those_of_the_constraints() -> None:
    pins = pinned_versions()
    assert pins["torch"].startswith("2.13")
    assert {"transformers", "peft", "trl", "bitsandbytes"} <= set(pins)


def test_packages_local_builds_and_markers() -> None:
    have = {"torch": "2.13.0+cu126", "numpy": "1.0", "odd": "not a version"}
    asked = ["torch>=2.6", "numpy>=1.26", "odd>=1", "tensorboard>=2; extra == 'tensorboard'", "?"]
    findings = check_packages(have.get, asked, {"torch": "2.13.0", "numpy": "2.0"})
    texts = [f.text for f in findings if "not installed" not in f.text]
    assert texts[0] == "torch 2.13.0+cu126"
    assert texts[1] == "numpy 1.0: >=1.26 is needed; pip install 'numpy==2.0'"
    assert texts[2] == "odd not a version: >=1 is needed; pip install 'odd>=1'"
    assert not any("tensorboard" in f.text for f in findings)


@pytest.mark.parametrize(
    ("gpus", "build", "driver", "level", "word"),
    [
        ([], None, False, "warning", "none"),
        ([], None, True, "error", "reinstall torch for CUDA"),
        ([], "12.6", True, "error", "nvidia-smi"),
        ([Gpu("T4", (7, 5), 14.0, 15.0)], "12.6", True, "warning", "student.dtype=float32"),
        ([Gpu("A10", (8, 6), 3.0, 23.0)], "12.6", True, "warning", "others hold most of it"),
        ([Gpu("A10", (8, 6), 22.0, 23.0)], "12.6", True, "fine", "A10, 23 GiB, 22.0 GiB free"),
    ],
)
def test_gpus(gpus: list[Gpu], build: str | None, driver: bool, level: str, word: str) -> None:
    (finding,) = check_gpu(gpus, build, driver)
    assert finding.level == level
    assert word in finding.text


def test_memory_and_places(tmp_path: object) -> None:
    from pathlib import Path

    place = Path("runs")
    assert [check_memory(16, free).level for free in (1.0, 8.0)] == ["warning", "fine"]
    assert [check_place("run folder", place, free, None).level for free in (0.5, 5.0, 50.0, None)] == [
        "error",
        "warning",
        "fine",
        "fine",
    ]


def test_the_load_of_others() -> None:
    assert [check_load(load, 8).level for load in (0.2, 4.0, 4.1, 30.0)] == ["fine", "fine", "warning", "warning"]
    assert check_load(5.2, 8).text.endswith("engine.threads=3") and check_load(30.0, 8).text.endswith("threads=1")


def test_the_smoke_wants_a_falling_loss() -> None:
    assert check_smoke(1.0, [3.0, 2.0], None, "cpu").level == "fine"
    for losses in ([2.0, 3.0], [2.0, math.nan], []):
        assert check_smoke(1.0, losses, None, "cuda").level == "error"
    assert "on the GPU" in check_smoke(1.0, [], "no kernel", "cuda").text


def test_students_and_output() -> None:
    assert check_student("m", from_hub=True, here=False, offline=False).level == "warning"
    assert check_student("m", from_hub=True, here=False, offline=True).level == "error"
    assert check_environment({}, 4, "UTF-8") == []
    assert "PYTHONUTF8=1" in check_environment({}, 4, "ascii")[0].text
