"""Scripts of benchmarks/ as modules. Two folders have scripts of one name (run.py), and scripts import each other."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def load(folder: str, *names: str) -> list[Any]:
    """The scripts of one folder of benchmarks/ by those names; scripts of other folders never see them."""
    place = BENCHMARKS / folder
    ours = {path.stem for path in place.glob("*.py")}
    others = {name: sys.modules.pop(name) for name in ours & sys.modules.keys()}
    sys.path.insert(0, str(place))
    try:
        return [importlib.import_module(name) for name in names]
    finally:
        sys.path.remove(str(place))
        for name in ours:
            sys.modules.pop(name, None)
        sys.modules.update(others)
