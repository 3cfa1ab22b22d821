"""Text and tables for LaTeX: booktabs, every sign escaped, plain text left of no command.

By hand, for what pandas' ``Styler.to_latex`` escapes are ten ASCII signs: a cell that begins with
``[`` would still be an argument of the line break above it, ``<`` be printed as an inverted
exclamation mark, ``--`` as a dash and ``∞`` stop the compiler. Of a table that breaks across pages
it repeats the whole caption, which here explains every column, on each page.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from harness.formatting import DASH

LONG = 40
"""Rows beyond which a table may break across pages."""

COLUMN, GAP = 239.0, 8.0
"""Points: the width of one of a page's two columns (8.4 cm), and the room between a table's own."""

NEEDS = r"% Needs \usepackage{booktabs}."

_WIDTHS = {
    **dict.fromkeys("0123456789+ =<>", 4.7),
    **dict.fromkeys("il.,:;'|!", 2.7),
    **dict.fromkeys("fjrtsI()[]/- ", 3.7),
    **dict.fromkeys("mwMW%@—", 8.0),
    **dict.fromkeys("−±×≤≥≈≠∞→", 8.0),
}
"""Widths of signs in points."""

_MATH = "−×·±≤≥≈≠∞→√°²³\u00b5μαβγδεηθλρστφ"
_COMMANDS = (
    r"- \times \cdot \pm \le \ge \approx \ne \infty \to \surd ^{\circ} ^{2} ^{3} \mu \mu "
    r"\alpha \beta \gamma \delta \varepsilon \eta \theta \lambda \rho \sigma \tau \varphi"
)
"""Commands of mathematics, sign by sign."""

SIGNS = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "%": r"\%",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    # Other signs than their own in the oldest encoding, which is still the default.
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "{''}",
    "`": r"\`{}",
    # After a line break or a rule these would be an argument.
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    "\u00a0": "~",
    "–": r"\textendash{}",
    "—": r"\textemdash{}",
    "…": r"\dots{}",
    "\u2018": r"\textquoteleft{}",
    "\u2019": r"\textquoteright{}",
    "“": r"\textquotedblleft{}",
    "”": r"\textquotedblright{}",
    **{sign: f"${command}$" for sign, command in zip(_MATH, _COMMANDS.split(), strict=True)},
}
"""LaTeX for signs; every other sign stays. The page's script has them too."""

SHARED = {"SIGNS": SIGNS, "WIDTHS": _WIDTHS, "LONG": LONG, "COLUMN": COLUMN, "GAP": GAP}
"""Values that the page's script has as well."""

_RUNS = re.compile(r"[A-Za-z0-9_.+∞-]+|[^A-Za-z0-9_.+∞-]+")
_NUMBER = re.compile(r"([-+]?)([0-9]+\.?[0-9]*|\.[0-9]+|∞)(?:e([-+][0-9]{1,3}))?")


def escape(text: str) -> str:
    """A text as LaTeX prints it letter by letter, on one line.

    Numbers have a minus sign instead of a hyphen, and powers of ten written out.
    """
    text = re.sub(r"[ \t\n\v\f\r]+", " ", text)
    text = re.sub(r"[\x00-\x1f\x7f-\x9f]", "", text).strip(" ")
    return _RUNS.sub(lambda run: _number(run[0]) or _words(run[0]), text)


def _number(text: str) -> str:
    """A number as it is printed; empty where it is none that needs it."""
    found = _NUMBER.fullmatch(text)
    if found is None or not (found[1] == "-" or found[2] == "∞" or found[3]):
        return ""
    digits = SIGNS["∞"].strip("$") if found[2] == "∞" else found[2]
    if found[3]:
        return rf"${found[1]}{digits} \times 10^{{{int(found[3])}}}$"
    if found[2] == "∞":
        return f"${found[1]}{digits}$"
    return f"$-${digits}"


def _words(text: str) -> str:
    """A text sign by sign; like ones that would join to another sign are kept apart."""
    pairs = zip(" " + text, text, strict=False)
    return "".join(
        ("{}" if sign == before and sign in "-'," else "") + SIGNS.get(sign, sign)
        for before, sign in pairs
    )


def label(name: str) -> str:
    """A table's name as what ``ref`` knows it by."""
    return "tab:" + (re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-") or "unnamed")


def width(text: str) -> float:
    """The width of a text in Computer Modern at 9 points, in points, near enough to plan with."""
    printed = re.sub(r"(?<=[0-9])e[-+]0?([0-9]+)", r" × 10\1", text)
    return sum(_WIDTHS.get(sign, 6.9 if sign.isupper() else 4.9) for sign in printed)


@dataclass(frozen=True)
class Arranged:
    """A table as it stands in a paper, in plain text.

    Attributes:
        headings: One per column.
        rows: As many cells in each.
        right: For each column, whether it is set to the right.
        groups: For each row, the objective that it stands under; empty where it names its own.
    """

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: Sequence[bool]
    groups: Sequence[str]

    @property
    def width(self) -> float:
        """Its width in points, at 9 points."""
        columns = zip(self.headings, *self.rows, strict=True)
        return sum(max(map(width, texts)) for texts in columns) + GAP * (len(self.headings) - 1)

    @property
    def has_a_name_for_each_row(self) -> bool:
        """True if no two rows have the same texts, numbers aside."""
        names = {
            (group, *(text for text, number in zip(row, self.right, strict=True) if not number))
            for group, row in zip(self.groups, self.rows, strict=True)
        }
        return len(names) == len(self.rows)


def roles(
    headings: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool]
) -> list[str]:
    """The role of each column in a paper.

    ``own``: a column; ``group``: rows stand under it; ``setting`` and ``interval``: joined to the
    column before it; ``same``: left out, since every row has the same; ``narrow``: left out so that
    a table with intervals fits a column of a page of two, texts before numbers, but not the first
    number with its interval. Where that doesn't fit, nothing is left out, and a table is wide.
    """
    found: list[str] = []
    for heading, texts in zip(headings, zip(*rows, strict=True), strict=True):
        follows = found[-1:] == ["own"]
        if set(texts) <= {DASH, ""} or (heading == "device" and len(set(texts)) == 1):
            found.append("same")
        elif heading == "objective":
            found.append("group")
        elif heading == "setting" and follows:
            found.append("setting")
        else:
            is_interval = heading.startswith("95% interval") and follows
            found.append("interval" if is_interval else "own")
    if "own" not in found:
        return ["own"] * len(found)
    return _narrowed(headings, rows, right, found) if "interval" in found else found


