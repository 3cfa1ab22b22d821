"""Modules of every kind: side by side and alone, what a plain PyTorch loop gives."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from builders import make_workload
from torch import nn

from harness import ModuleObjective
from harness.engine.lanes import Lane
from harness.engine.sharing import decide
from harness.engine.training_loop import train
from harness.engine.workload import BATCH_STREAM, INIT_STREAM, Workload, generator
from harness.objectives.dataset import Dataset

pytestmark = pytest.mark.usefixtures("shared_though_slower")

F = nn.functional
ROWS, BATCH, STEPS = 24, 8, 7
SEEDS = (0, 5, 2)
SETTING: dict[str, Any] = {"lr": 0.05, "momentum": 0.9}


@pytest.fixture(autouse=True)
def _double_precision_on_one_thread() -> Iterator[None]:
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "enable_nested_tensor")
        warnings.filterwarnings("ignore", "The PyTorch API of nested tensors")
        warnings.filterwarnings("ignore", "There is a performance drop")
        yield
    torch.set_num_threads(threads)
    torch.set_default_dtype(dtype)


class Last(nn.Module):
    """The last step of what a module makes of a sequence."""

    def __init__(self, inner: nn.Module, *, batch_first: bool = True) -> None:
        super().__init__()
        self.inner = inner
        self.batch_first = batch_first

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        found = self.inner(values if self.batch_first else values.transpose(0, 1))
        found = found[0] if isinstance(found, tuple) else found
        last: torch.Tensor = found[:, -1] if self.batch_first else found[-1]
        return last


class Cells(nn.Module):
    """A cell, step by step."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        hidden = None
        for step in values.unbind(1):
            hidden = self.cell(step, hidden)
        return hidden[0] if isinstance(hidden, tuple) else hidden  # type: ignore[return-value]


class SelfAttention(nn.Module):
    """``nn.MultiheadAttention`` of a sequence with itself."""

    def __init__(
        self, *, causal: bool = False, weights: bool = False, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(6, 2, dropout=dropout, batch_first=True)
        self.causal = causal
        self.weights = weights

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        mask = None
        if self.causal:
            mask = nn.Transformer.generate_square_subsequent_mask(values.shape[1])
        found: torch.Tensor = self.inner(
            values, values, values, need_weights=self.weights, attn_mask=mask, is_causal=self.causal
        )[0]
        return found.mean(1)


class OwnAttention(nn.Module):
    """``scaled_dot_product_attention``, as people write it."""

    def __init__(self, *, mask: str = "", dropout: float = 0.0) -> None:
        super().__init__()
        self.qkv = nn.Linear(6, 18)
        self.mask = mask
        self.dropout = dropout

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        rows, steps, _ = values.shape
        q, k, v = self.qkv(values).view(rows, steps, 3, 2, 3).permute(2, 0, 3, 1, 4)
        mask = None
        if self.mask == "same":
            mask = torch.ones(steps, steps, dtype=torch.bool).tril()
        elif self.mask == "rows":
            mask = (values[:, None, None, :, 0] < 1.5) | torch.eye(steps, dtype=torch.bool)
        elif self.mask == "learnt":
            mask = self.qkv.weight[:steps, :1].expand(steps, steps)
        out = F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=mask,
            is_causal=self.mask == "causal",
            dropout_p=self.dropout if self.training else 0.0,
        )
        return out.transpose(1, 2).flatten(2).mean(1)


class Encoder(nn.Module):
    """``nn.TransformerEncoder``, with what a test asks for."""

    def __init__(self, *, causal: bool = False, padded: bool = False, **more: Any) -> None:
        super().__init__()
        more = {"dropout": 0.0} | more
        layer = nn.TransformerEncoderLayer(6, 2, 10, batch_first=True, **more)
        self.inner = nn.TransformerEncoder(layer, 2)
        self.causal = causal
        self.padded = padded

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        more: dict[str, Any] = {}
        if self.causal:
            mask = nn.Transformer.generate_square_subsequent_mask(values.shape[1])
            more = {"mask": mask, "is_causal": True}
        if self.padded:
            padding = values[..., 0] > 1.5
            padding[:, 0] = False
            more["src_key_padding_mask"] = padding
        found: torch.Tensor = self.inner(values, **more)
        return found[:, 0] if self.padded else found.mean(1)


