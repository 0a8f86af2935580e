"""Writes the cases in this folder: small models, inputs, and onnxruntime's outputs for them.

    python3 -m venv venv && venv/bin/pip install numpy==2.* onnx==1.19.1 onnxruntime==1.31.1 \
        scikit-learn==1.9.1 skl2onnx==1.20.0 && venv/bin/python record.py

`CASE.onnx` is the model; `CASE.json` is {"inputs": {name: tensor}, "outputs": {name: tensor}} with
tensors as {"dtype", "shape", "data"}, NaN as null. Models without answers go to ../special. The
seeds are fixed.
"""

import json
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).parent
TYPES = {
    "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE,
    "int64": TensorProto.INT64,
    "int32": TensorProto.INT32,
    "int16": TensorProto.INT16,
    "bool": TensorProto.BOOL,
    "string": TensorProto.STRING,
}
warnings.filterwarnings("ignore")
onnxruntime.set_default_logger_severity(3)
random = np.random.default_rng(20260101)


def dtype(array):
    return "string" if array.dtype.kind in "OUS" else array.dtype.name


def tensor(array):
    flat = array.ravel().tolist()
    data = [None if isinstance(x, float) and np.isnan(x) else x for x in flat]
    return {"dtype": dtype(array), "shape": list(array.shape), "data": data}


def save(name, model, inputs, options=None):
    (HERE / f"{name}.onnx").write_bytes(model.SerializeToString())
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    outputs = dict(zip(names, session.run(None, inputs)))
    for key, value in outputs.items():
        if isinstance(value, list):  # a ZipMap: one dictionary per row
            outputs[key] = np.array([list(row.values()) for row in value], np.float32)
    document = {
        "inputs": {key: tensor(value) for key, value in inputs.items()},
        "outputs": {key: tensor(np.asarray(value)) for key, value in outputs.items()},
    }
    (HERE / f"{name}.json").write_text(json.dumps(document, separators=(",", ":")) + "\n")


def graph(name, nodes, inputs, outputs, constants=(), ml=3, rows=None):
    """A model of `nodes`; axis 0 of every input has no name, as skl2onnx leaves it, or is of so many `rows`."""
    ins = [
        helper.make_tensor_value_info(key, TYPES[dtype(value)], [rows, *value.shape[1:]])
        for key, value in inputs.items()
    ]
    outs = [helper.make_tensor_value_info(key, TYPES[kind], None) for key, kind in outputs.items()]
    made = helper.make_graph(nodes, name, ins, outs, [numpy_helper.from_array(v, k) for k, v in constants])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", ml)]
    model = helper.make_model(made, opset_imports=opsets)
    model.ir_version = 8
    save(name, model, inputs)


def ml(op, inputs, outputs, **attributes):
    return helper.make_node(op, inputs, outputs, domain="ai.onnx.ml", name=op.lower(), **attributes)


def floats(rows, columns, holes=0.0):
    values = random.normal(size=(rows, columns)).astype(np.float32)
    values[random.random((rows, columns)) < holes] = np.nan
    return values


def encoders():
    x = {"X": floats(7, 3)}
    out = {"Y": "float32"}
    graph("scaler", [ml("Scaler", ["X"], ["Y"], offset=[1.0, 2.0, 3.0], scale=[0.5, 2.0, 4.0])], x, out)
    graph("scaler_one", [ml("Scaler", ["X"], ["Y"], offset=[1.0], scale=[0.5])], x, out)
    whole = {"X": random.integers(-9, 9, (5, 2))}
    graph("scaler_int64", [ml("Scaler", ["X"], ["Y"], offset=[1.0, 2.0], scale=[0.5, 2.0])], whole, out)
    for norm in ("MAX", "L1", "L2"):
        graph(f"normalizer_{norm.lower()}", [ml("Normalizer", ["X"], ["Y"], norm=norm)], {"X": floats(7, 4)}, out)
    holes = {"X": floats(9, 3, 0.4)}
    graph(
        "imputer",
        [ml("Imputer", ["X"], ["Y"], imputed_value_floats=[1.0, 2.0, 3.0], replaced_value_float=float("nan"))],
        holes,
        out,
    )
    graph(
        "imputer_one",
        [ml("Imputer", ["X"], ["Y"], imputed_value_floats=[7.0], replaced_value_float=float("nan"))],
        holes,
        out,
    )
    graph(
        "imputer_int64",
        [ml("Imputer", ["X"], ["Y"], imputed_value_int64s=[5, 6], replaced_value_int64=-1)],
        {"X": random.integers(-1, 3, (6, 2))},
        {"Y": "int64"},
    )
    words = {"X": np.array([["red"], ["green"], ["never seen"], ["blue"]], object)}
    graph(
        "one_hot_strings",
        [ml("OneHotEncoder", ["X"], ["Y"], cats_strings=["blue", "green", "red"], zeros=1)],
        words,
        out,
    )
    graph(
        "one_hot_int64",
        [ml("OneHotEncoder", ["X"], ["Y"], cats_int64s=[1, 5, 9], zeros=1)],
        {"X": np.array([[9], [1], [2]])},
        out,
    )
    # Version 4 of the operators: there a key that is NaN has to match.
    label = lambda name, values, kind, **attributes: graph(
        name, [ml("LabelEncoder", ["X"], ["Y"], **attributes)], {"X": values}, {"Y": kind}, ml=4
    )
    text = np.array([["a"], ["b"], ["z"]], object)
    label("label_strings_to_int64", text, "int64", keys_strings=["a", "b"], values_int64s=[3, 4], default_int64=-7)
    label("label_strings_to_strings", text, "string", keys_strings=["a", "b"], values_strings=["x", "y"])
    label("label_int64_to_strings", np.array([[3], [4], [5]]), "string", keys_int64s=[3, 4], values_strings=["x", "y"])
    numbers = np.array([[1.0], [np.nan], [0.0], [-0.0], [5.0]], np.float32)
    label(
        "label_floats_to_floats",
        numbers,
        "float32",
        keys_floats=[1.0, float("nan"), 0.0],
        values_floats=[10.0, 20.0, 30.0],
        default_float=-1.0,
    )
    zip_map = [
        ml("LinearClassifier", ["X"], ["L", "S"], coefficients=[1.0, -1.0, 2.0, 0.5, -0.5, 1.5], intercepts=[0.0, 0.1],
           classlabels_ints=[0, 1], post_transform="LOGISTIC"),
        ml("ZipMap", ["S"], ["P"], classlabels_int64s=[0, 1]),
    ]
    graph("zip_map", zip_map, {"X": floats(4, 3)}, {"L": "int64"})
    extract = [ml("ArrayFeatureExtractor", ["X", "columns"], ["Y"])]
    graph("array_feature_extractor", extract, {"X": floats(4, 5)}, out, [("columns", np.array([4, 0]))])


