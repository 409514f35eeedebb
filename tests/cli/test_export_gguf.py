"""realm export --format gguf, with stand-ins for the user's llama.cpp."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from cli.helpers import Realm
from engines.test_export import adapter_of
from fake_llama_cpp import answers_of, install
from realm_cli.cli.export import OUT_TYPES
from realm_cli.engines.export import load_plain, reference_of
from realm_cli.engines.gguf import LIMITS
from realm_cli.prompts import bare_messages
from realm_cli.recipe import Recipe
from realm_cli.stages.problems import load_problems, spread

EXPORT = ["export", "--run", "r", "--adapter", "a", "--out", "out", "--format", "gguf"]
GGUF = [*EXPORT, "--llama-cpp", "llama.cpp"]
TOKENS = 16


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, built: Path) -> tuple[Path, dict[str, Any]]:
    """An adapter, and what base + adapter answers to the held-out problems of the world."""
    adapter = adapter_of(tmp_path_factory.mktemp("made"), 0.02)
    held = [problem for problem in load_problems(built / "d/problems.jsonl") if problem.split != "train"]
    style = Recipe.model_validate(json.loads((built / "r/recipe.json").read_text())).prompt.style
    prompts = [bare_messages(problem.question, style) for problem in spread(held, 32)]
    return adapter, answers_of(reference_of(load_plain("tiny-student", "float32", False, adapter), prompts, TOKENS))


@pytest.fixture
def ready(world: Path, made: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The world with that adapter, short answers, and a llama.cpp."""
    shutil.copytree(made[0], world / "a")
    recipe = json.loads((world / "r/recipe.json").read_text())
    recipe["eval"]["max_tokens"] = TOKENS
    (world / "r/recipe.json").write_text(json.dumps(recipe))
    install(world / "llama.cpp", made[1])
    monkeypatch.delenv("REALM_LLAMA_CPP", raising=False)
    return world


def server_runs() -> bool:
    """Whether the stand-in server is there, which wrote its process id."""
    return psutil.pid_exists(int(Path("llama.cpp/build/bin/pid").read_text()))


def left() -> set[str]:
    """What lies here beside what was there before."""
    return {path.name for path in Path().iterdir()} - {"d", "r", "a", "llama.cpp"}


def test_a_checked_file_with_its_card(ready: Path, realm: Realm) -> None:
    result = realm(*GGUF, "--outtype", "q8_0", "--json")
    assert result.code == 0, result.err
    data = json.loads(result.out)
    assert data["check"] == "PASS" and data["gguf"]["check"] == "PASS" and data["gguf"]["same"] == 1.0
    assert data["gguf"]["gap"] < 1e-6 < data["gguf"]["effect"] and data["gguf"]["prompts"] == 14
    assert data["gguf"]["file"] == "out/r-q8_0.gguf" and Path("out/r-q8_0.gguf").read_bytes() == b"GGUFq8_0"
    assert json.loads(Path("out/realm-export.json").read_text()) == data
    assert {path.name for path in Path("out").iterdir()} == {"r-q8_0.gguf", "README.md", "realm-export.json"}
    card = Path("out/README.md").read_text().replace("\\", "")
    assert "- merge: PASS: 100% of 14 greedy answers are those of base + adapter (at least 95%)" in card
    assert "- q8_0 file: PASS: 100% of 14 greedy answers" in card and "tags: [realm, reasoning, gguf]" in card
    assert "llama-server --model out/r-q8_0.gguf --jinja" in card and "library_name" not in card
    assert left() == {"out"} and not server_runs()
    again = realm(*GGUF)
    assert again.code == 1 and "out: exists; add --force to replace it" in again.err


def test_without_a_server_the_file_is_not_checked(ready: Path, realm: Realm, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree("llama.cpp/build")
    monkeypatch.setenv("PATH", str(ready / "nothing"))
    monkeypatch.setenv("REALM_LLAMA_CPP", "llama.cpp")
    result = realm(*EXPORT)
    assert result.code == 0, result.err
    assert "llama-server: not found; the GGUF file will not be checked" in result.err
    assert "NOT CHECKED: the GGUF file is written" in " ".join(result.out.split())
    assert Path("out/r-f16.gguf").is_file() and "NOT CHECKED" in Path("out/README.md").read_text()
    assert json.loads(Path("out/realm-export.json").read_text())["gguf"]["check"] == "NOT CHECKED"


def test_programs_on_the_path(ready: Path, realm: Realm, monkeypatch: pytest.MonkeyPatch) -> None:
    script = ready / "llama.cpp/convert_hf_to_gguf.py"
    script.write_text(f"#!{sys.executable}\n{script.read_text()}")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ready / 'llama.cpp'}:{ready / 'llama.cpp/build/bin'}")
    result = realm(*EXPORT, "--json")
    assert result.code == 0, result.err
    assert json.loads(result.out)["gguf"]["check"] == "PASS"


