"""A frozen model sampled by vLLM in this process: `vllm:MODEL` (pip install 'realm-cli[vllm]').

For rollouts, teachers and evaluations with models that are not trained. The student is sampled by the trainer's own
engine (sampler.py), since its adapter changes and its base may be packed in NF4: adapters and such bases are refused.

Prompts are the token ids that sampler.py would give (chat.py), and texts are decoded as it does, so a model says the
same to both up to its arithmetic and draws. Every sample is a prompt of its own with a seed from (seed, key, sample).

Usage: `VllmGenerator.from_spec("vllm:Qwen/Qwen2.5-7B-Instruct", recipe).generate(requests, SamplingParams())`

Notes. (1) Samples go to vLLM by `engine.vllm.batch`, whole requests at a time, and are yielded batch by batch: what an
interrupt loses is one batch. (2) vLLM is started by the first request, so that a student is loaded before it takes its
share of the memory. (3) Whether equal seeds give equal texts in other batches is up to vLLM. (4) No log-probabilities.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from transformers import AutoConfig, GenerationConfig

from realm_cli.engines.batches import SHORTER, fitting, too_long
from realm_cli.engines.chat import begun, end_ids, whole_text
from realm_cli.engines.sources import LOAD_ERRORS, ModelSource, fingerprint, first_line, model_folder, resolve_model
from realm_cli.engines.templates import ready_tokenizer
from realm_cli.engines.vocabulary import missing_ids
from realm_cli.errors import ConfigError, EngineError
from realm_cli.protocols import Completion, GenRequest, SamplingParams
from realm_cli.recipe import Recipe, VllmConfig

MISSING = "vLLM is not installed; install it on a machine with a CUDA GPU: pip install 'realm-cli[vllm]'"


class VllmGenerator:
    """protocols.Generator over vLLM's `LLM`."""

    def __init__(
        self,
        source: ModelSource,
        config: VllmConfig,
        *,
        trust_remote_code: bool = False,
        seed: int = 0,
        template_args: Mapping[str, Any] | None = None,
    ):
        self.name, self.template_args = f"vllm:{source.label}", template_args or {}
        self.config, self.trust, self.seed = config, trust_remote_code, seed
        self.where = model_folder(source)
        self.tokenizer, shape = self._read()
        self._ends = end_ids(self.tokenizer, shape)
        text = shape.config.get_text_config()
        self._unused = missing_ids(text.vocab_size, self.tokenizer)
        self._room = int(getattr(text, "max_position_embeddings", None) or 1 << 30)
        local = Path(self.where).is_dir()
        self.digest = fingerprint(Path(self.where)) if local else str(getattr(shape.config, "_commit_hash", "") or "")
        self._llm: Any = None

    @classmethod
    def from_spec(cls, spec: str, recipe: Recipe) -> VllmGenerator:
        """From `vllm:MODEL`. ConfigError for a student or an adapter, EngineError where vLLM or a model is missing."""
        name = spec.removeprefix("vllm:")
        if name == "student" or ("+" in name and not Path(name).expanduser().exists()):
            raise ConfigError(
                f"model {spec}: vLLM samples frozen models only; give `student` or MODEL+ADAPTER_DIR without vllm:, "
                "or merge the adapter with `realm export` and name the folder"
            )
        if importlib.util.find_spec("vllm") is None:
            raise EngineError(f"model {spec}: {MISSING}")
        return cls(
            resolve_model(name),
            recipe.engine.vllm,
            trust_remote_code=recipe.student.trust_remote_code,
            seed=recipe.seed,
            template_args=recipe.student.template_args,
        )

    def _read(self) -> tuple[Any, Any]:
        """The tokenizer, and what of the model says how it ends."""
        try:
            tokenizer = ready_tokenizer(self.where, self.name, self.trust, self.template_args)
            config = AutoConfig.from_pretrained(self.where, trust_remote_code=self.trust)
        except LOAD_ERRORS as error:
            raise EngineError(f"model {self.name}: cannot be loaded ({first_line(error)})") from None
        packed = getattr(config, "quantization_config", None) or {}
        if (packed.get("quant_method") if isinstance(packed, dict) else packed.quant_method) == "bitsandbytes":
            raise EngineError(
                f"model {self.name}: its weights are packed by bitsandbytes; give hf:MODEL, or the unpacked model"
            )
        try:
            generation = GenerationConfig.from_pretrained(self.where)
        except LOAD_ERRORS:  # not every model has one
            generation = None
        return tokenizer, SimpleNamespace(config=config, generation_config=generation)

    def generate(
        self, requests: Sequence[GenRequest], params: SamplingParams
    ) -> Iterator[tuple[int, list[Completion]]]:
        """Yield (request index, completions), batch by batch; a lasting failure for each prompt that is too long.

        TooLong where all are; EngineError for what vLLM refuses.
        """
        yield from ((i, []) for i, request in enumerate(requests) if request.n == 0)
        prompts = [begun(self.tokenizer, request.messages, request.prefill) for request in requests]
        room = min(self._room, self.config.context or self._room)
        lengths = [len(ids) + 1 for ids, _ in prompts]
        hint = "raise engine.vllm.context" if room < self._room else SHORTER
        fits = fitting(lengths, room, self.name, lambda i: f"the prompt of {requests[i].key}", hint)
        refused = Completion("", truncated=True, failure=too_long(self.name, room), lasting=True)
        yield from ((i, [refused] * requests[i].n) for i, length in enumerate(lengths) if length > room)
        for batch in _batches(requests, fits, self.config.batch):
            jobs = [(i, requests[i].first_sample + j) for i in batch for j in range(requests[i].n)]
            texts = iter(self._sampled([(prompts[i][0], requests[i].key, sample) for i, sample in jobs], params))
            for i in batch:
                done = [next(texts) for _ in range(requests[i].n)]
                yield i, [replace(one, text=whole_text(prompts[i][1], one.text)) for one in done]

    def _sampled(self, jobs: Sequence[tuple[list[int], str, int]], params: SamplingParams) -> list[Completion]:
        """One completion for each (prompt ids, key, sample)."""
        vllm = self._start()
        wishes = [vllm.SamplingParams(**self._wishes(params, key, sample)) for _, key, sample in jobs]
        prompts = [{"prompt_token_ids": ids} for ids, _, _ in jobs]
        try:
            answers = self._llm.generate(prompts, wishes, use_tqdm=False)
        except LOAD_ERRORS as error:
            raise EngineError(f"model {self.name}: vLLM cannot answer ({first_line(error)})") from None
        return [self._completion(answer.outputs[0], params.stop) for answer in answers]

    def _start(self) -> Any:
        """The vllm module, with the model loaded."""
        try:
            vllm = importlib.import_module("vllm")
            if self._llm is None:
                self._llm = vllm.LLM(
                    model=self.where,
                    trust_remote_code=self.trust,
                    tensor_parallel_size=self.config.tensor_parallel,
                    gpu_memory_utilization=self.config.gpu_memory,
                    max_model_len=self.config.context,
                    seed=self.seed,
                )
        except LOAD_ERRORS as error:
            raise EngineError(
                f"model {self.name}: vLLM does not start ({first_line(error)}); see engine.vllm in docs/servers.md"
            ) from None
        return vllm

    def _wishes(self, params: SamplingParams, key: str, sample: int) -> dict[str, Any]:
        """Arguments of vllm.SamplingParams: the same ends and visible special tokens as in sampler.py."""
        wishes: dict[str, Any] = {
            "max_tokens": params.max_tokens,
            "temperature": params.temperature,
            "stop": list(params.stop) or None,
            "stop_token_ids": sorted(self._ends),
            "skip_special_tokens": False,
        }
        if self._unused:
            wishes["logit_bias"] = dict.fromkeys(self._unused, -100.0)
        if params.temperature > 0:
            wishes |= {"top_p": params.top_p, "min_p": params.min_p, "seed": params.seed_of(key, sample)}
            wishes |= {"top_k": params.top_k} if params.top_k else {}  # what stands for none differs between versions
        return wishes

    def _completion(self, output: Any, stop: Sequence[str]) -> Completion:
        ids = tuple(output.token_ids)
        text = self.tokenizer.decode(
            ids[:-1] if ids and ids[-1] in self._ends else ids,
            skip_special_tokens=False,
            clean_up_tokenization_spaces=False,
        )
        text = text[: min((text.index(s) for s in stop if s in text), default=len(text))]
        return Completion(text=text, n_tokens=len(ids), truncated=output.finish_reason != "stop", token_ids=ids)


def _batches(requests: Sequence[GenRequest], chosen: Sequence[int], size: int) -> Iterator[list[int]]:
    """Indices of the chosen requests that have samples, in order, in batches of at least `size` samples."""
    batch: list[int] = []
    samples = 0
    for i in chosen:
        if requests[i].n:
            batch.append(i)
            samples += requests[i].n
        if samples >= size:
            yield batch
            batch, samples = [], 0
    if batch:
        yield batch
