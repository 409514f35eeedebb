"""Tables that the `datasets` library reads: Parquet files, folders, and datasets of a hub. Classes have their names.

Usage: `rows, notes = read_dataset("openai/gsm8k:main")`, `read_dataset("data.parquet")`
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy

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
        found_names = [pair for name, feature in table.features.items() for pair in _classes(feature, name)]
        named |= dict(found_names)
        for number, row in enumerate(table, 1):
            cells = {name: _cell(value, table.features.get(name)) for name, value in row.items()}
            if several:
                cells.setdefault("split", str(split))
            rows.append((f"{split} row {number}" if several else f"row {number}", cells))
    notes = [
        f"column {name}: names in place of class numbers ({', '.join(names[:6])})" for name, names in named.items()
    ]
    return rows, notes


def _inner(feature: Any) -> Any:
    """The feature of a list's members, None for others."""
    if isinstance(feature, list):
        return feature[0] if feature else None
    return getattr(feature, "feature", None)


def _classes(feature: Any, path: str) -> Iterator[tuple[str, list[str]]]:
    """(path, names) of the class numbers in a column: itself, in its fields, or in its lists."""
    names = getattr(feature, "names", None)
    if names:
        yield path, list(names)
    elif isinstance(feature, dict):
        for name, field in feature.items():
            yield from _classes(field, f"{path}.{name}")
    elif (inner := _inner(feature)) is not None:
        yield from _classes(inner, path)


def _cell(value: Any, feature: Any) -> Any:
    """A cell with names in place of class numbers (None for -1, which stands for no class) and short numbers as
    they were written: 0.1 of 32 bits is 0.1, not 0.10000000149011612."""
    if value is None or feature is None:
        return value
    names = getattr(feature, "names", None)
    if names:
        return names[value] if isinstance(value, int) and 0 <= value < len(names) else None
    if isinstance(value, float) and (kind := getattr(feature, "dtype", "")) in ("float16", "float32"):
        return float(str(numpy.dtype(kind).type(value)))
    if isinstance(feature, dict) and isinstance(value, dict):
        return {name: _cell(one, feature.get(name)) for name, one in value.items()}
    if isinstance(value, list) and (inner := _inner(feature)) is not None:
        return [_cell(one, inner) for one in value]
    if isinstance(value, dict) and isinstance(inner := _inner(feature), dict):  # a list of objects, kept as columns
        return {name: [_cell(one, inner.get(name)) for one in ones] for name, ones in value.items()}
    return value
