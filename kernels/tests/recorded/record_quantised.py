"""Writes the cases in ../quantised, as record.py writes those in this folder, and with the same packages.

    venv/bin/python record_quantised.py

Whole networks go through onnxruntime's own quantiser, in each of its formats; operators that stand alone are put together
by hand. The answers are onnxruntime's on the same file.
"""

import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

import record

record.HERE = Path(__file__).parent.parent / "quantised"
record.TYPES |= {"uint8": TensorProto.UINT8, "int8": TensorProto.INT8}
random = np.random.default_rng(20260202)


def floats(*shape, scale=1.0):
    return (random.normal(size=shape) * scale).astype(np.float32)


class Rows(CalibrationDataReader):
    """Calibration rows, a batch at a time."""

    def __init__(self, name, batches):
        self.batches = iter([{name: batch} for batch in batches])

    def get_next(self):
        return next(self.batches, None)


def network(name, nodes, shape, outputs, constants):
    """A float model with input X of `shape` behind the batch."""
    inputs = [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["N", *shape])]
    outs = [helper.make_tensor_value_info(key, TensorProto.FLOAT, None) for key in outputs]
    made = helper.make_graph(nodes, name, inputs, outs, [numpy_helper.from_array(v, k) for k, v in constants.items()])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model


def image_network():
    """Every kind of node that a convolutional network is made of."""
    constants = {
        "w1": floats(8, 3, 3, 3, scale=0.3),
        "b1": floats(8, scale=0.1),
        "w2": floats(8, 1, 3, 3, scale=0.4),
        "b2": floats(8, scale=0.1),
        "w3": floats(12, 8, 1, 1, scale=0.4),
        "b3": floats(12, scale=0.1),
        "w4": floats(12, 6, 3, 3, scale=0.2),
        "w5": floats(12, 8, 1, 1, scale=0.4),
        "w6": floats(24, 5, scale=0.4),
        "b6": floats(5, scale=0.1),
        "floor": np.array(0, np.float32),
        "ceiling": np.array(6, np.float32),
    }
    node = helper.make_node
    nodes = [
        node("Conv", ["X", "w1", "b1"], ["c1"], "conv1", kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]),
        node("Relu", ["c1"], ["r1"], "relu1"),
        node("Conv", ["r1", "w2", "b2"], ["c2"], "depthwise", kernel_shape=[3, 3], pads=[1, 1, 1, 1], group=8),
        node("Clip", ["c2", "floor", "ceiling"], ["r2"], "clip"),
        node("Conv", ["r2", "w3", "b3"], ["c3"], "pointwise", kernel_shape=[1, 1]),
        node("Sigmoid", ["c3"], ["s3"], "gate"),
        node("Conv", ["s3", "w4"], ["c4"], "grouped", kernel_shape=[3, 3], group=2, pads=[2, 2, 2, 2], dilations=[2, 2]),
        node("Conv", ["r1", "w5"], ["c5"], "shortcut", kernel_shape=[1, 1]),
        node("Add", ["c4", "c5"], ["a4"], "add"),
        node("Relu", ["a4"], ["r4"], "relu4"),
        node("Concat", ["r4", "s3"], ["j"], "join", axis=1),
        node("MaxPool", ["j"], ["m"], "most", kernel_shape=[2, 2], strides=[2, 2]),
        node("AveragePool", ["m"], ["v"], "average", kernel_shape=[2, 2], strides=[1, 1], pads=[1, 1, 0, 0]),
        node("GlobalAveragePool", ["v"], ["g"], "mean"),
        node("Flatten", ["g"], ["f"], "flatten"),
        node("Gemm", ["f", "w6", "b6"], ["scores"], "gemm"),
        node("Softmax", ["scores"], ["probabilities"], "softmax", axis=-1),
    ]
    return network("images", nodes, [3, 10, 9], ["scores", "probabilities"], constants), [3, 10, 9]


