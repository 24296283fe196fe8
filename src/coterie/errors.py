"""The one kind of error a user can mend."""


class InputError(ValueError):
    """Something the user gave cannot work; the message says what, and what to do.

    The command line prints it as one line `coterie: error: ...` and exits with status 2. Any other exception is a defect of ours.
    """
