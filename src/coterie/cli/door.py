"""The door of the command line: signals, errors and exit statuses, whatever the verb.

Exit status: 0 done; 2 the user can mend it; 1 a defect of ours, with its traceback; 130 interrupted, 143 terminated, with the state kept.
"""

import errno
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from coterie.errors import InputError, RankLost, printable

REFUSED, INTERRUPTED, TERMINATED = 2, 130, 143
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)  # what is wrong with a disk that its owner can mend


class Terminated(BaseException):
    """SIGTERM came; as KeyboardInterrupt, so that it passes every `except Exception`."""


def enter(verb: Callable[[], Any], usage_error: Any, abort: type[BaseException]) -> None:
    """Runs the verb of the command line, turns what a user can mend into one line, and ends the process.

    `usage_error` (with .format_message()) and `abort` are what the command line's library raises for unreadable words and for Ctrl-C.
    """
    signal.signal(signal.SIGTERM, _terminate)
    # Threads of torch that wait for each other spin a third of a million rounds by default, which on a busy machine stalls everybody.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    try:
        status = verb()
        if status == INTERRUPTED:  # typer may have caught Ctrl-C itself
            raise KeyboardInterrupt
        sys.exit(status)
    except usage_error as error:
        _refuse(error.format_message() or "what should be done? coterie --help")
    except RankLost as error:
        _say(str(error))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(REFUSED)  # the interpreter would end threads that wait for the lost rank, and C++ aborts a process for that
    except InputError as error:
        _refuse(str(error))
    except OSError as error:
        if error.errno not in DISK:
            raise
        _refuse(f"{error.strerror}: {error.filename or 'the disk'}; free some space or choose another folder")
    except (KeyboardInterrupt, abort):
        _leave("interrupted", INTERRUPTED)
    except Terminated:
        _leave("terminated", TERMINATED)


def _terminate(number: int, frame: Any) -> None:
    raise Terminated


def _leave(word: str, status: int) -> None:
    print(f"coterie: {word}; the state is kept, the same command continues", file=sys.stderr)
    sys.exit(status)


def _refuse(text: str) -> None:
    _say(text)
    sys.exit(REFUSED)


def _say(text: str) -> None:
    print("coterie: error: " + printable(" ".join(text.split())), file=sys.stderr)
