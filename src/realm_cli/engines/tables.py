"""Tables that the `datasets` library reads: Parquet files, folders, and datasets of a hub.

Usage: `rows = read_dataset("openai/gsm8k:main")`, `read_dataset("data.parquet")`
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from realm_cli.errors import DataError


def read_dataset(source: str) -> list[tuple[str, dict[str, Any]]]:
    """(place, cells) of every row; several splits of a dataset get a column `split`, unless they have one. DataError.

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
    for split, table in found.items():
        for number, row in enumerate(table, 1):
            cells = dict(row)
            if several:
                cells.setdefault("split", str(split))
            rows.append((f"{split} row {number}" if several else f"row {number}", cells))
    return rows
