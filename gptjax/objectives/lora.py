"""Low-rank adapters: any objective over any model, of whose matrices W only W + (alpha / rank) A B is learnt.

    h = x (W + (alpha / rank) A B)        A [in, rank], B [rank, out], W frozen

B starts at zero, so the first logits are exactly the base's. The sum is made before the model reads its parameters: no
model knows of adapters, and whatever is stacked before a kernel's last two axes (layers, gates) has adapters of its
own. Of every matrix a micro-batch costs one product of A and B besides, two more going back, and the whole matrix's
gradient still exists for a moment; what is saved is the optimizer's state and the averages, which are the adapters'
alone. Under bfloat16 the sum is rounded to W's own grid, so that a step does not see changes below a 256th of an entry;
evaluation sums in float32 first. (Hu et al., arXiv 2106.09685, equation 3.)

Parameters: adapter/PATH/{A,B}/kernel beside the model's, PATH being that of the adapted kernel.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from gptjax.config import ConfigError, Data, ObjectiveConfig, Sources, Widest, nearest
from gptjax.types import Key, Model, Objective, Params

OWN_KEY = 2**20
"""Sets the adapters' draws apart from the model's, which are those of a run without adapters."""


@dataclass(frozen=True, kw_only=True)
class Lora(ObjectiveConfig):
    """What another objective learns, by low-rank adapters of a frozen model; what it adds (a head) is trained whole.

    Embeddings of the objective's own tokens are the model's: they stay as they were drawn unless `whole` names them.
    """

    of: ObjectiveConfig
    """What is learnt."""
    rank: int = 8
    """Columns of A and rows of B."""
    alpha: float = 16.0
    """The product of the two is multiplied by alpha / rank."""
    dropout: float = 0.0
    """Share of a matrix's inputs that its adapter does not see in a micro-batch, the same for all tokens."""
    targets: tuple[str, ...] = ("attn/(q|v)",)
    """Layers whose kernels are adapted: ends of their paths, as regular expressions (attn/o, mlp/.*, layer_0/input)."""
    whole: tuple[str, ...] = ()
    """Parameters of the model that are trained whole as well, in the same way (embed/tokens, .*norm/scale)."""

    def check(self) -> None:
        self.require(self.of.plain() is self.of, f"of={type(self.of).__name__} adapts a model already")
        self.require(self.rank > 0, f"rank={self.rank} must be positive")
        self.require(self.alpha > 0, f"alpha={self.alpha} must be positive")
        self.require(0 <= self.dropout < 1, f"dropout={self.dropout} is not in [0, 1)")
        self.require(self.targets != (), "targets is empty; name layers, such as attn/(q|v)")
        for name, pattern in [*(("targets", p) for p in self.targets), *(("whole", p) for p in self.whole)]:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ConfigError(f"{name}: {pattern!r} is no regular expression ({error})") from None

    def plain(self) -> ObjectiveConfig:
        """What is learnt, without adapters."""
        return self.of

    def merged(self, params: Params) -> Params:
        """The parameters of `plain()`, adapters put into the model; those without adapters as they are."""
        if "adapter" not in params:
            return params
        rest = {name: tree for name, tree in params.items() if name != "adapter"}
        return {**rest, "model": _merge(params["model"], params["adapter"], self.alpha / self.rank)}

    def adapted(self) -> str:
        """What has adapters, and what is trained whole besides, in a few words."""
        besides = f"; whole: {', '.join(self.whole)}" if self.whole else ""
        return ", ".join(self.targets) + besides

    def specials(self) -> tuple[str, ...]:
        """As the objective has them."""
        return self.of.specials()

    def texts(self, data: Data, splits: tuple[str, ...]) -> Iterator[str]:
        """As the objective reads them."""
        return self.of.texts(data, splits)

    def sources(self, data: Data, tokenizer: Any, context: int, seed: int, cache: Path) -> Sources:
        """As the objective finds them."""
        return self.of.sources(data, tokenizer, context, seed, cache)

    def widest(self, data: Data, tokenizer: Any, context: int) -> Widest:
        """As the objective has it."""
        return self.of.widest(data, tokenizer, context)

    def build(self, model: Model, tokenizer: Any) -> Objective:
        """The objective over adapted parameters; raises `ConfigError` where a pattern names nothing of the model."""
        inner = self.of.build(model, tokenizer)
        abstract = jax.eval_shape(inner.init, jax.random.key(0))["model"]
        adapted, whole = self._chosen(abstract)

        def init(key: Key) -> Params:
            return {**inner.init(key), "adapter": _adapters(abstract, adapted, self.rank, key)}

        def loss(params: Params, batch: Any, key: Key | None, *carry: Any) -> tuple[Any, ...]:
            if key is not None:
                key, own = jax.random.split(key)
                params = {**params, "adapter": _dropped(params["adapter"], self.dropout, own)}
            learn = inner.carried.loss if carry and inner.carried is not None else inner.loss
            return learn(self.merged(params), batch, key, *carry)

        carried = None if inner.carried is None else inner.carried._replace(loss=loss)
        return inner._replace(
            init=init,
            loss=loss,
            carried=carried,
            frozen=lambda path: path.startswith("model/") and path.removeprefix("model/") not in whole,
        )

    def _chosen(self, abstract: Params) -> tuple[frozenset[str], frozenset[str]]:
        """Paths of the adapted kernels, and of the model's parameters that are trained whole."""
        paths = [_path(path) for path, _ in jax.tree_util.tree_leaves_with_path(abstract)]
        layers = [path.removesuffix("/kernel") for path in paths if path.endswith("/kernel")]
        chosen = [layer for pattern in self.targets for layer in _named("targets", pattern, layers)]
        adapted = frozenset(f"{layer}/kernel" for layer in chosen)
        whole = frozenset(path for pattern in self.whole for path in _named("whole", pattern, paths))
        both = sorted(adapted & whole)
        self.require(not both, f"{both[:1]} is to be adapted and trained whole; leave it out of targets or of whole")
        return adapted, whole


