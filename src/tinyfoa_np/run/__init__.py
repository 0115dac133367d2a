"""Training runs: the loop, the run directory, results of a finished run, and parallel runs."""
