"""From a model spec to a Generator.

    student                the recipe's student (with `adapter`, if one is given)
    MODEL or hf:MODEL      tiny-student, smollm2-135m, a hub id, a folder or a .gguf file
    MODEL+DIR              MODEL with the adapter in DIR;  adapter:DIR = the recipe's student with it
    openai:URL#MODEL       any OpenAI-compatible server, or several: openai:URL,URL#MODEL
    vllm:MODEL             a frozen model that vLLM samples in this process
    oracle, solver:NAME    the built-in domain's right and noisy solutions
    jsonl:FILE             texts that another tool wrote: rows with problem_id and text, or problems with solutions

Usage: `build_generator("solver:hasty", recipe)`; torch is imported only for local models.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING

from realm_cli.errors import ConfigError
from realm_cli.protocols import Generator
from realm_cli.recipe import Recipe

if TYPE_CHECKING:
    from realm_cli.engines.budget import Budget
    from realm_cli.engines.loading import LoadedModel
    from realm_cli.engines.sampler import LocalGenerator

FORMS = (
    "student, MODEL, hf:MODEL, MODEL+ADAPTER_DIR, adapter:DIR, openai:URL#MODEL, vllm:MODEL, oracle, solver:NAME, "
    "jsonl:FILE"
)
_KINDS = ("student", "oracle", "solver", "openai", "vllm", "jsonl", "hf", "adapter", "tiny-student", "smollm2-135m")


def build_generator(
    spec: str, recipe: Recipe, *, adapter: Path | None = None, budget: Budget | None = None
) -> Generator:
    """The generator that `spec` names. `adapter` goes onto a local model; servers share the command's `budget`.

    ConfigError for a spec that is none of the forms, EngineError for a model that cannot be loaded.
    """
    kind, sep, rest = spec.partition(":")
    program = spec == "oracle" or (sep and kind in ("solver", "jsonl", "openai", "vllm"))
    if adapter is not None and program:
        raise ConfigError(f"model {spec}: takes no adapter; adapters go onto local models")
    if program and spec != "oracle" and not rest:
        raise ConfigError(f"model {spec}: nothing after the colon; the forms are {FORMS}")
    if spec == "oracle" or (sep and kind == "solver"):
        from realm_cli.engines.programs import oracle_generator, solver_generator

        if recipe.data.domain is None:
            raise ConfigError(f"model {spec}: needs a built-in domain; set data.domain=rulebook")
        return oracle_generator(recipe.data.domain) if not sep else solver_generator(recipe.data.domain, rest)
    if sep and kind == "jsonl":
        from realm_cli.engines.programs import JsonlGenerator

        return JsonlGenerator(Path(rest), spec)
    if sep and kind == "openai":
        from realm_cli.engines.openai_client import OpenAIGenerator

        return OpenAIGenerator.from_spec(spec, recipe.engine.server, budget)
    if sep and kind == "vllm":
        from realm_cli.engines.vllm_engine import VllmGenerator

        return VllmGenerator.from_spec(spec, recipe)
    return _local(spec, recipe, adapter)


def load_student(recipe: Recipe, *, adapter: Path | None = None, trainable: bool = False) -> LoadedModel:
    """The recipe's student on its device, with threads and global seeds set. ConfigError, EngineError."""
    return _load(recipe.student.model, recipe, adapter, trainable)


def _local(spec: str, recipe: Recipe, adapter: Path | None) -> Generator:
    name, adapter = _split(spec, recipe, adapter)
    from realm_cli.engines.loading import resolve_model

    try:
        resolve_model(name)
    except ConfigError as error:
        if ":" not in spec and "/" not in spec and not spec.endswith(".gguf"):
            near = difflib.get_close_matches(spec, _KINDS, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}? " if near else ""
            raise ConfigError(f"model {spec}: unknown; {hint}The forms are {FORMS}") from None
        raise error from None
    return local_generator(_load(name, recipe, adapter, False), recipe)


def local_generator(loaded: LoadedModel, recipe: Recipe) -> LocalGenerator:
    """A sampler over a loaded model, as the recipe's engine block wants it."""
    from realm_cli.engines.sampler import LocalGenerator

    engine = recipe.engine
    return LocalGenerator(loaded, engine.batch_rows, shared=engine.shared_prefix, kv_gib=engine.kv_gib)


def _split(spec: str, recipe: Recipe, adapter: Path | None) -> tuple[str, Path | None]:
    """(model name, adapter folder) of a local spec."""
    kind, sep, rest = spec.partition(":")
    name, given = spec, None
    if sep and kind == "adapter":
        name, given = recipe.student.model, rest
    elif sep and kind == "hf":
        name = rest
    elif sep and kind.isalpha() and len(kind) > 1 and not Path(spec).exists():
        near = difflib.get_close_matches(kind, _KINDS, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}:{rest}? " if near else ""
        raise ConfigError(f"model {spec}: unknown form; {hint}The forms are {FORMS}")
    if given is None and "+" in name and not Path(name).expanduser().exists():
        name, _, given = name.partition("+")
    name = recipe.student.model if name == "student" else name
    if not name or given == "":
        raise ConfigError(f"model {spec}: incomplete; the forms are {FORMS}")
    if given is not None and adapter is not None:
        raise ConfigError(f"model {spec}: names an adapter, and {adapter} is given too; keep one")
    return name, Path(given) if given is not None else adapter


def _load(name: str, recipe: Recipe, adapter: Path | None, trainable: bool) -> LoadedModel:
    from realm_cli.engines.loading import keep_freed_memory, load_model, set_seed, threads

    keep_freed_memory()
    threads(recipe.engine.threads)
    set_seed(recipe.seed)
    student = recipe.student
    return load_model(
        name,
        quant=student.quant,
        dtype=student.dtype,
        trust_remote_code=student.trust_remote_code,
        device=recipe.engine.device,
        adapter=adapter,
        trainable=trainable,
        template_args=recipe.student.template_args,
    )
