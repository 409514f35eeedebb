"""The `realm` program: one command per stage. `main` turns expected errors into one line and an exit code."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Optional

import typer

from realm_cli import __version__
from realm_cli.cli import (
    ask,
    check,
    demo,
    distill,
    doctor,
    domain,
    evaluate,
    export,
    import_,
    init,
    merge,
    plan,
    refine,
    report,
    rollout,
    show,
    train_rl,
    verify,
    verify_run,
    watch,
)

_NO_MEMORY = (
    "error: out of memory; what was written is kept: free some, or lower engine.batch_rows, engine.kv_gib, "
    "distill.sft.micro_batch or train_rl.micro_tokens, or take a smaller model, then rerun with --resume"
)

_SHARED = ("distill", "refine", "train-rl")  # commands for several processes

app = typer.Typer(
    name="realm",
    help=(
        "Train small language models to reason by themselves in a vertical domain (ReaLM, arXiv 2508.12387).\n\n"
        "The stages, each leaving readable files in runs/<name>/:\n\n"
        "  realm rollout -> verify -> distill -> refine -> train-rl -> eval\n\n"
        "See it work on this machine, without a GPU: realm demo"
    ),
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("doctor")(doctor.doctor)
app.command("init")(init.init)
app.command("import")(import_.import_)
app.command("check")(check.check)
app.command("plan")(plan.plan)
app.command("distill")(distill.distill)
app.command("rollout")(rollout.rollout)
app.command("verify")(verify.verify)
app.command("refine")(refine.refine)
app.command("train-rl")(train_rl.train_rl)
app.command("eval")(evaluate.evaluate)
app.command("export")(export.export)
app.command("ask")(ask.ask)
app.command("merge")(merge.merge)
app.command("show")(show.show)
app.command("watch")(watch.watch)
app.command("report")(report.report)
app.command("verify-run")(verify_run.verify_run)
app.command("domain")(domain.domain)
app.command("demo")(demo.demo)


def _version(value: bool) -> None:
    if value:
        print(f"realm {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[
        Optional[bool],  # noqa: UP045
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit."),
    ] = None,
) -> None:
    from realm_cli.cli.context import processes
    from realm_cli.errors import ConfigError

    if processes() < 2 or context.invoked_subcommand == "doctor":
        return
    if context.invoked_subcommand not in _SHARED:
        raise ConfigError(
            f"{context.invoked_subcommand}: runs in one process, and {processes()} were started; only "
            f"{', '.join(_SHARED)} share their work among processes, rollout and distill are divided by --shard"
        )
    from realm_cli.engines.parallel import own_gpu

    own_gpu()


def main(argv: list[str] | None = None) -> int:
    """Run the program. 0 done, 1 our error in one line, 2 usage, 130 interrupted, 143 terminated."""
    from realm_cli.cli.console import forgiving_stdout, plain_logs
    from realm_cli.errors import RealmError, masked, printable

    plain_logs()
    forgiving_stdout()
    try:
        with _terminable() as terminated:
            code = app(args=argv, prog_name="realm", standalone_mode=False)
    except RealmError as error:
        return _fail(str(error))
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        return _fail(f"{name}{error.strerror or error}; check the path, its permissions and free space")
    except (typer.Abort, KeyboardInterrupt):
        code = 130
    except MemoryError:
        return _no_memory()
    except Exception as error:
        if _of_torchs_memory(error):
            return _no_memory()
        if not hasattr(error, "format_message"):  # a usage error of whichever click Typer carries
            raise
        text = printable(masked(error.format_message()), keep="\n")
        print(text if "\n" in text else f"usage: {text.rstrip('.')}. See `realm COMMAND --help`.", file=sys.stderr)
        return 2
    if code == 130:
        code = 143 if terminated else 130
        exec("")  # CPython remembers an interrupt that passed through text (a library's own exec), and would die of it
        print(
            "interrupted; what was written is kept: the same command with --resume goes on (pipeline.sh: as it is)",
            file=sys.stderr,
        )
    return code if isinstance(code, int) else 0


@contextmanager
def _terminable() -> Iterator[list[int]]:
    """Meanwhile SIGTERM ends a command as Ctrl-C does; the list is filled when it comes."""
    came: list[int] = []

    def handle(number: int, frame: object) -> None:
        came.append(number)
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield came
    finally:
        signal.signal(signal.SIGTERM, before)


def _of_torchs_memory(error: Exception) -> bool:
    """Whether torch, where it is in use, ran out of memory outside of what can be halved."""
    if not isinstance(error, RuntimeError) or "torch" not in sys.modules:
        return False
    from realm_cli.engines.memory import out_of_memory

    return out_of_memory(error)


def _no_memory() -> int:
    print(_NO_MEMORY, file=sys.stderr)  # nothing is imported or made here
    return 1


def _fail(text: str) -> int:
    from realm_cli.errors import one_line

    print(f"error: {one_line(text)}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
