"""Published numbers: by hand, by how often a right one is doubted, and the chapter's own."""

from __future__ import annotations

import itertools
import math
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray
from results_builders import make_case, make_results, make_trials

from harness.analysis.claims import BEYOND, EDGE, CheckedClaim, check, decimals, half_unit
from harness.reporting.tables import tuning as tuning_tables
from harness.store.read import Results

ROOT = Path(__file__).resolve().parents[2]


def claim(value: str, **more: Any) -> dict[str, Any]:
    """A claim as a spec has it, of optimizer a on the bowl."""
    return {"value": value, "source": "p. 1", "optimizer": "a", "objective": "bowl", **more}


def claimed_results(
    claims: Sequence[Mapping[str, Any]],
    finals: ArrayLike,
    *,
    failed: Mapping[int, str] | None = None,
    ends: Sequence[tuple[float, float]] = (),
    devices: Sequence[str] = ("cpu",),
    dtype: str = "float64",
    hyperparameters: Sequence[dict[str, Any]] = ({},),
) -> Results:
    """Optimizer a on the bowl: a final loss per seed, the same on every device and setting."""
    values = dict(enumerate(np.asarray(finals, dtype=np.float64).tolist()))
    cases = [
        make_case(
            curves={seed: [value] for seed, value in values.items()},
            position=position,
            setting=", ".join(f"{k}={v}" for k, v in setting.items()),
            device=device,
            hyperparameters=setting,
            dtype=dtype,
            trajectories={seed: np.array([(9.0, 9.0), point]) for seed, point in enumerate(ends)},
        )
        for position, (device, setting) in enumerate(itertools.product(devices, hyperparameters))
    ]
    trials = make_trials(cases)
    trials["status"] = trials["seed"].map(lambda seed: (failed or {}).get(seed, "ok"))
    return make_results(cases, trials, claims=list(claims))


def checked(
    value: str, finals: ArrayLike, *, more: dict[str, Any] | None = None, **how: Any
) -> Any:
    """What comes of one claim on one device."""
    (found,) = check(claimed_results([claim(value, **(more or {}))], finals, **how))
    return found


# ---- how a number was printed


@pytest.mark.parametrize(
    ("printed", "places", "half"),
    [
        ("0.242805", 6, 5e-7),
        ("-0.000073", 6, 5e-7),
        ("-0.000000", 6, 5e-7),
        ("0.253280", 6, 5e-7),
        ("3", 0, 0.5),
        ("-3", 0, 0.5),
        ("+3.0", 1, 0.05),
        ("120", 0, 0.5),
        ("1e3", 0, 500.0),
        ("1.5e3", 0, 50.0),
        ("1.50e3", 0, 5.0),
        ("1.5e-7", 8, 5e-9),
        ("2E-2", 2, 5e-3),
    ],
)
def test_decimals_and_the_rounding_of_a_printed_number(
    printed: str, places: int, half: float
) -> None:
    assert decimals(printed) == places
    assert half_unit(printed) == pytest.approx(half, rel=1e-12)


# ---- numbers that no seed changes


@pytest.mark.parametrize(
    ("printed", "own", "verdict"),
    [
        ("0.250000", 0.25, "reproduced"),
        ("0.250000", 0.2500004, "reproduced"),
        ("0.25", 0.2549, "reproduced"),
        ("-0.000073", -0.0000734, "reproduced"),
        # What rounds to nothing may have either sign.
        ("-0.000000", -1e-9, "reproduced"),
        ("-0.000000", 1e-9, "reproduced"),
        ("0.000000", -1e-9, "reproduced"),
        # One unit of the last digit off, and more.
        ("0.250000", 0.2500009, "borderline"),
        ("0.250000", 0.2499991, "borderline"),
        ("0.250000", 0.250002, "not consistent"),
        ("0.250000", -0.25, "not consistent"),
        ("-0.000000", -0.000073, "not consistent"),
        ("7", 9.0, "not consistent"),
    ],
)
def test_a_number_that_no_seed_changes_is_held_against_the_printed_decimals(
    printed: str, own: float, verdict: str
) -> None:
    found = checked(printed, [own] * 4)
    assert (found.kind, found.verdict) == ("fixed", verdict)
    assert all(math.isnan(value) for value in (found.percentile, found.p, found.least_p))
    assert found.why.startswith("all 4 seeds give ")
    assert found.value == float(printed)


