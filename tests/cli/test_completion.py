"""What a shell is told when Tab is pressed."""

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize("words, wanted", [("coterie exp", {"export"}), ("coterie re", {"recut", "refine", "report", "review"})])
def test_verbs_are_completed(words, wanted):
    asked = {"_COTERIE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": "1"}
    program = "import sys; sys.argv[0] = 'coterie'; from coterie.cli import main; main()"
    found = subprocess.run([sys.executable, "-c", program], env={**os.environ, **asked}, capture_output=True, text=True, check=False)
    assert set(found.stdout.split()) == wanted, found.stderr
