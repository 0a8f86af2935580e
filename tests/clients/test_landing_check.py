"""The check of a landing folder, against folders made here: it passes a good one and fails each kind of bad one."""

import datetime
import uuid

import landing
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

BOOT = "ab12cd34ab12cd34"
DAYS = (datetime.date(2026, 11, 1), datetime.date(2026, 11, 2))
PER_DAY = 10


def row(day: datetime.date, sequence: int) -> dict:
    known = {
        "request_date": day,
        "request_time": datetime.datetime(day.year, day.month, day.day, 23, sequence % 60, tzinfo=datetime.timezone.utc),
        "databricks_request_id": str(uuid.uuid4()),
        "usage_context": [("team", "risk")],
        "status_code": 200,
        "sampling_fraction": 1.0,
        "execution_duration_ms": 0,
        "logging_error_codes": [],
        "request_metadata": [("endpoint_name", "fraud-detection")],
        "device_id": "box-1",
        "boot_id": BOOT,
        "sequence": sequence,
        "streaming": False,
        "queue_duration_us": 0,
        "execution_duration_us": 40,
        "monotonic_us": 5,
        "clock_quality": "ntp",
    }
    return {column: known.get(column) for column in landing.SCHEMA}


def good_rows() -> dict[datetime.date, list[dict]]:
    return {day: [row(day, 1 + index * PER_DAY + number) for number in range(PER_DAY)] for index, day in enumerate(DAYS)}


def write(folder, rows: dict[datetime.date, list[dict]], schema: pa.Schema | None = None):
    schema = schema or pa.schema([(column, kind) for column, (kind, _) in landing.SCHEMA.items()])
    for day, of_day in rows.items():
        sequence = [row["sequence"] for row in of_day]
        part = folder / "main" / "default" / "fraud_payload" / f"date={day}" / "device=box-1"
        part.mkdir(parents=True)
        table = pa.Table.from_pylist(of_day, schema=schema)
        pq.write_table(table, part / f"part-{BOOT}-{min(sequence)}-{max(sequence)}.parquet")


def write_gap(folder, first: int, last: int | None):
    part = folder / "main" / "default" / "fraud_gaps" / f"date={DAYS[0]}" / "device=box-1"
    part.mkdir(parents=True)
    columns = {
        "device_id": ["box-1"],
        "boot_id": [BOOT],
        "first_sequence": [first],
        "last_sequence": pa.array([last], pa.int64()),
    }
    pq.write_table(pa.table(columns), part / f"part-{BOOT}-{first}-{last}.parquet")


def complete(folder) -> dict:
    counts = landing.check(folder)
    for name, found in counts.items():
        landing.check_complete(name, found)
    return counts["main.default.fraud_payload"]


def test_a_good_folder(tmp_path):
    write(tmp_path, good_rows())
    write_gap(tmp_path, 2 * PER_DAY + 1, None)
    assert complete(tmp_path) == {
        "rows": 20,
        "files": 2,
        "boots": [{"device_id": "box-1", "boot_id": BOOT, "rows": 20, "gaps": 0, "first": 1, "last": 20, "unknown": 0}],
    }


def test_gaps_count(tmp_path):
    rows = good_rows()
    rows[DAYS[1]] = rows[DAYS[1]][4:]
    write(tmp_path, rows)
    with pytest.raises(landing.LandingError, match="neither rows nor gaps"):
        complete(tmp_path)
    write_gap(tmp_path, 11, 14)
    assert complete(tmp_path)["boots"][0]["gaps"] == 4


def test_a_gap_over_rows(tmp_path):
    write(tmp_path, good_rows())
    write_gap(tmp_path, 15, 25)
    with pytest.raises(landing.LandingError, match="inside its gap"):
        complete(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sequence": 1}, "landed more than once|holds sequence"),
        ({"boot_id": None}, "boot_id has nulls"),
        ({"boot_id": "ff12cd34ab12cd34"}, "rows of another boot"),
        ({"device_id": "box-2"}, "another day or device"),
        ({"request_date": DAYS[0]}, "another day or device"),
    ],
)
def test_a_bad_row(tmp_path, change, message):
    rows = good_rows()
    rows[DAYS[1]][5].update(change)
    write(tmp_path, rows)
    with pytest.raises(landing.LandingError, match=message):
        complete(tmp_path)


def test_a_request_that_landed_twice(tmp_path):
    rows = good_rows()
    rows[DAYS[1]][5]["databricks_request_id"] = rows[DAYS[0]][5]["databricks_request_id"]
    write(tmp_path, rows)
    with pytest.raises(landing.LandingError, match="request ids"):
        complete(tmp_path)


def test_a_column_of_another_type_or_name(tmp_path):
    fields = [pa.field(column, kind) for column, (kind, _) in landing.SCHEMA.items()]
    position = list(landing.SCHEMA).index("status_code")
    write(tmp_path / "type", good_rows(), pa.schema([*fields[:position], pa.field("status_code", pa.int64()), *fields[position + 1 :]]))
    with pytest.raises(landing.LandingError, match="status_code is int64"):
        complete(tmp_path / "type")
    write(tmp_path / "name", good_rows(), pa.schema(fields[:-1]))
    with pytest.raises(landing.LandingError, match="clock_quality"):
        complete(tmp_path / "name")
