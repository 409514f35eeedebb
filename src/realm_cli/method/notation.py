r"""One spelling of signs, blanks, powers, fractions and LaTeX's marks, for what reads numbers and units (section 8)."""

from __future__ import annotations

import re
import unicodedata

_DASHES = {ord(char): "-" for char in "\u2212\u2010\u2011\u2012\u2013\u2014\u2015\uff0d\ufe63\ufe58\u2796△▲▼"}
_BLANKS = {ord(char): " " for char in "\u00a0\u2009\u202f\u2007\u2002\u2003\u3000\u200b"}
_SUPER = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-")
_SUPERS = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻]{1,8}")
_VULGAR = re.compile("[¼-¾⅐-⅞]")
_FRAC = re.compile(
    r"\\[dtc]?frac\s{0,4}(?:\{\s{0,4}(-?\d{1,60})\s{0,4}\}|(\d))\s{0,4}(?:\{\s{0,4}(\d{1,60})\s{0,4}\}|(\d))"
)
TEXT = re.compile(  # a text box in a formula
    r"\\(?:text|textbf|textrm|textit|textnormal|mathrm|mathbf|mbox|operatorname)\s{0,4}\{([^{}]{0,1000})\}"
)
_TEX = (
    (re.compile(r"\\(?:times|cdot)(?![A-Za-z])"), "×"),
    (re.compile(r"\^\s{0,4}(?:\{\s{0,4}\\circ\s{0,4}\}|\\circ)|\\(?:degree|textdegree)(?![A-Za-z])"), "°"),
    (re.compile(r"\\approx(?![A-Za-z])"), "≈"),
    (re.compile(r"\\(?:left|right)(?![A-Za-z])|\\[dt]isplaystyle(?![A-Za-z])"), ""),
    (re.compile(r"\s?\{\s?([,.])\s?\}\s?"), r"\1"),
    (re.compile(r"(?<=[\d,])\s?(?:\\[,!;:]|~)\s?(?=\d)"), ""),
    (re.compile(r"\\[,!;:]"), " "),
    (re.compile(r"\\ |\\quad(?![A-Za-z])|~"), " "),
    (re.compile(r"\\([$%])"), r"\1"),
)


def normal(text: str) -> str:
    r"""One spelling of minus signs, blanks, powers, fractions and LaTeX's marks. `\text{}` gives its content."""
    text = text.strip()
    if not text.isascii():
        text = one_dash(text)
        text = _SUPERS.sub(lambda m: "^{" + m.group().translate(_SUPER) + "}", text)
        text = _VULGAR.sub(_vulgar, text)
        text = "".join(unicodedata.normalize("NFKC", c) if "\uff01" <= c <= "\uff5e" else c for c in text)
    if "\\" in text or "{" in text or "~" in text:
        text = TEXT.sub(r"\1", text)
        text = _FRAC.sub(lambda m: f" {m[1] or m[2]}/{m[3] or m[4]}", text)
        for pattern, new in _TEX:
            text = pattern.sub(new, text)
    return text.strip()


def one_dash(text: str) -> str:
    """Minus signs and blanks in one spelling each."""
    return text.translate(_DASHES).translate(_BLANKS)


def _vulgar(match: re.Match[str]) -> str:
    return " " + unicodedata.normalize("NFKC", match.group()).replace("\u2044", "/")
