"""Weights of PyTorch: names, shapes and layouts, against a forward pass as PyTorch defines it, in plain NumPy."""

import warnings
from itertools import count

import numpy as np
import pytest
from safetensors.numpy import save_file

from tinyfoa_np.data.dataset import shaped
from tinyfoa_np.errors import BadRequest, CheckFailed
from tinyfoa_np.model.model import load
from tinyfoa_np.model.weights import load_weights

IMAGE = shaped("made", 10, 5, 3 * 12 * 10, "float32", 5, image=(3, 12, 10))
PLAIN = shaped("made", 10, 5, 30, "uint8", 5, 2.0, -1.0, 0.5)


_seeds = count()


def draw(shape):
    return np.random.default_rng(next(_seeds)).normal(0, 0.5, shape).astype(np.float32)


def linear(name, outputs, inputs):
    return {f"{name}.weight": draw((outputs, inputs)), f"{name}.bias": draw(outputs)}


def conv(name, outputs, inputs, rows=3, columns=3, bias=False):
    weight = {f"{name}.weight": draw((outputs, inputs, rows, columns))}
    return {**weight, f"{name}.bias": draw(outputs)} if bias else weight


def norm(name, width):
    return {
        f"{name}.weight": 1 + draw(width),
        f"{name}.bias": draw(width),
        f"{name}.running_mean": draw(width),
        f"{name}.running_var": np.abs(draw(width)) + 0.5,
        f"{name}.num_batches_tracked": np.array(7),
    }