@pytest.mark.parametrize(
    ("printed", "own", "verdict"),
    [
        ("1e3", 1200.0, "reproduced"),
        ("1.2e4", 12_345.0, "reproduced"),
        ("1.2e4", 12_600.0, "borderline"),
        ("1.2e4", 15_000.0, "not consistent"),
        ("1.5e-7", 1.46e-7, "reproduced"),
        ("1.5e-7", 1.3e-7, "not consistent"),
    ],
)
def test_a_number_printed_with_an_exponent_has_the_digits_that_are_printed(
    printed: str, own: float, verdict: str
) -> None:
    assert checked(printed, [own] * 4).verdict == verdict


PRINTED_WHOLE = "0.06046617599999997"


@pytest.mark.parametrize("last_bits", [0, 1, -1, 3])
def test_a_number_printed_whole_may_differ_in_its_last_bits(last_bits: int) -> None:
    own = float(PRINTED_WHOLE) + last_bits * float(np.spacing(float(PRINTED_WHOLE)))
    found = checked(PRINTED_WHOLE, [own] * 3)
    assert found.kind == "fixed"
    # Reproduced is what has every digit.
    assert found.verdict == ("reproduced" if last_bits == 0 else "consistent")


def test_a_number_printed_whole_may_not_differ_in_more() -> None:
    assert checked(PRINTED_WHOLE, [float(PRINTED_WHOLE) + 1e-14] * 3).verdict == "not consistent"


def test_seeds_that_part_by_a_float32s_rounding_do_not_change_a_number() -> None:
    value = np.float32(0.2428)
    finals = [float(value), float(np.nextafter(value, np.float32(1)))]
    assert checked("0.2428000", finals, dtype="float32").kind == "fixed"
    # In float64 the same two numbers are far apart.
    assert checked("0.2428000", finals, dtype="float64").kind == "run"


def test_a_number_of_one_seed_says_nothing_of_others() -> None:
    found = checked("0.25", [0.25])
    assert (found.kind, found.verdict) == ("run", "undecided")


@pytest.mark.parametrize(("quantity", "printed"), [("x1", "-0.943467"), ("x2", "-0.000073")])
def test_a_coordinate_is_that_of_the_end_point(quantity: str, printed: str) -> None:
    ends = [(-0.9434674, -0.0000731)] * 3
    found = checked(printed, [0.1, 0.2, 0.3], more={"quantity": quantity}, ends=ends)
    assert (found.kind, found.verdict, found.failed) == ("fixed", "reproduced", 0)
    of_other = checked("0.5", [0.1, 0.2, 0.3], more={"quantity": quantity}, ends=ends)
    assert of_other.verdict == "not consistent"


def test_a_coordinate_of_which_nothing_is_kept_is_not_known() -> None:
    found = checked("0.5", [0.1, 0.2], more={"quantity": "x1"})
    assert (found.verdict, found.why) == ("undecided", "this is not known of any seed")
    assert len(found.values) == 0


# ---- numbers of one run


def test_percentile_and_p_of_one_runs_number_by_hand() -> None:
    finals = np.arange(1, 100) / 100
    found = checked("0.105", finals)
    # Ten are below, 89 above; of a hundred with it, it is the eleventh.
    assert (found.kind, found.percentile) == ("run", pytest.approx(100 * 10 / 99))
    assert found.p == pytest.approx(2 * 11 / 100)
    assert found.least_p == pytest.approx(2 / 100)
    assert found.values.tolist() == finals.tolist()
    # Within its rounding of 0.005 one is equal, and that counts on both sides.
    found = checked("0.10", finals)
    assert found.percentile == pytest.approx(100 * 9.5 / 99)
    assert found.p == pytest.approx(2 * 11 / 100)


def spread(count: int) -> Any:
    return np.arange(1, count + 1) / 1000 + 1e-7


