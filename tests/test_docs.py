"""Links in the Markdown files lead somewhere, and commands in them name commands and options that exist."""

from __future__ import annotations

import re
import shlex
from functools import lru_cache
from pathlib import Path

import pytest
from typer.main import get_command

from realm_cli.cli.app import app

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/**/*.md")])
PAGES += sorted((ROOT / "src" / "realm_cli" / "_scaffold").glob("*.md"))
_LINK = re.compile(r"!?\[[^\]\n]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"```.*?```", re.S)
_COMMAND = re.compile(
    r"^\s*(?:\$ )?((?:accelerate launch|torchrun)[^\n]*-m (?:-- )?)?realm(?:_cli)? ([a-z-]+)([^\n#]*)", re.M
)


def anchors(page: Path) -> set[str]:
    """As they are made of headings: lower case, punctuation dropped, spaces to dashes."""
    heads = re.findall(r"^#+ (.+)$", _FENCE.sub("", page.read_text(encoding="utf-8")), re.M)
    return {re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", head).lower()).strip().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in _LINK.findall(_FENCE.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        other = (page.parent / name).resolve() if name else page
        assert other.exists(), f"{page.name}: {target} leads nowhere"
        if anchor and other.suffix == ".md":
            assert anchor in anchors(other), f"{page.name}: {target} has no such heading"


@lru_cache
def options() -> dict[str, set[str]]:
    """The options of each command."""
    commands = get_command(app).commands  # type: ignore[attr-defined]
    return {
        name: {text for parameter in command.params for text in (*parameter.opts, *parameter.secondary_opts)}
        | {"--help"}
        for name, command in commands.items()
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_in_examples_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    for block in _FENCE.findall(text):
        for _, command, rest in _COMMAND.findall(block):
            assert command in options(), f"{page.name}: realm {command}"
            try:
                words = shlex.split(rest.replace("'", "\\'") if rest.count("'") % 2 else rest)
            except ValueError:
                words = rest.split()
            for word in words:
                if word.startswith("--") and word != "--":
                    name = word.partition("=")[0]
                    assert name in options()[command], f"{page.name}: realm {command} has no {name}"


def test_commands_are_found() -> None:
    blocks = [block for page in PAGES for block in _FENCE.findall(page.read_text(encoding="utf-8"))]
    assert sum(len(_COMMAND.findall(block)) for block in blocks) >= 40


def test_the_docs_are_all_named_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [page.name for page in ROOT.glob("docs/*.md") if page.name not in text] == []


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    sphinx = pytest.importorskip("sphinx.cmd.build")
    site = tmp_path / "site"
    code = sphinx.main(["-q", "-W", "--keep-going", "-b", "html", "-c", str(ROOT / "docs"), str(ROOT), str(site)])
    assert code == 0
    index = (site / "docs" / "index.html").read_text(encoding="utf-8")
    for page in ROOT.glob("docs/**/*.md"):
        name = page.relative_to(ROOT / "docs").with_suffix(".html").as_posix()
        assert (site / "docs" / name).exists()
        assert name == "index.html" or f'href="{name}"' in index, f"{page.name} is not in docs/index.md"
