"""vLLM as a generator, over a small module that has its API: vLLM itself needs CUDA (fake_vllm.py)."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from engines.fake_vllm import Calls, fake_vllm
from realm_cli.cli.app import main
from realm_cli.engines.build import build_generator
from realm_cli.engines.loading import encode_prompt, end_ids, load_model
from realm_cli.engines.sampler import LocalGenerator
from realm_cli.errors import ConfigError, EngineError, TooLong
from realm_cli.protocols import Completion, GenRequest, SamplingParams
from realm_cli.recipe import Recipe, load_recipe


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """A vllm module, and what was asked of it."""
    calls = Calls()
    monkeypatch.setitem(sys.modules, "vllm", fake_vllm(calls))
    return calls


def requests(*counts: int) -> list[GenRequest]:
    texts = ["hi", "What is 12 + 30?", "<|im_end|> a", "x = 4; y = ?", "b"]
    return [GenRequest(f"q{i}", [{"role": "user", "content": texts[i]}], n=n) for i, n in enumerate(counts)]


def recipe(**engine: Any) -> Recipe:
    return load_recipe(None, [f"engine.vllm.{key}={value}" for key, value in engine.items()])


def run(model: Path, asked: list[GenRequest], params: SamplingParams, **engine: Any) -> list[list[Completion]]:
    done = dict(build_generator(f"vllm:{model}", recipe(**engine)).generate(asked, params))
    assert sorted(done) == list(range(len(asked)))
    return [done[i] for i in range(len(asked))]


def test_it_says_what_the_own_engine_says(model_dir: Path, vllm: Calls) -> None:
    asked, greedy = requests(1, 1, 1, 1), SamplingParams(max_tokens=24, temperature=0.0)
    own = load_model(str(model_dir))
    expected = dict(LocalGenerator(own).generate(asked, greedy))
    found = run(model_dir, asked, greedy)
    for i, completions in enumerate(found):
        for have, want in zip(completions, expected[i], strict=True):
            assert (have.text, have.token_ids, have.n_tokens) == (want.text, want.token_ids, want.n_tokens)
            assert have.truncated == want.truncated
    prompts = [ids for ids, _ in vllm.asked[0]]
    assert prompts == [encode_prompt(own.tokenizer, request.messages) for request in asked]


def test_stop_strings_cut_and_are_no_truncation(model_dir: Path, vllm: Calls) -> None:
    whole = run(model_dir, requests(1), SamplingParams(max_tokens=24, temperature=0.0))[0][0].text
    stop = whole[4:6]
    found = run(model_dir, requests(1), SamplingParams(max_tokens=24, temperature=0.0, stop=(stop,)))[0][0]
    assert found.text == whole[: whole.index(stop)] and not found.truncated
    short = run(model_dir, requests(1), SamplingParams(max_tokens=2, temperature=0.0))[0][0]
    assert short.truncated and short.n_tokens == 2


def test_what_a_sample_is_depends_on_key_number_and_seed(model_dir: Path, vllm: Calls) -> None:
    params = SamplingParams(max_tokens=8, temperature=0.9, top_p=0.8, min_p=0.1, top_k=5, seed=3)
    asked = requests(3, 0, 2)
    whole = run(model_dir, asked, params)
    assert [len(completions) for completions in whole] == [3, 0, 2]
    wish = vllm.asked[0][1][1]
    assert (wish.temperature, wish.top_p, wish.min_p, wish.top_k, wish.n) == (0.9, 0.8, 0.1, 5, 1)
    assert wish.seed == params.seed_of("q0", 1) and wish.max_tokens == 8 and wish.stop is None
    own = load_model(str(model_dir))
    assert wish.stop_token_ids == sorted(end_ids(own.tokenizer, own.model))
    seeds = [wish.seed for _, wish in vllm.asked[0]]
    assert len(set(seeds)) == 5 and all(0 <= seed < 2**31 for seed in seeds)
    rest = GenRequest("q0", asked[0].messages, n=1, first_sample=2)  # continued work gets the samples it lacks
    assert run(model_dir, [rest], params, batch=1)[0][0] == whole[0][2]


def test_it_yields_batch_by_batch(model_dir: Path, vllm: Calls) -> None:
    generator = build_generator(f"vllm:{model_dir}", recipe(batch=3))
    found = generator.generate(requests(2, 2, 1, 2, 1), SamplingParams(max_tokens=2))
    assert [next(found)[0], next(found)[0]] == [0, 1]
    assert len(vllm.asked) == 1 and len(vllm.asked[0]) == 4  # whole requests
    assert [i for i, _ in found] == [2, 3, 4]
    assert [len(batch) for batch in vllm.asked] == [4, 3, 1]
    assert len(vllm.made) == 1
    list(generator.generate(requests(1), SamplingParams(max_tokens=2)))
    assert len(vllm.made) == 1  # the model stays


def test_how_it_is_started(model_dir: Path, vllm: Calls) -> None:
    generator = build_generator(f"vllm:{model_dir}", recipe(gpu_memory=0.5, context=99))
    assert generator.name == f"vllm:{model_dir}" and len(generator.digest) == 64  # type: ignore[attr-defined]
    assert not vllm.made  # not before the first request
    list(generator.generate(requests(1), SamplingParams(max_tokens=2)))
    assert vllm.made == [
        {
            "model": str(model_dir), "tensor_parallel_size": 1, "gpu_memory_utilization": 0.5, "max_model_len": 99,
            "seed": 0, "trust_remote_code": False,
        }
    ]  # fmt: skip


def test_a_prefill_is_continued(model_dir: Path, vllm: Calls) -> None:
    begun = GenRequest("q", [{"role": "user", "content": "hi"}], prefill="So")
    run(model_dir, [begun], SamplingParams(max_tokens=2))
    tokenizer = load_model(str(model_dir)).tokenizer
    assert vllm.asked[0][0][0] == encode_prompt(tokenizer, begun.messages, "So")


def test_what_vllm_refuses_is_one_line(model_dir: Path, vllm: Calls) -> None:
    with pytest.raises(
        EngineError, match=r"^model vllm:.*: the prompt of q0 takes \d+ of 3 .*; raise engine.vllm.context"
    ):
        run(model_dir, requests(1), SamplingParams(max_tokens=2), context=3)
    with pytest.raises(EngineError, match=r"vLLM does not start \(World size exceeds the GPUs\); see engine.vllm"):
        run(model_dir, requests(1), SamplingParams(max_tokens=2), tensor_parallel=64)


def test_one_prompt_that_is_too_long_fails_alone(model_dir: Path, vllm: Calls) -> None:
    asked = [*requests(2), GenRequest("long", [{"role": "user", "content": "long " * 30}], n=2)]
    short, long = run(model_dir, asked, SamplingParams(max_tokens=2), context=64)
    assert not any(done.failure for done in short) and all(done.lasting for done in long)
    assert long[0].failure == f"its prompt is longer than the 64 tokens that vllm:{model_dir} can read"
    said = r"^model vllm:.*: the prompt of long takes 1\d\d of 64 token positions; raise engine.vllm.context"
    with pytest.raises(TooLong, match=said):
        run(model_dir, asked[1:], SamplingParams(max_tokens=2), context=64)


def test_a_thought_that_the_template_opens_is_in_the_text(model_dir: Path, vllm: Calls) -> None:
    file = model_dir / "chat_template.jinja"
    file.write_text(file.read_text().replace("<s>assistant\n{% endif %}", "<s>assistant\n<think>\n{% endif %}"))
    greedy = SamplingParams(max_tokens=12, temperature=0.0)
    own = dict(LocalGenerator(load_model(str(model_dir))).generate(requests(1, 1), greedy))
    found = run(model_dir, requests(1, 1), greedy)
    for i, (done,) in enumerate(found):
        assert done.text.startswith("<think>\n") and (done.text, done.token_ids) == (
            own[i][0].text,
            own[i][0].token_ids,
        )


def test_only_frozen_whole_models(model_dir: Path, vllm: Calls) -> None:
    for spec in ("vllm:student", f"vllm:{model_dir}+adapter"):
        with pytest.raises(ConfigError, match="vLLM samples frozen models only; give `student` or MODEL"):
            build_generator(spec, recipe())
    with pytest.raises(ConfigError, match="takes no adapter"):
        build_generator(f"vllm:{model_dir}", recipe(), adapter=model_dir)
    with pytest.raises(ConfigError, match="nothing after the colon"):
        build_generator("vllm:", recipe())
    config = json.loads((model_dir / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (model_dir / "config.json").write_text(json.dumps(config))
    with pytest.raises(EngineError, match="its weights are packed by bitsandbytes; give hf:MODEL"):
        build_generator(f"vllm:{model_dir}", recipe())


def test_a_model_without_a_chat_template(model_dir: Path, vllm: Calls) -> None:
    (model_dir / "chat_template.jinja").unlink()
    with pytest.raises(EngineError, match="has no chat template"):
        build_generator(f"vllm:{model_dir}", recipe())


def test_without_vllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "vllm", None)  # as where it is not installed
    words = ["rollout", "--recipe", "demo", "--run", "r", "--set", "data.n_train=4", "--set", "data.n_dev=2"]
    assert main([*words, "--model", "vllm:org/model"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        "error: model vllm:org/model: vLLM is not installed; install it on a machine with a CUDA GPU: "
        "pip install 'realm-cli[vllm]'"
    )


def test_a_rollout(tmp_path: Path, model_dir: Path, monkeypatch: pytest.MonkeyPatch, vllm: Calls) -> None:
    monkeypatch.chdir(tmp_path)
    sizes = ["data.n_train=4", "data.n_dev=2", "data.n_test=2", "rollout.max_tokens=6"]
    words = [word for size in sizes for word in ("--set", size)]
    assert main(["rollout", "--recipe", "demo", "--run", "r", "--model", f"vllm:{model_dir}", "--n", "2", *words]) == 0
    rows = [json.loads(line) for line in Path("r/rollout/routes.jsonl").read_text().splitlines()]
    assert {row["source"] for row in rows} == {f"vllm:{model_dir}"} and len(rows) == 2 * (4 + 2 + 2)