@pytest.mark.parametrize(
    ("seeds", "printed", "verdict", "p"),
    [
        # Of 999 the probabilities are 2/1000, 4/1000, ...
        (999, "0.500500", "consistent", 1.0),
        (999, "0.049500", "consistent", 0.1),
        (999, "0.048500", "borderline", 0.098),
        (999, "0.004500", "borderline", 0.01),
        (999, "0.003500", "not consistent", 0.008),
        (999, "0.996500", "not consistent", 0.008),
        (999, "0.995500", "borderline", 0.01),
        (999, "-5.000000", "not consistent", 0.002),
        (999, "5.000000", "not consistent", 0.002),
        # Nothing is beyond 1% by its rank with 199 seeds or fewer, nor beyond 10% with 19.
        (200, "0.210000", "not consistent", 2 / 201),
        (199, "0.210000", "borderline", 0.01),
        (20, "0.025000", "borderline", 2 / 21),
        (19, "0.025000", "undecided", 0.1),
        # What is absurd is so with any number of seeds that have a spread to speak of.
        (199, "50.000000", "not consistent", 0.01),
        (20, "50.000000", "not consistent", 2 / 21),
        (19, "50.000000", "not consistent", 0.1),
        (5, "50.000000", "not consistent", 1 / 3),
        (19, "0.010500", "consistent", 1.0),
        (2, "5.000000", "undecided", 2 / 3),
    ],
)
def test_the_verdict_is_by_how_far_out_among_the_seeds_a_number_is(
    seeds: int, printed: str, verdict: str, p: float
) -> None:
    assert (EDGE, BEYOND) == (0.1, 0.01)
    found = checked(printed, spread(seeds))
    assert found.p == pytest.approx(p)
    assert found.verdict == verdict
    assert found.least_p == pytest.approx(2 / (seeds + 1))


def test_the_sentence_says_where_the_number_falls() -> None:
    assert checked("5.000", spread(999)).why.startswith(
        "above all 999 seeds, 15.6 standard deviations from their mean; a run so far out has a "
        "probability of at most 0.002"
    )
    assert checked("-5.000", spread(999)).why.startswith("below all 999 seeds")
    assert "the least that so few seeds can show" in checked("0.012", spread(9)).why
    assert "too far for any loss of theirs" in checked("50.000", spread(9)).why
    inside = checked("0.048500", spread(999)).why
    assert inside.startswith("percentile 4.8 of 999 seeds, 1.56 standard deviations from")
    assert "; not consistent would be a number below 0.004 (1.72 standard deviations) or " in inside
    assert "about 0.098" in inside


def test_failed_seeds_are_said_and_are_not_among_the_values() -> None:
    finals = [*spread(50), math.nan, math.nan]
    found = checked("0.020500", finals, failed={50: "diverged", 51: "error"})
    assert (len(found.values), found.failed) == (50, 2)
    assert found.why.endswith("; 2 of 52 seeds failed and are not among them")
    fixed = checked("0.5", [0.5, 0.5, math.nan], failed={2: "timeout"})
    assert (fixed.kind, fixed.verdict) == ("fixed", "reproduced")
    assert fixed.why.endswith("; 1 of 3 seeds failed and are not among them")
    mean = checked("0.5", [0.4, 0.6, math.nan], failed={2: "error"}, more={"seeds": 9, "sd": 0.1})
    assert mean.why.endswith("; 1 of 3 seeds failed and are not among them")


def test_where_no_seed_ended_ok_nothing_can_be_told() -> None:
    found = checked("0.5", [math.nan] * 3, failed=dict.fromkeys(range(3), "error"))
    assert (found.verdict, found.failed) == ("undecided", 3)
    assert found.why == "none of 3 seeds ended ok"
    assert math.isnan(found.p)


def test_what_could_not_run_is_not_checked() -> None:
    gone = dict.fromkeys(range(2), "unavailable")
    assert check(claimed_results([claim("0.5")], [math.nan] * 2, failed=gone)) == []


