"""How many kinds there are, where the fit counted them: a figure of every number that was tried, and a sentence."""

from typing import Any, NamedTuple

from coterie.report.charts import Lines, Spot, draw_lines
from coterie.report.data import tried


class HowMany(NamedTuple):
    sentence: str
    chart: Lines


def how_many(config: dict[str, Any]) -> HowMany | None:
    """None where the number was given, or could be no other."""
    rows = tried(config)
    if not rows:
        return None
    k, low, high = (config["clusters"][name] for name in ("k", "low", "high"))
    span = f"the numbers from {rows[0][0]} to {rows[-1][0]} were tried" if len(rows) > 1 else f"{rows[0][0]} was tried"
    if k == 1:
        ending = "but with none are the groups clearer than chance would make them, so these look like pictures of one kind."
    else:
        others = f" By other ways of counting it could be {low} to {high}." if low < high else " No other number comes near."
        ending = f"and with {k} the pictures form the clearest groups, which come again when some of the pictures are left out.{others}"
    sentence = f"You left open how many kinds there are. So {span}, {ending} Your eyes may know better: these are groups that look alike."
    scores = dict(rows)
    spots = [Spot("chosen", f"chosen: {k} kinds", k, 0)] if k in scores else []
    note = "How clear the groups are, and how surely they come again; higher is better. No label is in it."
    return HowMany(sentence, draw_lines("Number of kinds", note, rows, spots, "{:.2f}".format))
