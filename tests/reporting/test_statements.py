"""Every sentence at the top of a page, parsed and held against what the stored trials come to.

The numbers are worked out here once more, from the trials and their curves alone: by enumeration,
by the definitions, with scipy. A sentence that no rule here can read is a mistake as well. Besides
the results made here, those of the stores that the environment variable ``STATEMENTS`` names
(separated by ``:``) are looked at.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from numpy.typing import NDArray

import harness
from harness.analysis.summary import Analysis, analyse
from harness.measures import TRAIN_LOSS, Measure
from harness.plan.model import Role
from harness.reporting.tables import comparison as comparison_tables
from harness.reporting.tables import sentences
from harness.reporting.tables import trials as tables
from harness.reporting.tables import tuning as tuning_tables
from harness.store import read
from harness.store.read import CaseData, ObjectiveInfo, Results
from harness.store.records import RunRecord, RunSettings

ROOT = Path(__file__).resolve().parents[2]
LEVEL = 0.05
Array = NDArray[np.float64]

# ---- what the trials come to, by definition


def signed_rank(differences: Array) -> tuple[float, float]:
    """P-value by enumeration up to fifty that are not 0, and the sum of signed ranks."""
    nonzero = differences != 0
    if not nonzero.any():
        return 1.0, 0.0
    ranks = scipy.stats.rankdata(np.abs(differences))
    signed = float((np.sign(differences) * ranks).sum())
    if nonzero.sum() > 50:
        values = np.sign(differences) * ranks
        return float(scipy.stats.wilcoxon(values, zero_method="pratt").pvalue), signed
    totals: Counter[int] = Counter({0: 1})
    for rank in np.rint(2 * ranks[nonzero]).astype(int).tolist():
        following: Counter[int] = Counter()
        for total, count in totals.items():
            following[total + rank] += count
            following[total - rank] += count
        totals = following
    limit = round(2 * abs(signed))
    extreme = sum(count for total, count in totals.items() if abs(total) >= limit)
    return extreme / 2 ** int(nonzero.sum()), signed


def hodges_lehmann(differences: Array) -> float:
    """The median of all averages of two; opposite infinities lie half on either side."""
    n = len(differences)
    i, j = np.triu_indices(n)
    with np.errstate(invalid="ignore"):
        averages = differences[i] / 2 + differences[j] / 2
    averages = np.sort(averages[~np.isnan(averages)])
    with np.errstate(invalid="ignore"):
        return float((averages[(len(averages) - 1) // 2] + averages[len(averages) // 2]) / 2)


@functools.cache
def critical_rank(n: int) -> int:
    """How many sums of negative ranks, from 0 on, scipy's exact test rejects, without ties."""
    ranks = np.arange(1, n + 1, dtype=float)
    for total in range(n * (n + 1) // 4):
        signs, left = np.ones(n), total
        for i in range(n - 1, -1, -1):
            if ranks[i] <= left:
                signs[i], left = -1.0, left - int(ranks[i])
        if scipy.stats.wilcoxon(signs * ranks, method="exact").pvalue > LEVEL:
            return total
    raise AssertionError(f"no sum of {n} ranks is large enough")


def holm(p_values: Sequence[float], family: int) -> list[float]:
    adjusted, largest = [1.0] * len(p_values), 0.0
    for done, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, p_values[i] * (family - done)))
        adjusted[i] = largest
    return adjusted


@dataclass
class Truth:
    """One pair: the first less the second."""

    differences: Array
    failed: tuple[int, int]
    copies: bool
    p: float = math.nan
    signed: float = 0.0
    adjusted: float = math.nan

    @property
    def better(self) -> int:
        return int((self.differences < 0).sum())

    @property
    def worse(self) -> int:
        return int((self.differences > 0).sum())

    @property
    def word(self) -> str:
        if self.better == self.worse == 0:
            return "tied"
        if self.copies:
            n = len(self.differences)
            return "better" if self.better == n else "worse" if self.worse == n else "tied"
        if self.adjusted > LEVEL or self.signed == 0:
            return "none"
        return "better" if self.signed < 0 else "worse"


class Place:
    """One objective on one device, from the frame of trials."""

    def __init__(self, results: Results, objective: str, device: str) -> None:
        here = results.trials
        here = here[(here["objective"] == objective) & (here["device"] == device)]
        here = here[here["status"] != "unavailable"]
        by_case = {int(str(p)): rows.set_index("seed") for p, rows in here.groupby("position")}
        self.cases = {c.label: c for c in results.cases if c.position in by_case}
        seeds = set.intersection(*(set(rows.index) for rows in by_case.values()))
        self.seeds = sorted(int(seed) for seed in seeds)
        self.info = results.objectives[objective]
        self.sign = -1.0 if self.info.measure.higher else 1.0
        self.losses: dict[str, Array] = {}  # costs: of what is better where it is higher, negative
        self.courses: dict[str, Array] = {}
        eps = 0.0
        self.starts = np.zeros(len(self.seeds))
        for label, case in self.cases.items():
            rows = by_case[case.position].loc[self.seeds]
            ok = (rows["status"] == "ok").to_numpy()
            finals = rows["final_loss"].to_numpy(dtype=float)
            self.losses[label] = np.where(ok, self.sign * finals, math.inf)
            self.courses[label] = case.recorded(TRAIN_LOSS)
            eps = max(eps, float(np.finfo(case.dtype).eps))
            for k, seed in enumerate(self.seeds):
                at = np.flatnonzero(case.seeds == seed)
                start = abs(float(case.losses[at[0], 0])) if len(at) else 0.0
                if self.info.measure.metric != "loss":
                    start = 0.0  # an accuracy's start says nothing of its rounding
                self.starts[k] = max(self.starts[k], start if math.isfinite(start) else 0.0)
        relative = 1e-6 if eps > 1e-10 else 1e-12
        smallest = results.run.settings.smallest_differences.get(objective, 0.0)
        self.floor, self.smallest, self.relative = eps * self.starts, smallest, relative
        self.failures = {name: int(np.isinf(v).sum()) for name, v in self.losses.items()}
        self.centre = {
            name: float((np.mean if self.info.optimum is None else np.median)(v[np.isfinite(v)]))
            if np.isfinite(v).any()
            else math.inf
            for name, v in self.losses.items()
        }
        self.pairs: dict[tuple[str, str], Truth] = {}

    def less(self, one: str, other: str) -> Array:
        a, b = self.losses[one], self.losses[other]
        found = np.zeros(len(self.seeds))
        for k, (x, y) in enumerate(zip(a, b, strict=True)):
            if math.isinf(x) or math.isinf(y):
                found[k] = 0.0 if x == y else x - y
            elif abs(x - y) > self.floor[k] + self.smallest + self.relative * max(abs(x), abs(y)):
                found[k] = x - y
        return found

    def alike(self, name: str) -> bool:
        values = self.losses[name]
        finite = values[np.isfinite(values)]
        if len(finite) not in (0, len(values)):
            return False
        size = np.abs(finite).max(initial=0.0)
        spread = float(np.ptp(finite)) if len(finite) else 0.0
        if self.info.measure.metric != "loss":
            # Equal counts may be chance: copies of one run have one loss on train as well.
            ends = np.array([row[~np.isnan(row)][-1] for row in self.courses[name]])
            if np.ptp(ends) > 1e-6 * np.abs(ends).max():
                return False
        return spread <= max(1e-6 * float(size), float(self.floor.max(initial=0.0)))

    def shown(self, name: str) -> float:
        """The value that stands for a case."""
        return self.sign * self.centre[name]

    @property
    def best(self) -> str:
        return "highest" if self.info.measure.higher else "lowest"

    @property
    def worst(self) -> str:
        return "lowest" if self.info.measure.higher else "highest"

    def order(self) -> list[str]:
        return sorted(self.cases, key=lambda n: (self.failures[n], self.centre[n], n))

    def compare(self) -> int:
        """Fill in the pairs of the best 24 cases; how many tests all pairs would be."""
        kept = set(self.order()[:24])
        names = [name for name in self.cases if name in kept]
        for one, other in itertools.combinations(names, 2):
            copies = self.alike(one) and self.alike(other)
            less = self.less(one, other)
            truth = Truth(less, (self.failures[one], self.failures[other]), copies)
            if not copies:
                truth.p, truth.signed = signed_rank(less)
            self.pairs[one, other] = truth
        still = sum(self.alike(name) for name in self.cases)
        return math.comb(len(self.cases), 2) - math.comb(still, 2)

    def between(self, one: str, other: str) -> Truth | None:
        if (one, other) in self.pairs:
            return self.pairs[one, other]
        turned = self.pairs.get((other, one))
        if turned is None:
            return None
        return dataclasses.replace(
            turned,
            differences=-turned.differences,
            failed=turned.failed[::-1],
            signed=-turned.signed,
        )

    @property
    def random(self) -> bool:
        return len(self.seeds) > 1 and not all(self.alike(name) for name in self.cases)


