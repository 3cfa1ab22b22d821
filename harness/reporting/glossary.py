"""Terms of the page, the terminal and the docs, each with one sentence.

The page shows a definition where a heading or a word is hovered, and ``docs/glossary.md`` has all
of them: ``python -m harness.reporting.glossary > docs/glossary.md`` updates it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

GLOSSARY: Mapping[str, str] = MappingProxyType(
    {
        # The experiment
        "spec": "The YAML file that says which optimizers to compare, on which objectives and "
        "devices, and with how many seeds.",
        "suite": "A folder with a spec and the optimizers, objectives and datasets that it names.",
        "objective": "The function that is minimised, such as Rosenbrock's or the loss of a model "
        "on a dataset.",
        "optimizer": "The algorithm under comparison: a class with the interface of "
        "torch.optim.Optimizer.",
        "hyperparameter": "An argument of an optimizer that is chosen before training, such as "
        "its learning rate lr.",
        "setting": "The hyperparameter values that set a case apart from the optimizer's other "
        "cases, such as lr=0.1.",
        "grid": "A list of values for a hyperparameter, each of which is run as a setting of its "
        "own.",
        "device": "The hardware that trains: cpu, cuda (an NVIDIA or AMD GPU), mps (Apple) or xpu "
        "(Intel).",
        "seed": "The number that fixes a trial's start and the order of its batches, the same for "
        "every optimizer.",
        "case": "One optimizer with one setting, on one objective, on one device; it is run once "
        "per seed.",
        "cell": "Of a map, one task at one difficulty; of the check, a case as one row of its "
        "table.",
        "trial": "One case with one seed: a single training from its start to its last step.",
        "run": "One call of `harness run`: every trial of a spec that is not stored yet, then the "
        "report.",
        "lane": "A trial's place in a computation that trains many trials side by side.",
        "source": "One of several stored results that are laid side by side; of a published "
        "number, where it was printed.",
        # Training
        "step": "One update of the parameters by the optimizer.",
        "epoch": "One pass over the data; without data, one step.",
        "evaluation": "One computation of the loss and its gradients; most optimizers need one per "
        "step.",
        "loss": "The value of the objective, over all data where a batch is not named.",
        "metric": "A number that a model is judged by beside or in place of its loss, such as the "
        "accuracy.",
        "accuracy": "The share of rows whose class the model gets right, from 0 to 1; higher is "
        "better.",
        "part": "A part of the data: train, validation or test.",
        "train": "The rows that steps see.",
        "validation": "The rows by which settings are tuned; steps never see them.",
        "test": "The rows that results are reported on; neither steps nor tuning see them.",
        "value": "What is reported of the objective, such as its loss or the test accuracy.",
        "generalization gap": "How much worse a metric is on test (else validation) than on train, "
        "compared seed by seed.",
        "learning curve": "A metric by part of the data along the training.",
        "stopped early": "Ended before the last step by the spec's rule: at its targets, or where "
        "a value got no better.",
        "schedule": "How the learning rate changes from step to step, such as warm-up, then a "
        "cosine.",
        "clipping": "Scaling down a trial's gradient where its norm is above a threshold.",
        "final loss": "The loss over all data after the last step.",
        "curve": "The loss (or what is reported) of a case against steps, epochs, evaluations or "
        "seconds.",
        "trajectory": "The path of the two parameters of a 2D objective, from the start to the "
        "last step.",
        "effective step size": "The factor by which an adaptive optimizer multiplies each "
        "coordinate of the gradient at a step.",
        "optimum": "The lowest loss that an objective has, where it is known.",
        "gap to optimum": "The loss minus the lowest loss that the objective has.",
        "distance to minimum": "The distance from the end point to the nearest known minimum.",
        "x1": "The first coordinate of a 2D objective.",
        "x2": "The second coordinate of a 2D objective.",
        # Outcomes
        "outcome": "How a trial ended: ok, diverged, timed out, error or skipped.",
        "ok": "The trial reached its last step with a finite loss that is not far above its start.",
        "diverged": "The loss was not finite at some step, or ended far above where it started.",
        "timeout": "The trial took longer than the spec's limit and was stopped.",
        "error": "The code of the optimizer or the objective raised an exception or crashed.",
        "unavailable": "Skipped: the device is not there, or the constructor has no default that "
        "was asked for.",
        "skipped": "Not run, because its device is not available here or a needed default does "
        "not exist.",
        "failed": "Diverged, timed out or ended in an error; a failed trial ranks below every "
        "trial that is ok.",
        # Statistics
        "n": "The number of seeds (or timed blocks) that a number rests on.",
        "mean": "The average over the seeds that are ok.",
        "median": "The middle value: half of the seeds are below it and half above.",
        "sd": "Standard deviation over seeds.",
        "IQR": "Interquartile range: the width of the middle half of the values.",
        "95% interval": "A confidence interval, made so that 95 of 100 such intervals contain the "
        "true value.",
        "paired": "Compared seed by seed, with the same start and the same batches for both.",
        "difference": "The loss (or what is reported) of one case minus that of another, paired by "
        "seed; over seeds, the Hodges-Lehmann estimate.",
        "largest difference": "The largest difference between two results that should be equal, "
        "over all seeds and recorded steps.",
        "effect": "The matched-pairs rank-biserial correlation, from -1 (always better) to 1 "
        "(always worse).",
        "p": "The probability of a difference at least this large if the two were equally good.",
        "p (Holm)": "The p-value after Holm's correction for the number of comparisons.",
        "significant": "Holm-corrected p of 0.05 or less in Wilcoxon's signed-rank test, paired by "
        "seed.",
        "tied": "Equal up to rounding, or up to the smallest difference that the spec says "
        "matters.",
        "rank": "A case's place among the cases of an objective at one seed, 1 being the best.",
        "mean rank": "A case's average rank over the seeds.",
        "critical difference": "The smallest difference of mean ranks that is significant over "
        "all objectives (Demšar 2006).",
        # Verdicts on optimizers
        "verdict": "What the comparison or the check concludes, in a word.",
        "best": "Lowest, or highest where higher is better: of one case, over its seeds; as a "
        "verdict, the case with the fewest failures, then the best value.",
        "not significantly different": "The test finds no difference from the best; that does not "
        "prove that there is none.",
        "worse by a factor": "Significantly worse than the best; the factor is the ratio of the "
        "two losses, or of the two gaps to the optimum.",
        "reference": "The first optimizer of the spec, to which time ratios compare.",
        "special case": "An optimizer that another one becomes at some value of a hyperparameter, "
        "as momentum becomes gradient descent at 0.",
        "counterpart": "The same optimizer in other code, such as PyTorch's own beside one from "
        "scratch.",
        "parity": "How closely an optimizer and its counterpart agree.",
        # Targets and profiles
        "target": "A loss or another value to reach, set before the run, or a fraction of the "
        "initial gap to the optimum.",
        "tolerance": "A target as the fraction of the initial gap to the optimum that remains: "
        "0.01 is reached once 99% of the gap is closed.",
        "ERT": "Expected running time: the cost of all trials divided by the number that reached "
        "the target.",
        "problem": "One target on one objective, as performance profiles count them.",
        "family": "Objectives that are variants of each other and count as one in statistics over "
        "objectives.",
        "performance profile": "The share of problems that an optimizer solves within a given "
        "multiple of the lowest cost.",
        "runtime distribution": "The share of targets that are reached within a given number of "
        "steps or seconds.",
        # Maps of tasks
        "map": "Tasks in several difficulties by optimizers, each cell with the share of seeds "
        "that won it.",
        "task": "One entry of the spec's objectives, in one difficulty or in several.",
        "difficulty": "One value of the argument by which a task gets harder, the easiest first.",
        "level": "The place of a difficulty among those of its task, 1 being the easiest.",
        "won": "All targets were reached within the steps; a cell is won where at least half of "
        "the seeds win it.",
        "share won": "The share of seeds that reached all targets within the steps.",
        "cells won": "The number of cells, tasks at a difficulty, that at least half of the seeds "
        "win.",
        "hardest won": "The number of tasks of several difficulties of which the hardest is won.",
        "settings until a win": "The expected number of settings drawn until one wins, over all "
        "orders of the draw; more than were drawn where none wins.",
        "steps until a win": "The steps of all trials divided by the number that won; a trial that "
        "misses costs what it used.",
        "origin": "Where results come from: this run, or others that were kept, with their "
        "versions.",
        # Speed
        "time ratio": "Time per epoch relative to the reference, from blocks timed in turns.",
        "operators/step": "PyTorch operators dispatched per step, counted exactly.",
        "state": "Memory that the optimizer keeps between steps.",
        "peak memory": "The most GPU memory that PyTorch held at once, data included.",
        "noise": "How much block times vary, or the share of time the processor was busy with "
        "something else; above 10% compare ratios, not seconds.",
        "reference loop": "A fixed training loop that is timed beside every cell, so that times of "
        "different days can be compared.",
        # Tuning
        "search space": "The range or the choices from which tuning draws a hyperparameter.",
        "tuning": "The search for each optimizer's best setting, with the same number of trials "
        "for all and seeds of its own.",
        "tuned": "With the best setting that tuning found.",
        "defaults": "With the defaults of the optimizer's constructor.",
        "budget": "The number of settings that tuning tries for each optimizer.",
        "at an edge": "Of a tuned value, near an end of its range, so the best may be outside.",
        "sweep": "One hyperparameter varied over its range while the others stay at the tuned "
        "setting.",
        # Published numbers
        "claim": "A published number that the spec compares with its own trials.",
        "reproduced": "Equal in every printed digit, for every seed.",
        "consistent": "Our trials could have given the published number (p of 0.1 or more); that "
        "does not prove it right.",
        "borderline": "The published number would be this far from our trials in fewer than one of "
        "ten experiments (p between 0.01 and 0.1).",
        "not consistent": "The published number is too far from our trials to have come from the "
        "same experiment (p below 0.01).",
        "undecided": "Our trials are too few to decide whether the published number is consistent.",
        "distance": "How far the published number is from the mean of our seeds, in standard "
        "deviations.",
        "percentile": "The percentage of our seeds that are below the published number.",
        # The check
        "check": "A comparison of speed, loss and exact counts with a baseline or another "
        "revision, as CI runs it.",
        "baseline": "A file with what a suite measured before, to which the check compares.",
        "regressed": "Worse than before by more than the limit.",
        "inconclusive": "The measurement is too noisy to decide.",
        "not comparable": "Measured on another kind of machine or with other versions, so it can't "
        "be judged.",
        "bit-identical": "Equal in every bit of every recorded loss.",
    }
)
"""Every term that needs a definition, in the order in which a reader meets them."""

_ALIASES = {
    "95% CI": "95% interval",
    "statuses": "outcome",
    "status": "outcome",
    "ratio": "time ratio",
    "operators": "operators/step",
    "adjusted p": "p (Holm)",
    "searched": "search space",
    "range": "search space",
    "reached": "target",
    "published": "claim",
    "largest relative difference": "largest difference",
    "largest parameter difference": "largest difference",
    "largest loss difference": "largest difference",
    "at the edge": "at an edge",
    "median step": "step",
    "difficulties": "difficulty",
}
"""Headings that mean a term by another word."""


def term_of(heading: str) -> str:
    """The term that a heading is about: ``gap to optimum`` for "median gap to optimum".

    Of several, the one of most words, then the first. Units in parentheses count for nothing.

    Returns:
        A key of ``GLOSSARY``; empty where the heading has no term.
    """
    names = {**{term: term for term in GLOSSARY}, **_ALIASES}
    if heading in names:
        return names[heading]
    bare = re.sub(r"\s*\([^)]*\)$", "", heading)
    places = {
        name: found.start()
        for name in names
        if (found := re.search(rf"(?<!\w){re.escape(name)}s?(?!\w)", bare, re.IGNORECASE))
    }
    chosen = min(places, key=lambda name: (-len(name.split()), places[name]), default="")
    return names.get(chosen, "")


def definition(heading: str) -> str:
    """The definition of a heading or a word; empty where it needs none."""
    return GLOSSARY.get(term_of(heading), "")


def as_markdown() -> str:
    """The page of the docs, in alphabetical order."""
    lines = [
        "# Glossary",
        "",
        "Each term as the page, the terminal and these docs use it.",
        "",
        "| term | definition |",
        "|---|---|",
        *(f"| {term} | {GLOSSARY[term]} |" for term in sorted(GLOSSARY, key=str.casefold)),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(as_markdown(), end="")
