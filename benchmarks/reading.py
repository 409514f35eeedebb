"""How many gold solutions the flexible reading gets right: GSM8K's, which end in `#### 18`, in three forms.

    python benchmarks/reading.py gsm8k/test.jsonl --out benchmarks/results/reading-gsm8k.json

as is: the solution with its `####` line · stated: the line says `The answer is 18.` · prose: only a last sentence does.
Each is judged as a number and as a formula.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from realm_cli.checking import CheckPool
from realm_cli.method.answers import flexible_answer, is_correct
from realm_cli.method.checks import judged_by
from realm_cli.records import Problem


def forms(solution: str, gold: str) -> dict[str, str]:
    """A solution as it is, with a stated answer, and with a last sentence."""
    before = solution.rpartition("####")[0].strip()
    return {"as is": solution, "stated": f"{before}\nThe answer is {gold}.", "prose": f"{before} So it is {gold}."}


def measure(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Shares by answer type and form, and what was missed."""
    counts: dict[str, int] = {}
    missed = []
    for row in rows:
        gold = row["answer"].rpartition("####")[2].strip()
        for kind in ("number", "expr"):
            problem = Problem(id="p", question="q", answer=gold, answer_type=kind)
            for form, text in forms(row["answer"], gold).items():
                right = is_correct(flexible_answer(text), problem)
                counts[f"{kind}, {form}"] = counts.get(f"{kind}, {form}", 0) + right
                if not right:
                    missed.append({"type": kind, "form": form, "gold": gold, "end": text[-80:]})
    return {"solutions": len(rows), "right": counts, "missed": missed[:50]}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path)
    a = parser.parse_args(argv)
    rows = [json.loads(line) for line in a.data.read_text(encoding="utf-8").splitlines() if line.strip()]
    with CheckPool() as pool, judged_by(pool):
        found = measure(rows)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    found |= {"command": f"python benchmarks/reading.py {a.data.name}", "commit": commit}
    print(json.dumps(found, indent=1))
    if a.out:
        a.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
