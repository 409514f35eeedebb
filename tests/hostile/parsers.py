"""Everything that reads text which somebody else wrote, as functions of one text.

MODEL: what reads models' output may not raise at all. Loaders: what reads users' files may raise RealmError, in a line.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hostile.corpus import lines, yaml_of
from realm_cli.artifacts import parse_row, read_rows
from realm_cli.domains import load_domain
from realm_cli.engines.programs import JsonlGenerator, well_formed
from realm_cli.engines.server_answers import NoCompletion, error_in, load_body, read_answer
from realm_cli.engines.server_errors import Again
from realm_cli.engines.server_params import refused_names
from realm_cli.engines.sources import resolve_model
from realm_cli.method import answers, bridge, contamination, guidance, leak, mrpv, rewards, validation
from realm_cli.method.parsing import parse_completion
from realm_cli.method.route_sets import SetOptions, build_sets
from realm_cli.method.steps import parse_route, step_facts
from realm_cli.method.thinking import one_think, with_opened_think, with_thought
from realm_cli.prompts import check_text, render_route, routed_messages, teacher_messages
from realm_cli.recipe import load_recipe
from realm_cli.records import Problem, Route, Row, ShownRoute

GOLDS = {
    "number": "1250.5", "label": "same state", "text": "Paris", "choice": "B",
}  # fmt: skip
PROBLEMS = [
    Problem(
        id=kind,
        question="What is 2 + 2?",
        answer=gold,
        answer_type=kind,
        choices=["cat", "dog"] * (kind == "choice") or None,
    )
    for kind, gold in GOLDS.items()
]
MANY = Problem(
    id="m", question="q", answer="B", answer_type="choice", choices=[f"choice number {i}" for i in range(100)]
)
EXPR = Problem(id="e", question="q", answer="\\frac{x+1}{2}", answer_type="expr")


def completion(text: str) -> None:
    for k, order in ((0, "verify_first"), (4, "verify_first"), (2, "solve_first")):
        parsed = parse_completion(text, k=k, order=order)  # type: ignore[arg-type]
        assert parsed.answer is None or len(parsed.answer) <= 1000


def route(text: str) -> None:
    steps, _ = parse_route(well_formed(text))
    assert len(steps) <= 12
    for extractor in ("auto", "number", "text"):
        step_facts(steps, text[:3000], extractor)
    shown = ShownRoute(route_id="r", steps=steps, answer="1", label=True)
    leak.route_features(shown, 0)


def final_answers(text: str) -> None:
    found = [answers.strict_answer(text), answers.flexible_answer(text), text, text[:900]]
    for problem in PROBLEMS:
        for answer in found:
            verdict = answers.is_correct(answer, problem)
            key = answers.answer_key(answer, problem)
            assert not verdict or key == answers.answer_key(problem.answer, problem)


def gold_answer(text: str) -> None:
    """A user's gold answer may be as odd as a model's."""
    text = well_formed(text)  # a row cannot hold half a surrogate pair
    if not text:
        return
    for kind in GOLDS:
        problem = Problem(id="p", question="q", answer=text[:5000], answer_type=kind, choices=[text[:50], "b"])
        answers.is_correct("1", problem)
        answers.answer_key(text[:5000], problem)


def scores(text: str) -> None:
    """A problem's routes, two of them with the text in them, through scoring, planting errors and the sets to show."""
    text, rng = well_formed(text), random.Random(0)
    bodies = ["1. 2 + 2 = 4\nAnswer: 4", "1. 2 + 2 = 4\n2. so 4\nAnswer: 4", "1. 2 + 2 = 5\nAnswer: 5"]
    problem = PROBLEMS[0].model_copy(update={"answer": "1e400" if len(text) % 2 else "4"})
    routes = []
    for i, body in enumerate([*bodies, text, f"2 + 2 = 4\n{text[:5000]}\nAnswer: 1e400"]):
        steps, answer = parse_route(body)
        right = answers.is_correct(answer, problem)
        routes.append(
            Route(id=str(i), problem_id="number", source="s", text="", steps=steps, final_answer=answer, correct=right)
        )
    scored = mrpv.score_routes(routes, problem)
    mrpv.evidence(scored)
    validation.planted(routes, problem, rng)
    build_sets(problem, scored, SetOptions(k=2), rng)


def rules(text: str) -> None:
    """The built-in domain's check of a teacher's text."""
    domain = load_domain("rulebook")
    assert domain.rule_check("Parcel: lamp, 7 kg, zone 2, express. Fee?", text) in ("pass", "fail")


