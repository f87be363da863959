"""The claim that the family computes what it says, held against a float64 decoder in numpy, one row at a time."""

import math
from dataclasses import replace

import jax
import numpy as np
from numpy.testing import assert_allclose

V = 53


def norm(x, p, config):
    if config.norm == "layer":
        x = x - x.mean(-1, keepdims=True)
    x = x / np.sqrt((x**2).mean(-1, keepdims=True) + config.norm_eps)
    return x * p["scale"] + p.get("bias", 0.0)


def linear(x, p):
    return x @ p["kernel"] + p.get("bias", 0.0)


def rotate(x_TH, theta):
    T, H = x_TH.shape
    turns = np.exp(1j * np.outer(np.arange(T), theta ** (-np.arange(H // 2) * 2 / H)))
    z = (x_TH[:, : H // 2] + 1j * x_TH[:, H // 2 :]) * turns
    return np.concatenate([z.real, z.imag], axis=1)


def convolved(x_TD, taps_JD):
    early = [np.concatenate([np.zeros_like(x_TD[:j]), x_TD[: len(x_TD) - j]]) for j in range(len(taps_JD))]
    return x_TD + sum(tap * x for tap, x in zip(taps_JD, early, strict=True))


def attention(x, p, config):
    T, (N, K) = len(x), (config.heads, config.kv_heads or config.heads)
    H, outs = config.width // N, []
    for n in range(N):
        part = slice(n * H, (n + 1) * H)
        shared = slice(n // (N // K) * H, (n // (N // K) + 1) * H)
        q, k, v = linear(x, p["q"])[:, part], linear(x, p["k"])[:, shared], linear(x, p["v"])[:, shared]
        if config.qk_norm:
            q, k = (norm(a, p[name], replace(config, norm="rms")) for a, name in ((q, "q_norm"), (k, "k_norm")))
        if config.positions == "rotary":
            q, k = rotate(q, config.rope_theta), rotate(k, config.rope_theta)
        out = np.zeros((T, H))
        for t in range(T):
            first = 0 if config.window is None else max(0, t - config.window + 1)
            weights = np.exp(k[first : t + 1] @ q[t] / math.sqrt(H))
            out[t] = weights @ v[first : t + 1] / weights.sum()
        outs.append(out)
    return linear(np.concatenate(outs, axis=1), p["o"])


def mlp(x, p, config):
    up = linear(x, p["up"])
    if config.mlp == "swiglu":
        gate = linear(x, p["gate"])
        return linear(gate / (1 + np.exp(-gate)) * up, p["down"])
    if config.mlp == "relu2":
        return linear(np.maximum(up, 0) ** 2, p["down"])
    return linear(up * 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (up + 0.044715 * up**3))), p["down"])


def reference(config, params, inputs_T):
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    x = params["embed"]["tokens"][inputs_T]
    if config.positions == "learned":
        x = x + params["embed"]["positions"][: len(x)]
    if config.embed_norm:
        x = norm(x, params["embed_norm"], config)
    for layer in range(config.layers):
        p = jax.tree.map(lambda a, layer=layer: a[layer], params["blocks"])
        for name, branch in (("attn", attention), ("mlp", mlp)):
            h = norm(x, p[f"{name}_norm"], config) if config.norm_place == "pre" else x
            h = convolved(h, p[f"{name}_conv"]["taps"]) if config.conv_tokens else h
            x = x + branch(h, p[name], config)
            x = norm(x, p[f"{name}_norm"], config) if config.norm_place == "post" else x
    if config.norm_place == "pre":
        x = norm(x, params["final_norm"], config)
    logits = x @ (params["embed"]["tokens"].T if config.tied else params["head"]["kernel"])
    return logits if config.logit_softcap is None else config.logit_softcap * np.tanh(logits / config.logit_softcap)


def test_logits_equal_an_independent_decoder(built, inputs):
    logits_BTV = np.asarray(built.apply(built.params, inputs))
    for row, inputs_T in zip(logits_BTV, np.asarray(inputs), strict=True):
        assert_allclose(row[:, :V], reference(built.config, built.params, inputs_T)[:, :V], rtol=2e-4, atol=2e-4)
