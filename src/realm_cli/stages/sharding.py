"""A stage's samples collected on several machines: `--shard 2/4` takes every fourth problem, `realm merge` joins them.

Shards are runs of their own, made with the same recipe, problems and models. Merging checks that, and that no shard, no
sample and no byte is missing or there twice; the merged files are those of a run that was never divided, in the order
of the problems' file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from realm_cli.artifacts import digest, iter_lines, replacing, write_rows
from realm_cli.errors import ArtifactError, ConfigError, DataError
from realm_cli.prompts import options_text
from realm_cli.recipe import Recipe
from realm_cli.records import Problem
from realm_cli.run_folder import CARRIED, Stage, read_json, read_manifest, relevant
from realm_cli.stages.same_choices import shown
from realm_cli.stages.summary import Summary, Table

T = TypeVar("T")
ROWS = {"rollout": "routes.jsonl", "distill": "teacher.jsonl"}  # what is sampled, by stage
_SAMPLE = {"rollout": "source", "distill": "label_given"}  # what an undivided run finishes before it begins the next


@dataclass(frozen=True)
class Shard:
    """The index-th (from 1) of `of` equal parts."""

    index: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """From "2/4". ConfigError."""
        first, slash, last = text.partition("/")
        if not (slash and first.isdecimal() and last.isdecimal() and 0 < int(first) <= int(last) < 10**6):
            raise ConfigError(f"--shard {text}: expected I/N with 1 <= I <= N, e.g. --shard 2/4")
        return cls(int(first), int(last))

    def take(self, rows: Sequence[T]) -> list[T]:
        """Every of-th row: each shard gets as many easy and hard ones. ConfigError where none is left."""
        taken = list(rows[self.index - 1 :: self.of])
        if not taken:
            raise ConfigError(f"--shard {self}: there are only {len(rows)} problems; use fewer shards")
        return taken

    def __str__(self) -> str:
        return f"{self.index}/{self.of}"


@dataclass(frozen=True)
class Part:
    """A finished shard of one stage."""

    folder: Path
    shard: Shard
    recipe: dict[str, Any]
    manifest: dict[str, Any]


def find_parts(runs: Sequence[Path], name: str) -> list[Part]:
    """The stage's shards in order; [] where no run has any. ArtifactError where they do not make up one whole."""
    parts = []
    for folder in (run / name for run in runs):
        manifest = read_manifest(folder / "manifest.json")
        if "shard" in manifest:
            parts.append(Part(folder, Shard.parse(str(manifest["shard"])), read_json(folder / "recipe.json"), manifest))
    if parts:
        _check_complete(parts, runs, name)
        for part in parts:
            _check_sound(part)
            _check_same(parts[0], part, name)
    return sorted(parts, key=lambda part: part.shard.index)


def problems_of(parts: Sequence[Part], given: Path | None) -> Path:
    """The problems that the shards were made from. DataError where they are gone or others."""
    entry = parts[0].manifest.get("inputs", {}).get("problems", {})
    path = given or Path(entry.get("path", "problems.jsonl"))
    if not path.is_file():
        raise DataError(f"{path}: not found; give the shards' problems by --problems")
    if digest(path) != entry.get("sha256"):
        raise DataError(f"{path}: not the problems that the shards were made from; give those by --problems")
    return path


def merge_stage(stage: Stage, parts: Sequence[Part], problems: Sequence[Problem]) -> Summary:
    """Write the stage's rows in the order of an undivided run."""
    notes: dict[str, Any] = {"choices_shown": _choices_shown(parts, problems)}
    order = {problem.id: i for i, problem in enumerate(problems)}
    rows = merge_rows(stage.path(ROWS[stage.name]), [part.folder for part in parts], stage.name, order)
    if stage.name == "rollout":
        measured = [row for part in parts for row in _problems(part.folder / "problems.jsonl")]
        write_rows(stage.path("problems.jsonl"), sorted(measured, key=lambda row: order[row.id]))
    failed = [line for part in parts for line in _lines(part.folder / "errors.jsonl")]
    if failed:
        with replacing(stage.path("errors.jsonl")) as out:
            out.writelines(failed)
    notes["merged"] = [str(part.folder) for part in parts]
    for key in ("models", *(key for key in CARRIED if any(key in part.manifest for part in parts))):
        notes[key] = {name: value for part in parts for name, value in part.manifest.get(key, {}).items()}
    for key in ("student_sources", "sources"):
        if names := {name for part in parts for name in part.manifest.get(key, [])}:
            notes[key] = sorted(names)
    stage.note(**notes)
    data = {"shards": len(parts), "rows": sum(rows), "failed": len(failed)}
    lines = [[str(p.shard), str(p.folder), str(n)] for p, n in zip(parts, rows, strict=True)]
    table = Table(f"{stage.name}: {data['rows']} rows", ["shard", "folder", "rows"], lines)
    left = [f"{len(failed)} samples are missing in the shards; the same command on {stage.folder.parent} asks for them"]
    return Summary("merge", data, [table], left if failed else [], [str(stage.path(ROWS[stage.name]))])