def _named(field: str, pattern: str, names: list[str]) -> list[str]:
    """The names that end in a pattern, from a slash on; raises `ConfigError` where there are none."""
    found = [name for name in names if re.search(rf"(^|/)({pattern})$", name)]
    if not found:
        alike = nearest(pattern, [*names, *(name.partition("/")[2] for name in names)])
        raise ConfigError(f"{field}: {pattern!r} names nothing of this model{alike}; it has {', '.join(names)}")
    return found


def _path(key_path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(key_path, simple=True, separator="/")


def _adapters(abstract: Params, adapted: frozenset[str], rank: int, key: Key) -> Params:
    """{A, B} at the path of every adapted kernel; A is uniform within in**-1/2, B zero, as in the PEFT library."""
    tree: dict[str, Any] = {}
    shapes = [(_path(path), leaf.shape) for path, leaf in jax.tree_util.tree_leaves_with_path(abstract)]
    for number, (path, shape) in enumerate(shapes):
        if path not in adapted:
            continue
        *stacked, wide_in, wide_out = shape
        own, bound = jax.random.fold_in(key, OWN_KEY + number), wide_in**-0.5
        a = jax.random.uniform(own, (*stacked, wide_in, rank), minval=-bound, maxval=bound)
        place = tree
        for name in path.split("/")[:-1]:
            place = place.setdefault(name, {})
        place |= {"A": {"kernel": a}, "B": {"kernel": jnp.zeros((*stacked, rank, wide_out))}}
    return tree


def at(adapter: Params, path: str) -> tuple[jax.Array, jax.Array] | None:
    """(A, B) of the kernel at a path of the model; None where it is not adapted."""
    place = adapter
    for name in path.split("/")[:-1]:
        place = place.get(name, {})
    return (place["A"]["kernel"], place["B"]["kernel"]) if path.endswith("/kernel") and "A" in place else None


@partial(jax.jit, static_argnums=2)
def _merge(model: Params, adapter: Params, scale: float) -> Params:
    """W + scale A B, summed in float32 and given in the dtype of W."""

    def put(key_path: tuple[Any, ...], kernel: jax.Array) -> jax.Array:
        pair = at(adapter, _path(key_path))
        if pair is None:
            return kernel
        change = scale * jnp.matmul(*pair, preferred_element_type=jnp.float32)
        return (kernel.astype(jnp.float32) + change).astype(kernel.dtype)

    return jax.tree_util.tree_map_with_path(put, model)


def _dropped(adapter: Params, rate: float, key: Key) -> Params:
    """Rows of every A left out, the others raised in turn: x A without some of the features of x."""
    if not rate:
        return adapter

    leaves, tree = jax.tree_util.tree_flatten_with_path(adapter)
    kept = []
    for number, (path, kernel) in enumerate(leaves):
        if _path(path).endswith("A/kernel"):
            keep = jax.random.bernoulli(jax.random.fold_in(key, number), 1 - rate, (*kernel.shape[:-1], 1))
            kernel = jnp.where(keep, kernel / (1 - rate), 0).astype(kernel.dtype)
        kept.append(kernel)
    return jax.tree.unflatten(tree, kept)
