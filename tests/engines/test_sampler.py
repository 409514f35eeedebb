"""The sampler against transformers.generate, a plain forward pass, and the distribution it should draw from."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from scipy.stats import chisquare

from realm_cli.engines.drawing import choose
from realm_cli.engines.loading import LoadedModel, encode_completion, encode_prompt, end_ids, load_model
from realm_cli.engines.sampler import LocalGenerator
from realm_cli.engines.self_check import shares_prefix
from realm_cli.errors import EngineError, TooLong
from realm_cli.protocols import Completion, GenRequest, SamplingParams, sampled

Make = Callable[..., LoadedModel]
QUESTIONS = ["hi", "What is 12 + 30?", "a", "Name the fee of a parcel of 3 kg to zone 2, please.", "x = 4; y = ?"]


def ask(*questions: str, n: int = 1) -> list[GenRequest]:
    return [GenRequest(f"q{i}", [{"role": "user", "content": text}], n=n) for i, text in enumerate(questions)]


def run(loaded: LoadedModel, requests: list[GenRequest], params: SamplingParams, rows: int = 64) -> list[Completion]:
    """All completions in request order."""
    done = dict(LocalGenerator(loaded, rows).generate(requests, params))
    assert sorted(done) == list(range(len(requests)))
    assert all(len(done[i]) == request.n for i, request in enumerate(requests))
    return [completion for i in sorted(done) for completion in done[i]]


def reference(loaded: LoadedModel, question: str, max_tokens: int) -> list[int]:
    """Greedy ids by transformers.generate, prompt by prompt."""
    ids = encode_prompt(loaded.tokenizer, [{"role": "user", "content": question}])
    out = loaded.model.generate(
        torch.tensor([ids]),
        max_new_tokens=max_tokens,
        do_sample=False,
        eos_token_id=sorted(end_ids(loaded.tokenizer, loaded.model)),
        pad_token_id=0,
    )
    return out[0, len(ids) :].tolist()


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
def test_greedy_equals_generate(make_loaded: Make, architecture: str) -> None:
    loaded = make_loaded(architecture)
    want = [reference(loaded, question, 40) for question in QUESTIONS]
    assert len({tuple(ids) for ids in want}) == len(QUESTIONS)
    got = run(loaded, ask(*QUESTIONS), SamplingParams(40, 0.0))
    assert [list(c.token_ids) for c in got] == want
    assert [c.truncated for c in got] == [ids[-1] != 2 for ids in want]


@pytest.mark.parametrize("shared", ["auto", "off"])
def test_greedy_equals_generate_on_fifty_mixed_prompts(make_loaded: Make, shared: str) -> None:
    """Prompts of 20 to 120 tokens, some twice, through a batch of 16 in which rows come and go."""
    loaded = make_loaded("qwen2", seed=5)
    questions = [f"fee of parcel {i % 45}, zone {i % 7}. " * (1 + i % 4) for i in range(50)]
    want = [reference(loaded, question, 20) for question in questions]
    generator = LocalGenerator(loaded, 16, shared=shared)
    got = dict(generator.generate(ask(*questions), SamplingParams(20, 0.0)))
    assert [list(got[i][0].token_ids) for i in range(50)] == want
    assert len({len(ids) for ids in want}) > 2


def test_greedy_equals_generate_with_sliding_windows(make_loaded: Make) -> None:
    loaded = make_loaded("qwen2", use_sliding_window=True, sliding_window=16, layer_types=["sliding_attention"] * 2)
    got = run(loaded, ask(*QUESTIONS), SamplingParams(40, 0.0))
    assert [list(c.token_ids) for c in got] == [reference(loaded, question, 40) for question in QUESTIONS]


def test_greedy_equals_generate_on_the_tiny_student(tiny_student: Path) -> None:
    loaded = load_model("tiny-student", device="cpu")
    questions = [
        "Tom has 12 eggs and buys 5 more. How many eggs?",
        "Parcel: 3 kg to zone 2. What is the fee?",
        "12 + 30",
    ]
    got = run(loaded, ask(*questions), SamplingParams(48, 0.0))
    assert [list(c.token_ids) for c in got] == [reference(loaded, question, 48) for question in questions]


def test_batch_size_does_not_matter(make_loaded: Make) -> None:
    loaded = make_loaded(seed=3)
    requests = ask(*QUESTIONS, n=5)
    for params in (
        SamplingParams(30, 0.0),
        SamplingParams(30, 1.0, seed=7),
        SamplingParams(30, 0.8, top_p=0.9, seed=7),
    ):
        wide = run(loaded, requests, params, rows=64)
        for rows in (1, 3, 7):
            assert [c.token_ids for c in run(loaded, requests, params, rows=rows)] == [c.token_ids for c in wide]


def test_seeds_keys_and_samples_make_the_draws(make_loaded: Make) -> None:
    loaded = make_loaded()
    requests, params = ask(*QUESTIONS, n=4), SamplingParams(12, 1.0, seed=1)
    first = run(loaded, requests, params)
    assert [c.token_ids for c in first] == [c.token_ids for c in run(loaded, requests, params)]
    assert [c.token_ids for c in first] != [c.token_ids for c in run(loaded, requests, replace(params, seed=2))]
    assert len({c.token_ids for c in first[:4]}) == 4
    later = run(loaded, [replace(requests[0], n=2, first_sample=2)], params)  # continued work
    assert [c.token_ids for c in later] == [c.token_ids for c in first[2:4]]
    renamed = run(loaded, [replace(requests[0], key="other")], params)
    assert [c.token_ids for c in renamed] != [c.token_ids for c in first[:4]]


def test_frequencies_follow_the_softmax(make_loaded: Make) -> None:
    loaded = make_loaded(seed=1)
    n, temperature = 4000, 1.3
    got = run(loaded, ask("hi", n=n), SamplingParams(1, temperature, seed=5), rows=500)
    ids = torch.tensor([encode_prompt(loaded.tokenizer, [{"role": "user", "content": "hi"}])])
    with torch.no_grad():
        probs = (loaded.model(ids).logits[0, -1] / temperature).softmax(-1).double()
    counts = Counter(c.token_ids[0] for c in got)
    common = [i for i in range(len(probs)) if probs[i] * n >= 5]
    observed = [counts[i] for i in common]
    expected = [float(probs[i]) * n for i in common]
    rest = n - sum(observed), n - sum(expected)
    assert len(common) > 10
    assert chisquare([*observed, rest[0]], [*expected, rest[1]]).pvalue > 1e-3
    cold = (probs.log() * 1.3 / 1.2).softmax(-1)  # the test can fail: a temperature of 1.2 is not 1.3
    wrong = [float(cold[i]) * n for i in common]
    assert chisquare([*observed, rest[0]], [*wrong, n - sum(wrong)]).pvalue < 1e-3


def test_logprobs_are_those_of_a_plain_forward(make_loaded: Make) -> None:
    loaded = make_loaded("qwen3")
    for temperature, params in [(0.7, SamplingParams(20, 0.7, top_p=0.8, top_k=20)), (1.0, SamplingParams(20, 0.0))]:
        for question, completion in zip(QUESTIONS, run(loaded, ask(*QUESTIONS), params), strict=True):
            prompt = encode_prompt(loaded.tokenizer, [{"role": "user", "content": question}])
            with torch.no_grad():
                logits = loaded.model(torch.tensor([[*prompt, *completion.token_ids]])).logits[0, len(prompt) - 1 : -1]
            want = (logits / temperature).log_softmax(-1)[range(len(completion.token_ids)), list(completion.token_ids)]
            assert completion.logprobs == pytest.approx(want.tolist(), abs=1e-4)
            assert completion.n_tokens == len(completion.logprobs) == len(completion.token_ids)


@pytest.mark.parametrize(
    ("params", "kept"),
    [
        (SamplingParams(temperature=1.0), {0, 1, 2, 3}),
        (SamplingParams(temperature=1.0, top_k=2), {1, 3}),
        (SamplingParams(temperature=1.0, top_p=0.5), {3, 1}),  # .4 does not reach .5, .4 + .3 does
        (SamplingParams(temperature=1.0, top_p=0.39), {3}),
        (SamplingParams(temperature=1.0, min_p=0.5), {3, 1, 2}),  # at least half of .4
        (SamplingParams(temperature=1.0, top_k=3, top_p=0.8), {3, 1, 2}),  # .7 of .9 is not .8 yet
        (SamplingParams(temperature=1.0, top_k=3, top_p=0.75), {3, 1}),  # .7 of .9 is .78
        (SamplingParams(temperature=0.25, min_p=0.1), {3, 1}),  # .3/.4 to the fourth is .32, .2/.4 to the fourth .06
    ],
)
def test_filters(params: SamplingParams, kept: set[int]) -> None:
    """Probabilities .1 .3 .2 .4 (ids 0 to 3)."""
    grid = torch.arange(1000) / 1000
    logits = torch.tensor([0.1, 0.3, 0.2, 0.4]).log().expand(1000, 4)
    chosen, logprobs = choose(logits, params, grid)
    assert set(chosen.tolist()) == kept
    full = torch.tensor([0.1, 0.3, 0.2, 0.4]) ** (1 / params.temperature)
    share = {i: float(full[i] / sum(full[j] for j in kept)) for i in kept}
    assert {i: int((chosen == i).sum()) / 1000 for i in kept} == pytest.approx(share, abs=0.003)
    assert logprobs.exp().tolist() == pytest.approx((full / full.sum())[chosen].tolist(), abs=1e-5)


def test_top_p_over_a_large_vocabulary_sorts_only_what_it_needs() -> None:
    logits = torch.randn(8, 5000, generator=torch.Generator().manual_seed(0)) * 4
    uniforms = torch.rand(8, generator=torch.Generator().manual_seed(1))
    for mass in (0.5, 0.9, 0.999):  # within 64, within 1024, all
        chosen, _ = choose(logits, SamplingParams(temperature=1.0, top_p=mass), uniforms)
        for row in range(8):
            probs, order = logits[row].softmax(-1).double().sort(descending=True)
            kept = order[: int((probs.cumsum(0) < mass).sum()) + 1].sort().values
            mass_to = logits[row].softmax(-1).double()[kept].cumsum(0)
            assert chosen[row] == kept[int((mass_to <= uniforms[row] * mass_to[-1]).sum())]


def test_rows_that_end_leave_the_batch_and_do_not_disturb_the_others(make_loaded: Make) -> None:
    loaded = make_loaded(seed=2)
    got = run(loaded, ask(*QUESTIONS, n=20), SamplingParams(60, 1.5, seed=3))
    lengths = Counter(c.n_tokens for c in got)
    assert len(lengths) > 10
    for completion in got:
        assert completion.truncated == (completion.token_ids[-1] not in end_ids(loaded.tokenizer, loaded.model))
        assert all(token not in (2,) for token in completion.token_ids[:-1])
        body = completion.token_ids if completion.truncated else completion.token_ids[:-1]
        assert completion.text == loaded.tokenizer.decode(list(body))
    assert {True, False} == {c.truncated for c in got}


def test_max_tokens_and_stop_strings(make_loaded: Make) -> None:
    loaded = make_loaded()
    plain = run(loaded, ask("hi"), SamplingParams(40, 0.0))[0]
    short = run(loaded, ask("hi"), SamplingParams(5, 0.0))[0]
    assert short.token_ids == plain.token_ids[:5] and short.truncated and short.n_tokens == 5
    stop = plain.text[10:12]
    cut = run(loaded, ask("hi"), SamplingParams(40, 0.0, stop=("never seen", stop)))[0]
    assert cut.text == plain.text[: plain.text.index(stop)] and not cut.truncated
    assert cut.token_ids == plain.token_ids[: cut.n_tokens] and cut.n_tokens < plain.n_tokens
    assert loaded.tokenizer.decode(list(cut.token_ids)).endswith(stop)


def test_the_models_length_is_the_end(make_loaded: Make) -> None:
    loaded = make_loaded(max_position_embeddings=48)
    prompt = len(encode_prompt(loaded.tokenizer, [{"role": "user", "content": "hi"}]))
    got = run(loaded, ask("hi", "hi there"), SamplingParams(100, 0.0))
    assert got[0].truncated and got[0].n_tokens == 48 - prompt
    assert got[1].n_tokens <= 48 - prompt - len(" there")
    with pytest.raises(EngineError, match=r"toy-llama: the prompt of q0 takes \d+ of 48 token positions; show fewer"):
        run(loaded, ask("long " * 20), SamplingParams(4))


def test_one_prompt_that_is_too_long_fails_alone(make_loaded: Make) -> None:
    loaded = make_loaded(max_position_embeddings=48)
    requests = ask("hi", "long " * 20, "hi there", n=2)
    done = dict(LocalGenerator(loaded).generate(requests, SamplingParams(4, 1.0)))
    assert sorted(done) == [0, 1, 2] and not any(c.failure for i in (0, 2) for c in done[i])
    for completion in done[1]:
        assert (completion.text, completion.token_ids, completion.truncated, completion.lasting) == ("", (), True, True)
        assert completion.failure == "its prompt is longer than the 48 tokens that toy-llama can read"
    alone = [requests[0], requests[2]]  # the others' draws are not changed by it
    assert [done[0], done[2]] == [c for _, c in sorted(LocalGenerator(loaded).generate(alone, SamplingParams(4, 1.0)))]


def test_all_prompts_too_long_is_said_and_can_be_taken_as_failures(make_loaded: Make) -> None:
    generator = LocalGenerator(make_loaded(max_position_embeddings=48))
    requests = ask("long " * 20, "longer " * 20, n=3)
    with pytest.raises(
        TooLong, match=r"^model toy-llama: all 2 are too long, e.g. the prompt of q0 takes 1\d\d of 48 "
    ):
        list(generator.generate(requests, SamplingParams(4)))
    done = dict(sampled(generator, requests, SamplingParams(4)))
    assert [len(done[i]) for i in (0, 1)] == [3, 3] and all(c.lasting for i in done for c in done[i])
    assert list(sampled(generator, [], SamplingParams(4))) == []


def test_a_score_that_is_too_long_is_no_number(make_loaded: Make) -> None:
    generator = LocalGenerator(make_loaded(max_position_embeddings=48))
    short, long = [{"role": "user", "content": "hi"}], [{"role": "user", "content": "long " * 20}]
    found = generator.nll([(short, "ab"), (long, "ab"), (short, "cd")])
    assert math.isnan(found[1]) and [found[0], found[2]] == generator.nll([(short, "ab"), (short, "cd")])
    with pytest.raises(TooLong, match="a prompt with its completion takes"):
        generator.nll([(long, "ab")])


def test_results_come_as_chunks_finish(make_loaded: Make) -> None:
    generator = LocalGenerator(make_loaded(), 4)
    assert shares_prefix(generator.loaded.model, "auto")
    forwards = []
    generator.loaded.model.register_forward_hook(lambda *_: forwards.append(1))
    results = generator.generate(ask(*QUESTIONS, n=2), SamplingParams(3, 0.0))
    assert next(results)[0] in (0, 2)  # the shortest prompts
    assert len(forwards) == 3
    assert len(list(results)) == 4


def test_equal_prompts_are_computed_once(make_loaded: Make) -> None:
    loaded = make_loaded()
    assert shares_prefix(loaded.model, "auto")
    widths = []
    loaded.model.register_forward_pre_hook(
        lambda module, args, kwargs: widths.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    run(loaded, [*ask("hi", n=6), *ask("hi", n=2)], SamplingParams(2, 1.0))
    prompt = len(encode_prompt(loaded.tokenizer, [{"role": "user", "content": "hi"}]))
    assert widths == [(1, prompt), (8, 1)]


def test_nll_by_hand(make_loaded: Make) -> None:
    loaded = make_loaded(seed=4)
    pairs = [
        ([{"role": "user", "content": q}], text)
        for q, text in zip(QUESTIONS, ["4", "42", "", "fee = 9", "y"], strict=True)
    ]
    want = []
    for messages, text in pairs:
        prompt, completion = encode_prompt(loaded.tokenizer, messages), encode_completion(loaded.tokenizer, text)
        assert completion[-1] == 2
        with torch.no_grad():
            logprobs = loaded.model(torch.tensor([prompt + completion])).logits[0].log_softmax(-1)
        found = [float(logprobs[len(prompt) - 1 + j, token]) for j, token in enumerate(completion)]
        want.append(-sum(found) / len(found))
    assert LocalGenerator(loaded).nll(pairs) == pytest.approx(want, abs=1e-5)
    assert LocalGenerator(loaded, 2).nll(pairs) == pytest.approx(want, abs=1e-5)
    assert LocalGenerator(loaded).nll([]) == []


def test_nll_prefers_what_the_model_says(make_loaded: Make) -> None:
    loaded = make_loaded()
    own = run(loaded, ask("hi"), SamplingParams(20, 0.0))[0].text
    generator = LocalGenerator(loaded)
    mine, other = generator.nll([([{"role": "user", "content": "hi"}], text) for text in (own, own[::-1])])
    assert mine < other


def test_a_model_in_training_is_left_as_it_was(make_loaded: Make) -> None:
    loaded = make_loaded(attention_dropout=0.5)
    want = run(loaded, ask(*QUESTIONS), SamplingParams(20, 0.0))
    model = get_peft_model(loaded.model, LoraConfig(r=4, target_modules="all-linear", lora_dropout=0.5))
    model.gradient_checkpointing_enable()
    model.enable_input_require_grads()
    model.train()
    live = replace(loaded, model=model)
    got = run(live, ask(*QUESTIONS), SamplingParams(20, 0.0))  # a new adapter changes nothing
    assert [c.token_ids for c in got] == [c.token_ids for c in want]
    assert model.training and all(module.training for module in model.modules())
    assert any(getattr(module, "gradient_checkpointing", False) for module in model.modules())
    loss = model(input_ids=torch.tensor([[1, 5, 6]]), labels=torch.tensor([[1, 5, 6]])).loss
    loss.backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_the_live_adapter_is_what_is_sampled(make_loaded: Make) -> None:
    loaded = make_loaded()
    before = run(loaded, ask(*QUESTIONS), SamplingParams(20, 0.0))
    model = get_peft_model(loaded.model, LoraConfig(r=4, target_modules="all-linear"))
    generator = LocalGenerator(replace(loaded, model=model))
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    after = dict(generator.generate(ask(*QUESTIONS), SamplingParams(20, 0.0)))
    assert [after[i][0].token_ids for i in range(5)] != [c.token_ids for c in before]


def test_names_and_empty_work(make_loaded: Make) -> None:
    generator = LocalGenerator(make_loaded())
    assert generator.name == "hf:toy-llama"
    assert LocalGenerator(make_loaded(), name="policy").name == "policy"
    assert list(generator.generate([], SamplingParams())) == []
    assert list(generator.generate(ask("hi", n=0), SamplingParams())) == [(0, [])]


@pytest.mark.parametrize("shared", ["auto", "off"])
def test_waiting_rows_take_the_place_of_finished_ones(make_loaded: Make, shared: str) -> None:
    """Rows of many lengths through a batch of 5: the same tokens as alone, in fewer forwards where rows may join."""
    loaded = make_loaded(seed=3)
    requests, params = ask(*QUESTIONS, n=6), SamplingParams(60, 1.0, seed=4)
    alone = [run(loaded, [request], params, rows=1) for request in requests]
    generator = LocalGenerator(loaded, 5, shared=shared)
    steps: list[int] = []
    loaded.model.register_forward_pre_hook(
        lambda module, args, kwargs: steps.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    got = dict(generator.generate(requests, params))
    assert [[c.token_ids for c in got[i]] for i in range(5)] == [[c.token_ids for c in one] for one in alone]
    tokens = sum(c.n_tokens for one in alone for c in one)
    assert len({c.n_tokens for one in alone for c in one}) > 5
    decoding = sum(1 for width in steps if width == 1)
    assert decoding < (0.4 if shared == "auto" else 0.7) * tokens


def test_shared_and_plain_decoding_agree(make_loaded: Make) -> None:
    for architecture in ("llama", "qwen2", "qwen3", "gemma3_text"):
        loaded = make_loaded(architecture, seed=2)
        requests, params = ask(*QUESTIONS, n=3), SamplingParams(24, 1.0, seed=9)
        one = dict(LocalGenerator(loaded, shared="auto").generate(requests, params))
        two = dict(LocalGenerator(loaded, shared="off").generate(requests, params))
        assert [[c.token_ids for c in one[i]] for i in range(5)] == [[c.token_ids for c in two[i]] for i in range(5)]


def test_memory_bounds_the_batch(make_loaded: Make) -> None:
    """A token's keys and values: 2 * 2 layers * 2 heads * 8 * 4 bytes = 256; room for 100 tokens is one row of 64."""
    loaded = make_loaded()
    small = LocalGenerator(loaded, 64, kv_gib=100 * 256 / 2**30)
    assert small.kv_tokens() == 100
    assert shares_prefix(loaded.model, "auto")  # tried before rows are counted
    rows: list[int] = []
    loaded.model.register_forward_pre_hook(
        lambda module, args, kwargs: rows.append(kwargs["input_ids"].shape[0]), with_kwargs=True
    )
    params = SamplingParams(64, 1.0, seed=1)
    got = dict(small.generate(ask("hi", "a"), params))
    assert max(rows) == 1
    wide = dict(LocalGenerator(loaded).generate(ask("hi", "a"), params))
    assert max(rows) == 2
    assert [c.token_ids for c in got[0]] == [c.token_ids for c in wide[0]]


