"""The leak probe: can a label be told from a route's form alone? (method.md section 6)

Logistic regression from what a reader sees besides content (position, length, number of steps, format) to the label,
held out by problem. An AUC near .5 means that form does not give the label away.
Usage: `auc = leak_auc(probe_rows(sets), seed=0)`.

Deviation 1: the source is left out of the figure that passes or fails, since no prompt shows it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from realm_cli.records import RouteSet, ShownRoute

MIN_ROWS = 40


def route_features(shown: ShownRoute, position: int, source: str | None = None) -> dict[str, float]:
    """Form of a route as shown; lengths in 100 characters, position from 0. Prompts never show the source: give it only
    to report apart how far the source alone tells the label."""
    text = "\n".join(shown.steps)
    features = {
        "position": float(position),
        "characters": len(text) / 100,
        "steps": float(len(shown.steps)),
        "longest": max((len(s) for s in shown.steps), default=0) / 100,
        "equals": float(text.count("=")) / max(1, len(shown.steps)),
        "ends_in_stop": float(text.endswith(".")),
        "capitals": sum(s[:1].isupper() for s in shown.steps) / max(1, len(shown.steps)),
        "currency": float(any(sign in text for sign in "$€£%")),
        "answer_characters": len(shown.answer or "") / 10,
    }
    return features | ({f"source={source}": 1.0} if source else {})


def probe_rows(sets: Sequence[RouteSet]) -> list[tuple[dict[str, float], bool, str]]:
    """Rows for `leak_auc`: routes of sets that show both labels, each feature relative to its set's mean.

    What a reader of one prompt can use is the difference between its routes; sets of one label have nothing to tell.
    """
    rows = []
    for route_set in sets:
        if len({shown.label for shown in route_set.shown}) == 2:
            features = [route_features(shown, position) for position, shown in enumerate(route_set.shown)]
            if route_set.answers_hidden:
                features = [{**f, "answer_characters": 0.0} for f in features]
            mean = {name: sum(f[name] for f in features) / len(features) for name in features[0]}
            for own, shown in zip(features, route_set.shown, strict=True):
                relative = {name: value - mean[name] for name, value in own.items()}
                rows.append((relative, shown.label, route_set.problem_id))
    return rows


def leak_auc(rows: Sequence[tuple[Mapping[str, float], bool, str]], seed: int) -> float:
    """Held-out AUC of (features, label, problem id) rows: the mean of two folds, split by problem.

    L2-penalised logistic regression on standardised features. 0.5 if a class is missing or with fewer than 40 rows.
    """
    import numpy as np
    from scipy.optimize import minimize
    from scipy.special import expit
    from scipy.stats import rankdata

    labels = np.array([label for _, label, _ in rows], dtype=float)
    if len(rows) < MIN_ROWS or labels.min() == labels.max():
        return 0.5
    names = sorted({name for features, _, _ in rows for name in features})
    x = np.array([[features.get(name, 0.0) for name in names] for features, _, _ in rows])
    x = (x - x.mean(0)) / np.where(x.std(0) > 0, x.std(0), 1.0)
    x = np.hstack([x, np.ones((len(rows), 1))])
    problems = sorted({problem for _, _, problem in rows})
    random.Random(seed).shuffle(problems)
    first = set(problems[::2])
    fold = np.array([problem in first for _, _, problem in rows])
    areas = []
    for held in (fold, ~fold):
        train_x, train_y = x[~held], labels[~held]
        test_y = labels[held]
        if not len(train_y) or not len(test_y) or test_y.min() == test_y.max() or train_y.min() == train_y.max():
            continue

        def loss(w, train_x=train_x, train_y=train_y):  # type: ignore[no-untyped-def]
            z = train_x @ w
            p = expit(z)
            value = np.logaddexp(0, z).sum() - train_y @ z + 0.5 * w @ w
            return value, train_x.T @ (p - train_y) + w

        weights = minimize(loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B").x
        ranks = rankdata(x[held] @ weights)
        n_pos, n_neg = test_y.sum(), len(test_y) - test_y.sum()
        areas.append((ranks[test_y == 1].sum() - n_pos * (n_pos + 1) / 2) / (n_pos * n_neg))
    return float(np.mean(areas)) if areas else 0.5
