"""What is seen while a run goes on, by who looks."""

import sys
from types import SimpleNamespace

from coterie.run import progress


class Handle:
    def __init__(self, shown):
        self.shown = shown

    def update(self, told, raw):
        self.shown.append(told["text/plain"])


def notebook(monkeypatch):
    """A kernel, as IPython has it; returns the states of the one output below the cell."""
    shown: list[str] = []

    def display(told, raw, display_id):
        assert raw and display_id
        shown.append(told["text/plain"])
        return Handle(shown)

    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=object())))
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display))
    return shown


def test_a_notebook_has_a_line_a_stage(monkeypatch):
    shown = notebook(monkeypatch)
    clock = iter(range(100))
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    display = progress.choose()
    assert isinstance(display, progress.Notebook)
    display.message("found 12 kinds")
    display.advance("pretext", 1, 3, "loss 2")
    display.advance("pretext", 3, 3)
    display.advance("heads", 1, 2)
    display.close()
    assert shown == [
        "found 12 kinds",
        "found 12 kinds\npretext: 1 of 3  loss 2",
        "found 12 kinds\npretext: done, 1.0 s",
        "found 12 kinds\npretext: done, 1.0 s\nheads: 1 of 2",
    ]


def test_it_is_not_drawn_at_each_step(monkeypatch):
    shown = notebook(monkeypatch)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: 5.0))
    display = progress.choose()
    for step in range(1000):
        display.advance("pretext", step, 1001)
    assert len(shown) == 1


def test_who_sees_what(monkeypatch):
    assert type(progress.choose(quiet=True)) is progress.Silent
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert type(progress.choose()) is progress.Plain and not progress.in_notebook()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: None))
    assert type(progress.choose()) is progress.Plain, "IPython was loaded, but this is no kernel"
