"""The command, called in this process."""

import signal
import sys

import pytest

from coterie.cli import verbs


@pytest.fixture
def coterie(monkeypatch, capsys, tmp_path):
    """(words) -> (exit status, stdout, stderr) of the command in this process."""
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGTERM)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["coterie", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            verbs.main()
        return end.value.code or 0, *capsys.readouterr()

    yield run
    signal.signal(signal.SIGTERM, before)
