"""Trains main.default.tumour on the Wisconsin breast cancer data that ships with scikit-learn.

Version 1 is a scaled logistic regression, version 2 a random forest, version 3 boosted trees of XGBoost. 30 measurements of a cell nucleus go in, the
probability that the tumour is malignant comes out.
"""

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxmltools
import pandas
import xgboost
from onnxmltools.convert.common.data_types import FloatTensorType as MatrixType
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


def by_onnxmltools(sample: Sample) -> onnx.ModelProto:
    """What onnxmltools makes of a booster: a tree ensemble that has a base value for each of the two classes."""
    columns = len(sample.columns)
    return onnxmltools.convert_xgboost(sample.model.trained, name=sample.name, initial_types=[("X", MatrixType([None, columns]))], target_opset=15)


class Booster:
    """XGBoost over the columns' places: its converter takes no names."""

    def __init__(self, rows: pandas.DataFrame, label: np.ndarray) -> None:
        self.trained = xgboost.XGBClassifier(
            n_estimators=30, max_depth=3, learning_rate=0.3, base_score=0.37, random_state=3, n_jobs=1
        )
        self.trained.fit(rows.to_numpy(np.float32), label)

    def predict_proba(self, rows: pandas.DataFrame) -> np.ndarray:
        return self.trained.predict_proba(rows.to_numpy(np.float32))


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
    models = {version: Pipeline(steps).fit(rows, label) for version, steps in classifiers.items()}
    models[3] = Booster(rows, label)
    for version, model in models.items():
        boosted = {"framework": f"XGBoost {xgboost.__version__}", "export": by_onnxmltools} if version == 3 else {}
        write_version(
            Sample(
                folder=HERE / str(version),
                name=NAME,
                version=version,
                model=model,
                onnx_inputs=[("X", FloatTensorType([None, rows.shape[1]]))],
                columns=[Column(name, "double") for name in rows.columns],
                output=OUTPUT,
                heldout=kept,
                labels=kept_label,
                example=kept.head(2),
                tensors=tensors,
                **boosted,
            )
        )


if __name__ == "__main__":
    main()
