"""realm export: leave with the adapter or a merged model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from realm_cli.cli.options import JsonOpt

FORMATS, DTYPES = ("adapter", "merged", "lm-eval"), ("float32", "bfloat16")


def export(
    run: Annotated[Path, typer.Option("--run", help="Run folder.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write.")],
    form: Annotated[
        str,
        typer.Option("--format", help="adapter (as trained), merged (one whole model), or lm-eval (results of eval)."),
    ] = "adapter",
    adapter: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Adapter folder. Default: the run's train_rl/adapter, else refine's, else distill's."),
    ] = None,
    dtype: Annotated[str, typer.Option(help="Weights of a merged model: bfloat16 or float32.")] = "bfloat16",
    prompts: Annotated[int, typer.Option(min=1, help="Prompts of the check after merging.")] = 32,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export.")] = False,
    as_json: JsonOpt = False,
) -> None:
    """Write the adapter, or a model with it merged in, with a model card made from the run's own files.

    A merge is made into the unquantised base and checked: the written model is loaded again and compared with base +
    adapter on the run's prompts. Where it differs, nothing is left and the exit code is 1.

    \b
    Example: realm export --run runs/demo --out demo-adapter
    Example: realm export --run runs/demo --out demo-model --format merged --dtype float32
    Example: realm export --run runs/demo --out results --format lm-eval
    """
    import shutil

    from realm_cli.artifacts import write_json, write_text
    from realm_cli.cli.console import say, show
    from realm_cli.cli.context import last_adapter, load_context, problems_path
    from realm_cli.errors import ArtifactError, ConfigError
    from realm_cli.prompts import bare_messages
    from realm_cli.stages.card import copy_adapter, model_card
    from realm_cli.stages.problems import load_problems, spread
    from realm_cli.stages.summary import Summary

    for option, value, known in (("--format", form, FORMATS), ("--dtype", dtype, DTYPES)):
        if value not in known:
            raise ConfigError(f"{option} {value}: unknown; choose one of {', '.join(known)}")
    if form == "lm-eval":
        import datetime

        from realm_cli.stages.lm_eval import write_lm_eval

        if out.exists() and not force:
            raise ArtifactError(f"{out}: exists; add --force to write into it, or choose another --out")
        made = write_lm_eval(run, out, when=datetime.datetime.now())
        show(Summary("export", {"format": form, "files": list(map(str, made))}, [], [], list(map(str, made))), as_json)
        return
    context = load_context(None, run, None)
    recipe = context.recipe
    chosen = last_adapter(run, adapter)
    if out.exists() and not (force and (out / "README.md").is_file() and (out / "realm-export.json").is_file()):
        why = "exists; add --force to replace it" if not force else "exists and is no export; choose another --out"
        raise ArtifactError(f"{out}: {why}")
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    lines: list[str] = []
    data: dict[str, object] = {"adapter": str(chosen), "format": form, "out": str(out)}
    try:
        if form == "adapter":
            copy_adapter(chosen, partial)
        else:
            from realm_cli.engines.export import export_merged

            path = problems_path(context, None)
            rows = load_problems(path)
            held = [p for p in rows if p.split != "train"] or rows
            asked = [bare_messages(p.question, recipe.prompt.style) for p in spread(held, prompts)]
            say(f"merging into {recipe.student.model} in {dtype}, then comparing on {len(asked)} prompts")
            student = recipe.student
            check = export_merged(
                student.model, chosen, partial, asked, dtype=dtype, max_tokens=recipe.eval.max_tokens,
                trust=student.trust_remote_code,
            )  # fmt: skip
            verdict = "PASS" if check.passed else "FAIL"
            lines = [
                f"{verdict}: {check.same:.0%} of {check.prompts} greedy answers are those of base + adapter "
                f"(at least {check.least_same:.0%})",
                f"mean difference of log-probabilities {check.gap:.2g} nats a token (at most {check.largest_gap:g}, "
                f"and half of what the adapter itself changes, {check.effect:.2g})",
            ]
            data |= {
                "check": verdict,
                "same": check.same,
                "gap": check.gap,
                "effect": check.effect,
                "prompts": check.prompts,
            }
            if not check.passed:
                raise ArtifactError(
                    f"{out}: not written, the merged model is not base + adapter: {lines[0][6:]}; {lines[1]}; "
                    "try --dtype float32"
                )
        write_text(partial / "README.md", model_card(run, chosen, kind=form, folder=out, check=lines))
        write_json(partial / "realm-export.json", data)
        if out.exists():
            shutil.rmtree(out)
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    show(Summary("export", data, [], [*lines, f"fill in the license in {out / 'README.md'}"], [str(out)]), as_json)
