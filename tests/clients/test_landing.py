"""From requests to rows: what was asked of the box lands once, in files that an analyst's tools read."""

import json
import shutil
import uuid
from pathlib import Path

import landing
import pytest
import requests
from conftest import GOLDEN, wait_until

REQUESTS = 40
# quickstart seals a row file after 15 s, then uploads it.
LAND_SECONDS = 90


@pytest.fixture(scope="module")
def rows(box):
    """The landed rows of a run of known requests to fraud-detection, as dictionaries in the order of asking."""
    if box.landing is None:
        pytest.skip("EDGEWARD_LANDING is not set: the rows of this box land elsewhere")
    run = uuid.uuid4().hex
    session = requests.Session()
    session.trust_env = False
    session.headers["Authorization"] = f"Bearer {box.token}"
    url = f"{box.url.rstrip('/')}/serving-endpoints/fraud-detection/invocations"
    for index in range(REQUESTS):
        form = {"dataframe_records": GOLDEN["fraud", 3].records[:1]} if index % 4 else {"inputs": [[1.0]]}
        body = {**form, "client_request_id": f"{run}-{index:04}", "usage_context": {"run": run}}
        session.post(url, json=body, timeout=30)
    return wait_until(lambda: landed(box.landing, run), LAND_SECONDS, f"{REQUESTS} rows of run {run} landed")


def landed(folder: Path, run: str) -> list[dict] | None:
    found = []
    for path in landing.payload_tables(folder).values():
        if any(path.rglob("*.parquet")):
            table = landing.duckdb.sql(
                f"SELECT * FROM read_parquet('{path}/*/*/*.parquet', hive_partitioning = true) "
                f"WHERE client_request_id LIKE '{run}-%' ORDER BY client_request_id"
            )
            found += [dict(zip(table.columns, row)) for row in table.fetchall()]
    return found if len(found) >= REQUESTS else None


def test_every_request_landed_once(rows):
    assert len(rows) == REQUESTS
    assert len({row["client_request_id"] for row in rows}) == REQUESTS
    assert [row["status_code"] for row in rows] == [200 if index % 4 else 400 for index in range(REQUESTS)]


def test_a_row_says_what_was_asked_and_answered(rows):
    row = rows[1]
    version = {"champion": 3, "challenger": 4}[row["served_entity_name"]]
    assert row["entity_name"] == "main.default.fraud"
    assert row["entity_version"] == str(version)
    assert json.loads(row["request"])["dataframe_records"] == GOLDEN["fraud", 3].records[:1]
    assert json.loads(row["response"])["predictions"] == pytest.approx(GOLDEN["fraud", version].predictions[:1], rel=1e-5, abs=1e-6)
    assert row["usage_context"]["run"] in row["client_request_id"]
    assert row["request_metadata"]["endpoint_name"] == "fraud-detection"
    assert row["request_metadata"]["model_version"] == str(version)


def test_sequences_are_contiguous(rows):
    sequence = sorted(row["sequence"] for row in rows)
    assert sequence == list(range(sequence[0], sequence[0] + REQUESTS))


def test_the_folder_holds_what_the_schema_says(box, rows, tmp_path):
    # More lands while this reads, and four readers have to count the same.
    for file in box.landing.glob("*/*/*/*/*/*.parquet"):
        copy = tmp_path / file.relative_to(box.landing)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
    counts = landing.check(tmp_path)
    assert sum(table["rows"] for table in counts.values()) >= len(rows)
