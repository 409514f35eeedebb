"""realm ask: one question to base and adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from realm_cli.cli.options import JsonOpt, SetOpt


def ask(
    question: Annotated[Optional[str], typer.Argument(help="The question. Default: standard input.")] = None,  # noqa: UP045
    run: Annotated[Path, typer.Option("--run", help="Run folder.")] = Path("runs/demo"),
    adapter: Annotated[Optional[Path], typer.Option(help="Adapter folder. Default: the run's last one.")] = None,  # noqa: UP045
    temperature: Annotated[float, typer.Option(min=0.0, help="0: the likeliest answer.")] = 0.0,
    n: Annotated[int, typer.Option("--n", min=1, help="Answers of each; with a temperature.")] = 1,
    max_tokens: Annotated[Optional[int], typer.Option(min=1, help="Longest answer. Default: the recipe's.")] = None,  # noqa: UP045
    set_: SetOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """Ask the student without and with its adapter, side by side. The model is loaded once.

    \b
    Example: realm ask --run runs/demo "Parcel: vase, 6 kg, zone 2, fragile. Fee?"
    """
    import json
    import sys

    from realm_cli.cli.console import printable_json
    from realm_cli.cli.context import last_adapter, load_context
    from realm_cli.errors import ConfigError, printable
    from realm_cli.method.answers import flexible_answer, strict_answer
    from realm_cli.prompts import bare_messages
    from realm_cli.protocols import GenRequest, SamplingParams

    text = question if question is not None else sys.stdin.read()
    if not text.strip():
        raise ConfigError("ask: no question; give one as an argument or on standard input")
    if n > 1 and temperature == 0:
        raise ConfigError(f"ask: {n} answers at temperature 0 are the same; add --temperature 0.7")
    context = load_context(None, run, set_)
    recipe = context.recipe
    chosen = last_adapter(run, adapter)
    from realm_cli.engines.build import load_student, local_generator

    loaded = load_student(recipe, adapter=chosen)
    params = SamplingParams(max_tokens or recipe.eval.max_tokens, temperature, seed=recipe.seed)
    request = GenRequest("ask", bare_messages(text.strip(), recipe.prompt.style), n)
    found = {}
    with loaded.model.disable_adapter():
        found["base"] = next(done for _, done in local_generator(loaded, recipe).generate([request], params))
    found["adapter"] = next(done for _, done in local_generator(loaded, recipe).generate([request], params))
    rows = [
        {
            "model": name,
            "text": done.text,
            "answer": None if done.truncated else strict_answer(done.text),  # as `realm eval` counts
            "answer_flexible": None if done.truncated else flexible_answer(done.text),
            "tokens": done.n_tokens,
            "truncated": done.truncated,
        }
        for name, completions in found.items()
        for done in completions
    ]
    if as_json:
        print(printable_json(json.dumps({"adapter": str(chosen), "answers": rows}, ensure_ascii=False)))
        return
    names = {"base": f"{recipe.student.model} alone", "adapter": f"with {chosen}"}
    for row in rows:
        cut = ", cut off" if row["truncated"] else ""
        print(f"--- {names[str(row['model'])]} ({row['tokens']} tokens{cut})")
        print(printable(str(row["text"]), keep="\n"))
        none = "none (cut off: --max-tokens gives more room)" if row["truncated"] else "none"
        print(f"answer: {printable(str(row['answer'] or row['answer_flexible'] or none))}\n")