def linear():
    out = {"L": "int64", "P": "float32"}
    x = {"X": floats(25, 3)}
    for transform in ("NONE", "LOGISTIC"):
        node = ml("LinearClassifier", ["X"], ["L", "P"], coefficients=[0.3, -0.7, 1.1], intercepts=[0.2],
                  classlabels_ints=[4, 9], post_transform=transform)
        graph(f"linear_one_row_{transform.lower()}", [node], x, out)
    for transform in ("NONE", "LOGISTIC", "SOFTMAX"):
        node = ml("LinearClassifier", ["X"], ["L", "P"], coefficients=floats(1, 12).ravel().tolist(),
                  intercepts=[0.1, -0.2, 0.3, 0.0], classlabels_strings=["a", "b", "c", "d"], multi_class=1,
                  post_transform=transform)
        graph(f"linear_four_{transform.lower()}", [node], x, {"L": "string", "P": "float32"})
    node = ml("LinearRegressor", ["X"], ["Y"], coefficients=[0.5, 1.5, -2.0, 1.0, 0.0, 3.0], intercepts=[1.0, -1.0],
              targets=2)
    graph("linear_regressor", [node], x, {"Y": "float32"})


def forest(trees, depth, features, votes, modes, prefix, missing, positive=False):
    """Random trees as attribute lists; `votes()` gives the targets that a leaf votes for."""
    lists = {f"nodes_{key}": [] for key in
             ("treeids", "nodeids", "featureids", "modes", "values", "truenodeids", "falsenodeids")}
    lists["nodes_missing_value_tracks_true"] = []
    ballots = {f"{prefix}_{key}": [] for key in ("treeids", "nodeids", "ids", "weights")}
    for tree in range(trees):
        queue, count = [(0, 0)], 1
        while queue:
            node, level = queue.pop(0)
            leaf = level == depth or (level > 0 and random.random() < 0.2)
            values = (tree, node, 0 if leaf else int(random.integers(features)),
                      "LEAF" if leaf else modes[random.integers(len(modes))],
                      0.0 if leaf else float(random.integers(-4, 5)) / 4, 0 if leaf else count, 0 if leaf else count + 1)
            for (key, column), value in zip(list(lists.items())[:7], values):
                column.append(value)
            lists["nodes_missing_value_tracks_true"].append(int(missing and random.random() < 0.5))
            if leaf:
                for target in votes():
                    weight = float(np.float32(random.random() if positive else random.normal()))
                    for (key, column), value in zip(ballots.items(), (tree, node, target, weight)):
                        column.append(value)
            else:
                queue += [(count, level + 1), (count + 1, level + 1)]
                count += 2
    return {**lists, **ballots}


def grid(rows, columns, holes=0.0):
    """Features on the same grid as the thresholds, so that equality happens."""
    values = (random.integers(-6, 7, (rows, columns)) / 4).astype(np.float32)
    values[random.random((rows, columns)) < holes] = np.nan
    return values


def trees():
    every = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"]
    labels = {"L": "int64", "P": "float32"}
    one = lambda: [0]
    some = lambda of: lambda: sorted(random.choice(of, random.integers(1, of + 1), replace=False).tolist())

    def classify(name, attributes, x, outputs=labels, **more):
        graph(name, [ml("TreeEnsembleClassifier", ["X"], ["L", "P"], **attributes, **more)], {"X": x}, outputs)

    def regress(name, attributes, x, **more):
        graph(name, [ml("TreeEnsembleRegressor", ["X"], ["Y"], **attributes, **more)], {"X": x}, {"Y": "float32"})

    for mode in every:
        attributes = forest(6, 4, 4, one, [mode], "target", missing=False)
        regress(f"trees_{mode.lower()}", attributes, grid(40, 4, 0.2), n_targets=1)
    regress("trees_missing", forest(9, 5, 4, one, ["BRANCH_LEQ"], "target", missing=True), grid(40, 4, 0.3), n_targets=1)
    for aggregate in ("SUM", "AVERAGE", "MIN", "MAX"):
        attributes = forest(7, 4, 3, some(3), every, "target", missing=True)
        regress(f"trees_{aggregate.lower()}", attributes, grid(40, 3, 0.2), n_targets=3, aggregate_function=aggregate,
                base_values=[0.5, -1.0, 2.0])
    attributes = forest(5, 4, 3, one, ["BRANCH_LT"], "target", missing=False)
    regress("trees_double_input", attributes, random.normal(size=(30, 3)), n_targets=1)
    attributes = forest(5, 4, 3, some(3), ["BRANCH_LEQ"], "class", missing=False)
    classify("trees_int64_input", attributes, random.integers(-2, 3, (30, 3)), classlabels_int64s=[1, 2, 3])
    attributes = forest(5, 4, 3, one, ["BRANCH_LEQ"], "target", missing=False)
    for name in ("nodes_values", "target_weights"):
        values = np.array(attributes.pop(name), np.float64) + 1e-9
        attributes[f"{name}_as_tensor"] = numpy_helper.from_array(values, name)
    double = {"X": grid(30, 3).astype(np.float64)}
    graph("trees_double_values", [ml("TreeEnsembleRegressor", ["X"], ["Y"], **attributes, n_targets=1)], double,
          {"Y": "float32"})

    for transform in ("NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"):
        attributes = forest(8, 4, 4, some(4), ["BRANCH_LEQ"], "class", missing=False)
        classify(f"trees_four_{transform.lower()}", attributes, grid(40, 4), classlabels_int64s=[3, 5, 7, 9],
                 post_transform=transform, base_values=[0.1, 0.2, -0.3, 0.0])
    attributes = forest(8, 4, 4, some(3), ["BRANCH_LT"], "class", missing=True)
    classify("trees_strings", attributes, grid(40, 4, 0.2), {"L": "string", "P": "float32"},
             classlabels_strings=["low", "middle", "high"])
    for transform in ("NONE", "LOGISTIC"):
        attributes = forest(8, 4, 4, one, ["BRANCH_LT"], "class", missing=False)
        classify(f"trees_margin_{transform.lower()}", attributes, grid(40, 4), classlabels_int64s=[0, 1],
                 post_transform=transform, base_values=[0.25])
    attributes = forest(1, 5, 4, one, ["BRANCH_LEQ"], "class", missing=False, positive=True)
    classify("trees_probability", attributes, grid(40, 4), classlabels_int64s=[0, 1])


