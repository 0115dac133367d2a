"""Golden trajectories of further forward-only rules, by the plain NumPy reference: see test_golden.py."""

import json

import numpy as np
import pytest
from golden_files import golden_files

from tinyfoa_np.reference import biofo, cwcomp, deeperforward, feedback, lightff, monoforward, pepita_tl
from tinyfoa_np.reference.dense import Layer
from tinyfoa_np.reference.tinyfoa import forward, logits


def read(path):
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files}
    return json.loads(str(arrays.pop("meta"))), arrays


def toggles(meta):
    return {name: bool(meta[name]) for name in ("binary_weights", "binary_activations")}


def numbered(arrays, name):
    count = sum(key.removeprefix(name).isdigit() and key.startswith(name) for key in arrays)
    return [arrays[f"{name}{k}"] for k in range(count)]


def run_biofo(meta, arrays):
    X, labels = arrays["x"], arrays["y"]
    ours, convolutional = {}, meta["network"] == "cnn"
    for k, (W, b, P) in enumerate(zip(*(numbered(arrays, name) for name in "WbB"))):
        batches = list(zip(X, labels))
        if convolutional:
            Pb, pooled = arrays[f"Bb{k}"], meta["pool"][k]
            done = biofo.train_map(batches, W, b, P, Pb, pooled=pooled, lr=meta["lr"])

            def answers(X, W, b, P=P, Pb=Pb, pooled=pooled):
                return logits(biofo.forward_map(X, W, b, pooled)[1].reshape(len(X), -1), P) + Pb

            handed = [biofo.forward_map(x, done.W, done.b, pooled)[1] for x in X]
        else:
            done = biofo.train_layer(batches, W, b, P, lr=meta["lr"], **toggles(meta))

            def answers(X, W, b, P=P):
                return logits(forward(X, W, b, **toggles(meta))[1], P)

            handed = [forward(x, done.W, done.b, **toggles(meta))[1] for x in X]
        ours |= {f"gW{k}_step0": done.dW_first, f"gb{k}_step0": done.db_first, f"loss{k}": done.losses}
        ours |= {f"out{k}_step0": answers(X[0], W, b), f"out{k}_last_batch": answers(X[-1], done.W, done.b)}
        ours |= {f"W{k}_end": done.W, f"b{k}_end": done.b, f"h{k}_end": np.stack(handed)}
        X = arrays[f"h{k}_end"]  # not our own: Adam magnifies differences in the last bit
    return ours


def run_monoforward(meta, arrays):
    together = meta["schedule"] == "together"
    layers = [monoforward.Layer(*parts) for parts in zip(*(numbered(arrays, name) for name in "WbP"))]
    batches = list(zip(arrays["x"], arrays["y"]))
    done = monoforward.train(batches, layers, together=together, lr=meta["lr"], **toggles(meta))
    if not together:  # each layer from the golden outputs of the one below
        parts = []
        for k, layer in enumerate(layers):
            inputs = arrays["x"] if k == 0 else arrays[f"h{k - 1}_end"]
            parts.append(monoforward.train(list(zip(inputs, arrays["y"])), [layer], lr=meta["lr"], **toggles(meta)))
        done = monoforward.Trained(
            [part.layers[0] for part in parts],
            np.concatenate([part.losses for part in parts], axis=1),
            [part.first[0] for part in parts],
            [part.outputs[0] for part in parts],
        )
    ours, first_inputs = {}, arrays["x"][0]
    for k, layer in enumerate(layers):
        if not together and k > 0:
            first_inputs = arrays[f"h{k - 1}_end"][0]
        h = forward(first_inputs, layer.W, layer.b, **toggles(meta))[1]
        ours[f"out{k}_step0"] = logits(h, layer.M)
        first_inputs = h
    for k, (layer, slopes) in enumerate(zip(done.layers, done.first)):
        ours |= {f"{name}{k}_end": w for name, w in zip("WbP", layer)}
        ours |= {f"g{name}{k}_step0": w for name, w in zip("WbP", slopes)}
        ours[f"loss{k}"] = done.losses[:, k]
        if not together:
            ours[f"h{k}_end"] = np.stack(done.outputs[k])
    ends = [monoforward.Layer(*(arrays[f"{name}{k}_end"] for name in "WbP")) for k in range(len(layers))]
    goodness = monoforward.class_goodness(arrays["x"][-1], ends, **toggles(meta))
    ours |= {f"goodness{k}_last_batch": G for k, G in enumerate(goodness)}
    return ours | {"goodness_last_batch": np.sum(goodness, axis=0)}


