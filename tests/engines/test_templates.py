"""Templates that open a thought, take thoughts out, or do not let the user's text through."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from engines.conftest import random_model
from engines.template_texts import (
    DATED,
    DEEPSEEK,
    ENDS,
    GEMMA,
    HEADLESS,
    PARTS,
    QWEN_HYBRID,
    QWEN_THINKING,
    THINKING,
    thinking_tokenizer,
)
from engines.toys import TEMPLATE, toy_tokenizer
from realm_cli.engines import templates
from realm_cli.engines.bridge_loss import bridge_rows, member_rows
from realm_cli.engines.chat import encode_chat, encode_completion, encode_prompt, end_ids, turn_end
from realm_cli.engines.loading import LoadedModel, load_model
from realm_cli.engines.sampler import LocalGenerator
from realm_cli.engines.sft_rows import IGNORED, encode_sample
from realm_cli.engines.templates import check_template, turn_of, use_arguments
from realm_cli.errors import ConfigError, EngineError
from realm_cli.prompts import bare_messages, lemma_text, routed_messages, solution_start, solution_text
from realm_cli.protocols import GenRequest, Member, SamplingParams
from realm_cli.records import Message, SFTSample, ShownRoute

ASKED: list[Message] = [{"role": "user", "content": "12 + 30 = ?"}]
SOLUTION = solution_text(["12 + 30 = 42"], "42")
ROUTE = ShownRoute(route_id="r", steps=["1 + 1 = 2"], answer="2", label=True)
KINDS = [pytest.param(name, id=name) for name in THINKING]


def plain_twin(name: str) -> Any:
    """The same template without the `<think>` at the end of its generation prompt."""
    text = THINKING[name]
    cut = text.rindex("<think>")
    return thinking_tokenizer(text[:cut] + text[cut:].replace("<think>\n", "").replace("<think>", ""))


def text_of(tokenizer: Any, ids: list[int] | tuple[int, ...]) -> str:
    return str(tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))


def sample(completion: str, loss_start: int = 0, messages: list[Message] | None = None) -> SFTSample:
    return SFTSample(
        id="s", kind="guided", problem_id="p", messages=messages or ASKED, completion=completion, loss_start=loss_start
    )


@pytest.mark.parametrize("name", KINDS)
def test_a_prompt_is_the_templates_own_and_holds_its_open_thought(name: str) -> None:
    tokenizer = thinking_tokenizer(THINKING[name])
    own = tokenizer.apply_chat_template(ASKED, tokenize=False, add_generation_prompt=True)
    assert text_of(tokenizer, encode_prompt(tokenizer, ASKED)) == own
    assert own.rstrip().endswith("<think>")
    assert turn_end(tokenizer) == tokenizer.convert_tokens_to_ids(ENDS[name])


@pytest.mark.parametrize("name", KINDS)
def test_a_fine_tuning_row_holds_its_thought_once_and_ends(name: str) -> None:
    tokenizer = thinking_tokenizer(THINKING[name])
    row = encode_sample(tokenizer, sample(SOLUTION))
    text = text_of(tokenizer, row.input_ids)
    assert text.count("<think>") == text.count("</think>") == 1
    assert text.endswith(f"12 + 30 = 42\n</think>\n<answer>42</answer>{ENDS[name]}")  # though the template drops it
    learned = [i for i in row.labels if i != IGNORED]
    assert "<think>" not in text_of(tokenizer, learned) and text_of(tokenizer, learned).startswith(("1. 12", "\n1. 12"))
    assert row.labels[-1] == turn_end(tokenizer)


@pytest.mark.parametrize("name", KINDS)
def test_ids_are_those_of_a_model_that_writes_the_tag_itself(name: str) -> None:
    """Who has written `<think>`, template or model: prompt and completion together are the same tokens."""
    opened, plain = thinking_tokenizer(THINKING[name]), plain_twin(name)
    wrong, start = lemma_text(["12 + 30 = 41"], 1, ["12 + 30 = 42"], "42")
    for text in (SOLUTION, wrong, "<think>\n</think>", "A step alone = 3", "<check>\nA: right\n</check>"):
        one, two = encode_chat(opened, ASKED, text), encode_chat(plain, ASKED, text)
        if name == "tight" and text.startswith("<think>"):
            assert len(one[0]) == len(two[0]) + 1
        assert [*one[0], *one[1]] == [*two[0], *two[1]]
        assert len(one[0]) > len(two[0]) or not text.startswith("<think>")
        rows = [encode_sample(tokenizer, sample(text)) for tokenizer in (opened, plain)]
        assert rows[0].input_ids == rows[1].input_ids
    masked = [encode_sample(tokenizer, sample(wrong, start)) for tokenizer in (opened, plain)]
    assert masked[0] == masked[1]  # the wrong step in front, `<think>` in it, is context in both
    assert text_of(opened, [i for i in masked[0].labels if i != IGNORED]).startswith("Wait, step 1 is wrong.")
    for prefill in ("<think>\n1. 12", "<check>\nA: right\n</check>\n"):
        assert encode_prompt(opened, ASKED, prefill) == encode_prompt(plain, ASKED, prefill)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("style", ["full", "terse"])
def test_a_prompt_that_asks_for_the_check_first_leaves_the_thought_closed(name: str, style: Any) -> None:
    tokenizer = thinking_tokenizer(THINKING[name])
    for order, closed in (("verify_first", True), ("solve_first", style == "terse")):
        messages = routed_messages("1 + 1 = ?", [ROUTE], style=style, order=order)  # type: ignore[arg-type]
        end = text_of(tokenizer, encode_prompt(tokenizer, messages))[-30:]
        assert end.rstrip().endswith("<think>") is not closed
    assert text_of(tokenizer, encode_prompt(tokenizer, bare_messages("1 + 1 = ?", style))).rstrip().endswith("<think>")


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("shared", ["auto", "off"])
def test_samples_get_the_tag_in_their_text_and_not_in_their_tokens(name: str, shared: str) -> None:
    tokenizer = thinking_tokenizer(THINKING[name])
    loaded = LoadedModel(random_model(vocab=len(tokenizer)), tokenizer, "toy")
    opener = "<think>" if name == "tight" else "<think>\n"
    routed = routed_messages("1 + 1 = ?", [ROUTE], style="terse")
    requests = [GenRequest("q", ASKED, n=6), GenRequest("r", routed, n=2), GenRequest("p", ASKED, prefill="<think>\na")]
    done = dict(LocalGenerator(loaded, shared=shared).generate(requests, SamplingParams(12, 1.0, seed=3)))
    ends = end_ids(tokenizer, loaded.model)
    for completion in done[0]:
        ids = [i for i in completion.token_ids if i not in ends]
        sampled = text_of(tokenizer, ids)
        again = sampled.lstrip().startswith("<think>")
        assert completion.text == (sampled if again else opener + sampled)
        assert completion.text.count("<think>") >= 1 and completion.n_tokens == len(completion.token_ids)
        if not again:  # and back to the same ids
            prompt, rest = encode_chat(tokenizer, ASKED, completion.text)
            assert prompt == encode_prompt(tokenizer, ASKED) and rest[: len(ids)] == ids
    for completion in (*done[1], *done[2]):
        assert completion.text == text_of(tokenizer, [i for i in completion.token_ids if i not in ends])


def test_scores_of_a_solution_leave_out_what_the_prompt_holds() -> None:
    opened, plain = thinking_tokenizer(QWEN_THINKING), plain_twin("qwen")
    model = random_model(vocab=len(opened))
    nll = [LocalGenerator(LoadedModel(model, t, "toy")).nll([(ASKED, SOLUTION)])[0] for t in (opened, plain)]
    tag = LocalGenerator(LoadedModel(model, plain, "toy")).nll([(ASKED, "<think>\n")])[0]
    assert nll[0] != nll[1] and tag > 0
    _, rest = encode_chat(opened, ASKED, SOLUTION)
    whole = encode_chat(plain, ASKED, SOLUTION)[1]
    assert len(whole) - len(rest) == 2  # <think> and the line break
    prefilled = [
        LocalGenerator(LoadedModel(model, t, "toy")).nll(
            [(ASKED, "42</answer>")], ["<think>\n1. a\n</think>\n<answer>"]
        )
        for t in (opened, plain)
    ]
    assert prefilled[0] == prefilled[1]


def test_bridge_and_members_are_the_same_sequences_as_without_an_opened_thought() -> None:
    from engines.toys import toy_plan, toy_score
    from realm_cli.protocols import Completion

    opened, plain = thinking_tokenizer(DEEPSEEK), plain_twin("deepseek")
    (row,) = toy_plan(1, 1, routed=lambda step, slot: True)
    score = toy_score(lambda text: float("42" in text), bridge=lambda text: SOLUTION)
    done = [Completion(f"<check>\n</check>\n{SOLUTION}", token_ids=(5,), logprobs=(-1.0,)), Completion("no")]
    before = f"{solution_start([])}"
    both = []
    for tokenizer in (opened, plain):
        rows = bridge_rows(tokenizer, [(row, score(row, done))], lambda problem: ASKED)
        rows += member_rows(
            tokenizer, lambda problem: ASKED, row,
            [Member(SOLUTION, 0, 0.5, whole=True), Member(solution_start(["1 = 2"]), len(before), -0.5, whole=False),
             Member(solution_start(["1 = 1", "1 = 2"]), len(solution_start(["1 = 1"])) + 1, -0.5, whole=False)],
        )  # fmt: skip
        both.append(rows)
    assert len(both[0]) == 4
    for ours, theirs in zip(*both, strict=True):
        assert (*ours.prompt_ids, *ours.completion_ids) == (*theirs.prompt_ids, *theirs.completion_ids)
        assert len(ours.prompt_ids) == len(theirs.prompt_ids) + 2
    lost = [[text_of(opened, row.completion_ids[row.start :]) for row in rows] for rows in both]
    # The opened thought is not learned, but by whom writes it; a wrong step is judged as such in both.
    assert [a == b for a, b in zip(*lost, strict=True)] == [False, False, True, True]
    assert lost[0][3] == "2. 1 = 2" and both[0][2].start == 0


def test_a_closed_thought_in_the_prompt_is_left_alone() -> None:
    tokenizer = thinking_tokenizer(QWEN_HYBRID)
    assert text_of(tokenizer, encode_prompt(tokenizer, ASKED)).endswith("<|im_start|>assistant\n")
    use_arguments(tokenizer, {"enable_thinking": False})
    prompt, rest = encode_chat(tokenizer, ASKED, SOLUTION)
    assert text_of(tokenizer, prompt).endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert text_of(tokenizer, rest) == f"{SOLUTION}<|im_end|>"
    use_arguments(tokenizer, {})
    assert text_of(tokenizer, encode_prompt(tokenizer, ASKED)).endswith("<|im_start|>assistant\n")


def test_a_think_tag_that_is_a_special_token_stays_in_prompts_and_rows() -> None:
    tokenizer = thinking_tokenizer(QWEN_THINKING)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<think>", "</think>"]})
    text = text_of(tokenizer, encode_sample(tokenizer, sample(SOLUTION, messages=bare_messages("q"))).input_ids)
    assert "\u200b" not in text and text.count("<think>") == 2  # in the form that is asked for, and in the answer


def test_a_question_that_ends_with_the_tag_opens_nothing() -> None:
    tokenizer = toy_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    asked: list[Message] = [{"role": "user", "content": "what is <think>"}]
    assert text_of(tokenizer, encode_prompt(tokenizer, asked)) == "what is <think>"


# --- what a template does to the user's text ------------------------------------------------------------------------


def folder_with(tmp_path: Path, template: str) -> str:
    tokenizer = toy_tokenizer()
    random_model(vocab=len(tokenizer)).save_pretrained(tmp_path / "m")
    tokenizer.chat_template = template
    tokenizer.save_pretrained(tmp_path / "m")
    return str(tmp_path / "m")


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{% for m in messages %}<s>{{ m['role'] }}</s>{% endfor %}", "leaves out what the user says"),
        ("{{ raise_exception('roles must alternate') }}", r"refuses a user's turn \(roles must alternate\)"),
        (
            "{% for m in messages %}<s>{{ m['content'].split('</think>')[-1] }}</s>{% endfor %}",
            "cuts a user's text at <think> or </think>, which our prompts hold",
        ),
        ("{% for m in messages %}{{ m.content | tojosn }}{% endfor %}", "refuses a user's turn"),
        ("{% for m in messages %}<s>{{ m['text'] }}</s>{% endfor %}", "leaves out what the user says"),
    ],
)
def test_a_template_that_loses_the_users_text_is_refused_on_loading(tmp_path: Path, template: str, said: str) -> None:
    name = folder_with(tmp_path, template)
    with pytest.raises(EngineError, match=rf"^model {name}: its chat template {said}.*; mend chat_template in"):
        load_model(name, device="cpu")


def test_content_in_parts_is_given_in_parts(tmp_path: Path) -> None:
    tokenizer = load_model(folder_with(tmp_path, PARTS), device="cpu").tokenizer
    messages: list[Message] = [{"role": "system", "content": "Be brief."}, *ASKED]
    as_strings = toy_tokenizer()
    assert encode_prompt(tokenizer, messages) == encode_prompt(as_strings, messages)
    assert encode_completion(tokenizer, "ab") == encode_completion(as_strings, "ab")
    assert turn_of(tokenizer).parts == {"system", "user", "assistant"}
    assert turn_of(tokenizer).marks == turn_of(as_strings).marks


def test_a_refused_system_turn_is_merged_and_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    name = folder_with(tmp_path, GEMMA)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            tokenizer = load_model(name, device="cpu").tokenizer
    assert caplog.messages == [
        f"model {name}: its chat template has no system turn; the system's text goes in front of the user's"
    ]
    messages: list[Message] = [{"role": "system", "content": "Be brief."}, *ASKED]
    assert text_of(tokenizer, encode_prompt(tokenizer, messages)) == "<s>user\nBe brief.\n\n12 + 30 = ?</s><s>model\n"


def test_a_template_that_drops_the_user_beside_a_system_turn_gets_one_turn() -> None:
    tokenizer = toy_tokenizer()
    tokenizer.chat_template = "<s>{{ messages[0]['content'] }}</s>{% if add_generation_prompt %}<s>{% endif %}"
    messages: list[Message] = [{"role": "system", "content": "Be brief."}, *ASKED]
    assert text_of(tokenizer, encode_prompt(tokenizer, messages)) == "<s>Be brief.\n\n12 + 30 = ?</s><s>"


def test_a_missing_generation_prompt_is_taken_from_the_turns(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    name = folder_with(tmp_path, HEADLESS)
    with caplog.at_level(logging.WARNING):
        tokenizer = load_model(name, device="cpu").tokenizer
    assert caplog.messages == [
        f"model {name}: its chat template writes no generation prompt; '<s>assistant\\n', as its own turns begin, "
        "is added"
    ]
    assert encode_prompt(tokenizer, ASKED) == encode_prompt(toy_tokenizer(), ASKED)
    assert encode_completion(tokenizer, "ab") == encode_completion(toy_tokenizer(), "ab")
    tokenizer.chat_template = (
        "{% for m in messages %}{{ 'USER: ' if m['role'] == 'user' else ' ASSISTANT: ' }}{{ m['content'] }}{% endfor %}"
    )
    prompt, rest = encode_chat(tokenizer, ASKED, "ab")
    assert text_of(tokenizer, prompt) == "USER: 12 + 30 = ? ASSISTANT:" and text_of(tokenizer, rest) == " ab</s>"


def test_todays_date_is_told_and_can_be_held(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    name = folder_with(tmp_path, DATED)
    with caplog.at_level(logging.WARNING):
        load_model(name, device="cpu")
    assert any(
        "writes today's date" in line and "student.template_args.strftime_now=" in line for line in caplog.messages
    )
    caplog.clear()
    for given in ({"strftime_now": "26 Jul 2024"}, {"date_string": "26 Jul 2024"}):
        with caplog.at_level(logging.WARNING):
            tokenizer = load_model(name, device="cpu", template_args=given).tokenizer
        assert "Today: 26 Jul 2024" in text_of(tokenizer, encode_prompt(tokenizer, ASKED))
        assert not any("date" in line for line in caplog.messages)


def test_template_arguments_that_nothing_reads_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = thinking_tokenizer(QWEN_HYBRID)
    use_arguments(tokenizer, {"enable_thinkng": False})
    with caplog.at_level(logging.WARNING):
        check_template(tokenizer, "a misspelt one")
    assert caplog.messages == [
        "model a misspelt one: its chat template does not read student.template_args.enable_thinkng; "
        "it reads: enable_thinking"
    ]
    for taken in ("tokenize", "add_generation_prompt", "messages", "continue_final_message"):
        with pytest.raises(ConfigError, match=rf"student.template_args.{taken}: not a template's own argument"):
            use_arguments(tokenizer, {taken: False})


def test_ordinary_templates_are_passed_without_a_word(caplog: pytest.LogCaptureFixture, tiny_student: Path) -> None:
    templates._say.cache_clear()
    with caplog.at_level(logging.WARNING):
        for template in (TEMPLATE, *THINKING.values(), QWEN_HYBRID):
            check_template(thinking_tokenizer(template), "m")
        load_model(str(tiny_student), device="cpu")
    assert caplog.messages == []
    assert json.loads((tiny_student / "config.json").read_text())["vocab_size"]