def networks():
    """Operators of the default domain: what plans, shapes and rows have to cope with."""
    weight = lambda *shape: (random.normal(size=shape) / 4).astype(np.float32)
    node = helper.make_node
    convolution = [
        node("Conv", ["X", "w"], ["c"], pads=[1, 1, 1, 1]),
        node("Relu", ["c"], ["r"]),
        node("GlobalAveragePool", ["r"], ["p"]),
        node("Flatten", ["p"], ["f"]),
        node("Gemm", ["f", "g", "b"], ["Y"]),
    ]
    constants = [("w", weight(4, 2, 3, 3)), ("g", weight(4, 3)), ("b", weight(3))]
    images = {"X": random.normal(size=(5, 2, 6, 6)).astype(np.float32)}
    graph("convolution", convolution, images, {"Y": "float32"}, constants)
    centred = [node("ReduceMean", ["X"], ["m"], axes=[0], keepdims=1), node("Sub", ["X", "m"], ["Y"])]
    graph("centred", centred, {"X": floats(6, 3)}, {"Y": "float32"})
    ranged = [
        node("DynamicQuantizeLinear", ["X"], ["q", "s", "z"]),
        node("Cast", ["q"], ["steps"], to=TensorProto.FLOAT),
        node("Cast", ["z"], ["zero"], to=TensorProto.FLOAT),
        node("Sub", ["steps", "zero"], ["d"]),
        node("Mul", ["d", "s"], ["Y"]),
    ]
    graph("dynamic_quantization", ranged, {"X": floats(6, 3)}, {"Y": "float32"})
    ids = {"X": random.integers(0, 5, (4, 3))}
    embedding = [node("Gather", ["table", "X"], ["e"]), node("ReduceSum", ["e", "axes"], ["Y"], keepdims=0)]
    graph("embedding", embedding, ids, {"Y": "float32"}, [("table", weight(5, 2)), ("axes", np.array([1]))])
    total = [node("Mul", ["A", "B"], ["p"]), node("ReduceSum", ["p"], ["Y"], keepdims=0)]
    graph("scalar_output", total, {"A": floats(3, 2), "B": floats(3, 2)}, {"Y": "float32"})
    arg = [node("ArgMax", ["X"], ["L"], axis=1, keepdims=0), node("Shape", ["X"], ["S"])]
    graph("dimensions_as_outputs", arg, {"X": floats(6, 3)}, {"L": "int64", "S": "int64"})
    text = {key: np.array([["a"], ["b"], ["c"]], object) for key in ("A", "B")}
    words = [node("Concat", ["A", "B"], ["j"], axis=1), node("Gather", ["j", "one"], ["Y"], axis=1)]
    graph("strings", words, text, {"Y": "string"}, [("one", np.array([1, 0]))])
    halves = [node("Split", ["X"], ["A", "B"], axis=1), node("Concat", ["B", "A"], ["Y"], axis=1)]
    graph("two_halves", halves, {"X": floats(4, 6)}, {"Y": "float32"})


