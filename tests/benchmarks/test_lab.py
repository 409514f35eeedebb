"""The lab: every arm is a valid series of commands, and the committed tables are those of the raw results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer.main

from realm_cli.cli.app import app
from realm_cli.recipe import load_recipe
from scripts import load

ROOT = Path(__file__).resolve().parents[2]
LAB = ROOT / "benchmarks" / "lab"


arms, run, compare, fresh, report = load("lab", "arms", "run", "compare", "fresh", "report")


@pytest.mark.parametrize("name", sorted(arms.ARMS))
def test_every_arm_is_a_series_of_real_commands(name: str) -> None:
    options = run.arguments(["--arms", name])
    commands = run.arm_commands(options, "hard", "0", name)
    assert commands[-1][0] == "eval"
    program = typer.main.get_command(app)
    for verb, *words in commands:
        context = program.commands[verb].make_context(verb, list(words))  # type: ignore[attr-defined]
        recipe = load_recipe(context.params["recipe"], context.params["set_"])
        assert (recipe.seed, recipe.engine.threads) == (0, 1)
        bridge = recipe.train_rl.bridge
        assert bridge.beta in (0, 40) and (bridge.all_right, bridge.drop_copied) == (1.0, False)  # as in all rows
        assert recipe.train_rl.steps == (380 if (name, verb) == ("grpo_more", "train-rl") else 300)
        assert not any(mark in word for word in words for mark in ("{base}", "{arm}", "{before}"))
    arm = arms.ARMS[name]
    assert arm.is_rl == (arm.adapter == arms.RL_OUT)
    assert ("{before}" in str(arm.commands)) == bool(arm.after)


def test_arms_that_others_go_on_from_come_first() -> None:
    todo = [("hard", "0", name) for name in ("cold", "r1_none", "rft_both", "r1_solve_first")]
    bases, *rest = run.waves(todo)
    assert bases == [("hard", "0", "base"), ("hard", "0", "base_solve_first")]
    assert [[job[2] for job in wave] for wave in rest] == [["rft_both", "cold", "r1_solve_first"], ["r1_none"]]
    _, *rest = run.waves([("hard", "0", "r1_round2")])
    assert [[job[2] for job in wave] for wave in rest] == [["rft_both"], ["realm_r1"], ["r1_round2"]]
    assert run.waves([]) == [[], []]


def test_what_the_hypotheses_compare_has_five_seeds() -> None:
    compared = {arm for _, parts in compare.HYPOTHESES.values() for *_, a, b, _ in parts for arm in (a, b)}
    assert compared | {report.ROUND} == set(arms.FIVE_SEEDS)
    assert run.usual_seeds("hard", "grpo") == ["0", "1", "2", "3", "4"]
    assert run.usual_seeds("open", "grpo") == run.usual_seeds("hard", "always") == ["0", "1", "2"]


def test_a_round_that_is_built_anew_has_a_row_of_its_own() -> None:
    row = {"regime": "hard", "seed": 0, "arm": "rft_both", "steps": 300, "sampled_tokens": {"rollout": 5, "rl": 7}}
    assert run.row_key(row) == ("hard", 0, "rft_both", 300, 5)
    assert len({run.row_key(one) for one in run.read(run.OUT)}) == len(run.read(run.OUT))


def test_bases_are_real_commands_too(tmp_path: Path) -> None:
    options = run.arguments(["--smoke", "--work", str(tmp_path / "lab")])
    program = typer.main.get_command(app)
    place = run.folder(options, "open", "3", "base_solve_first")
    place.mkdir(parents=True)
    verbs = []
    for verb, *words in run.base_commands(options, "open", "3", "base_solve_first"):
        context = program.commands[verb].make_context(verb, list(words))  # type: ignore[attr-defined]
        recipe = load_recipe(context.params["recipe"], context.params["set_"])
        assert (recipe.seed, recipe.prompt.order) == (3, "solve_first")
        verbs.append(verb)
    assert verbs == ["rollout", "verify", "distill"]
    rows = [json.loads(line) for line in (place / "external.jsonl").read_text().splitlines()]
    assert len(rows) == 184 * 4 * 2  # problems, solvers, texts each


def test_the_second_regime_has_right_routes_on_the_unseen_family(tmp_path: Path) -> None:
    from realm_cli.domains.rulebook import oracle_solution

    right = {}
    for regime in ("hard", "open"):
        place = tmp_path / regime
        place.mkdir()
        run.make_files(place, regime, 0, run.SMALL)
        problems = {p["id"]: p for p in map(json.loads, (place / "problems.jsonl").read_text().splitlines())}
        unseen = [r for r in map(json.loads, (place / "external.jsonl").read_text().splitlines())
                  if problems[r["problem_id"]]["group"] == "unseen"]  # fmt: skip
        right[regime] = sum(
            r["text"].split("Answer:")[-1]
            == oracle_solution(problems[r["problem_id"]]["question"]).split("Answer:")[-1]
            for r in unseen
        ) / len(unseen)
    assert right["hard"] == 0.0
    assert 0.3 < right["open"] < 0.7


def test_the_committed_tables_are_those_of_the_raw_results(capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main(["--check"]) == 0
    assert capsys.readouterr().err == ""


def test_rows_of_one_start_began_from_one_adapter() -> None:
    """A start is told by its seed and the tokens sampled for it: one dev accuracy at step 0, one digest where known."""
    dev: dict[tuple[object, ...], set[str]] = {}
    digests: dict[tuple[object, ...], set[str]] = {}
    for row in run.read(run.OUT):
        if (before := arms.ARMS[row["arm"]].after) and not row["arm"].endswith("_round2"):  # those have their own round
            key = (before, row["regime"], row["seed"], row["sampled_tokens"]["rollout"])
            dev.setdefault(key, set()).add(json.dumps(row["curve"][0][2], sort_keys=True))
            digests.setdefault(key, set()).update(filter(None, [row.get("start")]))
    assert len(dev) == 25
    assert {len(found) for found in dev.values()} == {1}
    assert {len(found) for found in digests.values()} <= {0, 1}


def test_differences_and_shares_by_hand(tmp_path: Path) -> None:
    """Four problems, two of them unseen: ReaLM-R1 right on three, grpo on one."""
    (tmp_path / "test.json").write_text(json.dumps({"a": "thin", "b": "combo", "c": "unseen", "d": "unseen"}))
    rows = [
        {"regime": "hard", "arm": arm, "seed": 0, "right": {"bare": bare, "routed": "1100"}, "plurality": "1000",
         "any": "1000", "verdicts": {"routed": 0.5}, "sampled_tokens": {"rollout": before, "rl": 10},
         "curve": [[0, 0, {"dev_bare": 0.1}], [5, tokens, {"dev_bare": 0.5}]]}
        for arm, bare, before, tokens in (("realm_r1", "1110", 20, 40), ("grpo", "1000", 0, 100))
    ]  # fmt: skip
    (tmp_path / "runs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lab = report.Lab(tmp_path)
    assert report.share(lab, "hard", "realm_r1", "bare", "unseen") == "50.0"
    assert (report.rescued(lab, "hard", "realm_r1"), report.autonomy(lab, "hard", "realm_r1")) == ("33.3", "150")
    assert lab.many("hard", "realm_r1", "bare", "thin+combo") == [{"a": 1.0, "b": 1.0}]
    mean, low, high, p = report.part(lab, "hard", "bare", "all", "realm_r1", "grpo")
    assert (mean, p) == (50.0, 0.5)  # two problems differ, both for ReaLM-R1
    assert low <= 50 <= high
    assert report.part(lab, "hard", "bare", "all", "realm_r1", "zero") is None
    assert report.part(lab, "hard", "routed/plurality", "all", "realm_r1", "realm_r1")[0] == 25.0
    assert report.tokens_to_reach(lab, "hard", "dev_bare") == "0.60"
    assert report.tokens_to_reach(lab, "hard", "dev_bare/unseen") is None
    assert list(report.pilot(lab))[2:] == [
        "| 6 | ReaLM-R1, no shown route right: share answered right | hard, routed | 1 run | 33.3 |"
    ]


def test_arms_from_one_start_are_compared_by_start(tmp_path: Path) -> None:
    """Two seeds, the second one with two starts, of which the bridge has one: only runs of one start are pairs."""
    (tmp_path / "test.json").write_text(json.dumps({"a": "thin", "b": "combo", "c": "unseen", "d": "unseen"}))

    def row(arm: str, seed: int, before: int, bare: str, dev: float | None) -> dict[str, object]:
        curve = [] if dev is None else [[0, 0, {"dev_bare": 0.5}], [9, 9, {"dev_bare": dev}]]
        return {"regime": "hard", "arm": arm, "seed": seed, "right": {"bare": bare, "routed": "1111"}, "curve": curve,
                "sampled_tokens": {"rollout": before, "rl": 1}}  # fmt: skip

    rows = [
        row("rft_both", 0, 10, "1100", None), row("rft_both", 1, 20, "0000", None),
        row("rft_both", 1, 21, "1111", None),
        row("realm_r1", 0, 10, "1110", 0.9), row("realm_r1", 1, 21, "1111", 0.6),
        row("r1_bridge", 0, 10, "1100", 0.4), row("r1_bridge", 1, 20, "0000", 0.5),
        row("r1_wrong", 0, 12, "1111", 0.9),
        row("rft_routed", 1, 30, "1000", None), row("rft_routed", 1, 31, "1111", None),
        row("rft_grpo", 1, 30, "1100", 0.9),
    ]  # fmt: skip
    (tmp_path / "runs.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    lab = report.Lab(tmp_path)
    assert report.shared_starts(lab, "hard", "realm_r1", "rft_both") == [(0, 10), (1, 21)]
    assert report.shared_starts(lab, "hard", "realm_r1", "r1_bridge") == [(0, 10)]
    assert report.shared_starts(lab, "hard", "realm_r1", "cold") == []
    assert report.shared_starts(lab, "hard", "rft_grpo", "rft_routed") == [(1, 30)]
    assert report.part(lab, "hard", "bare", "all", "rft_grpo", "rft_routed")[0] == 25.0  # of the round it began from
    assert report.part(lab, "hard", "bare", "all", "realm_r1", "r1_bridge")[0] == 25.0  # of seed 0 alone
    mean, low, high, _ = report.part(lab, "hard", "bare", "all", "realm_r1", "rft_both")
    assert mean == 12.5 and 0 <= low < mean < high <= 75
    assert report.part(lab, "hard", "bare", "all", "realm_r1", "r1_none") is None
    assert lab.many("hard", "rft_both", "bare", "thin") == [{"a": 1.0}, {"a": 0.5}]  # seed 1: the mean of its two
    table = list(report.changed(lab, "hard", "realm_r1", ["rft_both", "r1_bridge", "r1_none", "r1_wrong"]))
    assert [line.split(" | ")[:2] for line in table[3:]] == [
        ["| routed RFT and external positives", "2 starts"], ["| R1 with the bridge", "1 start"],
        ["| R1, wrong routes only", "1 seed"],
    ]  # fmt: skip
    assert table[3].endswith("| - | ReaLM-R1: 0 of 2 |")  # no adapter is kept that is below its start on dev
    assert table[4].endswith("| -40.0 (-40.0) | 1 of 1 |")  # the best of .5, the start, and .4
    assert table[5].split(" | ")[2].startswith("+25.0 [") and table[5].endswith("| - | - |")  # another start
    assert list(report.changed(lab, "hard", "r1_bridge", ["r1_bridge_none"])) == []
    (line,) = list(report.references(lab, "hard"))[3:]  # of one start too, though the round has a second one in seed 1
    assert line.startswith(f"| {arms.ARMS['rft_grpo'].about} | {arms.ARMS['rft_routed'].about} | 1 start | +25.0 [")
    assert [report.points(value) for value in (-0.04, 0.0, -2.5, 12.34)] == ["+0.0", "+0.0", "-2.5", "+12.3"]


def test_new_derivations_are_those_that_no_training_problem_has(tmp_path: Path) -> None:
    test = json.loads(run.OUT.with_name("test.json").read_text())
    new = fresh.new_derivations(test)
    assert list(new) == list(test) and all(group in (test[i], "known") for i, group in new.items())
    assert {group: list(new.values()).count(group) for group in ("covered", "thin", "combo", "unseen")} == {
        "covered": 21, "thin": 31, "combo": 135, "unseen": 46,
    }  # fmt: skip
    right = "".join("1" if group == "unseen" else "0" for group in new.values())
    rows = [
        {"regime": "hard", "arm": "realm_r1", "seed": 0, "right": {"bare": right}, "sampled_tokens": {"rollout": 0}}
    ]
    (tmp_path / "test.json").write_text(json.dumps(test))
    (tmp_path / "runs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = list(fresh.on_new(report.Lab(tmp_path), "hard", ["realm_r1"]))
    assert lines[1].endswith("| combo (135) | unseen (46) | ReaLM-R1 minus it, unseen |")
    assert lines[3].startswith("| ReaLM-R1 | 1 | 19.7 [") and lines[3].endswith("| 100.0 [92.3, 100.0] | - |")


def test_what_wrong_routes_hold_of_a_derivation() -> None:
    text = "1. base 46\n2. zone + 14 = 60\n3. cap 110 = 110\nAnswer: 110"
    assert fresh.operations(text) == {"base 46", "zone + 14", "cap 110"}
    (_, line) = fresh.shared_steps("hard")
    assert "stands in 75 % of the routes" in line and line.endswith("the whole derivation for 51 %.")


def test_every_arm_has_its_part_of_the_tables() -> None:
    parts = dict(report.parted(list(arms.ARMS)))
    assert list(parts) == list(report.PARTS)
    assert sorted(name for names in parts.values() for name in names) == sorted(arms.ARMS)
    baselines, changed, bridged, first = parts.values()
    assert {"realm_r1", "rft_both", "cold", "grpo", "always", "zero", "fade"} <= set(baselines)
    assert {"r1_grpo", "r1_none", "r1_wrong", "r1_round2"} <= set(changed)
    assert bridged[0] == "r1_bridge" and all(name.startswith("r1_bridge") for name in bridged)
    assert set(first) == set(report.REFERENCE)
    assert set(report.REFERENCE.values()) <= set(arms.ARMS)