def _choices_shown(parts: Sequence[Part], problems: Sequence[Problem]) -> bool:
    """Whether the shards' prompts showed choices. ArtifactError where those of some did, and there are choices."""
    old = [part for part in parts if not shown(part.manifest)]
    if old and len(old) < len(parts) and any(map(options_text, problems)):
        raise ArtifactError(
            f"{old[0].folder}: made by an older version, which asked without showing choices; make it anew"
        )
    return not old


def merge_rows(path: Path, folders: Sequence[Path], name: str, order: Mapping[str, int]) -> list[int]:
    """Join the folders' files, as rows each; only keys are held in memory. ArtifactError for a row that comes twice."""
    kinds: dict[Any, int] = {}
    keys: list[tuple[int, int, int, int, int, int]] = []  # kind, problem, sample, file, offset, bytes
    counts, seen, sources = [], set[str](), list[set[Any]]()
    for number, folder in enumerate(folders):
        at, before, file, own = 0, len(keys), folder / ROWS[name], set[Any]()
        with file.open("rb") as lines:
            for line in lines:
                try:
                    row = json.loads(line)
                    row_id, problem, kind = row["id"], row["problem_id"], row[_SAMPLE[name]]
                    sample = int(row_id.rpartition("/")[2])
                except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
                    raise DataError(f"{file}:{len(keys) - before + 1}: broken row; make the shard anew") from None
                if row_id in seen or problem not in order:
                    what = "stands in two shards" if row_id in seen else "is of no problem in the problems' file"
                    raise ArtifactError(f"{file}: row {row_id} {what}; make the shards anew with the same command")
                seen.add(row_id)
                own.add(kind)
                keys.append((kinds.setdefault(kind, len(kinds)), order[problem], sample, number, at, len(line)))
                at += len(line)
        counts.append(len(keys) - before)
        sources.append(own)
        if name == "rollout" and own != sources[0]:
            other = ", ".join(sorted(map(str, own ^ sources[0])))
            raise ArtifactError(f"{file}: differs from {folders[0] / ROWS[name]} in its models: {other}; complete both")
    files = [(folder / ROWS[name]).open("rb") for folder in folders]
    try:
        with replacing(path) as out:
            for _, _, _, number, at, size in sorted(keys):
                files[number].seek(at)
                out.write(files[number].read(size).decode("utf-8"))
    finally:
        for source in files:
            source.close()
    return counts


def shared_recipe(part: Part) -> Recipe:
    """The recipe of a shard."""
    try:
        return Recipe.model_validate(part.recipe)
    except ValueError:
        raise ArtifactError(f"{part.folder / 'recipe.json'}: not a recipe; make the shard anew") from None


def _check_complete(parts: Sequence[Part], runs: Sequence[Path], name: str) -> None:
    without = [str(run) for run in runs if run / name not in [part.folder for part in parts]]
    if without:
        raise ArtifactError(f"{without[0]}: no shard of {name}; make it with --shard, or leave the run out")
    of = parts[0].shard.of
    other = next((part for part in parts if part.shard.of != of), None)
    if other is not None:
        raise ArtifactError(f"{other.folder}: is shard {other.shard}, and {parts[0].folder} is {parts[0].shard}")
    found = [part.shard.index for part in parts]
    for index in range(1, of + 1):
        if found.count(index) != 1:
            what = "given twice" if index in found else "missing"
            raise ArtifactError(f"merge: shard {index}/{of} of {name} is {what}; give every shard once")


def _check_sound(part: Part) -> None:
    if part.manifest.get("status") not in ("done", "sampled"):
        raise ArtifactError(f"{part.folder}: not finished; rerun its command (with --resume for distill)")
    for name, entry in part.manifest.get("outputs", {}).items():
        file = part.folder / name
        if not file.is_file() or digest(file) != entry["sha256"]:
            raise ArtifactError(f"{file}: not as its manifest says; copy it again, or make the shard anew")


def _check_same(first: Part, part: Part, name: str) -> None:
    mine, theirs = (relevant(p.recipe, name) for p in (first, part))
    if mine != theirs or first.recipe.get(name) != part.recipe.get(name):
        raise ArtifactError(
            f"{part.folder}: made with another recipe than {first.folder}; make it anew with the same one"
        )
    inputs, models = first.manifest.get("inputs", {}), first.manifest.get("models", {})
    for key, entry in part.manifest.get("inputs", {}).items():
        if inputs.get(key, {}).get("sha256") != entry["sha256"]:
            raise ArtifactError(f"{part.folder}: its {key} ({entry['path']}) differs from that of {first.folder}")
    for key, model in part.manifest.get("models", {}).items():
        if models.get(key, model) != model:
            raise ArtifactError(f"{part.folder}: the files of {key} differ from those of {first.folder}")
    servers = first.manifest.get("servers", {})
    for key, settings in part.manifest.get("servers", {}).items():
        if servers.get(key, settings) != settings:
            raise ArtifactError(
                f"{part.folder}: {key} was asked with other settings of engine.server than in {first.folder}; make it "
                "anew with the same ones"
            )


def _problems(path: Path) -> list[Problem]:
    return [Problem.model_validate_json(line) for line in _lines(path)]


def _lines(path: Path) -> list[str]:
    return [line for _, line in iter_lines(path)] if path.exists() else []
