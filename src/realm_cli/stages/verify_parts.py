"""verify on a file of any length: routes are split into parts by problem, and parts are scored, several at a time.

A part holds all routes of its problems. Which part a problem goes to follows from its id and the file's size, so the
result is the same for any number of processes; memory holds one part a process, whatever the file's length.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import zlib
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from realm_cli.artifacts import iter_lines, iter_rows, parse_row, replacing
from realm_cli.checking import CheckPool, fresh_processes, ignore_interrupts
from realm_cli.errors import DataError, EngineError
from realm_cli.method.checks import judged_by
from realm_cli.method.grading import EXAMPLES, Verdicts
from realm_cli.method.mrpv import score_routes
from realm_cli.method.route_sets import SetOptions, build_sets
from realm_cli.method.validation import planted
from realm_cli.protocols import Progress
from realm_cli.recipe import ChecksConfig, VerifyConfig
from realm_cli.records import Probe, Problem, Route, ScoredRoute

PART_BYTES, MAX_PARTS = 8 << 20, 256
PLANTED = 200  # problems of a part in which an error is planted, to try the finder


@dataclass(frozen=True)
class Part:
    """The routes of some problems, and what is to be done with them."""

    folder: Path  # routes.jsonl is there; scored.jsonl and sets.jsonl are put beside it
    problems: Sequence[Problem]
    verify: VerifyConfig
    checks: ChecksConfig
    seed: int
    probes: Path | None = None  # beliefs and Monte-Carlo values of routes

    @property
    def routes(self) -> Path:
        """Where its routes lie."""
        return self.folder / "routes.jsonl"


@dataclass
class Tally:
    """Counts over scored routes. Parts' tallies are added up.

    groups: per group of problems: routes, correct, right and wrong (not cut off), lucky, known (of the wrong:
    first error found). checks: what became of answer checks; see `CheckPool.counts`. verdicts: what the rows held
    and what was judged; see `grading.Verdicts`. without_set: train and dev problems that got no set.
    """

    groups: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    kinds: Counter[str] = field(default_factory=Counter)
    checks: Counter[str] = field(default_factory=Counter)
    examples: list[dict[str, str]] = field(default_factory=list)
    planted: Counter[str] = field(default_factory=Counter)  # errors planted, found, and found at the right step
    verdicts: Counter[str] = field(default_factory=Counter)
    contradicted: list[str] = field(default_factory=list)  # ids of some routes whose given verdict is not the check's
    problems: int = 0
    sets: int = 0
    without_set: int = 0

    def add(self, problem: Problem, scored: Sequence[ScoredRoute]) -> None:
        """Count the scored routes of one problem."""
        self.problems += 1
        group = self.groups[problem.group]
        for route in scored:
            wrong = not route.correct and not route.truncated
            group["routes"] += 1
            group["correct"] += route.correct
            group["right"] += route.correct and not route.truncated
            group["lucky"] += route.correct and route.lucky
            group["wrong"] += wrong
            group["known"] += wrong and route.first_error is not None
            self.kinds.update(route.step_kind)

    def plant(self, problem: Problem, routes: Sequence[Route], seed: int, extractor: str) -> None:
        """Try the first-error finder on one planted error, in at most PLANTED problems of a part."""
        if self.planted["tried"] < PLANTED:
            rng = random.Random(f"{seed}:{problem.id}:planted")
            if (result := planted(routes, problem, rng, extractor)) is not None:
                step, found = result
                self.planted.update(tried=1, found=int(found is not None), exact=int(found == step))

    def join(self, other: Tally) -> None:
        """Add the counts of another part."""
        for name, counts in other.groups.items():
            self.groups[name] += counts
        self.kinds += other.kinds
        self.checks += other.checks
        self.examples = (self.examples + other.examples)[:5]
        self.planted += other.planted
        self.verdicts += other.verdicts
        self.contradicted = (self.contradicted + other.contradicted)[:EXAMPLES]
        self.problems += other.problems
        self.sets += other.sets
        self.without_set += other.without_set

    def total(self, name: str) -> int:
        """A count over all groups."""
        return sum(counts[name] for counts in self.groups.values())


def split(path: Path, by_id: Mapping[str, Problem], folder: Path, progress: Progress) -> dict[Path, list[Problem]]:
    """Check every row and copy it to its part's folder: part -> its problems, in the order in which they come up.

    DataError for broken rows, doubled ids, unknown problems and an empty file.
    """
    size = path.stat().st_size if path.is_file() else 0
    parts = min(MAX_PARTS, max(1, round(size / PART_BYTES)))
    found: dict[Path, dict[str, Problem]] = {}
    marks = array("q")  # eight bytes a route, not its id
    with ExitStack() as files, progress("reading", size or None) as advance:
        outs = {}
        for number, line in iter_lines(path, made_by="realm rollout"):
            route = parse_row(line, Route, f"{path}:{number}")
            problem = by_id.get(route.problem_id)
            if problem is None:
                raise DataError(
                    f"{path}:{number}: problem {route.problem_id!r} is not among the problems; give its file"
                )
            part = folder / f"{zlib.crc32(route.problem_id.encode()) % parts:03}"
            if part not in found:
                found[part] = {}
                outs[part] = files.enter_context(replacing(part / "routes.jsonl"))
            outs[part].write(line.rstrip("\n") + "\n")
            found[part].setdefault(problem.id, problem)
            marks.append(hash(route.id))
            advance(len(line), "")
    if not found:
        raise DataError(f"{path}: no rows; run `realm rollout` again")
    _refuse_doubles(path, marks)
    return {part: list(found[part].values()) for part in sorted(found)}


def _refuse_doubles(path: Path, marks: array[int]) -> None:
    """DataError if an id stands twice. Equal marks may be chance, so the ids behind them are looked at."""
    import numpy as np

    values, counts = np.unique(np.frombuffer(marks, dtype=np.int64), return_counts=True)
    suspects, seen = set(values[counts > 1].tolist()), set()
    for number, route in enumerate(iter_rows(path, Route) if suspects else [], 1):
        if hash(route.id) in suspects and route.id in seen:
            raise DataError(f"{path}:{number}: route id {route.id!r} stands twice; ids must be unique")
        seen.update([route.id] if hash(route.id) in suspects else [])


def score_part(part: Part, progress: Progress | None = None) -> Tally:
    """Grade what is not graded, score routes and build sets; writes scored.jsonl and sets.jsonl."""
    by_id = {problem.id: problem for problem in part.problems}
    tally, config = Tally(), part.verify
    options = SetOptions(
        k=config.k,
        sets_per_problem=config.sets_per_problem,
        natural_frac=config.natural_frac,
        same_wrong=config.same_wrong,
        hide_answers=config.hide_answers,
        tamper_final=config.tamper_final,
        k_long_tokens=config.k_long_tokens,
        signs=config.signs,
    )
    positions: Counter[int] = Counter()
    with ExitStack() as stack:
        advance = stack.enter_context(progress("scoring", len(by_id))) if progress else None
        pool = stack.enter_context(CheckPool(part.checks.timeout, part.checks.memory_gib))
        stack.enter_context(judged_by(pool))
        scored_out, sets_out = (
            stack.enter_context(replacing(part.folder / name)) for name in ("scored.jsonl", "sets.jsonl")
        )
        probes, verdicts = _probes(part, by_id), Verdicts()
        grouped: dict[str, list[Route]] = defaultdict(list)
        for route in iter_rows(part.routes, Route):
            graded = verdicts.take(route, by_id[route.problem_id])
            grouped[route.problem_id].append(_probed(graded, probes) if probes else graded)
        for problem_id, routes in grouped.items():
            problem = by_id[problem_id]
            scored = score_routes(routes, problem, extractor=config.facts, weights=config.weights)
            scored_out.writelines(row.model_dump_json() + "\n" for row in scored)
            if problem.split != "test":
                rng = random.Random(f"{part.seed}:{problem_id}:sets")
                sets = build_sets(problem, scored, options, rng, positions)
                sets_out.writelines(row.model_dump_json() + "\n" for row in sets)
                tally.sets += len(sets)
                tally.without_set += not sets
            tally.add(problem, scored)
            tally.plant(problem, routes, part.seed, config.facts)
            if advance:
                advance(1, "")
        tally.checks, tally.examples = pool.counts, pool.examples
        tally.verdicts, tally.contradicted = verdicts.counts, verdicts.examples
    return tally


def _probes(part: Part, problems: Mapping[str, Problem]) -> dict[str, Probe]:
    """Probes of this part's routes, by route id."""
    if part.probes is None:
        return {}
    return {row.id: row for row in iter_rows(part.probes, Probe) if row.problem_id in problems}


