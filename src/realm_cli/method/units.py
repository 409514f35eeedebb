r"""What stands behind a number: units, currencies, plain words; and which units are the same (method.md section 8).

Units have a normal form: `kilometres`, `km` -> `km`; `square metres`, `m²`, `m^2` -> `m^2`; `$`, `dollars` -> `usd`.
Usage: `read_unit(" mL/min/1.73 m²")` -> ("ml", "/min", "/1.73", "m^2"); None where something stands there that makes
another number of it (`half`, `or 6`, `squared`), or that is neither a unit nor a word (`x`).
"""

from __future__ import annotations

import re
from collections.abc import Collection

MAX_UNIT = 300  # characters
_ALIASES = """
m meter metre|km kilometer kilometre|cm centimeter centimetre|mm millimeter millimetre|um µm μm micron micrometer
nm nanometer nanometre|ft foot feet|inch inche|yd yard|mi mile|kg kilogram kilos|g gram gramme|mg milligram
ug µg μg mcg microgram|t ton tonne|lb lbs|oz ounce|s sec second secs|ms millisecond|min minute mins|h hr hour hrs
day|week wk|month mo|year yr yrs|l liter litre|ml milliliter millilitre cc|dl deciliter decilitre
cl centiliter centilitre|ul µl μl microliter|gal gallon|j joule|kj kilojoule|kwh|w watt|kw kilowatt|v volt
a amp ampere|ω ohm|n newton|pa pascal|kpa kilopascal|hpa|bar|atm|mmhg|hz hertz|khz|ghz|kelvin
mol mole|mmol millimole|cal calorie|kcal kilocalorie|rpm|db decibel|bit|byte|° deg degree|rad radian
% percent pct percentage|usd dollar $ us$|cent ¢|eur euro €|gbp £|¥ ￥|jpy yen 円|cny yuan rmb 元|inr rs rupee ₹
chf franc|krw won ₩|₽ rouble ruble|₺|฿ baht|₫|₱ peso|aud a$|cad c$|hkd hk$|brl r$|sgd s$|nzd nz$|mph|kph
aed|sek|nok|dkk|kr|twd nt$|myr rm|zar|pln zł
°c celsius|°f fahrenheit|meq|iu|mosm|bpm|dpi|px pixel|acre|ha hectare|cup|pint|quart|teaspoon tsp|tablespoon tbsp
"""
_GROUPS = [group.split() for group in _ALIASES.replace("\n", "|").split("|") if group]
# Units whose letters' case tells them apart; a spelling that is not here is read without case (MHZ, KG).
_CASED_UNITS = "mg Mg mW MW mPa MPa mHz MHz meV MeV mm Mm mJ MJ mV MV mA MA mb Mb MB kb kB Gb GB TB Tb eV keV GeV"
_CASED = frozenset(_CASED_UNITS.split())
_CASELESS = {
    "mhz": "MHz",
    "khz": "khz",
    "mpa": "MPa",
    "kb": "kB",
    "mb": "MB",
    "gb": "GB",
    "tb": "TB",
    "ev": "eV",
    "kev": "keV",
}
UNITS = {alias: group[0] for group in _GROUPS for alias in group} | {"pound": "pound"}
AMBIGUOUS = {"pound": ("lb", "gbp"), "¥": ("jpy", "cny")}
GLUED, SPACED = frozenset("mgshlL"), frozenset("mgshlLtVWJNAFC")  # letters that are units, behind a digit and a blank
CODES = "USD|EUR|GBP|CHF|INR|JPY|CNY|RMB|AUD|CAD|HKD|SGD|NZD|KRW|AED|SEK|NOK|DKK|TWD|MYR|ZAR|PLN"
CURRENCY = rf"(?:(?:US|A|C|HK|R|S|NZ)?\$|[€£¥￥₹₩₽₺฿₫₱]|\b(?:{CODES}|Rs\.?)(?![A-Za-z]))"


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Words that make another number of the one before them, or say that it is not the answer.
CHANGES = _set("""
half halves third thirds fourth fourths quarter quarters fifth fifths sixth sixths eighth eighths tenth tenths hundredth
hundredths thousandth thousandths millionth squared cubed factorial or nor not than to through until pi tau sqrt root
log ln sin cos tan exp mod modulo choose if unless except but without wrong incorrect no never double doubled tripled
halved twice thrice triple score gross tens hundreds thousands ten twenty thirty forty fifty sixty seventy eighty ninety
zero one two three four five six seven eight nine eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen
nineteen hundred thousand million billion trillion lakh crore dozen power divided multiplied added subtracted negative
minus plus wait infinity mille bps basis neither cannot instead rather versus vs alpha beta gamma delta epsilon theta
lambda mu nu phi rho sigma omega recurring repeating binary hexadecimal hex octal quadrupled quintupled itself false too
impossible grand mil bil quadrillion quintillion zillion gazillion thou milliard milliards millionen millones mrd kilo
actually however maybe hundreds
""")
_PROSE = _set("""
the of a an in each every total all altogether overall left remaining exactly only just is are was were it they this
that there for from at on and with by we she he i them these those have has had be been will would more less fewer about
approximately approx roughly around final answer so as respectively long wide high tall old away rounded worth square
""")
_FRACTION = re.compile(  # sevenths, sixteenth, millionths
    r"(?:thir|four|fif|six|seven|eigh|nin|ten|eleven|twelf|[a-z]{3,6}teen|[a-z]{3,5}tie|hundred|thousand|[mbtr]{1,2}illion)"
    r"(?:th|d)s?|n(?:th|ths)"
)
_TOKEN = re.compile(
    r"\s{0,8}(?:(?P<per>/|÷|per\b)\s{0,4}(?P<many>\d[\d.,]{0,12})?\s{0,4})?(?:(?P<shape>square|sq|cubic|cu)\.?\s{1,4})?"
    r"(?P<word>°\s?[CFcf]\b|[°%¢]|" + CURRENCY + r"|[^\W\d_]{1,40}(?:['’-][^\W\d_]{1,40}){0,4})"
    r"(?P<power>\s?\^\s?[{(]?-?\d[)}]?|[23](?!\d))?[,.·⋅*]?"
)
_COUNTS = ("dozen", "hundred", "thousand", "million", "lakh", "unit", "pair")  # a price per dozen
_SQUARES = {"square": "2", "sq": "2", "cubic": "3", "cu": "3"}