def run_pepita(meta, arrays):
    batches, weights = list(zip(arrays["x"], arrays["y"])), numbered(arrays, "W")
    rates = {"lr": meta["lr"], "decay": meta["weight_decay"]}
    masks = arrays.get("masks")
    ours = {}
    if meta["system"] == "pepita_tl":
        done = pepita_tl.train(batches, weights, arrays["B"], masks, **rates)
        for number, slopes in enumerate(done.first, 1):
            ours |= {f"gW{k}_step0_pass{number}": g for k, g in enumerate(slopes)}
        ours |= {f"W{k}_step0_between": W for k, W in enumerate(done.between)}
    else:
        noise = list(zip(*numbered(arrays, "noise")))
        mirror = {"deviation": meta["Bstd"], "mirror_lr": meta["wmlr"], "mirror_decay": meta["wmwd"]}
        done = pepita_tl.train_mirrored(batches, weights, numbered(arrays, "B"), noise, masks, **rates, **mirror)
        ours |= {f"gW{k}_step0_pass2": g for k, g in enumerate(done.first[0])}
        ours |= {f"gB{k}_step0": g for k, g in enumerate(done.first[1])}
        ours |= {f"B{k}_end": F for k, F in enumerate(done.feedback)}
    ends = [arrays[f"W{k}_end"] for k in range(len(weights))]
    ours |= {"out_step0": done.outputs, "loss": done.losses}
    ours["out_last_batch"] = pepita_tl.forward(arrays["x"][-1], ends)[-1]
    return ours | {f"W{k}_end": W for k, W in enumerate(done.weights)}


CWCOMP = "W", "b", "bn_weight", "bn_bias", "bn_mean", "bn_var"


def run_cwcomp(meta, arrays):
    layers = [cwcomp.Layer(*parts) for parts in zip(*(numbered(arrays, name) for name in CWCOMP))]
    rates = {"lr": meta["lr"], "predictor_lr": meta["lr_softmax"]}
    done = cwcomp.train(
        list(zip(arrays["x"], arrays["y"])),
        layers,
        (arrays["S"], arrays["Sb"]),
        meta["classes"],
        windows=meta.get("windows"),
        **rates,
    )
    ours = {"losses": done.losses, "gS_step0": done.first_predictor[0], "gSb_step0": done.first_predictor[1]}
    ours |= {"S_end": done.predictor[0], "Sb_end": done.predictor[1]}
    for k, (layer, slopes) in enumerate(zip(done.layers, done.first)):
        ours |= {f"{name}{k}_end": w for name, w in zip(CWCOMP, layer)} | {f"h{k}_step0": done.first_passes[k]}
        if slopes is not None:
            ours |= {f"g{name}{k}_step0": g for name, g in zip(CWCOMP[:4], slopes)}
            ours[f"goodness{k}_step0"] = cwcomp.class_goodness(done.first_passes[k], meta["classes"])
    ends = [cwcomp.Layer(*(arrays[f"{name}{k}_end"] for name in CWCOMP)) for k in range(len(layers))]
    goodness, p = cwcomp.infer(arrays["x"][-1], ends, (arrays["S_end"], arrays["Sb_end"]), meta["classes"])
    return ours | {f"goodness{k}_last_batch": G for k, G in enumerate(goodness)} | {"sf_last_batch": p}


def run_deeperforward(meta, arrays):
    units = []
    if meta["network"] == "resnet":
        about = meta["layers"]
        for (_, _, _, stride, _), *rest in zip(*(about[key] for key in ("layers", "shortcut", "keep", "halve_kept"))):
            units.append(deeperforward.Unit(stride, False, *rest))
    else:
        pooled = False
        for kind, *rest in meta["layers"]:
            if kind == "conv":
                units.append(deeperforward.Unit(rest[3], pooled))
            pooled = kind == "avgpool"
    batches, weights, C = list(zip(arrays["x"], arrays["y"])), numbered(arrays, "W"), meta["classes"]
    done = deeperforward.train(batches, weights, units, C, lr=meta["lr"], decay=meta["weight_decay"])
    ours = {"losses": done.losses}
    for k, (W, slope, G) in enumerate(zip(done.weights, done.first, done.first_goodness)):
        ours |= {f"W{k}_end": W, f"gW{k}_step0": slope, f"goodness{k}_step0": G}
    ends = [arrays[f"W{k}_end"] for k in range(len(weights))]
    total = deeperforward.infer(arrays["x"][-1], ends, units, C, meta["start_layer"], meta["end_layer"])
    return ours | {"goodness_last_batch": total}


