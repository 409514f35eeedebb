"""The folder of a stage: who may write it, and what it was made from (recipe.json, manifest.json).

runs/<name>/<stage>/ holds a stage's files. A stage that holds files is refused unless `--resume` (same recipe and
inputs: the work continues) or `--force` (the folder is emptied first). While a process writes a stage, another one is
refused; a process that has ended holds nothing. Usage: `stage = open_stage(run, "verify", recipe, inputs)`.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import BaseModel, ValidationError

from realm_cli import __version__
from realm_cli.artifacts import digest, write_json
from realm_cli.errors import ArtifactError, masked
from realm_cli.recipe import Recipe

_LIBRARIES = ("torch", "transformers", "peft", "trl", "bitsandbytes", "math-verify", "openai")
_RESTORE = "restore it, or redo the stage with --force"
OWN_FILES = ("manifest.json", "recipe.json")  # what describes a stage and is no output of it
CARRIED = ("models", "servers", "refused")  # what the rows were made by: true of all that this work continues
_HELD: dict[str, FileLock] = {}  # by lock file, until this process ends


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
        return finished(self.folder)

    def open(
        self,
        inputs: Mapping[str, Path | None],
        *,
        resume: bool = False,
        force: bool = False,
        append: bool = False,
        shard: str | None = None,
    ) -> Stage:
        """Claim the folder. `append` stages (rollout) continue without --resume as long as the settings agree.

        shard: which part of the work this is, such as "2/4".
        """
        self._claim()
        given = {key: path for key, path in inputs.items() if path is not None}
        digests = {key: {"path": str(path), "sha256": digest(path)} for key, path in given.items()}
        filled = self.folder.is_dir() and any(self.folder.iterdir())
        if filled and force:
            self._check_ours()
            shutil.rmtree(self.folder)
        elif filled and not (resume or append):
            raise ArtifactError(
                f"{self.folder}: already holds a {self.name} stage; add --resume to continue it or --force to redo it"
            )
        elif filled:
            self._check_same(digests, inputs_too=not append)
            self._check_shard(shard)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ArtifactError(f"{self.folder}: cannot be made ({error.strerror}); choose another --run") from None
        self.earlier = read_manifest(self.path("manifest.json"))
        self._manifest = {
            "stage": self.name,
            "status": "running",
            "command": masked(" ".join(["realm", *sys.argv[1:]])),
            "started": _now(),
            "seed": self.recipe.seed,
            "inputs": digests,
            "versions": versions(),
            "git": _git_revision(),
        }
        carried = self.earlier or {"choices_shown": True}  # stages/same_choices.py
        self._manifest |= {key: carried[key] for key in (*CARRIED, "choices_shown") if key in carried}
        if shard is not None:
            self._manifest["shard"] = shard
        if self.recipe.student.trust_remote_code:
            self._manifest["trust_remote_code"] = [self.recipe.student.model]
        if not (resume and self.done):
            write_json(self.path("recipe.json"), self.recipe.model_dump(mode="json"))
            write_json(self.path("manifest.json"), self._manifest)
        return self

    def _check_shard(self, shard: str | None) -> None:
        before = read_manifest(self.path("manifest.json")).get("shard")
        if before != shard:
            what = f"shard {before}" if before else "work that is not divided"
            raise ArtifactError(f"{self.folder}: holds {what}; choose another --run")

    def _check_ours(self) -> None:
        """ArtifactError for a folder that may hold something else: it is not emptied."""
        ours = any((self.folder / name).is_file() for name in OWN_FILES)
        if self.folder.is_symlink() or not ours:
            what = "is a link" if self.folder.is_symlink() else "holds no manifest.json of a stage"
            raise ArtifactError(
                f"{self.folder}: {what}, so --force does not empty it; remove it, or choose another --run"
            )

    def _claim(self) -> None:
        """Keep other processes out until this one ends. No lock where the file system has none."""
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ArtifactError(f"{self.folder}: cannot be made ({error.strerror}); choose another --run") from None
        lock = FileLock(self.folder.parent / f".{self.folder.name}.lock", is_singleton=True, thread_local=False)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise ArtifactError(
                f"{self.folder}: another realm process is writing it; wait for it, stop it, or choose another --run"
            ) from None
        except (NotImplementedError, OSError):
            return
        _HELD[lock.lock_file] = lock

    def same_model(self, name: str, digest: str) -> None:
        """Record what a model's files are. ArtifactError where the work that this continues had others ("" = unknown).

        An adapter is an input of its own; here `name` may hold one, and the digest is the base's.
        """
        known = self._manifest.get("models", {})
        if digest and known.get(name, digest) != digest:
            raise ArtifactError(f"{self.folder}: the files of {name} have changed since; use --force to redo the stage")
        if digest:
            self.note(models={**known, name: digest})
            trusted = self._manifest.get("trust_remote_code", [])
            if trusted and name not in [*trusted, "student"]:
                self.note(trust_remote_code=[*trusted, name])

    def same_settings(self, name: str, settings: Mapping[str, Any] | None) -> None:
        """Record how a server is asked (None: no server). ArtifactError where texts of it were asked for otherwise."""
        known = self._manifest.get("servers", {})
        if settings is None:
            return
        changed = _changed(known[name], dict(settings), "engine.server") if name in known else []
        if changed:
            raise ArtifactError(
                f"{self.folder}: texts of {name} were made with other settings ({', '.join(changed[:4])}); use --force "
                "or another --run"
            )
        self.note(servers={**known, name: dict(settings)})

    def refused(self, name: str, parameters: Mapping[str, str | None]) -> None:
        """Record what a server has refused: its texts were sampled without it, or it went under another name."""
        known = self._manifest.get("refused", {})
        if parameters:
            self.note(refused={**known, name: {**known.get(name, {}), **parameters}})

    def note(self, **facts: Any) -> None:
        """Add facts to the manifest while the stage runs."""
        self._manifest |= facts
        write_json(self.path("manifest.json"), self._manifest)

    def finish(self, status: str = "done", **facts: Any) -> None:
        """Close the manifest with row counts and digests of the outputs."""
        outputs = {}
        for file in sorted(self.folder.rglob("*")):
            parts = file.relative_to(self.folder).parts
            if not file.is_file() or file.name in OWN_FILES or "checkpoints" in parts:
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
        old = self._as_read_now(read_json(self.path("recipe.json")))
        if old:
            new = self.recipe.model_dump(mode="json")
            new, further = self.recipe.model_dump(mode="json"), "adapter" in digests
            changed = _changed(relevant(old, self.name, further=further), relevant(new, self.name, further=further))
            if changed:
                raise ArtifactError(
                    f"{self.folder}: made with another recipe ({', '.join(changed[:4])}); use --force or another --run"
                )
        before = read_manifest(self.path("manifest.json")).get("inputs", {})
        for key, entry in digests.items():
            if inputs_too and key in before and before[key]["sha256"] != entry["sha256"]:
                raise ArtifactError(
                    f"{self.folder}: its input {key} ({entry['path']}) has changed since; use --force to redo the "
                    "stage, or another --run"
                )


def finished(folder: Path) -> bool:
    """Whether a stage's folder says that the stage has ended."""
    return bool(read_json(folder / "manifest.json").get("status") == "done")


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
    shard: str | None = None,
) -> Stage:
    """Open `run/<name>` (or `run/<folder>`) for writing; see Stage.open."""
    stage = Stage(run / (folder or name), name, recipe)
    return stage.open(inputs, resume=resume, force=force, append=append, shard=shard)


