"""A finished evaluation in the JSON shape of lm-evaluation-harness, for tools that read its files.

    OUT/<model>/results_<date>.json            results/<task>/{exact_match,strict-match}, stderr, n-samples, configs ...
    OUT/<model>/samples_<task>_<date>.jsonl    one row per problem and filter: doc, target, arguments, resps ...

A task is `realm_<domain>_<mode>`. Its two filters are named as those of the harness's gsm8k: strict-match takes the
answer tag only, flexible-extract any final answer. Read from eval/predictions.jsonl: no model is asked again.

Usage: `made = write_lm_eval(Path("runs/demo"), Path("out"), when=datetime.now())`

Notes. (1) With several samples per problem exact_match is their mean; the harness's `repeats` says how many. (2) The
standard error is over problems. (3) The rules that `ruled` prompts showed are named by their sha256, not written. (4)
What the harness measures and we do not (git_hash of the harness, its version) is left out, not invented.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import math
import re
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from realm_cli.artifacts import digest, iter_rows, read_rows, write_json, write_text
from realm_cli.errors import ArtifactError, DataError
from realm_cli.method.answers import flexible_answer
from realm_cli.method.grading import filled
from realm_cli.prompts import bare_messages, question_text, routed_messages, ruled_messages
from realm_cli.recipe import Recipe, parse_recipe
from realm_cli.records import Message, Prediction, Problem, Route, ShownRoute
from realm_cli.run_folder import finished, read_json, read_manifest
from realm_cli.stages.same_choices import shown as choices_shown

STRICT, FLEXIBLE, METRIC = "strict-match", "flexible-extract", "exact_match"
VERSION = 1  # of the tasks' form; raised when a number would change its meaning


def write_lm_eval(run: Path, out: Path, *, when: datetime.datetime) -> list[Path]:
    """Write one folder per evaluated model below `out`; the files made. ArtifactError, DataError.

    when: goes into the files' names, as the harness does it.
    """
    folder = run / "eval"
    if not finished(folder):
        raise ArtifactError(f"{folder}: no finished evaluation; run `realm eval --run {run}` first")
    manifest = read_manifest(folder / "manifest.json")
    recipe = parse_recipe(read_json(folder / "recipe.json"), str(folder / "recipe.json"))
    problems = {row.id: row for row in read_rows(_input(manifest, "problems", run), Problem)}
    shown = _shown(manifest, run)
    tasks: dict[str, dict[str, list[Prediction]]] = defaultdict(lambda: defaultdict(list))
    for row in read_rows(folder / "predictions.jsonl", Prediction, made_by="realm eval"):
        if row.problem_id not in problems:
            raise DataError(f"{folder / 'predictions.jsonl'}: problem {row.problem_id} is not among the problems")
        tasks[row.model][row.mode].append(row)
    date, made, used = when.isoformat().replace(":", "-"), [], set()
    for model, modes in tasks.items():
        place = out / _file_name(model)
        if place in used:
            raise DataError(f"{folder}: two models would be written to {place}; evaluate them under other labels")
        used.add(place)
        samples = {}
        for mode, rows in modes.items():
            task = _task(recipe, mode)
            samples[task] = _samples(rows, problems, shown, recipe, manifest)
            path = place / f"samples_{task}_{date}.jsonl"
            write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in samples[task]))
            made.append(path)
        path = place / f"results_{date}.json"
        write_json(path, _results(model, samples, modes, recipe, manifest))
        made.append(path)
    return made


def _input(manifest: Mapping[str, Any], name: str, run: Path) -> Path:
    """A file that the evaluation read, and has not changed since."""
    entry = (manifest.get("inputs") or {}).get(name) or {}
    path = Path(str(entry.get("path") or run / f"{name}.jsonl"))
    if not path.exists():
        raise DataError(f"{path}: gone, and the evaluation read it; restore it, or run `realm eval` again with --force")
    if entry.get("sha256") and digest(path) != entry["sha256"]:
        raise DataError(f"{path}: changed since the evaluation; restore it, or run `realm eval` again with --force")
    return path


def _shown(manifest: Mapping[str, Any], run: Path) -> dict[str, ShownRoute]:
    """Routes by id, where routed prompts showed some. A rollout may have grown since: those of then are still there."""
    if "routes" not in (manifest.get("inputs") or {}):
        return {}
    path = Path(str(manifest["inputs"]["routes"]["path"]))
    if not path.exists():
        raise DataError(f"{path}: gone, and the evaluation read it; restore it, or run `realm eval` again with --force")
    return {
        r.id: ShownRoute(route_id=r.id, steps=r.steps, answer=r.final_answer, label=r.correct)
        for r in map(filled, iter_rows(path, Route, made_by="realm rollout"))
    }


def _messages(
    row: Prediction, problem: Problem, shown: Mapping[str, ShownRoute], recipe: Recipe, manifest: Mapping[str, Any]
) -> list[Message]:
    """The prompt of a prediction, made again; of the rules only the digest."""
    prompt = recipe.prompt
    question = question_text(problem) if choices_shown(manifest) else problem.question
    if row.mode == "bare":
        return bare_messages(question, prompt.style)
    if row.mode == "ruled":
        known = str(((manifest.get("inputs") or {}).get("rules") or {}).get("sha256") or "not recorded")
        return ruled_messages(question, f"[rules left out; sha256 {known}]", prompt.style)
    missing = [name for name in row.route_ids if name not in shown]
    if missing:
        raise DataError(f"route {missing[0]}: shown in the evaluation, not among the run's routes now; restore them")
    routes = [shown[name] for name in row.route_ids]
    hidden = row.mode == "routed_hidden"
    return routed_messages(question, routes, style=prompt.style, order=prompt.order, answers_hidden=hidden)


def _samples(
    rows: Sequence[Prediction],
    problems: Mapping[str, Problem],
    shown: Mapping[str, ShownRoute],
    recipe: Recipe,
    manifest: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """A row per problem and filter, with the harness's keys."""
    by_problem: dict[str, list[Prediction]] = defaultdict(list)
    for row in rows:
        by_problem[row.problem_id].append(row)
    out = []
    for number, (name, found) in enumerate(by_problem.items()):
        found.sort(key=lambda row: row.sample)
        problem = problems[name]
        doc = problem.model_dump(mode="json", include={"id", "question", "answer", "answer_type", "group", "choices"})
        prompt = json.dumps(_messages(found[0], problem, shown, recipe, manifest), ensure_ascii=False)
        settings = _generation(recipe)
        for key in (STRICT, FLEXIBLE):
            strict = key == STRICT
            texts = [row.answer if strict else flexible_answer(row.completion, problem.answer_type) for row in found]
            right = [row.correct if strict else row.correct_flexible for row in found]
            out.append(
                {
                    "doc_id": number,
                    "doc": doc,
                    "target": problem.answer,
                    "arguments": {"gen_args_0": {"arg_0": prompt, "arg_1": settings}},
                    "resps": [[row.completion for row in found]],
                    "filtered_resps": [text if text is not None else "[invalid]" for text in texts],
                    "filter": key,
                    "metrics": [METRIC],
                    "doc_hash": _sha(json.dumps(doc, indent=2, ensure_ascii=False)),
                    "prompt_hash": _sha(prompt),
                    "target_hash": _sha(problem.answer),
                    METRIC: sum(right) / len(right),
                }
            )
    return out


