"""On a CPU alone: attention of many sequences at once, where SGLang's plain torch goes one by one.

Between two models of some million parameters that loop is more than half of the time. Here the keys and values of some
sequences are gathered into one padded block, small enough for the processor's cache, and one call of torch attends to it.
"""

from __future__ import annotations

import torch
from torch.nn.functional import scaled_dot_product_attention

_BLOCK = 1 << 18  # elements of the keys of a block: 1 MB in float32; larger ones are slower, by cache misses and page faults


def attend(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, slots: torch.Tensor, before: torch.Tensor,
    counts: torch.Tensor, scaling: float,
) -> torch.Tensor:  # fmt: skip
    """Causal attention of the last tokens of some sequences to all of theirs.

    Args:
        query: (N, heads, width), sequence after sequence.
        keys, values: (slots, heads that share them, width).
        slots: (m, longest) of each sequence's tokens; what stands after its end is not read.
        before: (m,) tokens of each sequence before those of `query`.
        counts: (m,) of those, at least one each.
        scaling: of the scores.

    Returns:
        (N, heads, width)
    """
    m, (n, heads, width), shared = len(slots), query.shape, keys.shape[1]
    most, group = int(counts.max()), heads // shared
    filled = None
    if n != m * most:
        filled = torch.arange(most) < counts[:, None]
        padded = query.new_zeros((m, most, heads, width))
        padded[filled] = query
        query = padded
    # the heads that share keys stand side by side, as if they were further positions
    query = query.view(m, most, shared, group, width).permute(0, 2, 1, 3, 4).reshape(m, shared, most * group, width)
    ends = before + counts
    last = (before[:, None] + torch.arange(most)).minimum(ends[:, None] - 1).repeat_interleave(group, 1)
    out = torch.empty_like(query)
    size = max(1, _BLOCK // (slots.shape[1] * shared * width))
    for begin in range(0, m, size):
        some = slice(begin, begin + size)
        longest = int(ends[some].max())
        seen = torch.arange(longest) <= last[some, :, None]
        read = torch.where(seen[:, -1], slots[some, :longest], 0)  # no stranger's keys
        k, v = (
            pool.view(len(pool), -1).index_select(0, read.flatten()).view(*read.shape, shared, width).transpose(1, 2)
            for pool in (keys, values)
        )
        out[some] = scaled_dot_product_attention(query[some], k, v, attn_mask=seen[:, None], scale=scaling)
    out = out.view(m, shared, most, group, width).permute(0, 2, 1, 3, 4).reshape(m, most, heads, width)
    return out.view(n, heads, width) if filled is None else out[filled]
