"""One attention described by its shapes: all that a kernel needs to say whether it can serve."""

from typing import Any, NamedTuple

from gptjax.attention.visible import Visible

KEPT = "attention"
"""The name of what a kernel keeps for its backward pass, by which a policy of rematerialisation knows it."""


class Call(NamedTuple):
    """What is asked of a kernel, before there are arrays; see `gptjax.attention.attend`."""

    dtype: Any
    queries: int
    """T."""
    keys: int
    """S."""
    heads: int
    """N."""
    kv_heads: int
    """K."""
    head_size: int
    """H."""
    visible: Visible
    dropout: float = 0.0
