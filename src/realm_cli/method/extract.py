r"""Where a text states its answer (method.md section 8): tags, `answer is`, `####`, `\boxed`, a heading, the last line.

Usage: `strict_answer(completion)` for the project's own form; `flexible_answer(text)` for any model's text. What is
taken out keeps its notation (LaTeX, units, signs); only delimiters, markdown and a final stop around it go.
"""

from __future__ import annotations

import re

from realm_cli.method.notation import TEXT, normal, one_dash
from realm_cli.method.number_words import ONES, TENS
from realm_cli.method.numbers import MAX_CHARS, read_number
from realm_cli.method.parsing import parse_completion
from realm_cli.method.units import CURRENCY
from realm_cli.method.unwrap import TAIL, boxed, plain_money, unwrap

MAX_LINE = 200  # characters of a last line that may be an answer

_STATED = re.compile(  # the rest of the line is the answer
    r"(?im)(?:(?:^|(?<=[.!?] ))[ \t*_#>-]{0,20}(?:(?:so|therefore|thus|hence),? ){0,2}(?:(?:the|my|our) )?"
    r"(?:final |correct |right )?|(?<=\s)(?:the |my |our )(?:final |correct |right )?|(?<=\s)final )answer"
    r"(?:[ \t*_]{0,8}[:=]|[ \t]{1,4}(?:is|must be)\b[ \t]{0,4}:?)[ \t*_]{0,8}"
    r"(?:(?:therefore|thus|indeed|simply|clearly|hence|then|also)\b,?[ \t]{1,4}){0,2}(?=[^\s*_])"
)
_RETRACTED = re.compile(
    r"\b(?:wait|actually|correction|hmm)\b|\b(?:that|this|it)(?:'s|’s| is| was) (?:wrong|incorrect|a mistake|an error)"
    r"|\b(?:made|is|was) an? (?:mistake|error)\b",
    re.IGNORECASE,
)
_BELOW = re.compile(  # a heading or "Answer:" alone, the answer in the next line
    r"(?im)^[ \t*_#>-]{0,20}(?:the |my )?(?:final |correct )?answer(?:[ \t*_]{0,8}[:=]?| is:?)[ \t*_]{0,8}"
    r"\n\s{0,20}(\S[^\n]*)$"
)
_HASHES = re.compile(r"(?m)^[ \t]*####[ \t]*([-+$€£(]?[.\d][^\n]*)$|^[ \t]*####[ \t]*(\S[^\n]*)$\s*\Z")
_NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?:[eE][-+]?\d{1,3})?(?:/\d+)?(?!\w|\.\d)")
_ENDS = re.compile("</s>|<eos>|[✓✔✅🎉👉∴]\ufe0f?")  # what models and people set beside an answer
_CALCULATOR = re.compile(r"<<[^<>]{0,200}>>")  # GSM8K's notes
_TELLS = re.compile(  # a sentence about somebody or something, not a name such as Article 3
    r"(?:that )?(?:the|she|he|they|it|there|we|you|a|an|his|her|their|in total|[A-Z][a-z]{1,20} [a-z]{2,20})\b",
    re.IGNORECASE,
)
_SPAN = re.compile(
    r"(?<!\\)(?:\$\$([^$]{1,400})\$\$|\$([^$\n]{1,400})\$|\\\(([^\n]{1,400}?)\\\)|\\\[((?:[^\\]|\\(?!\])){1,400})\\\])"
)
_IS = re.compile(r"(?:\b(?:is|are|was|were|equals|be)|[=:])\s{0,4}$")
_BOLD = re.compile(r"\*\*([^*\n]{1,120})\*\*")
_WORDS = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")
_NAMES = ("sqrt", "pi", "ln", "log", "sin", "cos", "tan", "exp", "or", "and", "inf", "infinity", "mod", "max", "min")
_LATEX = re.compile(r"\\(?:begin\{array\}\{[clr| ]{1,20}\}|[A-Za-z]+(?:\{[A-Za-z*]+\})?)")
_TEN_TO = re.compile("10[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻]{1,6}")
_ENDS_BOLD = re.compile(r"(?:\bis|:)\s{0,2}\*\*([^*]{1,120})\*\*[.!\s]{0,3}$")
_LAST = re.compile(
    rf"(?P<sign>(?<![\w)\]}}.,%])-|\b(?:minus|negative)\s)?\s?(?:{CURRENCY}\s?(?P<sign2>-)?)?"
    r"(?P<digits>(?<![\w.])(?:\d{1,4}\s(?:and\s)?(?=\d{1,3}/\d))?"
    r"(?:\d{1,3}(?:[,'’]\d{2,3})+(?!\d)|\d{1,3}(?: \d{3})+(?!\d)|\d+)?"
    r"(?:[.,]\d+)?"
    r"(?:[eE][-+]?\d{1,3})?(?:/\d+(?![.,]?\d))?)[½¼¾⅓⅔]?"
    r"(?:\s?[x×*]\s?10\s?(?:\^|\*\*)\s?\{?[-+]?\d{1,3}\}?)?"
    r"(?:\s?(?:%|percent|hundred|thousand|million|billion|trillion|lakh|crore|dozen|bn|mn|mil|bil|grand|(?-i:[kKM]))(?![A-Za-z]))?",
    re.IGNORECASE,
)
SCALED = r"\s?(?:%|[kKMB]\b|million\b|billion\b|thousand\b)"
NUMBER_WORDS = (*ONES, *TENS)
_BEFORE = re.compile(r"(?:[-+*/×÷^|<>≤≥±√≠]|\d\s?:|[A-Za-z][({])\s{0,2}$")
_AFTER = re.compile(r"\s{0,2}(?:[-+*/×÷^:|]\s{0,2}(?:[\w(\\]|$)|[*×+÷^]|!|\||°?[A-Za-z]\d)")
_REFERS = (
    "figure|fig|table|equation|eq|theorem|lemma|step|case|section|chapter|article|part|item|question|example|page|rule"
)
_PARTS = (
    "hours?|hrs?|minutes?|mins?|days?|weeks?|months?|years?|feet|foot|ft|yards?|miles?|dollars?|pounds?|kg|k?m|meters?"
)
_DENIED = re.compile(  # the words in front of a number that is no answer
    r"(?:\b(?:not|never|no|cannot|can't|than|or|between|times|log|ln|root|half|twice|third|quarter|isn't"
    r"|least|most|up to|under|over|above|below|exceeds?|out of"
    rf"|\d\s?(?:{_PARTS})\s?(?:and)?"
    r"|wrong answer is)|n't|\d\s(?:and|or|to)"
    r"|(?:half|root|third|quarter|square|cube|power|fraction|multiple|percent|%) of"
    rf"|\b(?:{_REFERS}|line|option|no|number|problem)\.?)\s{{0,2}}\(?"
    r"(?:be |have |it is |is |equals |think it is )?[$€£]?$"
    r"|(?:n't|cannot|\bnot|\bnever|no way)\s[^.\d]{1,30}$",
    re.IGNORECASE,
)
_IN_BRACKETS = re.compile(r"[(\[{][^()\[\]{}]{1,60},\s?[^()\[\]{}\d]{0,6}$")
_UNSOLVED = re.compile(r"(?:\d[A-Za-z]|[A-Za-z]\^|√|sqrt|[|/])\S{0,8}\s?=\s?[$€£]?$")
_TAKEN = re.compile(
    r"\s?(?:\w+\s){0,2}?(?:is|,? which is|would be|,)\s(?:not|wrong|incorrect|impossible|false|too)\b"
    r"|\s(?:squared|cubed|doubled|halved)\b|\sand\s(?:a|one)\s(?:half|third|quarter)\b",
    re.IGNORECASE,
)


