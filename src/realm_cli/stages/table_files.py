"""JSONL, JSON, CSV and TSV files as other programs write them: any divider, byte order marks, not always UTF-8.

Usage: `rows, notes = read_table(Path("cases.csv"))`; Parquet and datasets are read by `engines/tables.py`
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from pathlib import Path

from realm_cli.errors import DataError
from realm_cli.stages.json_tables import Cells, json_rows

DELIMITERS = ",;\t|"
MORE = "\0more"  # cells of a CSV row that stand behind the last column
SHEETS = (".xlsx", ".xls", ".ods", ".numbers")
KINDS = "give a .jsonl, .json, .csv, .tsv or .parquet file"
_SEP = re.compile(r'"?sep=(.)"?\r?\n')  # what a spreadsheet writes for itself


def read_table(path: Path) -> tuple[list[tuple[str, Cells]], list[str]]:
    """((place, cells) of each row, notes) of a JSONL, JSON, CSV or TSV file. DataError."""
    if path.suffix.lower() in SHEETS:
        raise DataError(f"{path}: a spreadsheet; save it as CSV (UTF-8) and import that")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}; {KINDS}") from None
    notes: list[str] = []
    text = _decoded(data, notes)
    if "\x00" in text[:1000]:
        raise DataError(f"{path}: not a text table; {KINDS}")
    kind = path.suffix.lower()
    rows = json_rows(path, text, notes) if kind in (".jsonl", ".ndjson", ".json") else _csv_rows(path, text, notes)
    if not rows:
        raise DataError(f"{path}: no rows; check that it is the file that you mean")
    return rows, notes


def _decoded(data: bytes, notes: list[str]) -> str:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        notes.append("not UTF-8: read as Windows-1252; look at letters with accents")
        return data.decode("cp1252", "replace")


def _csv_rows(path: Path, text: str, notes: list[str]) -> list[tuple[str, Cells]]:
    named = _SEP.match(text)
    start = 2 if named else 1
    text = text[named.end() :] if named else text
    head = text.partition("\n")[0]
    if named:
        delimiter = named[1]
    else:
        outside = re.sub(r'"[^"]*"', "", head)  # quoted names may hold other dividers
        tabs = path.suffix.lower() in (".tsv", ".tab")
        delimiter = "\t" if tabs else max(DELIMITERS, key=outside.count)
    if delimiter != "," and path.suffix.lower() == ".csv":
        notes.append(f"columns are divided by {delimiter!r}")
    csv.field_size_limit(10_000_000)
    plain = delimiter == "\t" and not _quotes_fit(text)  # many writers of tabs know no quotes
    if plain:
        notes.append("quotes are read as part of the text, as they do not enclose whole cells")
    reader = csv.DictReader(
        io.StringIO(text, newline=""),
        delimiter=delimiter,
        restkey=MORE,
        quoting=csv.QUOTE_NONE if plain else csv.QUOTE_MINIMAL,
    )
    rows: list[tuple[str, Cells]] = []
    try:
        names = [name.strip() for name in reader.fieldnames or []]
        reader.fieldnames = names
        line = reader.line_num + start
        for row in reader:
            cells = {name: value for name, value in row.items() if name}  # a last comma makes a column without a name
            if not any(cells.pop(MORE, [])):
                rows.append((f"line {line}", cells))
            else:
                rows.append((f"line {line}", {**cells, MORE: row[MORE]}))
            line = reader.line_num + start
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num}: {error}; check its quotes") from None
    twice = [name for name, n in Counter(names).items() if n > 1 and name]
    if twice:
        raise DataError(f"{path}: two columns are named {twice[0]!r}; rename one")
    if rows and not plain and text.count('"') % 2:
        notes.append(f"quotes that are opened and not closed: look at {rows[-1][0]}, it takes the rest of the file")
    return rows


def _quotes_fit(text: str) -> bool:
    """Whether every quote that opens a cell of a file with tabs closes at the end of a cell."""
    try:
        for _ in csv.reader(io.StringIO(text, newline=""), delimiter="\t", strict=True):
            pass
    except csv.Error:
        return False
    return True