def correlate(X, W, stride, bias=0.0, depthwise=False):
    """torch.nn.functional.conv2d with padding (K - 1) // 2."""
    B, _, R, S = X.shape
    O, _, K, L = W.shape
    tops, lefts = (K - 1) // 2, (L - 1) // 2
    padded = np.pad(X, ((0, 0), (0, 0), (tops, K), (lefts, L)))
    out = np.zeros((B, O, -(-R // stride), -(-S // stride)))
    for r in range(out.shape[2]):
        for s in range(out.shape[3]):
            seen = padded[:, :, r * stride : r * stride + K, s * stride : s * stride + L]
            out[:, :, r, s] = (
                np.einsum("bckl,ckl->bc", seen, W[:, 0]) if depthwise else np.einsum("bckl,ockl->bo", seen, W)
            )
    return out + np.reshape(bias, (-1, 1, 1))


def normed(X, T, name):
    gamma, beta, mean, variance = (
        np.reshape(T[f"{name}.{part}"].astype(np.float64), (-1, 1, 1))
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    return gamma * (X - mean) / np.sqrt(variance + 1e-5) + beta


def relu(x):
    return np.maximum(x, 0)


def converted(tmp_path, tensors, network, data, **options):
    save_file(tensors, tmp_path / "torch.safetensors")
    taken = load_weights(tmp_path / "torch.safetensors", network, data, tmp_path / "model.safetensors", **options)
    return load(tmp_path / "model.safetensors"), taken


@pytest.mark.parametrize("names", [("0", "2", "10"), ("fc1", "fc2", "head"), ("layers.0", "layers.1", "layers.2")])
def test_fully_connected(tmp_path, names):
    T = {**linear(names[0], 20, 30), **linear(names[1], 20, 20), **linear(names[2], 5, 20)}
    model, taken = converted(tmp_path, T, "fc:20x2", PLAIN, normalize="standard")
    assert list(taken.values()) == list(names)
    x = np.random.default_rng(1).integers(0, 256, (7, 30)).astype(np.uint8)
    h = 2.0 * x - 1.0
    for name in names:
        h = h @ T[f"{name}.weight"].T.astype(np.float64) + T[f"{name}.bias"]
        h = relu(h) if name != names[-1] else h
    assert np.allclose(model.logits(x), h, rtol=1e-4, atol=1e-3)


def test_convolutions_and_a_linear_layer_on_maps(tmp_path):
    T = {**conv("conv1", 16, 3, bias=True), **conv("conv2", 32, 16, bias=True), **conv("conv3", 16, 32, bias=True)}
    T |= linear("fc", 5, 16)  # maps of 3 x 3 are pooled 2 x 2 to one position
    data = shaped("made", 10, 5, 3 * 20 * 18, "float32", 5, image=(3, 20, 18))
    T |= linear("fc", 5, 16 * 2 * 2)
    model, _ = converted(tmp_path, T, "cnn", data)
    x = draw((4, 3, 20, 18))
    h = relu(correlate(x, T["conv1.weight"], 2, T["conv1.bias"]))
    h = relu(correlate(h, T["conv2.weight"], 2, T["conv2.bias"]))
    h = relu(correlate(h, T["conv3.weight"], 1, T["conv3.bias"]))
    h = h[:, :, :4, :4].reshape(4, 16, 2, 2, 2, 2).mean(axis=(3, 5))
    right = h.reshape(4, -1) @ T["fc.weight"].T + T["fc.bias"]
    assert np.allclose(model.logits(x.reshape(4, -1)), right, rtol=1e-3, atol=1e-3)


def resnet(bias):
    T = {**conv("stem.0", 16, 3, bias=bias), **norm("stem.1", 16)}
    widths = [16, 16, 32, 64]
    for k, (below, width) in enumerate(zip(widths, widths[1:], strict=False)):
        T |= {**conv(f"blocks.{k}.conv1", width, below, bias=bias), **norm(f"blocks.{k}.bn1", width)}
        T |= {**conv(f"blocks.{k}.conv2", width, width, bias=bias), **norm(f"blocks.{k}.bn2", width)}
        if below != width:
            T |= conv(f"blocks.{k}.shortcut", width, below, 1, 1, bias=bias)
    return T | linear("head", 5, 64)


@pytest.mark.parametrize("bias", [False, True])
def test_resnet8(tmp_path, bias):
    """Names that are not in the network's order, biases before batch norm, and shortcuts."""
    T = resnet(bias)
    model, taken = converted(tmp_path, T, "resnet8", IMAGE, order=("stem", "blocks", "head"))
    assert list(taken.values())[:2] == ["stem.0", "stem.1"]

    def both(h, name, number, stride):
        z = correlate(h, T[f"{name}{number[0]}.weight"], stride, T.get(f"{name}{number[0]}.bias", 0.0))
        return normed(z, T, f"{name}{number[1]}")

    x = draw((3, 3, 12, 10))
    h = relu(both(x, "stem.", ("0", "1"), 1))
    for k in range(3):
        name, stride = f"blocks.{k}.", 1 if k == 0 else 2
        z = both(relu(both(h, name, ("conv1", "bn1"), stride)), name, ("conv2", "bn2"), 1)
        short = f"{name}shortcut"
        h = relu(z + (correlate(h, T[f"{short}.weight"], stride, T.get(f"{short}.bias", 0.0)) if k else h))
    right = h.mean(axis=(2, 3)) @ T["head.weight"].T + T["head.bias"]
    assert np.allclose(model.logits(x.reshape(3, -1)), right, rtol=1e-3, atol=2e-3 * np.abs(right).max())


@pytest.mark.filterwarnings("ignore:.*by the alphabet")
def test_dscnn(tmp_path):
    T = {**conv("a0", 64, 3, 10, 4), **norm("a1", 64)}
    for k in range(4):
        T |= {
            **conv(f"b{k}.dw", 64, 1),
            **norm(f"b{k}.n1", 64),
            **conv(f"b{k}.pw", 64, 64, 1, 1),
            **norm(f"b{k}.n2", 64),
        }
    T |= linear("fc", 5, 64)
    model, _ = converted(tmp_path, T, "dscnn", IMAGE)
    x = draw((3, 3, 12, 10))
    h = relu(normed(correlate(x, T["a0.weight"], 2), T, "a1"))
    for k in range(4):
        h = relu(normed(correlate(h, T[f"b{k}.dw.weight"], 1, depthwise=True), T, f"b{k}.n1"))
        h = relu(normed(correlate(h, T[f"b{k}.pw.weight"], 1), T, f"b{k}.n2"))
    right = h.mean(axis=(2, 3)) @ T["fc.weight"].T + T["fc.bias"]
    assert np.allclose(model.logits(x.reshape(3, -1)), right, rtol=1e-3, atol=2e-3 * np.abs(right).max())


def test_a_network_that_is_exported_to_onnx(tmp_path):
    """Gemm with and without transposition, and a matrix product."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    T = {**linear("a", 20, 30), **linear("b", 20, 20), **linear("c", 5, 20)}
    held = {**T, "b.weight": T["b.weight"].T, "c.weight": T["c.weight"].T}
    nodes = [
        helper.make_node("Gemm", ["x", "a.weight", "a.bias"], ["1"], transB=1),
        helper.make_node("Gemm", ["1", "b.weight", "b.bias"], ["2"]),
        helper.make_node("MatMul", ["2", "c.weight"], ["3"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 30])
    graph = helper.make_graph(
        nodes, "g", [x], [], [numpy_helper.from_array(np.ascontiguousarray(a), name) for name, a in held.items()]
    )
    onnx.save(helper.make_model(graph), tmp_path / "net.onnx")
    load_weights(tmp_path / "net.onnx", "fc:20x2", PLAIN, tmp_path / "a.safetensors")
    other, _ = converted(tmp_path, T, "fc:20x2", PLAIN)
    for ours, its in zip(load(tmp_path / "a.safetensors").layers, other.layers, strict=True):
        assert np.array_equal(ours.weights, its.weights) and np.array_equal(ours.bias, its.bias)
    (tmp_path / "net.onnx").write_bytes(b"\xff" * 100)
    with pytest.raises(CheckFailed):
        load_weights(tmp_path / "net.onnx", "fc:20x2", PLAIN, tmp_path / "b.safetensors")


def merged(T, name, batch_norm):
    """A convolution and the batch norm behind it as one convolution with a bias, as exporters write them."""
    parts = ("weight", "bias", "running_mean", "running_var")
    gamma, beta, mean, variance = (T[f"{batch_norm}.{part}"] for part in parts)
    factor = gamma / np.sqrt(variance + np.float32(1e-5))
    return T[f"{name}.weight"] * factor[:, None, None, None], beta - mean * factor


def test_batch_norm_that_an_exporter_has_merged(tmp_path):
    """Convolutions with names of the exporter's own, and no batch norm in the file."""
    onnx = pytest.importorskip("onnx")
    from onnx import helper, numpy_helper

    T, held, nodes = resnet(False), {}, []
    pairs = [("stem.0", "stem.1"), *((f"blocks.{k}.conv{n}", f"blocks.{k}.bn{n}") for k in range(3) for n in (1, 2))]
    for number, pair in enumerate(pairs):
        names = f"onnx::Conv_{90 + 3 * number}", f"onnx::Conv_{91 + 3 * number}"
        held |= dict(zip(names, merged(T, *pair), strict=True))
        nodes.append(helper.make_node("Conv", ["x", *names], [f"y{number}"]))
    held |= {name: array for name, array in T.items() if "shortcut" in name or "head" in name}
    nodes.append(helper.make_node("Gemm", ["x", "head.weight", "head.bias"], ["z"], transB=1))
    tensors = [numpy_helper.from_array(np.ascontiguousarray(a, np.float32), name) for name, a in held.items()]
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", [], [], tensors)), tmp_path / "net.onnx")
    load_weights(tmp_path / "net.onnx", "resnet8", IMAGE, tmp_path / "a.safetensors")
    other, _ = converted(tmp_path, T, "resnet8", IMAGE, order=("stem", "blocks", "head"))
    x = draw((4, 360))
    ours, its = load(tmp_path / "a.safetensors").logits(x), other.logits(x)
    assert np.allclose(ours, its, rtol=1e-3, atol=1e-4 * np.abs(its).max())


def test_an_order_by_the_alphabet_alone_is_told(tmp_path):
    """Batch norm of the stem would be taken after that of the blocks."""
    T = {name.replace("stem.1", "bn"): array for name, array in resnet(False).items()}
    with pytest.warns(UserWarning, match="blocks.0.bn1 is taken before bn by the alphabet; .* --order"):
        converted(tmp_path, T, "resnet8", IMAGE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, taken = converted(tmp_path, T, "resnet8", IMAGE, order=("stem", "bn", "blocks", "head"))
    assert list(taken.values())[:2] == ["stem.0", "bn"]


def test_what_does_not_fit_is_refused_in_one_line(tmp_path):
    good = {**linear("0", 20, 30), **linear("1", 5, 20)}
    cases = [
        ({**good, **linear("2", 5, 20)}, "fc:20", "more than fc:20 has: 2"),
        (good, "fc:20x2", "no layer 2 with weight [20, 20]; left are 1 [5, 20]"),
        (good, "lc:3", "locally connected"),
        ({**good, "0.scale": draw(20)}, "fc:20", "'0.scale'"),
        ({**good, "0.weight": draw((20, 30, 1))}, "fc:20", "no layer 1"),
        ({**good, "0.bias": draw(19)}, "fc:20", "[19]: [20] would be right"),
        ({**good, "0.weight": np.ones((20, 30), np.int32)}, "fc:20", "I32"),
        ({**good, "0.bias": np.full(20, np.inf, np.float32)}, "fc:20", "not finite"),
        ({**conv("0", 16, 3), **good}, "cnn", "takes images"),
    ]
    for tensors, network, words in cases:
        with pytest.raises((BadRequest, CheckFailed)) as info:
            converted(tmp_path, tensors, network, PLAIN)
        assert words in str(info.value) and "\n" not in str(info.value), str(info.value)
        assert not (tmp_path / "model.safetensors").exists()
    for name, content in (("a.safetensors", b"\x00" * 40), ("b.pt", b""), ("none.safetensors", None)):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises((BadRequest, CheckFailed)):
            load_weights(tmp_path / name, "fc:20", PLAIN, tmp_path / "model.safetensors")
