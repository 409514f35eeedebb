"""What servers may be asked for in one command, however many models and threads ask: requests and tokens.

Usage: `budget = Budget(recipe.engine.server)`; `budget.take(name)` before each request, `budget.count(15)` after.
"""

from __future__ import annotations

import threading

from realm_cli.errors import EngineError
from realm_cli.recipe import ServerConfig


class Budget:
    """Counts what has been spent. Shared by the generators of a command and by their threads."""

    def __init__(self, server: ServerConfig) -> None:
        self.server = server
        self.requests = self.tokens = 0
        self._lock = threading.Lock()

    def take(self, name: str) -> None:
        """Count a request of the model `name`. EngineError where the budget is spent."""
        most, tokens = self.server.max_requests, self.server.max_tokens
        with self._lock:
            spent = ""
            if most is not None and self.requests >= most:
                spent = f"the budget of {most} requests (engine.server.max_requests) is spent"
            elif tokens is not None and self.tokens >= tokens:
                spent = f"the budget of {tokens} tokens (engine.server.max_tokens) is spent, {self.tokens} in all"
            if spent:
                raise EngineError(f"{name}: {spent}; raise it and rerun with --resume")
            self.requests += 1

    def count(self, tokens: int) -> None:
        """Add an answer's tokens, its prompt included."""
        with self._lock:
            self.tokens += tokens