def strict_answer(text: str) -> str | None:
    """The content of the single `<answer>` block, as train-rl and eval read it; None if there is none or several."""
    return parse_completion(text, k=0).answer


def flexible_answer(text: str, answer_type: str | None = None) -> str | None:
    r"""The last stated answer in a usual form: answer block, else `Answer:` line, `####`, `\boxed`; else the last line
    where it can be an answer, else the last number.

    answer_type: for types that are words (choice, label, text, date, list) the last line counts, not its last number.
    """
    stated = stated_answer(text, answer_type)
    if stated is not None:
        return stated
    text = plain_money(_ENDS.sub("", _CALCULATOR.sub("", _after_thought(text[-TAIL:])))).rstrip()
    for begin, end in (("\\[", "\\]"), ("$$", "$$")):  # a formula on lines of its own
        if text.rstrip(".").endswith(end) and (start := text.rfind(begin, 0, len(text) - 3)) >= 0:
            return unwrap(text[start:])
    before, _, line = (part.strip() for part in text.rpartition("\n"))
    if marker := re.fullmatch(r"(\d{1,2})[.)]", line):  # the last item of a list, not written
        last = before.rpartition("\n")[2].lstrip()
        if last.startswith((f"{int(marker[1]) - 1}.", f"{int(marker[1]) - 1})")):
            return None
    if bold := _ENDS_BOLD.search(line):
        return unwrap(bold[1])
    if answer_type not in (None, "number", "expr"):
        return unwrap(line) if 0 < len(line) <= MAX_LINE else None
    return _last_line(line) or _last_math(text[-MAX_CHARS:]) or last_number(text)


