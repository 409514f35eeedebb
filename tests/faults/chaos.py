"""Does to stages what happens to them on a workstation, lets them go on, and compares with undisturbed runs.

    make chaos                                                         # 200 kills over all stages, and all other faults
    python tests/faults/chaos.py --kills 10 --stages rollout,train_rl --seed 3
    python tests/faults/chaos.py --faults "full disk,broken line" --tries 20

The table: lost and doubled rows, files that differ from the undisturbed run's, and what else was not promised (exit
codes, tracebacks, messages). All four must be zero; what each fault promises is in kinds.py.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from faults.kinds import FAULTS, Fault
from faults.world import STAGES, Outcome, World

ENDS = {"Ctrl-C": 130, "SIGTERM": 143}  # exit codes
Job = tuple[str, str, "Future[Outcome]"]  # fault, stage


def chaos(
    world: World, faults: Sequence[str], stages: Sequence[str], kills: int, tries: int | None, seed: int, jobs: int
) -> dict[str, dict[str, Outcome]]:
    """Outcomes by fault and stage."""
    begin = time.monotonic()
    found = {fault: {stage: Outcome() for stage in FAULTS[fault][1] if stage in stages} for fault in faults}
    with ThreadPoolExecutor(jobs) as pool:
        numbers = iter(range(1 << 30))

        def submit(fault: str, stage: str) -> Job:
            do: Fault = FAULTS[fault][0]
            return fault, stage, pool.submit(do, world, stage, random.Random(f"{seed}/{next(numbers)}"))

        def collect(under_way: list[Job]) -> None:
            for fault, stage, future in under_way:
                found[fault][stage].add(future.result())

        rest = [
            submit(fault, stage) for fault in faults if fault != "kill" for stage in _turns(found[fault], fault, tries)
        ]
        while "kill" in faults and sum(outcome.faults for outcome in found["kill"].values()) < kills:
            collect([submit("kill", stage) for stage in found["kill"]])
            done = sum(outcome.faults for outcome in found["kill"].values())
            print(f"kills: {done} of {kills}, {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)
        collect(rest)
    for fault, code in ENDS.items():
        ends = [outcome for outcome in found.get(fault, {}).values() if outcome.faults]
        if sum(outcome.faults for outcome in ends) >= 4 and not any(outcome.codes[code] for outcome in ends):
            ends[0].unexpected += 1
            ends[0].notes.append(f"{fault}: ended no command with {code}")
    return found


def _turns(stages: dict[str, Outcome], fault: str, tries: int | None) -> Iterator[str]:
    """The fault's stages in turn, as often as it is tried."""
    names = list(stages)
    for i in range(FAULTS[fault][2] if tries is None else tries if names else 0):
        yield names[i % len(names)]


def table(found: dict[str, dict[str, Outcome]]) -> tuple[str, Outcome]:
    """The table, and everything added up."""
    total = Outcome()
    lines = [
        f"{'fault':<20}{'stage':<10}{'tries':>6}{'faults':>7}{'lost':>5}{'doubled':>8}{'differ':>7}{'other':>6}  codes"
    ]
    for fault, stages in found.items():
        for stage, outcome in stages.items():
            if outcome.tries:
                lines.append(_line(fault, stage, outcome))
                total.add(outcome)
    return "\n".join([*lines, _line("all", "", total)]), total


def _line(fault: str, stage: str, o: Outcome) -> str:
    codes = ", ".join(f"{code}: {n}" for code, n in sorted(o.codes.items()))
    counts = f"{o.tries:>6}{o.faults:>7}{o.lost:>5}{o.doubled:>8}{o.different:>7}{o.unexpected:>6}"
    return f"{fault:<20}{stage:<10}{counts}  {codes}"


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; 0 only if all that is promised holds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    names = {"type": lambda text: text.split(",")}
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--tries", type=int, help="of each other fault")
    parser.add_argument("--faults", **names, default=list(FAULTS))
    parser.add_argument("--stages", **names, default=list(STAGES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    a = parser.parse_args(argv)
    stages = [stage for stage in STAGES if stage in a.stages]
    unknown = [*(set(a.faults) - set(FAULTS)), *(set(a.stages) - set(STAGES))]
    if unknown or not stages:
        parser.error(f"unknown: {', '.join(unknown)}; known: {', '.join([*FAULTS, *STAGES])}")
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        world.prepare(stages[-1])
        found = chaos(world, a.faults, stages, a.kills, a.tries, a.seed, a.jobs)
    text, total = table(found)
    print(text)
    print("\n".join(total.notes[:40]))
    print(f"{time.monotonic() - begin:.0f} s")
    return int(total.bad)


if __name__ == "__main__":
    sys.exit(main())