def test_a_claim_is_checked_on_every_device_and_of_its_own_setting_alone() -> None:
    claims = [
        claim("0.5", hyperparameters={"lr": 2}),
        claim("0.7", hyperparameters={"lr": 1, "eps": 0}),
        claim("0.6", optimizer="b"),
        claim("0.6", objective="line"),
        claim("0.6", setting="tuned"),
    ]
    found = check(
        claimed_results(
            claims,
            [0.5, 0.5],
            devices=("cpu", "cuda"),
            hyperparameters=({"lr": 1, "eps": 0}, {"lr": 2, "eps": 0}),
        )
    )
    assert [(c.value, c.case.device, c.case.setting, c.verdict) for c in found] == [
        (0.5, "cpu", "lr=2, eps=0", "reproduced"),
        (0.5, "cuda", "lr=2, eps=0", "reproduced"),
        (0.7, "cpu", "lr=1, eps=0", "not consistent"),
        (0.7, "cuda", "lr=1, eps=0", "not consistent"),
    ]


# ---- means


def test_a_published_mean_is_compared_by_welchs_test() -> None:
    random = np.random.default_rng(3)
    ours = random.normal(0.2449, 0.0024, size=200)
    # Another's runs with just the mean and deviation that are claimed.
    theirs = random.normal(size=50)
    theirs = 0.2445 + 0.003 * (theirs - theirs.mean()) / theirs.std(ddof=1)
    expected = scipy.stats.ttest_ind(ours, theirs, equal_var=False)
    found = checked("0.2445000", ours, more={"seeds": 50, "sd": 0.003})
    assert found.kind == "mean"
    # The rounding of the claim, which that test doesn't know of, is a ten-thousandth here.
    assert found.p == pytest.approx(float(expected.pvalue), rel=1e-3)
    assert math.isnan(found.percentile)
    assert f"{abs(float(expected.statistic)):.1f} standard errors from it" in found.why


@pytest.mark.parametrize(
    ("errors", "verdict"),
    [(0.0, "consistent"), (1.5, "consistent"), (2.0, "borderline"), (3.0, "not consistent")],
)
def test_the_verdict_on_a_mean_is_by_its_standard_errors(errors: float, verdict: str) -> None:
    # Our mean is 1 with a standard deviation of just 0.1, both of 400 runs.
    ours = np.tile([0.9, 1.1], 200)
    ours = 1 + (ours - 1) * 0.1 / ours.std(ddof=1)
    value = 1 + errors * 0.1 * math.sqrt(2 / 400)
    found = checked(f"{value:.8f}", ours, more={"seeds": 400, "sd": 0.1})
    assert found.verdict == verdict
    assert found.p == pytest.approx(2 * scipy.stats.norm.sf(errors), abs=2e-3)


def test_the_rounding_of_a_published_mean_is_part_of_its_error() -> None:
    ours = np.tile([0.24496, 0.24498], 500)
    # 0.24497 rounds to 0.2450: however exact both means are, that is no contradiction.
    assert checked("0.2450", ours, more={"seeds": 1000, "sd": 0.00001}).verdict == "consistent"
    assert (
        checked("0.245000", ours, more={"seeds": 1000, "sd": 0.00001}).verdict == "not consistent"
    )


def test_a_mean_cannot_be_told_from_one_seed() -> None:
    found = checked("0.5", [0.7], more={"seeds": 9, "sd": 0.1})
    assert (found.verdict, found.why) == ("undecided", "one seed gives 0.7")


def test_a_mean_of_seeds_that_all_end_alike_may_be_claimed_without_a_spread() -> None:
    assert checked("0.5", [0.5] * 4, more={"seeds": 9, "sd": 0.0}).verdict == "consistent"
    assert checked("0.5", [0.9] * 4, more={"seeds": 9, "sd": 0.0}).verdict == "not consistent"


# ---- how often a number that is right is doubted


