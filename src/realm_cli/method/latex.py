r"""Formulas as text (method.md section 8): plain notation made LaTeX; the parts of lists, brackets and relations."""

from __future__ import annotations

import re

from realm_cli.method.notation import normal
from realm_cli.method.numbers import read_number

MAX_LIST = 64
FUNCTION_NAMES = """sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln lg exp sqrt max min gcd lcm det
mod pi alpha beta gamma delta epsilon theta lambda mu nu phi rho sigma tau omega infinity infty inf frac dfrac abs"""
FUNCTIONS = frozenset(FUNCTION_NAMES.split())
NAMED = re.compile(  # x =, f(x) =, x_1 =, (x, y) =, x \in
    r"\s{0,4}(\(?[A-Za-z]{1,2}(?:_\{?\w{1,4}\}?)?(?:\([A-Za-z,\s]{1,10}\))?(?:\s{0,2},\s{0,2}[A-Za-z]){0,3}\)?)"
    r"\s{0,4}(?:=|\\in(?![A-Za-z])|∈)\s{0,4}"
)
RELATION = re.compile(
    r"\\leqslant|\\geqslant|\\leq|\\geq|\\le(?![a-z])|\\ge(?![a-z])|\\lt(?![a-z])|\\gt(?![a-z])|<=|>=|[<>≤≥]"
)
_JOIN = re.compile(r"\\(?:text|textbf|textrm|mbox|mathrm)\s{0,4}\{\s{0,4},?\s{0,4}(and|or)\s{0,4}\}")
_DOUBLED = re.compile(  # as JSON writes backslashes
    r"\\\\(?=(?:left|right|[dt]?frac|sqrt|pi|infty|leq?|geq?|cdot|times|cup|in|pm|text|mathrm|begin|end|quad|circ|neq?)"
    r"(?![a-z]))"
)
_THIN = re.compile(r"(?<=\d,)\s?(?<!\\)\\[,!]\s?(?=\d{3})|(?<!\\)\\!")
_SPACING = re.compile(r"\\(?:qquad|quad|thinspace)(?![A-Z])|(?<!\\)\\[ ;:]|(?<=,)\\,|~")
_ENVIRONMENT = re.compile(r"\\(?:begin|end)\{(?:equation|align|aligned|gather)\*?\}")
_BUILDER = re.compile(r"\\?\{\s{0,4}[A-Za-z]\s{0,4}(?::|\||\\mid(?![A-Za-z]))\s{0,4}([^{}]{1,200}?)\s{0,4}\\?\}")
_SPELLINGS = (
    (re.compile(r"\+\s?(?=\\infty|∞)"), ""),
    (re.compile(r"(?<=[)\]])\s{0,2}U\s{0,2}(?=[(\[])"), r" \\cup "),
    (re.compile(r"\{\s{0,2}(-?\w{1,20})\s{0,2}\\over\s{1,2}(\w{1,20})\s{0,2}\}"), r"\\frac{\1}{\2}"),
    (re.compile(r"\\mathbb\s{1,2}([A-Z])"), r"\\mathbb{\1}"),
    (re.compile(r"\\log_e(?![A-Za-z])|\\log_\{e\}"), r"\\ln "),
    (re.compile(r"∛\s?(\d{1,20}|[A-Za-z])"), r"\\sqrt[3]{\1}"),
    (re.compile(r"(?<![\\A-Za-z])cbrt\s?\(([^()]{1,80})\)"), r"\\sqrt[3]{\1}"),
    (re.compile(r"(?<![\\A-Za-z])abs\s?\(([^()]{1,80})\)"), r"|\1|"),
    (re.compile(r"(?<=\d)\s?\*\s?(?=[a-z](?![A-Za-z]))"), " "),
    (re.compile(r"(-?\d{0,20})\.(\d{0,20})\\overline\{(\d{1,20})\}"), lambda m: _repeating(m)),
)
_LESS = {"\\leqslant": "<=", "\\leq": "<=", "\\le": "<=", "<=": "<=", "≤": "<=", "\\lt": "<", "<": "<"}
_MORE = {"\\geqslant": ">=", "\\geq": ">=", "\\ge": ">=", ">=": ">=", "≥": ">=", "\\gt": ">", ">": ">"}
_VARIABLE = re.compile(r"\s{0,2}[A-Za-z](?:\([A-Za-z]\))?\s{0,2}")
_BETWEEN = re.compile(r"[,;]|\b(?:and|or)\b|\\cup(?![A-Za-z])|∪")
_PLUS_MINUS = re.compile(r"\\pm(?![A-Za-z])|±")
_COMMA, _OR, _CUP = re.compile(r"[,;]"), re.compile(r",|\bor\b"), re.compile(r"\\cup|∪")
_SIZES = re.compile(r"\\(?:left|right|big|Big|bigl|bigr)(?![A-Za-z])\s?")
_OPEN, _CLOSE = "([{", ")]}"
_TO_LATEX = (
    (re.compile(r"(\\[dtc]?frac)\s?(\\[a-z]{2,8}|[\da-z])\s?(\\[a-z]{2,8}|[\da-z])(?![\da-z])"), r"\1{\2}{\3}"),
    (re.compile(r"\*\*"), "^"),
    (re.compile(r"√\s{0,2}(\d{1,20}|[A-Za-z])"), r"\\sqrt{\1}"),
    (re.compile(r"√\s{0,2}(?=[({])"), r"sqrt"),
    (re.compile(r"[·⋅×]|\*"), r" \\cdot "),
    (re.compile(r"÷"), "/"),
    (re.compile(r"π|(?<![\\A-Za-z])pi(?![A-Za-z])"), r"\\pi "),
    (re.compile(r"∞|(?<![\\A-Za-z])(?:infinity|oo|infty|inf)(?![A-Za-z])"), r"\\infty "),
    (re.compile(r"(?<![\\A-Za-z])sqrt\s{0,2}(\d{1,20})(?!\d)"), r"\\sqrt{\1}"),
    (re.compile(r"(?<![\\A-Za-z])(arcsin|arccos|arctan|sinh|cosh|tanh|sin|cos|tan|log|ln|exp)(?=\s?\^)"), r"\\\1"),
    (re.compile(r"(?<![\\A-Za-z])(arcsin|arccos|arctan|sinh|cosh|tanh|sin|cos|tan|log|ln|exp)(?![A-Za-z])"), r"\\\1 "),
    (re.compile(r"∪"), r"\\cup "),
    (re.compile(r"∅|\\varnothing(?![A-Za-z])"), r"\\emptyset "),
    (re.compile(r"≤|<="), r"\\le "),
    (re.compile(r"≥|>="), r"\\ge "),
    (re.compile(r"\\(?:textrm|textit|textbf|textnormal|mbox)(?![A-Za-z])"), r"\\text"),
    (re.compile(r"(?<=\d)[eE](?=[-+]?\d{1,3}(?!\d))"), r" \\cdot 10^"),
    (re.compile(r"10\^([-+]?\d{1,3})(?!\d)"), r"10^{\1}"),
)


