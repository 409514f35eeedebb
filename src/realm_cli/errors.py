"""The error tree. Every mistake a user can make surfaces as one of these, in one line, exit code 1.

RealmError
|-- ConfigError    a recipe, option or model/teacher name is wrong
|-- DataError      an input file is missing, broken, empty or inconsistent
|-- ArtifactError  a run folder is locked, non-empty, unwritable or does not fit its recipe
|-- EngineError    a model, adapter or server cannot be used
|   `-- TooLong    none of the prompts fits into a model
`-- Alarm          a run stopped itself

A message names the thing, the place and the next step: `recipes/x.yaml: rollout.m: unknown key; did you mean n?`
"""

import re
import unicodedata

MAX_MESSAGE = 800  # characters; a message may quote files and servers


def printable(text: str, *, keep: str = "") -> str:
    r"""Text that a terminal only shows: control characters, direction marks and lone surrogates as `\x1b`, `\u202e`.

    keep: characters that stay as they are, such as line ends in a multi-line text.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c in keep or unicodedata.category(c) not in _UNSEEN else _escaped(c) for c in text)


_USER = re.compile(r"(://)[^/\s]*@")  # what stands before the host of a URL
_QUERY = re.compile(r"([?&][^=&?#\s]*=)[^&#\s]+")  # a name and its value
_SECRET = re.compile("key|token|secret|password", re.IGNORECASE)


def masked(text: str) -> str:
    """Text with `***` in place of the user names, passwords and keys of its URLs."""
    return _QUERY.sub(lambda m: f"{m[1]}***" if _SECRET.search(m[1]) else m[0], _USER.sub(r"\1***@", text))


_UNSEEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")  # control, format (directions, zero width), surrogate, private


def _escaped(char: str) -> str:
    return f"\\x{ord(char):02x}" if ord(char) < 256 else f"\\u{ord(char):04x}"


def one_line(text: str) -> str:
    """A message as it is shown: one line, printable, no URL's password, its middle left out where it is long."""
    text = printable(masked(" ".join(text.split())))
    half = MAX_MESSAGE // 2
    return text if len(text) <= MAX_MESSAGE else f"{text[:half]} ... {text[-half:]}"


class RealmError(Exception):
    """Base of all expected errors; `str(error)` is the one line that the user reads."""

    def __init__(self, text: str = "") -> None:
        super().__init__(one_line(text))


class ConfigError(RealmError):
    """A recipe, option or model/teacher name is wrong."""


class DataError(RealmError):
    """An input file is missing, broken, empty or inconsistent."""


class ArtifactError(RealmError):
    """A run folder is non-empty, unwritable or does not fit its recipe."""


class EngineError(RealmError):
    """A model, adapter or server cannot be used."""


class TooLong(EngineError):
    """None of the prompts fits into a model. `reason`: the same for each of them."""

    def __init__(self, text: str, *, reason: str) -> None:
        super().__init__(text)
        self.reason = reason


class Alarm(RealmError):
    """A run stopped itself. `keep`: its last step is worth a checkpoint."""

    def __init__(self, text: str, *, keep: bool) -> None:
        super().__init__(text)
        self.keep = keep
