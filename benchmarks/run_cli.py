"""The command line as a benchmark calls it: a new process, its --json answer."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def coterie(*words: object) -> dict[str, Any]:
    """The JSON answer of `coterie WORDS --json`; raises when it fails. Progress goes to this process's stderr."""
    program = Path(sys.executable).with_name("coterie")
    answer = subprocess.run([program, *map(str, words), "--json"], stdout=subprocess.PIPE, check=True)
    return json.loads(answer.stdout)
