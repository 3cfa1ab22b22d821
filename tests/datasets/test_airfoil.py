"""The airfoil table against figures worked out elsewhere, and its loader against the recipe."""

from __future__ import annotations

import csv
import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from builders import load_suite_file

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "datasets" / "airfoil.csv"
SHA256 = "3ca78abd9d3aba0d92890fd86b5d9203193081822c391e37fb33eac4253d043b"

# Mean and population standard deviation per column, in exact rational arithmetic from the decimal
# digits of the distributed text (not from the CSV here), rounded to float64 once, at the end.
COLUMNS = {
    "frequency_hz": (2886.3805721889553, 3151.5242022362095),
    "angle_of_attack_deg": (6.782302062541583, 5.916159025472499),
    "chord_length_m": (0.1365482368596141, 0.09350960518948342),
    "free_stream_velocity_m_per_s": (50.86074517631404, 15.567602966396688),
    "displacement_thickness_m": (0.011139880391217565, 0.013145858876819492),
    "sound_pressure_level_db": (124.83594278110446, 6.896361277488791),
}
# Rows 1, 1500 and 1503 as distributed.
ROWS = {
    0: (800, 0, 0.3048, 71.3, 0.00266337, 126.201),
    1499: (3150, 15.6, 0.1016, 39.6, 0.0528487, 109.254),
    1502: (6300, 15.6, 0.1016, 39.6, 0.0528487, 104.204),
}


airfoil = load_suite_file("datasets/airfoil.py").airfoil


@pytest.fixture(scope="module")
def raw() -> dict[str, np.ndarray]:
    """Read the CSV without the loader under test: column name to column."""
    with TABLE.open(encoding="utf-8", newline="") as lines:
        header, *rows = csv.reader(lines)
    return {
        name: np.array([float(value) for value in column])
        for name, column in zip(header, zip(*rows, strict=True), strict=True)
    }


def test_the_csv_is_byte_for_byte_the_one_whose_checksum_is_published() -> None:
    assert hashlib.sha256(TABLE.read_bytes()).hexdigest() == SHA256
    assert SHA256 in (ROOT / "datasets" / "README.md").read_text(encoding="utf-8")


def test_the_csv_has_1503_rows_under_six_named_columns(raw: dict[str, np.ndarray]) -> None:
    assert tuple(raw) == tuple(COLUMNS)
    assert {len(column) for column in raw.values()} == {1503}


@pytest.mark.parametrize("name", COLUMNS)
def test_each_raw_column_has_the_mean_and_deviation_of_the_distributed_table(
    raw: dict[str, np.ndarray], name: str
) -> None:
    mean, deviation = COLUMNS[name]
    assert np.mean(raw[name]) == pytest.approx(mean, rel=1e-12)
    assert np.std(raw[name]) == pytest.approx(deviation, rel=1e-12)


@pytest.mark.parametrize("row", ROWS)
def test_rows_stand_where_the_distributed_table_has_them(
    raw: dict[str, np.ndarray], row: int
) -> None:
    assert tuple(column[row] for column in raw.values()) == ROWS[row]


def test_the_default_is_the_first_1500_rows_with_five_features() -> None:
    data = airfoil()
    assert data.features.shape == (1500, 5)
    assert data.labels.shape == (1500,)
    assert data.features.dtype == data.labels.dtype == np.float64
    assert (*data.feature_names, data.label_name) == tuple(COLUMNS)
    assert "10.24432/C5VW2C" in data.source
    assert "CC BY 4.0" in data.source


def test_over_all_rows_every_column_has_mean_zero_and_population_deviation_one() -> None:
    data = airfoil(rows=1503)
    scaled = np.column_stack([data.features, data.labels])
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-13)
    np.testing.assert_allclose(scaled.std(axis=0), 1, rtol=1e-13)


@pytest.mark.parametrize("row", ROWS)
def test_each_value_is_its_distance_from_the_mean_in_standard_deviations(row: int) -> None:
    data = airfoil(rows=1503)
    expected = [
        (value - mean) / deviation
        for value, (mean, deviation) in zip(ROWS[row], COLUMNS.values(), strict=True)
    ]
    np.testing.assert_allclose([*data.features[row], data.labels[row]], expected, rtol=1e-11)


@pytest.mark.parametrize("rows", [1, 10, 1500])
def test_fewer_rows_are_a_prefix_scaled_by_the_whole_table(rows: int) -> None:
    whole, part = airfoil(rows=1503), airfoil(rows=rows)
    np.testing.assert_array_equal(part.features, whole.features[:rows])
    np.testing.assert_array_equal(part.labels, whole.labels[:rows])


def test_the_least_squares_floor_of_the_first_1500_rows_is_0_241688() -> None:
    data = airfoil()
    design = np.column_stack([data.features, np.ones(1500)])
    solution, *_ = np.linalg.lstsq(design, data.labels, rcond=None)
    floor = np.mean((design @ solution - data.labels) ** 2) / 2
    assert f"{floor:.6f}" == "0.241688"


@pytest.mark.parametrize("rows", [0, -1, -1503, 1504])
def test_a_number_of_rows_that_the_table_cannot_give_is_refused(rows: int) -> None:
    with pytest.raises(ValueError, match=rf"rows must be from 1 to 1503, got {rows}$"):
        airfoil(rows=rows)


def test_two_loads_share_no_memory() -> None:
    first = airfoil(rows=3)
    first.features[:] = 0
    assert np.all(airfoil(rows=3).features[:, 0] != 0)


def test_reading_the_table_imports_neither_torch_nor_pandas() -> None:
    code = (
        "import runpy, sys; runpy.run_path('datasets/airfoil.py')['airfoil'](); "
        "print({'torch', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
