"""Facts of a run and of its objectives, as sentences and as terms with their values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from harness.analysis import targets
from harness.errors import join
from harness.formatting import moment, plural, seed_ranges
from harness.measures import Measure
from harness.plan.model import TRIED
from harness.provenance.environment import WORDS
from harness.reporting import wording
from harness.reporting.tables.model import Table
from harness.reporting.tables.sharing import WAYS
from harness.reporting.tables.tuning_sentences import tuned_by
from harness.reporting.wording import direction
from harness.store.read import CaseData, ObjectiveInfo, Results
from harness.store.records import RunRecord

Facts = tuple[tuple[str, str], ...]
"""Terms, each with what there is to say of it."""


def scope(results: Results) -> str:
    """The size of a run, in a sentence."""
    devices = list(dict.fromkeys(case.device for case in results.cases))
    seeds = results.run.settings.seeds
    text = (
        f"{plural(len(results.optimizers), 'optimizer')} × "
        f"{plural(len(results.objectives), 'objective')} × "
        f"{plural(len(devices), 'device')} ({join(devices)}): "
        f"{plural(len(results.cases), 'case')} with {plural(len(seeds), 'seed')} each "
        f"({seed_ranges(seeds)}), {plural(len(results.cases) * len(seeds), 'trial')} in all."
    )
    if not results.cases:
        text = "The cases to compare are known once tuning is complete."
    tried = Counter(tried.role for tried in results.tried)
    if tried["tuning"]:
        tuning_seeds = plural(len(results.run.settings.tuning_seeds), "other seed")
        text += f" Tuning tried {plural(tried['tuning'], 'setting')} with {tuning_seeds}"
        text += ", the same number for every tuned optimizer on every objective"
        if tried["finalist"]:
            further = plural(len(results.run.settings.finalist_seeds), "further seed")
            text += f"; the best, {tried['finalist']:,} in all, ran again with {further}"
        if tried["sweep"]:
            text += f"; sweeps tried {tried['sweep']:,} more with the same seeds"
        text += "."
    return text


def timing_scope(results: Results, table: Table | None) -> str:
    """The rules of the timing pass, in a few sentences; empty where they are not known."""
    timing = results.run.settings.timing
    if timing is None:
        return ""
    threads = results.run.environment.get("threads", "")
    text = (
        f"Up to {plural(timing.rounds, 'round')} after {timing.warmup_rounds} for warm-up; "
        "in each round every case runs a block of at most "
        f"{plural(timing.block_steps, 'step')}"
    )
    if threads:
        text += f", with {threads} {'thread' if threads == '1' else 'threads'}"
    text += f"; at most about {timing.seconds:g} s in all"
    text += ". Evaluation, recording and data loading are not timed."
    noisy = 0 if table is None else int((table.frame["noisy"] == "yes").sum())
    if table is not None and noisy:
        text += (
            f" The machine was busy ({noisy} of {plural(len(table.frame), 'case')} are noisy): "
            "compare ratios, not seconds."
        )
    return text


def objective_facts(results: Results, info: ObjectiveInfo) -> Facts:
    """An objective, term by term."""
    cases = results.cases_on(info.name)
    facts = [("Parameters", f"{info.dimension:,}")]
    if info.rows:
        facts.append(("Rows", _rows(info)))
    steps = f"{info.steps:,}"
    if info.has_epochs:
        steps += f", {info.steps_per_epoch:,} to an epoch"
    facts.append(("Steps", steps))
    records = len(info.record_steps)
    if len(info.measures) == 1:
        facts.append(("Recorded", plural(records, "loss", "losses") + " per trial"))
    else:
        facts += _measured(results, info, records)
    facts.append(("Precision", join(list(dict.fromkeys(case.dtype for case in cases)))))
    if info.optimum is not None:
        facts.append(("Lowest possible loss", f"{info.optimum:.6g}"))
    if info.minimizers and info.dimension <= 3:
        points = [f"({', '.join(f'{x:.6g}' for x in point)})" for point in info.minimizers]
        facts.append(("Minimum at" if len(points) == 1 else "Minima at", join(points, 6)))
    if ways := _ways(results, cases):
        facts.append(("Computed", ways))
    if info.data_source:
        facts.append(("Data", info.data_source))
    return tuple(facts)


def _rows(info: ObjectiveInfo) -> str:
    """``240 train, 60 validation, 100 test``; a plain number where there is one part."""
    held_out = [f"{info.part_rows[part]:,} {part}" for part in info.parts if part in info.part_rows]
    return ", ".join([f"{info.rows:,}{' train' * bool(held_out)}", *held_out])


def _measured(results: Results, info: ObjectiveInfo, records: int) -> list[tuple[str, str]]:
    """What is recorded, reported, tuned by and aimed at."""
    names = [f"{name} ({direction(Measure(name, higher=up))})" for name, up in info.metrics]
    found = [
        ("Recorded", f"{plural(records, 'time')} per trial: {join(names)}, on {join(info.parts)}"),
        ("Reported", wording.axis(info)),
    ]
    if by := tuned_by(results, info):
        found.append(("Tuned by", by))
    if given := targets.targets_of(results, info):
        cases = results.cases_on(info.name)
        found.append(("Targets", join([wording.target(cases[0], target) for target in given], 6)))
    return found


def _ways(results: Results, cases: Sequence[CaseData]) -> str:
    """The ways in which an objective's trials ran; a table says why."""
    positions = [case.position for case in cases]
    ran = results.trials[results.trials["position"].isin(positions) & (results.trials["way"] != "")]
    found = {str(way): list(dict.fromkeys(labels)) for way, labels in ran.groupby("way")["label"]}
    if len(found) == 1:
        return WAYS[next(iter(found))]
    return "; ".join(f"{WAYS[way]}: {join(labels, 4)}" for way, labels in found.items())


