"""The page of a report: page.html filled with plain data. No script, no font, no picture from elsewhere.

Usage: `html = render(run_report(run, progress=progress))`. Every text is shown as it is written (errors.printable) and
escaped by jinja2; the page's own policy forbids it to load anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from realm_cli import __version__
from realm_cli.errors import printable

MARK = '<meta name="generator" content="realm report">'  # in a page that may be replaced


def render(data: Mapping[str, Any]) -> str:
    """The whole page."""
    import jinja2
    from markupsafe import Markup

    from realm_cli.report.charts import interval_chart, line_chart

    def shown(value: object) -> object:
        if isinstance(value, Markup | jinja2.Undefined):
            return value
        return printable(str(value), keep="\n")

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(line_chart=line_chart, interval_chart=interval_chart, tint=tint, version=__version__)
    return environment.get_template("page.html").render(data, mark=Markup(MARK))


def tint(support: float | None) -> str:
    """CSS class of a step: p3 (best supported) ... p1, n1 ... n3 (least), or na. Thirds of -1 to 1."""
    if support is None or not -1e9 < support < 1e9:
        return "na"
    level = 3 if abs(support) > 0.4 else 2 if abs(support) > 0.15 else 1
    return f"{'p' if support >= 0 else 'n'}{level}"
