"""The request shapes that the box is held to MLflow's own scoring server on: name, model, headers, body."""

import json

JSON = "application/json"
COLUMNS = ["amount", "hour"]
ROWS = [[12.5, 3.0], [250.0, 23.0], [0.5, 12.0]]
RECORDS = [dict(zip(COLUMNS, row)) for row in ROWS]
MATRIX = [[0.1, 0.2, 0.3, 0.4], [1.0, -2.0, 3.0, -4.0], [0.0, 0.0, 0.0, 0.0]]


def body(**keys) -> str:
    return json.dumps(keys)


COLUMN_SHAPES = {
    "records": (JSON, body(dataframe_records=RECORDS)),
    "records-one": (JSON, body(dataframe_records=RECORDS[:1])),
    "records-other-order": (JSON, body(dataframe_records=[{"hour": 3.0, "amount": 12.5}])),
    "records-extra-column": (JSON, body(dataframe_records=[{**RECORDS[0], "note": "x"}])),
    "records-missing-column": (JSON, body(dataframe_records=[{"amount": 1.0}])),
    "records-integers": (JSON, body(dataframe_records=[{"amount": 12, "hour": 3}])),
    "records-booleans": (JSON, body(dataframe_records=[{"amount": True, "hour": False}])),
    "records-text": (JSON, body(dataframe_records=[{"amount": "a lot", "hour": 3.0}])),
    "records-none": (JSON, body(dataframe_records=[])),
    "records-no-list": (JSON, body(dataframe_records={"amount": 1.0, "hour": 2.0})),
    "split": (JSON, body(dataframe_split={"columns": COLUMNS, "data": ROWS})),
    "split-index": (JSON, body(dataframe_split={"columns": COLUMNS, "index": [7, 8, 9], "data": ROWS})),
    "split-other-order": (JSON, body(dataframe_split={"columns": COLUMNS[::-1], "data": [row[::-1] for row in ROWS]})),
    "split-extra-column": (JSON, body(dataframe_split={"columns": [*COLUMNS, "note"], "data": [[*row, "x"] for row in ROWS]})),
    "split-missing-column": (JSON, body(dataframe_split={"columns": ["hour"], "data": [[1.0]]})),
    "split-ragged": (JSON, body(dataframe_split={"columns": COLUMNS, "data": [[1.0, 2.0], [3.0]]})),
    "split-without-data": (JSON, body(dataframe_split={"columns": COLUMNS})),
    "inputs-by-column": (JSON, body(inputs={"amount": [12.5, 250.0], "hour": [3.0, 23.0]})),
    "inputs-uneven": (JSON, body(inputs={"amount": [12.5, 250.0], "hour": [3.0]})),
    "inputs-matrix": (JSON, body(inputs=ROWS)),
    "instances": (JSON, body(instances=RECORDS)),
    "instances-matrix": (JSON, body(instances=ROWS)),
    "params": (JSON, body(dataframe_records=RECORDS, params={})),
    "two-forms": (JSON, body(dataframe_records=RECORDS, inputs=RECORDS)),
    "no-form": (JSON, body(rows=RECORDS)),
    "empty-object": (JSON, "{}"),
    "list": (JSON, json.dumps(RECORDS)),
    "number": (JSON, "7"),
    "broken": (JSON, '{"dataframe_records": ['),
    "charset": (JSON + "; charset=utf-8", body(dataframe_records=RECORDS)),
    "format-parameter": (JSON + "; format=pandas-split", body(dataframe_records=RECORDS)),
    "csv": ("text/csv", "amount,hour\n12.5,3.0\n250.0,23.0\n"),
    "csv-charset": ("text/csv; charset=utf-8", "hour,amount\n3,12.5\n"),
    "csv-extra-column": ("text/csv", "amount,hour,note\n12.5,3.0,x\n"),
    "csv-missing-column": ("text/csv", "amount\n12.5\n"),
    "other-type": ("text/plain", "12.5,3.0"),
}

TENSOR_SHAPES = {
    "inputs": (JSON, body(inputs=MATRIX)),
    "inputs-one": (JSON, body(inputs=MATRIX[:1])),
    "inputs-integers": (JSON, body(inputs=[[1, 2, 3, 4]])),
    "inputs-no-batch": (JSON, body(inputs=MATRIX[0])),
    "inputs-narrow": (JSON, body(inputs=[[1.0, 2.0]])),
    "inputs-deep": (JSON, body(inputs=[MATRIX])),
    "inputs-ragged": (JSON, body(inputs=[[1.0, 2.0, 3.0, 4.0], [1.0]])),
    "inputs-text": (JSON, body(inputs=[["a", "b", "c", "d"]])),
    "instances": (JSON, body(instances=MATRIX)),
    "instances-narrow": (JSON, body(instances=[[1.0]])),
    "split": (JSON, body(dataframe_split={"columns": list("abcd"), "data": MATRIX})),
    "records": (JSON, body(dataframe_records=[dict(zip("abcd", row)) for row in MATRIX])),
    "two-forms": (JSON, body(inputs=MATRIX, instances=MATRIX)),
    "broken": (JSON, '{"inputs": [[1.0,'),
}

SHAPES = [
    (f"{model}/{name}", model, *shape)
    for model, shapes in [("labels", COLUMN_SHAPES), ("scores", TENSOR_SHAPES)]
    for name, shape in shapes.items()
]