@settings(max_examples=25, deadline=None)
@given(
    seeds=st.integers(1, 450),
    kind=st.sampled_from(["normal", "lognormal", "cauchy", "ties"]),
    places=st.integers(0, 8),
    seed=st.integers(0, 2**32 - 1),
)
def test_of_numbers_from_the_seeds_own_distribution_at_most_one_in_a_hundred_is_doubted(
    seeds: int, kind: str, places: int, seed: int
) -> None:
    """Exact: any of the values could have been the one published, each as likely."""
    random = np.random.default_rng(seed)
    drawn: dict[str, NDArray[np.float64]] = {
        "normal": random.normal(size=seeds + 1),
        "lognormal": np.asarray(random.lognormal(sigma=2, size=seeds + 1)),
        "cauchy": random.standard_cauchy(size=seeds + 1),
        "ties": random.integers(0, 6, size=seeds + 1).astype(np.float64),
    }
    values = drawn[kind]
    if kind == "ties":
        # Several of each: leaving one out never leaves seeds that all end alike.
        values[: min(2, seeds)] = [0.0, 5.0][: min(2, seeds)]
        values[-2:] = [0.0, 5.0]
    order = np.argsort(values)
    # Only what is far out can be doubted; the middle is looked at in part.
    tail = max(3, len(order) // 50)
    looked_at = np.unique(np.concatenate([order[:tail], order[-tail:], order[tail::37]]))
    doubted = edge = 0
    for i in looked_at:
        rest = np.delete(values, i)
        found = checked(f"{values[i]:.{places}f}", rest)
        if found.kind == "fixed":
            continue  # so few seeds, or so few decimals, that they cannot tell them apart
        # What Student's prediction calls absurd may be, of a tail as heavy as these two have.
        heavy = kind in ("cauchy", "lognormal")
        doubted += found.p < BEYOND if heavy else found.verdict == "not consistent"
        edge += found.p < EDGE
    assert doubted <= BEYOND * len(values)
    assert edge <= EDGE * len(values)


@pytest.mark.parametrize("places", [2, pytest.param(6, marks=pytest.mark.exhaustive)])
def test_drawn_anew_a_number_is_doubted_at_the_rate_that_is_promised(places: int) -> None:
    # Several claims share their seeds, which adds a twentieth to the variance of the rate.
    sets, claims, seeds = 150, 20, 400
    random = np.random.default_rng(21)
    found: list[CheckedClaim] = []
    for _ in range(sets):
        drawn = random.lognormal(size=(claims + seeds,))
        printed = [claim(f"{value:.{places}f}") for value in drawn[:claims]]
        found += check(claimed_results(printed, drawn[claims:]))
    draws = sets * claims
    doubted = sum(one.verdict == "not consistent" for one in found)
    edge = sum(one.verdict == "borderline" for one in found)
    print(f"printed with {places} decimals: {doubted / draws:.4f} not consistent, ", end="")
    print(f"{edge / draws:.4f} at the edge, of {draws}")
    # Of 401 places the two outermost on either side are doubted, the 20 outermost not held.
    # Rounding makes both rarer, never more frequent.
    for count, exact in ((doubted, 4 / 401), (doubted + edge, 40 / 401)):
        assert count <= scipy.stats.binom.ppf(0.9995, draws, exact)
        assert count >= scipy.stats.binom.ppf(0.0005, draws, exact) or places == 2
    assert {one.kind for one in found} == {"run"}


def test_a_mean_that_is_right_is_doubted_about_as_often_as_promised() -> None:
    draws = 600
    random = np.random.default_rng(22)
    ours = random.normal(1, 0.3, size=(draws, 30))
    theirs = random.normal(1, 0.3, size=(draws, 12))
    found = [
        checked(f"{b.mean():.9f}", a, more={"seeds": 12, "sd": float(b.std(ddof=1))}).verdict
        for a, b in zip(ours, theirs, strict=True)
    ]
    doubted = found.count("not consistent")
    print(f"a right mean is not consistent at a rate of {doubted / draws:.4f} of {draws}")
    assert 0 < doubted <= scipy.stats.binom.ppf(0.9995, draws, 0.01)


# ---- end to end

END_POINTS = {
    ("gd", 0.4): ("-0.943467", "-0.000073"),
    ("momentum", 0.4): ("-0.062843", "0.001202"),
    ("adagrad", 0.4): ("-2.382563", "-0.158591"),
    ("adagrad", 2.0): ("-0.002295", "-0.000000"),
}
# Objective and optimizer: the number that the chapter prints; mean and standard deviation over
# 1,500 seeds of an independent float64 implementation.
REGRESSION = {
    ("linreg", "gd"): ("0.242805", "0.2449", 0.0024),
    ("linreg", "momentum"): ("0.245518", "0.2441", 0.0017),
    ("linreg", "adagrad"): ("0.243675", "0.2429", 0.0008),
    ("concise", "torch_adagrad"): ("0.243147", "0.2431", 0.0009),
}
SPEC = """
suite: claims
seeds: 10
devices: [cpu]
timing: {enabled: false}
objectives:
  bowl: {class: quadratic_2d, steps: 20, dtype: float64}
  linreg: &linreg
    class: linear_regression
    dataset: airfoil
    batch_size: 10
    epochs: 2
    record_every: 100
  concise:
    <<: *linreg
    arguments: {init: uniform}
optimizers:
  gd:
    class: SGD
    per_objective: {bowl: {lr: 0.4}, linreg: {lr: 0.05}}
  momentum:
    class: Momentum
    hyperparameters: {momentum: 0.5}
    per_objective: {bowl: {lr: 0.4}, linreg: {lr: 0.02}}
  adagrad:
    class: AdaGrad
    hyperparameters: {eps: 1e-6}
    per_objective: {bowl: {lr: [0.4, 2.0]}, linreg: {lr: 0.1}}
  torch_adagrad:
    class: torch.optim:Adagrad
    per_objective: {concise: {lr: 0.1}}
include:
  - {objective: [bowl, linreg], optimizer: [gd, momentum, adagrad]}
  - {objective: concise, optimizer: torch_adagrad}
claims:
"""


Command = Callable[..., subprocess.CompletedProcess[str]]


def run(command: Command, spec: Path, output: Path, *options: str) -> pd.DataFrame:
    """Run a spec with a thousand seeds, as a user would; the table of claims."""
    words = ("--seeds", "1000", "--devices", "cpu", "--no-timing")
    done = command("run", spec, "--output", output, *words, *options)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return pd.read_csv(output / "tables" / "claims.csv", dtype={"published": str})


@pytest.fixture(scope="module")
def chapter(tmp_path_factory: pytest.TempPathFactory, command: Command) -> pd.DataFrame:
    """Every number of the chapter's AdaGrad experiment, and every reference mean, as a claim."""
    folder = tmp_path_factory.mktemp("claims")
    for name in ("optimizers", "datasets"):
        (folder / name).symlink_to(ROOT / name)
    lines = [
        f'  - {{value: "{printed}", source: d2l, optimizer: {optimizer}, objective: bowl, '
        f"hyperparameters: {{lr: {lr}}}, quantity: {quantity}}}"
        for (optimizer, lr), values in END_POINTS.items()
        for quantity, printed in zip(("x1", "x2"), values, strict=True)
    ]
    for (objective, optimizer), (printed, mean, sd) in REGRESSION.items():
        what = f"source: d2l, optimizer: {optimizer}, objective: {objective}"
        lines.append(f'  - {{value: "{printed}", {what}}}')
        lines.append(f'  - {{value: "{mean}", {what}, seeds: 1500, sd: {sd}}}')
    (folder / "claims.yaml").write_text(SPEC + "\n".join(lines) + "\n")
    return run(command, folder / "claims.yaml", folder / "out")


def test_every_number_of_the_chapter_and_every_reference_mean_is_consistent(
    chapter: pd.DataFrame,
) -> None:
    columns = ["optimizer", "published", "kind", "percentile", "p", "verdict"]
    print(chapter[columns].to_string())
    assert chapter["verdict"].tolist() == ["consistent"] * 8 + ["reproduced"] * 8
    assert len(chapter) == 2 * len(END_POINTS) + 2 * len(REGRESSION) == 16
    assert chapter["kind"].tolist() == ["run", "mean"] * 4 + ["fixed"] * 8
    assert set(chapter["n"]) == {1000}
    assert set(chapter["failed"]) == {0}


def test_a_number_of_the_whole_chapter_that_is_not_consistent_is_called_so(
    tmp_path: Path, command: Command
) -> None:
    """The claims of what --only leaves out are no mistake, and have no row."""
    only = ("--only", "optimizer=torch_adadelta", "--only", "objective=linreg_concise")
    table = run(command, ROOT / "specs" / "chapter7.yaml", tmp_path / "out", *only)
    (row,) = table.to_dict("records")
    assert (row["optimizer"], row["published"], row["n"]) == ("torch_adadelta", "0.242104", 1000)
    assert row["verdict"] == "not consistent"
    assert float(row["p"]) < BEYOND


ABSURD_SEEDS = [0.2437, 0.2442, 0.2446, 0.2431, 0.2489, 0.2453, 0.2435, 0.2461, 0.2444, 0.2472]


@pytest.mark.parametrize("seeds", [10, 1000])
def test_an_absurd_value_is_called_with_ten_seeds_as_with_a_thousand(seeds: int) -> None:
    random = np.random.default_rng(5)
    finals = ABSURD_SEEDS if seeds == 10 else 0.2417 + random.lognormal(-6, 0.5, size=seeds)
    found = checked("0.900000", finals)
    assert found.verdict == "not consistent"
    sd = np.std(finals, ddof=1)
    assert found.deviations == pytest.approx((0.9 - np.mean(finals)) / sd)
    assert checked("-0.900000", finals).verdict == "not consistent"


def test_what_would_have_been_noticed_is_where_the_verdict_changes() -> None:
    for finals in (ABSURD_SEEDS, spread(300), np.random.default_rng(1).lognormal(size=30)):
        found = checked("0.245000000000", finals)
        for end, outwards in zip(found.noticed, (-1, 1), strict=True):
            step = 1e-6 * np.ptp(finals)
            inside, outside = (end - outwards * step, end + outwards * step)
            assert checked(f"{outside:.12f}", finals).verdict == "not consistent"
            assert checked(f"{inside:.12f}", finals).verdict != "not consistent"
        mean, sd = np.mean(finals), np.std(finals, ddof=1)
        nearest = min(mean - found.noticed[0], found.noticed[1] - mean)
        assert found.least_noticed == pytest.approx(nearest / sd)


@pytest.mark.parametrize(
    "seeds",
    [10, *(pytest.param(count, marks=pytest.mark.exhaustive) for count in (5, 20, 100))],
)
@pytest.mark.parametrize("kind", ["normal", "lognormal"])
def test_right_numbers_are_rarely_called_absurd(kind: str, seeds: int) -> None:
    random = np.random.default_rng(31)
    draws = 400
    if kind == "normal":
        drawn = 100 + random.normal(size=(draws, seeds + 1))
    else:
        drawn = random.lognormal(sigma=1.5, size=(draws, seeds + 1))
    called = sum(checked(f"{row[0]:.9f}", row[1:]).verdict == "not consistent" for row in drawn)
    # Of log-normal ones at most one in a thousand, of normal ones hardly any.
    assert called <= scipy.stats.binom.ppf(0.999, draws, 1e-3)


# ---- the table


def test_the_table_of_claims_has_a_row_for_each_with_its_numbers() -> None:
    claims = [claim("0.020"), claim("0.045"), claim("0.0205", seeds=100, sd=0.01)]
    finals = [*spread(40), math.nan]
    found = check(claimed_results(claims, finals, failed={40: "error"}))
    table = tuning_tables.claimed(found)
    assert table is not None
    rows = {str(row["published"]): row for row in table.frame.to_dict("records")}
    assert len(table.frame) == len(found) == 3
    for one in found:
        row = rows[one.claim.value]
        assert row["median"] == pytest.approx(np.median(finals[:40]))
        assert (row["low"], row["high"]) == (finals[0], finals[39])
        assert (row["n"], row["failed"]) == (40, 1)
        assert (row["verdict"], row["why"], row["kind"]) == (one.verdict, one.why, one.kind)
        for key, value in (("percentile", one.percentile), ("p", one.p), ("least_p", one.least_p)):
            assert row[key] == pytest.approx(value, nan_ok=True)
    # What doesn't hold comes first.
    assert table.shown["published"].tolist() == ["0.045", "0.020", "0.0205"]
    assert table.shown["verdict"].tolist() == ["borderline", "consistent", "consistent"]
    assert table.shown["ours"].tolist() == ["0.021", "0.021", "0.0205"]
    assert tuning_tables.claimed([]) is None


def test_without_claims_there_is_nothing_to_check() -> None:
    assert check(claimed_results([], [0.5])) == []
    found: list[CheckedClaim] = []
    assert tuning_tables.claimed(found) is None