def recurrent():
    """Operators that carry a state from step to step, and must not carry it from call to call."""
    own = np.random.default_rng(20261122)
    weight = lambda *shape: (own.normal(size=shape) / 4).astype(np.float32)
    node = helper.make_node
    series = {"X": own.normal(size=(4, 6, 3)).astype(np.float32)}
    for op, gates in (("RNN", 1), ("GRU", 3), ("LSTM", 4)):
        nodes = [
            node("Transpose", ["X"], ["steps"], perm=[1, 0, 2]),
            node(op, ["steps", "w", "r", "b"], ["", "h"], hidden_size=5),
            node("Squeeze", ["h", "axes"], ["Y"]),
        ]
        constants = [("w", weight(1, gates * 5, 3)), ("r", weight(1, gates * 5, 5)), ("b", weight(1, gates * 10)),
                     ("axes", np.array([0]))]
        graph(op.lower(), nodes, series, {"Y": "float32"}, constants)
        # Both directions, from given states, to given lengths, with every output.
        states = ["h0", "c0", "p"] if op == "LSTM" else ["h0"]
        outputs = ["every", "last", "cell"] if op == "LSTM" else ["every", "last"]
        attributes = {"GRU": {"linear_before_reset": 1}, "LSTM": {"input_forget": 1}}.get(op, {"clip": 0.3})
        whole = [
            node("Transpose", ["X"], ["steps"], perm=[1, 0, 2]),
            node(op, ["steps", "w", "r", "", "lengths", *states], outputs, hidden_size=5, direction="bidirectional",
                 **attributes),
            node("Transpose", ["every"], ["Y"], perm=[2, 0, 1, 3]),
            *[node("Transpose", [name], [name + "_rows"], perm=[1, 0, 2]) for name in outputs[1:]],
        ]
        constants = [("w", weight(2, gates * 5, 3)), ("r", weight(2, gates * 5, 5)), ("h0", weight(2, 4, 5)),
                     ("c0", weight(2, 4, 5)), ("p", weight(2, 15)), ("lengths", np.array([6, 1, 4, 6], np.int32))]
        used = ["w", "r", "lengths", *states]
        graph(f"{op.lower()}_whole", whole, series, {"Y": "float32", **{name + "_rows": "float32" for name in outputs[1:]}},
              [(name, value) for name, value in constants if name in used], rows=4)
    backwards = [
        node("Transpose", ["X"], ["steps"], perm=[1, 0, 2]),
        node("GRU", ["steps", "w", "r"], ["every"], hidden_size=5, direction="reverse",
             activations=["HardSigmoid", "Softsign"], activation_alpha=[0.3], activation_beta=[0.4]),
        node("Transpose", ["every"], ["Y"], perm=[2, 0, 1, 3]),
    ]
    graph("gru_backwards", backwards, series, {"Y": "float32"}, [("w", weight(1, 15, 3)), ("r", weight(1, 15, 5))])
    body = helper.make_graph(
        [node("Add", ["before", "x"], ["after"]), node("Identity", ["after"], ["y"])],
        "sum",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3]) for name in ("before", "x")],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3]) for name in ("after", "y")],
    )
    scan = [node("Scan", ["start", "X"], ["last", "Y"], num_scan_inputs=1, body=body)]
    steps = {"X": own.normal(size=(6, 3)).astype(np.float32)}
    graph("scan", scan, steps, {"Y": "float32", "last": "float32"}, [("start", np.ones(3, np.float32))])


