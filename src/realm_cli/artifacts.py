"""Files of a run: JSONL rows, atomic writes, digests, stage folders with recipe.json and manifest.json.

runs/<name>/<stage>/ holds a stage's files. A stage that holds files is refused unless `--resume` (same recipe and
inputs: the work continues) or `--force` (the folder is emptied first). Rows are appended and flushed one by one, so an
interrupted stage keeps what it made; a last line that was cut off is dropped on the next start.
"""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO, TypeVar

from pydantic import ValidationError

from realm_cli import __version__
from realm_cli.errors import ArtifactError, DataError
from realm_cli.recipe import Recipe
from realm_cli.records import Row

RowT = TypeVar("RowT", bound=Row)
STAGES = ("rollout", "verify", "distill", "train_rl", "eval")
_LIBRARIES = ("torch", "transformers", "peft", "trl", "bitsandbytes", "math-verify", "openai")


def iter_rows(path: Path, model: type[RowT], *, made_by: str = "") -> Iterator[RowT]:
    """Yield the rows of a JSONL file, checked. DataError names file and line."""
    for number, line in iter_lines(path, made_by=made_by):
        yield parse_row(line, model, f"{path}:{number}")


def iter_lines(path: Path, *, made_by: str = "") -> Iterator[tuple[int, str]]:
    """(line number, line) of every line of a text file that is not blank. DataError where it cannot be read."""
    hint = f"; make it with `{made_by}`" if made_by else "; check the path"
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield number, line
    except FileNotFoundError:
        raise DataError(f"{path}: not found{hint}") from None
    except IsADirectoryError:
        raise DataError(f"{path}: is a folder; give a .jsonl file") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: not UTF-8 text; give a .jsonl file") from None
    except PermissionError:
        raise DataError(f"{path}: not readable; check its permissions") from None


def parse_row(line: str, model: type[RowT], place: str) -> RowT:
    """One checked row; DataError names `place`."""
    try:
        return model.model_validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        if first["type"] == "json_invalid":
            raise DataError(f"{place}: broken JSON ({first['ctx']['error']}); mend or delete the line") from None
        known = f"; known fields: {', '.join(model.model_fields)}" if first["type"] == "extra_forbidden" else ""
        what = "unknown field" if known else first["msg"][0].lower() + first["msg"][1:]
        field = f"field {where}: " if where else ""
        raise DataError(f"{place}: {field}{what}{known or f'; a {model.__name__} row is expected'}") from None


def read_rows(path: Path, model: type[RowT], *, made_by: str = "", allow_empty: bool = False) -> list[RowT]:
    """All rows of a file; refuses doubled ids and, unless allowed, an empty file."""
    rows = list(iter_rows(path, model, made_by=made_by))
    if not rows and not allow_empty:
        raise DataError(f"{path}: no rows; {f'run `{made_by}` again' if made_by else 'give a file with rows'}")
    seen: dict[str, int] = {}
    for number, row in enumerate(rows, 1):
        if row.id in seen:
            raise DataError(f"{path}: id {row.id!r} stands in rows {seen[row.id]} and {number}; ids must be unique")
        seen[row.id] = number
    return rows


@contextmanager
def replacing(path: Path) -> Iterator[TextIO]:
    """A text file that takes the place of `path` when the block ends, whole and on disk; nothing is left if it fails.

    ArtifactError on a full or closed disk.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(path)
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be written ({error.strerror}); check space and permissions") from None
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a whole file atomically; see `replacing`."""
    with replacing(path) as out:
        out.write(text)


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write a whole JSONL file atomically; the rows may come one by one."""
    with replacing(path) as out:
        out.writelines(row.model_dump_json() + "\n" for row in rows)


def write_json(path: Path, data: object) -> None:
    """Write indented JSON atomically."""
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False, default=str) + "\n")


class Appender:
    """Appends JSON lines, flushed one by one. Opening drops a last line that was cut off."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _drop_cut_line(path)
            self._out = path.open("a", encoding="utf-8")
        except OSError as error:
            raise ArtifactError(f"{path}: cannot be written ({error.strerror}); check permissions") from None

    def add(self, row: Row | Mapping[str, Any]) -> None:
        """Append one row and flush it."""
        line = row.model_dump_json() if isinstance(row, Row) else json.dumps(row, ensure_ascii=False)
        try:
            self._out.write(line + "\n")
            self._out.flush()
        except OSError as error:
            raise ArtifactError(
                f"{self.path}: cannot be written ({error.strerror}); free some space, then rerun with --resume"
            ) from None

    def keep_steps(self, before: int) -> None:
        """Drop rows of step `before` and later: an interrupted run's tail, which will be made again."""
        self._out.close()
        lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
        write_text(self.path, "".join(line for line in lines if json.loads(line)["step"] < before))
        self._out = self.path.open("a", encoding="utf-8")

    def __enter__(self) -> Appender:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._out.close()


def _drop_cut_line(path: Path) -> None:
    if not path.exists() or path.stat().st_size == 0:
        return
    with path.open("rb+") as raw:
        data = raw.read()
        if not data.endswith(b"\n"):
            raw.truncate(data.rfind(b"\n") + 1)


def digest(path: Path) -> str:
    """sha256 of a file, or of a folder's files in name order."""
    total = hashlib.sha256()
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    for file in files:
        with file.open("rb") as data:
            while block := data.read(1 << 20):
                total.update(block)
    return total.hexdigest()


