"""Small random models, folders that hold them, SmolLM2 where its wheel is installed, and a real server process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pytest_httpserver import HTTPServer
from transformers import AutoConfig, AutoModelForCausalLM

from engines.toys import toy_tokenizer
from realm_cli.engines import server_calls
from realm_cli.engines.loading import LoadedModel
from realm_cli.engines.openai_client import OpenAIGenerator
from realm_cli.recipe import ServerConfig

ARCHITECTURES = ("llama", "qwen2", "qwen3")


def random_model(architecture: str = "llama", vocab: int = 89, seed: int = 0, **given: Any) -> Any:
    """A random float32 model with grouped K/V heads, 2 layers and width 32, in evaluation mode."""
    torch.manual_seed(seed)
    sizes: dict[str, Any] = {
        "vocab_size": vocab,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 256,
        "initializer_range": 0.3,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, **{**sizes, **given})).eval()


@pytest.fixture
def make_loaded() -> Callable[..., LoadedModel]:
    """make_loaded(architecture, seed=..., **config): a random model with a character tokenizer."""

    def make(architecture: str = "llama", *, seed: int = 0, **given: Any) -> LoadedModel:
        tokenizer = toy_tokenizer()
        return LoadedModel(random_model(architecture, len(tokenizer), seed, **given), tokenizer, f"toy-{architecture}")

    return make


@pytest.fixture
def model_dir(tmp_path: Path, make_loaded: Callable[..., LoadedModel]) -> Path:
    """A folder with a random Llama and its tokenizer, as save_pretrained leaves it."""
    loaded = make_loaded()
    folder = tmp_path / "toy-llama"
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def smollm2_server(smollm2_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """(base URL, model name) of a `transformers serve` process on a free port of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("serve") / "log.txt"
    program = "from transformers.cli.transformers import main; main()"
    options = ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "float32"]
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", program, "serve", str(smollm2_dir), *options],
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        )
    try:
        _wait(f"http://127.0.0.1:{port}/health", process, log)
        yield f"http://127.0.0.1:{port}/v1", str(smollm2_dir)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(url: str, process: subprocess.Popen[bytes], log: Path, seconds: float = 180) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert process.poll() is None, f"transformers serve ended:\n{log.read_text()}"
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.3)
    raise AssertionError(f"transformers serve did not answer within {seconds} s:\n{log.read_text()}")


@pytest.fixture
def client(httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> OpenAIGenerator:
    """A generator on a scripted server that lists the models `m` and `mini`."""
    for name in ("OPENAI_API_KEY", "REALM_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(server_calls, "FIRST_PAUSE", 0.01)
    models = [{"id": name, "object": "model", "created": 0, "owned_by": "us"} for name in ("m", "mini")]
    httpserver.expect_request("/v1/models").respond_with_json({"object": "list", "data": models})
    return OpenAIGenerator([httpserver.url_for("/v1")], "m", ServerConfig(retries=2, timeout=10))
