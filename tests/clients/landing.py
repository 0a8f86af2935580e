"""Reads a landing folder as an analyst would, with DuckDB and pyarrow, and checks that it says what it should.

Usage: landing.py FOLDER [--expect CATALOG.SCHEMA.TABLE=ROWS]...
Prints one JSON line: per table its rows, files, and boots with their first and last sequence. Exit 1: a check failed.
"""

import argparse
import json
import re
import sys
from pathlib import Path

import duckdb
import pandas
import polars
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

STRINGS = pa.map_(pa.string(), pa.string())
# column: type, and whether it may be null
SCHEMA = {
    "request_date": (pa.date32(), False),
    "request_time": (pa.timestamp("us", tz="UTC"), False),
    "databricks_request_id": (pa.string(), False),
    "client_request_id": (pa.string(), True),
    "trace_id": (pa.string(), True),
    "usage_context": (STRINGS, True),
    "status_code": (pa.int32(), False),
    "sampling_fraction": (pa.float64(), False),
    "execution_duration_ms": (pa.int64(), False),
    "request": (pa.string(), True),
    "response": (pa.string(), True),
    "logging_error_codes": (pa.list_(pa.string()), False),
    "served_entity_id": (pa.string(), True),
    "requester": (pa.string(), True),
    "request_metadata": (STRINGS, False),
    "device_id": (pa.string(), False),
    "boot_id": (pa.string(), False),
    "sequence": (pa.int64(), False),
    "endpoint_name": (pa.string(), True),
    "served_entity_name": (pa.string(), True),
    "entity_name": (pa.string(), True),
    "entity_version": (pa.string(), True),
    "config_version": (pa.int64(), True),
    "effective_hash": (pa.string(), True),
    "engine": (pa.string(), True),
    "streaming": (pa.bool_(), False),
    "queue_duration_us": (pa.int64(), False),
    "execution_duration_us": (pa.int64(), False),
    "input_tokens": (pa.int64(), True),
    "output_tokens": (pa.int64(), True),
    "time_to_first_token_us": (pa.int64(), True),
    "monotonic_us": (pa.int64(), False),
    "clock_quality": (pa.string(), False),
}
PART = re.compile(r"part-(?P<boot>[0-9a-f]+)-(?P<first>\d+)-(?P<last>\d+)\.parquet")


class LandingError(Exception):
    """What the landing folder should say and does not."""


def payload_tables(folder: Path) -> dict[str, Path]:
    """The inference tables under `folder`, by `catalog.schema.table`."""
    return {".".join(path.relative_to(folder).parts): path for path in sorted(folder.glob("*/*/*_payload"))}


def check(folder: Path) -> dict[str, dict]:
    """Checks every table under `folder` and gives its counts."""
    return {name: check_table(name, path) for name, path in payload_tables(folder).items()}


def check_table(name: str, path: Path) -> dict:
    files = sorted(path.rglob("*.parquet"))
    if not files:
        raise LandingError(f"{name}: the table's folder has no file")
    for file in files:
        check_file(name, file)
    table = f"read_parquet('{path}/*/*/*.parquet', hive_partitioning = true)"
    check_keys(name, table)
    check_partitions(name, path, table)
    [(rows,)] = query(f"SELECT count(*) FROM {table}")
    counted = {
        "DuckDB": rows,
        "pandas": len(pandas.read_parquet(path)),
        "polars": polars.scan_parquet(f"{path}/*/*/*.parquet").select(polars.len()).collect().item(),
        "pyarrow": ds.dataset(path, partitioning="hive").count_rows(),
    }
    if len(set(counted.values())) != 1:
        raise LandingError(f"{name}: readers count differently: {counted}")
    boots = query(
        f"SELECT device_id, boot_id, count(*), min(sequence), max(sequence) FROM {table} GROUP BY ALL ORDER BY ALL"
    )
    keys = ("device_id", "boot_id", "rows", "first", "last")
    return {"rows": rows, "files": len(files), "boots": [dict(zip(keys, boot)) for boot in boots]}