class Stage:
    """One stage's folder: paths, the resume/force rule, recipe.json and manifest.json."""

    def __init__(self, folder: Path, name: str, recipe: Recipe) -> None:
        self.folder, self.name, self.recipe = folder, name, recipe
        self.earlier: dict[str, Any] = {}  # the manifest of the work that this one continues
        self._manifest: dict[str, Any] = {}

    def path(self, name: str) -> Path:
        """A file of this stage."""
        return self.folder / name

    @property
    def done(self) -> bool:
        """True once the stage has finished."""
        return bool(_read_json(self.path("manifest.json")).get("status") == "done")

    def open(
        self, inputs: Mapping[str, Path | None], *, resume: bool = False, force: bool = False, append: bool = False
    ) -> Stage:
        """Claim the folder. `append` stages (rollout) continue without --resume as long as the settings agree."""
        given = {key: path for key, path in inputs.items() if path is not None}
        digests = {key: {"path": str(path), "sha256": digest(path)} for key, path in given.items()}
        filled = self.folder.is_dir() and any(self.folder.iterdir())
        if filled and force:
            shutil.rmtree(self.folder)
        elif filled and not (resume or append):
            raise ArtifactError(
                f"{self.folder}: already holds a {self.name} stage; add --resume to continue it or --force to redo it"
            )
        elif filled:
            self._check_same(digests, inputs_too=not append)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ArtifactError(f"{self.folder}: cannot be made ({error.strerror}); choose another --run") from None
        self.earlier = _read_json(self.path("manifest.json"))
        self._manifest = {
            "stage": self.name,
            "status": "running",
            "command": " ".join(["realm", *sys.argv[1:]]),
            "started": _now(),
            "seed": self.recipe.seed,
            "inputs": digests,
            "versions": versions(),
            "git": _git_revision(),
        }
        if not (resume and self.done):
            write_json(self.path("recipe.json"), self.recipe.model_dump(mode="json"))
            write_json(self.path("manifest.json"), self._manifest)
        return self

    def note(self, **facts: Any) -> None:
        """Add facts to the manifest while the stage runs."""
        self._manifest |= facts
        write_json(self.path("manifest.json"), self._manifest)

    def finish(self, status: str = "done", **facts: Any) -> None:
        """Close the manifest with row counts and digests of the outputs."""
        outputs = {}
        for file in sorted(self.folder.rglob("*")):
            parts = file.relative_to(self.folder).parts
            if not file.is_file() or file.name in ("manifest.json", "recipe.json") or "checkpoints" in parts:
                continue
            entry: dict[str, Any] = {"sha256": digest(file)}
            if file.suffix == ".jsonl":
                with file.open("rb") as lines:
                    entry["rows"] = sum(1 for _ in lines)
            outputs["/".join(parts)] = entry
        self._manifest |= {"status": status, "finished": _now(), "outputs": outputs, **facts}
        write_json(self.path("manifest.json"), self._manifest)

    def _as_read_now(self, old: dict[str, Any]) -> dict[str, Any]:
        """An older version's recipe, with the defaults of the keys that it did not have."""
        try:
            return type(self.recipe).model_validate(old).model_dump(mode="json") if old else old
        except ValueError:  # it has keys that are no more
            return old

    def _check_same(self, digests: Mapping[str, Mapping[str, str]], *, inputs_too: bool) -> None:
        old = self._as_read_now(_read_json(self.path("recipe.json")))
        if old:
            changed = _changed(relevant(old, self.name), relevant(self.recipe.model_dump(mode="json"), self.name))
            if changed:
                raise ArtifactError(
                    f"{self.folder}: made with another recipe ({', '.join(changed[:4])}); use --force or another --run"
                )
        before = _read_json(self.path("manifest.json")).get("inputs", {})
        for key, entry in digests.items():
            if inputs_too and key in before and before[key]["sha256"] != entry["sha256"]:
                raise ArtifactError(
                    f"{self.folder}: its input {key} ({entry['path']}) has changed since; use --force to redo the stage"
                )


def open_stage(
    run: Path,
    name: str,
    recipe: Recipe,
    inputs: Mapping[str, Path | None],
    *,
    resume: bool = False,
    force: bool = False,
    append: bool = False,
    folder: str | None = None,
) -> Stage:
    """Open `run/<name>` (or `run/<folder>`) for writing; see Stage.open."""
    return Stage(run / (folder or name), name, recipe).open(inputs, resume=resume, force=force, append=append)


def relevant(recipe: Mapping[str, Any], stage: str) -> dict[str, Any]:
    """The part of a resolved recipe that decides a stage's output."""
    keep = {key: recipe.get(key) for key in ("seed", "student", "prompt", stage)}
    if stage == "rollout":  # more models, problems or samples may be added to a rollout
        rollout = dict(recipe.get("rollout") or {})
        keep["rollout"] = {key: rollout.get(key) for key in ("temperature", "top_p", "max_tokens")}
    return keep


def _changed(old: object, new: object, at: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(key for key in new if key not in old)]
        return [name for key in keys for name in _changed(old.get(key), new.get(key), f"{at}.{key}" if at else key)]
    return [] if old == new else [f"{at}: {old} -> {new}"]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def versions() -> dict[str, str]:
    """Installed versions of realm, Python and the libraries that decide results."""
    found = {"realm": __version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _git_revision() -> str | None:
    try:
        place = Path(__file__).parent
        found = subprocess.run(["git", "rev-parse", "HEAD"], cwd=place, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None if found.returncode == 0 else None


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
