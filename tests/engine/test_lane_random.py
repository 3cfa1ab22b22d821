"""Random numbers side by side: to the bit those of the same trial alone, or refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest
import torch
from torch import nn
from torch._C import _functorch
from torch.distributions import Bernoulli, Categorical

from harness.engine.isolation import seed_globals
from harness.engine.lane_functions import lane_level, lanes_of
from harness.engine.lane_random import Draws, LaneRandom, draws_of
from harness.engine.lane_values import NotShareable
from harness.suite.random_state import kept_random_state, random_state

F = nn.functional
SEEDS = (3, 0, 3, 11)
Loss = Callable[[torch.Tensor], torch.Tensor]


@pytest.fixture(autouse=True)
def _global_generators_kept() -> Iterator[None]:
    with kept_random_state():
        yield


def rows(lanes: int, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    source = torch.Generator().manual_seed(0)
    return torch.randn(lanes, *shape, generator=source, dtype=dtype)


def alone(loss: Loss, values: torch.Tensor, seed: int, steps: int = 3) -> list[torch.Tensor]:
    """Draw as a trial does: the global generator has the state of its seed from the start."""
    seed_globals(seed)
    return [loss(values) for _ in range(steps)]


def side_by_side(
    loss: Loss, values: torch.Tensor, seeds: Sequence[int] = SEEDS, steps: int = 3
) -> list[torch.Tensor]:
    """Draw for lanes that are the first dimension of the values."""
    draws = draws_of(lambda: loss(values[0]))
    lane_random = LaneRandom(draws, seeds)
    made = []
    before = random_state()
    for _ in range(steps):
        with lane_random.drawing(), lane_level(len(seeds), may_draw=True) as level:
            result = loss(lanes_of(values))
            made.append(_functorch._remove_batch_dim(result, level, len(seeds), 0))
    assert random_state() == before
    return made


def split_heads(x: torch.Tensor) -> torch.Tensor:
    return x.reshape(*x.shape[:-1], 2, 3).transpose(-2, -3)


SHAPES: dict[str, tuple[Loss, tuple[int, ...]]] = {
    "dropout": (lambda x: F.dropout(x, 0.3), (7, 6)),
    "of one number": (lambda x: F.dropout(x, 0.5), (1, 1)),
    "in place": (lambda x: F.dropout(x * 1, 0.3, inplace=True), (7, 6)),
    "transposed": (lambda x: F.dropout(x.t(), 0.3), (7, 6)),
    "permuted": (lambda x: F.dropout(x.permute(2, 0, 1), 0.3).relu(), (3, 5, 4)),
    "sliced": (lambda x: F.dropout(x[:, ::2], 0.3), (7, 6)),
    "of weights": (lambda x: F.dropout(x @ x.t(), 0.1), (20, 6)),
    "twice": (lambda x: F.dropout(F.dropout(x, 0.1).tanh(), 0.4), (7, 6)),
    "channels": (lambda x: F.dropout2d(x, 0.3), (4, 6, 2, 2)),
    "sequence": (lambda x: F.dropout1d(x, 0.3), (4, 6, 5)),
    "alpha": (lambda x: F.alpha_dropout(x, 0.3, True), (7, 6)),
    "alpha of channels": (lambda x: F.feature_alpha_dropout(x, 0.3, True), (4, 6, 5)),
    "attention": (
        lambda x: F.scaled_dot_product_attention(
            split_heads(x), split_heads(x), split_heads(x), dropout_p=0.3
        ),
        (4, 5, 6),
    ),
    "rand": (lambda x: x + torch.rand(7, 1), (7, 6)),
    "randn": (lambda x: x + torch.randn(x.shape), (7, 6)),
    "randn few": (lambda x: x + torch.randn(3), (7, 3)),
    "randn precise": (lambda x: x + torch.randn(7, 6, dtype=torch.float64), (7, 6)),
    "randint": (lambda x: x + torch.randint(10, (7, 1)), (7, 6)),
    "randint between": (lambda x: x + torch.randint(-3, 10, (7, 1)), (7, 6)),
    "flips": (lambda x: torch.where(torch.rand(7, 1) < 0.5, x, x.flip(1)), (7, 6)),
    "permutation": (lambda x: x[torch.randperm(7)] + torch.rand(()), (7, 6)),
    "mixup": (
        lambda x: torch.lerp(x, x[torch.randperm(7)], torch.rand(7, 1, dtype=x.dtype)),
        (7, 6),
    ),
    "rand_like": (lambda x: x + torch.rand_like(x), (7, 6)),
    "rand_like transposed": (lambda x: torch.rand_like(x.t()), (7, 6)),
    "randn_like": (lambda x: x + 0.1 * torch.randn_like(x), (7, 6)),
    "randint_like": (lambda x: x + torch.randint_like(x, 5), (7, 6)),
    "randint_like between": (lambda x: x + torch.randint_like(x, 2, 5), (7, 6)),
    "bernoulli": (lambda x: torch.bernoulli(x.sigmoid()), (7, 6)),
    "bernoulli of p": (lambda x: torch.bernoulli(x, 0.2), (7, 6)),
    "bernoulli_ of p": (lambda x: torch.empty_like(x).bernoulli_(0.2), (7, 6)),
    "bernoulli_ of each": (lambda x: torch.empty_like(x).bernoulli_(x.sigmoid()), (7, 6)),
    "uniform_": (lambda x: torch.empty_like(x).uniform_(-1, 2), (7, 6)),
    "normal_": (lambda x: torch.empty_like(x.t()).normal_(1, 3), (7, 6)),
    "new_empty": (lambda x: x.new_empty(5).normal_(), (7, 6)),
    "exponential_": (lambda x: torch.empty_like(x).exponential_(2), (7, 6)),
    "cauchy_": (lambda x: torch.empty_like(x).cauchy_(), (7, 6)),
    "geometric_": (lambda x: torch.empty_like(x).geometric_(0.3), (7, 6)),
    "log_normal_": (lambda x: torch.empty_like(x).log_normal_(), (7, 6)),
    "random_": (lambda x: torch.empty_like(x).random_(0, 9), (7, 6)),
    "gumbel": (lambda x: F.gumbel_softmax(x, tau=0.5, hard=False), (7, 6)),
    "normal of size": (lambda x: x + torch.normal(0.0, 2.0, (7, 6)), (7, 6)),
    "normal around": (lambda x: torch.normal(x, 0.5), (7, 6)),
    "normal of both": (lambda x: torch.normal(x, x.exp()), (7, 6)),
    "multinomial": (lambda x: torch.multinomial(x.softmax(-1), 3), (7, 6)),
    "multinomial of a row": (lambda x: torch.multinomial(x[0].softmax(-1), 3), (7, 6)),
    "multinomial again": (lambda x: torch.multinomial(x.softmax(-1), 9, True), (7, 6)),
    "poisson, then uniform": (lambda x: torch.poisson(x.exp()) + torch.rand(6), (7, 6)),
    "gamma": (lambda x: torch._standard_gamma(x.exp()), (7, 6)),
    "dirichlet": (lambda x: torch._sample_dirichlet(x.exp()), (7, 6)),
    "distributions": (
        lambda x: Bernoulli(logits=x).sample() + Categorical(logits=x).sample()[:, None],
        (7, 6),
    ),
    "fractional pooling": (lambda x: F.fractional_max_pool2d(x, 2, output_size=2), (2, 3, 9, 9)),
    "native dropout": (lambda x: torch.native_dropout(x, 0.3, True)[0], (7, 6)),
}


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", SHAPES)
def test_a_lane_draws_to_the_bit_what_its_trial_draws_alone(name: str, dtype: torch.dtype) -> None:
    loss, shape = SHAPES[name]
    values = rows(len(SEEDS), *shape, dtype=dtype)
    together = side_by_side(loss, values)
    for lane, seed in enumerate(SEEDS):
        own = alone(loss, values[lane], seed)
        for step, expected in enumerate(own):
            assert torch.equal(together[step][lane], expected), (seed, step)
    drawn = torch.stack([made[lane] for made in together for lane in range(len(SEEDS))])
    assert len(drawn.unique(dim=0)) > 1  # or nothing was drawn at all


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("kept", [(0, 2), (1, 3), (2,), (3, 0)])
@pytest.mark.parametrize("name", SHAPES)
def test_lanes_that_go_on_without_the_others_draw_as_before(
    name: str, kept: tuple[int, ...]
) -> None:
    loss, shape = SHAPES[name]
    values = rows(len(SEEDS), *shape)
    lane_random = LaneRandom(draws_of(lambda: loss(values[0])), SEEDS)
    made: list[list[torch.Tensor]] = []
    for step in range(4):
        lanes = range(len(SEEDS)) if step < 2 else kept
        if step == 2:
            lane_random.go_on_with(kept)
        with lane_random.drawing(), lane_level(len(lanes), may_draw=True) as level:
            result = loss(lanes_of(values[list(lanes)]))
            made.append([*_functorch._remove_batch_dim(result, level, len(lanes), 0)])
    for place, lane in enumerate(kept):
        own = alone(loss, values[lane], SEEDS[lane], steps=4)
        assert torch.equal(made[2][place], own[2])
        assert torch.equal(made[3][place], own[3])


def test_lanes_of_one_seed_draw_alike_whatever_they_hold() -> None:
    values = rows(4, 7, 6)
    for loss in (
        lambda x: F.dropout(torch.ones_like(x), 0.3),
        lambda x: torch.rand(5) + 0 * x[0, 0],
    ):
        made = side_by_side(loss, values)[0]
        assert torch.equal(made[0], made[2])
        assert not torch.equal(made[0], made[1])


def test_the_last_batch_may_be_smaller() -> None:
    values = rows(len(SEEDS), 8, 6)

    def loss(x: torch.Tensor) -> torch.Tensor:
        return F.dropout(x.t() @ F.dropout(x, 0.2), 0.5) + torch.rand(6)

    sizes = (8, 8, 3, 1, 8)
    lane_random = LaneRandom(draws_of(lambda: loss(values[0])), SEEDS)
    for size in sizes:
        with lane_random.drawing(), lane_level(len(SEEDS), may_draw=True) as level:
            made = loss(lanes_of(values[:, :size]))
            last = _functorch._remove_batch_dim(made, level, len(SEEDS), 0)
    for lane, seed in enumerate(SEEDS):
        seed_globals(seed)
        own = [loss(values[lane, :size]) for size in sizes]
        torch.testing.assert_close(last[lane], own[-1], rtol=1e-5, atol=1e-6)
        assert torch.equal(last[lane] == 0, own[-1] == 0)


def test_gradients_go_through_what_is_drawn() -> None:
    start = rows(len(SEEDS), 7, 6, dtype=torch.float64)

    def loss(x: torch.Tensor) -> torch.Tensor:
        noisy = torch.normal(torch.zeros_like(x), 1.0) * x.exp()
        return (F.dropout(x.square(), 0.4) + noisy * torch.rand_like(x)).sum()

    values = start.clone().requires_grad_()
    (made,) = side_by_side(loss, values, steps=1)
    made.sum().backward()
    for lane, seed in enumerate(SEEDS):
        own = start[lane].clone().requires_grad_()
        (value,) = alone(loss, own, seed, steps=1)
        value.backward()
        assert values.grad is not None
        assert own.grad is not None
        torch.testing.assert_close(values.grad[lane], own.grad, rtol=1e-14, atol=0)


GENERATOR = torch.Generator()


def catches(x: torch.Tensor) -> torch.Tensor:
    """Draws once alone; side by side more often, and hides what comes of it."""
    drawn = torch.rand(3)
    if _functorch.is_batchedtensor(x):
        try:
            drawn = drawn + torch.rand(3)
        except NotShareable:
            return x[0, :3]
    return x[0, :3] + drawn


@pytest.mark.parametrize(
    ("loss", "why"),
    [
        (lambda x: x + torch.rand(7, 6, generator=GENERATOR), "from a generator of its own"),
        (lambda x: F.rrelu(x, training=True), "rrelu"),
        (lambda x: x * 2 if _functorch.is_batchedtensor(x) else F.dropout(x, 0.1), "fewer"),
        (lambda x: F.dropout(x, 0.1) if _functorch.is_batchedtensor(x) else x * 2, "more"),
        (
            lambda x: F.dropout(x, 0.2 if _functorch.is_batchedtensor(x) else 0.1),
            "otherwise than alone",
        ),
        (
            lambda x: torch.rand(4 if _functorch.is_batchedtensor(x) else (4, 1)) + x[0, 0],
            "otherwise than alone",
        ),
        (
            lambda x: (
                x + (torch.rand_like if _functorch.is_batchedtensor(x) else torch.randn_like)(x)
            ),
            "otherwise than alone",
        ),
        (catches, "more random numbers than alone"),
        (lambda x: x.clone()[:, :2].uniform_(), "for a tensor with gaps"),
    ],
)
def test_what_is_not_known_for_certain_is_refused(loss: Loss, why: str) -> None:
    with pytest.raises((NotShareable, RuntimeError), match=why) as caught:
        side_by_side(loss, rows(len(SEEDS), 7, 6))
    assert isinstance(caught.value, NotShareable) or why == "rrelu"


def test_a_loss_that_draws_nothing_says_so() -> None:
    assert draws_of(lambda: 1 / 0) == Draws()
    quiet = rows(1, 2, 3, 4)[0]
    assert not draws_of(lambda: F.dropout(quiet, 0.5, training=False))
    assert not draws_of(lambda: F.scaled_dot_product_attention(quiet, quiet, quiet))
    assert draws_of(lambda: F.dropout(quiet, 0.5))