def read_unit(text: str, *, algebra: bool = False) -> tuple[str, ...] | None:
    """Normal form of what stands behind a number, () for nothing; None if it is no unit and no plain words.

    algebra: letters may be variables, so that single letters and short unknown words are no units.
    """
    glued, text = not text[:1].isspace(), re.sub(r"\bper cent\b", "percent", text.strip(" \t\n.,;"))
    if len(text) > MAX_UNIT:
        return None
    tokens: list[str] = []
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None or found.end() == at:
            return None
        token = _normal(found, glued=glued and at == 0, last=found.end() >= len(text), algebra=algebra)
        if token is None:
            return None
        if token and tokens[-1:] == [token]:
            return None
        if token:
            tokens += [f"/{found['many']}"] if found["many"] else []
            tokens.append(f"/{token}" if found["per"] and not found["many"] else token)
        at = found.end()
    return tuple(tokens)


def _normal(found: re.Match[str], *, glued: bool, last: bool, algebra: bool) -> str | None:
    """One token's normal form, "" for words that say nothing, None for what changes the number or may be a variable."""
    word = "".join(found["word"].split())
    lower = word.lower()
    power = _SQUARES.get(found["shape"] or "", re.sub(r"[\s{}()^]", "", found["power"] or ""))
    suffix = f"^{power}" if power else ""
    if changes(lower) and not (found["per"] and lower in _COUNTS):
        return None
    if lower == "in":
        return f"inch{suffix}" if (last and not algebra) or suffix else ""
    if lower in ("unit", "units"):
        return ""
    if lower in _PROSE and not suffix:
        return None if len(lower) < 2 and (algebra or glued) else ""
    known = known_unit(word)
    if len(word) == 1 and word.isascii() and word.isalpha():
        letters = frozenset() if algebra else GLUED if glued else SPACED
        return known + suffix if known and (word in letters or found["per"]) else None
    if known is not None:
        return known + suffix
    if re.fullmatch("[Α-Ωα-ω]+", word):
        return None
    if word.isascii() and (suffix or len(word) < 3 or (algebra and (glued or len(word) < 4))):
        return None
    return _singular(lower)


def changes(word: str) -> bool:
    """Whether a word behind a number makes another number of it or takes it back: `sevenths`, `half-dozen`, `isn't`."""
    lower = word.lower()
    parts = {lower, *lower.split("-")}
    return bool(parts & CHANGES) or lower.endswith(("n't", "n’t")) or any(_FRACTION.fullmatch(part) for part in parts)


def known_unit(word: str) -> str | None:
    """A unit's or currency's normal form, None for other words."""
    word = word.strip(". ")
    lower = word.lower()
    if word in _CASED:
        return word
    if lower in _CASELESS:
        return _CASELESS[lower]
    if lower in ("mg", "mm", "mw", "mv", "ma", "mj"):
        return lower
    return UNITS.get(lower) or (UNITS.get(_singular(lower)) if len(lower) > 2 else None)


def _singular(word: str) -> str:
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def same_unit(mine: Collection[str], gold: Collection[str]) -> bool:
    """Whether an answer's unit does for the gold's: one of them has none, both name the same, or words are shared.

    A measure or currency for another is wrong, and so is a thing for a measure.
    """
    if not mine or not gold:
        return True
    measures, wanted = (sorted(word for word in unit if _is_measure(word)) for unit in (mine, gold))
    if not measures and not wanted:
        return bool(set(mine) & set(gold))
    return len(measures) == len(wanted) and all(map(_meets, measures, wanted))


def _is_measure(token: str) -> bool:
    base = token.lstrip("/").partition("^")[0]
    return base in UNITS or base in _CASED or base[:1].isdigit()


def _meets(one: str, other: str) -> bool:
    return one == other or other in AMBIGUOUS.get(one, ()) or one in AMBIGUOUS.get(other, ())
