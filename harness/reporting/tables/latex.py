"""Text and tables for LaTeX: booktabs, every sign escaped, plain text left of no command.

By hand, for what pandas' ``Styler.to_latex`` escapes are ten ASCII signs: a cell that begins with
``[`` would still be an argument of the line break above it, ``<`` be printed as an inverted
exclamation mark, ``--`` as a dash and ``∞`` stop the compiler. Of a table that breaks across pages
it repeats the whole caption, which here explains every column, on each page.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

LONG = 40
"""Rows beyond which a table may break across pages."""

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
"""What stands for a sign; every other sign stands for itself. The page's script has them too."""

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


def table(
    name: str,
    title: str,
    note: str,
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    right: Sequence[bool],
) -> str:
    """A table with its caption, to be read into a paper.

    Args:
        name: Its label is made of this.
        title: What the list of tables shows, and the caption begins with.
        note: What else the caption says; may be empty.
        headings: Plain text, one per column.
        rows: Plain text, as many cells in each.
        right: For each column, whether it is set to the right.
    """
    short = escape(title)
    told = ". ".join(text for text in (short, escape(note)) if text)
    caption = rf"\caption[{short}]{{{told}}}"
    mark = rf"\label{{{label(name)}}}"
    columns = "{" + "".join("r" if to_right else "l" for to_right in right) + "}"
    head, *body = [" & ".join(map(escape, row)) + r" \\" for row in (headings, *rows)]
    top = [r"\toprule", head, r"\midrule"]
    if len(rows) > LONG:
        lines = [
            r"% Needs \usepackage{booktabs, longtable}.",
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
        lines = [
            "% Needs \\usepackage{booktabs}.\n\\begin{table}[t]\n\\centering",
            caption,
            mark,
            rf"\begin{{tabular}}{columns}",
            *top,
            *body,
            "\\bottomrule\n\\end{tabular}\n\\end{table}",
        ]
    return "\n".join(lines) + "\n"