def _after_thought(text: str) -> str:
    """What stands behind a thought, where something does."""
    after = text.rpartition("</think>")[2]
    return after if after.strip() else text


def stated_answer(text: str, answer_type: str | None = None) -> str | None:
    """As `flexible_answer`, but None where the text only ends in some number; what is stated and then taken back
    (`Wait, that is wrong`) does not count."""
    text = plain_money(_ENDS.sub("", _after_thought(text[-TAIL:])))
    close = text.rfind("</answer>")
    start = text.rfind("<answer>", 0, close) if close >= 0 else -1
    if start >= 0 and (answer := unwrap(text[start + len("<answer>") : close])):
        return answer
    found = [(match.end(), text[match.end() :].partition("\n")[0]) for match in list(_STATED.finditer(text))[-1:]]
    for pattern in (_BELOW, _HASHES):
        for match in list(pattern.finditer(text))[-1:]:
            group = next(i for i, content in enumerate(match.groups(), 1) if content)
            found.append((match.start(group), match[group]))
    found = [(at, _with_bullets(text, at, content)) for at, content in found]
    if box := boxed(text):
        found = [(at, content) for at, content in found if at > box[0]] + [(box[0], f"\\boxed{{{box[1]}}}")]
    for at, content in sorted(found, reverse=True):
        if answer := (unwrap(content) if content.startswith("\\boxed{") else _from_sentence(content, answer_type)):
            later = text[at:].partition("\n")[2]
            return stated_answer(later, answer_type) if _RETRACTED.search(later) else answer
    return None


def _with_bullets(text: str, at: int, content: str) -> str:
    """An answer that is a list with bullets, all of it."""
    if not re.match(r"[-*•]\s", content):
        return content
    lines = text[at:].split("\n")
    size = next((i for i, line in enumerate(lines) if not re.match(r"\s{0,8}[-*•]\s", line)), len(lines))
    return "\n".join(lines[:size])


def _from_sentence(content: str, answer_type: str | None) -> str | None:
    """The answer in what follows `answer is`: all of it, but for a sentence about a number that it ends in."""
    content = content.partition("<|")[0]
    span = _SPAN.match(content)
    if span and re.match(r"[.,;]?\s{1,4}[A-Z]", content[span.end() :]):  # "$5$. This is ..."
        content = span.group()
    answer = unwrap(content)
    if answer_type not in (None, "number", "expr"):
        return answer
    if answer is None or len(_WORDS.findall(_SPAN.sub(" ", answer))) < 3 or read_number(answer) is not None:
        return answer
    last = _last_math(answer) or last_number(answer)
    at = answer.rfind(last) if last else -1
    ends = (
        at > 0
        and not re.search(r"\w", answer[at + len(last or "") :].strip("$ .*_)\\"))
        and _IS.search(answer[:at].rstrip(" $*\\(["))
    )
    if ends and not re.search(r"\bnot\b", answer):
        return last
    denied = re.search(r"\b(?:no|not|none|never)\b|n't", answer)
    told = _TELLS.match(answer) and len(numbers_in(answer)) == 1 and not denied  # She has 5 apples left
    return last if told and last else answer


def _last_math(line: str) -> str | None:
    """The last formula between delimiters, where no number follows it; money (`$5 and $6`) is none."""
    spans = [m for m in _SPAN.finditer(line) if _is_math(next(group for group in m.groups() if group))]
    while spans and re.search(r"\b(?:not|never|cannot)\s{0,2}$", line[: spans[-1].start()]):
        spans.pop()
    if not spans or re.search(r"\d", _SPAN.sub(" ", line[spans[-1].end() :])):
        return None
    found = [spans[-1]]
    for span in reversed(spans[:-1]):
        if line[span.end() : found[0].start()].strip(" ,").lower() not in ("", "and", "or"):
            break
        found.insert(0, span)
    return ", ".join(text for span in found if (text := unwrap(span.group())))


