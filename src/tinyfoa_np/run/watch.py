"""Listen to a training: print its epochs, and stop it early."""

from __future__ import annotations

from .events import Event


class Watch:
    """Listener for :func:`.train.train`: prints epochs, and stops a layer once its test error no longer falls.

    Parameters
    ----------
    stopping : bool
    patience : int
        Number of epochs without a lower error after which a layer stops.
    verbose : bool
        Whether to print each epoch.
    """

    def __init__(self, stopping: bool, patience: int, verbose: bool) -> None:
        self.stopping, self.patience, self.verbose = stopping, patience, verbose
        self.layer, self.best, self.since = -1, float("inf"), 0

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
            self.layer, self.best, self.since = event.layer, float("inf"), 0
        self.since = 0 if error < self.best else self.since + 1
        self.best = min(self.best, error)
        return self.since >= self.patience
