"""Attention: one description of what is visible, several kernels, and the choice between them."""

from gptjax.attention.call import Call
from gptjax.attention.choice import IMPLEMENTATIONS, Choice, Implementation, attend, choose
from gptjax.attention.visible import Visible

__all__ = ["IMPLEMENTATIONS", "Call", "Choice", "Implementation", "Visible", "attend", "choose"]