class Reassigns(nn.Module):
    """Keeps a running mean by putting another tensor in its buffer's place."""

    mean: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(6))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * values.detach().mean((0, 1))
        return values - self.mean


class WritesInPlace(nn.Module):
    """Keeps a running mean and counts its calls, in place."""

    mean: torch.Tensor
    calls: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(6))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64), persistent=False)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        self.calls += 1  # in evaluation as well
        if self.training:
            self.mean.mul_(0.9).add_(0.1 * values.detach().mean((0, 1)))
        return values - self.mean


class Scaled(nn.Module):
    """Multiplies by constants in a buffer."""

    factors: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("factors", torch.linspace(0.5, 2, 6))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values * self.factors


class RandomFeatures(nn.Module):
    """Constants that are drawn anew for every start, one of them used twice."""

    shifts: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 4), requires_grad=False)
        self.register_buffer("shifts", torch.rand(4))
        self.register_buffer("again", self.shifts)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return torch.cos(values @ self.weight + self.shifts) + self.again  # type: ignore[operator]


class Noisy(nn.Module):
    """Augments what it is given, in training."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return values
        keep = torch.rand(len(values), 1, 1) < 0.8
        shuffled = values[torch.randperm(len(values))]
        return torch.where(keep, values, shuffled) + 0.1 * torch.randn_like(values)


@dataclass(frozen=True)
class Kind:
    """A module whose input is of some shape, and how its trials run."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...] = (5, 6)
    tokens: bool = False
    way: str = "pointwise"


