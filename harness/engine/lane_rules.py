"""Rules by which ``torch.func.vmap`` takes operators that torch has none for, or a wrong one.

Recurrent layers have none. Attention on the CPU, and some others, are run lane by lane. That of
``embedding`` with a padding index drops the index, so that what is differentiated outside of
``vmap``, as here, has a gradient where there must be none. That of ``convolution`` makes one of
groups, which on the CPU is often slower than one per lane. Rules are
registered as torch registers those that it writes in Python.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch._C import _functorch
from torch.nn import functional

Tensor = torch.Tensor
Weights = Sequence[Tensor | None]
Hidden = tuple[Tensor, ...]
"""What a recurrent layer hands on: its output, of an LSTM its cell as well; lanes first."""


@functools.cache
def register_rules() -> None:
    """Let ``vmap`` have the rules, for as long as the process lives."""
    library = torch.library.Library("aten", "IMPL", "FuncTorchBatched")
    register_rules.library = library  # type: ignore[attr-defined]  # else it takes them back
    with warnings.catch_warnings(action="ignore"):  # that one is in the place of another
        for name, rule in _RULES.items():
            if _has_operator(name):
                library.impl(name, rule)


def _has_operator(name: str) -> bool:
    packet, _, overload = name.partition(".")
    return hasattr(getattr(torch.ops.aten, packet, None), overload or "default")


def _below() -> AbstractContextManager[None]:
    """Be entered to compute with tensors that have the lanes as a dimension.

    They may be those of another ``vmap``, around this one, whose turn is next then.
    """
    keys = torch._C.DispatchKeySet(torch._C.DispatchKey.FuncTorchBatched)
    guard: AbstractContextManager[None] = torch._C._ExcludeDispatchKeyGuard(keys)
    return guard


def _lanes_first(rule: Callable[..., Any]) -> Callable[..., Any]:
    """A rule that computes with nothing but tensors that have the lanes as a dimension."""

    @functools.wraps(rule)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        with _below():
            return rule(*args, **kwargs)

    return guarded


class _Lanes:
    """The lanes of the arguments of an operator inside ``vmap``."""

    def __init__(self, *values: Tensor | None) -> None:
        level = _functorch.maybe_current_level()
        assert level is not None
        self.level: int = level
        batched = [value for value in values if value is not None and self.are_in(value)]
        first = batched[0]
        self.count = _functorch.get_unwrapped(first).shape[_functorch.maybe_get_bdim(first)]

    def are_in(self, value: Tensor) -> bool:
        """Tell whether a tensor has a value per lane."""
        return bool(
            _functorch.is_batchedtensor(value) and _functorch.maybe_get_level(value) == self.level
        )

    def first(self, value: Tensor) -> Tensor:
        """A tensor with the lanes first; the same for all, where it has none."""
        with _below():
            if self.are_in(value):
                inner: Tensor = _functorch.get_unwrapped(value)
                return inner.movedim(_functorch.maybe_get_bdim(value), 0)
            return value.expand(self.count, *value.shape)

    def back(self, value: Tensor) -> Tensor:
        """A tensor with the lanes first, as one lane's inside ``vmap``."""
        result: Tensor = _functorch._add_batch_dim(value, 0, self.level)
        return result


@_lanes_first
def _embedding(
    weight: Tensor,
    indices: Tensor,
    padding_idx: int = -1,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """Rows of one table: all lanes' under each other, and indices that say whose is meant."""
    lanes = _Lanes(weight, indices)
    if not lanes.are_in(weight) and not scale_grad_by_freq:
        looked_up = torch.embedding(
            weight, lanes.first(indices), padding_idx, scale_grad_by_freq, sparse
        )
        return lanes.back(looked_up)
    tables, places = lanes.first(weight), lanes.first(indices)
    rows = tables.shape[1]
    firsts = torch.arange(0, lanes.count * rows, rows, device=places.device)
    offset = firsts.reshape(-1, *[1] * indices.dim())
    found = torch.embedding(
        tables.reshape(lanes.count * rows, -1), places + offset, -1, scale_grad_by_freq, sparse
    )
    if padding_idx >= 0:  # has no gradient
        padding = (places == padding_idx).unsqueeze(-1)
        found = torch.where(padding, found.detach(), found)
    return lanes.back(found)


@_lanes_first
def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    attn_mask: Tensor | None = None,
    scale: float | None = None,
) -> tuple[Tensor, Tensor]:
    """The kernel's own batch, with the lanes in it."""
    lanes = _Lanes(query, key, value, attn_mask)
    rows = query.shape[0]
    q, k, v = (lanes.first(t).flatten(0, 1) for t in (query, key, value))
    if attn_mask is not None and (
        lanes.are_in(attn_mask) or (attn_mask.dim() == 4 and attn_mask.shape[0] > 1)
    ):
        mask = lanes.first(attn_mask)
        if attn_mask.dim() == 2:
            mask = mask[:, None, None]
        attn_mask = mask.expand(-1, rows, *mask.shape[2:]).flatten(0, 1)
    if attn_mask is not None and attn_mask.requires_grad:  # as torch decides alone
        attend = torch.ops.aten._scaled_dot_product_attention_math.default
        output, _ = attend(q, k, v, attn_mask, dropout_p, is_causal, scale=scale)
        log_sums = q.detach().sum(-1)  # which nobody asks for
    else:
        attend = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
        output, log_sums = attend(q, k, v, dropout_p, is_causal, attn_mask=attn_mask, scale=scale)
    each = (lanes.count, rows)
    return lanes.back(output.unflatten(0, each)), lanes.back(log_sums.unflatten(0, each))


