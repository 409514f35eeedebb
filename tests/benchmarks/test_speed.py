"""The speed benchmark: its figures by hand, what is kept and what is measured again, and one tiny case for real."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts import load

cases, figures, run = load("speed", "cases", "figures", "run")


def _run(*seconds: float, peak: float = 2.0, **given: Any) -> dict[str, Any]:
    return {"seconds": list(seconds), "loaded_gib": 0.5, "peak_gib": peak, **given}


def _case(kind: str, ours: list[Any], peer: list[Any], name: str = "update-1200") -> dict[str, Any]:
    method = cases.METHOD.get(kind, 1)
    runs = {"ours": ours, "peer": peer}
    return {"kind": kind, "method": method, "options": cases.CASES[name][1], "model": "smollm2-135m", "runs": runs}


def test_medians_leave_out_the_first_training_step_of_each_process() -> None:
    ours = [_run(9, 2, 4), _run(8, 3, 100, peak=3.0)]
    peer = [_run(50, 14), _run(60, 10, peak=6.5)]
    assert figures.summary("update", {"ours": ours, "peer": peer}) == {
        "ours_seconds": 3.5,  # of 2, 4, 3, 100
        "ours_peak_gib": 3.0,
        "ours_work_gib": 2.5,
        "peer_seconds": 12.0,
        "peer_peak_gib": 6.5,
        "peer_work_gib": 6.0,
        "speedup": pytest.approx(12 / 3.5),
        "memory_share": pytest.approx(3 / 6.5),
        "work_share": pytest.approx(2.5 / 6),
    }


def test_sampling_counts_every_round_and_gives_tokens_per_second() -> None:
    found = figures.summary("sample", {"ours": [_run(4, 2, tokens=96), _run(3, tokens=96)]})
    assert (found["ours_seconds"], found["ours_tokens_per_second"]) == (3, 32)
    assert "speedup" not in found


def test_an_error_is_no_figure() -> None:
    runs = {"ours": [_run(1, 2)], "peer": [{"error": "exit 1: cannot run"}]}
    assert "peer_seconds" not in figures.summary("update", runs)
    data = {"cases": {"update-1200": _case("update", **runs)}}
    line = figures.lines(data, cases.BOUNDS, cases.METHOD)[0]
    assert (line.met, line.note) == (None, "peer: exit 1: cannot run")


@given(st.lists(st.floats(1e-3, 1e3), min_size=1), st.floats(0.1, 10))
def test_a_peer_k_times_slower_is_a_ratio_of_k(seconds: list[float], k: float) -> None:
    runs = {"ours": [_run(*seconds)], "peer": [_run(*(k * s for s in seconds))]}
    assert figures.summary("sample", runs)["speedup"] == pytest.approx(k)


def test_the_same_update_is_told_from_another() -> None:
    ours = _run(1, 1, losses=[-0.25, -0.25], grad_norms=[2.0, 2.0])
    near = _run(1, 1, losses=[-0.25, -0.250001], grad_norms=[2.0, 2.001])
    found = figures.agreement({"ours": [ours], "peer": [near]}, 1e-4)
    assert found is not None and found["same"] is True
    assert found["loss_difference"] == pytest.approx(1e-6)
    assert found["grad_norm_difference"] == pytest.approx(0.001 / 2.001)
    assert figures.agreement({"ours": [ours], "peer": [near]}, 0.5)["same"] is False
    other = _run(1, 1, losses=[-0.25, -0.5], grad_norms=[2.0, 2.0])
    assert figures.agreement({"ours": [ours], "peer": [other]})["same"] is False
    assert figures.agreement({"ours": [ours], "peer": [{"error": "exit 1"}]}) is None


def test_bounds_of_time_and_memory() -> None:
    data = {"cases": {"update-1200": _case("update", [_run(9, 10, peak=4.1)], [_run(9, 36, peak=10.0)])}}
    time, *_, memory = figures.lines(data, cases.BOUNDS, cases.METHOD)
    assert (time.ratio, time.bound, time.met) == (3.6, ">= 3.5", True)
    assert (memory.ratio, memory.bound, memory.met) == (pytest.approx(0.41), "<= 0.4", False)
    assert figures.cells(memory) == ["update-1200", "4.10 GiB", "10.00 GiB", "41 %", "<= 0.4", "NO"]


def test_bounds_without_figures_are_in_the_table() -> None:
    lines = figures.lines({"cases": {}}, cases.BOUNDS, cases.METHOD)
    assert [line.name for line in lines] == list(cases.BOUNDS)
    assert {(line.met, line.note) for line in lines} == {(None, "not measured")}
    assert figures.markdown(lines).splitlines()[2] == "| sample-70 |  |  |  | >= 1 | not measured |"


def test_figures_of_an_older_way_meet_no_bound() -> None:
    case = _case("step", [_run(1, 1)], [_run(9, 9)], "step-1200") | {"method": 1}
    line = figures.lines({"cases": {"step-1200": case}}, cases.BOUNDS, cases.METHOD)[0]
    assert (line.ratio, line.met, line.note) == (9, None, "measured another way")


def test_sides_alternate_and_what_is_there_is_kept() -> None:
    both = ("ours", "peer")
    assert figures.left_to_do(None, both, 2) == [(0, "ours"), (0, "peer"), (1, "ours"), (1, "peer")]
    cut = {"runs": {"ours": [1, 1], "peer": [1]}}
    assert figures.left_to_do(cut, both, 2) == [(1, "peer")]
    assert figures.left_to_do(cut, both, 3) == [(1, "peer"), (2, "ours"), (2, "peer")]


def test_other_sizes_models_or_ways_are_measured_from_the_start() -> None:
    case = _case("update", [], [])
    options = cases.CASES["update-1200"][1]
    assert not figures.stale(case, options, "smollm2-135m", 1)
    assert figures.stale(None, options, "smollm2-135m", 1)
    assert figures.stale(case, {**options, "response": 9}, "smollm2-135m", 1)
    assert figures.stale(case, options, "tiny-student", 1)
    assert figures.stale(case, options, "smollm2-135m", 2)


def test_exponents_and_curves() -> None:
    assert figures.exponent([(1, 3), (2, 12), (4, 48)]) == pytest.approx(2)
    assert figures.exponent([(2, 3), (2, 4)]) is None
    data: dict[str, Any] = {"cases": {}}
    for name, seconds in (("growth-P300", 2.0), ("update-600", 4.0), ("growth-G4", 3.0), ("update-1200-keep", 9.0)):
        data["cases"][name] = _case("update", [_run(9, seconds)], [_run(9, 2 * seconds)], name)
    of = figures.curve(data, "update", "prompt", cases.CURVES["update"], cases.DEFAULTS)
    assert of == {"ours": [(300, 2, 2), (600, 4, 2)], "peer": [(300, 4, 2), (600, 8, 2)]}
    of = figures.curve(data, "update", "completions", cases.CURVES["update"], cases.DEFAULTS)
    assert [x for x, _, _ in of["ours"]] == [4, 8]


def test_every_name_is_a_case_with_known_options() -> None:
    names = {name for group in (*cases.SECTIONS.values(), *cases.QUICK_SECTIONS.values()) for name in group}
    assert names | set(cases.BOUNDS) | set(cases.OURS_ALONE) <= set(cases.CASES)
    for name, (_, options, rounds) in cases.CASES.items():
        assert set(options) <= set(cases.DEFAULTS), name
        assert rounds >= 1
        assert set(cases.quick_options(name)) <= set(cases.DEFAULTS), name


def test_paths_of_the_machine_are_left_out() -> None:
    text = "FileNotFoundError: '/home/someone/x.y/model.json' is not there; 3/4 done"
    assert run.pathless(text) == "FileNotFoundError: 'model.json' is not there; 3/4 done"


def test_unknown_names_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run.main(["--only", "sampling,updates"])
    assert "--only updates: no such section or case; known: sampling, update, step" in capsys.readouterr().err


def test_weights_are_compared_from_files(tmp_path: Path) -> None:
    ours, peer = tmp_path / "ours", tmp_path / "peer"
    ours.write_bytes(run.array.array("f", [3.0, 4.5]).tobytes())
    assert run.difference({"ours": ours, "peer": peer}, None) is None
    peer.write_bytes(run.array.array("f", [3.0, 4.0]).tobytes())
    assert run.difference({"ours": ours, "peer": peer}, None) == pytest.approx(0.1)


def _answer(seconds: float) -> dict[str, Any]:
    return _run(9.0, seconds, losses=[0.0, 0.0], grad_norms=[1.0, 1.0])


def test_a_cut_run_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "speed.json"
    calls: list[tuple[str, str]] = []

    def one(kind: str, side: str, *rest: Any) -> dict[str, Any]:
        if len(calls) == 3:
            calls.append((kind, "cut"))
            raise KeyboardInterrupt
        calls.append((kind, side))
        return _answer(1.0 if side == "ours" else 3.0)

    monkeypatch.setattr(run, "one", one)
    words = ["--only", "update-70", "--out", str(out), "--no-plots"]
    assert run.main(words) == 130
    kept = json.loads(out.read_text())["cases"]["update-70"]["runs"]
    assert (len(kept["ours"]), len(kept["peer"])) == (2, 1)
    assert run.main(words) == 0
    assert [side for _, side in calls] == ["ours", "peer", "ours", "cut", "peer"]
    assert json.loads(out.read_text())["cases"]["update-70"]["summary"]["speedup"] == 3.0
    assert run.main(words) == 0
    assert len(calls) == 5  # nothing left to measure
    assert run.main([*words, "--again"]) == 0
    assert len(calls) == 9
    assert str(tmp_path) not in out.read_text()


def test_a_peer_out_of_memory_gets_half_of_the_rows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rows = []

    class Done:
        stdout = json.dumps({"seconds": [1, 1]})
        stderr = "RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory: tried 9 bytes"

        def __init__(self, words: list[str], **_: Any) -> None:
            rows.append(int(words[words.index("--peer-rows") + 1]))
            self.returncode = int(rows[-1] > 2)

    monkeypatch.setattr(run.subprocess, "run", Done)
    found = run.one("update", "peer", {"peer-rows": 8}, "tiny-student", tmp_path / "w")
    assert rows == [8, 4, 2]
    assert found["did_not_fit"] == 8  # what was tried first
    assert "--peer-rows 2" in found["command"]
    assert "error" in run.one("update", "ours", {"peer-rows": 8}, "tiny-student", tmp_path / "w")


def test_one_update_of_both_sides_for_real(tmp_path: Path) -> None:
    """The tiny student, 2 prompts of 20 tokens, 4 completions of 12: our step and TRL's come to the same weights."""
    out = tmp_path / "speed.json"
    assert run.main(["--quick", "--only", "update-70", "--out", str(out), "--no-plots"]) == 0
    case = json.loads(out.read_text())["cases"]["update-70"]
    assert case["agreement"]["same"] is True
    assert case["agreement"]["weights_difference"] < 1e-2
    assert case["agreement"]["loss_ours"] == pytest.approx([-0.25, -0.25], abs=1e-4)
    assert {"speedup", "memory_share"} <= set(case["summary"])


def test_sampling_of_our_side_for_real(tmp_path: Path) -> None:
    """What the update alone does not call: our sampler on prompts of exact lengths."""
    found = run.one("sample", "ours", run.quick_options("sample-mixed"), "tiny-student", tmp_path / "w")
    assert "error" not in found, found
    assert found["tokens"] == 2 * 4 * 12