def tidy(text: str) -> str:
    """One backslash where JSON doubled it, blanks for spacing commands, `and` out of its text box, no environment."""
    text = _THIN.sub("", _DOUBLED.sub(r"\\", text))
    if text.count("$") > 1 and "\\$" not in text:
        text = text.replace("$", " ")
    if "\\begin{eq" in text or "\\begin{al" in text:
        text = _ENVIRONMENT.sub(" ", text).replace("&", " ")
    for pattern, new in _SPELLINGS:
        text = pattern.sub(new, text)
    text = re.sub(r"(?<!\\)\\,[.\s]{0,4}$", "", _SPACING.sub(" ", _JOIN.sub(r" \1 ", text))).strip(" ,;")
    if builder := _BUILDER.fullmatch(text):  # {x | 3 < x <= 4}
        text = builder[1]
    if text.startswith("{") and text.endswith("}") and "," not in text and bracketed(text) is not None:
        text = text[1:-1].strip()
    return text


def _repeating(match: re.Match[str]) -> str:
    r"""`0.1\overline{6}` as a fraction."""
    whole, before, again = match[1].lstrip("-") or "0", match[2], match[3]
    below = (10 ** len(again) - 1) * 10 ** len(before)
    above = int(whole + before + again) - int(whole + before)
    return f"{'-' if match[1].startswith('-') else ''}\\frac{{{above}}}{{{below}}}"


def squeezed(text: str) -> str:
    """Without blanks that say nothing: one stays between two digits or two letters (`3 1/2` is not `31/2`)."""
    kept = re.sub(r"(?<=\d) (?=\d)|(?<=[^\W\d]) (?=[^\W\d])", "\x00", " ".join(text.split()))
    return kept.replace(" ", "").replace("\x00", " ")


def to_latex(text: str) -> str:
    r"""Plain-text mathematics as LaTeX: `3*sqrt(13)`, `pi/2`, `x**2`, `3√13`, `ln(2)`; LaTeX stays as it is."""
    if not text.isascii():
        text = normal(text.replace("\\", "\x00")).replace("\x00", "\\")  # signs and superscripts; LaTeX is not touched
    for pattern, new in _TO_LATEX:
        text = pattern.sub(new, text)
    for found, new in ((re.compile(r"(?<![\\A-Za-z])sqrt\s?\("), "\\sqrt"), (re.compile(r"\^\s?\("), "^")):
        text = _braces(text, found, new)
    return text.strip()


