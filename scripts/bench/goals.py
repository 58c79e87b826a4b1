"""Targets of rows: "times >= 5" of the ratio, "ours <= 2.5" of our own number, several with commas."""

from __future__ import annotations

import operator
from dataclasses import replace

from .measure import Row

COMPARE = {">=": operator.ge, "<=": operator.le, "<": operator.lt}


def is_met(row: Row) -> bool | None:
    """Whether a row reaches all of its targets; None where it has none or was not measured."""
    if not row.goal or row.ours is None:
        return None
    return all(_met(row, *goal.split()) for goal in row.goal.split(","))


def _met(row: Row, what: str, sign: str, number: str) -> bool:
    value = {"times": row.ratio, "ours": row.ours}[what]
    return value is not None and COMPARE[sign](value, float(number))


def in_words(row: Row) -> str:
    """The targets and whether they are reached, for the table."""
    met = is_met(row)
    if met is None:
        return row.goal
    always = row.low is None or all(is_met(replace(row, ratio=ratio)) for ratio in (row.low, row.high))
    reached = "reached" if always else "reached by the median, not by every pair"
    return f"{row.goal}: {reached if met else '**not reached**'}"