def line_network():
    """Convolutions over one axis, as keyword spotting has."""
    constants = {
        "w1": floats(6, 4, 5, scale=0.3),
        "b1": floats(6, scale=0.1),
        "w2": floats(6, 1, 3, scale=0.4),
        "w3": floats(7, 6, 1, scale=0.4),
    }
    node = helper.make_node
    nodes = [
        node("Conv", ["X", "w1", "b1"], ["c1"], "conv1", kernel_shape=[5], pads=[2, 2], strides=[2]),
        node("Relu", ["c1"], ["r1"], "relu1"),
        node("Conv", ["r1", "w2"], ["c2"], "depthwise", kernel_shape=[3], auto_pad="SAME_UPPER", group=6),
        node("LeakyRelu", ["c2"], ["r2"], "leaky", alpha=0.1),
        node("Conv", ["r2", "w3"], ["c3"], "pointwise", kernel_shape=[1]),
        node("GlobalAveragePool", ["c3"], ["g"], "mean"),
        node("Flatten", ["g"], ["scores"], "flatten"),
    ]
    return network("lines", nodes, [4, 21], ["scores"], constants), [4, 21]


def attention_network():
    """Products of activations with weights and with one another, and a softmax between."""
    constants = {f"w{name}": floats(8, 8, scale=0.4) for name in "qkvo"} | {"bo": floats(8, scale=0.1)}
    node = helper.make_node
    nodes = [
        node("MatMul", ["X", "wq"], ["q"], "query"),
        node("MatMul", ["X", "wk"], ["k"], "key"),
        node("MatMul", ["X", "wv"], ["v"], "value"),
        node("Transpose", ["k"], ["kt"], "turn", perm=[0, 2, 1]),
        node("MatMul", ["q", "kt"], ["logits"], "logits"),
        node("Softmax", ["logits"], ["weights"], "softmax", axis=-1),
        node("MatMul", ["weights", "v"], ["mixed"], "mix"),
        node("MatMul", ["mixed", "wo"], ["o"], "out"),
        node("Add", ["o", "bo"], ["s"], "bias"),
        node("Add", ["s", "X"], ["Y"], "residual"),
    ]
    return network("attention", nodes, [5, 8], ["Y"], constants), [5, 8]


