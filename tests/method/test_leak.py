"""The leak probe can fail: it finds a leaky set and passes a clean one (acceptance point 5)."""

from __future__ import annotations

import random

import pytest

from realm_cli.method.leak import leak_auc, probe_rows, route_features
from realm_cli.records import RouteSet, ShownRoute


def shown(label: bool, length: int = 3, answer: str = "66", n: int = 0) -> ShownRoute:
    steps = [f"rule{k} + 5 = {10 * k}" for k in range(1, length + 1)]
    return ShownRoute(route_id=f"r{n}", steps=steps, answer=answer, label=label)


def sets(count: int, draw, **fields) -> list[RouteSet]:
    rows = []
    for i in range(count):
        routes = draw(i)
        rows.append(RouteSet(id=f"p{i}/set0", problem_id=f"p{i}", kind="balanced", shown=routes, **fields))
    return rows


def mixed(rng: random.Random, lengths) -> list[ShownRoute]:
    labels = [True, True, False, False]
    rng.shuffle(labels)
    return [shown(label, lengths(label)) for label in labels]


def test_features_by_hand() -> None:
    route = ShownRoute(route_id="r", steps=["Total is 4 + 5 = 9.", "so $9 it is."], answer="9", label=True)
    assert route_features(route, 2) == {
        "position": 2.0,
        "characters": 0.32,
        "steps": 2.0,
        "longest": 0.19,
        "equals": 0.5,
        "ends_in_stop": 1.0,
        "capitals": 0.5,
        "currency": 1.0,
        "answer_characters": 0.1,
    }
    assert route_features(route, 2, "hf:x") == route_features(route, 2) | {"source=hf:x": 1.0}
    empty = route_features(ShownRoute(route_id="r", steps=[], answer=None, label=True), 0)
    assert set(empty.values()) == {0.0}


def test_rows_are_relative_to_their_set_and_of_both_signs() -> None:
    both = sets(1, lambda i: [shown(True, 2), shown(False, 4)])
    rows = probe_rows([*both, *sets(1, lambda i: [shown(True), shown(True)])])
    assert [(label, problem) for _, label, problem in rows] == [(True, "p0"), (False, "p0")]
    assert [features["steps"] for features, _, _ in rows] == [-1.0, 1.0]
    assert [features["position"] for features, _, _ in rows] == [-0.5, 0.5]


def test_hidden_answers_tell_nothing() -> None:
    draw = [shown(True, answer="6"), shown(False, answer="six hundred")]
    visible, hidden = (probe_rows(sets(1, lambda i: draw, answers_hidden=flag)) for flag in (False, True))
    assert [f["answer_characters"] for f, _, _ in visible] == pytest.approx([-0.5, 0.5])
    assert [f["answer_characters"] for f, _, _ in hidden] == [0.0, 0.0]


def test_clean_and_leaky_sets() -> None:
    rng = random.Random(3)
    clean = probe_rows(sets(400, lambda i: mixed(rng, lambda label: rng.randint(3, 6))))
    assert leak_auc(clean, seed=0) <= 0.55
    leaky = probe_rows(sets(400, lambda i: mixed(rng, lambda label: rng.randint(3, 6) - 2 * label)))
    assert leak_auc(leaky, seed=0) > 0.7


def test_a_leak_by_position_and_by_source() -> None:
    first = sets(100, lambda i: [shown(True), shown(False), shown(False), shown(False)])
    assert leak_auc(probe_rows(first), seed=0) > 0.9
    rng = random.Random(1)
    rows = []
    for i in range(200):
        label = rng.random() < 0.5
        source = "strong" if label == (rng.random() < 0.8) else "weak"
        rows.append((route_features(shown(label, rng.randint(3, 6)), rng.randrange(4), source), label, f"p{i}"))
    without = [({k: v for k, v in f.items() if not k.startswith("source=")}, z, p) for f, z, p in rows]
    assert leak_auc(rows, seed=0) > 0.7
    assert abs(leak_auc(without, seed=0) - 0.5) < 0.1


def test_the_probe_is_held_out_by_problem() -> None:
    rng = random.Random(5)
    rows = []
    for i in range(60):  # each problem has its own marker that gives its labels away, worthless on other problems
        label = rng.random() < 0.5
        rows += [({f"marker{i}": 1.0, "noise": rng.random()}, label, f"p{i}") for _ in range(4)]
    assert abs(leak_auc(rows, seed=0) - 0.5) < 0.15


def test_too_little_to_tell() -> None:
    row = ({"steps": 1.0}, True, "p")
    assert leak_auc([], seed=0) == 0.5
    assert leak_auc([row] * 100, seed=0) == 0.5
    assert leak_auc([({"steps": float(i % 2)}, i % 2 == 0, f"p{i}") for i in range(39)], seed=0) == 0.5
    assert leak_auc([({"steps": float(i % 2)}, i % 2 == 0, f"p{i}") for i in range(40)], seed=0) == 1.0
    assert leak_auc([({"steps": float(i % 2)}, i % 2 == 0, "p0") for i in range(80)], seed=0) == 0.5  # one fold only


def test_the_same_seed_gives_the_same_number() -> None:
    rng = random.Random(9)
    rows = probe_rows(sets(60, lambda i: mixed(rng, lambda label: rng.randint(3, 6))))
    assert leak_auc(rows, seed=4) == leak_auc(rows, seed=4)
    assert leak_auc(rows, seed=4) != leak_auc(rows, seed=5)
