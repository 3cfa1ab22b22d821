"""Characters of the first chapters of Alice's Adventures in Wonderland, each with the next one."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from harness import Dataset

CONTEXT = 32
TRAIN, VALIDATION = 0.8, 0.1
"""Shares of the text, from its beginning; the rest is for testing."""


def alice(context: int = CONTEXT) -> dict[str, Dataset]:
    """Cut the text into pieces, in each of which every character is to be told from those before.

    Letters are made small, which leaves 42 characters; a token is a character's place among them
    in the order of their codes. Pieces follow each other without a gap or an overlap. Parts are
    stretches of the text, not a sample of its pieces, so that what is tested on is no
    continuation of what was learnt.

    Args:
        context: Characters of a piece.

    Returns:
        The parts ``train``, ``validation`` and ``test``, each with features and labels of shape
        ``(pieces, context)``, int64: characters, and the character after each.

    Raises:
        ValueError: If a part would have no piece of such a length.
    """
    text = Path(__file__).with_name("alice.txt").read_text(encoding="utf-8").lower()
    characters = sorted(set(text))
    place = {character: i for i, character in enumerate(characters)}
    tokens = np.array([place[character] for character in text], dtype=np.int64)
    first, second = round(TRAIN * len(tokens)), round((TRAIN + VALIDATION) * len(tokens))
    parts = zip(("train", "validation", "test"), np.split(tokens, [first, second]), strict=True)
    return {name: _pieces(part, context, len(characters)) for name, part in parts}


def _pieces(
    tokens: np.ndarray[tuple[int], np.dtype[np.int64]], context: int, classes: int
) -> Dataset:
    count = (len(tokens) - 1) // context if context > 0 else 0
    if not count:
        raise ValueError(f"alice: context must be from 1 to {len(tokens) - 1}, got {context}")
    end = count * context
    return Dataset(
        features=tokens[:end].reshape(count, context).copy(),
        labels=tokens[1 : end + 1].reshape(count, context).copy(),
        label_name="next character",
        source="Lewis Carroll, Alice's Adventures in Wonderland, 1865, chapters I to IV",
        classes=classes,
    )