def quantised(name, model, shape, session=None, **options):
    """`model` by onnxruntime's static quantiser, with a batch of three rows and one of a single row."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        source.write_bytes(model.SerializeToString())
        batches = [floats(4, *shape) for _ in range(4)]
        quantize_static(source, target, Rows("X", batches), **options)
        made = onnx.load(target)
    clean(made)
    rows = floats(3, *shape)
    record.save(name, made, {"X": rows}, session)
    record.save(f"{name}_one_row", made, {"X": rows[1:2]}, session)


def clean(model):
    """Takes out what says when and by whom the file was written; `value_info` stays, stale as it is."""
    model.producer_name = model.producer_version = ""
    del model.metadata_props[:]
    for node in model.graph.node:
        node.doc_string = ""


def networks():
    signed, unsigned = QuantType.QInt8, QuantType.QUInt8
    for kind, activations in (("u8s8", unsigned), ("s8s8", signed)):
        for per, channel in (("tensor", False), ("channel", True)):
            for form, quant_format in (("qdq", QuantFormat.QDQ), ("operators", QuantFormat.QOperator)):
                model, shape = image_network()
                options = {"activation_type": activations, "weight_type": signed, "per_channel": channel}
                quantised(f"quantised_images_{form}_{kind}_{per}", model, shape, quant_format=quant_format, **options)
    # With one zero point for all activations, the quantiser leaves Relu and Clip where they were.
    model, shape = image_network()
    options = {"quant_format": QuantFormat.QDQ, "activation_type": signed, "weight_type": signed, "per_channel": True}
    quantised("quantised_images_symmetric", model, shape, extra_options={"ActivationSymmetric": True}, **options)
    model, shape = line_network()
    quantised("quantised_lines", model, shape, quant_format=QuantFormat.QDQ, activation_type=signed, weight_type=signed, per_channel=True)
    for form, quant_format in (("qdq", QuantFormat.QDQ), ("operators", QuantFormat.QOperator)):
        model, shape = attention_network()
        quantised(f"quantised_attention_{form}", model, shape, quant_format=quant_format, activation_type=unsigned, weight_type=signed)
    model, shape = attention_network()
    options = {"ActivationSymmetric": True, "WeightSymmetric": False}
    # Here onnxruntime's optimiser is two steps off onnxruntime without it, which computes what the file says.
    plain = onnxruntime.SessionOptions()
    plain.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    quantised("quantised_attention_skewed", model, shape, plain, quant_format=QuantFormat.QDQ, activation_type=unsigned, weight_type=unsigned, extra_options=options)


def dynamic():
    """Scales that are taken from each input, as onnxruntime writes transformers."""
    for name, (model, shape) in (("attention", attention_network()), ("images", image_network())):
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
            source.write_bytes(model.SerializeToString())
            quantize_dynamic(source, target, weight_type=QuantType.QUInt8, per_channel=name == "attention")
            made = onnx.load(target)
        clean(made)
        record.save(f"dynamic_{name}", made, {"X": floats(3, *shape)})


def alone(name, nodes, inputs, outputs, constants=(), opset=17):
    """A model of `nodes` by hand."""
    ins = [helper.make_tensor_value_info(key, record.TYPES[value.dtype.name], ["N", *value.shape[1:]]) for key, value in inputs.items()]
    outs = [helper.make_tensor_value_info(key, record.TYPES[kind], None) for key, kind in outputs.items()]
    made = helper.make_graph(nodes, name, ins, outs, [numpy_helper.from_array(np.asarray(v), k) for k, v in constants])
    domains = {node.domain for node in nodes if node.domain}
    opsets = [helper.make_opsetid("", opset)] + [helper.make_opsetid(domain, 1) for domain in sorted(domains)]
    model = helper.make_model(made, opset_imports=opsets)
    model.ir_version = 8 if opset < 21 else 10
    record.save(name, model, inputs)


def contributed(op, inputs, outputs, **attributes):
    return helper.make_node(op, inputs, outputs, op.lower(), domain="com.microsoft", **attributes)


def scale(value):
    return np.array(value, np.float32)


def linear():
    """QuantizeLinear and DequantizeLinear: halves, what saturates, axes, every width."""
    node = helper.make_node
    x = floats(3, 4, 5, scale=3.0)
    x[0, 0] = [0.25, 0.75, -0.25, -0.75, 1e9]
    zeros = {"uint8": np.uint8(3), "int8": np.int8(-5)}
    for kind, zero in zeros.items():
        step = [("s", scale(0.5)), ("z", zero)]
        alone(f"quantise_{kind}", [node("QuantizeLinear", ["X", "s", "z"], ["Y"], "q")], {"X": x}, {"Y": kind}, step)
    alone("quantise_without_zero", [node("QuantizeLinear", ["X", "s"], ["Y"], "q")], {"X": x}, {"Y": "uint8"}, [("s", scale(0.03))])
    axes = [("s", scale([0.5, 0.1, 0.07, 2.0])), ("z", np.array([0, 3, -7, 100], np.int8))]
    per_axis = [node("QuantizeLinear", ["X", "s", "z"], ["Q"], "q", axis=-2), node("DequantizeLinear", ["Q", "s", "z"], ["Y"], "d", axis=1)]
    alone("quantise_axis", per_axis, {"X": x}, {"Y": "float32"}, axes)
    back = [node("DequantizeLinear", ["X", "s"], ["Y"], "d")]
    alone("dequantise_int32", back, {"X": random.integers(-(2**30), 2**30, (3, 4)).astype(np.int32)}, {"Y": "float32"}, [("s", scale(0.001))])
    wide = [
        node("QuantizeLinear", ["X", "s", "z"], ["Q"], "q"),
        node("DequantizeLinear", ["Q", "s", "z"], ["Y"], "d"),
    ]
    for kind, zero in (("uint16", np.uint16(1000)), ("int16", np.int16(-7))):
        alone(f"quantise_{kind}", wide, {"X": x}, {"Y": "float32"}, [("s", scale(0.0003)), ("z", zero)], opset=21)
    ranged = [node("DynamicQuantizeLinear", ["X"], ["Y", "S", "Z"], "d")]
    alone("quantise_by_range", ranged, {"X": x[1:]}, {"Y": "uint8", "S": "float32", "Z": "uint8"})
    softmax = [
        node("QuantizeLinear", ["X", "s", "z"], ["q"], "q"),
        node("DequantizeLinear", ["q", "s", "z"], ["d"], "d"),
        node("Softmax", ["d"], ["p"], "softmax", axis=-1),
        node("QuantizeLinear", ["p", "t", "u"], ["r"], "r"),
        node("DequantizeLinear", ["r", "t", "u"], ["Y"], "e"),
    ]
    steps = [("s", scale(0.05)), ("z", np.uint8(120)), ("t", scale(1 / 256)), ("u", np.uint8(0))]
    alone("quantised_softmax", softmax, {"X": floats(3, 6)}, {"Y": "float32"}, steps)


def activations():
    """Activations between a product and its scale, as training for quantisation leaves them."""
    node = helper.make_node
    constants = [
        ("w1", bytes_of("int8", 6, 3, 3, 3)),
        ("sw", scale(random.uniform(0.005, 0.02, 6))),
        ("zw", np.zeros(6, np.int8)),
        ("w2", bytes_of("int8", 4, 6, 1, 1)),
        ("w3", bytes_of("int8", 64, 5)),
        ("one", scale(0.01)),
        ("zero", np.int8(0)),
        ("sx", scale(0.02)),
        ("zx", np.int8(-20)),
        ("sy", scale(0.05)),
        ("zy", np.int8(-100)),
        ("low", scale(0.5)),
        ("high", scale(6.0)),
    ]
    nodes = [
        node("QuantizeLinear", ["X", "sx", "zx"], ["xq"], "xq"),
        node("DequantizeLinear", ["xq", "sx", "zx"], ["xd"], "xd"),
        node("DequantizeLinear", ["w1", "sw", "zw"], ["w1d"], "w1d", axis=0),
        node("Conv", ["xd", "w1d"], ["c1"], "conv1", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("Relu", ["c1"], ["r1"], "relu1"),
        node("QuantizeLinear", ["r1", "sy", "zy"], ["r1q"], "r1q"),
        node("DequantizeLinear", ["r1q", "sy", "zy"], ["r1d"], "r1d"),
        node("DequantizeLinear", ["w2", "one", "zero"], ["w2d"], "w2d"),
        node("Conv", ["r1d", "w2d"], ["c2"], "conv2", kernel_shape=[1, 1]),
        node("Clip", ["c2", "low", "high"], ["r2"], "clip2"),
        node("QuantizeLinear", ["r2", "sy", "zy"], ["r2q"], "r2q"),
        node("DequantizeLinear", ["r2q", "sy", "zy"], ["r2d"], "r2d"),
        node("Flatten", ["r2d"], ["f"], "flatten"),
        node("QuantizeLinear", ["f", "sy", "zy"], ["fq"], "fq"),
        node("DequantizeLinear", ["fq", "sy", "zy"], ["fd"], "fd"),
        node("DequantizeLinear", ["w3", "one", "zero"], ["w3d"], "w3d"),
        node("MatMul", ["fd", "w3d"], ["m"], "product"),
        node("Relu", ["m"], ["Y"], "relu3"),
    ]
    alone("quantised_activations", nodes, {"X": floats(3, 3, 4, 4)}, {"Y": "float32"}, constants)


def bytes_of(kind, *shape):
    low, high = (0, 256) if kind == "uint8" else (-128, 128)
    return random.integers(low, high, shape).astype(kind)


def products():
    node = helper.make_node
    for left, right in (("uint8", "int8"), ("uint8", "uint8"), ("int8", "int8")):
        name = f"{left}_{right}"
        zeros = [("za", np.array(7, left)), ("zb", np.array(11, right))]
        b = bytes_of(right, 13, 6)
        integer = [node("MatMulInteger", ["A", "B", "za", "zb"], ["Y"], "m")]
        alone(f"integer_product_{name}", integer, {"A": bytes_of(left, 3, 2, 13)}, {"Y": "int32"}, zeros + [("B", b)])
        steps = [("sa", scale(0.02)), ("sb", scale(0.03)), ("sy", scale(0.3)), ("zy", np.array(9, left))]
        linear = [node("QLinearMatMul", ["A", "sa", "za", "B", "sb", "zb", "sy", "zy"], ["Y"], "m")]
        alone(f"linear_product_{name}", linear, {"A": bytes_of(left, 3, 2, 13)}, {"Y": left}, zeros + steps + [("B", b)])
        alone(f"linear_product_of_two_{name}", linear, {"A": bytes_of(left, 3, 2, 13), "B": bytes_of(right, 3, 13, 5)}, {"Y": left}, zeros + steps)
    b = bytes_of("int8", 6, 13)
    zeros = [("za", np.uint8(7)), ("sa", scale(0.02)), ("sb", scale([0.03, 0.02, 0.1, 0.05, 0.01, 0.3])), ("zb", np.zeros(6, np.int8))]
    bias = [("C", random.integers(-5000, 5000, 6).astype(np.int32)), ("B", b)]
    gemm = [contributed("QGemm", ["A", "sa", "za", "B", "sb", "zb", "C", "sy", "zy"], ["Y"], transB=1)]
    alone("gemm", gemm, {"A": bytes_of("uint8", 3, 13)}, {"Y": "uint8"}, zeros + bias + [("sy", scale(0.5)), ("zy", np.uint8(128))])
    gemm = [contributed("QGemm", ["A", "sa", "za", "B", "sb", "zb", "C"], ["Y"], transB=1)]
    alone("gemm_real", gemm, {"A": bytes_of("uint8", 3, 13)}, {"Y": "float32"}, zeros + bias)


def convolutions():
    node = helper.make_node
    shapes = {"plain": ((9, 5, 3, 3), 1), "depthwise": ((21, 1, 3, 3), 21), "grouped": ((6, 2, 3, 2), 3)}
    for name, (shape, groups) in shapes.items():
        w = [("W", bytes_of("int8", *shape)), ("zx", np.uint8(100))]
        image = bytes_of("uint8", 2, shape[1] * groups, 9, 7)
        where = {"group": groups, "pads": [1, 0, 1, 1], "strides": [2, 1], "kernel_shape": list(shape[2:])}
        if name != "grouped":  # onnxruntime has ConvInteger without zero points of filters for uint8 images only
            integer = [node("ConvInteger", ["X", "W", "zx"], ["Y"], "c", **where)]
            alone(f"integer_convolution_{name}", integer, {"X": image}, {"Y": "int32"}, w)
        scales = [
            ("sx", scale(0.02)),
            ("sw", scale(random.uniform(0.01, 0.05, shape[0]))),
            ("zw", np.zeros(shape[0], np.int8)),
            ("sy", scale(0.7)),
            ("zy", np.uint8(90)),
            ("bias", random.integers(-3000, 3000, shape[0]).astype(np.int32)),
        ]
        linear = [node("QLinearConv", ["X", "sx", "zx", "W", "sw", "zw", "sy", "zy", "bias"], ["Y"], "c", **where)]
        alone(f"linear_convolution_{name}", linear, {"X": image}, {"Y": "uint8"}, w + scales)


def others():
    a, b = bytes_of("uint8", 3, 4, 5), bytes_of("uint8", 3, 4, 5)
    scales = [("sa", scale(0.05)), ("za", np.uint8(100)), ("sb", scale(0.02)), ("zb", np.uint8(20)), ("sy", scale(0.06)), ("zy", np.uint8(128))]
    both = ["A", "sa", "za", "B", "sb", "zb", "sy", "zy"]
    for op in ("QLinearAdd", "QLinearMul"):
        alone(op.lower(), [contributed(op, both, ["Y"])], {"A": a, "B": b}, {"Y": "uint8"}, scales)
        alone(f"{op.lower()}_stretched", [contributed(op, both, ["Y"])], {"A": a}, {"Y": "uint8"}, scales + [("B", bytes_of("uint8", 4, 1))])
    one = ["A", "sa", "za", "sy", "zy"]
    steps = scales[:2] + [("sy", scale(0.01)), ("zy", np.uint8(30))]
    for op, more in (("QLinearSigmoid", {}), ("QLinearLeakyRelu", {"alpha": 0.1})):
        alone(op.lower(), [contributed(op, one, ["Y"], **more)], {"A": a}, {"Y": "uint8"}, steps)
    probability = scales[:2] + [("sy", scale(1 / 256)), ("zy", np.uint8(0))]
    alone("qlinearsoftmax", [contributed("QLinearSoftmax", one, ["Y"], axis=-1, opset=13)], {"A": a}, {"Y": "uint8"}, probability)
    image = bytes_of("uint8", 2, 5, 9, 7)
    steps = scales[:2] + [("sy", scale(0.04)), ("zy", np.uint8(90))]
    pool = [contributed("QLinearAveragePool", one, ["Y"], kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 1])]
    alone("qlinearaveragepool", pool, {"A": image}, {"Y": "uint8"}, steps)
    mean = [contributed("QLinearGlobalAveragePool", one, ["Y"], channels_last=0)]
    alone("qlinearglobalaveragepool", mean, {"A": image}, {"Y": "uint8"}, steps)
    concat = [contributed("QLinearConcat", ["sy", "zy", "A", "sa", "za", "B", "sb", "zb"], ["Y"], axis=1)]
    alone("qlinearconcat", concat, {"A": a, "B": b}, {"Y": "uint8"}, scales)


if __name__ == "__main__":
    record.HERE.mkdir(exist_ok=True)
    for old in [*record.HERE.glob("*.onnx"), *record.HERE.glob("*.json")]:
        old.unlink()
    networks()
    dynamic()
    linear()
    products()
    convolutions()
    others()
    activations()
