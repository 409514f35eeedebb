"""A thought without its opening tag, and thoughts that come beside the text."""

from __future__ import annotations

import pytest

from realm_cli.method.parsing import parse_completion
from realm_cli.method.thinking import with_opened_think


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("2 + 3 = 5</think><answer>5</answer>", "<think>\n2 + 3 = 5</think><answer>5</answer>"),
        ("a</ THINK >b", "<think>\na</ THINK >b"),
        ("a</think>b<think>c</think>", "<think>\na</think>b<think>c</think>"),
        ("<think>a</think>b", "<think>a</think>b"),
        ("  <THINK>a</think>b</think>", "  <THINK>a</think>b</think>"),
        ("no tag", "no tag"),
        ("", ""),
        ("<answer>5</answer>", "<answer>5</answer>"),
    ],
)
def test_an_opening_tag_that_the_template_wrote_is_put_back_once(text: str, want: str) -> None:
    assert with_opened_think(text) == want
    assert with_opened_think(want) == want


def test_the_form_counts_then() -> None:
    parsed = parse_completion(with_opened_think("two and three\n</think>\n<answer>5</answer>"), k=0, min_think_words=3)
    assert parsed.ok and parsed.think == "two and three" and parsed.own_solution