def machines():
    """Support vector machines, and the operators that tract lacks or has in part."""
    from sklearn.svm import SVC, SVR, NuSVC, OneClassSVM
    from skl2onnx import to_onnx

    own = np.random.default_rng(20261123)
    opset = {"": 17, "ai.onnx.ml": 3}
    x = own.normal(size=(120, 4)).astype(np.float32)
    four = (x[:, 0] > 0) * 2 + (x[:, 1] * x[:, 2] > 0)
    names = np.array(["a", "b", "c", "d"])
    rows = own.normal(size=(40, 4)).astype(np.float32)

    def machine(name, model, target):
        made = to_onnx(model.fit(x, target), x[:1], target_opset=opset)
        options = {"zipmap": False} if hasattr(model, "predict_proba") or hasattr(model, "decision_function") else None
        if options and not isinstance(model, OneClassSVM):
            made = to_onnx(model, x[:1], options=options, target_opset=opset)
        save(f"svm_{name}", made, {"X": rows})

    for kernel in ("linear", "poly", "rbf", "sigmoid"):
        machine(f"{kernel}_two", SVC(kernel=kernel), four > 1)
        machine(f"{kernel}_four", SVC(kernel=kernel), names[four])
        machine(f"{kernel}_four_proba", SVC(kernel=kernel, probability=True, random_state=1), four)
        machine(f"{kernel}_regressor", SVR(kernel=kernel), x[:, 0] + x[:, 1] ** 2)
    machine("rbf_two_proba", SVC(probability=True, random_state=1), names[four // 2])
    machine("nu_four_proba", NuSVC(nu=0.2, probability=True, random_state=1), names[four])
    machine("one_class", OneClassSVM(), None)
    for count, positive in ((2, False), (2, True), (3, False)):
        weights = own.normal(size=(count, 4))
        weights = (np.abs(weights) if positive else weights).astype(np.float32)
        node = ml("SVMClassifier", ["X"], ["label", "scores"], coefficients=weights.ravel().tolist(), rho=[0.1],
                  classlabels_ints=list(range(count)), kernel_type="LINEAR", kernel_params=[0.0, 0.0, 0.0])
        graph(f"svm_coefficients_{count}{'_positive' * positive}", [node], {"X": rows},
              {"label": "int64", "scores": "float32"})

    holes = np.where(own.random((6, 3)) < 0.2, np.nan, own.normal(size=(6, 3)))
    for name, values in (("scaler_near_offset", 1e6 + own.normal(size=(6, 3))), ("normalizer_float64", own.normal(size=(6, 3)))):
        node = (ml("Scaler", ["X"], ["Y"], offset=[1e6], scale=[3.0]) if name.startswith("scaler") else
                ml("Normalizer", ["X"], ["Y"], norm="L2"))
        graph(name, [node], {"X": values}, {"Y": "float32"})
    graph("binarizer", [ml("Binarizer", ["X"], ["Y"], threshold=0.5)], {"X": rows}, {"Y": "float32"})
    pairs = {"cats_strings": ["a", "b", "c", "a"], "cats_int64s": [3, 5, 7, 5]}
    words = np.array([["a"], ["c"], ["z"], ["b"]], object)
    graph("category_mapper", [ml("CategoryMapper", ["X"], ["Y"], **pairs)], {"X": words}, {"Y": "int64"})
    graph("category_mapper_back", [ml("CategoryMapper", ["X"], ["Y"], default_string="none", **pairs)],
          {"X": np.array([[3], [5], [9]])}, {"Y": "string"})
    sides = {"A": rows[:5], "B": rows[5:10, :2], "C": rows[10:15, :1]}
    side_by_side = ml("FeatureVectorizer", list(sides), ["Y"], inputdimensions=[3, 2, 2])
    graph("feature_vectorizer", [side_by_side], sides, {"Y": "float32"})
    for kind, values in (("string", np.array([["p", "q", "r"], ["s", "t", "u"]], object)), ("float64", holes),
                         ("int64", np.arange(12).reshape(2, 2, 3))):
        extract = ml("ArrayFeatureExtractor", ["X", "at"], ["Y"])
        graph(f"extract_{kind}", [extract], {"X": values}, {"Y": kind}, [("at", np.array([2, 0, 2]))])


def tables():
    """LabelEncoder of version 4, whose tables are tensors, and of version 1, both ways."""
    make = numpy_helper.from_array
    for name, keys, values, default, inputs in (
        ("strings_to_int16s", np.array(["a", "b"], object), np.array([7, 9], np.int16), np.array([-3], np.int16),
         np.array([["b"], ["z"], ["a"]], object)),
        ("float64s_to_strings", np.array([0.1, np.nan]), np.array(["tenth", "none"], object), None,
         np.array([[0.1], [np.nan], [0.1 + 1e-9]])),
        ("int64s_to_float64s", np.array([3, 4]), np.array([0.1, 0.2]), np.array([9.5]), np.array([[4], [5], [3]])),
    ):
        tensors = {"keys_tensor": make(keys), "values_tensor": make(values)}
        tensors |= {"default_tensor": make(default)} if default is not None else {}
        graph(f"label_{name}", [ml("LabelEncoder", ["X"], ["Y"], **tensors)], {"X": inputs},
              {"Y": dtype(values)}, ml=4)
    first = {"classes_strings": ["low", "high"], "default_int64": -7, "default_string": "none"}
    words = np.array([["high"], ["?"], ["low"]], object)
    graph("label_first_version", [ml("LabelEncoder", ["X"], ["Y"], **first)], {"X": words}, {"Y": "int64"}, ml=1)
    graph("label_first_version_back", [ml("LabelEncoder", ["X"], ["Y"], **first)], {"X": np.array([[1], [0], [5]])},
          {"Y": "string"}, ml=1)


def version_5():
    """TreeEnsemble of ai.onnx.ml 5: shared leaves, trees of one leaf, each aggregate, f32 and f64."""
    own = np.random.default_rng(20261124)
    leaf = own.normal(size=6)
    for name, kind, function in (("sum", np.float32, 1), ("average", np.float64, 0), ("least", np.float32, 2), ("most", np.float64, 3)):
        # Two trees of two levels, and one whose only node leads to one leaf either way.
        node = ml(
            "TreeEnsemble", ["X"], ["Y"], n_targets=2, aggregate_function=function, post_transform=0,
            tree_roots=[0, 3, 6],
            nodes_featureids=[0, 1, 2, 3, 0, 1, 0],
            nodes_splits=numpy_helper.from_array(np.array([0.1, -0.2, 0.3, 0.0, 0.4, -0.5, 0.0], kind)),
            nodes_modes=numpy_helper.from_array(np.array([0, 1, 2, 3, 0, 0, 0], np.uint8)),
            nodes_missing_value_tracks_true=[0, 1, 0, 1, 0, 0, 0],
            nodes_truenodeids=[1, 0, 2, 4, 1, 3, 5], nodes_trueleafs=[0, 1, 1, 0, 1, 1, 1],
            nodes_falsenodeids=[2, 1, 3, 5, 4, 0, 5], nodes_falseleafs=[0, 1, 1, 0, 1, 1, 1],
            leaf_targetids=[0, 1, 0, 1, 0, 1], leaf_weights=numpy_helper.from_array(leaf.astype(kind)),
        )
        rows = own.normal(size=(20, 4)).astype(kind)
        rows[own.random(rows.shape) < 0.1] = np.nan
        graph(f"trees_5_{name}", [node], {"X": rows}, {"Y": np.dtype(kind).name}, ml=5)


def members():
    """TreeEnsemble of ai.onnx.ml 5 whose nodes ask whether a category is in a set."""
    own = np.random.default_rng(20261129)
    sets = [[1, 4, 7], [0, 2, 3, 40], [5, 6, 100000]]
    members = np.array([x for values in sets for x in [*values, np.nan]][:-1])
    for name, kind in (("float32", np.float32), ("float64", np.float64)):
        node = ml(
            "TreeEnsemble", ["X"], ["Y"], n_targets=1, aggregate_function=1, post_transform=0,
            tree_roots=[0, 3],
            nodes_featureids=[0, 1, 1, 0],
            nodes_splits=numpy_helper.from_array(np.array([0, 0.25, 0, 0], kind)),
            nodes_modes=numpy_helper.from_array(np.array([6, 0, 6, 6], np.uint8)),
            nodes_missing_value_tracks_true=[0, 1, 1, 0],
            nodes_truenodeids=[1, 0, 2, 4], nodes_trueleafs=[0, 1, 1, 1],
            nodes_falsenodeids=[2, 1, 3, 5], nodes_falseleafs=[0, 1, 1, 1],
            leaf_targetids=[0] * 6, leaf_weights=numpy_helper.from_array(own.normal(size=6).astype(kind)),
            membership_values=numpy_helper.from_array(members.astype(kind)),
        )
        # No fractions: onnxruntime cuts them off, where the specification asks for equality.
        rows = own.choice([-2, -1, 0, 1, 2, 3, 4, 5, 6, 7, 40, 41, 100000, np.nan], (60, 2)).astype(kind)
        graph(f"trees_5_members_{name}", [node], {"X": rows}, {"Y": np.dtype(kind).name}, ml=5)
def by_value():
    """Models whose shapes hang on the values of inputs. The file says the rank of what comes out."""
    own = np.random.default_rng(20260102)
    node, whole = helper.make_node, lambda *values: np.array(values, np.int64)

    def model(name, nodes, inputs, outputs, constants=()):
        free = lambda k, v: [None] * v.ndim if k == "X" else v.shape
        ins = [helper.make_tensor_value_info(k, TYPES[dtype(v)], free(k, v)) for k, v in inputs.items()]
        outs = [helper.make_tensor_value_info(k, TYPES[t], [None] * rank) for k, (t, rank) in outputs.items()]
        made = helper.make_graph(nodes, name, ins, outs, [numpy_helper.from_array(v, k) for k, v in constants])
        made = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)])
        made.ir_version = 8
        save(name, made, inputs)

    x = own.normal(size=(4, 6)).astype(np.float32)
    y = {"Y": ("float32", 3)}
    model("by_value_reshape", [node("Reshape", ["X", "shape"], ["Y"])], {"X": x, "shape": whole(2, -1, 3)}, y)
    # No value decides, but the extents have to be numbers.
    model("by_shape", [node("Reshape", ["X", "two"], ["Y"])], {"X": x}, {"Y": ("float32", 2)}, [("two", whole(2, -1))])
    # The shape is computed from an input; weights of more than a few elements lie beside.
    computed = [
        node("Unsqueeze", ["rows", "first"], ["leading"]),
        node("Concat", ["leading", "rest"], ["shape"], axis=0),
        node("MatMul", ["X", "W"], ["projected"]),
        node("Reshape", ["projected", "shape"], ["Y"]),
    ]
    constants = [("first", whole(0)), ("rest", whole(5, -1)), ("W", own.normal(size=(6, 20)).astype(np.float32))]
    model("by_value_computed", computed, {"X": x, "rows": np.array(8, np.int64)}, y, constants)
    cut = {"X": x, "starts": whole(1, -1), "ends": whole(4, -7), "axes": whole(0, 1), "steps": whole(1, -2)}
    flat = {"Y": ("float32", 2)}
    model("by_value_slice", [node("Slice", list(cut), ["Y"])], cut, flat)
    padded = {"X": x, "pads": whole(1, 0, 2, 3), "value": np.array(-1.5, np.float32)}
    model("by_value_pad", [node("Pad", list(padded), ["Y"])], padded, flat)
    summed = {"X": x, "axes": whole(1)}
    model("by_value_reduce", [node("ReduceSum", list(summed), ["Y"], keepdims=0)], summed, {"Y": ("float32", 1)})
    image = {"X": own.normal(size=(1, 2, 3, 4)).astype(np.float32), "sizes": whole(1, 2, 5, 7)}
    resized = [node("Resize", ["X", "", "", "sizes"], ["Y"], mode="linear")]
    model("by_value_resize", resized, image, {"Y": ("float32", 4)})
    counted = {name: np.array(value, np.int64) for name, value in (("start", 3), ("limit", 12), ("delta", 2))}
    model("by_value_range", [node("Range", list(counted), ["Y"])], counted, {"Y": ("int64", 1)})
    classes = {"indices": whole(1, 4, 0), "depth": np.array(5, np.int64), "values": np.array([0, 1], np.float32)}
    model("by_value_one_hot", [node("OneHot", list(classes), ["Y"])], classes, flat)


