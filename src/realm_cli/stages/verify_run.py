"""Is a run what its manifests say? Digests and row counts of every file, and the chain from outputs to inputs.

Reads every manifest.json below a folder, writes nothing. A file that was changed, lost or added by hand is named, and
so is a stage that was made from a file which has another content now.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from realm_cli.artifacts import digest
from realm_cli.errors import ArtifactError
from realm_cli.run_folder import OWN_FILES, read_json, read_manifest, versions
from realm_cli.stages.summary import Summary, Table


def run_verify_run(run: Path) -> Summary:
    """Check all stages of a run. `data["problems"]`: one line for each file that is not as recorded."""
    manifests = sorted(run.rglob("manifest.json"), key=lambda path: (str(read_json(path).get("started")), str(path)))
    if not manifests:
        raise ArtifactError(f"{run}: no manifest.json below it; give a run folder such as runs/demo")
    rows, problems, other = [], [], set[str]()
    now = versions()
    for path in manifests:
        manifest, place = read_manifest(path), path.parent
        outputs, inputs = manifest.get("outputs", {}), manifest.get("inputs", {})
        wrong = [*_changed_outputs(place, outputs), *_changed_inputs(inputs)]
        status = str(manifest.get("status"))
        if status != "done":
            wrong.append(f"{place}: {status}, not finished; continue it with --resume")
        other |= {f"{name} {v} (now {now[name]})" for name, v in manifest.get("versions", {}).items()
                  if name in now and now[name] != v}  # fmt: skip
        problems += wrong
        count = sum(entry.get("rows", 0) for entry in outputs.values())
        name = str(place.relative_to(run)) if place != run else place.name
        rows.append([name, status, str(len(outputs)), str(count), str(len(inputs)), "yes" if not wrong else "NO"])
    notes = [*problems, *([f"made with other versions: {', '.join(sorted(other))}"] if other else [])]
    columns = ["stage", "status", "files", "rows", "inputs", "as recorded"]
    return Summary("verify-run", {"stages": len(rows), "problems": problems}, [Table("Run", columns, rows)], notes)


def _changed_outputs(place: Path, outputs: dict[str, Any]) -> Iterator[str]:
    """Files of the stage's folder that are not as its manifest says."""
    for name, entry in outputs.items():
        file = place / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            yield f"{place / 'manifest.json'}: names {name}, which is outside of the stage; it was changed by hand"
        elif not file.is_file():
            yield f"{file}: gone; redo the stage with --force"
        elif digest(file) != entry["sha256"]:
            counted = f", {_rows(file)} rows for {entry['rows']}" if "rows" in entry else ""
            yield f"{file}: changed after the stage ended{counted}"
    for file in sorted(place.rglob("*")) if outputs else ():
        parts = file.relative_to(place).parts
        inner = any((place / Path(*parts[:k]) / "manifest.json").exists() for k in range(1, len(parts)))
        known = file.name in OWN_FILES or "/".join(parts) in outputs or inner or "checkpoints" in parts
        if file.is_file() and not known:
            yield f"{file}: not in the manifest; it was added later"


def _changed_inputs(inputs: dict[str, Any]) -> Iterator[str]:
    """Inputs that still lie where they were, with another content."""
    for name, entry in inputs.items():
        path = Path(entry["path"])
        known = path.is_file() or (path / "adapter_config.json").is_file()  # no device, no pipe, not a whole disk
        if known and digest(path) != entry["sha256"]:
            yield f"{path}: has changed since it was read as {name}"


def _rows(file: Path) -> int:
    with file.open("rb") as lines:
        return sum(1 for _ in lines)
