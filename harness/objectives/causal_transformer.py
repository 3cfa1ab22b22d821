"""A transformer that tells each token from those before it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from harness.objectives.checks import check_classes, check_probability, check_whole
from harness.objectives.dataset import Dataset
from harness.objectives.module import ModuleObjective


class Block(nn.Module):
    """Attention to earlier places, then a layer of its own for each place; both added to what was.

    Args:
        width: Numbers per place.
        heads: Among which attention divides them.
        dropout: Probability with which what is added is dropped.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)
        self.inner, self.outer = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shape ``(rows, length, width)`` to the same."""
        split = self.attention(self.norm1(x)).unflatten(-1, (3, self.heads, -1))
        query, key, value = split.permute(2, 0, 3, 1, 4)  # (3, rows, heads, length, width each)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.dropout(self.projection(mixed.transpose(1, 2).flatten(2)))
        added: torch.Tensor = self.outer(functional.relu(self.inner(self.norm2(x))))
        result: torch.Tensor = x + self.dropout(added)
        return result


class Network(nn.Module):
    """Embeddings of tokens and places, blocks, and one number per token at each place."""

    def __init__(
        self, tokens: int, length: int, width: int, layers: int, heads: int, dropout: float
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(tokens, width)
        self.position = nn.Parameter(torch.zeros(length, width))
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.Sequential(*[Block(width, heads, dropout) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, tokens)
        nn.init.normal_(self.embedding.weight, std=0.02)
        nn.init.normal_(self.position, std=0.02)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Shape ``(rows, length)`` to ``(rows, length, tokens)``."""
        embedded = self.embedding(tokens) + self.position[: tokens.shape[1]]
        numbers: torch.Tensor = self.head(self.norm(self.blocks(self.dropout(embedded))))
        return numbers


class CausalTransformer(ModuleObjective):
    """Causal transformer: at each place of a text, tells the token that comes next.

    The loss is the mean cross entropy over places, the accuracy the share of tokens that are
    told. Source: A. Vaswani et al., "Attention Is All You Need", NeurIPS 2017, with norms before
    each layer and learnt places, as GPT-2 has them (A. Radford et al., "Language Models are
    Unsupervised Multitask Learners", 2019).

    Args:
        dataset: Features and labels of shape ``(rows, length)``, whole numbers: tokens, and the
            token after each.
        width: Numbers per place.
        layers: Number of blocks.
        heads: Of attention; ``width`` must be a multiple of it.
        dropout: Probability with which what a layer adds is dropped.

    Raises:
        ValueError: If an argument is outside its range, or the data are of another kind.
    """

    def __init__(
        self,
        dataset: Dataset,
        width: int = 24,
        layers: int = 2,
        heads: int = 2,
        dropout: float = 0.0,
    ) -> None:
        for name, value in (("width", width), ("layers", layers), ("heads", heads)):
            check_whole(name, value)
        if width % heads:
            raise ValueError(f"width must be a multiple of the {heads} heads, got {width}")
        check_probability("dropout", dropout)
        check_classes(dataset)
        shape = dataset.features.shape
        if dataset.features.dtype.kind == "f" or len(shape) != 2 or dataset.labels.shape != shape:
            raise ValueError(
                "features and labels must be whole numbers of shape (rows, length), got "
                f"{dataset.features.dtype} of {shape} and labels of {dataset.labels.shape}"
            )
        known = dataset if dataset.train is None else dataset.train
        tokens = max(int(known.features.max()) + 1, known.classes or 0)
        self._sizes = (tokens, shape[1], width, layers, heads, dropout)
        super().__init__(dataset)

    def module(self) -> nn.Module:
        """The network."""
        return Network(*self._sizes)

    def criterion(self, output: Any, labels: torch.Tensor) -> torch.Tensor:
        """The mean cross entropy over places."""
        return functional.cross_entropy(output.flatten(0, 1), labels.flatten())