def query(sql: str) -> list[tuple]:
    return duckdb.sql(sql).fetchall()


def check_file(name: str, file: Path) -> None:
    """One file: its schema, its nulls, and that its name tells the truth about what is in it."""
    table = pq.ParquetFile(file).read()
    found = {field.name: field.type for field in table.schema}
    expected = {column: kind for column, (kind, _) in SCHEMA.items()}
    if list(found) != list(expected):
        odd = sorted(set(found) ^ set(expected)) or "their order"
        raise LandingError(f"{name}: {file.name}: columns differ from the row schema: {odd}")
    for column, (kind, nullable) in SCHEMA.items():
        if not found[column].equals(kind):
            raise LandingError(f"{name}: {file.name}: {column} is {found[column]}, expected {kind}")
        if not nullable and table[column].null_count:
            raise LandingError(f"{name}: {file.name}: {column} has nulls")
    named = PART.fullmatch(file.name)
    if not named:
        raise LandingError(f"{name}: {file.name} is not part-BOOT-FIRST-LAST.parquet")
    sequence = table["sequence"].to_pylist()
    if (min(sequence), max(sequence)) != (int(named["first"]), int(named["last"])):
        raise LandingError(f"{name}: {file.name} holds sequence {min(sequence)} to {max(sequence)}")
    if set(table["boot_id"].to_pylist()) != {named["boot"]}:
        raise LandingError(f"{name}: {file.name} holds rows of another boot")


def check_keys(name: str, table: str) -> None:
    doubled = query(
        f"SELECT device_id, boot_id, sequence, count(*) FROM {table} GROUP BY ALL HAVING count(*) > 1 LIMIT 5"
    )
    if doubled:
        raise LandingError(f"{name}: rows landed more than once: {doubled}")
    [(rows, ids)] = query(f"SELECT count(*), count(DISTINCT databricks_request_id) FROM {table}")
    if rows != ids:
        raise LandingError(f"{name}: {rows} rows have {ids} request ids")


def check_partitions(name: str, path: Path, table: str) -> None:
    """Each folder holds its own day and device only, and a filter on the day reads that day's files only."""
    [(strays,)] = query(
        f"SELECT count(*) FROM {table} WHERE CAST(date AS DATE) != request_date OR device != device_id "
        "OR CAST(request_time AT TIME ZONE 'UTC' AS DATE) != request_date"
    )
    if strays:
        raise LandingError(f"{name}: {strays} rows lie in the folder of another day or device")
    dataset = ds.dataset(path, partitioning=ds.partitioning(flavor="hive"))
    days = {folder.name.removeprefix("date=") for folder in path.glob("date=*")}
    for day in days:
        kept = dataset.get_fragments(filter=ds.field("date") == day)
        wrong = [fragment.path for fragment in kept if f"/date={day}/" not in fragment.path]
        if wrong:
            raise LandingError(f"{name}: a filter on date {day} reads {wrong}")
        files = len(list(path.glob(f"date={day}/*/*.parquet")))
        plan = str(query(f"EXPLAIN SELECT count(*) FROM {table} WHERE date = DATE '{day}'"))
        scanned = re.search(r"Scanning Files:\s*(\d+)/", plan)
        # With a single day there is nothing to prune, and the plan does not mention files.
        if (int(scanned[1]) if scanned else files) != files or (len(days) > 1 and not scanned):
            raise LandingError(f"{name}: for {day} DuckDB should read {files} files: {plan}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--expect", action="append", default=[], metavar="TABLE=ROWS")
    arguments = parser.parse_args()
    try:
        counts = check(arguments.folder)
        for expectation in arguments.expect:
            name, _, rows = expectation.rpartition("=")
            found = counts.get(name, {"rows": 0})["rows"]
            if found != int(rows):
                raise LandingError(f"{name}: {found} rows landed, expected {rows}")
    except LandingError as error:
        print(f"landing: {error}", file=sys.stderr)
        return 1
    print(json.dumps(counts, separators=(",", ":")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
