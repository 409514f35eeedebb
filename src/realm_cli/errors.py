"""The error tree. Every mistake a user can make surfaces as one of these, in one line, exit code 1.

RealmError
|-- ConfigError    a recipe, option or model/teacher name is wrong
|-- DataError      an input file is missing, broken, empty or inconsistent
|-- ArtifactError  a run folder is locked, non-empty, unwritable or does not fit its recipe
|-- EngineError    a model, adapter or server cannot be used
`-- Alarm          a run stopped itself

A message names the thing, the place and the next step: `recipes/x.yaml: rollout.m: unknown key; did you mean n?`
"""


class RealmError(Exception):
    """Base of all expected errors; `str(error)` is the one line that the user reads."""


class ConfigError(RealmError):
    """A recipe, option or model/teacher name is wrong."""


class DataError(RealmError):
    """An input file is missing, broken, empty or inconsistent."""


class ArtifactError(RealmError):
    """A run folder is non-empty, unwritable or does not fit its recipe."""


class EngineError(RealmError):
    """A model, adapter or server cannot be used."""


class Alarm(RealmError):
    """A run stopped itself. `keep`: its last step is worth a checkpoint."""

    def __init__(self, text: str, *, keep: bool) -> None:
        super().__init__(text)
        self.keep = keep
