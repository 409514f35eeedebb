"""llama.cpp's own programs, which the user has: the converter to GGUF and the server.

Both are looked for in the folder that is given (llama.cpp's source, also with a build in it, or an installation), else
on PATH. A converter in that folder is run by this Python, which has torch and transformers; one on PATH as it stands.
What they print goes to a log file.

Usage: `tools = find_tools(Path("llama.cpp"))`; `convert(tools.converter, model_folder, file, "q8_0", log)`;
`with serving(tools.server, file, context=1024, slots=4, log=log) as server: server.url, server.key`
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx2 as httpx

from realm_cli.errors import ConfigError, EngineError

CONVERTER, SERVER = "convert_hf_to_gguf.py", "llama-server"
PLACES = (".", "bin", "build/bin", "build/bin/Release")  # below the folder that is given
GET = "git clone https://github.com/ggml-org/llama.cpp"
START_SECONDS = 600.0  # a large file is read from a slow disk
STOP_SECONDS = 10.0  # after which a program that was asked to end is killed
MAGIC = b"GGUF"
TAIL = 4096  # bytes of a log that are read for its last line
HINTS = (  # what the converter's last line has -> the next step
    ("No module named 'sentencepiece'", "pip install 'realm-cli[gguf]'"),
    ("No module named", "install it for the Python that runs the converter"),
    ("pre-tokenizer was not recognized", "llama.cpp does not know this student's tokenizer: keep to --format merged"),
    ("is not supported", "llama.cpp does not know this architecture: a newer one may, else keep to --format merged"),
)


@dataclass(frozen=True)
class Tools:
    """The commands. server: None where there is none."""

    converter: tuple[str, ...]
    server: str | None


def find_tools(folder: Path | None) -> Tools:
    """The converter and, where there is one, the server. ConfigError says how to get and to name them."""
    if folder is not None and not folder.is_dir():
        raise ConfigError(f"--llama-cpp {folder}: no such folder; {GET}, and name its folder")
    places = [folder / place for place in PLACES] if folder is not None else []
    scripts = [place / CONVERTER for place in places if (place / CONVERTER).is_file()]
    known = shutil.which(CONVERTER)
    converter: tuple[str, ...]
    if scripts:
        converter = (sys.executable, str(scripts[0].resolve()))
    elif folder is not None:
        raise ConfigError(f"--llama-cpp {folder}: no {CONVERTER} in it; name the folder of llama.cpp's source ({GET})")
    elif known is not None:
        converter = (known,)
    else:
        raise ConfigError(
            f"{CONVERTER}: not on PATH; {GET}, and name its folder: --llama-cpp llama.cpp (or REALM_LLAMA_CPP)"
        )
    server = next(filter(None, (shutil.which(SERVER, path=str(place.resolve())) for place in places)), None)
    return Tools(converter, server or shutil.which(SERVER))


def convert(converter: Sequence[str], folder: Path, file: Path, out_type: str, log: Path) -> None:
    """Run the converter on a model's folder. EngineError with its last line."""
    with log.open("ab") as out, _running([*converter, str(folder), "--outfile", str(file), "--outtype", out_type], out,
                                         dict(os.environ)) as process:  # fmt: skip
        code = process.wait()
    if code != 0 or not _is_gguf(file):
        said = last_line(log) or "it says nothing"
        hint = next((step for words, step in HINTS if words in said), "correct it and run again")
        how = f"exit code {code}" if code else "it wrote no GGUF file"
        raise EngineError(f"{CONVERTER}: failed ({how}): {said}; {hint}; its output is in {log}")


@dataclass(frozen=True)
class Server:
    """A server that answers. url ends in /v1; key: what it wants to hear."""

    url: str
    key: str
    process: subprocess.Popen[bytes]
    log: Path

    def why(self, error: Exception) -> EngineError:
        """What to say of a request that failed: that the server ended, where it did."""
        try:
            code = self.process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            return EngineError(
                f"{SERVER}: no answer ({error.__class__.__name__}: {error}); its output is in {self.log}"
            )
        return _ended(code, self.log)


@contextmanager
def serving(program: str, file: Path, *, context: int, slots: int, log: Path) -> Iterator[Server]:
    """The file in a server on a free loopback port, stopped at the end, however it comes. EngineError.

    context: tokens of one request, prompt and answer. slots: requests at a time. Keys and values are held in float32:
    what is looked at is the file.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    key = secrets.token_hex(16)
    command = [program, "--model", str(file), "--host", "127.0.0.1", "--port", str(port)]
    command += ["--ctx-size", str(context * slots), "--parallel", str(slots)]
    command += ["--cache-type-k", "f32", "--cache-type-v", "f32", "--jinja", "--reasoning-format", "none"]
    with log.open("ab") as out, _running(command, out, os.environ | {"LLAMA_API_KEY": key}) as process:
        _wait_until_ready(process, f"http://127.0.0.1:{port}/health", log)
        yield Server(f"http://127.0.0.1:{port}/v1", key, process, log)


def last_line(log: Path) -> str:
    """The last line with anything in it, at most 300 characters; progress bars overwrite theirs."""
    with log.open("rb") as data:
        data.seek(max(0, log.stat().st_size - TAIL))
        lines = [line.strip() for line in data.read().decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    with httpx.Client(trust_env=False, timeout=5.0) as client:  # no proxy stands before this machine's own port
        while time.monotonic() < end:
            try:
                if client.get(url).status_code == 200 and process.poll() is None:
                    return
            except httpx.HTTPError:
                pass  # it does not listen yet
            if process.poll() is not None:
                raise _ended(process.returncode, log)
            time.sleep(0.1)
    raise EngineError(f"{SERVER}: not ready after {START_SECONDS:g} s; its output is in {log}")


def _ended(code: int, log: Path) -> EngineError:
    return EngineError(f"{SERVER}: ended by itself (exit code {code}): {last_line(log)}; its output is in {log}")


@contextmanager
def _running(command: Sequence[str], out: object, env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A program that is no longer there afterwards. In our own process group: a closed terminal ends it as well."""
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=env,  # type: ignore[call-overload]
        )
    except OSError as error:
        raise EngineError(f"{command[0]}: cannot be run ({error.strerror}); correct it, or name another one") from None
    try:
        yield process
    finally:
        process.terminate()
        try:
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
        finally:  # also after another Ctrl-C; nothing where it has ended
            process.kill()
            process.wait()


def _is_gguf(file: Path) -> bool:
    try:
        with file.open("rb") as data:
            return data.read(len(MAGIC)) == MAGIC
    except OSError:
        return False
