"""realm export and realm ask on a run."""

from __future__ import annotations

import io
import json
import re
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from cli.helpers import Realm
from realm_cli.engines import export
from realm_cli.engines.export import Check


@pytest.fixture
def trained(world: Path, realm: Realm) -> Path:
    """The world's run with an adapter and an evaluation of it."""
    words = [
        "--run",
        "r",
        "--set",
        "data.domain=rulebook",
        "--set",
        "distill.sft.max_steps=2",
        "--set",
        "distill.limit=8",
    ]
    assert realm("distill", *words, "--teacher", "oracle", "--rules", "d/rules.md").code == 0
    small = ["--set", "eval.max_tokens=24", "--set", "eval.bootstrap=200"]
    assert realm("eval", "--run", "r", "--adapter", "distilled=r/distill/adapter", *small).code == 0
    return world


def test_an_adapter_with_its_card(trained: Path, realm: Realm) -> None:
    result = realm("export", "--run", "r", "--out", "out")
    assert result.code == 0, result.err
    names = {path.name for path in Path("out").iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json", "README.md", "realm-export.json"} <= names
    assert (
        Path("out/adapter_model.safetensors").read_bytes()
        == Path("r/distill/adapter/adapter_model.safetensors").read_bytes()
    )
    card = Path("out/README.md").read_text().replace("\\", "")
    report = json.loads(Path("r/eval/report.json").read_text())
    for row in (row for row in report["results"] if row["group"] == "all"):
        assert f"{100 * row['accuracy']:.1f} [{100 * row['low']:.1f}, {100 * row['high']:.1f}]" in card
    assert 'base_model: "tiny-student"' in card and "| distill.sft.lr |" in card and "license: fill in" in card
    assert "guided.jsonl: 8 rows" in card
    again = realm("export", "--run", "r", "--out", "out")
    assert again.code == 1 and "out: exists; add --force to replace it" in again.err
    assert realm("export", "--run", "r", "--out", "out", "--force").code == 0
    other = realm("export", "--run", "r", "--out", "d", "--force")
    assert other.code == 1 and "d: exists and is no export" in other.err and Path("d/rules.md").exists()


def test_results_in_the_harnesss_shape(trained: Path, realm: Realm) -> None:
    assert realm("export", "--run", "r", "--out", "res", "--format", "lm-eval").code == 0
    report = json.loads(Path("r/eval/report.json").read_text())
    for row in (row for row in report["results"] if row["group"] == "all"):
        (path,) = Path("res", row["model"]).glob("results_*.json")
        task = json.loads(path.read_text())["results"][f"realm_rulebook_{row['mode']}"]
        assert task["exact_match,strict-match"] == pytest.approx(row["accuracy"])


def test_the_cards_code_loads_a_merged_model(trained: Path, realm: Realm, capsys: pytest.CaptureFixture[str]) -> None:
    result = realm("export", "--run", "r", "--out", "out", "--format", "merged", "--dtype", "float32", "--json")
    assert result.code == 0, result.err
    data = json.loads(result.out)
    assert data["check"] == "PASS" and data["same"] == 1.0 and data["gap"] < 1e-5
    card = Path("out/README.md").read_text()
    assert "PASS: 100% of 14 greedy answers are those of base + adapter" in card  # dev and test problems of the world
    (code,) = re.findall(r"```python\n(.*?)```", card, re.S)
    torch.manual_seed(0)
    exec(code.replace("max_new_tokens=512", "max_new_tokens=4"), {})
    assert "..." in capsys.readouterr().out


def test_the_cards_code_loads_an_adapter(trained: Path, realm: Realm, capsys: pytest.CaptureFixture[str]) -> None:
    assert realm("export", "--run", "r", "--out", "out").code == 0
    (code,) = re.findall(r"```python\n(.*?)```", Path("out/README.md").read_text(), re.S)
    exec(code.replace("max_new_tokens=512", "max_new_tokens=4"), {})
    assert "..." in capsys.readouterr().out


def test_another_adapter_gets_its_own_files_and_nobodys_results(trained: Path, realm: Realm) -> None:
    own = Path("r/distill/adapter")
    shutil.copytree(own, "other")
    weights = load_file("other/adapter_model.safetensors")
    save_file({name: x + 1 for name, x in weights.items()}, "other/adapter_model.safetensors", {"format": "pt"})
    Path("other/training_args.bin").write_bytes(b"a pickle")
    Path("other/.env").write_text("KEY=1")
    Path("other/vocab.json").symlink_to(Path("d/rules.md").resolve())
    assert realm("export", "--run", "r", "--out", "o", "--adapter", "other").code == 0
    kept = {path.name for path in own.iterdir()} - {"README.md"}
    assert {path.name for path in Path("o").iterdir()} == {*kept, "README.md", "realm-export.json"}
    card = Path("o/README.md").read_text()
    assert "Not measured: `realm eval` has not been run on this adapter." in card and "| distilled |" not in card


def test_a_merge_that_differs_leaves_nothing(trained: Path, realm: Realm, monkeypatch: pytest.MonkeyPatch) -> None:
    def differs(model: str, adapter: Path, folder: Path, prompts: object, **options: object) -> tuple[Check, None]:
        folder.mkdir()
        return Check(32, 0.25, 0.5, 0.95, 1e-3), None

    monkeypatch.setattr(export, "export_merged", differs)
    before = {path.name for path in Path().iterdir()}
    result = realm("export", "--run", "r", "--out", "out", "--format", "merged", "--dtype", "float32")
    assert (
        result.code == 1 and "out: not written, the merged model is not base + adapter: 25% of 32 greedy" in result.err
    )
    assert {path.name for path in Path().iterdir()} == before


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (
            ["export", "--run", "r", "--out", "o", "--format", "x"],
            "--format x: unknown; choose one of adapter, merged, gguf, lm-eval",
        ),
        (["export", "--run", "r", "--out", "o", "--dtype", "x"], "--dtype x: unknown; choose one of float32, bfloat16"),
        (["export", "--run", "r", "--out", "o", "--format", "lm-eval"], "r/eval: no finished evaluation"),
        (["export", "--run", "r", "--out", "d", "--format", "lm-eval"], "d: exists; add --force"),
        (["export", "--run", "r", "--out", "o"], "r: no adapter; train one"),
        (["export", "--run", "r", "--out", "o", "--adapter", "d"], "d: no adapter; train one"),
        (["ask", "--run", "r", "x"], "r: no adapter; train one"),
        (["ask", "--run", "r", " "], "ask: no question"),
        (["ask", "--run", "r", "x", "--n", "2"], "2 answers at temperature 0 are the same"),
    ],
)
def test_what_is_missing_is_told(args: list[str], says: str, world: Path, realm: Realm) -> None:
    result = realm(*args)
    assert result.code == 1 and says in result.err and len(result.lines) == 1 and not Path("o").exists()


