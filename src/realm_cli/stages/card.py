"""The model card that goes with an exported adapter or model, written from the run's own files.

Usage: `text = model_card(run, adapter, kind="merged", check=lines)`; Markdown, with file texts escaped
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from realm_cli.artifacts import digest
from realm_cli.errors import printable
from realm_cli.run_folder import read_json, read_manifest
from realm_cli.stages.report_tables import CUT_OFF
from realm_cli.stages.summary import percent

CHOICES = (  # what of the recipe a reader wants to know
    "student.model", "student.quant", "distill.teacher", "distill.sft.epochs", "distill.sft.lr", "train_rl.steps",
    "train_rl.eaai_steps", "train_rl.schedule", "train_rl.lr", "train_rl.bridge.beta", "train_rl.group_size", "seed",
)  # fmt: skip
TRAINING = ("distill", "refine", "train_rl")  # in this order
ADAPTER_FILES = (  # what PEFT and a tokenizer write; whatever else lies in the folder is not passed on
    "adapter_config.json", "adapter_model.safetensors", "tokenizer*.json", "tokenizer.model", "special_tokens_map.json",
    "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt", "chat_template.jinja",
)  # fmt: skip
BUILTIN = ("tiny-student", "smollm2-135m")  # realm's names of models: transformers does not know them
LOAD = {
    "adapter": "model = AutoModelForCausalLM.from_pretrained({base})\n"
    "model = PeftModel.from_pretrained(model, {folder})",
    "merged": "model = AutoModelForCausalLM.from_pretrained({folder})",
}


def model_card(run: Path, adapter: Path, *, kind: str, folder: Path, check: Sequence[str] = ()) -> str:
    """README.md of an export. kind: adapter, merged or gguf (folder: the file). check: what was compared, in lines."""
    recipe = settings_used(run, read_json(run / "recipe.json"))
    base = str(_at(recipe, "student.model"))
    parts = [_head(base, kind), f"# {_safe(run.resolve().name)}", _what(base, kind, adapter)]
    parts += ["## How it was made", _choices(recipe, _training(run, adapter)), _inputs(run)]
    results = _results(run, adapter)
    if results and kind != "adapter":
        results += "\n\nMeasured on base and adapter as the run loaded them, not on this merged copy."
    parts += ["## Results", results or "Not measured: `realm eval` has not been run on this adapter.", _limits(run)]
    if check:
        parts += [
            "## Check of the merge" if kind == "merged" else "## Checks",
            "\n".join(f"- {_safe(line)}" for line in check),
        ]
    parts += ["## How to load it", _load(base, kind, folder, _at(recipe, "student.template_args"))]
    return "\n\n".join(filter(None, parts)) + "\n"


def settings_used(run: Path, recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The run's recipe, with each stage's block as that stage had it: a later command may have been given less."""
    recipe = dict(recipe)
    for block in ("rollout", "verify", "distill", "train_rl"):
        own = read_json(run / block / "recipe.json").get(block)
        if own is not None:
            recipe[block] = own
    return recipe


def copy_adapter(adapter: Path, folder: Path) -> None:
    """An adapter's own files into a new folder: no pickles, no logs, nothing that a link names."""
    folder.mkdir(parents=True)
    for file in sorted(adapter.iterdir()):
        if file.is_file() and not file.is_symlink() and any(file.match(name) for name in ADAPTER_FILES):
            shutil.copyfile(file, folder / file.name)


def _head(base: str, kind: str) -> str:
    lines = [
        "---",
        "# license: fill in; the base model's and the data's terms both hold",
        f"base_model: {_quoted(base)}",
    ]
    if kind == "gguf":
        return "\n".join([*lines, "tags: [realm, reasoning, gguf]", "---"])
    lines += ["library_name: peft"] if kind == "adapter" else ["library_name: transformers"]
    return "\n".join([*lines, "tags: [realm, reasoning]", "---"])


def _what(base: str, kind: str, adapter: Path) -> str:
    what = {"adapter": "A LoRA adapter for", "merged": "A merged copy of"}.get(kind, "A merged copy, as GGUF, of")
    weights = adapter / "adapter_model.safetensors"
    text = f"{what} {_safe(base)}, trained with the ReaLM method (arXiv 2508.12387) by realm."
    return text + (f" Adapter's sha256: `{digest(weights)[:16]}`." if weights.is_file() else "")


def _training(run: Path, adapter: Path) -> list[str]:
    """The stages of training that the adapter has been through; all that were run, for one from elsewhere."""
    own = [stage for stage in TRAINING if adapter.resolve().is_relative_to((run / stage).resolve())]
    last = TRAINING.index(own[0]) if own else len(TRAINING)
    return [stage for stage in TRAINING[: last + 1] if (run / stage / "manifest.json").is_file()]


