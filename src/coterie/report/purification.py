"""How pure the images are that PCP keeps, beside all images of the same clusters; with labels, over the epochs."""

from coterie.report.charts import Lines, Spot, draw_lines
from coterie.report.wording import accuracy

STAGE = "purification"  # in history.jsonl
Rows = list[tuple[int, list[float]]]  # (epoch, [purity of all, of the kept])


def charts(stage: str, purity: Rows) -> list[Lines]:
    """The purity of both in one chart; none in other stages and before evaluate."""
    if stage != STAGE or not purity:
        return []
    epoch, (everyone, kept) = purity[-1]
    spots = [
        Spot("chosen", f"kept images: {accuracy(kept)} at epoch {epoch}", epoch, 1),
        Spot("oracle", f"all images of the same clusters: {accuracy(everyone)}", epoch, 0),
    ]
    note = "Share of images of the most frequent class of their cluster, against the true labels, which the run never saw."
    return [draw_lines("Purity", note, purity, spots, accuracy)]
