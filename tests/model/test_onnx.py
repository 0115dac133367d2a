"""ONNX graphs of every rule and kind of network, in another runtime: the answers and scores of Python."""

import numpy as np
import pytest
from export_tools import CASE_NAMES, CASES, data_for, mixed, trained

from tinyfoa_np.model import export

pytest.importorskip("onnx", reason="onnx is not installed (extra onnx)")
runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra test)")

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")


def answered(ours, x):
    """Classes (N,) and scores (N, C) of the graph in ONNX's own runtime."""
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    content = export.export(ours, "onnx")["model.onnx"]
    session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return session.run(["class", "logits"], {"samples": x})


@pytest.mark.parametrize("number", range(len(CASES)), ids=CASE_NAMES)
def test_answers_and_scores_are_the_models_but_for_rounding(tmp_path, number):
    network, image, options = CASES[number]
    dataset = data_for(image, ("bytes", "real")[number % 2], 100 if network in ("resnet8", "dscnn") else 1000)
    ours = trained(tmp_path, network, dataset, **options)
    x = mixed(dataset.test.inputs)
    classes, scores = answered(ours, x)
    wanted = ours.logits(x)
    size = np.abs(wanted).max()
    apart = np.abs(scores - wanted).max(axis=1) / size
    # a value within rounding of 0 may switch a bit on here and not there
    assert (apart < 1e-5).mean() >= (0.97 if ours.recipe.binary_activations else 1), apart.max()
    best = np.sort(wanted, axis=1)
    clear = (best[:, -1] - best[:, -2] > 1e-5 * size) & (apart < 1e-5)
    clear |= (scores == wanted).all(axis=1)  # of equal scores the first answers, there as here
    assert clear.mean() > 0.7 and (classes == ours.predict(x))[clear].all()
