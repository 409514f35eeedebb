"""Keys and values while sampling: one copy of a prompt for all rows that continue it, room for each row's own tokens.

Prompts live in *blocks* (N prompts padded at the end to one width), rows' own tokens in one preallocated buffer per
layer. Rows may be at different lengths, since new ones join while others are on their way. `attend` is the decode
layout of engines/grouped_attention.py: it takes the new token's key and value in and attends to both parts.

Usage: `cache = DecodeCache(layers, room=max_tokens)`; `cache.join(kept, groups, rows_of_group)`; one forward per token
with `{LAYOUT: cache}` between `cache.begin()` calls; `cache.keep(rows)` drops the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from realm_cli.engines.grouped_attention import PackedGroup, hidden, merge, part

States = list[tuple[torch.Tensor, torch.Tensor]]  # (keys, values) of each layer
BLOCK = 128  # own tokens by which the buffers grow
MAX_BLOCKS = 4  # more prompt blocks than this are put into one
WASTE = 1.5  # unless padding would make it this much larger


@dataclass
class _Prompts:
    """N prompts of a block: states (N, H_kv, P, d) per layer, lengths (N,), and the batch rows that continue each."""

    states: States
    lengths: torch.Tensor
    rows: list[list[int]]

    def __post_init__(self) -> None:
        width = self.states[0][0].size(2)
        device = self.lengths.device
        seen = torch.arange(width, device=device) < self.lengths[:, None]
        self.mask = None if bool(seen.all()) else hidden(seen, self.states[0][0].dtype)[:, None, None]
        self.place()

    def place(self) -> None:
        """Work out which query goes where; after `rows` has changed."""
        most = max(len(rows) for rows in self.rows)
        flat = [row for rows in self.rows for row in rows]
        self.even = all(len(rows) == most for rows in self.rows) and flat == list(range(flat[0], flat[0] + len(flat)))
        self.first, self.count = flat[0], len(flat)
        device = self.lengths.device
        padded = [rows + rows[-1:] * (most - len(rows)) for rows in self.rows]
        self.gather = torch.tensor(padded, device=device)  # (N, most) batch rows
        slots = [i * most + j for i, rows in enumerate(self.rows) for j in range(len(rows))]
        self.slots, self.target = torch.tensor(slots, device=device), torch.tensor(flat, device=device)


class DecodeCache:
    """A batch in decoding. `rows`: how many there are; `lengths` (B,): tokens of prompt and own text of each row."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.blocks: list[_Prompts] = []
        self.own: States = []  # (B, H_kv, room, d) per layer
        self.sizes: torch.Tensor = torch.zeros(0, dtype=torch.long)  # own tokens of each row
        self.prompt: torch.Tensor = torch.zeros(0, dtype=torch.long)  # prompt tokens of each row
        self._at = 0

    @property
    def rows(self) -> int:
        """Rows of the batch."""
        return int(self.sizes.numel())

    @property
    def lengths(self) -> torch.Tensor:
        """(B,) position of the next token of each row."""
        return self.prompt + self.sizes

    def join(self, kept: States, groups: Sequence[PackedGroup], counts: Sequence[int]) -> None:
        """Add prompts, as a packed forward kept them, with `counts` new rows each, at the end of the batch."""
        device = kept[0][0].device
        width = max(group.prompt for group in groups)
        states = []
        for key, value in kept:
            pair = []
            for x in (key, value):
                block = x.new_zeros(len(groups), x.size(1), width, x.size(3))
                for i, group in enumerate(groups):
                    block[i, :, : group.prompt] = x[0, :, group.start : group.start + group.prompt]
                pair.append(block)
            states.append((pair[0], pair[1]))
        lengths = torch.tensor([group.prompt for group in groups], device=device)
        rows, at = [], self.rows
        for count in counts:
            rows.append(list(range(at, at + count)))
            at += count
        self.blocks.append(_Prompts(states, lengths, rows))
        self._add_rows(states, at - self.rows, lengths.repeat_interleave(torch.tensor(counts, device=device)))
        self._tidy()

    def share(self, prompt_row: int, count: int) -> None:
        """Add `count` rows, at the end of the batch, to the prompt that `prompt_row` continues."""
        block, i = next((b, i) for b in self.blocks for i, rows in enumerate(b.rows) if prompt_row in rows)
        block.rows[i] = block.rows[i] + list(range(self.rows, self.rows + count))
        block.place()
        self._add_rows(block.states, count, block.lengths[i].expand(count))

    def _add_rows(self, like: States, count: int, prompt: torch.Tensor) -> None:
        self.sizes = torch.cat([self.sizes.to(prompt.device), prompt.new_zeros(count)])
        self.prompt = torch.cat([self.prompt.to(prompt.device), prompt])
        room = min(self.room, BLOCK)
        if not self.own:
            shapes = [(count, x.size(1), room, x.size(3)) for x in like[0]]
            self.own = [(k.new_zeros(shapes[0]), v.new_zeros(shapes[1])) for k, v in like]
        else:
            self.own = [(_more(k, 0, count), _more(v, 0, count)) for k, v in self.own]

    def keep(self, rows: torch.Tensor) -> None:
        """Drop all rows but these (increasing indices), and the prompts that nobody continues."""
        new = {int(row): i for i, row in enumerate(rows.tolist())}
        self.sizes, self.prompt = self.sizes[rows], self.prompt[rows]
        self.own = [(k[rows], v[rows]) for k, v in self.own]
        blocks = []
        for block in self.blocks:
            left = [[new[row] for row in rows if row in new] for rows in block.rows]
            alive = [i for i, rows in enumerate(left) if rows]
            if not alive:
                continue
            if len(alive) < len(left):
                pick = torch.tensor(alive, device=block.lengths.device)
                lengths = block.lengths[pick]
                width = int(lengths.max())
                states = [(k[pick, :, :width], v[pick, :, :width]) for k, v in block.states]
                block = _Prompts(states, lengths, [left[i] for i in alive])
            else:
                block.rows = left
                block.place()
            blocks.append(block)
        self.blocks = blocks

    def _tidy(self) -> None:
        """Put many small blocks into one, where padding does not cost too much."""
        if len(self.blocks) <= MAX_BLOCKS:
            return
        lengths = torch.cat([block.lengths for block in self.blocks])
        width = int(lengths.max())
        if width * len(lengths) > WASTE * int(lengths.sum()):
            return
        states = []
        for layer in range(len(self.own)):
            pair = []
            for kind in (0, 1):
                parts = [block.states[layer][kind] for block in self.blocks]
                pair.append(torch.cat([_more(x, 2, width - x.size(2)) for x in parts]))
            states.append((pair[0], pair[1]))
        self.blocks = [_Prompts(states, lengths, [rows for block in self.blocks for rows in block.rows])]

    def begin(self) -> None:
        """Make room for one more token a row; before each forward."""
        need = int(self.sizes.max()) + 1
        have = self.own[0][0].size(2)
        if need > have:
            grow = min(max(BLOCK, have // 2), max(self.room - have, 1))
            self.own = [(_more(k, 2, grow), _more(v, 2, grow)) for k, v in self.own]
        self._at = need
        self._level = bool((self.sizes == need - 1).all())
        self._index = torch.arange(self.rows, device=self.sizes.device)
        seen = torch.arange(need, device=self.sizes.device) <= self.sizes[:, None]
        self._mask = None if self._level else hidden(seen, self.own[0][0].dtype)[:, None, None]
        self._windows: dict[int, tuple[list[torch.Tensor | None], torch.Tensor | None]] = {}

    def end(self) -> None:
        """Count the token that the forward has put in."""
        self.sizes = self.sizes + 1

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, window: int | None
    ) -> torch.Tensor:
        """See grouped_attention.Layout; T = 1."""
        keys, values = self.own[layer]
        if self._level:
            keys[:, :, self._at - 1], values[:, :, self._at - 1] = key[:, :, 0], value[:, :, 0]
        else:
            keys[self._index, :, self.sizes], values[self._index, :, self.sizes] = key[:, :, 0], value[:, :, 0]
        rows, heads, kv = query.size(0), query.size(1), key.size(1)
        query = query.reshape(rows, kv, heads // kv, query.size(3))  # all that read one key/value head together
        masks, own_mask = [block.mask for block in self.blocks], self._mask
        if window is not None and window < int(self.lengths.max()) + 1:
            masks, own_mask = self._window(window, heads // kv)
        own = part(query, keys[:, :, : self._at], values[:, :, : self._at], scale, own_mask)
        out, total = torch.empty_like(query), query.new_empty(query.shape[:3], dtype=torch.float32)
        for block, mask in zip(self.blocks, masks, strict=True):
            _prompt_part(block, query, layer, scale, mask, out, total)
        return merge((out, total), own)[0].reshape(rows, heads, 1, -1)

    def _window(self, window: int, repeat: int) -> tuple[list[torch.Tensor | None], torch.Tensor | None]:
        """The masks of a sliding window: a row at position p sees positions above p - window."""
        if window not in self._windows:
            dtype, device = self.own[0][0].dtype, self.sizes.device
            masks: list[torch.Tensor | None] = []
            for block in self.blocks:
                at = torch.arange(block.states[0][0].size(2), device=device)
                low = (self.lengths - window)[block.gather].repeat_interleave(repeat, dim=1)  # (N, most * repeat)
                seen = (at < block.lengths[:, None, None]) & (at > low[:, :, None])
                masks.append(hidden(seen, dtype)[:, None])
            own = torch.arange(self._at, device=device)
            seen = (own <= self.sizes[:, None]) & (own > (self.sizes - window)[:, None])
            self._windows[window] = masks, hidden(seen, dtype)[:, None, None]
        return self._windows[window]


def _prompt_part(
    block: _Prompts,
    query: torch.Tensor,
    layer: int,
    scale: float,
    mask: torch.Tensor | None,
    out: torch.Tensor,
    total: torch.Tensor,
) -> None:
    """The rows' attention to their prompts, into `out` (B, H_kv, r, d) and `total` (B, H_kv, r)."""
    n, most = block.gather.shape
    _, kv, repeat, size = query.shape
    picked = query[block.first : block.first + block.count] if block.even else query[block.gather.reshape(-1)]
    asked = picked.view(n, most, kv, repeat, size).transpose(1, 2).reshape(n, kv, most * repeat, size)
    o, z = part(asked, *block.states[layer], scale, mask)
    o = o.reshape(n, kv, most, repeat, size).transpose(1, 2)  # (N, most, H_kv, r, d)
    z = z.reshape(n, kv, most, repeat).transpose(1, 2)
    if block.even:
        span = slice(block.first, block.first + block.count)
        out[span].view(o.shape).copy_(o)
        total[span].view(z.shape).copy_(z)
    else:
        out[block.target] = o.reshape(n * most, kv, repeat, size)[block.slots]
        total[block.target] = z.reshape(n * most, kv, repeat)[block.slots]


def _more(x: torch.Tensor, dim: int, count: int) -> torch.Tensor:
    """`x` with `count` zeros appended along `dim`: zeros, since what a mask hides must still be a number."""
    if count <= 0:
        return x
    shape = list(x.shape)
    shape[dim] = count
    return torch.cat([x, x.new_zeros(shape)], dim=dim)
