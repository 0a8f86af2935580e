"""Reads a landing folder as an analyst would, with DuckDB and pyarrow, and checks that it says what it should.

Usage: landing.py FOLDER [--expect CATALOG.SCHEMA.TABLE=ROWS]... [--complete]
Prints one JSON line: per table its rows, files, and boots; of each boot its rows, the sequences that a gap counts, the
first and last sequence, and how many between them are neither. `--complete` refuses any of the last, and a boot that
does not start with sequence 0 or 1. Exit 1: a check failed.
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
    "usage_context": (STRINGS, False),
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
    return {"rows": rows, "files": len(files), "boots": boots(name, path, table)}


def boots(name: str, path: Path, table: str) -> list[dict]:
    """Per device and boot, what became of each sequence: a row, counted by a gap, or (yet) unknown."""
    gaps = path.with_name(path.name.removesuffix("_payload") + "_gaps")
    counted = []
    if any(gaps.rglob("*.parquet")):
        counted = query(
            "SELECT device_id, boot_id, first_sequence, last_sequence "
            f"FROM read_parquet('{gaps}/*/*/*.parquet') WHERE last_sequence IS NOT NULL"
        )
    found = []
    for device, boot, rows, first, last in query(
        f"SELECT device_id, boot_id, count(*), min(sequence), max(sequence) FROM {table} GROUP BY ALL ORDER BY ALL"
    ):
        ranges = [(low, high) for owner, of, low, high in counted if (owner, of) == (device, boot)]
        for low, high in ranges:
            key = f"device_id = '{device}' AND boot_id = '{boot}' AND sequence BETWEEN {low} AND {high}"
            if query(f"SELECT 1 FROM {table} WHERE {key} LIMIT 1"):
                raise LandingError(f"{name}: boot {boot} has rows inside its gap {low} to {high}")
        lost = sum(high - low + 1 for low, high in ranges)
        first, last = min([first, *(low for low, _ in ranges)]), max([last, *(high for _, high in ranges)])
        found.append(
            {
                "device_id": device,
                "boot_id": boot,
                "rows": rows,
                "gaps": lost,
                "first": first,
                "last": last,
                "unknown": last - first + 1 - rows - lost,
            }
        )
    return found


def check_complete(name: str, counts: dict) -> None:
    for boot in counts["boots"]:
        if boot["unknown"] or boot["first"] > 1:
            raise LandingError(f"{name}: boot {boot['boot_id']} has sequences that are neither rows nor gaps: {boot}")


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
        if not same_type(found[column], kind):
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


def same_type(found: pa.DataType, expected: pa.DataType) -> bool:
    """Whether two types hold the same values; the names and nullability of list and map members do not matter."""
    if pa.types.is_map(expected):
        return pa.types.is_map(found) and (found.key_type, found.item_type) == (expected.key_type, expected.item_type)
    if pa.types.is_list(expected):
        return pa.types.is_list(found) and found.value_type == expected.value_type
    return found.equals(expected)


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
        plan = str(query(f"EXPLAIN SELECT sum(sequence) FROM {table} WHERE date = DATE '{day}'"))
        scanned = re.search(r"Scanning Files:\s*(\d+)/", plan)
        # With a single day there is nothing to prune, and the plan does not mention files.
        if (int(scanned[1]) if scanned else files) != files or (len(days) > 1 and not scanned):
            raise LandingError(f"{name}: for {day} DuckDB should read {files} files: {plan}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--expect", action="append", default=[], metavar="TABLE=ROWS")
    parser.add_argument("--complete", action="store_true")
    arguments = parser.parse_args()
    try:
        counts = check(arguments.folder)
        for expectation in arguments.expect:
            name, _, rows = expectation.rpartition("=")
            found = counts.get(name, {"rows": 0})["rows"]
            if found != int(rows):
                raise LandingError(f"{name}: {found} rows landed, expected {rows}")
        if arguments.complete:
            for name, found in counts.items():
                check_complete(name, found)
    except LandingError as error:
        print(f"landing: {error}", file=sys.stderr)
        return 1
    print(json.dumps(counts, separators=(",", ":")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
