"""Attention: one description of what is visible, several kernels, and the choice between them."""

from gptjax.attention.choice import IMPLEMENTATIONS, Implementation, attend, choose
from gptjax.attention.visible import Visible

__all__ = ["IMPLEMENTATIONS", "Implementation", "Visible", "attend", "choose"]