def standard():
    """Operators of the standard domain that are our own, with a batch of any size where they have one."""
    own = np.random.default_rng(20260103)
    node, numbers = helper.make_node, lambda *shape: own.normal(size=shape).astype(np.float32)

    def model(name, nodes, inputs, outputs, opset=18, fixed=()):
        ins = [
            helper.make_tensor_value_info(k, TYPES[dtype(v)], v.shape if k in fixed else ["N", *v.shape[1:]])
            for k, v in inputs.items()
        ]
        outs = [helper.make_tensor_value_info(k, TYPES[kind], None) for k, kind in outputs.items()]
        made = helper.make_graph(nodes, name, ins, outs)
        made = helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)])
        made.ir_version = 8
        save(name, made, inputs)

    words = np.array([["a b  c", "Monday"], ["", "x,y,,z"], [" led ", "a,b c"]], object)
    model("string_split", [node("StringSplit", ["X"], ["Y", "Z"], maxsplit=2)], {"X": words},
          {"Y": "string", "Z": "int64"}, 20)
    model("string_split_at", [node("StringSplit", ["X"], ["Y", "Z"], delimiter=",")], {"X": words},
          {"Y": "string", "Z": "int64"}, 20)
    text = [node("StringConcat", ["X", "B"], ["Y"]), node("RegexFullMatch", ["Y"], ["M"], pattern="[a-z, ]+[0-9]")]
    suffix = np.array([["1"], ["2"], ["x"]], object)
    model("string_concat", text, {"X": words, "B": suffix}, {"Y": "string", "M": "bool"}, 20)
    days = {"X": np.array(["Monday", "tuesday", "MONDAY", "Sunday"], object)}
    stop = [node("StringNormalizer", ["X"], ["Y"], case_change_action="UPPER", stopwords=["monday"], locale="C")]
    model("string_normalizer", stop, days, {"Y": "string"})
    grams = dict(ngram_counts=[0, 4], ngram_indexes=[0, 1, 2, 3, 4, 5, 6], pool_int64s=[2, 3, 5, 4, 5, 6, 7, 8, 6, 7],
                 weights=[1.0, 2.0, 0.5, 1.5, 3.0, 0.25, 4.0], min_gram_length=1, max_gram_length=2, max_skip_count=3)
    for mode in ("TF", "IDF", "TFIDF"):
        model(f"tf_idf_{mode.lower()}", [node("TfIdfVectorizer", ["X"], ["Y"], mode=mode, **grams)],
              {"X": own.integers(2, 9, (5, 12))}, {"Y": "float32"})
    model("unique", [node("Unique", ["X"], ["Y", "I", "V", "C"], axis=1, sorted=0)],
          {"X": own.integers(0, 2, (2, 9)).astype(np.float32)},
          {"Y": "float32", "I": "int64", "V": "int64", "C": "int64"})
    model("compress", [node("Compress", ["X", "C"], ["Y"], axis=1)],
          {"X": numbers(3, 4), "C": np.array([True, False, True])}, {"Y": "float32"}, fixed=("C",))
    model("reverse_sequence", [node("ReverseSequence", ["X", "L"], ["Y"], batch_axis=0, time_axis=1)],
          {"X": numbers(4, 6, 2), "L": np.array([6, 1, 0, 3])}, {"Y": "float32"})
    pool = dict(kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 1], p=3)
    model("lp_pool", [node("LpPool", ["X"], ["Y"], **pool)], {"X": numbers(2, 3, 7, 5)}, {"Y": "float32"})
    model("determinant", [node("Det", ["X"], ["Y"])], {"X": numbers(5, 4, 4)}, {"Y": "float32"})
    regions = np.array([[0, 0, 4, 4], [1.5, 2.5, 6, 7], [-3, -2, 5, 3]], np.float32)
    rois = {"X": numbers(2, 3, 8, 9), "R": regions, "B": np.array([0, 1, 1])}
    for mode in ("avg", "max"):
        align = [node("RoiAlign", ["X", "R", "B"], ["Y"], output_height=3, output_width=2, sampling_ratio=2, mode=mode)]
        model(f"roi_align_{mode}", align, rois, {"Y": "float32"}, fixed=("X", "R", "B"))
    heads = {"Q": numbers(2, 4, 5, 8), "K": numbers(2, 2, 6, 8), "V": numbers(2, 2, 6, 3),
             "M": own.random((2, 1, 5, 6)) < 0.7}
    model("attention_boolean", [node("Attention", ["Q", "K", "V", "M"], ["Y"])], heads, {"Y": "float32"}, 23)
    # Without a mask: onnxruntime caps before it masks, the specification of version 23 the other way round.
    capped = {key: heads[key] for key in ("Q", "K", "V")}
    model("attention_capped", [node("Attention", ["Q", "K", "V"], ["Y"], softcap=2.0)], capped, {"Y": "float32"}, 23)
    computed = [node("IsNaN", ["M"], ["S"]), node("Not", ["S"], ["T"]), node("Attention", ["Q", "K", "V", "T"], ["Y"])]
    holes = np.where(own.random((2, 1, 5, 6)) < 0.3, np.nan, 0).astype(np.float32)
    model("attention_computed_mask", computed, {**heads, "M": holes}, {"Y": "float32"}, 23)
    # A question on a shape, as torch writes them: only one branch fits. And one on a value.
    branch = lambda op, inputs, name: helper.make_graph(
        [node(op, inputs, [name])], name, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)])
    asked = [
        node("Constant", [], ["two"], value_ints=[2]),
        node("Constant", [], ["pairs"], value_ints=[-1, 2]),
        node("Shape", ["X"], ["width"], start=1, end=2),
        node("Equal", ["width", "two"], ["narrow"]),
        node("If", ["narrow"], ["Y"], then_branch=branch("Reshape", ["X", "pairs"], "laid"),
             else_branch=branch("Relu", ["X"], "kept")),
    ]
    ins = [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["N", "W"])]
    outs = [helper.make_tensor_value_info("Y", TensorProto.FLOAT, [None, None])]
    asking = helper.make_graph(asked, "if_on_a_shape", ins, outs)
    save("if_on_a_shape", helper.make_model(asking, opset_imports=[helper.make_opsetid("", 18)], ir_version=8),
         {"X": numbers(5, 3)})
    chosen = [node("If", ["C"], ["Y"], then_branch=branch("Neg", ["X"], "less"), else_branch=branch("Exp", ["X"], "more"))]
    model("if_on_a_value", chosen, {"X": numbers(3, 2), "C": np.array(False)}, {"Y": "float32"}, fixed=("C",))
    scores = {"S": numbers(6, 4, 3), "T": own.integers(0, 4, (6, 3)), "W": np.abs(numbers(4))}
    loss = [node("SoftmaxCrossEntropyLoss", ["S", "T", "W"], ["Y", "L"], ignore_index=2, reduction="none")]
    model("cross_entropy", loss, scores, {"Y": "float32", "L": "float32"}, fixed=("W",))