def _braces(text: str, found: re.Pattern[str], new: str) -> str:
    """`sqrt(x)` as `\\sqrt{x}` and `x^(1/3)` as `x^{1/3}`; at most 16 of them."""
    for _ in range(16):
        match = found.search(text)
        depth, end = 1, match.end() if match else len(text)
        while depth and end < len(text):
            depth += (text[end] == "(") - (text[end] == ")")
            end += 1
        if match is None or depth:
            break
        text = f"{text[: match.start()]}{new}{{{text[match.end() : end - 1]}}}{text[end:]}"
    return text


def members(text: str) -> list[str]:
    """What stands between commas, semicolons, `and` or `or` outside of brackets, without `x =`; `\\pm` gives both."""
    parts = [part for part in cut(text, _BETWEEN) if part.strip(" ,\\")]
    if len(parts) > 1:
        names = {re.sub(r"_.*", "", squeezed(m[1])) for part in parts if (m := NAMED.match(part))}
        if len(names) == 1:
            parts = [NAMED.sub("", part, count=1) for part in parts]
    found: list[str] = []
    for part in parts:
        halves = cut(part, _PLUS_MINUS)
        if len(halves) == 2:
            plus = f"{halves[0]} + {halves[1]}" if halves[0].strip() else halves[1]
            found += [plus, f"{halves[0]} - {halves[1]}"]
        else:
            found.append(part)
    return found[: MAX_LIST + 1] or [text]


def cut(text: str, mark: re.Pattern[str]) -> list[str]:
    """Parts between marks that stand in no bracket; a comma of thousands is no mark."""
    depths, depth = [], 0
    for char in text:
        depth = max(0, depth - (char in _CLOSE))
        depths.append(depth)
        depth += char in _OPEN
    parts, at = [], 0
    whole = None
    for found in mark.finditer(text):
        if depths[found.start()]:
            continue
        if found.group() == "," and re.match(r"\d{3}(?!\d)", text[found.end() :]):
            whole = read_number(text.strip(), algebra=True) is not None if whole is None else whole
            if whole:
                continue
        parts.append(text[at : found.start()])
        at = found.end()
    return [*parts, text[at:]]


def bracketed(text: str) -> tuple[str, list[str]] | None:
    r"""(brackets, members) of a tuple, an interval or a set that is all of the text; None for other texts."""
    text = _SIZES.sub("", text).strip()
    text = text.replace("\\{", "{").replace("\\}", "}").replace("\\langle", "(").replace("\\rangle", ")")
    if len(text) < 3 or text[0] not in _OPEN or text[-1] not in _CLOSE:
        return None
    depth = 0
    for i, char in enumerate(text):
        depth += (char in _OPEN) - (char in _CLOSE)
        if depth == 0 and i < len(text) - 1:
            return None
    items = cut(text[1:-1], _COMMA)
    return (text[0] + text[-1], items) if len(items) > 1 or text[0] == "{" else None


def chain(text: str) -> tuple[list[str], list[str]] | None:
    """`f(4) > f(1) > f(2)` as members and relations that ascend; None for mixed directions."""
    signs = [m.group() for m in RELATION.finditer(text)]
    parts = [part.strip() for part in RELATION.split(text)]
    if all(sign in _LESS for sign in signs):
        return parts, [_LESS[sign] for sign in signs]
    if all(sign in _MORE for sign in signs):
        return parts[::-1], [_MORE[sign].replace(">", "<") for sign in signs[::-1]]
    return None


def as_interval(text: str, other: str) -> str:
    """A relation of one variable as an interval, where the other side is one; else the text."""
    if not RELATION.search(text) or RELATION.search(other) or bracketed(cut(other, _CUP)[0]) is None:
        return text
    parts = []
    for part in cut(text, _OR):
        found = chain(part)
        if found is None:
            return text
        names, signs = found
        at = next((i for i, name in enumerate(names) if _VARIABLE.fullmatch(name)), None)
        if at is None or len(names) > 3 or (len(names) == 3 and at != 1):
            return text
        low = ("[" if signs[at - 1] == "<=" else "(") + names[at - 1] if at > 0 else "(-\\infty"
        high = names[at + 1] + ("]" if signs[at] == "<=" else ")") if at < len(names) - 1 else "\\infty)"
        parts.append(f"{low},{high}")
    return "\\cup".join(parts)