class Truths:
    """A run, once more."""

    def __init__(self, results: Results) -> None:
        self.results = results
        ran = results.trials[results.trials["status"] != "unavailable"]
        self.several = ran["device"].nunique() > 1
        self.places: dict[tuple[str, str], Place] = {}
        for objective, device in dict.fromkeys(zip(ran["objective"], ran["device"], strict=True)):
            self.places[objective, device] = Place(results, objective, device)
        families = {
            key: place.compare() if len(place.seeds) > 1 else 0
            for key, place in self.places.items()
        }
        whole = results.run.settings.correction == "page"
        groups = [list(self.places)] if whole else [[key] for key in self.places]
        for group in groups:
            tested = [t for key in group for t in self.places[key].pairs.values() if not t.copies]
            family = sum(families[key] for key in group)
            for truth, p in zip(tested, holm([t.p for t in tested], family), strict=True):
                truth.adjusted = p
        self.families = families


# ---- reading sentences

NUMBER = r"-?(?:\d[\d,]*\.?\d*(?:e[-+]?\d+)?|∞)"


def value(text: str) -> float:
    return math.inf if text == "∞" else float(text.replace(",", ""))


def agrees(text: str, exact: float, slack: float = 0.0) -> None:
    """A printed number is the exact one, rounded as it was printed."""
    if text == "∞":
        assert exact == math.inf
        return
    mantissa, _, exponent = text.replace(",", "").lstrip("-").partition("e")
    places = len(mantissa.partition(".")[2])
    unit = 10.0 ** (int(exponent or 0) - places)
    if "." not in mantissa and not exponent and value(text) >= 1000:
        unit = max(unit, 10 ** math.floor(math.log10(value(text)) - 3))
    room = 0.51 * unit + 1e-9 * abs(exact) + slack
    assert abs(value(text) - exact) <= room, f"{text} for {exact}"


def p_agrees(text: str, exact: float) -> None:
    assert value(text) == pytest.approx(exact, rel=0.5 if exact < 1e-4 else 0.051, abs=1e-300)