def _probed(route: Route, probes: Mapping[str, Probe]) -> Route:
    """With what a model thinks after each step, where that is known."""
    probe = probes.get(route.id)
    if probe is None:
        return route
    fields = {name: getattr(route, name) for name in Route.model_fields}
    return ScoredRoute(**fields, belief=probe.belief, mc_value=probe.mc_value)


def score_parts(parts: Sequence[Part], workers: int, progress: Progress) -> Tally:
    """All parts, `workers` at a time (0 = one per core); one part or one worker: in this process."""
    if len(parts) == 1:
        return score_part(parts[0], progress)
    total = Tally()
    with progress("scoring", sum(len(part.problems) for part in parts)) as advance:
        for part, tally in zip(parts, _side_by_side(parts, min(workers or cores(), len(parts))), strict=True):
            total.join(tally)
            advance(len(part.problems), "")
    return total


def _side_by_side(parts: Sequence[Part], workers: int) -> Iterator[Tally]:
    if workers == 1:
        yield from map(score_part, parts)
        return
    pool = ProcessPoolExecutor(workers, mp_context=fresh_processes(), initializer=ignore_interrupts)
    try:
        yield from pool.map(score_part, parts)
    except BrokenProcessPool:
        raise EngineError(
            f"verify: a scoring process ended, perhaps for lack of memory; set checks.workers below {workers}"
        ) from None
    except BaseException:
        for child in multiprocessing.active_children():
            child.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def join_files(parts: Sequence[Part], name: str, out: Path) -> None:
    """One file out of the parts' files of that name."""
    with replacing(out) as whole:
        for part in parts:
            with (part.folder / name).open(encoding="utf-8") as piece:
                shutil.copyfileobj(piece, whole, 1 << 20)
