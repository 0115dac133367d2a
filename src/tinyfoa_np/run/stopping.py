"""Early stopping: end a layer's training after epochs without a lower error."""

from __future__ import annotations

from math import inf

from .events import Event


class Patience:
    """Count the epochs without a lower error."""

    def __init__(self, epochs: int) -> None:
        self.epochs, self.best, self.since = epochs, inf, 0

    def ends(self, error: float) -> bool:
        """Whether this is the last epoch."""
        self.since = 0 if error < self.best else self.since + 1
        self.best = min(self.best, error)
        return self.since >= self.epochs


class Watch:
    """Listener of a training: prints its epochs, and stops it early."""

    def __init__(self, stopping: bool, patience: int, verbose: bool) -> None:
        self.stopping, self.epochs, self.verbose = stopping, patience, verbose
        self.layer, self.patience = -1, Patience(patience)

    def __call__(self, event: Event) -> bool:
        if event.kind != "epoch":
            return False
        error = event.test_error_pct
        if self.verbose:
            tested = "" if error is None else f", error on eval_set {error:.2f} %"
            print(
                f"layer {event.layer + 1}, epoch {event.epoch + 1}: loss {event.loss:.4f}, "
                f"training error {event.train_error_pct:.2f} %{tested}"
            )
        if not self.stopping or error is None:
            return False
        if event.layer != self.layer:
            self.layer, self.patience = event.layer, Patience(self.epochs)
        return self.patience.ends(error)