class Reader:
    """Reads the sentences of one run, and asserts that each is true."""

    def __init__(self, results: Results, analysis: Analysis | None = None) -> None:
        self.results = results
        self.truths = Truths(results)
        self.analysis = analysis or analyse(results)
        self.kinds: Counter[str] = Counter()

    def check(self) -> Counter[str]:
        said = sentences.summarise(self.results, self.analysis)
        for text in (*said.outcome, *said.certainty, *said.speed, *said.trouble):
            self.sentence(text)
        Headline(self).check(said.headline)
        self.tables()
        return self.kinds

    def sentence(self, text: str) -> None:
        rules: dict[str, tuple[str, Callable[[re.Match[str]], None]]] = {
            "alike": (
                r"On (?P<place>.+?) \((?P<why>all seeds give the same result|one seed, so not "
                r"tested)\), (?P<body>.+)\.",
                self.of_copies,
            ),
            "speed": (
                r"On (?P<place>.+?), (?P<first>.+?) takes (?P<seconds>\S+ \S+) per epoch "
                r"(?P<body>.+)\.",
                self.of_speed,
            ),
            "loss": (
                r"On (?P<place>.+?), (?P<names>.+?) (?P<has>has|have, tied,) (?P<how>a|"
                rf"the (?P<best>lowest|highest)|the fewest failures \((?P<k>\d+) of (?P<n>\d+)\), "
                r"then the (?P<then>lowest|highest)) "
                r"(?P<what>mean final (?P<words>[a-z ]+)|median gap to the optimum)(?: of|,) "
                rf"(?P<value>{NUMBER}|0 but for rounding) \((?P<paren>[^()]+)\)(?P<rest>.*)\.",
                self.of_losses,
            ),
            "over all": (
                r"Over (?P<n>\d+) objectives(?: \((?P<device>\w+)\))?, the largest share of "
                r"targets is reached by (?P<most>.+?) \((?P<share>\d+)%\), and the fewest steps "
                r"to a target are most often taken by (?P<first>.+?) \((?P<often>\d+)%\); which is "
                r"better depends on the objective\.",
                self.over_all,
            ),
            "claims": (
                r"(?P<text>(?:Of [\d,]+ p|The one p)ublished .+)\.",
                self.claims,
            ),
            "basis": (r"(?P<text>(?:Means|Medians) are over .+)\.", self.basis),
            "edges": (
                r"Tuned to the edge of the search space, so a wider one may contain better "
                r"settings: (?P<text>.+)\.",
                self.edges,
            ),
            "defaults": (
                r"Tuned settings do better than the constructor's defaults (?P<text>.+)\.",
                self.defaults,
            ),
            "again": (
                r"If tuning were repeated \(settings and seeds resampled\), (?P<k>\d+) of "
                r"(?P<n>\d+) significant differences between tuned optimizers would hold in fewer "
                r"than 95% of "
                r"repetitions: (?P<text>.+)\.",
                self.again,
            ),
            "special": (
                r"Worse than its own special case, which a well-tuned optimizer can't be: "
                r"(?P<text>.+)\.",
                self.special,
            ),
            "protocol": (
                r"(?:Tuned by (?P<by>.+?), r|R)eported: (?P<words>.+?) \((?P<rows>[\d,]+) rows?\)"
                r"(?P<unseen>, which .+)?\.",
                self.protocol,
            ),
            "stopped": (
                r"(?P<k>[\d,]+) of (?P<n>[\d,]+) trials? on (?P<objective>\S+) stopped early "
                r"\((?P<why>.+)\), at a median of (?P<median>\S+) of (?P<steps>[\d,]+) steps; each "
                r"counts with the value at which it stopped\.",
                self.stopped,
            ),
            "few": (
                r"The tuned settings are compared on only (?P<n>\d+) seeds?; a comparison should "
                r"have at least 10\.",
                self.few,
            ),
            "failures": (
                r"Of (?P<n>[\d,]+) trials, (?P<text>.+); no value is imputed for them\.",
                self.failures,
            ),
        }  # fmt: skip
        for kind, (pattern, rule) in rules.items():
            found = re.fullmatch(pattern, text)
            if found is not None:
                self.kinds[kind] += 1
                try:
                    rule(found)
                except AssertionError as error:
                    raise AssertionError(f"{text}\n{error}") from error
                return
        raise AssertionError(f"no rule reads: {text}")

    def place(self, text: str) -> Place:
        if self.truths.several:
            objective, _, device = text.rpartition(" (")
            return self.truths.places[objective, device.rstrip(")")]
        (place,) = (p for (name, _), p in self.truths.places.items() if name == text)
        return place

    @staticmethod
    def listed(
        text: str, known: Sequence[str], place: Place | None = None
    ) -> tuple[list[str], int]:
        """Names in a list, and how many more it says there are."""
        label = "|".join(re.escape(name) for name in sorted(known, key=len, reverse=True))
        note = r"(?: \((\d+) of (\d+) failed\))?"
        names: list[str] = []
        rest = text
        while rest:
            found = re.match(rf"({label}){note}(?:, | and |$)", rest)
            if found is None:
                more = re.fullmatch(r"(\d+) more", rest)
                assert more is not None, f"no list of names: {rest!r}"
                return names, int(more[1])
            names.append(found[1])
            rest = rest[found.end() :]
            if place is not None:  # failures stand beside every name that has any
                failed = (int(found[2] or 0), int(found[3] or len(place.seeds)))
                assert failed == (place.failures[found[1]], len(place.seeds))
        return names, 0

    def of_copies(self, found: re.Match[str]) -> None:
        place = self.place(found["place"])
        assert not place.random
        assert (len(place.seeds) == 1) is found["why"].startswith("one seed")
        first, *parts = found["body"].split("; ")
        names = [n for n in place.order() if math.isfinite(place.centre[n])]
        names = [n for n in names if place.cases[n].role != "defaults"] or names

        def tied(one: str) -> set[str]:
            return {n for n in names if not place.less(n, one).any()}

        steps = f"{place.info.steps:,} steps"
        words = re.escape(place.info.words)
        if f"the {place.best}" in first:
            read = rf"(.+?) (?:has|have, tied,) the {place.best} {words} after {steps}, (\S+)"
            said = re.fullmatch(read, first)
            assert (", tied," in first) is (len(tied(names[0])) > 1)
        else:
            said = re.fullmatch(rf"(.+?) has a {words} of (\S+) after {steps}", first)
            assert len(names) == 1
        assert said is not None
        shown, more = self.listed(said[1], list(place.cases))
        assert set(shown) <= tied(names[0])
        assert len(shown) + more == len(tied(names[0]))
        agrees(said[2], place.shown(names[0]))
        for part in parts:
            said = re.fullmatch(rf"(.+) the {place.worst}, (\S+)", part)
            if said is None:
                self.all_failed(place, part, alone=len(names) == 1)
                continue
            shown, more = self.listed(said[1], list(place.cases))
            assert set(shown) <= tied(names[-1])
            assert names[0] not in shown
            assert len(shown) + more == len(tied(names[-1]))
            agrees(said[2], place.shown(names[-1]))

    def all_failed(self, place: Place, part: str, *, alone: bool) -> None:
        if part == "no other optimizer ran on it":
            assert alone
            return
        said = re.fullmatch(r"(.+) fails? in all (\d+) seeds", part)
        assert said is not None, f"no rule reads: {part}"
        names, more = self.listed(said[1], list(place.cases))
        never = [
            n
            for n, case in place.cases.items()
            if place.failures[n] == len(place.seeds) and case.role != "defaults"
        ]
        assert set(names) <= set(never)
        assert len(names) + more == len(never)
        assert int(said[2]) == len(place.seeds)

    def of_losses(self, found: re.Match[str]) -> None:
        place = self.place(found["place"])
        assert place.random
        assert found["words"] in (place.info.words, None)
        assert (found["words"] is not None) is (place.info.optimum is None)
        assert {found["best"], found["then"]} <= {place.best, None}
        order = [n for n in place.order() if math.isfinite(place.centre[n])]
        order = [n for n in order if place.cases[n].role != "defaults"] or order
        best, others = order[0], order[1:]
        lead, more = self.listed(found["names"], list(place.cases), place)
        tied = [n for n in others if self.word(place, n, best) == "tied"]
        assert set(lead) <= {best, *tied}
        assert len(lead) + more == 1 + len(tied)
        # "The lowest" is said of the lowest alone.
        centres = [place.centre[n] for n in order]
        if found["best"]:
            assert place.centre[best] == min(centres)
        elif found["how"] == "a":
            assert not others
        else:
            assert place.centre[best] > min(centres)
            assert place.failures[best] == min(place.failures[n] for n in order) == int(found["k"])
            fewest = [n for n in order if place.failures[n] == place.failures[best]]
            assert place.centre[best] == min(place.centre[n] for n in fewest)
        self.centre(place, best, found)
        self.clauses(place, best, others, tied, found["rest"])

    def centre(self, place: Place, best: str, found: re.Match[str]) -> None:
        values = place.sign * place.losses[best][np.isfinite(place.losses[best])]
        optimum = place.info.optimum
        base = optimum or 0.0
        # What rounding takes below the optimum is shown as 0.
        slack = 1e-6 * abs(base)
        if found["value"] == "0 but for rounding":
            assert np.median(values) - base <= place.floor.max() + 1e-6 * abs(base)
        else:
            agrees(found["value"], place.shown(best) - base, slack)
        said = re.fullmatch(rf"95% CI ({NUMBER}) to ({NUMBER}), (\d+) seeds", found["paren"])
        if said is None:
            assert re.fullmatch(r"one seed|\d+ seeds?(?:, all the same)?", found["paren"])
            assert found["paren"].startswith(("one seed", str(len(values))))
            return
        low, high = value(said[1]), value(said[2])
        assert int(said[3]) == len(values)
        assert low <= value(found["value"]) <= high
        if optimum is None:
            self.bootstrap_t(values, low, high)
            return
        # No interval of what can't be negative reaches below 0; it is the binomial one.
        assert low >= 0
        k = max(
            k
            for k in range(1, len(values) // 2 + 1)
            if 1 - 2 * scipy.stats.binom.cdf(k - 1, len(values), 0.5) >= 0.95
        )
        ranked = np.sort(values) - base
        agrees(said[1], ranked[k - 1], slack)
        agrees(said[2], ranked[-k], slack)

    @staticmethod
    def bootstrap_t(values: Array, low: float, high: float) -> None:
        """The interval of a mean, from resamples of its own; ends stop at thrice Student's."""
        n = len(values)
        drawn = np.random.default_rng(1).choice(values, (4000, n))
        deviations = np.maximum(drawn.std(axis=1, ddof=1), 1e-15 * np.abs(values).max())
        ratios = (drawn.mean(axis=1) - values.mean()) / deviations * math.sqrt(n)
        farthest = 3 * scipy.stats.t.ppf(0.975, n - 1)
        least, most = np.clip(np.quantile(ratios, [0.025, 0.975]), -farthest, farthest)
        error = values.std(ddof=1) / math.sqrt(n)
        near = 0.25 * (most - least) * error
        assert low == pytest.approx(values.mean() - most * error, abs=near)
        assert high == pytest.approx(values.mean() - least * error, abs=near)

    def word(self, place: Place, one: str, other: str) -> str:
        truth = place.between(one, other)
        return truth.word if truth is not None else "unpaired"

    def clauses(
        self, place: Place, best: str, others: Sequence[str], tied: Sequence[str], text: str
    ) -> None:
        counted = Counter({"tied": len(tied)})
        for part in filter(None, text.split("; ")):
            none = re.fullmatch(
                r"(.+) (?:is|are) not significantly different from (.+) \(p ([=≥]) (\S+?)\)"
                r"(, for (\d+) seeds are too few to tell (\d+) cases)?",
                part,
            )
            if none is not None:
                names, more = self.listed(none[1], list(place.cases), place)
                assert none[2] == best
                same = [n for n in others if self.word(place, n, best) == "none"]
                assert set(names) <= set(same)
                assert len(names) + more == len(same)
                p = [t.adjusted for n in same if (t := place.between(n, best))]
                p_agrees(none[4], min(p))
                assert none[3] == "≥" or len(p) == 1 or min(p) == 1
                if none[5]:
                    least = 2.0 ** (1 - len(place.seeds)) * sum(self.family(place))
                    assert least > LEVEL
                counted["none"] += len(same)
                continue
            unpaired = re.fullmatch(r"(\d+) lower-ranked cases? (?:was|were) not compared", part)
            if unpaired is not None:
                counted["unpaired"] += int(unpaired[1])
                continue
            if part == "no other optimizer ran on it" or " in all " in part:
                self.all_failed(place, part, alone=not others)
                continue
            kind = "better" if part.startswith("yet ") else "worse"
            counted[kind] += self.differences(place, best, kind, part.removeprefix("yet "))
        expected = Counter(self.word(place, n, best) for n in others)
        assert +counted == +expected

    def family(self, place: Place) -> Iterator[int]:
        whole = self.results.run.settings.correction == "page"
        for key, other in self.truths.places.items():
            if whole or other is place:
                yield self.truths.families[key]

    def differences(self, place: Place, best: str, kind: str, text: str) -> int:
        """Check a list of what is worse, or better; how many it is of."""
        label = "|".join(re.escape(n) for n in sorted(place.cases, key=len, reverse=True))
        sign = 1 if kind == "worse" else -1
        better, worse = ("better", "worse") if kind == "worse" else ("worse", "better")
        count, rest = 0, text
        while rest:
            more = re.fullmatch(r"(\d+) more", rest)
            if more is not None:
                return count + int(more[1])
            found = re.match(
                rf"(?P<name>{label}) (?:fails in (?P<own>\d+) of (?P<of>\d+) seeds, against "
                rf"(?P<base>\d+) \(|is {worse} at (?P<i>\d+) of (?P<m>\d+) seeds and {better} at "
                rf"(?P<j>\d+) \(|is {worse} by (?P<by>{NUMBER}) \((?:95% CI (?P<low>{NUMBER}) to "
                rf"(?P<high>{NUMBER}), )?)(?:p = (?P<p>[^,)]+)|the same for all seeds)"
                r"(?:, (?P<f>\d+) of (?P<g>\d+) failed)?\)(?:, | and |$)",
                rest,
            )
            assert found is not None, f"no rule reads: {rest}"
            truth = place.between(found["name"], best)
            assert truth is not None
            assert truth.word == kind
            n = len(place.seeds)
            if found["p"]:
                p_agrees(found["p"], truth.adjusted)
                assert truth.adjusted <= LEVEL
            both = np.isfinite(place.losses[found["name"]]) & np.isfinite(place.losses[best])
            if found["own"]:
                own = (int(found["own"]), int(found["base"]), int(found["of"]))
                assert own == (*truth.failed, n)
                # Where both ended ok the same is not seen.
                p, signed = signed_rank(truth.differences[both])
                assert p > LEVEL or signed * truth.signed <= 0
            elif found["i"]:
                turned = (truth.worse, truth.better)[:: 1 if kind == "worse" else -1]
                assert (int(found["i"]), int(found["j"]), int(found["m"])) == (*turned, n)
            else:
                shift = sign * hodges_lehmann(truth.differences)
                agrees(found["by"], shift)
                assert value(found["by"]) > 0
                if found["low"]:
                    low, high = value(found["low"]), value(found["high"])
                    assert 0 < low <= value(found["by"]) <= high
                    self.ends(sign * truth.differences, found["low"], found["high"])
                if found["f"]:
                    assert (int(found["f"]), int(found["g"])) == (truth.failed[0], n)
                else:
                    assert truth.failed[0] == 0
            count += 1
            rest = rest[found.end() :]
        return count

    def ends(self, differences: Array, low: str, high: str) -> None:
        """An interval's ends are averages of two at which the test without ties gives way."""
        n = len(differences)
        if n > 50 or np.isinf(differences).any():
            return
        averages = np.sort((differences[:, None] + differences)[np.triu_indices(n)] / 2)
        k = critical_rank(n)
        agrees(low, max(0.0, averages[k - 1]))
        agrees(high, averages[-k])

    def over_all(self, found: re.Match[str]) -> None:
        pool = next(c for c in self.analysis.pools if found["device"] in (None, c.device))
        families = self.results.run.settings.families
        assert len({families.get(n, n) for n in pool.objectives}) >= 5
        assert int(found["n"]) == len(pool.objectives)
        steps = np.stack([self.hits(cases) for cases in pool.cases], axis=2)
        solved = dict(zip(pool.solvers, np.isfinite(steps).mean(axis=(0, 1)), strict=True))
        least = steps.min(axis=2, keepdims=True)
        first = ((steps == least) & np.isfinite(steps)).mean(axis=(0, 1))
        often = dict(zip(pool.solvers, first, strict=True))
        for names, share, known in (
            (found["most"], found["share"], solved), (found["first"], found["often"], often)
        ):  # fmt: skip
            shown, more = self.listed(names, pool.solvers)
            top = max(known.values())
            assert all(known[name] == top for name in shown)
            assert len(shown) + more == sum(own == top for own in known.values())
            assert int(share) == round(100 * top)

    def hits(self, cases: Sequence[CaseData]) -> Array:
        """First hits of one optimizer's cases, ``(targets of all objectives, seeds)``."""
        rows = []
        places = {name: place for (name, _), place in self.truths.places.items()}
        seeds = sorted(set.intersection(*(set(places[c.objective].seeds) for c in cases)))
        for case in cases:
            info = self.results.objectives[case.objective]
            given = self.results.run.settings.targets[info.name]
            shares = given.tolerances
            if shares is None:
                shares = () if given.given else (0.1, 0.01, 0.001)
            shares = shares if info.optimum is not None else ()
            for target, is_share in [
                *((t.value, False) for t in given.given), *((v, True) for v in shares)
            ]:  # fmt: skip
                own = []
                for seed in seeds:
                    at = np.flatnonzero(case.seeds == seed)
                    curves = case.recorded(TRAIN_LOSS)
                    curve = curves[at[0]] if len(at) else np.array([math.nan])
                    level = target
                    if is_share:
                        assert info.optimum is not None
                        level = info.optimum + target * (curve[0] - info.optimum)
                    below = [
                        s for s, v in zip(info.record_steps, curve, strict=False) if v <= level
                    ]
                    own.append(float(min(below, default=math.inf)))
                rows.append(own)
        return np.array(rows)

    def claims(self, found: re.Match[str]) -> None:
        table = tuning_tables.claimed(self.analysis.claims)
        assert table is not None
        verdicts = Counter(table.frame["verdict"])
        total, text = len(table.frame), found["text"]
        exact, held = verdicts["reproduced"], verdicts["reproduced"] + verdicts["consistent"]
        several = re.match(
            r"Of ([\d,]+) published numbers, (all|none|[\d,]+) (?:is|are) consistent with these "
            r"results(?:, (all|none|[\d,]+) of them in every digit)?",
            text,
        )

        def counted(word: str | None, of: int) -> int:
            return {"all": of, "none": 0, None: 0}.get(word, -1) if not (
                word or ""
            ).replace(",", "").isdigit() else int((word or "").replace(",", ""))  # fmt: skip

        if several is not None:
            assert int(several[1].replace(",", "")) == total
            assert counted(several[2], total) == held
            assert counted(several[3], held) == exact
        else:
            assert total == 1
            assert ("reproduced in every digit" in text) is (exact == 1)
            if "not consistent with" in text.partition(";")[0]:
                assert verdicts["not consistent"] + verdicts["borderline"] == 1
            assert ("neither confirmed nor rejected" in text) is (verdicts["undecided"] == 1)
        for verdict, words in (
            ("not consistent", "; not consistent: "),
            ("borderline", "; borderline: "),
            ("undecided", "; undecided with so few seeds: "),
        ):
            assert (words in text) is (verdicts[verdict] > 0)
        least = re.search(rf"a deviation below ({NUMBER}) standard deviations could not", text)
        if least is not None:
            own = []
            for checked in self.analysis.claims:
                sd = float(np.std(checked.values, ddof=1)) if len(checked.values) > 1 else 0.0
                ends = [abs(end - checked.values.mean()) for end in checked.noticed]
                if sd and math.isfinite(min(ends)):
                    own.append(min(ends) / sd)
            agrees(least[1], min(own))

    def basis(self, found: re.Match[str]) -> None:
        text = found["text"]
        seeds = len(self.results.run.settings.seeds)
        assert re.match(rf"(?:Means|Medians) are over {seeds:,} seeds?, with 95%", text)
        random = [p for p in self.truths.places.values() if p.random]
        assert text.startswith("Medians") is all(p.info.optimum is not None for p in random)
        tested = [p for p in random if any(not t.copies for t in p.pairs.values())]
        chance = re.search(r"on up to (\S+) of these (\d+) objectives", text)
        if chance is not None:
            assert int(chance[2]) == len(tested) > 1
            agrees(chance[1], LEVEL * len(tested))
            assert self.results.run.settings.correction != "page"
            some = re.search(r"with a probability of up to (\d+)%", text)
            assert some is not None
            assert int(some[1]) == round(100 * (1 - 0.95 ** len(tested)))
        elif tested:
            assert "significant would be at most 5%" in text
            whole = self.results.run.settings.correction == "page"
            assert ("on this page" in text) is whole
        blind = re.search(r"seeds are too few to show that on (.+?)(?:\. |$)", text)
        least = {
            p.info.name: 2.0 ** (1 - len(p.seeds)) * sum(self.family(p)) > LEVEL for p in tested
        }
        assert (blind is not None) is any(least.values())

    def edges(self, found: re.Match[str]) -> None:
        table = tuning_tables.tuning(self.analysis.tuned, 0)
        assert table is not None
        rows = table.frame[table.frame["edge"] != ""]
        known = {(r["optimizer"], r["objective"]) for r in rows.to_dict("records")}
        said = set(re.findall(r"(\S+) on (\S+) \(\S+ \S+ is at the", found["text"]))
        assert said <= known
        more = re.search(r"and (\d+) more$", found["text"])
        assert len(said) + (int(more[1]) if more else 0) == len(known)

    def tuned_against(self) -> Iterator[tuple[str, str, str]]:
        for (objective, device), place in self.truths.places.items():
            where = f"{objective} ({device})" if self.truths.several else objective
            for one, case in place.cases.items():
                for other, against in place.cases.items():
                    alike = (case.role, against.role) == ("tuned", "defaults")
                    if alike and case.optimizer == against.optimizer:
                        yield case.optimizer, where, self.word(place, one, other)

    def defaults(self, found: re.Match[str]) -> None:
        known = [own for own in self.tuned_against() if own[2] != "unpaired"]
        words = Counter(word for _, _, word in known)
        head, *parts = found["text"].split("; ")
        if head in ("in the one case", f"in all {len(known)} cases"):
            assert words["better"] == len(known)
            return
        assert head == f"in {words['better']} of {len(known)} cases"
        for part in parts:
            said = re.fullmatch(r"(not significantly different|tied|worse): (.+)", part)
            assert said is not None
            word = {"not": "none", "tied": "tied", "worse": "worse"}[said[1].split()[0]]
            own = {f"{optimizer} on {place}" for optimizer, place, w in known if w == word}
            names, more = self.listed(said[2], sorted(own))
            assert len(names) + more == len(own) == words.pop(word)
        assert set(+words) <= {"better"}

    def again(self, found: re.Match[str]) -> None:
        """The called pairs, counted by the trials; the shares, by the table."""
        table = tuning_tables.retuned(self.analysis.retuned, self.analysis.compared)
        assert table is not None
        unsteady: dict[str, float] = {}
        called = 0
        for row in table.frame.to_dict("records"):
            place = self.truths.places[row["objective"], row["device"]]
            word = self.word(place, row["case"], row["against"])
            assert row["called"] == {"none": "not significantly different"}.get(word, word)
            if word not in ("better", "worse"):
                continue
            called += 1
            same = row["better_share"] if word == "better" else 1 - row["better_share"]
            names = [row["case"], row["against"]][:: 1 if word == "better" else -1]
            first, second = (place.cases[name].optimizer for name in names)
            device = f" ({row['device']})" if self.truths.several else ""
            if same < 0.95:
                unsteady[f"{first} better than {second} on {row['objective']}{device}"] = same
        assert (int(found["k"]), int(found["n"])) == (len(unsteady), called)
        said = re.findall(r"(\S+ better than \S+ on \S+(?: \(\w+\))?) \((\d+)%\)", found["text"])
        assert said
        for text, share in said:
            assert int(share) == round(100 * unsteady[text])

    def special(self, found: re.Match[str]) -> None:
        told = self.results.run.settings.generalizes
        for name, special, objective in re.findall(
            r"(\S+) against (\S+)(?: \(\w+\))? on ([^\s,]+)", found["text"]
        ):
            assert special in told[name]
            place = self.place(objective) if not self.truths.several else None
            if place is not None:
                tuned = next(
                    n for n, c in place.cases.items() if (c.optimizer, c.role) == (name, "tuned")
                )
                assert "worse" in {
                    self.word(place, tuned, n)
                    for n, c in place.cases.items()
                    if c.optimizer == special
                }

    def protocol(self, found: re.Match[str]) -> None:
        infos = [i for i in self.results.objectives.values() if i.words == found["words"]]
        assert infos
        rows = int(found["rows"].replace(",", ""))
        assert any(info.part_rows.get(info.measure.part, info.rows) == rows for info in infos)
        by = {
            info.name_of(tried.measure)
            for info in infos
            for tried in self.results.tried
            if (tried.role, tried.objective) == ("tuning", info.name)
        }
        assert by == ({found["by"]} if found["by"] else set())
        held_out = infos[0].measure.part != "train"
        assert bool(found["unseen"]) is held_out
        if found["by"] and held_out:
            sees = found["by"].startswith(infos[0].measure.part)
            assert ("but tuning goes by" in found["unseen"]) is sees

    def stopped(self, found: re.Match[str]) -> None:
        trials = self.results.trials[self.results.trials["objective"] == found["objective"]]
        early = trials[trials["reason"].str.startswith("stopped: ")]
        ran = int((trials["status"] != "unavailable").sum())
        counts = [int(found[name].replace(",", "")) for name in ("k", "n")]
        assert counts == [len(early), ran]
        assert set(early["status"]) == {"ok"}
        agrees(found["median"], float(np.median(early["step"])))
        steps = self.results.objectives[found["objective"]].steps
        assert int(found["steps"].replace(",", "")) == steps > early["step"].max()
        assert all(reason.removeprefix("stopped: ") in found["why"] for reason in early["reason"])

    def few(self, found: re.Match[str]) -> None:
        assert int(found["n"]) == len(self.results.run.settings.seeds) < 10

    def of_speed(self, found: re.Match[str]) -> None:
        table = tables.epoch_seconds(self.results)
        assert table is not None
        rows = [r for r in table.frame.to_dict("records") if r["setting"] != "defaults"]
        here = [
            r
            for r in rows
            if found["place"] in (r["objective"], f"{r['objective']} ({r['device']})")
        ]
        counts = Counter((r["objective"], r["device"]) for r in rows)
        optimizers = {
            key: len({r["optimizer"] for r in rows if (r["objective"], r["device"]) == key})
            for key in counts
        }
        own = len({r["optimizer"] for r in here})
        assert own == max(optimizers.values())
        assert f"median of {here[0]['n']} blocks" in found["body"]
        for row in here[1:]:
            label = row["optimizer"] + (f" ({row['setting']})" if row["setting"] else "")
            said = re.search(rf"(?<!\S){re.escape(label)} ({NUMBER}) times as long", found["body"])
            if said is not None:
                agrees(said[1], float(row["ratio"]))

    def failures(self, found: re.Match[str]) -> None:
        statuses = Counter(self.results.trials["status"])
        ran = sum(count for status, count in statuses.items() if status != "unavailable")
        assert int(found["n"].replace(",", "")) == ran
        for word, status in (
            ("diverged", "diverged"),
            ("stopped with an error", "error"),
            ("timed out", "timeout"),
        ):
            said = re.search(rf"([\d,]+) {word}", found["text"])
            assert (int(said[1].replace(",", "")) if said else 0) == statuses[status]

    def tables(self) -> None:
        """Every row of the table of differences."""
        table = comparison_tables.differences(self.analysis.compared)
        rows = [] if table is None else table.frame.to_dict("records")
        for row in rows:
            place = self.truths.places[row["objective"], row["device"]]
            truth = place.between(row["case"], row["against"])
            assert truth is not None
            words = {"none": "not significantly different"}
            assert row["called"] == words.get(truth.word, truth.word)
            assert (row["better"], row["worse"]) == (truth.better, truth.worse)
            assert row["p"] == pytest.approx(truth.p, rel=1e-6, nan_ok=True)
            assert row["p_holm"] == pytest.approx(truth.adjusted, rel=1e-6, nan_ok=True)
            shift = float(np.median(truth.differences))
            shift = shift if truth.copies else hodges_lehmann(truth.differences)
            # The table has values: of an accuracy the better case is above 0.
            assert row["shift"] == pytest.approx(place.sign * shift, rel=1e-9, nan_ok=True)
            ends = sorted((place.sign * row["ci_low"], place.sign * row["ci_high"]))
            if truth.copies:
                assert math.isnan(row["ci_low"])
            elif truth.word in ("better", "worse"):
                # No interval about 0 stands beside a difference that is called.
                assert ends[1] <= 0 if truth.word == "better" else ends[0] >= 0
            elif truth.p > LEVEL and not math.isnan(row["ci_low"]):
                assert row["ci_low"] <= 0 <= row["ci_high"]
        expected = sum(len(place.pairs) for place in self.truths.places.values())
        assert len(rows) == expected


class Headline:
    """Reads the headline of a run, and asserts that each of its clauses is true."""

    EQUAL = ("tied", "equal to 3 digits")
    LEADING = ("best", *EQUAL, "not significantly different", "better on most seeds")

    def __init__(self, reader: Reader) -> None:
        self.reader, self.results = reader, reader.results
        self.places = reader.truths.places
        self.devices = sorted({device for _, device in self.places})
        self.outcomes = {key: self.outcomes_of(place) for key, place in self.places.items()}

    def best_settings(self, place: Place) -> dict[str, str]:
        """By optimizer, best first, the label of its best case; of a tuned one its tuned case."""
        chosen = {case.optimizer for case in place.cases.values() if case.role != "defaults"}
        found: dict[str, str] = {}
        for name in place.order():
            case = place.cases[name]
            if case.role != "defaults" or case.optimizer not in chosen:
                found.setdefault(case.optimizer, name)
        return found

    def outcomes_of(self, place: Place) -> dict[str, tuple[str, float]]:
        """By optimizer, best first, its outcome beside the best and the p-value of that."""
        labels = self.best_settings(place)
        best, *_ = labels.values()
        found: dict[str, tuple[str, float]] = {}
        for optimizer, name in labels.items():
            truth = place.between(name, best)
            p = math.nan if truth is None else truth.adjusted
            if place.failures[name] == len(place.seeds):
                found[optimizer] = ("failed", p)
            elif name == best:
                found[optimizer] = ("best", math.nan)
            elif truth is None:
                word = "worse" if place.less(name, best).any() else "tied"
                found[optimizer] = (word if len(place.seeds) < 2 else "not compared", p)
            elif truth.copies and truth.word != "tied" and self.almost(place, name, best):
                found[optimizer] = ("equal to 3 digits", p)
            else:
                words = {"none": "not significantly different", "worse": "worse"}
                words["better"] = "better on most seeds"
                found[optimizer] = (words.get(truth.word, truth.word), p)
        return found

    @staticmethod
    def almost(place: Place, name: str, best: str) -> bool:
        """True where three digits of the loss, or of the gap, show no difference."""
        base = place.info.optimum or 0.0
        own, least = place.centre[name] - base, place.centre[best] - base
        rounding = 0.0
        if place.info.optimum is not None:
            rounding = max(place.floor.max(), place.relative * abs(place.centre[best]))
        return bool(least > rounding and own / least < 1.005)

    def ended(self, device: str) -> dict[str, dict[str, tuple[str, float]]]:
        """By objective with several optimizers of which some trial ended, their outcomes."""
        return {
            objective: own
            for (objective, on), own in self.outcomes.items()
            if on == device and len(own) > 1 and next(iter(own.values()))[0] == "best"
        }

    def check(self, text: str) -> None:
        assert text.endswith(".")
        try:
            parts = text[0].lower() + text[1:-1]
            rest = self.trailing(re.split(r"; (?![^(]*\))", parts))
            self.first(rest)
        except AssertionError as error:
            raise AssertionError(f"{text}\n{error}") from error

    def trailing(self, parts: list[str]) -> list[str]:
        """Check the parts after those on one device's losses, from the last on; the others."""
        if missing := sorted(self.results.run.settings.missing):
            said = re.fullmatch(r"(.+) (?:was|were) not available", parts.pop())
            assert said is not None
            assert self.reader.listed(said[1], missing) == (missing, 0)
        statuses = Counter(self.results.trials["status"])
        ran = statuses.total() - statuses["unavailable"]
        if failed := ran - statuses["ok"]:
            said = re.fullmatch(r"([\d,]+) of ([\d,]+) trials? failed", parts.pop())
            assert said is not None
            assert [int(n.replace(",", "")) for n in said.groups()] == [failed, ran]
        if checked := self.reader.analysis.claims:
            said = re.fullmatch(r"(\d+) of (\d+) published numbers? consistent", parts.pop())
            assert said is not None
            held = sum(one.verdict in ("reproduced", "consistent") for one in checked)
            assert [int(n) for n in said.groups()] == [held, len(checked)]
        for device in reversed(self.devices[1:]):
            self.elsewhere(device, parts.pop())
        return parts

    def leaders(self, device: str) -> dict[str, set[str]]:
        return {
            objective: {n for n, (w, _) in own.items() if len(own) > 1 and w in ("best", "tied")}
            for (objective, on), own in self.outcomes.items()
            if on == device
        }

    def elsewhere(self, device: str, part: str) -> None:
        said = re.fullmatch(rf"the same on {device}(?: but for (.+))?", part)
        assert said is not None, f"no rule reads: {part}"
        first, own = self.leaders(self.devices[0]), self.leaders(device)
        others = {name for name in own if own[name] != first.get(name)}
        names, more = self.reader.listed(said[1] or "", sorted(own))
        assert set(names) <= others
        assert len(names) + more == len(others)

    def first(self, parts: list[str]) -> None:
        """Check the parts on the losses of one device."""
        device = self.devices[0]
        ended, head = self.ended(device), parts[0]
        known = [own for (_, on), own in self.outcomes.items() if on == device]
        shared = [own for own in known if len(own) > 1]
        if not ended:
            assert len(parts) == 1
            if shared:
                words = {info.words for info in self.results.objectives.values()}
                assert head.removeprefix("no trial ended with a ") in {*words, "value"}
                return
            said = re.fullmatch(r"nothing to compare: .+ more than one optimizer \((.+)\)", head)
            assert said is not None
            ran = sorted({name for own in known for name in own})
            names, more = self.reader.listed(said[1], ran)
            assert names + ran[len(names) :] == ran
            assert len(names) + more == len(ran)
            return
        clear = self.clear_part(ended, device, parts)
        where, _, rest = head.partition(": ")
        self.of_losses(ended, device, where)
        leading = self.leaders(device)
        winners = set.intersection(*(leading[name] for name in ended))
        if winners:
            self.where(ended, shared, known, where)
            tested = self.winners(ended, winners, self.without_value(ended, device, rest))
            assert clear is (tested > 1)
            return
        assert clear is any(self.tested(device, name) for name in ended)
        self.shared_out(ended, leading, rest)

    def without_value(
        self, ended: dict[str, dict[str, tuple[str, float]]], device: str, text: str
    ) -> str:
        """Check the value in brackets, which one objective has that is no plain loss."""
        said = re.search(
            rf" \((?P<value>{NUMBER})(?:, 95% interval (?P<low>{NUMBER}) to (?P<high>{NUMBER}))?"
            r"(?P<end>\)|; )",
            text,
        )
        place = self.places[next(iter(ended)), device]
        assert bool(said) is (len(ended) == 1 and place.info.words != "loss")
        if said is None:
            return text
        label = next(iter(self.best_settings(place).values()))
        agrees(said["value"], place.shown(label))
        if said["low"]:
            assert value(said["low"]) <= value(said["value"]) <= value(said["high"])
        return text.replace(said[0], "" if said["end"] == ")" else " (")

    def tested(self, device: str, objective: str) -> bool:
        return any(not truth.copies for truth in self.places[objective, device].pairs.values())

    def clear_part(
        self, ended: dict[str, dict[str, tuple[str, float]]], device: str, parts: list[str]
    ) -> bool:
        """Check on how many objectives the best beats all others; whether it is said at all."""
        if len(parts) == 1:
            return False
        (part,) = parts[1:]
        said = re.fullmatch(
            r"significantly better than every other optimizer on (\d+)(?: of (\d+) tested)?", part
        )
        assert said is not None, f"no rule reads: {part}"
        tested = [name for name in ended if self.tested(device, name)]
        assert int(said[2] or len(ended)) == len(tested)
        clear = [
            name
            for name in tested
            if all(
                word == "best" or (word in ("worse", "failed") and not p > LEVEL)
                for word, p in ended[name].values()
            )
        ]
        assert int(said[1]) == len(clear)
        return True

    def of_losses(
        self, ended: dict[str, dict[str, tuple[str, float]]], device: str, where: str
    ) -> None:
        """ "Lowest loss" is said only where the best has no higher loss than any other.

        Likewise "highest test score"; of objectives that differ, "best final value".
        """
        lowest = True
        seeds = set()
        for name in ended:
            place = self.places[name, device]
            labels = list(self.best_settings(place).values())
            lowest &= place.centre[labels[0]] <= min(place.centre[label] for label in labels)
            seeds.add(len(place.seeds))
        infos = [self.places[name, device].info for name in ended]
        words = {info.words for info in infos}
        best = {self.places[name, device].best for name in ended}
        what = (best.pop() if len(best) == 1 else "best") + " "
        what += words.pop() if len(words) == 1 else "final value"
        assert where.startswith(what if lowest else f"fewest failures, then {what}")
        assert where.endswith(" (one seed)") is (seeds == {1})
        assert (f" on {device}" in where) is (len(self.devices) > 1)

    def where(
        self,
        ended: dict[str, dict[str, tuple[str, float]]],
        shared: Sequence[object],
        known: Sequence[object],
        where: str,
    ) -> None:
        count, of = len(ended), len(shared)
        on = f"{count} of {of} objectives"
        if count == 1:
            (on,) = ended
        elif count == of:
            on = "both objectives" if count == 2 else f"all {count} objectives"
            on += "" if of == len(known) else " with several optimizers"
        assert re.search(rf" on {re.escape(on)}(?: on \w+)?(?: \(one seed\))?$", where)

    def winners(
        self, ended: dict[str, dict[str, tuple[str, float]]], winners: set[str], text: str
    ) -> int:
        """Check who is best everywhere, who is near, who is worse; on how many that is tested."""
        said = re.fullmatch(
            r"(?P<names>[^(]+?)(?: \((?P<near>[^()]+?) (?P<words>(?:(?:equal|not significantly "
            r"different|better on most seeds)(?: or |(?=\))))+)\))?(?:, significantly better than "
            rf"(?P<worse>[^()]+?)(?: on (?P<on>\S+))? \(p (?P<sign>[=≤]) (?P<p>{NUMBER})\))?",
            text,
        )
        assert said is not None, f"no rule reads: {text}"
        self.named(said["names"], winners)
        ran = set.intersection(*(set(own) for own in ended.values()))
        near = {n for n in ran if all(own[n][0] in self.LEADING for own in ended.values())}
        near -= winners
        assert bool(said["near"]) is bool(near)
        if near:
            self.named(said["near"], near)
            words = {own[name][0] for own in ended.values() for name in near} - {"best"}
            assert set(said["words"].split(" or ")) == {
                "equal" if word in self.EQUAL else word for word in words
            }
        beaten = {
            name: {n: p for n, (word, p) in own.items() if word == "worse" and p <= LEVEL}
            for name, own in ended.items()
        }
        tested = [name for name in beaten if beaten[name]]
        assert bool(said["worse"]) is (len(tested) == 1)
        if said["worse"]:
            own = beaten[tested[0]]
            assert said["on"] == (tested[0] if len(ended) > 1 else None)
            others = {name for name, (word, _) in ended[tested[0]].items() if word != "best"}
            if set(own) == others and len(own) > 2:
                assert said["worse"] == f"all {len(own)} other optimizers"
            else:
                self.named(said["worse"], set(own))
            p_agrees(said["p"], max(own.values()))
            assert (said["sign"] == "=") is (len(set(own.values())) == 1)
        return len(tested)

    def named(self, text: str, expected: set[str]) -> None:
        names, more = self.reader.listed(text, sorted(expected))
        assert names == sorted(expected)[: len(names)]
        assert len(names) + more == len(expected)

    def shared_out(
        self,
        ended: dict[str, dict[str, tuple[str, float]]],
        leading: dict[str, set[str]],
        text: str,
    ) -> None:
        """Check who is best where, objective by objective, or on how many."""
        counts = Counter(name for objective in ended for name in leading[objective])
        optimizers, objectives = (
            "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
            for names in (counts, ended)
        )
        if len(ended) > 3:
            clauses = re.findall(rf"({optimizers}) on (\d+)( of \d+ objectives)?", text)
            assert all(counts[name] == int(on) for name, on, _ in clauses)
            assert clauses[0][2] == f" of {len(ended)} objectives"
            more = re.search(r" and (\d+) more$", text)
            assert len(clauses) + (int(more[1]) if more else 0) == len(counts)
            least = min(counts[name] for name, _, _ in clauses)
            named = {name for name, _, _ in clauses}
            assert all(counts[name] <= least for name in counts if name not in named)
            return
        one, other = (
            rf"(?:{name})(?:(?:, | and )(?:{name}))*" for name in (optimizers, objectives)
        )
        read: set[str] = set()
        while text:
            said = re.match(rf"({one}(?: and \d+ more)?) on ({other})(?:, | and |$)", text)
            assert said is not None, f"no rule reads: {text}"
            where, _ = self.reader.listed(said[2], list(ended))
            for objective in where:
                self.named(said[1], leading[objective])
            read |= set(where)
            text = text[said.end() :]
        assert read == set(ended)


# ---- results to read


SCORE = Measure("score", "test", higher=True)

SCORED: dict[str, Any] = {
    "part_rows": {"test": 30},
    "metrics": (("loss", False), ("score", True)),
    "measure": SCORE,
}
"""Fields of an objective of which a score on the test part is reported: the higher, the better."""


def random_results(seed: int, *, higher: bool = False) -> Results:
    """Made-up trials of all kinds: failures, ties, copies, scales, roles, devices.

    Args:
        seed: Of all that is drawn.
        higher: Whether of some objectives something is reported of which higher is better.
    """
    random = np.random.default_rng(seed)
    seeds = int(random.choice([1, 3, 5, 8, 12, 20, 60]))
    devices = ["cpu"] if random.random() < 0.8 else ["cpu", "cuda"]
    tuned = random.random() < 0.3
    objectives: dict[str, ObjectiveInfo] = {}
    cases: list[CaseData] = []
    trials: list[dict[str, Any]] = []
    for number in range(int(random.integers(1, 8))):
        name = f"o{number}"
        optimum = None if random.random() < 0.4 else float(random.choice([0.0, -3.5]))
        scored = higher and optimum is None and random.random() < 0.7
        objectives[name] = ObjectiveInfo(
            name, "", 5, 70, 40, 1, np.array([0, 20, 40]), optimum, (), None, None, "",
            **(SCORED if scored else {}),
        )  # fmt: skip
        base = random.lognormal(0, 1, size=seeds)
        scale = float(random.choice([1e-31, 1e-3, 1.0, 1e4]))
        count = int(random.choice([1, 2, 3, 5]))
        for device, i in itertools.product(devices, range(count)):
            roles: list[Role] = ["tuned", "defaults"] if tuned else ["given"]
            for role in roles:
                kind = random.choice(["noise", "copies", "same", "shifted", "rare"])
                own = {
                    "noise": base + random.normal(size=seeds) / 3,
                    "copies": np.full(seeds, float(random.integers(1, 4))),
                    "same": base.copy(),
                    "shifted": base + float(random.choice([0.01, 0.5, -0.2])),
                    "rare": base + np.where(random.random(seeds) < 0.2, 3.0, 0.0),
                }[str(kind)]
                final = (optimum or 0.0) + scale * np.abs(own)
                failing = float(random.choice([0, 0, 0, 0.1, 0.5, 1.0]))
                failed = random.random(seeds) < failing
                setting: str = "" if role == "given" else role
                if role == "given" and random.random() < 0.2:
                    setting = f"lr=0.{i}, eps=1"
                start = float((optimum or 0.0) + 10)
                losses = np.column_stack([np.full(seeds, start), final * 1.5, final])
                losses[failed, 1:] = math.nan
                curves = {"train loss": losses}
                if scored:
                    final = 20 * scale - final
                    losses = 20 * scale - losses
                    curves[SCORE.name] = losses
                position = len(cases)
                cases.append(
                    CaseData(
                        position, name, f"opt{i}", setting, device, "X", {}, {}, "float64",
                        np.arange(seeds), losses, {}, {}, role=role, curves=curves,
                    )
                )  # fmt: skip
                trials += [
                    {
                        "position": position, "objective": name, "optimizer": f"opt{i}",
                        "setting": setting, "label": cases[-1].label, "device": device, "seed": s,
                        "status": "diverged" if bad else "ok", "step": 40, "reason": "",
                        "seconds": 0.1, "mode": "vmap", "final_loss": math.nan if bad else loss,
                    }
                    for s, (loss, bad) in enumerate(zip(final, failed, strict=True))
                ]  # fmt: skip
    settings = {
        "seeds": list(range(seeds)),
        "correction": str(random.choice(["objective", "page"])),
        "smallest_differences": {"o0": 0.05} if random.random() < 0.3 else {},
        "families": {"o0": "near", "o1": "near"} if random.random() < 0.3 else {},
        "targets": {name: {"given": [{"value": 1.0}], "tolerances": None} for name in objectives},
        "generalizes": {"opt1": ["opt0"]},
        "tuning": {"trials": 3} if tuned else None,
    }
    run = RunRecord(
        1, "", None, "", "s", "s.yaml", "", RunSettings.model_validate(settings), {"threads": "1"}
    )
    timings = pd.DataFrame(columns=["position", "round", "steps", "steps_per_epoch", "seconds"])
    return Results(run, objectives, tuple(cases), pd.DataFrame(trials), timings)


@pytest.mark.parametrize("count", [15, pytest.param(100, marks=pytest.mark.exhaustive)])
def test_no_sentence_contradicts_made_up_trials(count: int) -> None:
    kinds: Counter[str] = Counter()
    for seed in range(count):
        kinds += Reader(random_results(seed)).check()
    assert {"alike", "loss", "over all", "basis", "defaults", "few", "failures"} <= set(kinds)
    assert min(kinds.values()) >= count // 15


@pytest.mark.parametrize("count", [8, pytest.param(80, marks=pytest.mark.exhaustive)])
def test_no_sentence_contradicts_scores_of_which_higher_is_better(count: int) -> None:
    kinds: Counter[str] = Counter()
    said: list[str] = []
    for seed in range(1000, 1000 + count):
        results = random_results(seed, higher=True)
        reader = Reader(results)
        kinds += reader.check()
        found = sentences.summarise(results, reader.analysis)
        said += [found.headline, *found.outcome]
    assert {"alike", "loss", "protocol", "basis", "failures"} <= set(kinds)
    text = " ".join(said)
    for words in ("the highest mean final test score", "the lowest mean final loss"):
        assert words in text
    assert re.search(r"Highest test score|Best final value", text)


HEADLINES = (
    ("Lowest loss", "Fewest failures, then lowest loss,"),
    ("o0: a", "o0: b"),
    ("on o0", "on both objectives"),
    ("c not", "b not"),
    ("c not significantly different", "c equal"),
    (r" \(c not significantly different\)", ""),
    ("than b", "than b and c"),
    (r"p = \S+\)", "p = 0.02)"),
    ("p =", "p ≤"),
    (", significantly better than .*", "."),
    (r"\.$", "; 1 of 36 trials failed."),
    (r"\.$", "; the same on cuda."),
    (r"\.$", "; cuda was not available."),
    (r"\.$", "; 1 of 1 published number consistent."),
    (r"\.$", "; significantly better than every other optimizer on 1."),
)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("is worse by", "is better by"),
        ("the lowest", "the fewest failures (0 of 12), then the lowest"),
        (r"worse by (\d)", r"worse by 9\1"),
        (r"p = 0\.\d+\)\.$", "p = 0.02)."),
        (r"different from a \(p", r"different from b (p"),
        (r"CI (\S+) to", "CI -1 to"),
    ],
)  # fmt: skip
def test_a_sentence_that_is_not_true_is_found_out(right: str, wrong: str) -> None:
    """The reader itself: what it reads can be wrong."""
    random = np.random.default_rng(2)
    base = random.lognormal(size=12)
    finals = {
        "a": base,
        "b": base + 0.5 + random.random(12) / 10,
        "c": base + random.normal(size=12) / 9,
    }
    results = random_results(3)
    cases, trials = [], []
    for i, (name, own) in enumerate(finals.items()):
        losses = np.column_stack([np.full(12, 9.0), own, own])
        cases.append(
            dataclasses.replace(
                results.cases[0], position=i, objective="o0", optimizer=name, setting="",
                device="cpu", role="given", seeds=np.arange(12), losses=losses,
            )
        )  # fmt: skip
        trials += [
            {"position": i, "objective": "o0", "optimizer": name, "setting": "", "label": name,
             "device": "cpu", "seed": s, "status": "ok", "step": 40, "reason": "", "seconds": 1.0,
             "mode": "vmap", "final_loss": loss}
            for s, loss in enumerate(own)
        ]  # fmt: skip
    info = dataclasses.replace(results.objectives["o0"], optimum=None)
    run = dataclasses.replace(results.run, settings=RunSettings(seeds=tuple(range(12))))
    made = dataclasses.replace(
        results, run=run, objectives={"o0": info}, cases=tuple(cases), trials=pd.DataFrame(trials)
    )
    reader = Reader(made)
    reader.check()
    text = sentences.summarise(made, reader.analysis).outcome[0]
    turned = re.sub(right, wrong, text, count=1)
    assert turned != text
    with pytest.raises((AssertionError, KeyError)):
        reader.sentence(turned)
    headline = Headline(reader)
    text = sentences.summarise(made, reader.analysis).headline
    assert text == "Lowest loss on o0: a (c not significantly different), significantly better " + (
        f"than b (p = {text[-8:-2]})."
    )
    for right, wrong in HEADLINES:
        turned = re.sub(right, wrong, text, count=1)
        assert turned != text
        with pytest.raises((AssertionError, KeyError)):
            headline.check(turned)


