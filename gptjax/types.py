"""The alphabet of array axes, and the values that flow between the rooms of the laboratory.

Axes: B batch rows, T query time, S key time, D model width, N query heads, K key/value heads, H head size, F MLP width,
V vocabulary, L layers, C classes. An array's name ends in its axes (`scores_BNTS`); a scalar's never does.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

Array = jax.Array | np.ndarray
Params = Any
"""A pytree of arrays."""
Key = jax.Array
"""A typed random key, `jax.random.key(seed)`."""


class Rows(NamedTuple):
    """Rows of consecutive tokens before they become inputs and targets; host arrays with U = T + 1 columns."""

    tokens: np.ndarray
    """[B, U] int32 token ids."""
    weights: np.ndarray
    """[B, U] float32; how much predicting this token counts (0 for prompts and padding)."""
    segments: np.ndarray | None
    """[B, U] int32; which document of the row a token belongs to, from 1; 0 is padding. None: each row is one text."""
    starts: np.ndarray | None = None
    """[B] int32; tokens of the same running text that earlier updates read in this row's place; 0 where one begins.
    None: no row continues another."""


class Batch(NamedTuple):
    """Next-token prediction over B rows of T tokens; a pytree whose every leaf has a leading B."""

    inputs: Array
    """[B, T] int32 token ids."""
    targets: Array
    """[B, T] int32; the token that follows each input."""
    weights: Array
    """[B, T] float32; 0 where a target does not count."""
    segments: Array | None
    """[B, T] int32; which document of the row an input belongs to; 0 is padding. None: each row is one text."""
    positions: Array | None
    """[B, T] int32; distance of an input from the start of its document. None: 0, 1, ..., T - 1."""


class RowSource(NamedTuple):
    """A finite, ordered, random-access set of rows; reading row i never depends on what was read before."""

    rows: int
    """Rows in one epoch."""
    take: Callable[[np.ndarray, int], Any]
    """`take(indices_B, epoch)` gives a pytree of host arrays with a leading B (usually `Rows`). A source may lay its
    rows differently in each epoch (another starting offset), so the epoch is an argument."""


class Place(NamedTuple):
    """Where a computation will run, known before it is traced: for what the compiler cannot choose or split itself."""

    platform: str
    """cpu, gpu or tpu."""
    mesh: Mesh | None = None
    """The devices; None is one."""
    rows: tuple[str, ...] = ()
    """Axes of the mesh that the rows of a batch are split over."""
    heads: tuple[str, ...] = ()
    """Axes of the mesh that attention heads are split over."""
    interpret: bool = False
    """Run the platform's own kernels step by step on whatever machine there is: slow, for tests."""
    gather: Callable[[Params], Params] = lambda params: params
    """Brings the parameters of one layer together, where devices hold parts of them until it is computed."""


Cache = Any
"""What a model remembers of the tokens it has read: a pytree, passed in and returned, never mutated."""


def as_they_are(params: Params, rows: int) -> Params:
    """The parameters themselves: no other layout is read faster, of however many rows."""
    return params


