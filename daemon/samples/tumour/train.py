"""Trains main.default.tumour on the Wisconsin breast cancer data that ships with scikit-learn.

Version 1 is a scaled logistic regression, version 2 a random forest. 30 measurements of a cell nucleus go in, the
probability that the tumour is malignant comes out.
"""

import sys
from pathlib import Path

import numpy as np
import pandas
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from export import Column, Sample, write_version  # noqa: E402

HERE = Path(__file__).resolve().parent
NAME = "main.default.tumour"
OUTPUT = "malignant_probability"


def tensors(frame: pandas.DataFrame) -> dict[str, np.ndarray]:
    """The whole frame as one matrix in column order: MLflow's rule for a graph with a single input."""
    return {"X": frame.to_numpy(np.float32)}


def main() -> None:
    data = load_breast_cancer(as_frame=True)
    # The graph computes in float32, so the framework must see the same numbers; the dataset says 0 for malignant.
    measurements = data.data.astype(np.float32).astype(np.float64)
    malignant = (data.target == 0).to_numpy()
    rows, kept, label, kept_label = train_test_split(
        measurements, malignant, test_size=0.3, random_state=7, stratify=malignant
    )
    classifiers = {
        1: [("scaler", StandardScaler()), ("classifier", LogisticRegression(C=0.5, max_iter=1000))],
        2: [("classifier", RandomForestClassifier(n_estimators=50, max_depth=6, random_state=2))],
    }
    for version, steps in classifiers.items():
        write_version(
            Sample(
                folder=HERE / str(version),
                name=NAME,
                version=version,
                pipeline=Pipeline(steps).fit(rows, label),
                onnx_inputs=[("X", FloatTensorType([None, rows.shape[1]]))],
                columns=[Column(name, "double") for name in rows.columns],
                output=OUTPUT,
                heldout=kept,
                labels=kept_label,
                example=kept.head(2),
                tensors=tensors,
            )
        )


if __name__ == "__main__":
    main()
