"""A K/V cache with room: decoding writes in place, where transformers' DynamicCache copies all of it at every token.

Usage: `make_room(output.past_key_values, max_new_tokens)` after the prompt's forward.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import DynamicLayer

BLOCK = 256  # tokens by which a full buffer grows


class RoomyLayer(DynamicLayer):
    """A DynamicLayer over a buffer (B, heads, capacity, d); `keys` and `values` are views of its filled part."""

    def __init__(self, layer: DynamicLayer, room: int) -> None:
        super().__init__()
        self.dtype, self.device, self.is_initialized = layer.dtype, layer.device, True
        self.keys, self.values = layer.keys, layer.values
        self._grow(min(room, BLOCK))

    def _grow(self, room: int) -> None:
        *lead, length, size = self.keys.shape
        self._keys = self.keys.new_empty(*lead, length + room, size)
        self._values = self.values.new_empty(*lead, length + room, self.values.shape[-1])
        self._keys[..., :length, :], self._values[..., :length, :] = self.keys, self.values
        self._view(length)

    def _view(self, length: int) -> None:
        self.keys, self.values = self._keys[..., :length, :], self._values[..., :length, :]

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append (B, heads, n, d) keys and values; the views of everything so far."""
        start, end = self.keys.shape[-2], self.keys.shape[-2] + key_states.shape[-2]
        if end > self._keys.shape[-2]:
            self._grow(max(BLOCK, key_states.shape[-2]))
        self._keys[..., start:end, :], self._values[..., start:end, :] = key_states, value_states
        self._view(end)
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep these rows."""
        length = self.keys.shape[-2]
        self._keys, self._values = self._keys[indices], self._values[indices]
        self._view(length)


def make_room(cache: Any, tokens: int) -> None:
    """Give the cache's full-attention layers a buffer for `tokens` more; other kinds of layers stay as they are."""
    for i, layer in enumerate(cache.layers):
        if type(layer) is DynamicLayer and layer.get_seq_length() > 0:
            cache.layers[i] = RoomyLayer(layer, tokens)
