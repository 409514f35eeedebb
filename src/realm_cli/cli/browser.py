"""The terminal program of `realm show`: a list of rows, one row in full, and the rows that it names."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.widgets import Footer, Input, OptionList, Static

from realm_cli.stages.browsing import Link, RowFile, describe, links_of, open_rows, title

LISTED = 5000  # rows in the list at once; a filter finds the others


class Browser(App[None]):
    """Keys: / filter, Enter or Tab to the row's links, Enter on a link follows it, b goes back, q ends."""

    CSS = """
    #list { width: 45%; border-right: solid $primary; }
    #row { width: 55%; padding: 0 1; }
    #links { height: auto; max-height: 8; border-top: solid $primary; }
    #filter { display: none; }
    #filter.on { display: block; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        ("slash", "filter", "Filter"),
        ("b", "go_back", "Back"),
        ("q", "quit", "Quit"),
    ]

    def __init__(self, table: RowFile, query: str = "", row_id: str | None = None) -> None:
        super().__init__()
        self.table, self.text, self.wanted = table, query, row_id
        self.listed: list[int] = []
        self.links: list[Link] = []
        self.before: list[tuple[Path, str, int]] = []  # file, filter, row

    def compose(self) -> ComposeResult:
        yield Input(placeholder="words, or key=value; Enter filters, empty shows all", id="filter")
        with Horizontal():
            yield OptionList(id="list")
            with VerticalScroll(id="row"):
                yield Static(id="text")
        yield OptionList(id="links")
        yield Footer()

    def on_mount(self) -> None:
        found = self.table.index_of(self.wanted) if self.wanted else None
        self._list(found)

    def _list(self, index: int | None = None) -> None:
        """Fill the list, and stand on the row `index`."""
        rows = self.table.find(self.text) if self.text else iter(range(len(self.table)))
        self.listed = [i for i, _ in zip(rows, range(LISTED), strict=False)]
        if index is not None and index not in self.listed:
            self.listed.insert(0, index)
        options = self.query_one("#list", OptionList)
        options.clear_options()
        options.add_options([Text(title(self.table.row(i)), no_wrap=True, overflow="ellipsis") for i in self.listed])
        more = f" of {len(self.table)}" if len(self.listed) < len(self.table) else ""
        self.title = self.sub_title = f"{self.table.path}: {len(self.listed)}{more} rows"
        options.border_title = self.title
        if self.listed:
            options.highlighted = self.listed.index(index) if index is not None else 0
        else:
            self._show(None)
        options.focus()

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        if event.option_list.id == "list":
            self._show(self.listed[event.option_index])

    def _show(self, index: int | None) -> None:
        row = {} if index is None else self.table.row(index)
        self.query_one("#text", Static).update(Text(describe(row) if row else "no row holds this"))
        self.links = links_of(self.table.path, row)
        box = self.query_one("#links", OptionList)
        box.clear_options()
        box.add_options([Text(f"{link.name}: {link.row_id}  in {link.path.name}") for link in self.links])
        box.highlighted = 0 if self.links else None
        box.display = bool(self.links)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        if event.option_list.id == "list":
            if self.links:
                self.query_one("#links", OptionList).focus()
            return
        link = self.links[event.option_index]
        at = self.query_one("#list", OptionList).highlighted or 0
        self.before.append((self.table.path, self.text, self.listed[at]))
        self.table, self.text = open_rows(link.path), ""
        self._list(self.table.index_of(link.row_id))

    def action_filter(self) -> None:
        """Show the line for the filter."""
        box = self.query_one("#filter", Input)
        box.add_class("on")
        box.value = self.text
        box.focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self.text = event.value.strip()
        event.input.remove_class("on")
        self._list()

    def action_go_back(self) -> None:
        """To where a link was followed from."""
        if self.before:
            path, self.text, index = self.before.pop()
            self.table = open_rows(path)
            self._list(index)
