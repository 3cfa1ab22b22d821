"""Digits, signals and text: against their sources, their recipes and each other."""

from __future__ import annotations

import gzip
import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.interpolate
import scipy.ndimage
from builders import load_suite_file

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "datasets"
digits = load_suite_file("datasets/digits.py").digits
signals = load_suite_file("datasets/mnist1d.py")
alice = load_suite_file("datasets/alice.py").alice

# Of what ships: the text of the table, and that of the chapters.
CHECKSUMS = {
    "digits.csv.gz": "592cc047d0a1cc7fdef9fd724514209dcb45a80aa147dc3ab375e3e1a9a380f4",
    "alice.txt": "8cbd144e4443ad7f97166120e5f233139bb6d12bfafcd6df68d54ddba9c478e0",
}
FREQUENCIES = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
"""Rows of each digit in the test part, as the repository's own description has them."""

FIRST = """
 0  0  5 13  9  1  0  0
 0  0 13 15 10 15  5  0
 0  3 15  2  0 11  8  0
 0  4 12  0  0  8  8  0
 0  5  8  0  0  9  8  0
 0  4 11  0  1 12  7  0
 0  2 14  5 10 12  0  0
 0  0  6 13 10  0  0  0
"""


@pytest.mark.parametrize("name", CHECKSUMS)
def test_files_are_those_whose_checksums_are_published(name: str) -> None:
    content = (FOLDER / name).read_bytes()
    content = gzip.decompress(content) if name.endswith(".gz") else content
    assert hashlib.sha256(content).hexdigest() == CHECKSUMS[name]
    assert CHECKSUMS[name] in (FOLDER / "README.md").read_text(encoding="utf-8")


def test_digits_are_images_of_one_channel_as_distributed() -> None:
    data = digits()
    assert data.features.shape == (1797, 1, 8, 8)
    assert data.features.dtype == np.float64
    assert np.bincount(data.labels).tolist() == FREQUENCIES
    assert data.classes == 10
    assert (data.features * 16 == np.round(data.features * 16)).all()
    assert (data.features.min(), data.features.max()) == (0, 1)
    first = np.array([row.split() for row in FIRST.strip().splitlines()], dtype=float)
    assert np.array_equal(data.features[0, 0] * 16, first)
    assert data.labels[:10].tolist() == list(range(10))
    assert "CC BY 4.0" in data.source


def test_signals_follow_the_recipe_of_the_paper() -> None:
    """Step by step as the paper's code has it, with the numbers that the loader draws."""
    data = signals.mnist1d(rows=30)
    random = np.random.default_rng(signals.SEED)
    labels = random.permutation(np.arange(30) % 10)
    templates = signals.TEMPLATES - signals.TEMPLATES.mean(1, keepdims=True)
    templates = templates / templates.std(1, keepdims=True)
    templates = (templates - templates[:, :1]) / 6

    def interpolated(x: np.ndarray, count: int) -> np.ndarray:
        at = np.linspace(0, 1, len(x))
        made: np.ndarray = scipy.interpolate.interp1d(at, x)(np.linspace(0, 1, count))
        return made

    for row, label in enumerate(labels):
        x = np.concatenate([templates[label] + 1e-8, np.zeros(random.integers(36, 61))])
        x = interpolated(x, 12 + 60)
        x = x * (1 + 0.4 * (random.random() - 0.5))
        k = int(random.integers(48))
        x = np.concatenate([x[-k:], x[:-k]])
        noise = scipy.ndimage.gaussian_filter(0.25 * random.normal(size=72), 2)
        mask = x != 0
        x = mask * x + (1 - mask) * noise + 0.02 * random.normal(size=72)
        x = x - 0.75 * (random.random() - 0.5) * np.linspace(-0.5, 0.5, 72)
        np.testing.assert_allclose(
            data.features[row, 0], signals.SCALE * interpolated(x, 40), rtol=1e-9, atol=1e-12
        )
    assert np.array_equal(data.labels, labels)


def test_signals_are_balanced_of_unit_size_and_the_same_every_time() -> None:
    data = signals.mnist1d()
    assert data.features.shape == (4000, 1, 40)
    assert np.bincount(data.labels).tolist() == [400] * 10
    assert data.features.std() == pytest.approx(1, abs=0.05)
    assert np.array_equal(signals.mnist1d(rows=10).features, signals.mnist1d(rows=10).features)
    with pytest.raises(ValueError, match="mnist1d: rows must be at least 10, got 9"):
        signals.mnist1d(rows=9)


def test_pieces_of_the_text_follow_each_other_and_parts_share_none() -> None:
    parts = alice()
    text = (FOLDER / "alice.txt").read_text(encoding="utf-8").lower()
    characters = sorted(set(text))
    assert list(parts) == ["train", "validation", "test"]
    begin, shares = 0, []
    for part in parts.values():
        assert part.features.shape[1:] == part.labels.shape[1:] == (32,)
        assert part.features.dtype == np.int64
        assert part.classes == len(characters) == 42
        read = "".join(characters[i] for i in part.features.ravel())
        found = text.index(read)
        assert found >= begin
        begin = found + len(read)
        following = "".join(characters[i] for i in part.labels.ravel())
        assert following == text[found + 1 : begin + 1]
        shares.append(len(read) / len(text))
    np.testing.assert_allclose(shares, [0.8, 0.1, 0.1], atol=2e-3)
    assert text.startswith("chapter i\n\ndown the rabbit-hole")
    assert "gutenberg" not in text
    assert alice(context=8)["test"].features.shape == (572, 8)
    for context in (0, 40_000):
        with pytest.raises(ValueError, match="alice: context must be from 1 to"):
            alice(context=context)


@pytest.mark.parametrize("name", ["digits", "mnist1d", "alice"])
def test_loading_imports_neither_torch_nor_pandas(name: str) -> None:
    code = (
        f"import runpy, sys; runpy.run_path('datasets/{name}.py')['{name}'](); "
        "print({'torch', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