def test_a_group_that_does_not_fit_computes_its_prompt_once(make_loaded: Make) -> None:
    """12 samples through a batch of 5: they join in parts, and one forward sees the prompt."""
    loaded = make_loaded(seed=3)
    assert shares_prefix(loaded.model, "auto")
    params = SamplingParams(40, 1.0, seed=2)
    want = run(loaded, ask("What is 12 + 30?", n=12), params)
    widths: list[int] = []
    loaded.model.register_forward_pre_hook(
        lambda module, args, kwargs: widths.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    got = run(loaded, ask("What is 12 + 30?", n=12), params, rows=5)
    assert [c.token_ids for c in got] == [c.token_ids for c in want]
    assert len({c.n_tokens for c in want}) >= 3  # so that rows come and go
    assert sum(width > 1 for width in widths) == 1


# ---- going on after the beginning of an answer


def test_a_prefill_is_continued_as_the_model_would(make_loaded: Make) -> None:
    loaded = load_model("tiny-student")
    question = [{"role": "user", "content": "base 30, zone + 6, fragile + 7"}]
    params = SamplingParams(40, 0.0)
    whole = run(loaded, [GenRequest("w", question)], params)[0].text
    cut = whole.index("\n2.")
    rest = run(loaded, [GenRequest("r", question, n=2, prefill=whole[:cut])], params)
    assert [completion.text for completion in rest] == [whole[cut:]] * 2
    plain = run(make_loaded(), [GenRequest("p", question, prefill="")], params)
    assert plain == run(make_loaded(), [GenRequest("p", question)], params)


def test_nll_after_a_prefill_is_that_of_the_rest(make_loaded: Make) -> None:
    """Text split where tokens end: the whole's total is that of its two parts."""
    loaded = load_model("tiny-student")
    generator, messages = LocalGenerator(loaded), [{"role": "user", "content": "base 30, zone + 6"}]
    first, rest = "<think>\n1. base 30", "\n2. zone + 6 = 36\n</think>\n<answer>36</answer>"
    count = lambda text: len(loaded.tokenizer(text, add_special_tokens=False).input_ids)  # noqa: E731
    whole, after = generator.nll([(messages, first + rest), (messages, rest)], ["", first])
    tokens = count(first + rest) + 1
    head = plain_total(loaded, messages, first)
    assert whole * tokens == pytest.approx(head + after * (count(rest) + 1), abs=1e-3)


def plain_total(loaded: LoadedModel, messages: list[dict[str, str]], text: str) -> float:
    """Negative log-likelihood of a text by one plain forward pass."""
    prompt = encode_prompt(loaded.tokenizer, messages)
    ids = loaded.tokenizer(text, add_special_tokens=False).input_ids
    with torch.no_grad():
        logits = loaded.model(torch.tensor([[*prompt, *ids]])).logits[0].log_softmax(-1)
    return -sum(float(logits[len(prompt) - 1 + i, token]) for i, token in enumerate(ids))
