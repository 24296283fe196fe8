"""`coterie predict MODEL.onnx`: the answer of a process that needs no torch."""

from pathlib import Path

from coterie.cli import shown
from coterie.cli.app import answer


def answer_with(model: Path, source: str, output: Path, threads: int | None, as_json: bool) -> None:
    """Sorts, writes the table, says what was done. The files that cannot be read are said, as by a run."""
    from coterie.fitting.exported import Exported
    from coterie.run.lines import check_table_name

    check_table_name(output)
    found = Exported(model, threads).predict(source)
    found.write(output)
    shown.say_aside(found.problems)
    done = {"model": str(model), "output": str(output), "n_images": len(found.paths), "n_problems": len(found.problems)}
    answer(done, as_json, f"{len(found.paths):,} images, written to {output}")
