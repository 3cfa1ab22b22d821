"""Looks of optimizers: contrast and colour vision by computation, stability by properties."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from results_builders import make_case, make_objective, make_run, make_trials

from harness.reporting.figures import styles as figure_styles
from harness.reporting.figures.styles import COLORS, DASHES, MARKERS, Look, Style
from harness.store.read import CaseData, Results

Array = NDArray[np.float64]

PAPERS = ("#fefefd", "#17181a")
KNOWN = ("SGD", "AdaGrad", "RMSProp", "Adadelta", "Adam", "AdamW", "Lion")

DICHROMACIES = {
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
"""On linear RGB, at severity 1: Machado, Oliveira and Fernandes, A Physiologically-based Model for
Simulation of Color Vision Deficiency, IEEE TVCG 15(6), 2009."""

TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
"""From linear sRGB, for the white D65: IEC 61966-2-1."""

SEEN_APART = 12.0
"""Distance in CIELAB from which colours of lines count as different; 2.3 is just noticeable."""


def linear(color: str) -> Array:
    coded = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """WCAG 2's contrast ratio."""
    low, high = sorted(float(linear(c) @ [0.2126, 0.7152, 0.0722]) for c in (one, other))
    return (high + 0.05) / (low + 0.05)


def lab(rgb: Array) -> Array:
    """CIELAB of linear sRGB."""
    share = TO_XYZ @ np.clip(rgb, 0, 1) / TO_XYZ.sum(axis=1)
    f = np.where(share > 216 / 24389, np.cbrt(share), (24389 / 27 * share + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def views(color: str) -> dict[str, Array]:
    """A colour in CIELAB as each kind of eye sees it, and in print without colour."""
    rgb = linear(color)
    seen = {kind: lab(np.array(matrix) @ rgb) for kind, matrix in DICHROMACIES.items()}
    return {"all cones": lab(rgb), "grayscale": lab(np.full(3, TO_XYZ[1] @ rgb)), **seen}


def apart(one: str, other: str, *, but: Sequence[str] = ()) -> float:
    """The least distance of two colours over all views but some."""
    a, b = views(one), views(other)
    return min(float(np.linalg.norm(a[kind] - b[kind])) for kind in a.keys() - set(but))


def cases(classes: Mapping[str, str], settings: Sequence[str] = ("",)) -> list[CaseData]:
    return [
        make_case("bowl", name, {0: [1.0, 0.5]}, setting=setting, optimizer_class=given)
        for name, given in classes.items()
        for setting in settings
    ]


def results(made: Sequence[CaseData], counterparts: Mapping[str, str] | None = None) -> Results:
    placed = [CaseData(**{**vars(case), "position": i}) for i, case in enumerate(made)]
    pairs = {
        name: {"optimizer": other, "because": "none"}
        for name, other in (counterparts or {}).items()
    }
    run = make_run({"counterparts": pairs})
    return Results(
        run, {"bowl": make_objective()}, tuple(placed), make_trials(placed), make_trials([])
    )


def looks(
    classes: Mapping[str, str], counterparts: Mapping[str, str] | None = None
) -> dict[str, Look]:
    return figure_styles.looks_of(results(cases(classes), counterparts))


def by_case(known: Results) -> dict[tuple[str, str], Style]:
    found = figure_styles.styles(known)
    return {(case.optimizer, case.setting): found[case.position] for case in known.cases}


# Colours


def shades() -> list[str]:
    """Every colour that a style can have: of an optimizer with up to twelve settings."""
    found = [*COLORS]
    for color in COLORS:
        look = Look(color, MARKERS[0], 0, 2.0)
        for count in range(2, 13):
            settings = [f"lr={i}" for i in range(count)]
            found += [style.color for style in look.styles("a", settings).values()]
    return found


@pytest.mark.parametrize("paper", PAPERS)
def test_every_colour_of_a_line_has_a_contrast_of_three_to_one(paper: str) -> None:
    assert min(contrast(color, paper) for color in shades()) >= 3


def test_hues_differ_for_every_kind_of_eye() -> None:
    pairs = list(itertools.combinations(COLORS, 2))
    assert min(apart(a, b, but=["grayscale"]) for a, b in pairs) > SEEN_APART


def test_the_simulation_takes_what_eyes_without_a_cone_do_not_see_apart() -> None:
    # A red and a green of the same lightness, far apart for eyes with all cones alone.
    red, green = views("#b05a3c"), views("#6d7d2a")
    distance = {kind: float(np.linalg.norm(red[kind] - green[kind])) for kind in red}
    assert distance["all cones"] > 2 * distance["deuteranopia"]
    assert distance["grayscale"] < 5
    assert lab(np.ones(3)) == pytest.approx([100, 0, 0], abs=1e-3)


def differ(one: Style, other: Style) -> bool:
    """Test that two lines are told apart by any eye, and without colour."""
    marks = (one.marker, one.filled, one.dashes) != (other.marker, other.filled, other.dashes)
    return marks or apart(one.color, other.color) > SEEN_APART


@pytest.mark.parametrize("settings", [1, 2, 6])
def test_lines_of_ten_optimizers_differ_without_colour(settings: int) -> None:
    names = [*KNOWN, *(f"torch.optim:{name}" for name in KNOWN[:3])]
    known = results(
        cases(dict(zip(names, names, strict=True)), [f"lr={i}" for i in range(settings)])
    )
    found = by_case(known).values()
    assert len(found) == 10 * settings
    assert all(differ(a, b) for a, b in itertools.combinations(found, 2))


def test_every_optimizer_has_a_pair_of_marker_and_dashes_as_long_as_there_are_some() -> None:
    count = len(MARKERS) * len(DASHES)
    found = looks({f"o{i}": f"Mine{i}" for i in range(count)})
    assert len({(look.marker, look.dash) for look in found.values()}) == count


# Families


def test_a_well_known_optimizer_has_the_same_hue_in_every_suite() -> None:
    alone = {name: looks({"a": name})["a"].color for name in KNOWN}
    assert len(set(alone.values())) == len(KNOWN)
    together = looks({name: name for name in KNOWN} | {"x": "Strange", "y": "Stranger"})
    assert {name: together[name].color for name in KNOWN} == alone
    assert looks({"b": "torch.optim:RMSprop"})["b"].color == alone["RMSProp"]


def test_gradient_descent_with_momentum_has_the_hue_of_momentum() -> None:
    plain = make_case("bowl", "plain", {0: [1.0]}, optimizer_class="torch.optim:SGD")
    heavy = make_case(
        "bowl",
        "heavy",
        {0: [1.0]},
        optimizer_class="torch.optim:SGD",
        hyperparameters={"momentum": 0.9},
    )
    found = figure_styles.looks_of(results([plain, heavy]))
    assert found["heavy"].color == looks({"m": "Momentum"})["m"].color
    assert found["plain"].color == looks({"s": "SGD"})["s"].color
    zero = CaseData(**{**vars(heavy), "hyperparameters": {"momentum": 0}})
    assert figure_styles.looks_of(results([zero]))["heavy"].color == found["plain"].color


@pytest.mark.parametrize(
    ("classes", "counterparts"),
    [
        ({"adagrad": "AdaGrad", "torch_adagrad": "torch.optim:Adagrad"}, {}),
        ({"mine": "Mine", "theirs": "torch.optim:Rprop"}, {"mine": "theirs"}),
        ({"mine": "Mine", "theirs": "torch.optim:Adam"}, {"mine": "theirs"}),
    ],
)
def test_counterparts_share_a_hue_and_differ_in_dashes_and_marker(
    classes: dict[str, str], counterparts: dict[str, str]
) -> None:
    ours, theirs = looks(classes, counterparts).values()
    assert ours.color == theirs.color
    assert ours.marker != theirs.marker
    assert DASHES[ours.dash] == ()
    assert DASHES[theirs.dash] != ()
    if "torch.optim:Adam" in classes.values():
        assert ours.color == looks({"adam": "Adam"})["adam"].color


def test_unknown_optimizers_keep_their_hues_and_move_only_where_two_collide() -> None:
    names = [f"Mine{i}" for i in range(40)]
    alone = {name: looks({"a": name})["a"].color for name in names}
    assert set(alone.values()) == set(COLORS)
    one = names[0]
    other = next(name for name in names if alone[name] != alone[one])
    same = next(name for name in names[1:] if alone[name] == alone[one])
    apart_already = looks({"a": one, "b": other})
    assert [look.color for look in apart_already.values()] == [alone[one], alone[other]]
    moved = looks({"a": one, "b": same})
    assert len({look.color for look in moved.values()}) == 2
    assert alone[one] in {look.color for look in moved.values()}


# Settings and order


def test_settings_go_from_deep_to_pale_by_their_numbers() -> None:
    found = by_case(results(cases({"a": "Adam"}, ["lr=10", "lr=2", "lr=1e-05"])))
    order = ["lr=1e-05", "lr=2", "lr=10"]
    lightness = [lab(linear(found["a", setting].color))[0] for setting in order]
    assert lightness == pytest.approx([45, 52.25, 59.5], abs=0.4)
    assert len({found["a", setting].marker for setting in order}) == 1
    assert [found["a", setting].filled for setting in order] == [True, False, True]


def test_a_single_setting_has_the_hue_itself() -> None:
    [style] = by_case(results(cases({"a": "Adam"}, ["lr=3"]))).values()
    assert style.color in COLORS
    assert figure_styles.swatches(results(cases({"a": "Adam"}, ["lr=3"]))) == {"a": style}


@given(st.data())
def test_looks_depend_on_no_order(data: st.DataObject) -> None:
    names = data.draw(
        st.lists(st.sampled_from([*KNOWN, "torch.optim:Adam", "X", "Y", "Z", "a.b:X"]), max_size=8)
    )
    classes = {f"o{i}": name for i, name in enumerate(names)}
    optimizers = list(classes)
    counterparts = (
        data.draw(
            st.dictionaries(st.sampled_from(optimizers), st.sampled_from(optimizers), max_size=3)
        )
        if optimizers
        else {}
    )
    made = cases(classes, ["lr=1", "lr=2", "lr=2.0", "lr=10, b=3"])
    shuffled = data.draw(st.permutations(made))
    turned = dict(reversed(counterparts.items()))
    assert by_case(results(made, counterparts)) == by_case(results(shuffled, turned))
