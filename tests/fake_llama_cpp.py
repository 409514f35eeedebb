"""Stand-ins for llama.cpp's converter and server: programs of the user's own, which realm only starts and asks.

The converter checks that it gets a whole model. The server gives the answers that a test wrote into answers.json beside
it, if it is asked as it must be. What goes wrong is said by FAKE_CONVERTER and FAKE_SERVER; the server writes its
process id into pid and touches `asked` beside it.

Usage: `install(tmp_path / "llama.cpp", answers_of(reference))`; monkeypatch.setenv("FAKE_SERVER", "disagrees")
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from realm_cli.engines.export import Reference

CONVERTER = """
import os, pathlib, sys
folder, file = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[sys.argv.index("--outfile") + 1])
mode = os.environ.get("FAKE_CONVERTER", "")
print("INFO:hf-to-gguf:Loading model:", folder.name, flush=True)
for name in ("config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"):
    assert (folder / name).is_file(), name
if mode == "fails":
    file.write_bytes(b"GGUF half of it")
    print("Traceback (most recent call last):", file=sys.stderr)
    print("NotImplementedError: BPE pre-tokenizer was not recognized - update get_vocab_base_pre()", file=sys.stderr)
    sys.exit(1)
if mode == "writes nothing":
    sys.exit(0)
file.write_bytes(b"GGUF" + sys.argv[sys.argv.index("--outtype") + 1].encode())
"""

SERVER = """
import json, os, pathlib, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
here, mode = pathlib.Path(__file__).parent, os.environ.get("FAKE_SERVER", "")
def option(name):
    return sys.argv[sys.argv.index(name) + 1]
(here / "pid").write_text(str(os.getpid()))
assert pathlib.Path(option("--model")).read_bytes()[:4] == b"GGUF"
if mode == "dies at once":
    sys.exit("error loading model: unknown model architecture")
answers = json.loads((here / "answers.json").read_text())
class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        (here / "asked").touch()
        if mode == "dies when asked":
            print("GGML_ASSERT: out of memory", flush=True)
            os._exit(9)
        if mode == "hangs":
            time.sleep(600)
        right = self.headers["Authorization"] == "Bearer " + os.environ["LLAMA_API_KEY"]
        right = right and body["temperature"] == 0 and body["repeat_penalty"] == 1.0 and body["logprobs"] is True
        self.send_response(200 if right else 401)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(self.answer(body) if right else {}).encode())
    def answer(self, body):
        known = answers[body["messages"][-1]["content"]]
        content = [{"id": i, "token": "x", "bytes": [], "logprob": p, "top_logprobs": [
            {"id": i, "token": "x", "bytes": [], "logprob": p}, {"id": 0, "token": "y", "bytes": [], "logprob": -20.0}
        ]} for i, p in known["tokens"][:body["max_tokens"]]]
        if mode == "disagrees":
            for token in content:
                token["top_logprobs"][0]["logprob"] -= 0.5
        if mode == "no ids":
            for token in content:
                del token["id"]
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": known["text"]},
                  "logprobs": {"content": content}}
        used = known["prompt_tokens"] + (mode == "other prompts")
        usage = {"prompt_tokens": used, "completion_tokens": len(content), "total_tokens": used + len(content)}
        return {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
ThreadingHTTPServer(("127.0.0.1", int(option("--port"))), Handler).serve_forever()
"""


def install(folder: Path, answers: dict[str, Any] | None) -> Path:
    """A folder as llama.cpp's source has it. answers: what the server says; None: no server was built."""
    folder.mkdir()
    (folder / "convert_hf_to_gguf.py").write_text(CONVERTER, encoding="utf-8")
    if answers is not None:
        places = folder / "build" / "bin"
        places.mkdir(parents=True)
        (places / "answers.json").write_text(json.dumps(answers), encoding="utf-8")
        server = places / "llama-server"
        server.write_text(f"#!{sys.executable}\n{SERVER}", encoding="utf-8")
        server.chmod(0o755)
    return folder


def answers_of(reference: Reference) -> dict[str, Any]:
    """What a server says that runs the same model."""
    rows = zip(reference.chats, reference.answers, reference.logprobs, strict=True)
    return {
        chat[-1]["content"]: {
            "prompt_tokens": len(prompt),
            "text": done.text,
            "tokens": list(zip(done.token_ids, logprobs, strict=True)),
        }
        for chat, (prompt, done), logprobs in rows
    }