def refused():
    """Models that have to be refused, one whose weights lie beside it, and one that gets a plan per shape."""
    folder = HERE.parent / "special"
    folder.mkdir(exist_ok=True)
    kernel = ml("NoSuchOperator", ["X"], ["Y"])
    ins = [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, 1])]
    outs = [helper.make_tensor_value_info("Y", TensorProto.FLOAT, None)]
    opsets = [helper.make_opsetid(*domain) for domain in (("", 17), ("ai.onnx.ml", 3), ("com.example", 1))]
    write = lambda name, nodes, constants=(): onnx.save(
        helper.make_model(helper.make_graph(nodes, name, ins, outs, list(constants)), opset_imports=opsets, ir_version=8),
        folder / f"{name}.onnx",
    )
    write("unsupported", [kernel])
    write("other_domain", [helper.make_node("Relu", ["X"], ["Y"], domain="com.example", name="rectify")])
    clash = numpy_helper.from_array(np.ones((3, 3), np.float32), "w")
    write("shape_clash", [helper.make_node("MatMul", ["X", "w"], ["Y"], name="product")], [clash])
    spoken = [helper.make_tensor_value_info("Y", TensorProto.FLOAT, [None, None])]
    clashing = helper.make_graph([helper.make_node("MatMul", ["X", "w"], ["Y"])], "never", ins, spoken, [clash])
    never = helper.make_model(clashing, opset_imports=opsets, ir_version=8)
    onnx.save(never, folder / "never_types.onnx")
    bad = forest(1, 2, 1, lambda: [0], ["BRANCH_LEQ"], "target", missing=False)
    bad["nodes_truenodeids"][0] = 99
    write("broken_tree", [ml("TreeEnsembleRegressor", ["X"], ["Y"], n_targets=1, **bad)])
    outside = numpy_helper.from_array(np.array([[2.0]], np.float32), "w")
    graph_ = helper.make_graph([helper.make_node("MatMul", ["X", "w"], ["Y"])], "external", ins, outs, [outside])
    model = helper.make_model(graph_, opset_imports=opsets, ir_version=8)
    (folder / "external.weights").unlink(missing_ok=True)
    onnx.save(model, folder / "external.onnx", save_as_external_data=True, location="external.weights", size_threshold=0)
    weight = numpy_helper.from_array(np.ones((1, 1, 6, 6), np.float32), "w")
    turned = [
        helper.make_node("Transpose", ["X"], ["t"], perm=[0, 1, 3, 2]),
        helper.make_node("MatMul", ["X", "t"], ["p"]),
        helper.make_node("MatMul", ["p", "w"], ["Y"]),
    ]
    images = [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, 2, 6, 6])]
    graph_ = helper.make_graph(turned, "plan_per_shape", images, outs, [weight])
    onnx.save(helper.make_model(graph_, opset_imports=opsets, ir_version=8), folder / "plan_per_shape.onnx")