IMAGE = (3, 8, 8)
KINDS: dict[str, Kind] = {
    "conv1d": Kind(lambda: nn.Conv1d(5, 4, 3, stride=2, padding=1)),
    "conv2d": Kind(lambda: nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()), IMAGE),
    "conv2d of groups": Kind(lambda: nn.Conv2d(3, 6, 3, groups=3, dilation=2), IMAGE),
    "conv2d padded": Kind(lambda: nn.Conv2d(3, 2, 3, padding=1, padding_mode="circular"), IMAGE),
    "conv3d": Kind(lambda: nn.Conv3d(1, 2, 2), (1, 4, 4, 4)),
    "conv_transpose": Kind(lambda: nn.ConvTranspose2d(3, 2, 2, stride=2), IMAGE),
    "max_pool": Kind(lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2)), IMAGE),
    "avg_pool": Kind(lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(2)), IMAGE),
    "upsample": Kind(
        lambda: nn.Sequential(nn.Conv2d(3, 2, 3), nn.Upsample(scale_factor=2, mode="bilinear")),
        IMAGE,
    ),
    "batch_norm1d": Kind(lambda: nn.Sequential(nn.Flatten(), nn.Linear(30, 6), nn.BatchNorm1d(6))),
    "batch_norm2d": Kind(lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), IMAGE),
    "batch_norm slow": Kind(
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, momentum=0.01, affine=False)),
        IMAGE,
    ),
    "batch_norm frozen": Kind(
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4).eval()), IMAGE
    ),
    "batch_norm without": Kind(
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)),
        IMAGE,
    ),
    "batch_norm of all": Kind(
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, momentum=None)),
        IMAGE,
        way="alone",
    ),
    "instance_norm": Kind(
        lambda: nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.InstanceNorm2d(4, affine=True, track_running_stats=True)
        ),
        IMAGE,
    ),
    "group_norm": Kind(lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4)), IMAGE),
    "layer_norm": Kind(lambda: nn.Sequential(nn.Linear(6, 6), nn.LayerNorm((5, 6)))),
    "rms_norm": Kind(lambda: nn.Sequential(nn.Linear(6, 6), nn.RMSNorm(6))),
    "attention": Kind(SelfAttention),
    "attention causal": Kind(lambda: SelfAttention(causal=True)),
    "attention with weights": Kind(lambda: SelfAttention(weights=True)),
    "sdpa": Kind(OwnAttention),
    "sdpa causal": Kind(lambda: OwnAttention(mask="causal")),
    "sdpa same mask": Kind(lambda: OwnAttention(mask="same")),
    "sdpa mask of rows": Kind(lambda: OwnAttention(mask="rows")),
    "sdpa learnt mask": Kind(lambda: OwnAttention(mask="learnt")),
    "encoder": Kind(Encoder),
    "encoder causal": Kind(lambda: Encoder(causal=True)),
    "encoder padded": Kind(lambda: Encoder(padded=True)),
    "encoder norm first": Kind(lambda: Encoder(norm_first=True, activation="gelu")),
    "lstm": Kind(lambda: Last(nn.LSTM(6, 4, 2, batch_first=True))),
    "lstm of steps first": Kind(lambda: Last(nn.LSTM(6, 4), batch_first=False)),
    "lstm both ways": Kind(lambda: Last(nn.LSTM(6, 4, 2, batch_first=True, bidirectional=True))),
    "lstm projected": Kind(lambda: Last(nn.LSTM(6, 4, 2, batch_first=True, proj_size=3))),
    "lstm unbiased": Kind(lambda: Last(nn.LSTM(6, 4, bias=False, batch_first=True))),
    "gru": Kind(lambda: Last(nn.GRU(6, 4, 2, batch_first=True, bidirectional=True))),
    "rnn": Kind(lambda: Last(nn.RNN(6, 4, 2, batch_first=True))),
    "rnn relu": Kind(lambda: Last(nn.RNN(6, 4, nonlinearity="relu", bias=False, batch_first=True))),
    "lstm cell": Kind(lambda: Cells(nn.LSTMCell(6, 4))),
    "gru cell": Kind(lambda: Cells(nn.GRUCell(6, 4, bias=False))),
    "rnn cell": Kind(lambda: Cells(nn.RNNCell(6, 4))),
    "embedding": Kind(lambda: nn.Embedding(9, 4), (5,), tokens=True),
    "embedding padded": Kind(lambda: nn.Embedding(9, 4, padding_idx=2), (5,), tokens=True),
    "embedding by frequency": Kind(
        lambda: nn.Embedding(9, 4, scale_grad_by_freq=True), (5,), tokens=True
    ),
    "embedding frozen": Kind(
        lambda: nn.Sequential(nn.Embedding(9, 4).requires_grad_(False), nn.Linear(4, 3)),
        (5,),
        tokens=True,
    ),
    "embedding bag": Kind(lambda: nn.EmbeddingBag(9, 4), (5,), tokens=True),
    "language": Kind(
        lambda: nn.Sequential(nn.Embedding(9, 6), Encoder(causal=True)), (5,), tokens=True
    ),
    "weight_norm": Kind(lambda: nn.utils.parametrizations.weight_norm(nn.Linear(6, 4))),
    "spectral_norm": Kind(lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(6, 4))),
    "orthogonal": Kind(lambda: nn.utils.parametrizations.orthogonal(nn.Linear(6, 4))),
    "random features": Kind(RandomFeatures),
    "prelu": Kind(lambda: nn.Sequential(nn.Linear(6, 4), nn.PReLU())),
    "reassigns": Kind(Reassigns),
    "writes in place": Kind(WritesInPlace),
    "constants": Kind(Scaled),
    "dropout": Kind(lambda: nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.4))),
    "dropout2d": Kind(lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.Dropout2d(0.4)), IMAGE),
    "alpha dropout": Kind(lambda: nn.Sequential(nn.Linear(6, 8), nn.AlphaDropout(0.3))),
    "dropout, batch norm": Kind(
        lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2)),
        IMAGE,
    ),
    "attention dropout": Kind(lambda: SelfAttention(dropout=0.3)),
    "sdpa dropout": Kind(lambda: OwnAttention(mask="causal", dropout=0.3)),
    "encoder dropout": Kind(lambda: Encoder(dropout=0.2)),
    "lstm dropout": Kind(lambda: Last(nn.LSTM(6, 4, 3, batch_first=True, dropout=0.3))),
    "gru dropout": Kind(
        lambda: Last(nn.GRU(6, 4, 2, dropout=0.3, bidirectional=True), batch_first=False)
    ),
    "augmentation": Kind(lambda: nn.Sequential(Noisy(), nn.Linear(6, 4))),
}


