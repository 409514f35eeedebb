"""Puts hostile texts through everything that reads text, and measures each.

    make fuzz                                       # 20,000 texts
    python tests/hostile/fuzz.py --cases 2000 --seed 7

A crash, or more than a second of a quick machine's CPU time for one text and parser, is a failure; a hang is stopped
after a minute.
"""

from __future__ import annotations

import argparse
import faulthandler
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hostile.corpus import cases
from hostile.parsers import MODEL, Loaders, expression
from pace import paces
from realm_cli.errors import RealmError

LIMIT = 1.0  # CPU seconds; what takes longer is measured again, beside fixed work
PACES = 20.0  # times that work (pace.py)
EXPRESSIONS = 20  # every so many texts go through Math-Verify, which is slow


@dataclass
class Found:
    """What a run of texts came to."""

    calls: int = 0
    refused: int = 0
    worst: tuple[float, str, str] = (0.0, "", "")
    failures: list[str] = field(default_factory=list)

    def one(self, name: str, parse: Callable[[str], None], text: str, *, loader: bool) -> None:
        """One text through one parser."""
        self.calls += 1
        begin = time.thread_time()
        try:
            parse(text)
        except RealmError as error:
            self.refused += 1
            if not loader or not str(error) or "\n" in str(error):
                self.failures.append(f"{name}: {error!r} for {text[:80]!r}")
        except Exception as error:
            self.failures.append(f"{name}: {type(error).__name__}: {str(error)[:120]} for {len(text)} x {text[:80]!r}")
        seconds = time.thread_time() - begin
        if seconds > self.worst[0]:
            self.worst = (seconds, name, text[:60])
        if seconds > LIMIT and paces(partial(_attempt, parse, text), PACES) > PACES:
            self.failures.append(f"{name}: {seconds:.1f} s for {len(text)} x {text[:80]!r}")


def _attempt(parse: Callable[[str], None], text: str) -> None:
    with suppress(Exception):
        parse(text)


def fuzz(n: int, seed: int) -> Found:
    """n texts through all parsers of model output, and each through one loader."""
    found = Found()
    with tempfile.TemporaryDirectory() as folder:
        loaders = list(Loaders(Path(folder), seed).all().items())
        for i, text in enumerate(cases(n, seed)):
            faulthandler.dump_traceback_later(60, exit=True, file=sys.__stderr__)
            for name, parse in MODEL.items():
                found.one(name, parse, text, loader=False)
            name, load = loaders[i % len(loaders)]
            found.one(f"load {name}", load, text, loader=True)
            if i % EXPRESSIONS == 0:
                found.one("expression", expression, text, loader=False)
            if len(found.failures) >= 30:
                break
    faulthandler.cancel_dump_traceback_later()
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; 1 where anything failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    a = parser.parse_args(argv)
    begin = time.monotonic()
    found = fuzz(a.cases, a.seed)
    seconds, name, text = found.worst
    print(
        f"{a.cases} texts, {found.calls} calls, {found.refused} refused in one line, {time.monotonic() - begin:.0f} s"
    )
    print(f"slowest: {seconds:.2f} s of CPU time, {name}, {text!r}")
    print("\n".join(found.failures) or "no crash, no hang")
    return int(bool(found.failures))


if __name__ == "__main__":
    sys.exit(main())
