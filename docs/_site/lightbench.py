"""Lay the map beside LightBench's published one: ``python docs/_site/lightbench.py CELLS``.

``CELLS`` is a file of cells, such as the one that the harness ships. The table stands in
docs/diagnostics.md; ``--write`` puts it there. LightBench's verdicts are those of
``benchmark_results.md`` in the wheel of lightbench 0.1.1 (made in June 2025 with HeavyBall, seed 0,
optimizers that are neither "cautious" nor "mars").
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from harness.analysis import wins
from harness.analysis.cells import Cells, cells_from_file

PAGE = Path(__file__).resolve().parents[1] / "diagnostics.md"
BEGIN, END = "<!-- lightbench -->", "<!-- end of lightbench -->"

OPTIMIZERS = {"AdamW": "adamw", "Muon": "muon", "RMSprop": "rmsprop"}
"""Their names, and those of the map."""


@dataclass(frozen=True)
class Pair:
    """A task of LightBench, and the one of the map that asks the same.

    Attributes:
        theirs: Its name in LightBench.
        published: Difficulties won by AdamW, Muon and RMSprop.
        difficulties: How many there are.
        ours: The task of the map; empty where it has none that is near.
        differs: How the two differ, as far as it bears on verdicts.
    """

    theirs: str
    published: tuple[int, int, int]
    difficulties: int = 6
    ours: str = ""
    differs: str = ""


PAIRS = (
    Pair(
        "quadratic_varying_scale",
        (6, 4, 2),
        ours="ill_conditioned",
        differs="there the size grows (4 to 131072 parameters) and the distance must get to 1e-7 "
        "within a million steps; here the condition number grows, to 1e8, and there are 300 steps",
    ),
    Pair(
        "layer_wise_scale",
        (6, 4, 4),
        ours="gradient_scales",
        differs="there a bowl, of which what is flat counts little in the loss; here each "
        "parameter must arrive, and ratios go to 1e20, where an epsilon of 1e-8 decides",
    ),
    Pair(
        "parameter_scale",
        (6, 6, 0),
        ours="parameter_scales",
        differs="there a round bowl whose loss is all that counts, so momentum takes it at once; "
        "here each parameter must arrive in its own unit",
    ),
    Pair(
        "beale",
        (1, 0, 1),
        1,
        "beale_far",
        differs="there one start, a loss of 1e-8 and a million steps; here three distances, a loss "
        "of 1e-3 and 500 steps. The parameters are a vector: Muon is momentum there, AdamW here",
    ),
    Pair(
        "rosenbrock",
        (1, 1, 1),
        1,
        "rosenbrock",
        differs="there a factor of 1 in the place of 100 (no narrow valley), two parameters and a "
        "million steps; here up to 100 parameters and 800 steps",
    ),
    Pair(
        "rastrigin",
        (1, 1, 0),
        1,
        "rippled_bowl",
        differs="there one start in two dimensions and an amplitude of 10; here the amplitude "
        "grows from where no ripple is a minimum, and the ten starts are random",
    ),
    Pair(
        "gradient_noise_scale",
        (6, 6, 6),
        ours="white_noise",
        differs="there the published noise falls as one over the step, so it goes away; here it "
        "stays, and without a schedule a loss remains that grows with the learning rate",
    ),
    Pair(
        "batch_size_scaling",
        (6, 6, 6),
        ours="multiplicative_noise",
        differs="both have a noise in proportion (there to the parameters' distance, here to the "
        "gradient); there up to 1.0 of it, here up to several times it",
    ),
    Pair(
        "sparse_gradient",
        (4, 3, 6),
        ours="sparse_gradients",
        differs="there the loss of the masked parameters counts, and at the last difficulty that "
        "of the start (2e-5) is below the target (1e-4), so RMSprop won without a step of use; "
        "here the whole loss counts",
    ),
    Pair(
        "gradient_delay",
        (6, 4, 6),
        ours="delayed_gradients",
        differs="there no gradient is late: groups of parameters take part at every k-th step, "
        "and the loss of a step in which few do is enough; here gradients are late",
    ),
    Pair(
        "saddle_point",
        (4, 4, 4),
        ours="strict_saddle",
        differs="there odd powers, without a lowest value, so whoever jumps over 0 has won (at the "
        "fifth difficulty too, when its code is run today); here a saddle between two minima",
    ),
    Pair(
        "plateau_navigation",
        (4, 2, 4),
        ours="plateau",
        differs="there the gradient falls below 1e-18 at the hardest of six; here the slope of the "
        "plain is given and an adaptive step does not see it. Muon is momentum there, AdamW here",
    ),
    Pair(
        "discontinuous_gradient",
        (1, 1, 1),
        1,
        "largest_of",
        differs="there a kink in each coordinate; here one gradient tells of one of many",
    ),
    Pair(
        "minimax",
        (0, 0, 0),
        ours="rotating_field",
        differs="there nobody wins: the norm of both players must vanish, but the loss is of their "
        "sum alone, so their difference has no gradient",
    ),
    Pair(
        "dynamic_landscape",
        (6, 1, 6),
        ours="circling_minimum",
        differs="there one step near the minimum is enough; here the mean distance must be small",
    ),
    Pair(
        "constrained_optimization",
        (6, 4, 6),
        ours="hinge_wall",
        differs="there all coordinates are alike, so one of them is optimised, and being at the "
        "wall once is enough; here walls are turned and the loss must be near its optimum",
    ),
    Pair(
        "wide_linear",
        (0, 0, 0),
        ours="wide_linear",
        differs="there nobody wins: the parameters are compared with the negative of what "
        "minimises the loss",
    ),
    Pair(
        "noisy_matmul",
        (6, 2, 0),
        ours="noisy_product",
        differs="there a vector before random matrices, whose signal shrinks with the depth; here "
        "the matrices are learned",
    ),
    Pair(
        "xor_digit_rnn",
        (1, 1, 1),
        ours="sequence_parity",
        differs="there lengths of 4 to 96, a loss of 1e-3 on a batch and a million steps; here "
        "shorter sequences and fewer steps, and an accuracy on sequences kept apart",
    ),
    Pair("xor_spot_rnn", (1, 1, 1)),
    Pair("quadratic_varying_target", (6, 4, 3)),
    Pair("scale_invariant", (6, 2, 4)),
    Pair("momentum_utilization", (6, 6, 6)),
    Pair("adversarial_gradient", (0, 0, 0)),
    Pair("xor_digit", (4, 4, 4)),
    Pair("xor_sequence", (5, 6, 5)),
    Pair("xor_sequence_rnn", (4, 1, 4)),
    Pair("xor_spot", (4, 4, 4)),
)


INTRODUCTION = """\
Of the map as published (HeavyBall, June 2025, made with an older version of some of the tasks), the
table lays {pairs} tasks beside those here that ask the same; {others} have no counterpart here. A
cell has the difficulties won there and here, in bold where the kind of verdict differs (all, some
or none). Where Muon meets vectors it is momentum there and AdamW here."""


def kind(won: int, of: int) -> str:
    """The verdict on a task: all of its difficulties are won, some, or none."""
    return "none" if won == 0 else "all" if won == of else "some"


def won_here(cells: Cells, task: str, optimizer: str) -> tuple[int, int] | None:
    """How many difficulties of a task an optimizer wins, of how many; None if it has none.

    A cell is won where at least half of its seeds are.
    """
    own = [
        cell
        for cell in cells.cells
        if (cell.task, cell.optimizer) == (task, optimizer) and cell.role != "defaults"
    ]
    return (sum(wins.is_won(cell) for cell in own), len(own)) if own else None


def table(cells: Cells) -> str:
    """The table, in Markdown: tasks that both have; where the verdict differs, in bold."""
    head = (
        f"| LightBench | here | {' | '.join(OPTIMIZERS)} | how they differ |",
        "|---|---|---|---|---|---|",
    )
    rows = []
    for pair in PAIRS:
        if not pair.ours:
            continue
        shown = []
        for theirs, optimizer in zip(pair.published, OPTIMIZERS.values(), strict=True):
            found = won_here(cells, pair.ours, optimizer)
            if found is None:
                shown.append(f"{theirs}/{pair.difficulties}, not run")
                continue
            text = f"{theirs}/{pair.difficulties}, {found[0]}/{found[1]}"
            same = kind(theirs, pair.difficulties) == kind(*found)
            shown.append(text if same else f"**{text}**")
        rows.append(f"| `{pair.theirs}` | `{pair.ours}` | {' | '.join(shown)} | {pair.differs} |")
    return "\n".join([*head, *rows])


def filled(page: str, cells: Cells) -> str:
    """The page with the table as it is to be."""
    before, _, rest = page.partition(BEGIN)
    pairs = sum(bool(pair.ours) for pair in PAIRS)
    introduction = INTRODUCTION.format(pairs=pairs, others=len(PAIRS) - pairs)
    parts = [before + BEGIN, introduction, table(cells), END + rest.partition(END)[2]]
    return "\n\n".join(parts)


def main() -> None:
    """Print the table, or put it into the page."""
    parser = argparse.ArgumentParser(description="Lay the map beside LightBench's.")
    parser.add_argument("cells", type=Path)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    cells = cells_from_file(options.cells)
    if options.write:
        page = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(filled(page, cells), encoding="utf-8")
    else:
        print(table(cells))


if __name__ == "__main__":
    main()
