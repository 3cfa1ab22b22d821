"""Numbers, times and lists as texts: how tables, sentences, figures and the page show them."""

from __future__ import annotations

import datetime


def moment(text: str) -> str:
    """A time in ISO format as a person reads it; anything else as it is."""
    try:
        when = datetime.datetime.fromisoformat(text)
    except ValueError:
        return text
    return when.strftime("%Y-%m-%d %H:%M:%S UTC")
