"""Built-in domains: a rule book, a problem generator, an oracle teacher and noisy solvers, all pure Python.

Usage: `load_domain("rulebook").generate(600, 200, 800, seed=0)`.
"""

from __future__ import annotations

from types import ModuleType

from realm_cli.errors import ConfigError


def load_domain(name: str) -> ModuleType:
    """The module of a built-in domain (its public names are those of `domains.rulebook`). ConfigError if unknown."""
    if name != "rulebook":
        raise ConfigError(f"data.domain: unknown built-in domain {name!r}; the only one is 'rulebook'")
    from realm_cli.domains import rulebook

    return rulebook