def test_what_is_missing_is_told_before_any_work(ready: Path, realm: Realm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(ready / "nothing"))
    get = "git clone https://github.com/ggml-org/llama.cpp"
    for options, says in (
        ([], f"convert_hf_to_gguf.py: not on PATH; {get}, and name its folder: --llama-cpp llama.cpp (or REALM_LLAMA"),
        (["--llama-cpp", "d"], "--llama-cpp d: no convert_hf_to_gguf.py in it; name the folder of llama.cpp's source"),
        (["--llama-cpp", "no"], "--llama-cpp no: no such folder"),
        (["--outtype", "q4"], "--outtype q4: unknown; choose one of f32, f16, bf16, q8_0"),
    ):
        result = realm(*EXPORT, *options)
        assert result.code == 1 and says in result.err and len(result.lines) == 1
    assert left() == set()


@pytest.mark.parametrize(
    ("name", "mode", "says"),
    [
        (
            "FAKE_CONVERTER", "fails", "convert_hf_to_gguf.py: failed (exit code 1): NotImplementedError: BPE "
            "pre-tokenizer was not recognized - update get_vocab_base_pre(); llama.cpp does not know this student's "
            "tokenizer: keep to --format merged; its output is in out-llama-cpp.log",
        ),
        ("FAKE_CONVERTER", "writes nothing", "convert_hf_to_gguf.py: failed (it wrote no GGUF file): INFO:hf-to-gguf:"),
        (
            "FAKE_SERVER", "dies at once", "llama-server: ended by itself (exit code 1): error loading model: unknown "
            "model architecture; its output is in out-llama-cpp.log",
        ),
        ("FAKE_SERVER", "dies when asked", "llama-server: ended by itself (exit code 9): GGML_ASSERT: out of memory"),
        (
            "FAKE_SERVER", "disagrees", "out: not written, the GGUF file is not base + adapter: 100% of 14 greedy "
            "answers are those of base + adapter (at least 50%); mean difference of log-probabilities 0.5 nats",
        ),
        ("FAKE_SERVER", "other prompts", "14 of the prompts have other tokens in the server: chat template or tok"),
    ],
)  # fmt: skip
def test_what_goes_wrong_leaves_no_file_and_no_server(
    name: str, mode: str, says: str, ready: Path, realm: Realm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, mode)
    result = realm(*GGUF)
    assert result.code == 1 and says in result.lines[-1] and "Traceback" not in result.err
    assert left() == {"out-llama-cpp.log"}
    assert name == "FAKE_CONVERTER" or not server_runs()


def test_a_server_without_token_ids(ready: Path, realm: Realm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_SERVER", "no ids")
    result = realm(*GGUF, "--json")
    assert result.code == 0, result.err
    assert json.loads(result.out)["gguf"]["gap"] is None
    assert "the server gave no log-probabilities of token ids" in Path("out/README.md").read_text()


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_leaves_no_server(sent: signal.Signals, code: int, ready: Path) -> None:
    source = Path(__file__).resolve().parents[2] / "src"
    process = subprocess.Popen(
        [sys.executable, "-m", "realm_cli", *GGUF],
        env=os.environ | {"PYTHONPATH": str(source), "FAKE_SERVER": "hangs"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # background shells have it ignored
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 600
        while time.monotonic() < deadline and process.poll() is None and not Path("llama.cpp/build/bin/asked").exists():
            time.sleep(0.05)
        assert server_runs()
        process.send_signal(sent)
        _, err = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == code and "Traceback" not in err, err
    assert not server_runs() and not Path("out").exists() and not Path(".out.partial").exists()


def test_every_type_has_limits() -> None:
    assert set(OUT_TYPES) == set(LIMITS)
