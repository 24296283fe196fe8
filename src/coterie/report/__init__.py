"""One self-contained page about a finished run. No torch: the run folder is all it reads."""
