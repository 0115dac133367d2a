"""Learning rules, one file per algorithm: each declares its own regions and follows its paper's equations."""