def pipelines():
    from sklearn.compose import ColumnTransformer
    from sklearn.datasets import load_iris
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Normalizer, OneHotEncoder, StandardScaler
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType
    import pandas

    opset = {"": 17, "ai.onnx.ml": 3}
    iris = load_iris()
    x, names = iris.data.astype(np.float32), iris.target_names[iris.target]
    rows = x[::5]
    for name, model, target in (
        ("iris_forest", RandomForestClassifier(10, max_depth=4, random_state=1), names),
        ("iris_logistic", make_pipeline(StandardScaler(), LogisticRegression()), iris.target),
        ("iris_mlp", make_pipeline(StandardScaler(), MLPClassifier((8,), max_iter=300, random_state=1)), iris.target),
        ("iris_normalized", make_pipeline(Normalizer(), LogisticRegression()), names),
        ("iris_forest_regressor", RandomForestRegressor(10, max_depth=4, random_state=1), x[:, 0] * x[:, 1]),
    ):
        model.fit(x, target)
        options = {"zipmap": False} if hasattr(model, "predict_proba") else None
        save(name, to_onnx(model, x[:1], options=options, target_opset=opset), {"X": rows})
    model = LogisticRegression().fit(x, names)
    save("iris_zip_map", to_onnx(model, x[:1], target_opset=opset), {"X": rows})

    count = 200
    frame = pandas.DataFrame({
        "colour": random.choice(["red", "green", "blue"], count),
        "size": random.choice(["s", "m", "l"], count),
        "rooms": random.integers(1, 6, count),
        "area": random.normal(80, 20, count).astype(np.float32),
    })
    frame.loc[::9, "area"] = np.nan
    columns = ColumnTransformer([
        ("words", OneHotEncoder(handle_unknown="ignore"), ["colour", "size"]),
        ("rooms", OneHotEncoder(handle_unknown="ignore"), ["rooms"]),
        ("area", make_pipeline(SimpleImputer(), StandardScaler()), ["area"]),
    ])
    target = np.where((frame.colour == "red") ^ (frame.rooms > 3), "dear", "cheap")
    model = make_pipeline(columns, LogisticRegression()).fit(frame, target)
    types = [("colour", StringTensorType([None, 1])), ("size", StringTensorType([None, 1])),
             ("rooms", Int64TensorType([None, 1])), ("area", FloatTensorType([None, 1]))]
    made = to_onnx(model, initial_types=types, options={"zipmap": False}, target_opset=opset)
    probe = frame.iloc[:30].copy()
    probe.loc[3, "colour"] = "never seen"
    inputs = {name: probe[[name]].to_numpy() for name in frame.columns}
    inputs["colour"], inputs["size"] = inputs["colour"].astype(object), inputs["size"].astype(object)
    save("mixed_columns", made, inputs)


def contributed():
    """Operators of com.microsoft that skl2onnx writes."""
    texts = np.array([["a red  wine", "Old_cheese, 2 x"], ["", "größe \u2014 b"], ["one,two;three", "  "]], object)
    ways = {
        "matches": dict(tokenexp="[a-zA-Z0-9_]+", mincharnum=1, mark=0, pad_value="#"),
        "words": dict(tokenexp=r"\b\w\w+\b", mincharnum=1, mark=1, pad_value=""),
        "separators": dict(separators=["[,;]", " "], mincharnum=2, mark=0, pad_value="-"),
        "characters": dict(separators=[""], mincharnum=1, mark=1, pad_value="#"),
    }
    for way, attributes in ways.items():
        node = helper.make_node("Tokenizer", ["X"], ["Y"], domain="com.microsoft", **attributes)
        inputs = [helper.make_tensor_value_info("X", TensorProto.STRING, ["N", 2])]
        outputs = [helper.make_tensor_value_info("Y", TensorProto.STRING, None)]
        made = helper.make_model(helper.make_graph([node], way, inputs, outputs), opset_imports=[
            helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)])
        made.ir_version = 8
        save(f"tokenizer_{way}", made, {"X": texts})


if __name__ == "__main__":
    for old in [*HERE.glob("*.onnx"), *HERE.glob("*.json")]:
        old.unlink()
    encoders()
    linear()
    trees()
    pipelines()
    networks()
    recurrent()
    machines()
    tables()
    version_5()
    members()
    by_value()
    standard()
    contributed()
    refused()
