"""Golden trajectories of the algorithms that train whole networks, by the compiled kernels in an arena."""

import re
import tempfile
from pathlib import Path

import numpy as np
from network_tools import Network

from tinyfoa_np.layers.encoding import Encoding
from tinyfoa_np.recipe import Recipe
from tinyfoa_np.reference import bits
from tinyfoa_np.storage.flash import Flash


class Run(Network):
    """A golden file's network, with what comes out of it under the file's names."""

    def __init__(self, golden, flash, patch):
        self.golden, self.patch, self.ours = golden, patch, {}
        self.samples, self.classes = len(golden.batches[0][1]), self._classes()
        inputs = Encoding("real", golden.batches[0][0].shape[1])
        super().__init__(self._recipe().validated(), inputs, self.classes, len(golden.batches), flash)
        self._start(golden.all("W"), golden.all("b"), golden.arrays.get("C"))

    def _classes(self):
        arrays, top = self.golden.arrays, len(self.golden.all("W")) - 1
        return len(arrays["C"]) if "C" in arrays else len(arrays[f"W{top}"])

    def _recipe(self):
        meta, weights = self.golden.meta, self.golden.all("W")
        hidden = weights if meta["system"] == "ff" else weights[:-1]
        options = {}
        if meta["system"] == "bp":
            schedule = meta["vertical"]
            hold = None if schedule == "none" else "1"  # every golden trajectory moves on after each step
            options = {"schedule": schedule, "slices": 1 if schedule == "none" else meta["M"], "hold": hold}
            options["optimizer"] = next(name for name in ("momentum", "adam", "sgd") if name in meta["optimizer"])
        if meta["system"] == "drtp":
            options["optimizer"] = "nesterov"
        if meta["system"] == "pepita":
            options["dropout"] = float(1 - 1 / max(1, self.golden.arrays["masks"].max()))
        if meta["system"] == "ff":
            options["classifier_lr"] = meta["lr_classifier"]
        if "fa" in meta["system"]:
            options["optimizer"] = next(name for name in ("nesterov", "adam") if name in meta["optimizer"])
            own = {"hidden": meta["hidden"], "loss": "logistic" if meta["loss"] == "bce" else "softmax"}
            if meta["system"] == "fa":
                own["feedback"] = "unmasked" if meta["feedback_mask"] == "wrapper" else "masked"
            else:
                own["signal"] = "sign" if meta["system"] == "sdfa" else "error"
            options["options"] = own
        return Recipe(
            algorithm=meta["system"].removeprefix("s"),
            network="fc:" + ",".join(str(len(W)) for W in hidden),
            lr=meta["lr"],
            epochs=1,
            batch=self.samples,
            **self.golden.toggles,
            **options,
        )

    def _start(self, weights, biases, classifier=None):
        """These parameters, in flash and in the arena."""
        parts = list(weights)
        if classifier is not None:
            ends = np.cumsum([0] + [len(W) for W in weights])
            parts += [classifier[:, a:b] for a, b in zip(ends, ends[1:])]
        self.start([(W, biases[k] if k < len(biases) else None) for k, W in enumerate(parts)])

    def steps(self):
        """Trains; yields the number and the outcome of each step."""
        for step, (X, labels) in enumerate(self.golden.batches):
            self.stage.inspect = self._note_gradient if step == 0 else None
            outcome = self.step(step, X, labels)
            assert not outcome.diverged
            yield step, outcome

    def _note_gradient(self, k, inputs, source, scratch):
        layer = self.stage.layers[k]
        number = layer.due(0)[0]
        layer.exchange(self.flash, number)
        rows = inputs.values.shape[0] if source.factor.size == 0 else source.factor.size
        samples = min(rows, self.samples * (2 if layer.rows > self.samples else 1))
        dW, db = layer.slice_gradient(self.flash, inputs, samples, lambda first, last: source, number, scratch)
        self.ours[f"gW{k}_step0"] = dW
        if layer.biased:
            self.ours[f"gb{k}_step0"] = db

    def end(self):
        """Notes weights and biases as they are now."""
        for k, (W, b) in enumerate(self.parameters()):
            self.ours[f"W{k}_end"] = W
            if self.stage.layers[k].biased:
                self.ours[f"b{k}_end"] = b


