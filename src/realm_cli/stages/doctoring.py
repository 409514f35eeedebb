"""Is this machine ready? Facts in, findings out, one line each with the fix. `realm doctor` gathers the facts.

Usage: `findings = check_packages(installed, requirements, tested) + check_disk("run folder", path, free)`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from realm_cli.stages.checkup import Finding

PYTHONS = ((3, 10), (3, 13))  # the oldest and the newest that are supported
CORE = ("torch", "transformers", "peft", "trl", "bitsandbytes", "accelerate", "datasets", "safetensors")
LOW_DISK, SOME_DISK = 2.0, 20.0  # GiB free: too little for a run; little for a model and its checkpoints
LOW_MEMORY, SOME_GPU = 4.0, 8.0  # GiB: of the machine; of a GPU
BFLOAT16 = (8, 0)  # compute capability from which a GPU has bfloat16


@dataclass(frozen=True)
class Gpu:
    """A CUDA device as torch sees it. free, total: GiB."""

    name: str
    capability: tuple[int, int]
    free: float
    total: float


def pinned_versions() -> dict[str, str]:
    """Package -> the version that is tested with the others (constraints.txt, which lies in the package)."""
    package = Path(__file__).resolve().parents[1]
    places = (package / "_constraints.txt", package.parents[1] / "constraints.txt")
    file = next((place for place in places if place.is_file()), None)
    lines = file.read_text(encoding="utf-8").splitlines() if file else []
    pins = (line.split("#")[0].split(";")[0].strip().partition("==") for line in lines)
    return {canonicalize_name(name.strip()): version.strip() for name, sep, version in pins if sep}


def check_python(version: tuple[int, int] = sys.version_info[:2]) -> Finding:
    """The interpreter's version."""
    text = f"Python {version[0]}.{version[1]}"
    if version < PYTHONS[0]:
        return Finding("error", f"{text}: too old; make an environment with Python 3.10 or newer")
    if version > PYTHONS[1]:
        return Finding("warning", f"{text}: newer than what is tested; if something fails, try Python 3.11 to 3.13")
    return Finding("fine", text)


def check_packages(
    installed: Callable[[str], str | None], requirements: Sequence[str], tested: Mapping[str, str]
) -> list[Finding]:
    """Versions against what the package asks for (error) and what is tested (warning). installed: None = missing."""
    asked: dict[str, Requirement] = {}
    for text in requirements:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            asked[canonicalize_name(requirement.name)] = requirement
    findings, same = [], []
    for name in dict.fromkeys((*CORE, *asked)):
        have, pin = installed(name), tested.get(name)
        requirement = asked.get(name, Requirement(name))
        if have is None:
            findings.append(Finding("error", f"{name}: not installed; pip install '{requirement}'"))
        elif not _allowed(have, requirement):
            findings.append(
                Finding(
                    "error", f"{name} {have}: {requirement.specifier} is needed; pip install '{_fix(requirement, pin)}'"
                )
            )
        elif pin is not None and name in CORE and _release(have) != _release(pin):
            findings.append(
                Finding("warning", f"{name} {have}: tested is {pin}; if something fails, pip install '{name}=={pin}'")
            )
        elif name in CORE:
            same.append(f"{name} {have}")
    return [*([Finding("fine", ", ".join(same))] if same else []), *findings]


def _allowed(have: str, requirement: Requirement) -> bool:
    try:
        return requirement.specifier.contains(Version(have), prereleases=True)
    except InvalidVersion:
        return False


def _fix(requirement: Requirement, pin: str | None) -> str:
    return f"{requirement.name}=={pin}" if pin is not None else str(requirement)


def _release(version: str) -> tuple[int, ...]:
    try:
        return Version(version).release[:2]
    except InvalidVersion:
        return ()


def check_gpu(gpus: Sequence[Gpu], cuda_build: str | None, has_driver: bool) -> list[Finding]:
    """cuda_build: the CUDA version that torch was built for, None = a build for the processor only."""
    if not gpus and has_driver and cuda_build is None:
        return [
            Finding(
                "error",
                "GPU: there is an NVIDIA driver, but this torch is built for the processor only; "
                "reinstall torch for CUDA (pytorch.org, Get Started)",
            )
        ]
    if not gpus and has_driver:
        return [
            Finding(
                "error",
                f"GPU: torch (CUDA {cuda_build}) sees none; look at `nvidia-smi`, update the driver, "
                "or unset CUDA_VISIBLE_DEVICES",
            )
        ]
    if not gpus:
        return [Finding("warning", "GPU: none; the demo and small models train on the processor, others want one GPU")]
    findings = []
    for gpu in gpus:
        text = f"GPU {gpu.name}, {gpu.total:.0f} GiB, {gpu.free:.1f} GiB free"
        if gpu.capability < BFLOAT16:
            findings.append(Finding("warning", f"{text}: no bfloat16; set student.dtype=float32"))
        elif gpu.free < min(SOME_GPU, 0.5 * gpu.total):
            findings.append(
                Finding(
                    "warning", f"{text}: others hold most of it; end them (`nvidia-smi` names them) or run realm plan"
                )
            )
        else:
            findings.append(Finding("fine", text))
    return findings


