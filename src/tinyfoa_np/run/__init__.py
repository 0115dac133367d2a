"""Training runs: the loop, the directory of a run, what a finished run holds, several runs at a time."""
