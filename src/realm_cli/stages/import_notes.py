"""What an import tells: columns that nothing uses, with the option that would; rejects by reason; counts by split.

Usage: `unused_note(rows, columns)`, `reject_notes(rejects, of)`
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from realm_cli.records import Problem, Split
from realm_cli.stages.import_cells import columns_of, names_in
from realm_cli.stages.import_rows import Columns
from realm_cli.stages.import_types import rows_told

_WOULD = {
    "--tolerance": "tolerance tol abs_tol rel_tol atol rtol tolerance_abs tolerance_rel margin error_margin",
    "--lower": "lower lower_limit lower_bound min minimum low",
    "--upper": "upper upper_limit upper_bound max maximum high",
    "--split": "split subset partition fold",
    "--choices": "choices options option candidates mc1_targets endings",
    "--answers": "answers aliases alternatives accepted acceptable_answers answer_aliases",
    "--answer-type": "answer_type answertype ans_type",
    "--solution": "solution explanation rationale reasoning cot worked_solution gold_solution long_answer",
    "--group": "group category subject topic family level difficulty",
    "--split-by": "note note_id context contexts passage document doc_id patient patient_id title source_id case_id",
    "--id": "id idx uid question_id",
}
OPTION_OF = {name: option for option, names in _WOULD.items() for name in names.split()}


def used_names(rows: Sequence[tuple[str, Mapping[str, Any]]], columns: Columns) -> dict[str, list[str]]:
    """Option -> the columns or paths that it names."""
    cells = [row for _, row in rows[:1000]]
    named = {"--question": names_in(columns.question, cells), "--choices": list(columns.choices)}
    named["--answers"] = list(columns.answers)
    named |= {"--solution": names_in(columns.solution, cells)} if columns.solution is not None else {}
    for name in ("answer", "id", "split", "group", "split_by", "tolerance", "lower", "upper", "answer_type"):
        if (value := getattr(columns, name)) is not None:
            named["--" + name.replace("_", "-")] = [value]
    return named


def unused_note(rows: Sequence[tuple[str, Mapping[str, Any]]], columns: Columns) -> list[str]:
    """One line that names the columns which no option uses, with the options that would use them."""
    named = used_names(rows, columns)
    used = {name for names in named.values() for name in names}
    left = [name for name in columns_of(rows) if not any(u == name or u.startswith(f"{name}.") for u in used)]
    told = []
    for name in left:
        option = OPTION_OF.get(name.strip().lower().replace(" ", "_").replace("-", "_"))
        told.append(f"{name} ({option})" if option and not named.get(option) else name)
    told.sort(key=lambda text: not text.endswith(")"))
    return (
        [f"columns not used: {', '.join(told[:12])}{f' and {len(told) - 12} more' if told[12:] else ''}"]
        if left
        else []
    )


def reject_notes(rejects: Sequence[tuple[str, str, Any]], of: int) -> Iterator[str]:
    """All reasons with their counts, the most frequent first, and one example each."""
    kinds: dict[str, list[tuple[str, str]]] = {}
    for place, reason, _ in rejects:
        kind, _, detail = reason.partition(": ")
        kinds.setdefault(kind, []).append((place, detail))
    if len(kinds) > 1:
        yield f"left out {rows_told(len(rejects))} of {of}, for {len(kinds)} reasons"
    for kind, at in sorted(kinds.items(), key=lambda item: -len(item[1])):
        place, detail = at[0]
        yield f"left out {rows_told(len(at))}: {kind}, e.g. {place}" + (f": {detail}" if detail else "")


def reasons(rejects: Sequence[tuple[str, str, Any]]) -> dict[str, int]:
    """Reason -> rows, without the rows' own details."""
    return dict(Counter(reason.partition(": ")[0] for _, reason, _ in rejects))


def place_counts(problems: Sequence[Problem]) -> Iterator[tuple[str, int, int, str]]:
    """(split, problems, different answers, the most frequent answer) by split."""
    for split in get_args(Split):
        chosen = [problem.answer for problem in problems if problem.split == split]
        common = Counter(chosen).most_common(1)
        yield split, len(chosen), len(set(chosen)), f"{common[0][0]} ({common[0][1]})" if common else "-"
