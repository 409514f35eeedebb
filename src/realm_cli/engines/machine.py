"""What `realm doctor` asks of torch and of servers. Usage: `gpus, build = cuda_devices()`; `nf4_smoke()`."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import httpx2
import psutil
import torch

from realm_cli.engines.sources import LOAD_ERRORS, TINY, cache_dir, first_line, resolve_model
from realm_cli.errors import RealmError

GIB = 2**30
FAILURES: tuple[type[Exception], ...] = (RealmError, *LOAD_ERRORS)
STEPS = 4
PATIENCE = 5.0  # seconds for a server


def cuda_devices() -> tuple[list[tuple[str, tuple[int, int], float, float]], str | None]:
    """((name, compute capability, GiB free, GiB) of each GPU, CUDA version that torch was built for)."""
    found = []
    for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        free, total = torch.cuda.mem_get_info(i)
        found.append((torch.cuda.get_device_name(i), torch.cuda.get_device_capability(i), free / GIB, total / GIB))
    return found, torch.version.cuda


def has_driver() -> bool:
    """Whether an NVIDIA driver is installed."""
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def memory() -> tuple[float, float]:
    """GiB (all, free) of this machine."""
    found = psutil.virtual_memory()
    return found.total / GIB, found.available / GIB


def load() -> tuple[float, int]:
    """(mean number of programs that wanted a core in the last minute, cores of this machine)."""
    return psutil.getloadavg()[0], psutil.cpu_count() or 1


def places() -> dict[str, Path]:
    """Folders for models: our own cache and the hub's."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return {"cache of converted models": cache_dir(), "cache of the model hub": Path(HF_HUB_CACHE)}


def student_files(model: str) -> tuple[str, bool, bool]:
    """(label, whether it comes from the hub, whether its files are here). ConfigError for an unknown name."""
    from huggingface_hub import snapshot_download

    source = resolve_model(model)
    if source.kind != "hub":
        return source.label, False, True
    try:
        folder = snapshot_download(str(source.hub_id), local_files_only=True)
    except (OSError, ValueError):
        return source.label, True, False
    return source.label, True, any(Path(folder).glob("*.safetensors"))


def offline() -> bool:
    """Whether the hub may not be asked."""
    from huggingface_hub.constants import HF_HUB_OFFLINE

    return bool(HF_HUB_OFFLINE)


def server_trouble(spec: str) -> str | None:
    """Why the servers of an `openai:URL,URL#MODEL` spec do not answer; None where all do."""
    urls, _, _ = spec.removeprefix("openai:").partition("#")
    key = os.environ.get("REALM_API_KEY") or os.environ.get("OPENAI_API_KEY") or ""
    for url in urls.split(","):
        try:
            answer = httpx2.get(
                f"{url.rstrip('/')}/models",
                headers={"Authorization": f"Bearer {key}"} if key else {},
                timeout=PATIENCE,
            )
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            return f"{url}: {first_line(error)}"
        if answer.status_code in (401, 403):
            return f"{url}: wrong or missing key, status {answer.status_code}; set REALM_API_KEY"
        if answer.status_code >= 500:
            return f"{url}: status {answer.status_code}"
    return None


def nf4_smoke() -> tuple[float, list[float], str | None, str]:
    """Some steps of LoRA on the tiny student in NF4: (seconds, losses, what failed, device)."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    start = time.perf_counter()
    losses: list[float] = []
    try:
        from realm_cli.engines.callbacks import attach_lora, quiet
        from realm_cli.engines.loading import load_model
        from realm_cli.recipe import LoraSettings

        with quiet():
            loaded = load_model(TINY, quant="nf4", device=device)
            model = attach_lora(loaded, LoraSettings(r=8, alpha=16), 0)
            trained = [p for p in model.parameters() if p.requires_grad]
            step = torch.optim.AdamW(trained, lr=1e-2)
            ids = torch.arange(40, 104, device=device).reshape(1, -1) % model.config.vocab_size
            for _ in range(STEPS):
                step.zero_grad()
                loss = model(input_ids=ids, labels=ids).loss
                loss.backward()
                step.step()
                losses.append(float(loss))
    except FAILURES as error:
        return time.perf_counter() - start, losses, first_line(error), device
    return time.perf_counter() - start, losses, None, device
