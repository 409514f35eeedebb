"""realm report: one page, whole by itself, with what the run's files hold; tried in a browser where there is one."""

from __future__ import annotations

import html.parser
import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from cli.helpers import Realm, rows, write_rows

SMALL = ["--set", "eval.max_tokens=24", "--set", "eval.bootstrap=200"]
EVIL = '<script>document.title="owned"</script><img src=x onerror=alert(1)>\x1b[2J\u202e&lt;'


@pytest.fixture
def trained(world: Path, realm: Realm) -> Path:
    """The world's run with a distillation, two steps of RL and an evaluation; model text that attacks a page."""
    small = ["--set", "distill.sft.max_steps=2", "--set", "distill.limit=8", "--set", "data.domain=rulebook"]
    assert realm("distill", "--run", "r", *small, "--teacher", "oracle", "--rules", "d/rules.md").code == 0
    rl = {"steps": 2, "eaai_steps": 1, "groups_per_step": 2, "group_size": 2, "max_tokens": 32, "dev_limit": 4,
          "eval_every": 1, "preflight.groups": 0}  # fmt: skip
    pairs = [word for key, value in rl.items() for word in ("--set", f"train_rl.{key}={value}")]
    assert realm("train-rl", "--run", "r", *small, *pairs).code == 0
    adapters = ["--adapter", "distilled=r/distill/adapter", "--adapter", "rl=r/train_rl/adapter"]
    assert realm("eval", "--run", "r", *adapters, "--compare", *SMALL).code == 0
    path = Path("r/eval/predictions.jsonl")
    found = rows(path)
    for row in found[::3]:
        row["completion"] = EVIL
    write_rows(path, found)
    return world


class Page(html.parser.HTMLParser):
    """What a page would load, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            assert not name.startswith("on"), f"{tag} {name}"
            if name in ("src", "href", "xlink:href") and value and not value.startswith(("#", "data:,")):
                self.loads.append(value)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_page_with_everything_and_nothing_from_elsewhere(trained: Path, realm: Realm) -> None:
    result = realm("report", "r", "--json")
    assert result.code == 0, result.err
    card = realm("export", "--run", "r", "--out", "x")
    told = "cut off for their length, which count as wrong"
    assert card.code == 0 and told in Path("x/README.md").read_text(encoding="utf-8")
    (missing,) = json.loads(result.out)["missing"]
    assert "--reliance" in missing
    text = Path("r/report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.loads == [] and not {"script", "img", "iframe", "object"} & set(page.tags)
    assert "url(" not in text and "@import" not in text and "default-src 'none'" in text
    assert len(text.encode()) < 5_000_000 and "cut off at eval.max_tokens=24" in page.text
    assert "<script>document" not in text and "\x1b" not in text and "\u202e" not in text
    assert "<img src=x onerror" in page.text and "\\x1b[2J" in page.text  # shown as it was written
    heads = [re.sub(r"<.*?>", "", head) for head in re.findall(r"<h2.*?>(.*?)</h2>", text)]
    for head in ("What was trained", "Results", "Learning curves", "Routes, step by step", "Before and after", "Alarms",
                 "Manifest", "Limits"):  # fmt: skip
        assert any(head in found for found in heads), head
    report = json.loads(Path("r/eval/report.json").read_text())
    for row in (row for row in report["results"] if row["group"] == "all"):
        assert f"{100 * row['accuracy']:.1f} [{100 * row['low']:.1f}, {100 * row['high']:.1f}]" in page.text
    charts = re.findall(r"<svg.*?</svg>", text, re.S)
    assert len(charts) >= 3
    for chart in charts:
        root = ET.fromstring(chart)
        names = [element.tag.rpartition("}")[2] for element in root.iter()]
        assert "title" in names and "desc" in names and ("path" in names or "polyline" in names or "circle" in names)


def test_what_is_missing_is_said_with_its_command(world: Path, realm: Realm) -> None:
    result = realm("report", "r", "--out", "x.html")
    assert result.code == 0
    told = " ".join(result.out.split())
    assert "`realm eval --run r --compare` measures accuracy" in told and "`realm distill --run r`" in told
    text = Page(Path("x.html").read_text()).text
    assert "No evaluation yet" in text
    assert "solver:hasty" in text.partition("Models that wrote routes")[2][:200]
    assert "routes in a set" in text and "steps of RL" not in text  # what has not run has no settings


def test_the_lab_as_a_page(realm: Realm, tmp_path: Path, repo_root: Path) -> None:
    out = tmp_path / "lab.html"
    assert realm("report", "--lab", repo_root / "benchmarks/results/lab/runs.jsonl", "--out", out).code == 0
    page = Page(out.read_text(encoding="utf-8"))
    assert "realm_r1" in page.text and "Regime hard" in page.text and page.loads == []


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ([], "report: give a run folder, such as runs/demo, or --lab FILE"),
        (["r", "--lab", "x"], "report: give a run folder"),
        (["none"], "none: no such folder"),
        (["d"], "d: no stage has written here"),
        (["r", "--out", "d"], "d: is a folder; name a file"),
        (["r", "--out", "d/rules.md"], "d/rules.md: is no report of realm"),
        (["--lab", "none.jsonl", "--out", "x.html"], "test.json: not readable; --lab wants the lab's runs.jsonl"),
        (["--lab", "d/problems.jsonl"], "report: --lab needs --out FILE.html"),
    ],
)
def test_what_cannot_be_reported_is_one_line(args: list[str], says: str, world: Path, realm: Realm) -> None:
    result = realm("report", *args)
    assert result.code == 1 and says in result.err and len(result.lines) == 1


def chromium(page: Path, *options: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium on this machine")
    base = [program, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"]
    base += ["--disable-background-networking", "--disable-component-update", "--enable-logging=stderr", "--v=0"]
    base += [f"--user-data-dir={page.parent / 'profile'}", *options, page.resolve().as_uri()]
    return subprocess.run(base, capture_output=True, text=True, timeout=120, check=False)


def test_a_browser_shows_it_without_a_word(trained: Path, realm: Realm) -> None:
    assert realm("report", "r", "--out", "page.html").code == 0
    page = Path("page.html")
    done = chromium(page, "--dump-dom")
    assert "owned" not in re.findall(r"<title>(.*?)</title>", done.stdout)[0]
    assert "CONSOLE" not in done.stderr and "Refused" not in done.stderr
    done = chromium(page, "--window-size=1280,900", f"--screenshot={page.resolve().with_suffix('.png')}")
    assert page.with_suffix(".png").stat().st_size > 20_000
