"""Rule fade and rule questions: worked numbers and properties."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realm_cli.method.guidance import sample_mix
from realm_cli.method.rule_exposure import rule_fade, rule_question, rules_shown_at
from realm_cli.prompts import bare_messages, ruled_messages
from realm_cli.records import GuidedCoT, Message, Problem, SFTSample

RULES = "- heavy parcels cost 5 more"
PROBLEM = Problem(id="p", domain="d", split="train", question="What does it cost?", answer="9", answer_type="number")


def sample(i: int, kind: str = "guided") -> SFTSample:
    return SFTSample.model_validate(
        {"id": f"s{i}", "problem_id": "p", "kind": kind, "messages": bare_messages(PROBLEM.question), "completion": "x"}
    )


def ruled(_: SFTSample) -> list[Message]:
    return ruled_messages(PROBLEM.question, RULES)


def fade(samples: list[SFTSample], passes: int, share: float, seed: int = 0) -> list[SFTSample]:
    return rule_fade(samples, passes=passes, share=share, ruled=ruled, rng=random.Random(seed))


def shows(row: SFTSample) -> bool:
    return any(RULES in message["content"] for message in row.messages)


def test_the_chance_by_hand() -> None:
    assert [rules_shown_at(t, 0.3) for t in (0.0, 0.1, 0.5, 0.9)] == [0.3, pytest.approx(0.24), 0.0, 0.0]


def test_share_one_shows_them_at_once_and_never_in_the_second_half() -> None:
    rows = fade([sample(i) for i in range(400)], 2, 1.0)
    assert shows(rows[0]) and not any(map(shows, rows[400:]))
    first, second = sum(map(shows, rows[:200])), sum(map(shows, rows[200:400]))
    assert 130 < first < 170 and 30 < second < 70  # means 150 and 50 of 200


def test_other_kinds_never_show_rules() -> None:
    rows = fade([sample(i, kind) for i, kind in enumerate(("mrpv", "lemma", "replay", "rule_qa") * 20)], 1, 1.0)
    assert not any(map(shows, rows))


@given(st.integers(1, 12), st.integers(1, 4), st.floats(0, 1), st.integers(0, 5))
def test_every_pass_has_every_sample_once(n: int, passes: int, share: float, seed: int) -> None:
    rows = fade([sample(i) for i in range(n)], passes, share, seed)
    assert len({row.id for row in rows}) == len(rows) == n * passes
    for turn in range(passes):
        part = rows[turn * n : (turn + 1) * n]
        assert sorted(row.id.partition("@")[0] for row in part) == sorted(f"s{i}" for i in range(n))
        assert all(row.id.endswith(f"@{turn + 1}") == (turn > 0) for row in part)
    if share == 0:
        assert not any(map(shows, rows))


def test_a_rule_question_asks_for_the_next_step() -> None:
    steps = ["Heavy parcels cost 5 more: 4 + 5 = 9.", "9 is below the cap: 9."]
    cot = GuidedCoT(id="p/cot/0", problem_id="p", teacher="t", rules_shown=True, text="", steps=steps)
    found = {row.id: row for row in (rule_question(PROBLEM, cot, "full", random.Random(i)) for i in range(20))}
    assert sorted(found) == ["rule_qa/p/cot/0/1", "rule_qa/p/cot/0/2"]
    first, second = (found[key] for key in sorted(found))
    assert (first.kind, first.completion, second.completion) == ("rule_qa", *steps)
    assert steps[0] not in first.messages[-1]["content"] and f"1. {steps[0]}\n" in second.messages[-1]["content"]
    terse = rule_question(PROBLEM, cot, "terse", random.Random(1))
    assert terse.messages[0]["content"].endswith("[Next]")


def test_rule_questions_take_their_share_of_the_mix() -> None:
    guided, asked = [sample(i) for i in range(90)], [sample(100 + i, "rule_qa") for i in range(90)]
    rows = sample_mix(guided, [], [], [], [], asked, weights={"guided": 0.9, "rule_qa": 0.1}, rng=random.Random(0))
    assert sum(row.kind == "rule_qa" for row in rows) == 10
