"""Reading YAML strictly, and saying what is wrong with it. Usage: `data = read_yaml(text)`."""

from __future__ import annotations

import difflib
import re
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

MAX_CHARS, MAX_DEPTH = 100_000, 40  # of a recipe; a resolved one has 5,000 characters and is 4 deep
MAX_NUMBER = 2**63  # what generators and tensors take


# libyaml's parser is ten times as quick; without it PyYAML's own reads the same
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class RecipeLoader(_Loader):  # type: ignore[misc]
    """SafeLoader that reads 1e-5 as a number (YAML 1.1 reads it as a string).

    It refuses doubled keys, and whole numbers that nothing can hold.
    """

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        value: int = super().construct_yaml_int(node)
        if abs(value) >= MAX_NUMBER:
            raise yaml.constructor.ConstructorError(None, None, "a number of over 18 digits", node.start_mark)
        return value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} given twice", key_node.start_mark)
            seen.add(key)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


RecipeLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+0123456789.")
)
RecipeLoader.add_constructor("tag:yaml.org,2002:int", RecipeLoader.construct_yaml_int)


def read_yaml(text: str) -> Any:
    """A YAML document. ValueError says what is wrong with it, in a few words.

    Only plain data come of it: no tag makes an object, and a text of over MAX_CHARS is refused.
    """
    if len(text) > MAX_CHARS:
        raise ValueError(f"longer than {MAX_CHARS} characters")
    try:
        _check_depth(text)
        return yaml.load(text, Loader=RecipeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        last = len(text.splitlines()) or 1  # what breaks off is found behind it
        line = f"line {min(mark.line + 1, last)} " if mark else ""
        raise ValueError(f"{line}{getattr(error, 'problem', None) or 'broken YAML'}") from None
    except (ValueError, TypeError, AttributeError) as error:  # an impossible date, a list as a key, digits without end
        raise ValueError(str(error).partition("\n")[0][:100]) from None


def _check_depth(text: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth + isinstance(event, yaml.ScalarEvent) > MAX_DEPTH:
            raise yaml.composer.ComposerError(None, None, "nested too deeply", event.start_mark)  # type: ignore[arg-type]


def first_problem(error: ValidationError, root: type[BaseModel]) -> str:
    """The first thing wrong with a mapping, in words; an unknown key comes with the nearest known one."""
    problems = error.errors()
    first = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        names = _names_at(root, first["loc"][:-1])
        near = difflib.get_close_matches(str(first["loc"][-1]), names, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(names)}"
        return f"{where}: unknown key; {hint}"
    message = first["msg"].removeprefix("Value error, ")
    given = first.get("input")
    shown = "" if isinstance(given, dict | list | BaseModel) else f" (got {given!r})"
    return f"{where}: {message[0].lower()}{message[1:]}{shown}"


def _names_at(root: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    model: Any = root
    for part in loc:
        field = model.model_fields.get(part) if hasattr(model, "model_fields") else None
        model = field.annotation if field is not None else None
    return sorted(model.model_fields) if hasattr(model, "model_fields") else []