class Classifier(ModuleObjective):
    """A kind of module, and a linear layer that tells three classes by it."""

    def __init__(self, dataset: Dataset, kind: str) -> None:
        self.kind = KINDS[kind]
        super().__init__(dataset)

    def module(self) -> nn.Module:
        inner = nn.Sequential(self.kind.make(), nn.Flatten())
        assert self.data is not None
        with torch.no_grad(), torch.random.fork_rng():
            width = inner.eval()(self.data[0][:1].to(self._precision())).shape[-1]
        for part in inner.modules():
            part.train()
        if self.kind is KINDS["batch_norm frozen"]:
            inner.get_submodule("0.1").eval()
        return nn.Sequential(inner, nn.Linear(width, 3))

    def _precision(self) -> torch.dtype:
        return torch.int64 if self.kind.tokens else torch.get_default_dtype()

    def criterion(self, output: Any, labels: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(output, labels)


def dataset(kind: Kind) -> Dataset:
    random = np.random.default_rng(0)
    shape = (ROWS, *kind.shape)
    features = random.integers(0, 9, shape) if kind.tokens else random.normal(size=shape)
    return Dataset(features, random.integers(0, 3, ROWS))


def workload(name: str) -> Workload:
    objective = Classifier(dataset(KINDS[name]), name)
    rows = objective.data
    assert rows is not None
    objective.held_out = {"test": tuple(tensor[: ROWS // 3] for tensor in rows)}
    return make_workload(
        objective,
        steps=STEPS,
        steps_per_epoch=ROWS // BATCH,
        batch_size=BATCH,
        divergence_factor=1e9,
        metrics=(("loss", False), ("accuracy", True)),
        held_out=objective.held_out,
    )


def plain_loop(name: str, seed: int) -> dict[str, list[float]]:
    """As a tutorial has it, recorded after every step."""
    objective = Classifier(dataset(KINDS[name]), name)
    torch.manual_seed(int(torch.randint(2**32, (), generator=generator(seed, INIT_STREAM))))
    network = objective.module()
    assert objective.data is not None
    x, y = objective.data
    optimizer = torch.optim.SGD(network.parameters(), **SETTING)
    modes = [(part, part.training) for part in network.modules()]
    recorded: dict[str, list[float]] = {name: [] for name in ("train loss", "test accuracy")}

    def record() -> None:
        network.eval()
        with torch.no_grad():
            recorded["train loss"].append(F.cross_entropy(network(x), y).item())
            found = network(x[: ROWS // 3]).argmax(1) == y[: ROWS // 3]
            recorded["test accuracy"].append(found.double().mean().item())
        for part, mode in modes:
            part.training = mode

    batches, order = generator(seed, BATCH_STREAM), torch.empty(0, dtype=torch.int64)
    torch.manual_seed(2**31 + seed)  # where the seeds of torch's global numbers begin
    record()
    for step in range(STEPS):
        if step % (ROWS // BATCH) == 0:
            order = torch.randperm(ROWS, generator=batches)
        rows = order[step % (ROWS // BATCH) * BATCH :][:BATCH]
        optimizer.zero_grad()
        F.cross_entropy(network(x[rows]), y[rows]).backward()
        optimizer.step()
        record()
    return recorded


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_of_module_trains_as_in_a_plain_loop(name: str) -> None:
    made = workload(name)
    lanes = [Lane(0, seed) for seed in SEEDS]
    shared = KINDS[name].way != "alone"
    together = train(made, torch.optim.SGD, [SETTING], lanes, way="pointwise") if shared else None
    for i, lane in enumerate(lanes):
        own = train(made, torch.optim.SGD, [SETTING], [lane], way="alone")
        for measure, expected in plain_loop(name, lane.seed).items():
            np.testing.assert_allclose(own.values[measure][0], expected, rtol=1e-11)
            if together is not None:
                np.testing.assert_allclose(together.values[measure][i], expected, rtol=1e-11)


@pytest.mark.usefixtures("shared_though_slower")
@pytest.mark.parametrize("name", KINDS)
def test_a_kind_of_module_runs_side_by_side_but_for_those_that_say_why_not(name: str) -> None:
    sharing = decide(workload(name), torch.optim.SGD, [SETTING], SEEDS)
    assert sharing.way == KINDS[name].way, sharing.reason
    assert (sharing.reason == "") == (sharing.way == "pointwise")
