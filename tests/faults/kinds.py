"""The faults: each disturbs one stage once, lets it go on, and says what came of it.

A fault is a function (world, stage, rng) -> Outcome. Its docstring says what is promised.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from faults.server import Faults, serving, text_for
from faults.world import STAGES, Outcome, World, rows

Fault = Callable[[World, str, random.Random], Outcome]
CHECKPOINTED = ("distill", "refine", "train_rl")
LOADS = {  # settings with which a stage needs memory in large pieces
    "distill": ("distill.limit=null", "distill.sft.batch_size=256", "distill.sft.micro_batch=256"),
    "train_rl": ("train_rl.groups_per_step=8", "train_rl.group_size=32", "train_rl.micro_tokens=1000000",
                 "engine.batch_rows=1024"),
}  # fmt: skip


def kill(world: World, name: str, rng: random.Random) -> Outcome:
    """SIGKILL, three to five times: as undisturbed."""
    out = Outcome(tries=1)
    with world.before(name) as run:
        for _ in range(rng.choice([3, 4, 5])):
            process = world.start(name, run)
            with suppress(subprocess.TimeoutExpired):
                world.end(process, rng.uniform(0.05, 1.0) * world.seconds[name])
                break  # it was through before
            out.faults += _killed(process)
        world.judge(name, run, world.run(name, run), out)
    return out


def sigint(world: World, name: str, rng: random.Random) -> Outcome:
    """Ctrl-C: exit code 130, one line, and then as undisturbed."""
    return _signalled(world, name, rng, signal.SIGINT, 130)


def sigterm(world: World, name: str, rng: random.Random) -> Outcome:
    """SIGTERM: exit code 143, one line, and then as undisturbed."""
    return _signalled(world, name, rng, signal.SIGTERM, 143)


def full_disk(world: World, name: str, rng: random.Random) -> Outcome:
    """No space left at some point: one line, exit code 1; with space again as undisturbed."""
    out = Outcome(tries=1)
    need = sum(f.stat().st_size for f in (world.whole / STAGES[name].folder).rglob("*") if f.is_file())
    with _small_disk(world.work) as (place, limit), world.before(name, place) as run:
        room = int(rng.uniform(0.0, 1.1) * need)
        done = world.end(world.start(name, run, before=limit(room)))
        out.faults += done.code != 0
        world.expect(name, done, out, (0, 1))
        limit(1 << 30)
        world.judge(name, run, world.run(name, run), out)
    return out


def two_processes(world: World, name: str, rng: random.Random) -> Outcome:
    """A second process on the stage: refused in one line; the first one ends as undisturbed."""
    out = Outcome(tries=1)
    with world.before(name) as run:
        first = world.start(name, run)
        if _begun(run, name, first):
            first.send_signal(signal.SIGSTOP)  # it holds the stage until the second one has seen it
            time.sleep(0.05)
            if first.poll() is None:
                done = world.end(world.start(name, run))
                out.faults += 1
                world.expect(name, done, out, (1,), says="another realm process is writing it")
            first.send_signal(signal.SIGCONT)
        world.judge(name, run, world.end(first), out)
    return out


def removed_file(world: World, name: str, rng: random.Random) -> Outcome:
    """A file of the stage removed under the program: no traceback; the stage made anew is as undisturbed."""
    out = Outcome(tries=1)
    with world.before(name) as run:
        process = world.start(name, run)
        if _begun(run, name, process):
            _goes_on(process, rng.uniform(0.0, 0.5) * world.seconds[name])
            process.send_signal(signal.SIGSTOP)
            files = _files(run / STAGES[name].folder)
            if files:
                rng.choice(files).unlink(missing_ok=True)
                out.faults += 1
            process.send_signal(signal.SIGCONT)
        world.expect(name, world.end(process), out, (0, 1))
        world.judge(name, run, world.run(name, run, "--force"), out)
    return out


def broken_line(world: World, name: str, rng: random.Random) -> Outcome:
    """A line of the stage's JSONL spoilt after a kill: made again, or one line names it; mended, as undisturbed."""
    out = Outcome(tries=1)
    with world.before(name) as run:
        process = world.start(name, run)
        own = {file.rpartition("/")[2] for file in (*STAGES[name].by_rows, "samples.jsonl", "metrics.jsonl")}

        def long() -> list[Path]:
            return [f for f in _files(run / STAGES[name].folder) if f.name in own and f.read_bytes().count(b"\n") > 2]

        while process.poll() is None and not long():
            time.sleep(0.02)
        _goes_on(process, rng.uniform(0.0, 0.2) * world.seconds[name])
        _killed(process)
        files = long()
        if files and not _finished(run, name):
            path = rng.choice(files)
            whole = path.read_bytes()
            lines = whole.splitlines(keepends=True)
            at = rng.randrange(len(lines) - 1)
            lines[at] = rng.choice([lines[at][: len(lines[at]) // 2] + b"\n", b"\x00\xff\n", b"[1]\n"])
            path.write_bytes(b"".join(lines))
            out.faults += 1
            done = world.run(name, run)
            world.expect(name, done, out, (0, 1), says=path.name)
            if done.code:
                path.write_bytes(whole)
        world.judge(name, run, world.run(name, run), out)
    return out


def damaged_checkpoint(world: World, name: str, rng: random.Random) -> Outcome:
    """The newest checkpoint damaged after a kill: the one before is taken, and all is as undisturbed."""
    out = Outcome(tries=1)
    with world.before(name) as run:
        process = world.start(name, run)
        while process.poll() is None and not _checkpoints(run, name):
            time.sleep(0.02)
        _goes_on(process, rng.uniform(0.0, 0.05) * world.seconds[name])
        _killed(process)
        found = _checkpoints(run, name)
        if found and not _finished(run, name):
            path = rng.choice(_files(found[-1]))
            data = path.read_bytes()
            kind = rng.choice(["flip", "cut", "gone"])
            if kind == "gone" or not data:
                path.unlink()
            elif kind == "cut":
                path.write_bytes(data[: len(data) // 2])
            else:
                at = rng.randrange(len(data))
                path.write_bytes(data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :])
            out.faults += 1
        world.judge(name, run, world.run(name, run), out)
    return out


def low_memory(world: World, name: str, rng: random.Random) -> Outcome:
    """Memory for small things only, from some moment on: it is through with less at once, or one line says so.

    With large batches, as the small student needs next to nothing otherwise. Then no row is lost or doubled.
    """
    out = Outcome(tries=1)
    words = [part for setting in LOADS[name] for part in ("--set", setting)]
    with world.before(name) as run:
        process = world.start(name, run, *words)
        while process.poll() is None and not _rows_begun(run, name):
            time.sleep(0.02)
        _goes_on(process, rng.uniform(0.0, 0.2) * world.seconds[name])
        with suppress(OSError, StopIteration, ValueError):  # it was through
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            held = 1024 * int(next(line for line in lines if line.startswith("VmData")).split()[1])
            limit = held + int(rng.uniform(0.1, 0.5) * (1 << 30))
            resource.prlimit(process.pid, resource.RLIMIT_DATA, (limit, limit))
        done = world.end(process)
        out.faults += done.code != 0 or "out of memory: going on with" in done.err
        world.expect(name, done, out, (0, 1), says="memory")
        world.judge(name, run, world.run(name, run, *words), out, exact=False)
    return out


def failing_server(world: World, name: str, rng: random.Random) -> Outcome:
    """A server that fails in 18 ways, and a kill on the way: every sample once, each with its own text."""
    out = Outcome(tries=1)
    settings = ("engine.server.timeout=0.5", "engine.server.concurrency=16")
    with serving(Faults(share=0.3, seed=rng.randrange(1 << 30))) as server, world.before(name) as run:
        words = ["-m", f"openai:{server.url}#m", *(part for setting in settings for part in ("--set", setting))]
        process = world.start(name, run, *words)
        _goes_on(process, rng.uniform(0.5, 2.0) * world.seconds[name])
        _killed(process)
        done = world.run(name, run, *words)
        world.expect(name, done, out, (0,))
        out.faults += sum(n for kind, n in server.seen.items() if kind != "ok")
        found = [row for row in rows(run / "rollout" / "routes.jsonl") if row["source"].startswith("openai:")]
        ids, texts = {row["id"] for row in found}, {row["text"] for row in found}
        out.lost += 6 * len({row["problem_id"] for row in rows(world.whole / "rollout" / "routes.jsonl")}) - len(ids)
        out.doubled += len(found) - len(ids) + len(ids) - len(texts)
        out.different += len(texts - {text_for(question, seed) for question, seed in server.tries})
    return out


def _signalled(world: World, name: str, rng: random.Random, number: signal.Signals, code: int) -> Outcome:
    out = Outcome(tries=1)
    with world.before(name) as run:
        process = world.start(name, run)
        if _begun(run, name, process):
            _goes_on(process, rng.uniform(0.0, 0.5) * world.seconds[name])
            if process.poll() is None:
                process.send_signal(number)
                out.faults += 1
        done = world.end(process)
        late = (-number,) if _finished(run, name) else ()  # it came when all was done
        world.expect(name, done, out, (0, code, *late))
        world.judge(name, run, world.run(name, run), out)
    return out


def _goes_on(process: subprocess.Popen[str], seconds: float) -> None:
    """Let it work for so long, if it takes as long."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)


def _killed(process: subprocess.Popen[str]) -> int:
    """1 if it was running."""
    running = process.poll() is None
    process.kill()
    process.wait()
    return int(running)


def _begun(run: Path, name: str, process: subprocess.Popen[str]) -> bool:
    """Wait until the stage has its manifest; False where the process ended before."""
    while not list((run / STAGES[name].folder).rglob("manifest.json")):
        if process.poll() is not None:
            return False
        time.sleep(0.01)
    return process.poll() is None


def _finished(run: Path, name: str) -> bool:
    found = [json.loads(path.read_text()) for path in (run / STAGES[name].folder).rglob("manifest.json")]
    return bool(found) and all(manifest["status"] == "done" for manifest in found)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.endswith((".lock", ".tmp")))


def _rows_begun(run: Path, name: str) -> bool:
    """Training has begun, so that all libraries are there: one that finds no memory while imported may do anything."""
    path = run / STAGES[name].folder / "metrics.jsonl"
    return path.exists() and path.stat().st_size > 0


def _checkpoints(run: Path, name: str) -> list[Path]:
    """Complete checkpoints, the newest one last."""
    found = (run / STAGES[name].folder).rglob("checkpoints/step-*/digests.json")
    return sorted((path.parent for path in found), key=lambda folder: int(folder.name.partition("-")[2]))


@contextmanager
def _small_disk(work: Path) -> Iterator[tuple[Path, Callable[[int], Callable[[], None] | None]]]:
    """(a folder, limit): limit(n) leaves n bytes there. A tmpfs where we may mount one, else a limit on file sizes."""
    with tempfile.TemporaryDirectory(dir=work) as folder:
        mounted = os.name == "posix" and _mount(folder, 1 << 30, "rw")

        def limit(room: int) -> Callable[[], None] | None:
            if not mounted:
                return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
            usage = os.statvfs(folder)
            used = (usage.f_blocks - usage.f_bfree) * usage.f_frsize
            if not _mount(folder, used + room, "remount"):
                raise SystemExit(f"{folder}: cannot be remounted")
            return None

        try:
            yield Path(folder), limit
        finally:
            if mounted:
                subprocess.run(["umount", "-l", folder], check=False)


def _mount(folder: str, size: int, how: str) -> bool:
    words = ["mount", "-t", "tmpfs", "-o", f"{how},size={max(size, 4096)}", "tmpfs", folder]
    with suppress(FileNotFoundError):
        return subprocess.run(words, capture_output=True, check=False).returncode == 0
    return False


FAULTS: dict[str, tuple[Fault, tuple[str, ...], int]] = {  # name -> (fault, stages, tries in `make chaos`)
    "kill": (kill, tuple(STAGES), 0),  # as many as --kills asks for
    "Ctrl-C": (sigint, tuple(STAGES), 12),
    "SIGTERM": (sigterm, tuple(STAGES), 12),
    "full disk": (full_disk, tuple(STAGES), 18),
    "two processes": (two_processes, tuple(STAGES), 6),
    "removed file": (removed_file, tuple(STAGES), 12),
    "broken line": (broken_line, tuple(STAGES), 12),
    "damaged checkpoint": (damaged_checkpoint, CHECKPOINTED, 12),
    "failing server": (failing_server, ("rollout",), 4),
    "low memory": (low_memory, tuple(LOADS), 4),
}
