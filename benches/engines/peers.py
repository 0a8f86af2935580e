"""The engines that ours is measured beside: `peers.py ENGINE THREADS MODEL INPUTS`.

Loads the model, says so in a line of JSON, and then answers each line of standard input, a number of seconds, with what
that long a run of calls took. One process holds one model of one engine, so that its memory and its threads are nobody
else's. `benches/engines.rs` is the other end, and does the same for our own engine.
"""

import importlib
import json
import sys
import time

import numpy as np


def read(path: str) -> dict[str, np.ndarray]:
    with open(path, encoding="utf-8") as file:
        inputs = json.load(file)
    kinds = {"string": object}
    return {name: np.array(one["data"], kinds.get(one["dtype"], one["dtype"])).reshape(one["shape"]) for name, one in inputs.items()}


def onnxruntime(ort, model: str, threads: int, inputs: dict[str, np.ndarray]):
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    # Bound once, so that a call costs what the engine costs and little of what Python does.
    binding = session.io_binding()
    try:
        for name, value in inputs.items():
            binding.bind_cpu_input(name, value)
        for output in session.get_outputs():
            binding.bind_output(output.name)
        session.run_with_iobinding(binding)
        return lambda: session.run_with_iobinding(binding)
    except Exception:  # texts and maps cannot be bound
        return lambda: session.run(None, inputs)


def tract(engine, model: str, _threads: int, inputs: dict[str, np.ndarray]):
    graph = engine.onnx().load(model)
    for place, value in enumerate(inputs.values()):
        kinds = {"float32": "f32", "int64": "i64", "float64": "f64", "bool": "bool"}
        graph.set_input_fact(place, ",".join([*map(str, value.shape), kinds[str(value.dtype)]]))
    runnable = graph.into_model().into_runnable()
    values = [engine.Tensor.from_numpy(value) for value in inputs.values()]
    runnable.run(values)
    return lambda: runnable.run(values)


def openvino(ov, model: str, threads: int, inputs: dict[str, np.ndarray]):
    core = ov.Core()
    graph = core.read_model(model)
    graph.reshape({name: list(value.shape) for name, value in inputs.items()})
    # By itself it computes in bfloat16 where the processor can, which is another answer.
    hints = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
    request = core.compile_model(graph, "CPU", hints).create_infer_request()
    for name, value in inputs.items():
        request.set_tensor(name, ov.Tensor(value, shared_memory=True))
    request.infer()
    return request.infer


def loaded(name: str, threads: int, model: str, inputs: dict[str, np.ndarray]):
    """A call of the engine, and what loading took: milliseconds of CPU and KiB of memory."""
    engine = importlib.import_module(name)
    before, started = memory(), time.process_time()
    call = ENGINES[name](engine, model, threads, inputs)
    return call, {"ms": (time.process_time() - started) * 1e3, "kib": memory() - before}


def run(call, seconds: float) -> dict:
    """The least microseconds of a call, and microseconds of CPU per call."""
    least, calls = float("inf"), 0
    end, used = time.perf_counter() + seconds, time.process_time()
    while calls < 3 or time.perf_counter() < end:
        started = time.perf_counter()
        call()
        least = min(least, time.perf_counter() - started)
        calls += 1
    return {"wall": least * 1e6, "cpu": (time.process_time() - used) / calls * 1e6}


def memory() -> int:
    with open("/proc/self/status", encoding="utf-8") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))


def main() -> None:
    name, threads, model, inputs = sys.argv[1:]
    try:
        call, answer = loaded(name, int(threads), model, read(inputs))
    except Exception as error:
        print(json.dumps({"no": f"{type(error).__name__}: {str(error).strip()[:200]}"}), flush=True)
        return
    print(json.dumps(answer), flush=True)
    for line in sys.stdin:
        print(json.dumps(run(call, float(line))), flush=True)


ENGINES = {"onnxruntime": onnxruntime, "tract": tract, "openvino": openvino}

if __name__ == "__main__":
    main()
