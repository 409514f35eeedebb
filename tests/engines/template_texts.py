"""Chat templates that do what those of well-known models do, over the toy tokenizer's tokens."""

from __future__ import annotations

from typing import Any

from engines.toys import toy_tokenizer

# DeepSeek-R1 distills: no frame around a system text, thoughts of earlier turns taken out, the prompt opens a thought.
DEEPSEEK = (
    "{% set ns = namespace(system='') %}{% for m in messages %}{% if m['role'] == 'system' %}"
    "{% set ns.system = m['content'] %}{% endif %}{% endfor %}{{ bos_token }}{{ ns.system }}"
    "{% for m in messages %}{% if m['role'] == 'user' %}{{ '<|User|>' + m['content'] }}{% endif %}"
    "{% if m['role'] == 'assistant' %}{% set content = m['content'] %}{% if '</think>' in content %}"
    "{% set content = content.split('</think>')[-1] %}{% endif %}{{ '<|Assistant|>' + content + '<|eos|>' }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|Assistant|><think>\n' }}{% endif %}"
)
# Qwen3: the last assistant turn gets a thought, earlier ones lose theirs.
_QWEN = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}{% set content = m['content'] %}{% set thought = '' %}"
    "{% if '</think>' in content %}{% set thought = content.split('</think>')[0].split('<think>')[-1].strip('\n') %}"
    "{% set content = content.split('</think>')[-1].lstrip('\n') %}{% endif %}{{ '<|im_start|>assistant\n' }}"
    "{% if loop.last %}{{ '<think>\n' + thought + '\n</think>\n\n' }}{% endif %}{{ content + '<|im_end|>\n' }}"
    "{% else %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endif %}{% endfor %}"
)
QWEN_THINKING = _QWEN + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}"
QWEN_HYBRID = (
    _QWEN + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}"
    "{% endif %}{% endif %}"
)
# Opens a thought without a line break after it.
TIGHT = (
    "{% for m in messages %}<s>{{ m['role'] }}\n{{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n<think>{% endif %}"
)
# Asks for lists of parts, as templates of models do that also see images.
PARTS = (
    "{% for m in messages %}<s>{{ m['role'] }}\n{% for part in m['content'] %}{{ part.text }}{% endfor %}</s>"
    "{% endfor %}{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)
GEMMA = (  # refuses a system turn
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}<s>{{ m['role'] }}\n{{ m['content'] | trim }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>model\n{% endif %}"
)
HEADLESS = "{% for m in messages %}<s>{{ m['role'] }}\n{{ m['content'] }}</s>{% endfor %}"  # no generation prompt
DATED = (
    "{% if date_string is not defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
    "<s>system\nToday: {{ date_string }}</s>" + HEADLESS + "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)
THINKING = {"deepseek": DEEPSEEK, "qwen": QWEN_THINKING, "tight": TIGHT}
ENDS = {"deepseek": "<|eos|>", "qwen": "<|im_end|>", "tight": "</s>"}


def thinking_tokenizer(template: str) -> Any:
    """The toy tokenizer with <think> and </think> as one token each, and the frames' tokens as special ones."""
    tokenizer = toy_tokenizer(extra=["<think>", "</think>"])
    frames = ["<|User|>", "<|Assistant|>", "<|eos|>", "<|im_start|>", "<|im_end|>"]
    tokenizer.add_special_tokens({"additional_special_tokens": frames})
    tokenizer.chat_template = template
    return tokenizer
