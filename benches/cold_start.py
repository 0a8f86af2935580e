"""The peer of `benches/cold_start.rs`: `cold_start.py MODEL INPUTS`.

For each line of standard input: makes an onnxruntime session of the model, runs it once on one row, and prints the milliseconds
that took.
"""

import json
import sys
import time

import numpy as np
import onnxruntime


def main() -> None:
    model, recorded = sys.argv[1:]
    with open(recorded, encoding="utf-8") as file:
        inputs = json.load(file)["inputs"]
    row = {name: np.array(one["data"], one["dtype"]).reshape(one["shape"])[:1] for name, one in inputs.items()}
    for _ in sys.stdin:
        start = time.perf_counter()
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        session.run(None, row)
        print((time.perf_counter() - start) * 1e3, flush=True)
        del session


if __name__ == "__main__":
    main()
