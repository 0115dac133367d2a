"""Storage that survives a power cut: the store of a run, batches in it, and files that are written atomically."""
