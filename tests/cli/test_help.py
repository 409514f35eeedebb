"""Help: an example for each command, nothing of torch in it."""

from __future__ import annotations

import shlex

import pytest

from cli.helpers import Realm

COMMANDS = [
    "doctor",
    "init",
    "import",
    "check",
    "plan",
    "distill",
    "rollout",
    "verify",
    "refine",
    "train-rl",
    "eval",
    "export",
    "ask",
    "merge",
    "show",
    "watch",
    "report",
    "verify-run",
    "domain",
    "demo",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example_and_no_library_noise(command: str, realm: Realm) -> None:
    result = realm(command, "--help")
    assert (result.code, result.err) == (0, "")
    assert f"Example: realm {command}" in result.out
    for word in ("torch", "Warning", "Traceback", "CUDA"):
        assert word not in result.out


@pytest.mark.parametrize("command", COMMANDS)
def test_examples_name_only_options_that_exist(command: str, realm: Realm) -> None:
    text = realm(command, "--help").out
    for line in text.splitlines():
        if "Example:" not in line:
            continue
        for word in shlex.split(line.split("Example:")[1]):
            if word.startswith("--"):
                assert text.count(word) >= 2, f"{word} stands in an example only"


@pytest.mark.parametrize("command", ["distill", "rollout", "verify", "train-rl", "eval"])
def test_stage_commands_share_their_options(command: str, realm: Realm) -> None:
    text = realm(command, "--help").out
    for option in ("--recipe", "--run", "--problems", "--set", "--resume", "--force", "--json"):
        assert option in text


def test_root_help_lists_the_commands_and_the_way_through_them(realm: Realm) -> None:
    result = realm("--help")
    assert (result.code, result.err) == (0, "")
    for command in COMMANDS:
        assert f"\n  {command} " in result.out
    assert "realm rollout -> verify -> distill -> refine -> train-rl -> eval" in " ".join(result.out.split())
    assert "realm demo" in result.out


def test_help_of_an_option_group_tells_defaults(realm: Realm) -> None:
    text = " ".join(realm("train-rl", "--help").out.split())
    assert "Default: 0.6 T." in text
    assert "asymptotic, linear, cosine, step, abrupt, none or zero" in text
