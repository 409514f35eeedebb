"""Files: JSONL rows in and out, atomic writes, digests.

Rows are appended and flushed one by one, so an interrupted stage keeps what it made; a last line that was cut off is
dropped on the next start. Usage: `read_rows(path, Route)`; `with Appender(path) as out: out.add(row)`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO, TypeVar

from pydantic import ValidationError

from realm_cli.errors import ArtifactError, DataError
from realm_cli.records import Row

RowT = TypeVar("RowT", bound=Row)


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


def iter_json(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(line, object) of every line of a JSONL file without a record type. DataError names file and line."""
    for number, line in iter_lines(path):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}:{number}: broken JSON ({error}); mend or delete the line") from None
        if not isinstance(row, dict):
            raise DataError(f"{path}:{number}: not an object; mend or delete the line")
        yield line, row


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


def kept_rows(path: Path, model: type[RowT]) -> list[RowT]:
    """Rows that an interrupted run left, without a last line that was cut off; [] where there is no file."""
    if not path.exists():
        return []
    with Appender(path):
        pass  # drops the cut line
    return read_rows(path, model, allow_empty=True)


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
            if path.is_symlink():
                raise ArtifactError(f"{path}: is a link, and rows are not appended to what it names; remove it")
            _drop_cut_line(path)
            self._out = path.open("a", encoding="utf-8")
            self.begun = self._out.tell() > 0  # there were rows before
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
        write_text(self.path, "".join(line for line, row in iter_json(self.path) if row.get("step", before) < before))
        self._out = self.path.open("a", encoding="utf-8")

    def __enter__(self) -> Appender:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """No more rows; one that was added is on its way to the disk already."""
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
