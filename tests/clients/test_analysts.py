"""The worked queries of docs/analysts.md, as an analyst runs them: copied from the page, against rows that have landed."""

import contextlib
import io
import os
import shutil
import subprocess
import uuid
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests
from conftest import GOLDEN, ROOT, wait_until
from worked import PAGE, Block, blocks

FIXTURE = ROOT / "tests" / "fixtures" / "rows-v0"
REQUESTS = 30
# quickstart seals a row file after 15 s, then uploads it.
LAND_SECONDS = 90

# The query that has to run unchanged over the monitoring view.
MONITORING = """SELECT DATE(timestamp) AS day, COUNT(*) AS total_requests, AVG(latency_ms) AS avg_latency,
       SUM(CASE WHEN status_code != 200 THEN 1 ELSE 0 END) AS error_count
FROM catalog.schema.fraud_model_inference_log GROUP BY DATE(timestamp) ORDER BY day DESC;
"""

BLOCKS = blocks()
SQL = [block for block in BLOCKS if block.language == "sql"]
# Spark takes a Java and 400 MB of packages: `make soak` has them.
READERS = {"pandas", "polars"} | ({"Spark"} if "EDGEWARD_SOAK" in os.environ else set())
PYTHON = [block for block in BLOCKS if block.language == "python" and block.heading in READERS]


def name_of(block: Block) -> str:
    return f"{block.heading} {BLOCKS.index(block)}"


def edgeward(*arguments) -> str:
    binary = os.environ.get("EDGEWARD_BIN")
    if binary is None:
        pytest.skip("EDGEWARD_BIN is not set")
    run = subprocess.run([binary, *arguments], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.fixture(scope="module")
def desk(box, tmp_path_factory) -> Path:
    """A folder with `landing` in it, a copy of the box's rows after requests of every kind, and one counted gap."""
    if box.landing is None:
        pytest.skip("EDGEWARD_LANDING is not set: the rows of this box land elsewhere")
    session = requests.Session()
    session.trust_env = False
    session.headers["Authorization"] = f"Bearer {box.token}"
    url = f"{box.url.rstrip('/')}/serving-endpoints/fraud-detection/invocations"
    run = uuid.uuid4().hex
    for index in range(REQUESTS):
        form = {"dataframe_records": GOLDEN["fraud", 3].records[:1]} if index % 3 else {"inputs": [[1.0]]}
        body = {**form, "client_request_id": f"{run}-{index}", "usage_context": {"team": "risk"}}
        session.post(url, json=body, timeout=30)
    payload = box.landing / "main" / "default" / "fraud_payload"
    wait_until(lambda: landed(payload, run) == REQUESTS, LAND_SECONDS, f"{REQUESTS} rows of run {run} landed")
    folder = tmp_path_factory.mktemp("desk")
    shutil.copytree(box.landing, folder / "landing", ignore=lambda _, names: [name for name in names if name.endswith(".tmp")])
    write_gap(folder / "landing" / "main" / "default")
    return folder


def landed(payload: Path, run: str) -> int:
    if not any(payload.rglob("*.parquet")):
        return 0
    files = f"read_parquet('{payload}/**/*.parquet', hive_partitioning = false)"
    [(rows,)] = duckdb.sql(f"SELECT count(*) FROM {files} WHERE client_request_id LIKE '{run}-%'").fetchall()
    return rows


def write_gap(schema: Path) -> None:
    """A gap of two rows behind the last sequence, as the box writes one: a sound box has none to copy."""
    gaps = schema / "fraud_gaps"
    if gaps.exists():
        return
    files = f"read_parquet('{schema}/fraud_payload/**/*.parquet', hive_partitioning = false)"
    [(device, boot, last, time)] = duckdb.sql(
        f"SELECT device_id, boot_id, max(sequence), max(request_time) FROM {files} GROUP BY ALL LIMIT 1"
    ).fetchall()
    times = pa.array([time], pa.timestamp("us", tz="UTC"))
    columns = {
        "device_id": [device],
        "boot_id": [boot],
        "table_name": ["main.default.fraud"],
        "endpoint_name": ["fraud-detection"],
        "first_sequence": [last + 1],
        "last_sequence": [last + 2],
        "first_time": times,
        "last_time": times,
        "rows": [2],
        "bytes": [600],
        "cause": ["channel_full"],
    }
    folder = gaps / "date=2026-11-22" / f"device={device}"
    folder.mkdir(parents=True)
    pq.write_table(pa.table(columns), folder / f"part-{boot}-{last + 1}-{last + 2}.parquet")


def test_the_page_has_queries_for_each_reader():
    assert len(SQL) >= 6
    assert {block.heading for block in PYTHON} == READERS
    assert {block.heading for block in BLOCKS if block.language == "python"} <= READERS | {"Spark"}


@pytest.mark.parametrize("block", SQL, ids=name_of)
def test_a_query_of_the_page_runs_in_duckdb(desk, monkeypatch, block):
    monkeypatch.chdir(desk)
    database = duckdb.connect()
    database.execute(edgeward("logs", "views", "--landing", desk / "landing"))
    rows = database.execute(block.text).fetchall()
    assert rows, f"no row for:\n{block.text}"
    if block.heading == "Is a table complete?":
        [missing] = {row[-2] for row in rows}
        assert missing == 0
        assert max(row[2] for row in rows) >= REQUESTS + 2, "the gap counts too"


@pytest.mark.parametrize("block", PYTHON, ids=name_of)
def test_a_program_of_the_page_runs(desk, monkeypatch, block):
    monkeypatch.chdir(desk)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(block.text, f"{PAGE.name}, {block.heading}", "exec"), {})
    assert "champion" in printed.getvalue(), printed.getvalue()


@pytest.mark.parametrize(
    ("view", "columns"),
    [("ai_gateway", 12), ("legacy", 10), ("inference_log", 11), ("payload", 33), ("gaps", 11)],
)
def test_each_view_reads_the_landed_rows(desk, view, columns):
    database = duckdb.connect()
    database.execute(edgeward("logs", "views", "--landing", desk / "landing"))
    relation = database.sql(f'SELECT * FROM main_."default".fraud_{view}')
    assert len(relation.columns) == columns
    assert relation.fetchall()


def test_the_views_of_a_device_are_over_its_own_rows(tmp_path):
    shutil.copytree(FIXTURE, tmp_path / "rows")
    database = duckdb.connect()
    database.execute(edgeward("logs", "views", "--state", tmp_path))
    [(rows,)] = database.sql('SELECT count(*) FROM main_."default".fraud_payload').fetchall()
    assert rows == 20


def test_the_monitoring_query_runs_unchanged(tmp_path):
    shutil.copytree(FIXTURE / "parquet" / "main" / "default" / "fraud_payload", tmp_path / "catalog" / "schema" / "fraud_model_payload")
    database = duckdb.connect()
    database.execute(edgeward("logs", "views", "--landing", tmp_path))
    [(_, total, latency, errors)] = database.execute(MONITORING).fetchall()
    assert (total, errors) == (20, 0)
    assert latency > 0