@_lanes_first
def _convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
) -> Tensor:
    """One convolution of more rows, outputs or groups; one per lane where that is faster."""
    lanes = _Lanes(x, weight, bias)
    count, rows = lanes.count, x.shape[0]
    biases = None if bias is None else lanes.first(bias)

    def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, groups: int = groups) -> Tensor:
        how = (stride, padding, dilation, transposed, output_padding, groups)
        made: Tensor = torch.ops.aten.convolution.default(x, weight, bias, *how)
        return made

    if not lanes.are_in(weight):
        made = convolve(lanes.first(x).flatten(0, 1), weight, None).unflatten(0, (count, rows))
        if biases is not None:
            made = made + biases.reshape(count, 1, -1, *[1] * (made.dim() - 3))
        return lanes.back(made)
    weights, flat = lanes.first(weight), None if biases is None else biases.flatten()
    if not lanes.are_in(x) and groups == 1 and not transposed:
        made = convolve(x, weights.flatten(0, 1), flat)
    elif _is_faster_one_by_one(x, groups):
        inputs = lanes.first(x)
        each = zip(inputs, weights, [None] * count if biases is None else biases, strict=True)
        return lanes.back(torch.stack([convolve(*own) for own in each]))
    else:
        inputs = lanes.first(x).transpose(0, 1).flatten(1, 2)
        made = convolve(inputs, weights.flatten(0, 1), flat, count * groups)
    return lanes.back(made.unflatten(1, (count, -1)).transpose(0, 1))


CHANNEL_BLOCK = 8
"""On the CPU, kernels of grouped convolutions take so many channels at once."""

FEW_INPUTS, MANY_INPUTS = 2**13, 2**17
"""Numbers of a lane's input: with fewer, calls take most of the time; with more than the other,
those of all lanes do not fit into the cache. Both as measured, to a factor of two."""


def _is_faster_one_by_one(x: Tensor, groups: int) -> bool:
    if x.device.type != "cpu" or x.numel() < FEW_INPUTS:
        return False
    return x.shape[1] // groups % CHANNEL_BLOCK != 0 or x.numel() >= MANY_INPUTS