def _narrowed(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    right: Sequence[bool],
    found: Sequence[str],
) -> list[str]:
    """The same roles, but of columns that a table has no room for."""
    kept, needed = list(found), (found.index("own"), found.index("interval") - 1)
    spare = [i for i, role in enumerate(found) if role == "own" and i not in needed]
    for i in sorted(spare, key=lambda i: (right[i], -i)):
        if arranged(headings, rows, right, kept).width <= COLUMN:
            return kept
        without = list(kept)
        without[i] = "narrow"
        if kept[i + 1 : i + 2] == ["interval"]:
            without[i + 1] = "narrow"
        if right[i] or arranged(headings, rows, right, without).has_a_name_for_each_row:
            kept = without
    return kept if arranged(headings, rows, right, kept).width <= COLUMN else list(found)


def arranged(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    right: Sequence[bool],
    known: Sequence[str],
) -> Arranged:
    """A table whose columns have the given roles; see :func:`roles`. The page's script does so too.

    An optimizer has its setting in brackets behind it, a number its interval.
    """
    own = [i for i, role in enumerate(known) if role == "own"]
    behind = [known[i + 1] if i + 1 < len(known) else "" for i in own]

    def joined(row: Sequence[str], i: int, role: str) -> str:
        if role not in ("setting", "interval") or row[i + 1] == DASH:
            return row[i]
        if role == "setting":
            return f"{row[i]} ({row[i + 1]})"
        return f"{row[i]} [{row[i + 1].replace(' to ', ', ')}]"

    group = known.index("group") if "group" in known else None
    return Arranged(
        headings=[
            f"{headings[i]} [95% CI]" if role == "interval" else headings[i]
            for i, role in zip(own, behind, strict=True)
        ],
        rows=[[joined(row, *at) for at in zip(own, behind, strict=True)] for row in rows],
        right=[right[i] for i in own],
        groups=["" if group is None else row[group] for row in rows],
    )


def table(
    name: str,
    title: str,
    note: str,
    content: Arranged,
    left_out: Sequence[str] = (),
    best: Sequence[bool] = (),
) -> str:
    """A table with its caption, to be read into a paper; across both columns where it is wide.

    Args:
        name: Its label is made of this.
        title: What the list of tables shows, and the caption begins with.
        note: What else the caption says; may be empty.
        content: Its cells.
        left_out: Headings of columns that are not in it.
        best: For each row, whether it is set in bold; none where empty.
    """
    short = escape(title)
    whole = ". ".join(text for text in (short, escape(note)) if text)
    caption = rf"\caption[{short}]{{{whole}}}"
    mark = rf"\label{{{label(name)}}}"
    columns = "{@{}" + "".join("r" if to_right else "l" for to_right in content.right) + "@{}}"
    head, body = _line(map(escape, content.headings)), list(_body(content, best))
    top = [r"\toprule", head, r"\midrule"]
    is_long = len(content.rows) > LONG
    first = "% Needs \\usepackage{booktabs, longtable}." if is_long else NEEDS
    lines = [first]
    if left_out:
        lines.append(f"% Only in the CSV: {', '.join(map(escape, left_out))}.")
    if is_long:
        lines += [
            rf"\begin{{longtable}}{columns}",
            rf"{caption} {mark} \\",
            *top,
            r"\endfirsthead",
            *top,
            "\\endhead\n\\bottomrule\n\\endfoot",
            *body,
            r"\end{longtable}",
        ]
    else:
        kind = "table" if content.width <= COLUMN else "table*"
        lines += [
            rf"\begin{{{kind}}}[t]",
            f"\\centering\\small\\setlength{{\\tabcolsep}}{{{GAP / 2:g}pt}}",
            caption,
            mark,
            rf"\begin{{tabular}}{columns}",
            *top,
            *body,
            "\\bottomrule\n\\end{tabular}",
            rf"\end{{{kind}}}",
        ]
    return "\n".join(lines) + "\n"


def _line(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"


def _body(content: Arranged, best: Sequence[bool]) -> Iterator[str]:
    """The lines of the rows, with one of its own where another group begins."""
    under = ""
    for i, (row, group) in enumerate(zip(content.rows, content.groups, strict=True)):
        if group != under:
            under = group
            yield rf"\multicolumn{{{len(row)}}}{{@{{}}l@{{}}}}{{\emph{{{escape(group)}}}}} \\"
        cells = [escape(text) for text in row]
        if best and best[i]:
            cells = [rf"\textbf{{{cell}}}" if at < 2 else cell for at, cell in enumerate(cells)]
        yield _line(cells)
