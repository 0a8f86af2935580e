"""Builds the zoo: networks of the sizes that people bring to a box, with random weights, float and quantised.

    python tests/zoo/build.py DIR

Each model becomes a folder with `model.onnx`, `ort.json` (inputs, and what onnxruntime answers; the form of
`daemon/samples`) and, of a quantised one, the step of its output's scale in `ort.json`. Weights are random, but the running
means of the batch normalisations are learned, so that activations stay in the range of trained ones.
"""

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from torch import nn

ROWS = 4
CALIBRATION = 4
GENERATOR = np.random.default_rng(0)


def convolution(inputs: int, outputs: int, kernel: int, stride: int, groups: int = 1) -> nn.Sequential:
    """A convolution, its normalisation and its activation."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(),
    )


class InvertedResidual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        layers = [] if expansion == 1 else [convolution(inputs, hidden, 1, 1)]
        layers += [convolution(hidden, hidden, 3, stride, hidden), nn.Conv2d(hidden, outputs, 1, bias=False), nn.BatchNorm2d(outputs)]
        self.layers = nn.Sequential(*layers)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layers(x) if self.residual else self.layers(x)


def mobilenet_v2() -> nn.Module:
    layers, inputs = [convolution(3, 32, 3, 2)], 32
    stages = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    for expansion, outputs, repeats, stride in stages:
        for repeat in range(repeats):
            layers.append(InvertedResidual(inputs, outputs, stride if repeat == 0 else 1, expansion))
            inputs = outputs
    layers += [convolution(320, 1280, 1, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 1000)]
    return nn.Sequential(*layers)


class BasicBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        self.shortcut = shortcut if stride != 1 or inputs != outputs else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.layers(x) + self.shortcut(x))


def resnet18() -> nn.Module:
    layers, inputs = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)], 64
    for outputs, stride in [(64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)]:
        layers.append(BasicBlock(inputs, outputs, stride))
        inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000))


class KeywordSpotter(nn.Module):
    """A keyword-spotting network: 49 frames of 40 coefficients, five convolutions that are separable by depth."""

    def __init__(self, channels: int = 64) -> None:
        super().__init__()
        layers = [nn.Conv1d(40, channels, 9, padding=4, bias=False), nn.BatchNorm1d(channels), nn.ReLU()]
        for _ in range(5):
            layers += [
                nn.Conv1d(channels, channels, 9, padding=4, groups=channels, bias=False),
                nn.BatchNorm1d(channels),
                nn.ReLU(),
                nn.Conv1d(channels, channels, 1, bias=False),
                nn.BatchNorm1d(channels),
                nn.ReLU(),
            ]
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(channels, 12))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


class Recurrent(nn.Module):
    """Two layers of 64 cells over 48 steps of 16 measurements, and what the last step says."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.cells = kind(16, 64, num_layers=2, batch_first=True)
        self.head = nn.Linear(64, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.cells(x)[0][:, -1])


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def split(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(x.shape[0], x.shape[1], self.heads, self.size).transpose(1, 2)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        query, key, value = self.split(self.query(x)), self.split(self.key(x)), self.split(self.value(x))
        scores = query @ key.transpose(2, 3) / self.size**0.5 + mask
        mixed = (torch.softmax(scores, -1) @ value).transpose(1, 2)
        return self.out(mixed.reshape(x.shape))


class Layer(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = Attention(width, heads)
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.feed = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        x = self.first(x + self.attention(x, mask))
        return self.second(x + self.feed(x))


class MiniLm(nn.Module):
    """An encoder in the shape of MiniLM-L6: six layers of 384, twelve heads, 30,522 words."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(30_522, 384), nn.Embedding(512, 384)
        self.norm = nn.LayerNorm(384)
        self.layers = nn.ModuleList(Layer(384, 12) for _ in range(6))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        places = torch.arange(input_ids.shape[1]).unsqueeze(0)
        x = self.norm(self.words(input_ids) + self.places(places))
        mask = (1.0 - attention_mask[:, None, None, :].float()) * -10_000.0
        for layer in self.layers:
            x = layer(x, mask)
        return x


def perceptron() -> nn.Module:
    """Three wide layers: 57 MB of weights, all of which pass by at each run, however many rows it has."""
    return nn.Sequential(nn.Linear(1024, 3072), nn.ReLU(), nn.Linear(3072, 3072), nn.ReLU(), nn.Linear(3072, 512))


class Thumbnail(nn.Module):
    """Every 32nd pixel of an image of bytes: next to no computing, so that what is measured is the way to it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :, ::32, ::32].float() / 255.0


def normal(*shape: int) -> np.ndarray:
    """Measurements: three decimals, so that the files stay small and every reader reads the same."""
    return np.round(GENERATOR.normal(size=shape), 3).astype(np.float32)


def tokens() -> dict[str, np.ndarray]:
    return {"input_ids": GENERATOR.integers(0, 30_522, (ROWS, 32)), "attention_mask": np.ones((ROWS, 32), np.int64)}


# name: the network, a maker of its inputs, axes that are free beside the batch, how it is quantised
ZOO = {
    "mobilenet-v2": (mobilenet_v2, lambda: {"X": normal(ROWS, 3, 224, 224)}, {}, "static"),
    "resnet18": (resnet18, lambda: {"X": normal(ROWS, 3, 224, 224)}, {}, "static"),
    "keyword-spotting": (KeywordSpotter, lambda: {"X": normal(ROWS, 40, 49)}, {}, "static"),
    "gru": (lambda: Recurrent(nn.GRU), lambda: {"X": normal(ROWS, 48, 16)}, {}, "dynamic"),
    # onnxruntime's quantiser makes an operator of it that only onnxruntime has.
    "lstm": (lambda: Recurrent(nn.LSTM), lambda: {"X": normal(ROWS, 48, 16)}, {}, None),
    "minilm": (MiniLm, tokens, {1: "S"}, "dynamic"),
    "perceptron": (perceptron, lambda: {"X": normal(ROWS, 1024)}, {}, None),
    "thumbnail": (Thumbnail, lambda: {"X": GENERATOR.integers(0, 256, (ROWS, 3, 224, 224), np.uint8)}, {}, None),
}


class Inputs(CalibrationDataReader):
    """A few batches to find the ranges of the activations by."""

    def __init__(self, make) -> None:
        self.batches = iter([make() for _ in range(CALIBRATION)])

    def get_next(self) -> dict | None:
        return next(self.batches, None)


def settled(network: nn.Module, make) -> nn.Module:
    """The network with the running means of its normalisations learned."""
    network.train()
    with torch.no_grad():
        for _ in range(20):
            network(*(torch.from_numpy(value) for value in make().values()))
    return network.eval()


def export(network: nn.Module, make, free: dict[int, str], path: Path) -> None:
    inputs = make()
    axes = {name: {0: "N", **free} for name in [*inputs, "Y"]}
    example = tuple(torch.from_numpy(value) for value in inputs.values())
    names = {"input_names": list(inputs), "output_names": ["Y"], "dynamic_axes": axes}
    torch.onnx.export(network, example, path, opset_version=17, dynamo=False, **names)


def record(folder: Path, inputs: dict[str, np.ndarray]) -> None:
    """What onnxruntime answers, row by row: a dynamic quantiser takes its range over the whole batch."""
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    answers = [session.run(["Y"], {name: value[row : row + 1] for name, value in inputs.items()})[0] for row in range(ROWS)]
    tensors = lambda values: {name: tensor(value) for name, value in values.items()}
    content = {"engine": f"onnxruntime {onnxruntime.__version__}", "inputs": tensors(inputs), "outputs": tensors({"Y": np.concatenate(answers)})}
    content["step"] = step_of(onnx.load(folder / "model.onnx"))
    (folder / "ort.json").write_text(json.dumps(content, separators=(",", ":")))
    print(f"{folder.name}: {(folder / 'model.onnx').stat().st_size} bytes, step {content['step']:.3g}")


def tensor(value: np.ndarray) -> dict:
    flat = value.reshape(-1)
    data = [float(str(number)) for number in flat] if value.dtype == np.float32 else flat.tolist()
    return {"dtype": str(value.dtype), "shape": list(value.shape), "data": data}


def step_of(model: onnx.ModelProto) -> float:
    """What one step of the last DequantizeLinear is worth; 0 where there is none."""
    constants = {initializer.name: numpy_helper.to_array(initializer) for initializer in model.graph.initializer}
    last = next(node for node in model.graph.node if "Y" in node.output)
    return float(constants[last.input[1]]) if last.op_type == "DequantizeLinear" else 0.0


def build(name: str, zoo: Path) -> None:
    make_network, make, free, quantiser = ZOO[name]
    torch.manual_seed(0)
    inputs = make()
    plain = folder(zoo, name)
    export(settled(make_network(), make), make, free, plain / "model.onnx")
    record(plain, inputs)
    if quantiser is None:
        return
    if quantiser == "dynamic":
        target = folder(zoo, f"{name}-int8-dynamic")
        quantize_dynamic(plain / "model.onnx", target / "model.onnx", weight_type=QuantType.QInt8)
        record(target, inputs)
        return
    ways = {"u8s8": (QuantType.QUInt8, False), "s8s8": (QuantType.QInt8, True)}
    for way, (activations, per_channel) in ways.items():
        target = folder(zoo, f"{name}-int8-{way}")
        kinds = {"activation_type": activations, "weight_type": QuantType.QInt8, "per_channel": per_channel}
        quantize_static(plain / "model.onnx", target / "model.onnx", Inputs(make), quant_format=QuantFormat.QDQ, **kinds)
        record(target, inputs)


def folder(zoo: Path, name: str) -> Path:
    path = zoo / name
    path.mkdir(parents=True, exist_ok=True)
    return path


def main() -> None:
    warnings.filterwarnings("ignore")
    for name in ZOO:
        build(name, Path(sys.argv[1]))


if __name__ == "__main__":
    main()