def run_networks(golden, patch):
    """Results of the kernels; ``patch`` is pytest's monkeypatch."""
    with tempfile.TemporaryDirectory() as folder, Flash.create(Path(folder) / "flash", "golden") as flash:
        run = Run(golden, flash, patch)
        SYSTEMS[golden.meta["system"]](run)
        return run.ours


def _bp(run):
    run.ours["loss"] = np.array([outcome.loss / run.samples for _, outcome in run.steps()])
    run.end()


def _drtp(run):
    found = {int(key[1:]): B for key, B in run.golden.arrays.items() if re.fullmatch(r"B\d+", key)}
    for k, B in found.items():  # of FA, B_k stands in for W_k, on the way to the layer below
        getattr(run.stage.ram, f"feedback{k - min(found)}")[:] = B.T
    outputs, stage, compute = [], run.stage, run.stage._output
    logits = run.golden.meta.get("loss") == "ce"

    def output(samples, given):
        compute(samples, given)
        z = stage.ram.z[: run.classes, :samples].T.astype(np.float64)
        q = np.where(z >= 0, stage.s, -stage.s) if stage.binary else z
        outputs.append(q if logits else 1 / (1 + np.exp(-q)))

    run.patch.setattr(stage, "_output", output)
    run.ours["loss"] = np.array([outcome.loss / run.samples for _, outcome in run.steps()])
    run.ours["out_step0"] = outputs[0]
    run.end()
    if "out_last_batch" in run.golden.expected:
        run._start(*zip(*run.golden.layers_at_end))
        run.load(*run.golden.batches[-1])
        run.arena.enter("evaluate")
        stage.infer(run.samples, None)
        run.ours["out_last_batch"] = outputs[-1]


def _pepita(run):
    golden, stage, outputs = run.golden, run.stage, []
    stage.ram.feedback[:] = golden.arrays["F"]

    def draw(k, width, samples, step, first):
        mask = getattr(stage.ram, f"mask{k}")
        if not mask.size:
            return np.zeros((0, 0), np.uint64)
        mask[:] = bits.pack(golden.arrays["masks"][step, k] > 0)
        return mask

    def error(samples, of=None):
        done = first(samples, of)
        one_hot = np.eye(run.classes, dtype=np.float32)[stage.ram.labels[:samples]]
        outputs.append((stage.ram.error[:, :samples] * samples).T + one_hot)
        return done

    first = stage._error
    run.patch.setattr(stage, "dropout_mask", draw)
    run.patch.setattr(stage, "_error", error)
    run.ours["mse"] = np.array([outcome.loss / run.samples for _, outcome in run.steps()])
    run.ours["out_step0"] = outputs[0]
    for key in [key for key in run.ours if re.fullmatch(r"gW\d+_step0", key)]:
        run.ours["d" + key[1:]] = -run.samples * run.ours.pop(key)  # the direction of ascent, summed over the batch
    run.end()


def _ff(run):
    golden, stage = run.golden, run.stage

    def draw(samples, step):
        stage.ram.wrong[:] = golden.arrays["y_neg"][step]
        return stage.ram.wrong

    run.patch.setattr(stage, "draw", draw)
    run.ours["losses"] = np.array([list(stage.losses) for _ in run.steps()])
    run.end()
    for name, there in (("g{}_step0", "gW{}_step0"), ("{}_end", "W{}_end")):
        parts = [run.ours.pop(there.format(stage.top + k)) for k in range(stage.top)]
        run.ours[name.format("C")] = np.concatenate(parts, axis=1)
    # goodness from the golden end state, which our own may differ from by more than 1e-5
    end = golden.layers_at_end
    run._start([layer.W for layer in end], [layer.b for layer in end], golden.arrays["C"])
    run.load(*golden.batches[-1])
    run.arena.enter("evaluate")
    stage.infer(run.samples, None)
    run.ours["goodness_last_batch"] = stage.ram.scores[:, : run.samples].T.copy()


SYSTEMS = {"bp": _bp, "drtp": _drtp, "dfa": _drtp, "sdfa": _drtp, "fa": _drtp, "pepita": _pepita, "ff": _ff}
