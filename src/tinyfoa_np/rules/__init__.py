"""One file per algorithm, each declaring its own regions and reading like its paper's equations."""