STUDY = {
    "suite": "functions",
    "seeds": 50,
    "timing": {"enabled": False},
    "objectives": {
        name: {"steps": 40, "dtype": "float64", "record_every": 20,
               "arguments": {"start_spread": 1.0}}
        for name in (
            "sphere", "booth", "rosenbrock_2d", "beale", "himmelblau", "three_hump_camel",
            "six_hump_camel", "goldstein_price", "styblinski_tang", "rastrigin", "ackley",
        )
    },
    "optimizers": {
        "sgd": {"class": "torch.optim:SGD", "hyperparameters": {"lr": 0.01}},
        "momentum": {"class": "torch.optim:SGD", "hyperparameters": {"lr": 0.01, "momentum": 0.9}},
        "adagrad": {"class": "torch.optim:Adagrad", "hyperparameters": {"lr": 0.5}},
        "rmsprop": {"class": "torch.optim:RMSprop", "hyperparameters": {"lr": 0.01}},
        "adam": {"class": "torch.optim:Adam", "hyperparameters": {"lr": 0.1}},
    },
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.exhaustive
def test_no_sentence_contradicts_eleven_functions_from_fifty_starts(tmp_path: Path) -> None:
    harness.run(STUDY, output=tmp_path / "out", folder=tmp_path)
    kinds = Reader(read.read(tmp_path / "out" / "results.sqlite")).check()
    assert kinds["loss"] == 11
    assert kinds["over all"] == 1


def test_no_sentence_contradicts_the_shipped_specs_trials(tmp_path: Path) -> None:
    harness.run(ROOT / "benchmarks.yaml", output=tmp_path / "out", devices=["cpu"], timing=False)
    kinds = Reader(read.read(tmp_path / "out" / "results.sqlite")).check()
    assert kinds["loss"] == kinds["alike"] == kinds["claims"] == 1


@pytest.mark.parametrize("store", [p for p in os.environ.get("STATEMENTS", "").split(":") if p])
def test_no_sentence_contradicts_a_stored_run(store: str) -> None:
    assert Reader(read.read(Path(store), untouched=True)).check()
