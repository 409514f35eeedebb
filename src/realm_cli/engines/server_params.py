"""Parameters that a server refuses: found in its words, told once, left out or renamed from then on by all threads.

A refusal is one of the parameter (`Unsupported parameter: 'seed'`, `Extra inputs are not permitted`, `only the default
is supported`), not one of its value (`max_tokens is too large`): that stays an error, and so does a refusal of
what the user asked for in `engine.server.extra`.

Usage: `sent = parameters.body(wanted)`; after an error: `if parameters.learn(said, sent): ...send again`
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Mapping
from typing import Any

from realm_cli.engines.server_errors import Said
from realm_cli.errors import EngineError
from realm_cli.recipe import ServerConfig

log = logging.getLogger(__name__)
STATUSES = (0, 400, 422, 500, 501)  # that a refusal comes with; 0: none in an error of status 200
RENAMED = {"max_tokens": "max_completion_tokens"}
WITHOUT = {
    "max_tokens": "answers end where the server ends them",
    "temperature": "samples are drawn at the server's own temperature, and where that is 0 they are alike",
    "top_p": "samples are drawn with the server's own top_p",
    "top_k": "samples are drawn with the server's own top_k",
    "min_p": "samples are drawn with the server's own min_p",
    "seed": "samples are others in every run, whatever the seed",
    "stop": "answers are cut at the stop texts here, when they have been written",
}
_REFUSES = re.compile(
    r"unsupported|unrecogni[sz]ed|unknown|unexpected|forbidden|deprecated|no longer|incompatible|additional propert"
    r"|(?:not|n't) (?:currently |yet |be )?(?:support|permit|allow|implement|enabled|available|accept|recogni[sz]"
    r"|compatible|set\b|used|specified|a valid)|cannot (?:both|be (?:set|used|specified))"
    r"|invalid (?:parameter|argument|field|request argument)|\bonly\b",
    re.IGNORECASE,
)
_OF_VALUE = re.compile(
    r"too (?:large|big|high|long|many|low|small|short)|at (?:most|least)|maximum|minimum|between|\brange\b|positive"
    r"|(?:less|greater|more|larger|smaller|higher|lower|fewer) than|negative|exceed|up to|valid (?:integer|number)"
    r"|[<>]=",
    re.IGNORECASE,
)
_PARTS = re.compile(  # of a message; lists of what is known say nothing, nor does the request that is sent back
    r"\.\s|\n|[;,] (?:expected|allowed|supported|valid|known)\b|'input':|\"input\":"
)
_FIRM = ("unsupported_parameter", "unknown_parameter", "extra_forbidden")  # codes that leave no doubt
_LEAST = ("min_p", "top_k", "top_p", "seed", "stop", "temperature")  # of two that do not go together, the first goes


class Parameters:
    """What a model's servers take; shared by threads. refused: name -> the one sent instead, None = it is not sent."""

    def __init__(self, name: str, server: ServerConfig) -> None:
        self.name, self.server = name, server
        self.refused: dict[str, str | None] = {}
        self._lock = threading.Lock()

    def body(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """The fields to send: those wanted, without or under another name where refused, and the recipe's `extra`."""
        extra, omit = self.server.extra, self.server.omit
        with self._lock:
            names = {name: self.refused.get(name, name) for name in wanted if name not in omit}
        if set(extra) & {"max_tokens", *RENAMED.values()}:
            names.pop("max_tokens", None)  # servers take one limit
        return {**{new: wanted[name] for name, new in names.items() if new is not None}, **extra}

    def learn(self, said: Said, sent: Mapping[str, Any]) -> bool:
        """Whether the same request may go well when it is built anew. EngineError where `extra` is what is refused."""
        names = refused_names(said, [*sent])
        for name in names:
            if name in self.server.extra:
                text = f"the server refuses {name} ({said.message[:160]})"
                raise EngineError(f"{self.name}: {text}; change engine.server.extra or take it out")
        for name in names:
            self._leave(name, said)
        return bool(names)

    def _leave(self, name: str, said: Said) -> None:
        old = next((first for first, new in RENAMED.items() if new == name), name)
        with self._lock:
            known = self.refused.get(old, old)
            if known != name:  # another thread has met it
                return
            self.refused[old] = new = RENAMED.get(name)
        why = " ".join(said.message.split())[:160]
        if new is not None:
            log.warning("%s: the server refuses %s (%s); sent as %s from here on", self.name, name, why, new)
        else:
            told = f"sent without it from here on: {WITHOUT[old]} (engine.server.omit=[{old}]: never sent at all)"
            log.warning("%s: the server refuses %s (%s); %s", self.name, name, why, told)


def refused_names(said: Said, sent: list[str]) -> list[str]:
    """Which of the fields that were sent a server does not take; [] where it says something else."""
    if said.status not in STATUSES:
        return []
    found = [name for name in said.forbidden if name in sent]
    if found:
        return found
    last = re.split(r"[.\[]", said.param)[-1].strip("'\"] ")
    if last in sent and any(code in said.kind for code in _FIRM):
        return [last]
    parts = [part for part in _PARTS.split(said.message[:2000]) if part and _REFUSES.search(part)]
    parts = [part for part in parts if not _OF_VALUE.search(part)]
    if last in sent:
        return [last] if parts else []
    found = [name for name in sent if any(_named(name, part) for part in parts)]
    if len(found) > 1 and re.search(r"\bboth\b|only one|together", said.message, re.IGNORECASE):
        return [next((name for name in _LEAST if name in found), found[-1])]
    return found


def _named(name: str, text: str) -> bool:
    """Whether a text names a field, as it is sent or in camel case."""
    first, *others = name.split("_")
    camel = first + "".join(word.capitalize() for word in others)
    return any(re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text) for word in {name, camel})
