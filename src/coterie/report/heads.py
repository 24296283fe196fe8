"""The heads of one stage beside each other: which one the run chose without labels, and which one the labels would have chosen.

H heads, numbered from 0 as in history.jsonl; so are epochs.
"""

from dataclasses import dataclass
from typing import NamedTuple

from coterie.report.charts import Lines, Spot, draw_lines
from coterie.report.data import Stage
from coterie.report.wording import accuracy

MOST_ROWS = 20  # heads of the table; more are no longer read one by one
Rows = list[tuple[int, list[float]]]  # (epoch, value of each head)


class Row(NamedTuple):
    """One head at the last epoch; role: chosen, oracle or other."""

    head: int
    role: str
    loss: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Heads:
    """charts: of the label-free loss and of the accuracy, where there is one; rows: at the last epochs, by loss, empty for many heads.

    epochs: the last one of the loss and of the accuracy, which is not traced at every epoch; chosen: accuracy of the choice, or None.
    """

    n: int
    charts: list[Lines]
    rows: list[Row]
    epochs: tuple[int | None, int | None]
    chosen: float | None


def compare(stage: Stage, accuracies: Rows) -> Heads | None:
    """None when the stage has no scores and not several heads. accuracies: [] before evaluate; left out when of another number of heads."""
    scores = stage.scores
    n = len((scores or accuracies or [(0, [])])[0][1])
    if not scores and n < 2:
        return None
    accuracies = [row for row in accuracies if len(row[1]) == n]
    chosen = stage.chosen if stage.chosen and stage.chosen[1] < n else None
    spots = _by_labels(accuracies, chosen) if accuracies else []
    charts = []
    if scores:
        note = "What the run chooses by: the lowest score of any head at any epoch. No label is in it."
        charts.append(draw_lines("Label-free score", note, scores, _by_loss(scores, chosen), loss))
    if accuracies:
        note = "Against the true labels, which the run never saw. The oracle shows how much a better choice could gain; no run can make it."
        charts.append(draw_lines("Accuracy", note, accuracies, spots, accuracy))
    roles = {spot.curve: spot.role for spot in reversed(spots)} | ({chosen[1]: "chosen"} if chosen else {})
    last = [rows[-1] if rows else (None, [None] * n) for rows in (scores, accuracies)]
    rows = [Row(head, roles.get(head, "other"), last[0][1][head], last[1][1][head]) for head in range(n)]
    rows.sort(key=lambda row: (row.loss or 0.0, -(row.accuracy or 0.0)))
    kept = dict(accuracies)[spots[0].epoch][spots[0].curve] if spots and chosen else None
    return Heads(n, charts, rows if n <= MOST_ROWS else [], (last[0][0], last[1][0]), kept)


def loss(value: float) -> str:
    """Heads differ in the third decimal."""
    return f"{value:.3f}".replace("-", "\u2212")


def _by_loss(scores: Rows, chosen: tuple[int, int] | None) -> list[Spot]:
    if chosen is None or chosen[0] not in dict(scores):
        return []
    epoch, head = chosen
    return [Spot("chosen", f"chosen: head {head} at epoch {epoch}, score {loss(dict(scores)[epoch][head])}", epoch, head)]


def _by_labels(accuracies: Rows, chosen: tuple[int, int] | None) -> list[Spot]:
    """The choice of the run, if it is known, and the best head and epoch, unless that is the choice."""
    spots, value, ending = [], None, ""
    best = max(value for _, row in accuracies for value in row)
    if chosen is not None:
        epoch, head = min((epoch for epoch, _ in accuracies), key=lambda epoch: abs(epoch - chosen[0])), chosen[1]
        value = dict(accuracies)[epoch][head]
        when = f"epoch {epoch}" if epoch == chosen[0] else f"epoch {epoch}, the nearest kept"
        ending = "; the oracle, the best by labels, is no better" if value == best else ""
        spots.append(Spot("chosen", f"chosen without labels: head {head} at {when}, {accuracy(value)}{ending}", epoch, head))
    if value != best:
        epoch, head = next((epoch, row.index(best)) for epoch, row in accuracies if best in row)
        spots.append(Spot("oracle", f"oracle, the best by labels: head {head} at epoch {epoch}, {accuracy(best)}", epoch, head))
    return spots