class Model(NamedTuple):
    """A language model as pure functions of its parameters.

    No key, no dropout: the same function trains and evaluates. The compute dtype is the dtype of the parameters that
    are passed in; normalisation, softmax and logits are float32 inside whatever it is.
    """

    init: Callable[[Key], Params]
    """`init(key) -> params`, float32."""
    apply: Callable[..., jax.Array]
    """`apply(params, inputs_BT, segments_BT=None, positions_BT=None, key=None) -> logits_BTV` float32; logits of
    vocabulary padding are -inf. `segments_BT=None` means one document a row, `positions_BT=None` means 0, 1, ..."""
    features: Callable[..., jax.Array]
    """The same arguments as `apply`; gives features_BTD, what the head reads."""
    head: Callable[..., jax.Array]
    """`head(params, features_...D, dtype=float32) -> logits_...V`; `apply` is `head` after `features`."""
    cache: Callable[[int, int, Any], Cache]
    """`cache(rows, length, dtype)` gives an empty cache for `rows` rows of at most `length` tokens. Every leaf of a
    shorter one has its place at the beginning of a longer one's: there it may be moved to be read on."""
    extend: Callable[..., tuple[jax.Array, Cache]]
    """`extend(params, inputs_BT, cache, counts_B=None) -> (features_BTD, cache)` reads T more tokens of each row.
    `counts_B` says how many of the T are real where rows are padded on the right (None: all of them); features past a
    row's count are meaningless, and the cache is as if they had never been read."""
    context: int
    """The longest row, in tokens, that the model was built for."""
    vocab_size: int
    """V without padding; ids must be below it."""
    causal: bool = True
    """Whether a token's features depend on nothing after it. Where they do, padding has to be marked in the segments
    (0), and the model has neither continuations nor left-to-right likelihoods."""
    recurrent: bool = False
    """Whether a cache is a state of fixed size, leading B, into which any number of tokens may be read. `extend` then
    takes `key` as `features` does, and can be differentiated."""
    columns: Callable[[Params, jax.Array], jax.Array] | None = None
    """`columns(params, ids_S) -> kernel_SD`, where the head is one product: the rows by which features are multiplied
    for these ids' logits. None where it is more than that."""
    prepare: Callable[[Params, int], Params] = as_they_are
    """`prepare(params, rows) -> params` laid out as `extend` and `head`, and only they, read them fastest: to be called
    once before a loop that reads so many rows token by token. The result may take as much memory again."""
    place: Place | None = None
    """Where it was built to run, for an objective that divides the rows among the devices itself; None is one device.
    Word vectors have it."""


class Inside(NamedTuple):
    """What the layers of a model make of its inputs, for those who look inside."""

    features_LBTD: Array
    """What the head would read if the model ended before its first layer, and behind each: L + 1 entries. The last is
    `Model.features`."""
    weights_LBNTS: Array
    """The share of every key's value in what each head mixes for a query, float32: the model's own, 0 where a key is
    not seen."""


Metrics = Mapping[str, tuple[jax.Array, jax.Array]]
"""Name -> (sum, count): means stay exact over accumulation, padding and sharding."""


def unscheduled(batch: Any, step: int) -> Any:
    """The batch as it is: what is learnt does not change in the course of training."""
    return batch


def none_frozen(path: str) -> bool:
    """All parameters are trained."""
    return False


class Carried(NamedTuple):
    """How an objective goes on from one update to the next where rows continue rows: truncated back-propagation."""

    start: Callable[[int], Any]
    """`start(rows)`: what is carried into the first update, a pytree of arrays with a leading B."""
    loss: Callable[[Params, Any, Key | None, Any], tuple[jax.Array, jax.Array, Metrics, Any]]
    """`loss(params, batch, key, carry) -> (sum, count, metrics, carry)`: `Objective.loss` going on from what was
    carried, and what the next update goes on from. No gradient passes from update to update."""


class Objective(NamedTuple):
    """What is learnt: how rows become a batch, and the loss as a sum and a count."""

    init: Callable[[Key], Params]
    """`init(key) -> params`: the model's own parameters under "model", and beside them whatever the objective adds."""
    batch: Callable[[Any], Any]
    """`batch(rows) -> batch`: host arrays in, host arrays out, leading B kept; the same for every row count."""
    loss: Callable[[Params, Any, Key | None], tuple[jax.Array, jax.Array, Metrics]]
    """`loss(params, batch, key) -> (sum, count, metrics)`; key None is evaluation. The gradient of sum / count, both
    summed over micro-batches first, is the full batch's."""
    scheduled: Callable[[Any, int], Any] = unscheduled
    """`scheduled(batch, step) -> batch`: a host batch as update `step` (from 0) is to see it, for a curriculum. Leading
    B and shapes are kept; evaluation sees batches as `batch` made them."""
    carried: Carried | None = None
    """For data in running order; None where nothing can be carried."""
    frozen: Callable[[str], bool] = none_frozen
    """Whether the parameter at a path ("model/embed/tokens") stays as it begins: it takes no gradient, no optimizer
    state and no average."""


class TokenSplit(NamedTuple):
    """One split of a corpus as tokens, as it is judged: every token of every document once."""

    tokens: np.ndarray
    """[N] integer ids, documents one after another; often memory-mapped."""
    starts: np.ndarray
    """[documents + 1] int64; where each document starts in `tokens`; the last entry is N."""
    bytes: int
    """UTF-8 bytes of the text that these tokens stand for."""
