"""Chat templates as token ids: prompt + completion is what the template renders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from peft import LoraConfig, get_peft_model
from transformers import AutoTokenizer

from engines.toys import toy_tokenizer
from realm_cli.engines.chat import encode_completion, encode_prompt, end_ids, turn_end
from realm_cli.engines.loading import LoadedModel
from realm_cli.errors import EngineError
from realm_cli.records import Message

Make = Callable[..., LoadedModel]
CHAT: list[Message] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "12 + 30 = ?"}]
TEXT = "<think>\n1. 12 + 30 = 42\n</think>\n<answer>42</answer>"
LLAMA2 = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system') }}"
    "{% elif m['role'] == 'user' %}<s>[INST] {{ m['content'] }} [/INST]{% else %} {{ m['content'] }} </s>{% endif %}"
    "{% endfor %}"
)
LLAMA3 = (
    "{% for m in messages %}<s>{{ m['role'] }}\n\n{{ m['content'] }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n\n{% endif %}"
)
SILENT = (  # leaves the system message out without a word
    "{% for m in messages %}{% if m['role'] != 'system' %}<s>{{ m['role'] }}\n{{ m['content'] }}</s>\n{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)
THINKING = (  # puts an empty thought before every assistant text, as Qwen3 does
    "{% for m in messages %}<s>{{ m['role'] }}\n{{ '<think>\n\n</think>\n\n' if m['role'] == 'assistant' else '' }}"
    "{{ m['content'] }}</s>{% endfor %}{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)


def with_template(template: str, *specials: str) -> Any:
    tokenizer = toy_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": list(specials)})
    tokenizer.chat_template = template
    return tokenizer


def rendered(tokenizer: Any, messages: list[Message], end: int) -> list[int]:
    """The template's own rendering of a chat that ends with TEXT, up to the end of turn."""
    text = tokenizer.apply_chat_template([*messages, {"role": "assistant", "content": TEXT}], tokenize=False)
    ids = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    return ids[: len(ids) - ids[::-1].index(end)]


@pytest.mark.parametrize(
    ("tokenizer", "end", "messages"),
    [
        (toy_tokenizer(), "</s>", CHAT),
        (with_template(LLAMA3, "<|eot_id|>"), "<|eot_id|>", CHAT),
        (with_template(LLAMA2), "</s>", CHAT[1:]),
        (with_template(SILENT), "</s>", CHAT[1:]),
    ],
    ids=["chatml", "llama3", "llama2", "silent"],
)
def test_prompt_and_completion_are_the_templates_rendering(tokenizer: Any, end: str, messages: list[Message]) -> None:
    last = tokenizer.convert_tokens_to_ids(end)
    assert turn_end(tokenizer) == last
    assert encode_prompt(tokenizer, messages) + encode_completion(tokenizer, TEXT) == rendered(
        tokenizer, messages, last
    )


def test_prompt_and_completion_of_the_tiny_student(tiny_student: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_student)
    assert encode_prompt(tokenizer, CHAT) + encode_completion(tokenizer, TEXT) == rendered(
        tokenizer, CHAT, turn_end(tokenizer)
    )
    assert turn_end(tokenizer) == tokenizer.eos_token_id
    assert tokenizer.decode(encode_completion(tokenizer, TEXT)[:-1]) == TEXT


def test_a_missing_system_role_joins_the_user() -> None:
    for template in (LLAMA2, SILENT):
        tokenizer = with_template(template)
        merged: list[Message] = [{"role": "user", "content": "Be brief.\n\n12 + 30 = ?"}]
        assert encode_prompt(tokenizer, CHAT) == encode_prompt(tokenizer, merged)
        assert "Be brief." in tokenizer.decode(encode_prompt(tokenizer, CHAT))
    assert CHAT[1]["content"] == "12 + 30 = ?"


def test_white_space_of_the_template_is_not_doubled() -> None:
    tokenizer = with_template(LLAMA2)  # "[/INST]" + " " + text + " " + "</s>"
    assert encode_completion(tokenizer, " ab") == encode_completion(tokenizer, "ab")
    assert tokenizer.decode(encode_completion(tokenizer, "ab")) == " ab </s>"


def test_completions_stay_as_sampled_where_the_template_rewrites_them() -> None:
    tokenizer = with_template(THINKING)
    assert tokenizer.decode(encode_completion(tokenizer, TEXT)) == f"{TEXT}</s>"


def test_prefill_begins_the_completion() -> None:
    for tokenizer in (toy_tokenizer(), with_template(LLAMA2)):
        whole = encode_prompt(tokenizer, CHAT[1:]) + encode_completion(tokenizer, "ab")
        started = encode_prompt(tokenizer, CHAT[1:], prefill="ab")
        assert whole[: len(started)] == started and len(started) > len(encode_prompt(tokenizer, CHAT[1:]))
    assert encode_completion(toy_tokenizer(), "") == [2]


def test_a_replaced_template_is_noticed() -> None:
    tokenizer = with_template(LLAMA3, "<|eot_id|>")
    assert turn_end(tokenizer) == tokenizer.convert_tokens_to_ids("<|eot_id|>")
    tokenizer.chat_template = SILENT
    assert turn_end(tokenizer) == 2


def test_templates_that_refuse_are_one_line() -> None:
    tokenizer = with_template("{{ raise_exception('roles must alternate') }}")
    with pytest.raises(EngineError, match=r"chat template: cannot render \['user'\] \(roles must alternate\)"):
        encode_prompt(tokenizer, CHAT[1:])


def test_end_ids_come_from_all_sources(make_loaded: Make) -> None:
    loaded = make_loaded()
    assert end_ids(loaded.tokenizer, loaded.model) == {2}
    loaded.model.generation_config.eos_token_id = [2, 7]
    assert end_ids(loaded.tokenizer, loaded.model) == {2, 7}
    assert end_ids(get_tokenizer_with("<|im_end|>", "<|endoftext|>")) == {2, 89, 90}
    peft = get_peft_model(loaded.model, LoraConfig(r=2, target_modules="all-linear"))
    assert end_ids(loaded.tokenizer, peft) == {2, 7}


def get_tokenizer_with(*specials: str) -> Any:
    tokenizer = with_template(SILENT, *specials)
    assert len(tokenizer) == 89 + len(specials)
    return tokenizer


def test_prompt_and_completion_of_smollm2(smollm2_dir: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(smollm2_dir)
    assert encode_prompt(tokenizer, CHAT) + encode_completion(tokenizer, TEXT) == rendered(tokenizer, CHAT, 2)
    assert tokenizer.decode(encode_completion(tokenizer, TEXT)) == f"{TEXT}<|im_end|>"
