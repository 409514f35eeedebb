"""Tables that the `datasets` library reads: Parquet files, folders, and datasets of a hub. Classes have their names.

Usage: `rows, notes = read_dataset("openai/gsm8k:main")`, `read_dataset("data.parquet")`
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from realm_cli.errors import DataError


def read_dataset(source: str) -> tuple[list[tuple[str, dict[str, Any]]], list[str]]:
    """((place, cells) of every row, notes). Several splits get a column `split`, unless they have one. DataError.

    source: a .parquet file, a folder that `datasets` can read, or a hub's NAME or NAME:CONFIG.
    """
    import datasets

    name, _, config = source.partition(":") if not Path(source).exists() else (source, "", "")
    datasets.disable_progress_bars()
    logs = [logging.getLogger(library) for library in ("datasets", "huggingface_hub")]
    before = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.CRITICAL)  # what it would say is in the error
    try:
        if Path(source).is_file():
            found = datasets.load_dataset("parquet", data_files=source)
        else:
            found = datasets.load_dataset(name, config or None)
    except Exception as error:  # the library's errors have many types
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"{source}: cannot be read ({reason}); give a file, a folder, or a dataset's NAME or NAME:CONFIG"
        ) from None
    finally:
        for log, level in zip(logs, before, strict=True):
            log.setLevel(level)
    several = len(found) > 1
    rows = []
    named: dict[str, list[str]] = {}
    for split, table in found.items():
        classes = {name: feature for name, feature in table.features.items() if _classes(feature) is not None}
        named |= {name: _classes(feature) or [] for name, feature in classes.items()}
        for number, row in enumerate(table, 1):
            cells = dict(row)
            for name, feature in classes.items():
                cells[name] = _named(cells[name], _classes(feature) or [])
            if several:
                cells.setdefault("split", str(split))
            rows.append((f"{split} row {number}" if several else f"row {number}", cells))
    notes = [
        f"column {name}: names in place of class numbers ({', '.join(names[:6])})" for name, names in named.items()
    ]
    return rows, notes


def _classes(feature: Any) -> list[str] | None:
    """The names of a column of class numbers, or of a list of them."""
    import datasets

    feature = getattr(feature, "feature", feature[0] if isinstance(feature, list) and feature else feature)
    return list(feature.names) if isinstance(feature, datasets.ClassLabel) else None


def _named(value: Any, names: list[str]) -> Any:
    """A class number as its name; empty for -1, which stands for no class."""
    if isinstance(value, list):
        return [_named(one, names) for one in value]
    return names[value] if isinstance(value, int) and 0 <= value < len(names) else None