def run_lightff(meta, arrays):
    layers = [Layer(W, b) for W, b in zip(numbered(arrays, "W"), numbered(arrays, "b"))]
    one_pass, classes = meta["system"] == "lightff_op", arrays["score_test"].shape[2]

    def scores(X):
        if one_pass:
            return lightff.one_pass_scores(X, layers, numbered(arrays, "C"), classes)
        return lightff.multi_pass_scores(X, layers, classes)

    train, test = scores(arrays["x_train"]), scores(arrays["x_test"])
    ours = {"score_train": train, "score_test": test}
    ours["mean"], ours["std"] = known = lightff.thresholds(train, arrays["y_train"])
    ours["exit_published"], answers = lightff.exits(test, *known, labels=arrays["y_test"])
    ours["correct_published"] = answers == arrays["y_test"]
    ours["mean_free"], ours["std_free"] = known = lightff.thresholds(train, arrays["y_train"], one_pass)
    ours["exit_free"], ours["answer_free"] = lightff.exits(test, *known, probabilities=one_pass)
    return ours


def run_feedback(meta, arrays):
    layers = [Layer(W, b) for W, b in zip(numbered(arrays, "W"), numbered(arrays, "b"))]
    matrices = [arrays.get(f"B{k}") for k in range(len(layers))]
    options = {"relu": meta.get("hidden") == "relu", "sigmoid": meta["loss"] == "bce"}
    options |= toggles(meta) if meta["network"] == "fc" else {}
    trained, output = feedback.train(
        list(zip(arrays["x"], arrays["y"])),
        layers,
        matrices,
        meta["system"],
        lr=meta["lr"],
        optimizer=next(name for name in ("nesterov", "adam") if name in meta["optimizer"]),
        masked=meta.get("feedback_mask") != "wrapper",
        **options,
    )
    ours = {"out_step0": output, "loss": trained.losses}
    for k, (slope, layer) in enumerate(zip(trained.first, trained.layers)):
        ours |= {f"gW{k}_step0": slope.W, f"gb{k}_step0": slope.b, f"W{k}_end": layer.W, f"b{k}_end": layer.b}
    if "out_last_batch" in arrays:
        ends = [Layer(arrays[f"W{k}_end"], arrays[f"b{k}_end"]) for k in range(len(layers))]
        ours["out_last_batch"] = feedback.forward(arrays["x"][-1], ends, **options)[-1].h
    return ours


RUNS = {
    "biofo": run_biofo,
    "monoforward": run_monoforward,
    "pepita_tl": run_pepita,
    "pepita_wm": run_pepita,
    "fa": run_feedback,
    "dfa": run_feedback,
    "sdfa": run_feedback,
    "cwcomp": run_cwcomp,
    "deeperforward": run_deeperforward,
    "lightff_mp": run_lightff,
    "lightff_op": run_lightff,
}
#: what a file gives, and does not expect back
GIVEN = {
    "x",
    "y",
    "masks",
    "S",
    "Sb",
    "B",
    "x_train",
    "y_train",
    "x_test",
    "y_test",
    "layers",
    "noise0",
    "noise1",
    "noise2",
}
PATHS = [path for path in golden_files() if read(path)[0].get("system") in RUNS or path.stem.startswith("drtp_conv")]


def is_given(key):
    return key in GIVEN or key.rstrip("0123456789") in {"W", "b", "B", "Bb", "P", "C", *CWCOMP} and key[-1].isdigit()


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_golden(path):
    meta, arrays = read(path)
    ours = RUNS.get(meta["system"], run_feedback)(meta, arrays)
    expected = {key: array for key, array in arrays.items() if not is_given(key)}
    assert set(ours) == set(expected)
    for key, theirs in expected.items():
        if theirs.dtype.kind in "iub":
            np.testing.assert_array_equal(ours[key], theirs, key)
            continue
        tolerance = 2e-4 if "_end" in key else 1e-5
        assert ours[key].shape == theirs.shape and np.array_equal(np.isnan(ours[key]), np.isnan(theirs)), key
        worst = np.nanmax(np.abs(ours[key].astype(np.float64) - theirs))
        assert worst <= tolerance * np.nanmax(np.abs(theirs)), f"{key} is off by {worst:.2e}"
