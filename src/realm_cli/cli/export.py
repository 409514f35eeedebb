"""realm export: leave with the adapter, a merged model or a GGUF file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from realm_cli.cli.options import JsonOpt

if TYPE_CHECKING:
    from realm_cli.cli.context import Context

FORMATS, DTYPES = ("adapter", "merged", "gguf", "lm-eval"), ("float32", "bfloat16")
OUT_TYPES = ("f32", "f16", "bf16", "q8_0")


def export(
    run: Annotated[Path, typer.Option("--run", help="Run folder.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write.")],
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help="adapter (as trained), merged (one whole model), gguf (a file for llama.cpp), or lm-eval (results "
            "of eval).",
        ),
    ] = "adapter",
    adapter: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Adapter folder. Default: the run's train_rl/adapter, else refine's, else distill's."),
    ] = None,
    dtype: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Weights of a merged model: bfloat16 or float32. Default: bfloat16; for gguf float32."),
    ] = None,
    outtype: Annotated[str, typer.Option(help="Weights of a GGUF file: f32, f16, bf16 or q8_0.")] = "f16",
    llama_cpp: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "--llama-cpp",
            metavar="DIR",
            envvar="REALM_LLAMA_CPP",
            help="llama.cpp's folder, with convert_hf_to_gguf.py and, built, llama-server. Default: those on PATH.",
        ),
    ] = None,
    prompts: Annotated[int, typer.Option(min=1, help="Prompts of the check after merging.")] = 32,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export.")] = False,
    as_json: JsonOpt = False,
) -> None:
    """Write the adapter, a model with it merged in, or a GGUF file of that, with a model card of the run's own files.

    A merge is made into the unquantised base and checked: the written model is loaded again and compared with base +
    adapter on the run's prompts. So is a GGUF file, in llama.cpp's server, where there is one. Where either differs,
    nothing is left and the exit code is 1.

    \b
    Example: realm export --run runs/demo --out demo-adapter
    Example: realm export --run runs/demo --out demo-model --format merged --dtype float32
    Example: realm export --run runs/demo --out demo-gguf --format gguf --outtype q8_0 --llama-cpp llama.cpp
    Example: realm export --run runs/demo --out results --format lm-eval
    """
    import shutil

    from realm_cli.artifacts import write_json, write_text
    from realm_cli.cli.console import show
    from realm_cli.cli.context import last_adapter, load_context
    from realm_cli.errors import ArtifactError, ConfigError
    from realm_cli.stages.card import copy_adapter, model_card
    from realm_cli.stages.summary import Summary

    dtype = dtype or ("float32" if form == "gguf" else "bfloat16")
    for option, value, known in (
        ("--format", form, FORMATS), ("--dtype", dtype, DTYPES), ("--outtype", outtype, OUT_TYPES)
    ):  # fmt: skip
        if value not in known:
            raise ConfigError(f"{option} {value}: unknown; choose one of {', '.join(known)}")
    if form == "lm-eval":
        _lm_eval(run, out, force, as_json)
        return
    context = load_context(None, run, None)
    chosen = last_adapter(run, adapter)
    if out.exists() and not (force and (out / "README.md").is_file() and (out / "realm-export.json").is_file()):
        why = "exists; add --force to replace it" if not force else "exists and is no export; choose another --out"
        raise ArtifactError(f"{out}: {why}")
    tools = _tools(llama_cpp) if form == "gguf" else None
    partial, replaced = (out.with_name(f".{out.name}.{state}") for state in ("partial", "replaced"))
    shutil.rmtree(partial, ignore_errors=True)
    lines: list[str] = []
    data: dict[str, object] = {"adapter": str(chosen), "format": form, "out": str(out)}
    written = out
    try:
        if form == "adapter":
            copy_adapter(chosen, partial)
        else:
            name = run.resolve().name
            check, reference = _merge(context, chosen, partial / name if tools else partial, dtype, prompts)
            data |= _figures(check)
            lines += _told(check)
            if not check.passed:
                raise ArtifactError(
                    f"{out}: not written, the merged model is not base + adapter: {lines[0][6:]}; {lines[1]}; "
                    "try --dtype float32"
                )
            if tools is not None:
                written = out / f"{name}-{outtype}.gguf"
                log = out.with_name(f"{out.name}-llama-cpp.log")
                file = partial / "model.gguf"  # the converter reads {} in a file's name as a template
                made, told = _gguf(tools, partial / name, file, outtype, reference, context, log, out)
                file.rename(partial / written.name)
                data["gguf"] = {"file": str(written), "outtype": outtype, **made}
                lines = [*(f"merge: {line}" for line in lines), *told]
                log.unlink()
        write_text(partial / "README.md", model_card(run, chosen, kind=form, folder=written, check=lines))
        write_json(partial / "realm-export.json", data)
        if out.exists():
            shutil.rmtree(replaced, ignore_errors=True)
            out.rename(replaced)  # kept until the new one is in its place
        partial.rename(out)
        shutil.rmtree(replaced, ignore_errors=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    show(Summary("export", data, [], [*lines, f"fill in the license in {out / 'README.md'}"], [str(written)]), as_json)


def _lm_eval(run: Path, out: Path, force: bool, as_json: bool) -> None:
    import datetime

    from realm_cli.cli.console import show
    from realm_cli.errors import ArtifactError
    from realm_cli.stages.lm_eval import write_lm_eval
    from realm_cli.stages.summary import Summary

    if out.exists() and not force:
        raise ArtifactError(f"{out}: exists; add --force to write into it, or choose another --out")
    made = write_lm_eval(run, out, when=datetime.datetime.now())
    files = list(map(str, made))
    show(Summary("export", {"format": "lm-eval", "files": files}, [], [], files), as_json)


def _merge(context: Context, adapter: Path, folder: Path, dtype: str, prompts: int) -> Any:
    """(engines.export.Check, engines.export.Reference) of the merge."""
    from realm_cli.cli.console import say
    from realm_cli.cli.context import problems_path
    from realm_cli.engines.export import export_merged
    from realm_cli.prompts import bare_messages, question_text
    from realm_cli.stages.problems import load_problems, spread

    recipe = context.recipe
    rows = load_problems(problems_path(context, None))
    held = [p for p in rows if p.split != "train"] or rows
    asked = [bare_messages(question_text(p), recipe.prompt.style) for p in spread(held, prompts)]
    say(f"merging into {recipe.student.model} in {dtype}, then comparing on {len(asked)} prompts")
    student = recipe.student
    return export_merged(
        student.model, adapter, folder, asked, dtype=dtype, max_tokens=recipe.eval.max_tokens,
        trust=student.trust_remote_code, template_args=recipe.student.template_args,
    )  # fmt: skip


def _tools(folder: Path | None) -> Any:
    """llama.cpp's programs (engines.llama_cpp.Tools); what is missing is said before any work."""
    from realm_cli.cli.console import say
    from realm_cli.engines.llama_cpp import find_tools

    tools = find_tools(folder)
    if tools.server is None:
        say("llama-server: not found; the GGUF file will not be checked")
    return tools