def _linear(values: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Each lane's weights on its rows: ``(lanes, rows, inputs)`` to ``(lanes, rows, outputs)``."""
    if bias is None:
        return torch.bmm(values, weight.mT)
    return torch.baddbmm(bias.unsqueeze(1), values, weight.mT)


def _added(step: Tensor, hidden: Tensor, weight: Tensor) -> Tensor:
    return torch.baddbmm(step, hidden, weight.mT)


def _both(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    return None if first is None or second is None else first + second


class _Kind:
    """One kind of recurrent layer, whose cell is ``torch.nn``'s of the same name.

    ``inputs`` is what a step makes of its input, which needs no hidden state, so that all steps'
    is made at once; ``step`` is the rest of it. Weights are ``w_ih``, ``w_hh``, the two biases
    (or None) and, of an LSTM with projections, ``w_hr``.
    """

    def inputs(self, values: Tensor, weights: Weights) -> Tensor:
        return _linear(values, _given(weights[0]), _both(weights[2], weights[3]))

    def step(self, made: Tensor, hidden: Hidden, weights: Weights) -> Hidden:
        raise NotImplementedError


class _Plain(_Kind):
    def __init__(self, activation: Callable[[Tensor], Tensor]) -> None:
        self._activation = activation

    def step(self, made: Tensor, hidden: Hidden, weights: Weights) -> Hidden:
        return (self._activation(_added(made, hidden[0], _given(weights[1]))),)


class _LSTM(_Kind):
    def step(self, made: Tensor, hidden: Hidden, weights: Weights) -> Hidden:
        i, f, g, o = _added(made, hidden[0], _given(weights[1])).chunk(4, -1)
        cell = torch.sigmoid(f) * hidden[1] + torch.sigmoid(i) * torch.tanh(g)
        output = torch.sigmoid(o) * torch.tanh(cell)
        if len(weights) > 4:
            output = torch.bmm(output, _given(weights[4]).mT)
        return output, cell


class _GRU(_Kind):
    def inputs(self, values: Tensor, weights: Weights) -> Tensor:
        return _linear(values, _given(weights[0]), weights[2])

    def step(self, made: Tensor, hidden: Hidden, weights: Weights) -> Hidden:
        r, z, n = made.chunk(3, -1)
        hr, hz, hn = _linear(hidden[0], _given(weights[1]), weights[3]).chunk(3, -1)
        new = torch.tanh(n + torch.sigmoid(r + hr) * hn)
        return ((hidden[0] - new) * torch.sigmoid(z + hz) + new,)


_KINDS: dict[str, _Kind] = {
    "lstm": _LSTM(),
    "gru": _GRU(),
    "rnn_tanh": _Plain(torch.tanh),
    "rnn_relu": _Plain(torch.relu),
}


def _given(weight: Tensor | None) -> Tensor:
    assert weight is not None
    return weight


def _layer(kind: _Kind, values: Tensor, hidden: Hidden, weights: Weights, *, back: bool) -> Hidden:
    """One layer in one direction.

    Args:
        kind: Of which kind.
        values: Shape ``(lanes, steps, rows, inputs)``.
        hidden: Where it begins, each of shape ``(lanes, rows, width)``.
        weights: Lanes first.
        back: Whether it goes from the last step to the first.

    Returns:
        The outputs, shape ``(lanes, steps, rows, width)``, and where it ends.
    """
    steps = values.shape[1]
    made = kind.inputs(values.flatten(1, 2), weights).unflatten(1, (steps, -1)).unbind(1)
    outputs = []
    for one in reversed(made) if back else made:
        hidden = kind.step(one, hidden, weights)
        outputs.append(hidden[0])
    return torch.stack(outputs[::-1] if back else outputs, 1), *hidden


def _recurrent(name: str) -> Callable[..., Any]:
    """The rule of a recurrent network of some layers, in one direction or both."""
    kind = _KINDS[name]

    def rule(
        values: Tensor,
        hx: Tensor | Sequence[Tensor],
        params: Sequence[Tensor],
        has_biases: bool,
        num_layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
        batch_first: bool,
    ) -> tuple[Tensor, ...]:
        starts = [hx] if isinstance(hx, Tensor) else list(hx)
        lanes = _Lanes(values, *starts, *params)
        firsts = [lanes.first(start) for start in starts]
        ways = 1 + bidirectional
        with _below():
            seen = lanes.first(values).transpose(1, 2) if batch_first else lanes.first(values)
            each = _by_layer([*map(lanes.first, params)], num_layers * ways, has_biases)
        ends: list[Hidden] = []
        for layer in range(num_layers):
            if layer and dropout and train:
                seen = lanes.first(functional.dropout(lanes.back(seen), dropout))
            outputs = []
            with _below():
                for back in (False, True)[:ways]:
                    hidden = tuple(start[:, len(ends)] for start in firsts)
                    output, *end = _layer(kind, seen, hidden, each[len(ends)], back=back)
                    outputs.append(output)
                    ends.append(tuple(end))
                seen = torch.cat(outputs, -1) if bidirectional else outputs[0]
        with _below():
            seen = seen.transpose(1, 2) if batch_first else seen
            last = [torch.stack(own, 1) for own in zip(*ends, strict=True)]
        return tuple(map(lanes.back, (seen, *last)))

    return rule


def _by_layer(params: Sequence[Tensor], layers: int, has_biases: bool) -> list[Weights]:
    """Weights of each layer and direction, with None for biases that there are not."""
    count = len(params) // layers
    own = [list(params[i * count : (i + 1) * count]) for i in range(layers)]
    return [each if has_biases else [*each[:2], None, None, *each[2:]] for each in own]


def _cell(name: str) -> Callable[..., Any]:
    """The rule of one step of a recurrent network."""
    kind = _KINDS[name]

    @_lanes_first
    def rule(
        values: Tensor,
        hx: Tensor | Sequence[Tensor],
        w_ih: Tensor,
        w_hh: Tensor,
        b_ih: Tensor | None = None,
        b_hh: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, ...]:
        starts = [hx] if isinstance(hx, Tensor) else list(hx)
        given = (w_ih, w_hh, b_ih, b_hh)
        lanes = _Lanes(values, *starts, *given)
        weights = [None if weight is None else lanes.first(weight) for weight in given]
        made = kind.inputs(lanes.first(values), weights)
        end = kind.step(made, tuple(map(lanes.first, starts)), weights)
        return lanes.back(end[0]) if len(end) == 1 else tuple(map(lanes.back, end))

    return rule


def _weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    others = None if dim == -1 else [i for i in range(v.dim()) if i != dim % v.dim()]
    norm = torch.linalg.vector_norm(v, dim=others, keepdim=others is not None)
    scaled: Tensor = v * (g / norm)
    return scaled


def _bilinear(one: Tensor, other: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    product: Tensor = torch.einsum("...i,oij,...j->...o", one, weight, other)
    return product if bias is None else product + bias


def _divided_into(value: Tensor, by: Tensor, *, out: Tensor) -> Tensor:
    """What ``spectral_norm`` scales its vectors with."""
    into: Tensor = out.copy_(value / by)
    return into


_RULES: dict[str, Callable[..., Any]] = {
    "embedding": _embedding,
    "convolution": _convolution,
    "_weight_norm": _weight_norm,
    "bilinear": _bilinear,
    "div.out": _divided_into,
    "_scaled_dot_product_flash_attention_for_cpu": _attention,
    **{f"{name}.input": _recurrent(name) for name in _KINDS},
    **{f"{name}_cell": _cell(name) for name in _KINDS},
}
"""By operator, and overload where it isn't the default one."""