def _is_math(inner: str) -> bool:
    words = _WORDS.findall(_LATEX.sub(" ", TEXT.sub(" ", inner)))
    return all(word.lower() in _NAMES for word in words) and not (inner[:1].isdigit() and inner[-1:].isspace())


def _last_line(line: str) -> str | None:
    """The last line where it is nothing but an answer: a formula, a number with its unit, or words without a number."""
    if not 0 < len(line) <= MAX_LINE:
        return None
    plain = unwrap(line)
    if plain is None:
        return None
    begins = _SPAN.match(line)
    if (begins and not line[begins.end() :].strip(". ")) or not (_LATEX.search(plain) or re.search(r"\d", plain)):
        return plain
    if (bold := _BOLD.findall(line)) and any(char.isdigit() for char in bold[-1]):
        return unwrap(bold[-1])
    if read_number(plain) is not None and "=" not in plain and len(_WORDS.findall(plain)) <= 2:
        return plain
    words = [word for word in _WORDS.findall(_LATEX.sub(" ", TEXT.sub(" ", plain))) if word.lower() not in _NAMES]
    prose = re.search(r"\s", plain) and not re.search(r"[-+*/^=\\√<>|(){}]", plain)
    if words or prose or plain.count("{") != plain.count("}"):
        return None
    before, equals, value = plain.rpartition("=")
    worked_out = equals and read_number(value) is not None and not re.search("[A-Za-z]", before)
    return value.strip() if worked_out else plain


def last_number(text: str) -> str | None:
    """The last number with its sign, currency and factor; None where it is part of an unfinished sum or a formula."""
    text = text[-TAIL:]
    text = text.replace("\\$", "$").replace("{,}", ",").replace(",\\!", ",")
    if not text.isascii():
        text = _TEN_TO.sub(lambda m: normal(m.group()), one_dash(text))
    for match in reversed(list(_LAST.finditer(text))):
        if not any(char.isdigit() for char in match["digits"]):
            continue
        number = match.group().strip()
        before, after = text[max(0, match.start() - 60) : match.start()].rpartition("\n")[2], text[match.end() :]
        signed = match["sign"] or match["sign2"]
        if before.lstrip().startswith('{"') or _AFTER.match(after) or _TAKEN.match(after) or _DENIED.search(before):
            return None
        if _UNSOLVED.search(before):  # 2x = 6
            return None
        if (inside := _IN_BRACKETS.search(before)) and (end := re.match(r"\s?[)\]}]", after)):  # the point (-3, 2)
            return f"{inside.group()}{number}{end.group()}".strip()
        if not signed and _BEFORE.search(text[: match.start("digits")][-4:]):
            return _with_unit(text, match.start()) if before.rstrip().endswith(("/", "^")) else None
        if (
            before.endswith("(")
            and (closed := re.match(rf"\)({SCALED})?", after))
            and not before[:-1].rstrip().endswith(NUMBER_WORDS)
        ):
            return f"({number}){closed[1] or ''}"  # an accountant's minus
        if glued := re.match(r"[A-Za-z_°µ]\S{0,12}", after):
            number += glued[0].rstrip(".,;:)!?*$")
            if read_number(number) is None:
                continue
        elif re.match(r"\s?\\", before[-2:]) or before.rstrip()[-1:] == "\\":
            continue
        return number.rstrip(",.'")
    return None


def _with_unit(text: str, end: int) -> str | None:
    """The number before a place in whose unit that place stands (`60 mL/min/1.73 m²`), None where there is none."""
    window = text[max(0, end - 40) : end].rpartition("\n")[2]
    for found in reversed([m for m in _LAST.finditer(window) if m["digits"].strip()]):
        if window[: found.start("digits")].rstrip().endswith(("/", "^")):
            continue
        number = text[end - len(window) + found.start() :].partition("\n")[0].strip().rstrip(".")
        return number if read_number(number) is not None else None
    return None


def numbers_in(text: str) -> list[str]:
    """Numbers as written, commas removed, in order; at most the first 20,000 characters are read."""
    return [n.replace(",", "") for n in _NUMBER.findall(text[:TAIL]) if any(c.isdigit() for c in n)]
