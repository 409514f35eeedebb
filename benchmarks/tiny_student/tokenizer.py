"""The tiny student's tokenizer: byte-level BPE, lossless for any text, with one token per number 0..199 and step mark.

Usage: `build_tokenizer().encode("2. zone + 6 = 36")`
"""

from __future__ import annotations

from collections.abc import Iterator

import corpus
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

SPECIAL = ["<|pad|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"]
TAGS = ["<think>", "</think>", "<answer>", "</answer>", "<check>", "</check>", "[Check]", "[cut]", "[hidden]"]
TAGS += [f"[Route {name}]" for name in "ABCDEFGH"]
# A piece is: a step mark, a verdict line's name, the answer mark, a number, a word, a sign, or white space.
PIECES = r"\n\d{1,2}\.|\n[A-H]:|\nAnswer:| ?\d{1,3}| ?[A-Za-z]+| ?[^\sA-Za-z\d]|\s"
TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


def _pieces() -> Iterator[str]:
    words = [*corpus.OP_WORDS, *corpus.ITEMS, *corpus.NOUNS, *corpus.ASKS, *corpus.UNITS, *corpus.OTHER_WORDS]
    for word in words:
        yield from (f" {word}", word)
    for n in range(corpus.TOP + 1):
        yield from (f" {n}", str(n))
    yield from (f"\n{k}." for k in range(1, 13))
    yield from (f"\n{name}:" for name in "ABCDEFGH")
    yield from ("\nAnswer:", " +", " -", " x", " =", " @", " %", " *")


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Trained on the pieces themselves, so that each becomes one token; everything else falls back to bytes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=4000,
        min_frequency=1,
        special_tokens=SPECIAL,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_pieces(), trainer)
    tokenizer.add_tokens([AddedToken(tag, normalized=False) for tag in TAGS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",
        eos_token="<|end|>",
        additional_special_tokens=SPECIAL[2:],
        chat_template=TEMPLATE,
        model_max_length=1024,
        clean_up_tokenization_spaces=False,
    )
