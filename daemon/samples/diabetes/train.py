"""Trains main.default.diabetes on the diabetes data that ships with scikit-learn.

Ten measurements of a patient go in, standardised as the data set has them; a number that says how far the disease has
advanced a year later comes out. Version 1 is gradient boosting.
"""

import sys
from pathlib import Path

import numpy as np
import pandas
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_diabetes
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from export import Column, Sample, write_version  # noqa: E402

HERE = Path(__file__).resolve().parent


def tensors(frame: pandas.DataFrame) -> dict[str, np.ndarray]:
    """The whole frame as one matrix in column order: MLflow's rule for a graph with a single input."""
    return {"X": frame.to_numpy(np.float32)}


def main() -> None:
    data = load_diabetes(as_frame=True)
    # The graph computes in float32, so the framework must see the same numbers.
    measurements = data.data.astype(np.float32).astype(np.float64)
    rows, kept, value, kept_value = train_test_split(measurements, data.target.to_numpy(), test_size=0.3, random_state=5)
    booster = GradientBoostingRegressor(n_estimators=60, max_depth=3, learning_rate=0.1, random_state=4)
    write_version(
        Sample(
            folder=HERE / "1",
            name="main.default.diabetes",
            version=1,
            model=Pipeline([("booster", booster)]).fit(rows, value),
            onnx_inputs=[("X", FloatTensorType([None, rows.shape[1]]))],
            columns=[Column(name, "double") for name in rows.columns],
            output="progression",
            heldout=kept,
            labels=kept_value,
            example=kept.head(2),
            tensors=tensors,
            regression=True,
        )
    )


if __name__ == "__main__":
    main()