def _gguf(
    tools: Any, merged: Path, file: Path, outtype: str, reference: Any, context: Context, log: Path, out: Path
) -> tuple[dict[str, Any], list[str]]:
    """Convert the merged model, which is then deleted, and check the file. What is written down, and what is said."""
    import shutil

    from realm_cli.cli.console import progress, say
    from realm_cli.engines.gguf import check_file
    from realm_cli.engines.llama_cpp import convert
    from realm_cli.errors import ArtifactError

    log.write_bytes(b"")
    say(f"converting to {outtype} with {tools.converter[-1]}; its output: {log}")
    convert(tools.converter, merged, file, outtype, log)
    shutil.rmtree(merged)
    if tools.server is None:
        return {"check": "NOT CHECKED"}, [
            "NOT CHECKED: the GGUF file is written, but there is no llama-server to compare it in; build it "
            "(cmake -B build && cmake --build build --target llama-server in llama.cpp's folder) and run again "
            "with --force"
        ]
    say(f"comparing it in {tools.server}")
    check = check_file(
        reference, file, tools.server, outtype, max_tokens=context.recipe.eval.max_tokens, log=log, progress=progress
    )
    first, *more = _told(check)
    if not check.passed:
        step = "try --outtype f32" if outtype != "f32" else f"the server's output is in {log}"
        raise ArtifactError(f"{out}: not written, the GGUF file is not base + adapter: "
                            f"{'; '.join([first.partition(': ')[2], *more])}; {step}")  # fmt: skip
    return _figures(check), [f"{outtype} file: {line}" for line in (first, *more)]


def _told(check: Any) -> list[str]:
    """A check in lines."""
    verdict = "PASS" if check.passed else "FAIL"
    lines = [
        f"{verdict}: {check.same:.0%} of {check.prompts} greedy answers are those of base + adapter "
        f"(at least {check.least_same:.0%})",
        f"mean difference of log-probabilities {check.gap:.2g} nats a token (at most {check.largest_gap:g}, "
        f"and half of what the adapter itself changes, {check.effect:.2g})",
    ]
    if check.gap != check.gap:
        lines[1] = "the server gave no log-probabilities of token ids: greedy answers alone were compared"
    other = getattr(check, "other_prompts", 0)
    if other:
        lines.append(f"{other} of the prompts have other tokens in the server: chat template or tokenizer differ")
    return lines


def _figures(check: Any) -> dict[str, Any]:
    verdict = "PASS" if check.passed else "FAIL"
    gap, effect = (None, None) if check.gap != check.gap else (check.gap, check.effect)
    return {"check": verdict, "same": check.same, "gap": gap, "effect": effect, "prompts": check.prompts}
