"""Rules of ``vmap``: values and gradients as of each lane by itself."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch._C import _functorch
from torch._functorch.vmap import lazy_load_decompositions  # type: ignore[attr-defined]

from harness.engine.lane_functions import lane_level, lanes_of
from harness.engine.lane_rules import FEW_INPUTS, MANY_INPUTS, register_rules

F = nn.functional
LANES = 3
lazy_load_decompositions()
register_rules()


def drawn(*shape: int, whole: int = 0) -> torch.Tensor:
    source = torch.Generator().manual_seed(len(shape))
    if whole:
        return torch.randint(whole, shape, generator=source)
    return torch.randn(shape, generator=source, dtype=torch.float64)


def assert_rule_holds(
    function: Callable[..., torch.Tensor], arguments: list[torch.Tensor], batched: list[bool]
) -> None:
    """Compare with a loop; what is differentiated is what is real.

    Args:
        function: Of one lane.
        arguments: With the lanes first.
        batched: Of each argument, whether lanes have their own, or all the first lane's.
    """
    given = [value if own else value[0] for value, own in zip(arguments, batched, strict=True)]
    found: list[list[torch.Tensor | None]] = []
    for _ in range(2):
        leaves = [v.clone().requires_grad_(v.is_floating_point()) for v in given]
        if not found:
            with lane_level(LANES) as level:
                inner = [lanes_of(v) if own else v for v, own in zip(leaves, batched, strict=True)]
                made = function(*inner)
                made = _functorch._remove_batch_dim(made, level, LANES, 0)
        else:
            made = torch.stack(
                [
                    function(*[v[i] if own else v for v, own in zip(leaves, batched, strict=True)])
                    for i in range(LANES)
                ]
            )
        weights = torch.linspace(0.5, 1.5, made.numel(), dtype=made.dtype).reshape(made.shape)
        (made * weights).sum().backward()
        found.append([made.detach(), *[v.grad for v in leaves if v.is_floating_point()]])
    for side_by_side, alone in zip(*found, strict=True):
        torch.testing.assert_close(side_by_side, alone, rtol=1e-11, atol=1e-11)


WAYS = [ways for ways in itertools.product((True, False), repeat=3) if any(ways)]


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(
    ("size", "batched"),
    [*((4, ways) for ways in WAYS), *((n, (own, True, True)) for n in (40, 150) for own in (0, 1))],
)
def test_convolutions_of_any_size(size: int, groups: int, batched: tuple[bool, ...]) -> None:
    numbers = 6 * size * size
    assert (numbers < FEW_INPUTS) == (size == 4)
    assert (numbers > MANY_INPUTS) == (size == 150)
    x, weight, bias = (
        drawn(LANES, 1, 6, size, size),
        drawn(LANES, 4, 6 // groups, 3, 3),
        drawn(LANES, 4),
    )

    def convolved(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return F.conv2d(x, weight, bias, stride=2, padding=1, groups=groups)

    assert_rule_holds(convolved, [x, weight, bias], list(batched))


@pytest.mark.parametrize("batched", WAYS)
@pytest.mark.parametrize("groups", [1, 2])
def test_transposed_convolutions(groups: int, batched: tuple[bool, ...]) -> None:
    x, weight, bias = drawn(LANES, 2, 4, 9), drawn(LANES, 4, 6 // groups, 3), drawn(LANES, 6)

    def convolved(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return F.conv_transpose1d(x, weight, bias, 2, 1, output_padding=1, groups=groups)

    assert_rule_holds(convolved, [x, weight, bias], list(batched))


@pytest.mark.parametrize("batched", [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("more", [{}, {"padding_idx": 1}, {"scale_grad_by_freq": True}])
@pytest.mark.parametrize("shape", [(), (4,), (2, 5)])
def test_embeddings(
    shape: tuple[int, ...], more: dict[str, int], batched: tuple[bool, ...]
) -> None:
    def embedded(weight: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        return F.embedding(indices, weight, **more)  # type: ignore[arg-type]

    table, indices = drawn(LANES, 5, 3), drawn(LANES, *shape, whole=5)
    assert_rule_holds(embedded, [table, indices], list(batched))


@pytest.mark.parametrize("batched", WAYS)
@pytest.mark.parametrize("causal", [True, False])
def test_attention_of_some_lanes_to_others(causal: bool, batched: tuple[bool, ...]) -> None:
    q, k, v = drawn(LANES, 2, 2, 4, 3), drawn(LANES, 2, 2, 4, 3), drawn(LANES, 2, 2, 4, 5)
    k, v = k + 1, v[..., :3].clone()

    def attended(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=0.7)

    assert_rule_holds(attended, [q, k, v], list(batched))


@pytest.mark.parametrize("batched", [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("shape", [(4, 4), (2, 2, 4, 4), (2, 1, 4, 4), (1, 1, 4, 4), (2, 1, 1, 4)])
def test_attention_with_a_mask_of_any_shape(
    shape: tuple[int, ...], batched: tuple[bool, ...]
) -> None:
    def attended(q: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return F.scaled_dot_product_attention(q, q, q, attn_mask=mask)

    q = drawn(LANES, 2, 2, 4, 3)
    assert_rule_holds(attended, [q, drawn(LANES, *shape)], list(batched))
    allowed = drawn(LANES, *shape) > -1
    allowed[..., 0] = True

    def among(q: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return F.scaled_dot_product_attention(q, q, q, attn_mask=mask.bool())

    assert_rule_holds(among, [q, allowed.long()], list(batched))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("frozen", [True, False])
def test_recurrent_layers_begin_where_they_are_told(kind: Any, frozen: bool) -> None:
    torch.manual_seed(0)
    layer = kind(3, 2, 2, bidirectional=True).double()
    names = [name for name, _ in layer.named_parameters()]

    def run(x: torch.Tensor, start: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        begin = (start, start.sin()) if kind is nn.LSTM else start
        values = dict(zip(names, weights, strict=True))
        output, end = torch.func.functional_call(layer, values, (x, begin))
        end = torch.cat(end) if kind is nn.LSTM else end
        return torch.cat([output.flatten(), end.flatten()])

    weights = [
        torch.stack([p.detach() * (1 + i) for i in range(LANES)]) for p in layer.parameters()
    ]
    arguments = [drawn(LANES, 5, 4, 3), drawn(LANES, 4, 4, 2), *weights]
    assert_rule_holds(run, arguments, [True, True, *[not frozen] * len(weights)])
    if not frozen:
        assert_rule_holds(run, arguments, [False, False, *[True] * len(weights)])


NESTED: dict[str, tuple[Callable[..., torch.Tensor], list[torch.Tensor]]] = {
    "embedding": (
        lambda weight, row: F.embedding(row, weight, padding_idx=0).sin().sum(0),
        [drawn(LANES, 5, 3), drawn(LANES, 4, 6, whole=5)],
    ),
    "convolution": (
        lambda weight, row: F.conv1d(row[None], weight).sin().sum(),
        [drawn(LANES, 5, 2, 3), drawn(LANES, 4, 2, 7)],
    ),
    "attention": (
        lambda weight, row: F.scaled_dot_product_attention(row @ weight, row, row).sum(),
        [drawn(LANES, 3, 3), drawn(LANES, 4, 2, 2, 5, 3)],
    ),
    "cell": (
        lambda weight, row: torch.gru_cell(row, row, weight, weight).sum(),
        [drawn(LANES, 6, 2), drawn(LANES, 4, 3, 2)],
    ),
    "recurrent": (
        lambda weight, row: torch.rnn_tanh(
            row, row[:1], [weight, weight], False, 1, 0.0, False, False, False
        )[0].sum(),
        [drawn(LANES, 2, 2), drawn(LANES, 4, 5, 3, 2)],
    ),
}


@pytest.mark.parametrize("name", NESTED)
def test_a_loss_may_use_vmap_and_grad_itself(name: str) -> None:
    function, (weights, rows) = NESTED[name]

    def of_rows(weight: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = torch.func.vmap(function, in_dims=(None, 0))(weight, rows)
        return found.sum() + function(weight, rows[0]).sum()

    def slopes(weight: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        slope = torch.func.grad(lambda w, row: function(w, row).sum())
        found: torch.Tensor = torch.func.vmap(slope, in_dims=(None, 0))(weight, rows)
        return found.square().sum()

    register_rules()
    weight, row = weights[0], rows[0]
    each = torch.stack([function(weight, one) for one in row])
    torch.testing.assert_close(torch.func.vmap(function, in_dims=(None, 0))(weight, row), each)
    assert_rule_holds(of_rows, [weights, rows], [True, True])
    if name != "attention":  # whose kernel has no second derivative
        assert_rule_holds(slopes, [weights, rows], [True, True])