def _results(
    model: str,
    samples: Mapping[str, Sequence[Mapping[str, Any]]],
    modes: Mapping[str, Sequence[Prediction]],
    recipe: Recipe,
    manifest: Mapping[str, Any],
) -> dict[str, Any]:
    tasks = list(samples)
    counts = {task: sum(row["filter"] == STRICT for row in rows) for task, rows in samples.items()}
    hashes = {
        task: _sha("".join(row["doc_hash"] + row["prompt_hash"] + row["target_hash"] for row in rows))
        for task, rows in samples.items()
    }
    return {
        "results": {task: {"alias": task, **_scores(rows)} for task, rows in samples.items()},
        "group_subtasks": {task: [] for task in tasks},
        "configs": {
            _task(recipe, mode): _config(recipe, mode, max(row.sample for row in rows) + 1)
            for mode, rows in modes.items()
        },
        "versions": dict.fromkeys(tasks, VERSION),
        "n-shot": dict.fromkeys(tasks, 0),
        "higher_is_better": {task: {METRIC: True} for task in tasks},
        "n-samples": {task: {"original": n, "effective": n} for task, n in counts.items()},
        "config": {
            "model": "realm",
            "model_args": {"pretrained": recipe.student.model, "label": model},
            "gen_kwargs": _generation(recipe),
            "bootstrap_iters": recipe.eval.bootstrap,
            "random_seed": recipe.seed,
            "limit": recipe.eval.limit,
        },
        "date": _seconds(manifest.get("finished")),
        "realm_versions": manifest.get("versions", {}),
        "transformers_version": (manifest.get("versions") or {}).get("transformers"),
        "task_hashes": hashes,
        "model_source": "realm",
        "model_name": model,
        "model_name_sanitized": _file_name(model),
    }


def _scores(rows: Sequence[Mapping[str, Any]]) -> dict[str, float | str]:
    """`exact_match,<filter>` and its standard error over problems: "N/A" for a single one, as the harness has it."""
    found: dict[str, float | str] = {}
    for key in (STRICT, FLEXIBLE):
        values = [float(row[METRIC]) for row in rows if row["filter"] == key]
        found[f"{METRIC},{key}"] = sum(values) / len(values)
        several = len(values) > 1
        found[f"{METRIC}_stderr,{key}"] = statistics.stdev(values) / math.sqrt(len(values)) if several else "N/A"
    return found


def _config(recipe: Recipe, mode: str, repeats: int) -> dict[str, Any]:
    return {
        "task": _task(recipe, mode),
        "dataset_path": "json",
        "test_split": recipe.eval.split,
        "output_type": "generate_until",
        "doc_to_text": f"realm_cli.prompts, mode {mode}, style {recipe.prompt.style}",
        "doc_to_target": "{{answer}}",
        "num_fewshot": 0,
        "repeats": repeats,
        "metric_list": [{"metric": METRIC, "aggregation": "mean", "higher_is_better": True}],
        "filter_list": [{"name": STRICT}, {"name": FLEXIBLE}],
        "generation_kwargs": _generation(recipe),
        "metadata": {"version": VERSION},
    }


def _generation(recipe: Recipe) -> dict[str, Any]:
    greedy = recipe.eval.n == 1
    heat = 0.0 if greedy else recipe.eval.temperature
    return {"until": [], "do_sample": not greedy, "temperature": heat, "max_gen_toks": recipe.eval.max_tokens}


def _task(recipe: Recipe, mode: str) -> str:
    return re.sub(r"\W", "_", f"realm_{recipe.data.domain or 'own'}_{mode}")


def _file_name(model: str) -> str:
    """A model's name as the harness makes a folder's name of it; never one that leads out of the folder."""
    name = re.sub(r"[\"<>:/|\\?*\[\]\x00-\x1f]+", "__", model)
    return name if name.strip(". ") else "model"


def _seconds(text: object) -> float | None:
    try:
        return datetime.datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return None


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