def _choices(recipe: Mapping[str, Any], training: Sequence[str]) -> str:
    rows = [
        (key, _at(recipe, key))
        for key in CHOICES
        if key.partition(".")[0] not in TRAINING or key.partition(".")[0] in training
    ]
    return _table(("setting", "value"), [(key, str(value)) for key, value in rows if value is not None])


def _inputs(run: Path) -> str:
    """What each stage read and made."""
    rows = []
    for path in sorted(run.rglob("manifest.json"), key=lambda path: str(read_json(path).get("started"))):
        manifest = read_json(path)
        outputs = manifest.get("outputs") or {}
        counts = [f"{name}: {entry['rows']} rows" for name, entry in outputs.items() if entry.get("rows")]
        inputs = [f"{name} {str(entry.get('sha256'))[:12]}" for name, entry in (manifest.get("inputs") or {}).items()]
        rows.append((str(path.parent.relative_to(run)), "; ".join(counts[:4]), "; ".join(inputs)))
    return _table(("stage", "made", "read (sha256)"), rows) if rows else ""


def _results(run: Path, adapter: Path) -> str:
    """Accuracies of this adapter and of what was evaluated beside it; "" unless the evaluation had this adapter.

    Other adapters are left out: they are told apart by what their files are, since a folder may be trained again.
    """
    report = read_json(run / "eval" / "report.json")
    inputs = read_manifest(run / "eval" / "manifest.json").get("inputs", {})
    named = {key.removeprefix("adapter "): item["sha256"] for key, item in inputs.items() if key.startswith("adapter ")}
    own = digest(adapter)
    if own not in named.values():
        return ""
    others = {label for label, known in named.items() if known != own}
    found = [row for row in report.get("results", []) if row.get("group") == "all" and row["model"] not in others]
    if not found:
        return ""
    rows = [
        (
            str(row["model"]), str(row["mode"]), str(row["n"]),
            f"{100 * row['accuracy']:.1f} [{100 * row['low']:.1f}, {100 * row['high']:.1f}]",
            f"{100 * row['accuracy_flexible']:.1f}",
        )
        for row in found
    ]  # fmt: skip
    cut = [f"{row['model']} {row['mode']} {percent(row['truncated'])} %" for row in found if row["truncated"] > CUT_OFF]
    text = "Held-out problems, accuracy in % with 95 % intervals; flexible: the answer in any usual form.\n\n"
    text += _table(("model", "prompt", "problems", "strict", "flexible"), rows)
    return text + (f"\n\nCompletions cut off for their length, which count as wrong: {'; '.join(cut)}." if cut else "")


def _limits(run: Path) -> str:
    domain = str(_at(read_json(run / "recipe.json"), "data.domain") or "its domain")
    return (
        "## Limits\n\n"
        f"Trained for questions of {_safe(domain)} with checkable answers; nothing is known of others. Its reasoning "
        "is text that led to right answers in training, not a proof. Intervals are over test problems, not over seeds."
    )


def _load(base: str, kind: str, folder: Path, template_args: Mapping[str, Any] | None) -> str:
    given = {key: value for key, value in (template_args or {}).items() if key.isidentifier() and key != "strftime_now"}
    if kind == "gguf":
        more = f" --chat-template-kwargs {shlex.quote(json.dumps(given))}" if given else ""
        return f"```sh\nllama-server --model {shlex.quote(str(folder))} --jinja{more} --port 8080\n```"
    imports = "from transformers import AutoModelForCausalLM, AutoTokenizer"
    imports += "\nfrom peft import PeftModel" if kind == "adapter" else ""
    name = str(folder)
    known = base in BUILTIN
    if known and kind == "adapter":
        imports += "\nfrom realm_cli.engines.loading import model_folder, resolve_model"
    code = LOAD[kind].format(base=f"model_folder(resolve_model({base!r}))" if known else repr(base), folder=repr(name))
    prompt = (
        f"tokenizer = AutoTokenizer.from_pretrained({name!r})\n"
        'chat = [{"role": "user", "content": "..."}]\n'
        'ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True'
        f"{''.join(f', {key}={value!r}' for key, value in given.items())})\n"
        "print(tokenizer.decode(model.generate(**ids, max_new_tokens=512)[0]))"
    )
    return f"```python\n{imports}\n\n{code}\n{prompt}\n```"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(map(_safe, row))} |" for row in rows)])


def _safe(text: str) -> str:
    """Text of files as plain Markdown text of one line."""
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", printable(" ".join(text.split())))


def _quoted(text: str) -> str:
    return '"' + printable(text).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _at(data: Mapping[str, Any], key: str) -> Any:
    value: Any = data
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
