"""`python -m coterie`, where the command is not on the PATH."""

from coterie.cli import main

main()
