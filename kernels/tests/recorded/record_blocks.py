"""Writes the cases of weights of 4 bits and of scales in blocks to ../quantised, as record.py writes those in this folder.

    venv/bin/python record_blocks.py      # after record_quantised.py, which empties that folder
"""

from pathlib import Path

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

import record

record.HERE = Path(__file__).parent.parent / "quantised"
record.TYPES |= {"uint8": TensorProto.UINT8, "int8": TensorProto.INT8}
random = np.random.default_rng(20260303)


def floats(*shape, scale=1.0):
    return (random.normal(size=shape) * scale).astype(np.float32)


def nibbles(name, signed, *shape):
    """Random weights of 4 bits."""
    low, kind = (-8, TensorProto.INT4) if signed else (0, TensorProto.UINT4)
    values = random.integers(low, low + 16, shape)
    flat = (values.ravel() & 15).astype(np.uint8)
    flat = np.append(flat, np.zeros(len(flat) % 2, np.uint8))
    packed = flat[0::2] | (flat[1::2] << 4)
    return TensorProto(name=name, data_type=kind, dims=shape, raw_data=packed.tobytes())


def steps(*shape):
    return random.uniform(0.02, 0.1, shape).astype(np.float32)


def save(name, nodes, inputs, constants):
    ins = [
        helper.make_tensor_value_info(key, TensorProto.FLOAT if value.dtype == np.float32 else TensorProto.INT64, ["N", *value.shape[1:]])
        for key, value in inputs.items()
    ]
    outs = [helper.make_tensor_value_info("Y", TensorProto.FLOAT, None)]
    tensors = [value if isinstance(value, TensorProto) else numpy_helper.from_array(value, key) for key, value in constants.items()]
    made = helper.make_graph(nodes, name, ins, outs, tensors)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    # As the file says, operator by operator: onnxruntime makes one of two that rounds the left side too.
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    record.save(name, model, inputs, options)


def products():
    """The right side of a product: blocks along the depth, with zero points or without; columns alone; turned over."""
    node = helper.make_node
    real = lambda **how: node("DequantizeLinear", ["w", "s"], ["r"], **how)
    moved = lambda **how: node("DequantizeLinear", ["w", "s", "z"], ["r"], **how)
    product = node("MatMul", ["X", "r"], ["Y"])
    rows = {"X": floats(5, 3, 64)}
    save("fourths_blocks", [real(axis=0, block_size=32), product], rows, {"w": nibbles("w", True, 64, 9), "s": steps(2, 9)})
    zeros = nibbles("z", False, 4, 9)
    constants = {"w": nibbles("w", False, 64, 9), "s": steps(4, 9), "z": zeros}
    save("fourths_blocks_moved", [moved(axis=0, block_size=16), product], rows, constants)
    save("fourths_columns", [real(axis=1), product], rows, {"w": nibbles("w", True, 64, 9), "s": steps(9)})
    odd = {"X": floats(5, 27)}
    save("fourths_one_scale", [real(), product], odd, {"w": nibbles("w", True, 27, 7), "s": np.float32(0.05)})
    turned = [real(axis=1, block_size=32), node("Gemm", ["X", "r", "b"], ["Y"], transB=1)]
    constants = {"w": nibbles("w", True, 11, 64), "s": steps(11, 2), "b": floats(11)}
    save("fourths_turned", turned, {"X": floats(5, 64)}, constants)
    bytes_ = random.integers(-128, 128, (64, 9)).astype(np.int8)
    save("bytes_blocks", [real(axis=0, block_size=32), product], rows, {"w": bytes_, "s": steps(2, 9)})
    # A block that is no whole word.
    save("bytes_small_blocks", [real(axis=0, block_size=2), product], rows, {"w": bytes_, "s": steps(32, 9)})


def others():
    """Filters, a table of rows, and one tensor for two operators."""
    node = helper.make_node
    real = lambda **how: node("DequantizeLinear", ["w", "s"], ["r"], **how)
    filters = {"w": nibbles("w", True, 10, 6, 3, 3), "s": steps(10), "b": floats(10)}
    conv = node("Conv", ["X", "r", "b"], ["Y"], kernel_shape=[3, 3], pads=[1, 0, 1, 1], strides=[2, 1])
    save("fourths_filters", [real(axis=0), conv], {"X": floats(3, 6, 9, 8)}, filters)
    filters = {"w": nibbles("w", True, 12, 1, 5), "s": steps(12)}
    conv = node("Conv", ["X", "r"], ["Y"], kernel_shape=[5], pads=[2, 2], group=12)
    save("fourths_depthwise", [real(axis=0), conv], {"X": floats(3, 12, 20)}, filters)
    rows = {"I": random.integers(-40, 40, (4, 6))}
    table = {"w": nibbles("w", True, 40, 32), "s": steps(40, 1)}
    save("fourths_table", [real(axis=1, block_size=32), node("Gather", ["r", "I"], ["Y"])], rows, table)
    two = [real(axis=0), node("MatMul", ["X", "r"], ["l"]), node("Transpose", ["r"], ["t"], perm=[1, 0]), node("MatMul", ["l", "t"], ["Y"])]
    save("fourths_twice", two, {"X": floats(5, 16)}, {"w": nibbles("w", True, 16, 9), "s": steps(16)})


products()
others()