def relevant(recipe: Mapping[str, Any], stage: str, *, further: bool = False) -> dict[str, Any]:
    """The part of a resolved recipe that decides a stage's output.

    further: the stage trains an adapter further, which has its own LoRA settings.
    """
    keep = {key: recipe.get(key) for key in ("seed", "student", "prompt", stage)}
    if stage == "rollout":  # more models, problems or samples may be added to a rollout
        rollout = dict(recipe.get("rollout") or {})
        keep["rollout"] = {key: rollout.get(key) for key in ("temperature", "top_p", "max_tokens")}
    if stage == "eval":  # how many routes its prompts show
        keep["verify"] = {"k_long_tokens": (recipe.get("verify") or {}).get("k_long_tokens")}
    block = keep.get("train_rl")
    if isinstance(block, dict):  # when to warn and stop changes nothing of what is made
        unused = ("alarms", "preflight", "lora") if further else ("alarms", "preflight")
        keep["train_rl"] = {key: value for key, value in block.items() if key not in unused}
    block = keep.get("distill")
    if further and isinstance(block, dict) and isinstance(block.get("sft"), dict):
        keep["distill"] = {**block, "sft": {key: value for key, value in block["sft"].items() if key != "lora"}}
    return keep


def _changed(old: object, new: object, at: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(key for key in new if key not in old)]
        return [name for key in keys for name in _changed(old.get(key), new.get(key), f"{at}.{key}" if at else key)]
    return [] if old == new else [f"{at}: {old} -> {new}"]


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; {} where there is none."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


class _Output(BaseModel):
    sha256: str
    rows: int = 0


class _Input(BaseModel):
    path: str
    sha256: str


class _Manifest(BaseModel):
    outputs: dict[str, _Output] = {}
    inputs: dict[str, _Input] = {}
    versions: dict[str, str] = {}
    models: dict[str, str] = {}
    choices_shown: bool = False
    servers: dict[str, dict[str, Any]] = {}
    refused: dict[str, dict[str, str | None]] = {}


def read_manifest(path: Path) -> dict[str, Any]:
    """A stage's manifest; {} where there is none. ArtifactError for one that no stage wrote."""
    if not path.exists():
        return {}
    data = read_json(path)
    try:
        _Manifest.model_validate(data)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise ArtifactError(f"{path}: not a manifest, its {where} is odd; {_RESTORE}") from None
    if not data:
        raise ArtifactError(f"{path}: not a manifest; {_RESTORE}")
    return data


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
