"""Tables for LaTeX, read back by a reader that knows no more than what they may hold."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib
import pandas as pd
import pytest
from fontTools.ttLib import TTFont
from hypothesis import given
from hypothesis import strategies as st

from harness.reporting.tables import latex
from harness.reporting.tables.model import Table

WORDS = {
    "textbackslash": "\\",
    "textasciitilde": "~",
    "textasciicircum": "^",
    "textless": "<",
    "textgreater": ">",
    "textbar": "|",
    "textendash": "–",
    "textemdash": "—",
    "dots": "…",
    "textquoteleft": "\u2018",
    "textquoteright": "\u2019",
    "textquotedblleft": "“",
    "textquotedblright": "”",
}
MATHS = {
    **{r"\times": "×", r"\cdot": "·", r"\pm": "±", r"\le": "≤", r"\ge": "≥", r"\approx": "≈"},
    **{r"\ne": "≠", r"\infty": "∞", r"-\infty": "-∞", r"+\infty": "+∞", r"\to": "→"},
    **{r"\surd": "√", r"^{\circ}": "°", "^{2}": "²", "^{3}": "³", r"\mu": "μ", "-": "-"},
    **{r"\alpha": "α", r"\beta": "β", r"\gamma": "γ", r"\delta": "δ", r"\varepsilon": "ε"},
    **{r"\eta": "η", r"\theta": "θ", r"\lambda": "λ", r"\rho": "ρ", r"\sigma": "σ"},
    **{r"\tau": "τ", r"\varphi": "φ"},
}
TOKEN = re.compile(
    r"""\\(?P<escaped>[{}$&%\#_])
    | \\(?P<word>[a-z]+)\{\}
    | (?P<grave>\\`\{\})
    | (?P<quote>\{''\})
    | \{(?P<held>[\[\]*])\}
    | (?P<apart>\{\})
    | \$(?P<math>[^$]+)\$
    | (?P<tie>~)
    | (?P<plain>[^\\{}$&%\#_^~<>|"`\[\]*\x00-\x1f\x7f-\x9f])""",
    re.X,
)
POWER = re.compile(r"([-+]?)([0-9.]+|\\infty) \\times 10\^\{(-?\d+)\}")


def plain(source: str) -> str:
    """What LaTeX would print of a text; fails for every sign that is a command, or joins one."""
    assert not re.search(r"--|''(?!\})|,,|[?!]`", source), source
    found, place = "", 0
    while place < len(source):
        token = TOKEN.match(source, place)
        assert token, f"{source[place : place + 20]!r} is no plain text"
        place = token.end()
        kind, text = token.lastgroup, token[token.lastgroup or 0]
        if kind == "word":
            found += WORDS[text]
        elif kind == "math" and (power := POWER.fullmatch(text)):
            digits = "∞" if power[2] == r"\infty" else power[2]
            found += f"{power[1]}{digits}e{int(power[3]):+03d}"
        elif kind == "math":
            found += MATHS[text]
        else:
            known = {"grave": "`", "quote": '"', "apart": "", "tie": "\u00a0"}
            found += known.get(str(kind), text)
    return found


def printed(text: str) -> str:
    """The same as the reader finds it: on one line, with one sign for minus and one for micro."""
    text = re.sub(r"[ \t\n\v\f\r]+", " ", text)
    text = re.sub(r"[\x00-\x1f\x7f-\x9f]", "", text).strip(" ")
    return text.replace("−", "-").replace("\u00b5", "μ")


@dataclass(frozen=True)
class Read:
    caption: str
    short: str
    label: str
    columns: str
    rows: list[list[str]]
    environments: list[str]
    groups: list[tuple[int, str]]


def until(end: str, text: str) -> str:
    """What stands before a closing sign that is in no group."""
    depth = 0
    for found in re.finditer(r"\\.|[{}\]]", text):
        if depth == 0 and found[0] == end:
            return text[: found.start()]
        depth += {"{": 1, "}": -1}.get(found[0], 0)
    raise AssertionError(f"no {end} in {text!r}")


def is_balanced(source: str) -> bool:
    """True if every group is closed, and none that was not opened."""
    depths = [{"{": 1, "}": -1}.get(found, 0) for found in re.findall(r"\\.|[{}]", source)]
    return sum(depths) == 0 and all(depth >= 0 for depth in itertools.accumulate(depths))


def read(source: str) -> Read:
    """A table, read strictly: groups and environments balanced, as many cells in each row."""
    assert is_balanced(source)
    first, *lines = source.removesuffix("\n").split("\n")
    assert re.fullmatch(r"% Needs \\usepackage\{booktabs(, longtable)?\}\.", first)
    small = r"\centering\small\setlength{\tabcolsep}{4pt}"
    lines = [line.replace(small, r"\centering") for line in lines]
    lines = [line for line in lines if not line.startswith("% Only in the CSV: ")]
    open_: list[str] = []
    seen: list[str] = []
    rules: list[str] = []
    rows: list[list[str]] = []
    groups: list[tuple[int, str]] = []
    caption = short = label = columns = ""
    for line in lines:
        if begun := re.fullmatch(r"\\begin\{(\w+\*?)\}(\[t\]|\{@\{\}[lr]+@\{\}\})", line):
            open_.append(begun[1])
            seen.append(begun[1])
            columns = re.sub("[@{}]", "", begun[2]) if begun[2] != "[t]" else columns
        elif ended := re.fullmatch(r"\\end\{(\w+\*?)\}", line):
            assert open_.pop() == ended[1]
        elif group := re.fullmatch(
            r"\\multicolumn\{(\d+)\}\{@\{\}l@\{\}\}\{\\emph\{(.*)\}\} \\\\", line
        ):
            assert int(group[1]) == len(columns)
            groups.append((len(rows), plain(group[2])))
        elif line.startswith(r"\caption["):
            rest = line.removeprefix(r"\caption[")
            short = until("]", rest)
            rest = rest.removeprefix(short + "]{")
            caption = until("}", rest)
            rest = rest.removeprefix(caption + "}")
            label = rest.removeprefix(" ").removesuffix(r" \\")
        elif line.startswith(r"\label{"):
            label = line
        elif re.fullmatch(r"\\[a-z]+", line):
            rules.append(line)
        else:
            assert line.endswith(r" \\"), line
            rows.append(re.split(r"(?<!\\)&", line.removesuffix(r" \\")))
    assert open_ == []
    assert re.fullmatch(r"\\label\{tab:[A-Za-z0-9-]+\}", label)
    if seen == ["longtable"]:
        top = [r"\toprule", r"\midrule"]
        assert rules == [*top, r"\endfirsthead", *top, r"\endhead", r"\bottomrule", r"\endfoot"]
        assert rows[0] == rows[1]
        rows = rows[1:]
    else:
        assert rules == [r"\centering", r"\toprule", r"\midrule", r"\bottomrule"]
    for row in rows:
        assert len(row) == len(columns)
        for cell in row:
            assert not cell.lstrip(" ").startswith(("[", "*"))
    cells = [[plain(cell.strip(" ")) for cell in row] for row in rows]
    return Read(plain(caption), plain(short), label[7:-1], columns, cells, seen, groups)


def table(**columns: list[str]) -> Table:
    frame = pd.DataFrame(columns)
    return Table("final_loss", "Final loss", "Mean − sd, in µs; 5% of n_1 & n_2.", frame, frame)


def test_a_table_is_a_float_with_rules_a_caption_and_a_label() -> None:
    found = table(optimizer=["sgd", "my_adam"], mean=["-0.5", "1.2e-05"]).to_latex()
    assert found == (
        "% Needs \\usepackage{booktabs}.\n"
        "\\begin{table}[t]\n"
        "\\centering\\small\\setlength{\\tabcolsep}{4pt}\n"
        "\\caption[Final loss]{Final loss. Mean $-$ sd, in $\\mu$s; 5\\% of n\\_1 \\& n\\_2.}\n"
        "\\label{tab:final-loss}\n"
        "\\begin{tabular}{@{}lr@{}}\n"
        "\\toprule\n"
        "optimizer & mean \\\\\n"
        "\\midrule\n"
        "sgd & $-$0.5 \\\\\n"
        "my\\_adam & $1.2 \\times 10^{-5}$ \\\\\n"
        "\\bottomrule\n"
        "\\end{tabular}\n"
        "\\end{table}\n"
    )


@pytest.mark.parametrize("rows", [1, 40, 41])
def test_more_than_40_rows_break_across_pages_under_the_same_head(rows: int) -> None:
    found = read(table(optimizer=[f"o{i}" for i in range(rows)], n=["1"] * rows).to_latex())
    assert found.environments == (["longtable"] if rows > 40 else ["table", "tabular"])
    assert found.rows == [["optimizer", "n"], *([f"o{i}", "1"] for i in range(rows))]
    assert (found.label, found.columns, found.short) == ("tab:final-loss", "lr", "Final loss")


def test_columns_of_numbers_are_set_to_the_right_and_those_of_dashes_left_out() -> None:
    found = read(table(a=["x"], b=["-1 to 2.5"], c=["–"], d=["∞"], e=["3%"]).to_latex())
    assert found.columns == "lrrr"
    assert found.rows == [["a", "b", "d", "e"], ["x", "-1 to 2.5", "∞", "3%"]]


def of_losses(settings: list[str], **more: list[str]) -> Table:
    """A table as those of losses are."""
    count = len(settings)
    return table(
        **{
            "objective": ["bowl"] * (count - 1) + ["line"],
            "optimizer": [f"adagrad{i}" for i in range(count)],
            "setting": settings,
            "device": ["cpu"] * count,
            "loss": ["0.24244"] * (count - 1) + ["1.5e-07"],
            "95% interval": ["0.24206 to 0.24313"] * (count - 1) + ["–"],
            **more,
        }
    )


def test_settings_and_intervals_stand_behind_what_they_are_of_and_rows_under_objectives() -> None:
    found = read(of_losses(["lr=0.4", "–", "lr=2"]).to_latex())
    assert found.environments == ["table", "tabular"]
    assert found.rows == [
        ["optimizer", "loss [95% CI]"],
        ["adagrad0 (lr=0.4)", "0.24244 [0.24206, 0.24313]"],
        ["adagrad1", "0.24244 [0.24206, 0.24313]"],
        ["adagrad2 (lr=2)", "1.5e-07"],
    ]
    # Counted from the head on.
    assert found.groups == [(1, "bowl"), (3, "line")]


def test_a_device_is_named_where_there_are_several() -> None:
    several = read(of_losses(["–", "–"], device=["cpu", "cuda"]).to_latex())
    assert several.rows[0] == ["optimizer", "device", "loss [95% CI]"]


def test_what_is_best_is_bold() -> None:
    losses = of_losses(["–", "–"])
    frame = losses.frame.assign(outcome=["best", "worse"])
    lines = replace(losses, frame=frame).to_latex().splitlines()
    bold = [line for line in lines if "textbf" in line]
    assert bold == [r"\textbf{adagrad0} & \textbf{0.24244 {[}0.24206, 0.24313{]}} \\"]


LONG_TEXT = "worse: ×4.1 the gap (p = 0.012)"


def test_to_fit_a_column_texts_go_before_numbers_and_the_first_interval_stays() -> None:
    wide = of_losses(["lr=0.4"] * 2, verdict=[LONG_TEXT] * 2, ratio=["1.5"] * 2, n=["20"] * 2)
    text = wide.to_latex()
    assert "% Only in the CSV: verdict.\n" in text
    assert read(text).rows[0] == ["optimizer", "loss [95% CI]", "ratio", "n"]
    wide = of_losses(["lr=0.004, b=0.9"] * 2, verdict=[LONG_TEXT] * 2, n=["20"] * 2)
    text = wide.to_latex()
    assert "% Only in the CSV: verdict, n.\n" in text
    assert read(text).rows[0] == ["optimizer", "loss [95% CI]"]
    assert read(text).environments[0] == "table"


def test_what_cannot_fit_a_column_is_whole_and_across_both() -> None:
    settings = ["momentum=0.9, weight_decay=0.0005, nesterov"] * 2
    text = of_losses(settings, verdict=[LONG_TEXT] * 2).to_latex()
    assert read(text).environments[0] == "table*"
    assert read(text).rows[0] == ["optimizer", "loss [95% CI]", "verdict"]


def test_no_column_goes_by_which_rows_are_told_apart() -> None:
    losses = of_losses(["–"] * 4, target=["10% of the way to the optimum", "1%"] * 2)
    same = losses.shown.assign(optimizer="adagrad with a long name", objective="bowl", device="cpu")
    found = read(replace(losses, shown=same.iloc[:2], frame=same.iloc[:2]).to_latex())
    assert "target" in found.rows[0]


def test_the_estimate_of_widths_is_that_of_computer_modern() -> None:
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "cmr10.ttf"
    with TTFont(path) as font:
        letters, widths = font.getBestCmap(), font["hmtx"].metrics
        per_em = font["head"].unitsPerEm

    def exact(text: str) -> float:
        return float(sum(9 * widths[letters[ord(sign)]][0] / per_em for sign in text))

    for text in (
        *(
            "torch_adagrad (lr=0.4)",
            "0.24244 [0.24206, 0.24313]",
            "momentum (lr=0.02, momentum=0.9)",
        ),
        *("optimizer", "loss [95% CI]", "RMSprop", "AdamW (Defaults)", "3.90 of 4 [3.22, 4.03]"),
    ):
        plain_text = text.replace("_", "-").replace(" ", "r")
        assert exact(plain_text) <= latex.width(text) <= 1.2 * exact(plain_text), text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-1", "$-$1"),
        ("−1", "$-$1"),
        ("-0.5 to 0.25", "$-$0.5 to 0.25"),
        ("(-.5, 3)", "($-$.5, 3)"),
        ("1.20e+07", r"$1.20 \times 10^{7}$"),
        ("-1e-120", r"$-1 \times 10^{-120}$"),
        ("∞", r"$\infty$"),
        ("-∞", r"$-\infty$"),
        ("+12.5%", r"+12.5\%"),
        ("2026-01-02", "2026-01-02"),
        ("x-1 and 7-3", "x-1 and 7-3"),
        ("1e5f-3", "1e5f-3"),
        ("1e10", "1e10"),
        ("--seeds", "-{}-seeds"),
        ("0–9", r"0\textendash{}9"),
        ("a -> b", r"a -\textgreater{} b"),
        ("[-1, 1] * 2", "{[}$-$1, 1{]} {*} 2"),
        ("\"a\" ''b", "{''}a{''} '{}'b"),
        (" a\n\tb\x00c ", "a bc"),
        ("Moré", "Moré"),
    ],
)
def test_signs_and_numbers_are_set_as_they_are_printed(text: str, expected: str) -> None:
    assert latex.escape(text) == expected


def test_every_sign_is_known_to_the_reader() -> None:
    for sign, command in latex.SIGNS.items():
        assert plain(command) == printed(sign)
        command.encode("ascii")


SPOTS = [*latex.SIGNS, *"-',?! \n\r\tab09.+e;:()/=@é\x00\x7f\u2028", "\\end{table}", "--", "''"]
HOSTILE = st.lists(st.sampled_from(SPOTS), max_size=24).map("".join) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=12
)
WORDED = HOSTILE.map(lambda text: re.sub(r"[0-9∞]", "n", text))
"""Without numbers, which are not printed letter by letter."""


@given(WORDED)
def test_a_text_is_printed_as_it_was_whatever_it_is(text: str) -> None:
    assert plain(latex.escape(text)) == printed(text)


@given(st.floats(allow_nan=False), st.sampled_from([".3e", ".2f", ".6g", "+.1f"]))
def test_a_number_keeps_every_digit(value: float, kind: str) -> None:
    text = f"{value:{kind}}".replace("inf", "∞")
    back = plain(latex.escape(text)).replace("∞", "inf")
    assert float(back) == float(text.replace("∞", "inf"))


@st.composite
def hostile_tables(draw: st.DrawFn) -> Table:
    width, height = (
        draw(st.integers(1, 4)),
        draw(st.integers(1, 4)) * draw(st.sampled_from([1, 11])),
    )
    cells = st.lists(WORDED, min_size=width, max_size=width)
    headings = draw(st.lists(WORDED, min_size=width, max_size=width, unique=True))
    few = draw(st.lists(cells, min_size=1, max_size=4))
    frame = pd.DataFrame((few * height)[:height], columns=headings, dtype=object)
    return Table(draw(HOSTILE), draw(WORDED), draw(WORDED), frame, frame)


@given(hostile_tables())
def test_whatever_a_table_says_it_stays_a_table_with_these_cells(hostile: Table) -> None:
    found = read(hostile.to_latex())
    shown = [list(hostile.shown.columns), *hostile.shown.to_numpy().tolist()]
    told_apart = [
        any(cell not in ("", "–") for cell in cells) for cells in zip(*shown[1:], strict=True)
    ]
    kept = [i for i, is_told in enumerate(told_apart) if is_told or not any(told_apart)]
    assert found.rows == [[printed(row[i]) for i in kept] for row in shown]
    assert found.short == printed(hostile.title)
    told = [printed(hostile.title), printed(hostile.note)]
    assert found.caption == ". ".join(text for text in told if text)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX is installed")
def test_latex_itself_sets_a_table_with_every_sign(tmp_path: Path) -> None:
    signs = [*latex.SIGNS, "-1e-5", "∞", "--"]
    body = table(sign=signs, number=["-1"] * len(signs)).to_latex()
    head = "\\documentclass{article}\\usepackage{booktabs, longtable}\\begin{document}\n"
    (tmp_path / "t.tex").write_text(f"{head}{body}\\end{{document}}\n")
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "t.tex"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=60)
