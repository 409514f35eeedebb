"""Generators that need no model: a domain's oracle and noisy solvers, and texts that another tool wrote. No torch.

Usage: `oracle_generator("rulebook")`, `solver_generator("rulebook", "hasty")`, `JsonlGenerator(Path("routes.jsonl"))`

Tokens are counted as words. Nothing is ever truncated: `max_tokens` is not applied to programs and written text.
"""

from __future__ import annotations

import difflib
import json
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from realm_cli.domains import load_domain
from realm_cli.errors import ConfigError, DataError, EngineError
from realm_cli.method.thinking import with_opened_think
from realm_cli.protocols import Completion, GenRequest, SamplingParams
from realm_cli.records import Problem

Program = Callable[[Problem, random.Random], str]


class ProgramGenerator:
    """Answers problems by a function (protocols.Generator). Each sample has its own random stream."""

    def __init__(self, name: str, fn: Program) -> None:
        self.name, self._fn = name, fn

    def generate(
        self, requests: Sequence[GenRequest], params: SamplingParams
    ) -> Iterator[tuple[int, list[Completion]]]:
        """Yield (request index, n texts) in order. The stream is seeded by (seed, name, key, sample). EngineError."""
        for index, request in enumerate(requests):
            if request.problem is None:
                raise EngineError(
                    f"{self.name}: request {request.key} carries no problem; programs cannot read prompts"
                )
            samples = range(request.first_sample, request.first_sample + request.n)
            streams = [random.Random(f"{params.seed}\0{self.name}\0{request.key}\0{i}") for i in samples]
            yield index, [_completion(self._fn(request.problem, rng)) for rng in streams]


def oracle_generator(domain: str) -> ProgramGenerator:
    """The domain's right solutions. ConfigError for an unknown domain."""
    solution = load_domain(domain).oracle_solution
    return ProgramGenerator("oracle", lambda problem, rng: solution(problem.question))


def solver_generator(domain: str, name: str) -> ProgramGenerator:
    """A noisy solver of the domain, `solver:NAME`. ConfigError names the nearest solver."""
    module = load_domain(domain)
    if name not in module.SOLVERS:
        near = difflib.get_close_matches(name, list(module.SOLVERS), n=1, cutoff=0.5)
        hint = f"did you mean solver:{near[0]}?" if near else f"known are {', '.join(module.SOLVERS)}"
        raise ConfigError(f"solver:{name}: unknown in domain {domain}; {hint}")
    return ProgramGenerator(f"solver:{name}", lambda problem, rng: module.solve(name, problem.question, rng))


class JsonlGenerator:
    """Replays texts from a JSONL file (protocols.Generator).

    A row has `problem_id` (else `id`) and `text` (else `completion`); several rows of a problem are its samples, in
    the order of the file. A problem with fewer rows than are asked for gets those that there are. A problems file is
    read as well: the text of a row is its `gold_solution`, and rows without one have none. A text that begins inside a
    thought, as a template or a server leaves it that has opened the thought itself, gets its `<think>` in front.
    """

    def __init__(self, path: Path, name: str | None = None) -> None:
        self.path, self.name = path, name or f"jsonl:{path}"
        self._texts = _read(path)

    def expect(self, problem_ids: Sequence[str]) -> None:
        """DataError if the file has no row for any of these problems (protocols.Replay)."""
        if problem_ids and not any(i in self._texts for i in problem_ids):
            raise DataError(
                f"{self.path}: no row for any of the {len(problem_ids)} problems, e.g. {problem_ids[0]}; "
                "check problem_id"
            )

    def most(self, problem_ids: Sequence[str]) -> int:
        """The most texts of one of these problems (protocols.Replay)."""
        return max((len(self._texts.get(i, ())) for i in problem_ids), default=0)

    def generate(
        self, requests: Sequence[GenRequest], params: SamplingParams
    ) -> Iterator[tuple[int, list[Completion]]]:
        """Yield (request index, up to n texts) in order."""
        for index, request in enumerate(requests):
            problem_id = request.problem.id if request.problem else request.key
            texts = self._texts.get(problem_id, [])[request.first_sample : request.first_sample + request.n]
            yield index, [_completion(text) for text in texts]


def _completion(text: str) -> Completion:
    return Completion(with_opened_think(text), n_tokens=len(text.split()))


def _read(path: Path) -> dict[str, list[str]]:
    texts: dict[str, list[str]] = defaultdict(list)
    unsolved = 0  # problems without a written solution
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    problem_id, text = _row(line, f"{path}:{number}")
                    if text is None:
                        unsolved += 1
                    else:
                        texts[problem_id].append(text)
    except FileNotFoundError:
        raise ConfigError(f"jsonl:{path}: no such file; check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error.__class__.__name__}); give a UTF-8 JSONL file") from None
    if unsolved and not texts:
        raise DataError(
            f"{path}: none of the {unsolved} problems has a solution; import them with --solution COLUMN, or "
            "name a teacher that writes them (--teacher; TEACHER of pipeline.sh)"
        )
    if not texts:
        raise DataError(f"{path}: empty; each line is an object with problem_id and text")
    return texts


def well_formed(text: str) -> str:
    """Text that can be written as UTF-8: JSON may hold half of a surrogate pair, which becomes a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _row(line: str, place: str) -> tuple[str, str | None]:
    """(problem id, text); the text of a problem without a written solution is None."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: not JSON ({error}); each line is an object with problem_id and text") from None
    if not isinstance(row, dict):
        raise DataError(f"{place}: not an object; each line is an object with problem_id and text")
    problem_id, text = row.get("problem_id", row.get("id")), row.get("text", row.get("completion"))
    if not isinstance(problem_id, str | int) or isinstance(problem_id, bool) or problem_id == "":
        raise DataError(f"{place}: no problem_id; name the problem that the text answers")
    if text is None and "gold_solution" in row and not isinstance(row["gold_solution"], str):
        return str(problem_id), None
    text = row["gold_solution"] if text is None and "gold_solution" in row else text
    if not isinstance(text, str):
        raise DataError(f"{place}: no text; give the completion as a string")
    return str(problem_id), well_formed(text)
