"""Does a step of RL teach anything? By its row of metrics.jsonl (method.md section 10).

Of a group `protocols.teaches` says so, which refill, metrics and the pre-flight ask; a step's row holds the shares of
its groups that teach nothing, `dead_bare` and `dead_routed`. `zero_variance_*` are the shares without advantage.
Usage: `step_teaches(row)`; `dead_shares(row)` for what is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DEAD = ("dead_bare", "dead_routed")
VARIANCE = ("zero_variance_bare", "zero_variance_routed")
BESIDE = ("rows_bridge", "rows_members", "loss_bridge", "loss_members")


def step_teaches(row: Mapping[str, Any]) -> bool | None:
    """Whether a group of the step taught, by its row of metrics.jsonl; None where the row does not say.

    Rows of older runs hold no `dead_` shares: there a step teaches that has a group with variance, or rows of the
    bridge or of members.
    """
    shares = [row[key] for key in DEAD if key in row]
    if not shares:
        if any(row.get(key) for key in BESIDE):
            return True
        shares = [row[key] for key in VARIANCE if key in row]
    return any(share < 1 for share in shares) if shares else None


def dead_shares(row: Mapping[str, Any]) -> dict[str, float]:
    """`dead_bare` and `dead_routed` of a row, as far as it has them; of an older run the shares without advantage."""
    new = {key: row[key] for key in DEAD if key in row}
    return new or {key: row[old] for key, old in zip(DEAD, VARIANCE, strict=True) if old in row}