def test_base_and_adapter_answer_side_by_side(trained: Path, realm: Realm, monkeypatch: pytest.MonkeyPatch) -> None:
    question = "Parcel: vase, 6 kg, zone 2, fragile. Fee?"
    result = realm("ask", "--run", "r", question, "--max-tokens", "24")
    assert result.code == 0, result.err
    assert "--- tiny-student alone (" in result.out and "--- with r/distill/adapter (" in result.out
    assert result.out.count("answer: ") == 2
    short = realm(
        "ask", "--run", "r", question, "--set", "eval.max_tokens=2", "--json"
    )  # as eval counts: cut off, wrong
    assert [(row["answer"], row["truncated"]) for row in json.loads(short.out)["answers"]] == [(None, True)] * 2
    cut = realm("ask", "--run", "r", question, "--max-tokens", "2")
    assert cut.out.count("answer: none (cut off: --max-tokens gives more room)") == 2
    monkeypatch.setattr(sys, "stdin", io.StringIO(question))
    data = json.loads(realm("ask", "--run", "r", "--max-tokens", "24", "--json").out)
    assert [row["model"] for row in data["answers"]] == ["base", "adapter"]
    many = realm("ask", "--run", "r", question, "--n", "2", "--temperature", "0.7", "--max-tokens", "8", "--json")
    assert len(json.loads(many.out)["answers"]) == 4
