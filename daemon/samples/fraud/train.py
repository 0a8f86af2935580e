"""Trains main.default.fraud: version 3 is a logistic regression, version 4 gradient boosting, on mixed columns.

The transactions are synthetic, drawn by `transactions` from a fixed seed: nobody's payments are in this repository.
"""

import sys
from pathlib import Path

import numpy as np
import pandas
from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from export import Column, Sample, write_version  # noqa: E402

HERE = Path(__file__).resolve().parent
NAME = "main.default.fraud"
OUTPUT = "fraud_probability"
COLUMNS = [
    Column("amount", "double"),
    Column("merchant_category", "string"),
    Column("hour", "long"),
    Column("is_foreign", "boolean", required=False),
]
ONNX_INPUTS = [
    ("amount", FloatTensorType([None, 1])),
    ("merchant_category", StringTensorType([None, 1])),
    ("hour", Int64TensorType([None, 1])),
    ("is_foreign", FloatTensorType([None, 1])),
]
# merchant category: share of transactions, median amount, spread of its logarithm, share paid abroad, fraud log-odds
CATEGORIES = {
    "electronics": (0.08, 180.0, 0.9, 0.15, 0.9),
    "fuel": (0.12, 48.0, 0.4, 0.05, -0.3),
    "gambling": (0.03, 75.0, 1.1, 0.30, 1.3),
    "grocery": (0.27, 36.0, 0.7, 0.03, -1.0),
    "jewellery": (0.02, 420.0, 0.9, 0.20, 1.1),
    "online": (0.20, 55.0, 1.0, 0.25, 0.6),
    "pharmacy": (0.07, 22.0, 0.6, 0.02, -0.8),
    "restaurant": (0.15, 41.0, 0.6, 0.10, -0.5),
    "travel": (0.06, 310.0, 0.8, 0.60, 0.2),
}
# Opened after the training rows were drawn: only held-out rows have it.
NEW_CATEGORY = "crypto_exchange"
TRAINING_ROWS, HELDOUT_ROWS = 12_000, 2_000


def transactions(rows: int, seed: int) -> tuple[pandas.DataFrame, np.ndarray]:
    """Card transactions and whether each was fraud (about 11 in 100).

    Amounts are log-normal around the category's median, in cents; hours follow the day. The log-odds of fraud rise
    with the amount relative to the category's median, at night, abroad, and by more than the sum when a purchase is
    both abroad and at night or both large and online: a tree finds these, a linear model does not. One row in twenty
    does not say whether it was abroad.
    """
    random = np.random.Generator(np.random.PCG64(seed))
    names = np.array(list(CATEGORIES))
    share, median, spread, abroad, odds = np.array(list(CATEGORIES.values())).T
    index = random.choice(len(names), size=rows, p=share)
    amount = np.round(median[index] * np.exp(spread[index] * random.standard_normal(rows)), 2)
    amount = np.clip(amount, 0.5, 20_000.0)
    hour = np.round(random.normal(14.5, 5.0, rows)).astype(np.int64) % 24
    foreign = random.random(rows) < abroad[index]

    night = (hour < 6) | (hour >= 23)
    relative = np.log(amount / median[index])
    logit = -3.0 + odds[index] + 1.1 * relative + 0.9 * night + 1.0 * foreign
    logit += 1.6 * (night & foreign) + 1.5 * ((names[index] == "online") & (amount > 150.0))
    label = random.random(rows) < 1.0 / (1.0 + np.exp(-logit))

    frame = pandas.DataFrame(
        {
            "amount": amount.astype(np.float32).astype(np.float64),
            "merchant_category": names[index].astype(object),
            "hour": hour,
            "is_foreign": np.where(random.random(rows) < 0.05, np.nan, foreign.astype(np.float64)),
        }
    )
    return frame, label


def heldout() -> tuple[pandas.DataFrame, np.ndarray]:
    frame, label = transactions(HELDOUT_ROWS, seed=2027)
    frame.loc[frame.index % 16 == 7, "merchant_category"] = NEW_CATEGORY
    return frame, label


def fitted(classifier, rows: pandas.DataFrame, label: np.ndarray) -> Pipeline:
    """The columns as one matrix, then `classifier`. A transaction that does not say so was not abroad.

    The scaler's means and scales are rounded (the scales to powers of two). A tree's threshold lies half-way between
    two amounts, which is often a third amount; scaled by anything else, float64 in the framework and float32 in ONNX
    would fall on different sides of it.
    """
    columns = ColumnTransformer(
        [
            ("numbers", StandardScaler(), ["amount", "hour"]),
            ("category", OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["merchant_category"]),
            ("foreign", SimpleImputer(strategy="constant", fill_value=0.0), ["is_foreign"]),
        ]
    )
    columns.fit(rows)
    scaler = columns.named_transformers_["numbers"]
    scaler.mean_ = np.round(scaler.mean_)
    scaler.scale_ = np.exp2(np.round(np.log2(scaler.scale_)))
    classifier.fit(columns.transform(rows), label)
    return Pipeline([("columns", columns), ("classifier", classifier)])


def tensors(frame: pandas.DataFrame) -> dict[str, np.ndarray]:
    return {
        "amount": frame[["amount"]].to_numpy(np.float32),
        "merchant_category": frame[["merchant_category"]].to_numpy(object),
        "hour": frame[["hour"]].to_numpy(np.int64),
        "is_foreign": frame[["is_foreign"]].to_numpy(np.float32),
    }


def as_sent(frame: pandas.DataFrame) -> pandas.DataFrame:
    """The rows as a client sends them: `is_foreign` is true, false or missing, not 1.0, 0.0 or NaN."""
    foreign = [None if np.isnan(value) else bool(value) for value in frame["is_foreign"]]
    return frame.assign(is_foreign=pandas.Series(foreign, dtype=object, index=frame.index))


def main() -> None:
    rows, label = transactions(TRAINING_ROWS, seed=2026)
    kept, kept_label = heldout()
    example = pandas.DataFrame(
        {"amount": [1250.0, 18.5], "merchant_category": ["online", "grocery"], "hour": [3, 14], "is_foreign": [True, False]}
    )
    versions = {
        3: LogisticRegression(C=1.0, max_iter=1000),
        4: GradientBoostingClassifier(n_estimators=60, max_depth=3, learning_rate=0.15, random_state=4),
    }
    for version, classifier in versions.items():
        write_version(
            Sample(
                folder=HERE / str(version),
                name=NAME,
                version=version,
                model=fitted(classifier, rows, label),
                onnx_inputs=ONNX_INPUTS,
                columns=COLUMNS,
                output=OUTPUT,
                heldout=kept,
                labels=kept_label,
                example=example,
                tensors=tensors,
                as_sent=as_sent,
            )
        )


if __name__ == "__main__":
    main()
