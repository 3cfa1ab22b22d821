"""What a run prints at its end: fits the terminal, says what failed and why, hides no objective."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from results_builders import make_case, make_results, make_trials

from harness import cli
from harness.formatting import device_name
from harness.reporting import printed
from harness.reporting.objects import Report, Run
from harness.reporting.printed import FAILURES, LEAST_COLUMNS, ROWS, Printed, Row
from harness.store.read import CaseData, Results


def result_of(
    ends: dict[tuple[str, str, str], list[float | str]], reason: str = "loss not finite"
) -> Results:
    """Results by objective, optimizer and device: a final loss per seed, or a status."""
    cases: list[CaseData] = [
        make_case(
            objective=objective,
            optimizer=optimizer,
            device=device,
            position=position,
            curves={s: [9.0, v] for s, v in enumerate(values) if not isinstance(v, str)},
        )
        for position, ((objective, optimizer, device), values) in enumerate(ends.items())
    ]
    trials = make_trials(cases, [dict(enumerate(values)) for values in ends.values()])
    trials.loc[trials["status"] == "diverged", "reason"] = reason
    return make_results(cases, trials)


def shown(results: Results) -> Printed:
    return printed.of(Report(Path("reports/s/results.sqlite"), results=results))


def losses(middle: float) -> list[float | str]:
    return [middle + 0.001 * seed for seed in range(8)]


def test_what_failed_and_what_was_skipped_is_counted_and_says_why() -> None:
    half: list[float | str] = [1.0, "diverged", "diverged", 1.1, "timeout", 1.2, 1.3, 1.4]
    results = result_of(
        {
            ("bowl", "sgd", "cpu"): losses(1.0),
            ("bowl", "adam", "cpu"): half,
            ("dish", "adam", "cpu"): ["diverged"] * 8,
            ("bowl", "sgd", "cuda:1"): ["unavailable"] * 8,
        }
    )
    assert shown(results).troubles == (
        "Failed: 10 of 32 trials diverged, 1 timed out",
        "  adam on bowl and dish diverged: loss not finite (10 trials)",
        "  adam on bowl timed out: reason unknown (1 trial)",
        "CUDA:1 is not available: 8 of 32 trials skipped",
    )
    assert shown(result_of({("bowl", "sgd", "cpu"): losses(1.0)})).troubles == ()


def test_many_kinds_of_failures_are_cut_and_the_most_frequent_stay() -> None:
    ends: dict[tuple[str, str, str], list[float | str]] = {
        ("bowl", f"o{i}", "cpu"): ["diverged"] * (i + 1) + [1.0] * (8 - i) for i in range(8)
    }
    _, *lines = shown(result_of(ends)).troubles
    assert [line.split()[0] for line in lines] == ["o7", "o6", "o5", "o4", "o3", "and"]
    assert lines[FAILURES] == "  and 3 more kinds in the report"


def test_of_many_rows_every_objective_keeps_its_best() -> None:
    ends = {
        (f"f{i}", name, "cpu"): losses(1.0 + rank)
        for i in range(7)
        for rank, name in enumerate(["zeta", "alpha", "mid", "last"])
    }
    found = shown(result_of(ends))
    assert (len(found.rows), found.more) == (ROWS, 28 - ROWS)
    by_objective = {
        f"f{i}": [r.optimizer for r in found.rows if r.objective == f"f{i}"] for i in range(7)
    }
    assert all(names[:2] == ["zeta", "alpha"] for names in by_objective.values())
    assert [row.outcome for row in found.rows].count("best") == 7
    assert "\nand 8 more rows in the report\n" in printed.render(found)


@pytest.fixture
def wide() -> Printed:
    rows = tuple(
        Row(objective, name, "0.24244 (0.24206 to 0.24313)", verdict, "1.15", verdict[:5])
        for objective in ("a_regression", "quadratic_2d")
        for name, verdict in (
            ("adagrad (lr=0.4)", "best"),
            ("a_long_name (lr=0.1)", "not significantly different (p = 0.31)"),
            ("momentum", "worse: ×2.01 the gap (p = 0.012)"),
        )
    )
    return Printed(1, "Lowest loss on both: adagrad.", rows, 0, ("CUDA is not available",))


@pytest.mark.parametrize("width", [LEAST_COLUMNS, 80, 100, 120, 200])
def test_it_fits_the_terminal_and_loses_no_word(wide: Printed, width: int) -> None:
    lines = printed.render(wide, "18 trials run in 2.0 s", width).splitlines()
    assert max(map(len, lines)) <= width
    words = set(re.findall(r"\S+", " ".join(lines)))
    assert {"0.24244", "adagrad", "a_long_name", "(lr=0.1)", "×2.01", "1.15"} <= words
    assert lines[-1] == "18 trials run in 2.0 s"


def test_a_pipe_gets_whole_lines_that_can_be_searched(wide: Printed) -> None:
    text = printed.render(wide)
    assert "\x1b" not in text
    assert all(c.isascii() or c in "×–" for c in text)
    (line,) = [ln for ln in text.splitlines() if "a_regression" in ln and "momentum" in ln]
    assert re.split(r"\s{2,}", line) == [
        "a_regression",
        "momentum",
        "0.24244 (0.24206 to 0.24313)",
        "worse: ×2.01 the gap (p = 0.012)",
        "1.15",
    ]
    assert "\x1b[32mbest" in printed.render(wide, colour=True)


def test_a_page_holds_them_for_its_own_run_alone(wide: Printed, tmp_path: Path) -> None:
    from markupsafe import escape

    page = tmp_path / "index.html"
    page.write_text(f'<meta name="{printed.MARK}" content="{escape(printed.to_json(wide))}">')
    assert printed.from_page(page, 1) == wide
    assert printed.from_page(page, 2) is None
    page.write_text("<html>")
    assert printed.from_page(page, 1) is None
    assert printed.from_page(tmp_path / "none.html", 1) is None


@pytest.mark.parametrize(
    ("statuses", "trained", "text"),
    [
        ({"ok": 100, "unavailable": 100}, 100, "100 trials run in 2.0 s"),
        ({"ok": 100, "diverged": 1}, 1, "1 trial run in 2.0 s; 100 were stored already"),
        ({"ok": 5}, 0, "Nothing new to run: every trial is stored already"),
    ],
)
def test_the_work_done_counts_what_was_run_now(
    statuses: dict[str, int], trained: int, text: str
) -> None:
    run = Run(Path("results.sqlite"), 1, statuses, trained=trained, timed=0)
    assert printed.work_done(run, 2.0) == text


@pytest.mark.parametrize(
    ("device", "name"), [("cuda", "CUDA"), ("cuda:1", "CUDA:1"), ("mps, old", "MPS, old"), ("", "")]
)
def test_a_device_begins_a_sentence(device: str, name: str) -> None:
    assert device_name(device) == name


def test_open_needs_a_page() -> None:
    done = CliRunner().invoke(cli.main, ["report", "x", "--format", "csv", "--open"])
    assert done.exit_code == 2
    assert "--open opens the page: add --format html" in done.output