def texts(text: str) -> None:
    answers.is_correct(text[:900], MANY)
    bridge.mentions_routes(text)
    guidance.leak_flags(text)
    contamination.word_runs(text)
    rewards.copy_penalty(text[:20000], [text[10:20000], "a b c"])


def prompts(text: str) -> None:
    """What stands in a prompt stands there as it was written."""
    text = well_formed(text)
    shown = [ShownRoute(route_id="r", steps=[text[:500]], answer=text[:50], label=True)] * 2
    messages = routed_messages(text, shown, style="full", order="verify_first")
    problem = Problem(id="p", question=text or "q", answer="1")
    messages += teacher_messages(problem, text, text, label="1")
    assert text in "\n".join(message["content"] for message in messages)
    render_route("A", shown[0])
    check_text([True], [None])


def thoughts(text: str) -> None:
    """A thought and an answer, with the text in both."""
    for cut in (0, len(text) // 2, len(text)):
        whole = with_thought(text[:cut], text[cut:], cut=cut == 0)
        assert one_think(whole) == one_think(one_think(whole)) and with_opened_think(whole) == whole
    one_think(f"<think>{text}</think><think>{text}", keep=False)


def server(text: str) -> None:
    """A server's body: the text itself, and in the fields that are read."""
    fields = {"content": text, "reasoning": [text], "refusal": None}
    whole = json.dumps({"choices": [{"delta": fields, "message": fields, "finish_reason": text[:9]}]})
    errors = [{"error": text}, {"detail": [{"loc": ["body", text], "msg": text}]}]
    for data in (whole, f"data: {whole}\n\n", well_formed(text), *map(json.dumps, errors)):
        try:
            value = load_body(data.encode())
            said = error_in(value)
            if said is None:
                read_answer(value)
            else:
                refused_names(said, ["seed", "max_tokens"])
                assert isinstance(said.passing, bool) and isinstance(said.filtered, bool)
        except (ValueError, Again, NoCompletion):
            pass


def expression(text: str) -> None:
    answers.is_correct(text[:1200], EXPR)


MODEL: dict[str, Callable[[str], None]] = {
    "completion": completion, "route": route, "answers": final_answers, "gold": gold_answer, "texts": texts,
    "prompts": prompts, "scores": scores, "rules": rules, "thoughts": thoughts, "server": server,
}  # fmt: skip


class Loaders:
    """Files with the text in them; one folder is written over and over."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.rng = folder, random.Random(seed)
        self.rows: list[type[Any]] = [kind for kind in _subclasses(Row) if kind.__module__.endswith("records")]

    def all(self) -> dict[str, Callable[[str], None]]:
        """Name -> loader."""
        return {
            "row": self.row,
            "file": self.file,
            "recipe": self.recipe,
            "set": self.override,
            "texts": self.texts,
            "model": self.model,
        }

    def row(self, text: str) -> None:
        parse_row(lines(text, self.rng), self.rng.choice(self.rows), "x.jsonl:1")

    def file(self, text: str) -> None:
        path = self.folder / "rows.jsonl"
        body = "\n".join(lines(text, self.rng) for _ in range(2))
        path.write_bytes(body.encode("utf-8", self.rng.choice(["surrogatepass", "replace"])))
        read_rows(path, self.rng.choice(self.rows))

    def recipe(self, text: str) -> None:
        path = self.folder / "recipe.yaml"
        path.write_bytes(yaml_of(text[:2000], self.rng).encode("utf-8", "surrogatepass"))
        load_recipe(path)

    def override(self, text: str) -> None:
        key = self.rng.choice(["train_rl.steps", "seed", "rollout.n", "train_rl", "data.problems", text[:50]])
        load_recipe(None, [f"{key}={text[:5000]}", text[:200]][: self.rng.randint(1, 2)])

    def texts(self, text: str) -> None:
        path = self.folder / "texts.jsonl"
        path.write_bytes(lines(text, self.rng).encode("utf-8", "surrogatepass"))
        JsonlGenerator(path)

    def model(self, text: str) -> None:
        resolve_model(self.rng.choice([text[:300], text[:20] + ".gguf", text[:20] + "/" + text[20:40]]))


def _subclasses(kind: type[Any]) -> list[type[Any]]:
    return [found for child in kind.__subclasses__() for found in (child, *_subclasses(child))]