def check_memory(total: float, free: float) -> Finding:
    """GiB of this machine."""
    text = f"memory {total:.0f} GiB, {free:.1f} GiB free"
    if free < LOW_MEMORY:
        return Finding("warning", f"{text}: little; end other programs, or plan for it: realm plan")
    return Finding("fine", text)


def check_load(load: float, cores: int) -> Finding:
    """Mean number of programs that wanted a core in the last minute, of all users."""
    text = f"{cores} cores, load {load:.1f}"
    if load > cores / 2:
        left = max(1, cores - round(load))
        return Finding("warning", f"{text}: others use them, and threads wait for one another; engine.threads={left}")
    return Finding("fine", text)


def check_place(what: str, place: Path, free: float | None, trouble: str | None) -> Finding:
    """A folder to be written to. free: GiB of its disk; trouble: why it cannot be written."""
    if trouble is not None:
        return Finding(
            "error", f"{what} {place}: cannot be written ({trouble}); choose another place or mend its owner"
        )
    if free is not None and free < LOW_DISK:
        return Finding("error", f"{what} {place}: {free:.1f} GiB free; free some, a run needs {LOW_DISK:.0f} or more")
    if free is not None and free < SOME_DISK:
        return Finding("warning", f"{what} {place}: {free:.1f} GiB free; a 3B model alone takes 6")
    return Finding("fine", f"{what} {place}" + (f": {free:.0f} GiB free" if free is not None else ""))


def check_environment(environment: Mapping[str, str], cores: int, encoding: str) -> list[Finding]:
    """Variables that change how commands run."""
    findings = []
    threads = environment.get("OMP_NUM_THREADS", "")
    if threads == "1" and cores > 1:
        findings.append(
            Finding("warning", f"OMP_NUM_THREADS=1: one of {cores} cores computes; unset it, or set engine.threads")
        )
    if environment.get("WORLD_SIZE", "1") not in ("", "1"):
        findings.append(
            Finding("error", f"WORLD_SIZE={environment['WORLD_SIZE']}: left by a launcher; unset WORLD_SIZE and RANK")
        )
    if environment.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        findings.append(Finding("warning", "CUDA_VISIBLE_DEVICES hides every GPU; unset it to use one"))
    if encoding.lower().replace("-", "") != "utf8":
        findings.append(Finding("warning", f"output is {encoding or 'of no known encoding'}; set PYTHONUTF8=1"))
    return findings


def check_student(label: str, *, from_hub: bool, here: bool, offline: bool) -> Finding:
    """Whether the student's files are on this machine, or can be fetched."""
    if here:
        return Finding("fine", f"student {label}: on this machine")
    if from_hub and offline:
        return Finding("error", f"student {label}: not on this machine, and HF_HUB_OFFLINE is set; unset it once")
    return Finding("warning", f"student {label}: not here yet; the first command that needs it fetches it from the hub")


def check_server(spec: str, trouble: str | None) -> Finding:
    """A server that the recipe names. trouble: why it does not answer."""
    if trouble is not None:
        return Finding("error", f"{spec}: does not answer ({trouble}); start it, or correct the URL in the recipe")
    return Finding("fine", f"{spec}: answers")


def check_smoke(seconds: float, losses: Sequence[float], trouble: str | None, device: str) -> Finding:
    """NF4 forward and backward of a small model: the losses before and after some steps."""
    what = f"NF4 on the {'GPU' if device == 'cuda' else 'processor'}"
    if trouble is not None:
        return Finding(
            "error",
            f"{what}: bitsandbytes failed ({trouble}); reinstall bitsandbytes, or train with --set student.quant=none",
        )
    if not losses or not losses[-1] < losses[0]:  # NaN as well
        return Finding(
            "error", f"{what}: the loss does not fall ({_numbers(losses)}); reinstall torch and bitsandbytes"
        )
    return Finding("fine", f"{what}: forward and backward work, loss {_numbers(losses)} in {seconds:.1f} s")


def _numbers(losses: Sequence[float]) -> str:
    return " -> ".join(f"{loss:.2f}" for loss in (losses[0], losses[-1])) if losses else "none"
