"""The peer: GPT-2 in PyTorch as a good user would write it, and our parameters in its layout.

Fused query-key-value product, `scaled_dot_product_attention`, tanh-GELU, tied head, fused AdamW, autocast on a GPU.
PyTorch is no dependency of gptjax: pip install torch.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

from gptjax.models.gpt import GPT

Mix = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""Attention: q, k, v to what is read, each [B, N, T, H]."""


def causal(q_BNTH: torch.Tensor, k_BNTH: torch.Tensor, v_BNTH: torch.Tensor) -> torch.Tensor:
    """PyTorch's fused causal attention."""
    return F.scaled_dot_product_attention(q_BNTH, k_BNTH, v_BNTH, is_causal=True)


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, mlp_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.attn_norm, self.mlp_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, mlp_width), nn.Linear(mlp_width, width)

    def forward(self, x_BTD: torch.Tensor, mix: Mix) -> torch.Tensor:
        B, T, D = x_BTD.shape
        qkv_BTD = self.qkv(self.attn_norm(x_BTD)).split(D, dim=2)
        q_BNTH, k_BNTH, v_BNTH = (x.view(B, T, self.heads, -1).transpose(1, 2) for x in qkv_BTD)
        mixed_BNTH = mix(q_BNTH, k_BNTH, v_BNTH)
        x_BTD = x_BTD + self.out(mixed_BNTH.transpose(1, 2).reshape(B, T, D))
        return x_BTD + self.down(F.gelu(self.up(self.mlp_norm(x_BTD)), approximate="tanh"))


class TorchGPT(nn.Module):
    """GPT-2 of the shape of a `GPT` config with its published choices; `forward` gives the mean nats of the targets."""

    def __init__(self, config: GPT, padded_vocab_size: int, vocab_size: int) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.tokens = nn.Embedding(padded_vocab_size, config.width)
        self.positions = nn.Embedding(config.context, config.width)
        self.blocks = nn.ModuleList(_Block(config.width, config.heads, config.mlp_width) for _ in range(config.layers))
        self.final_norm = nn.LayerNorm(config.width)

    def forward(
        self,
        inputs_BT: torch.Tensor,
        targets_BT: torch.Tensor,
        weights_BT: torch.Tensor | None = None,
        positions_BT: torch.Tensor | None = None,
        mix: Mix = causal,
    ) -> torch.Tensor:
        """inputs_BT, targets_BT, positions_BT int64; with float weights their sum of weight * nats instead."""
        if positions_BT is None:
            positions_BT = torch.arange(inputs_BT.shape[1], device=inputs_BT.device)
        x_BTD = self.tokens(inputs_BT) + self.positions(positions_BT)
        for block in self.blocks:
            x_BTD = block(x_BTD, mix)
        logits_BTV = F.linear(self.final_norm(x_BTD), self.tokens.weight)
        if weights_BT is None:
            return F.cross_entropy(logits_BTV.flatten(0, 1), targets_BT.flatten())
        nats_M = F.cross_entropy(logits_BTV.flatten(0, 1), targets_BT.flatten(), reduction="none")
        return (weights_BT.flatten() * nats_M).sum()


@torch.no_grad()
def load(peer: TorchGPT, params: Any) -> None:
    """Give the peer our parameters, so that both start from the same loss."""

    def put(target: torch.Tensor, source: Any) -> None:
        target.copy_(torch.from_numpy(np.array(source, np.float32)))

    put(peer.tokens.weight, params["embed"]["tokens"])
    put(peer.positions.weight, params["embed"]["positions"])
    _put_norm(put, peer.final_norm, params["final_norm"])
    blocks = params["blocks"]
    for number, block in enumerate(peer.blocks):
        attn, mlp = blocks["attn"], blocks["mlp"]
        for name, part in (("kernel", block.qkv.weight), ("bias", block.qkv.bias)):
            put(part, np.concatenate([np.asarray(attn[x][name][number]) for x in "qkv"], axis=-1).T)
        for linear, ours in ((block.out, attn["o"]), (block.up, mlp["up"]), (block.down, mlp["down"])):
            put(linear.weight, np.asarray(ours["kernel"][number]).T)
            put(linear.bias, ours["bias"][number])
        for norm, name in ((block.attn_norm, "attn_norm"), (block.mlp_norm, "mlp_norm")):
            _put_norm(put, norm, {k: v[number] for k, v in blocks[name].items()})


def _put_norm(put: Any, norm: nn.LayerNorm, ours: Any) -> None:
    put(norm.weight, ours["scale"])
    put(norm.bias, ours["bias"])