def shared_runs(results: Results) -> str:
    """Trials of shared runs beside the same trials run alone; empty where there are none."""
    known = results.comparisons
    if known.empty:
        return ""
    tried = ", tuning's among them," if known["role"].isin(TRIED).any() else ""
    text = (
        f"{plural(int(known['lanes'].sum()), 'trial')}{tried} were computed in "
        f"{plural(len(known), 'vectorised run')}. One trial of each was also run alone: "
    )
    far = known[known["difference"] > known["rounding"]]
    near = known["difference"].drop(far.index)
    if len(near):
        text += f"recorded losses agree to a relative {near.max():.1e}, which is rounding."
    if len(far):
        names = join(list(dict.fromkeys(far["optimizer"])), 4)
        text += (
            f" In {plural(len(far), 'run')} they differ by more than rounding explains ({names}: "
            f"up to {far['difference'].max():.1e}); those trials were run alone, and the numbers "
            "shown are from these runs."
        )
    return text


def environment_facts(run: RunRecord) -> Facts:
    """A run's making, term by term."""
    rows = [
        ("Started", moment(run.started)),
        ("Finished", moment(run.finished) if run.finished else "not yet"),
        ("Command", run.command),
        ("Spec", run.spec_file),
    ]
    known = {key: value for key, value in run.environment.items() if value}
    rows += [(word, known[key]) for key, word in WORDS.items() if key in known]
    if "git" not in known:
        rows.append(("Git commit", "none: the suite is not under version control"))
    if run.settings.machine:
        rows.append(("Machine digest", run.settings.machine[:12]))
    packages = [f"{key} {value}" for key, value in known.items() if key not in WORDS]
    if packages:
        rows.append(("Packages", ", ".join(packages)))
    return tuple(rows)


def missing_trials(results: Results) -> int:
    """Count the planned trials that have no result yet."""
    return len(results.cases) * len(results.run.settings.seeds) - len(results.trials)
