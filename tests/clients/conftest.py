"""The box that the clients talk to, the answers it must give, and the floor under the number of tests that pass."""

import json
import os
import select
import signal
import subprocess
import time
import tomllib
import uuid
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "daemon" / "samples"
START_SECONDS = 120


@dataclass(frozen=True)
class Box:
    """A running box: where it listens, who we are to it, and where its rows land (None: not on this machine)."""

    url: str
    token: str
    landing: Path | None


@dataclass(frozen=True)
class Golden:
    """The framework's own answers for some rows; `records` leaves a null column out of its record."""

    columns: list[str]
    data: list[list]
    predictions: list[float]

    @property
    def split(self) -> dict:
        return {"columns": self.columns, "data": self.data}

    @property
    def records(self) -> list[dict]:
        return [{name: cell for name, cell in zip(self.columns, row) if cell is not None} for row in self.data]

    @property
    def by_column(self) -> dict[str, list]:
        return {name: [row[index] for row in self.data] for index, name in enumerate(self.columns)}

    @property
    def forms(self) -> dict[str, object]:
        """The same rows in each of the four forms that an invocation can take, by the form's key."""
        return {
            "dataframe_split": self.split,
            "dataframe_records": self.records,
            "inputs": self.by_column,
            "instances": self.records,
        }

    def matches(self, predictions: list) -> bool:
        return len(predictions) == len(self.predictions) and predictions == pytest.approx(self.predictions, rel=1e-5, abs=1e-6)


def read_golden(model: str, version: int) -> Golden:
    content = json.loads((SAMPLES / model / str(version) / "golden.json").read_text())
    (predictions,) = content["outputs"].values()
    return Golden(content["inputs"]["columns"], content["inputs"]["data"], predictions)


GOLDEN = {(model, version): read_golden(model, version) for model, version in [("fraud", 3), ("fraud", 4), ("tumour", 1), ("tumour", 2), ("diabetes", 1)]}
FORMS = ["dataframe_split", "dataframe_records", "inputs", "instances"]


@pytest.fixture(scope="session")
def box(tmp_path_factory):
    """The box of EDGEWARD_URL and EDGEWARD_TOKEN, or a quickstart."""
    if url := os.environ.get("EDGEWARD_URL"):
        landing = os.environ.get("EDGEWARD_LANDING")
        yield Box(url, os.environ["EDGEWARD_TOKEN"], landing and Path(landing))
        return
    with quickstart(tmp_path_factory.mktemp("box")) as box:
        yield box


@contextmanager
def quickstart(folder: Path):
    """A quickstart of EDGEWARD_BIN with its state in `folder`, which must also shut down cleanly."""
    command = [os.environ["EDGEWARD_BIN"], "quickstart", "--output", "json", "--dir", folder / "state"]
    command += ["--listen", "127.0.0.1:0", "--broker-listen", "127.0.0.1:0"]
    with open(folder / "stderr", "wb") as stderr:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr)
    try:
        described = first_line(process, folder / "stderr")
        yield Box(described["url"], described["token"], Path(described["landing"]))
        process.send_signal(signal.SIGINT)
        status = process.wait(timeout=60)
        assert status == 0, f"quickstart ended with {status} after SIGINT: {tail(folder / 'stderr')}"
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def first_line(process: subprocess.Popen, stderr: Path) -> dict:
    ready, _, _ = select.select([process.stdout], [], [], START_SECONDS)
    line = process.stdout.readline() if ready else b""
    if not line:
        raise RuntimeError(f"quickstart printed nothing in {START_SECONDS} s: {tail(stderr)}")
    return json.loads(line)


def tail(stderr: Path) -> str:
    return stderr.read_text(errors="replace")[-2000:]


def wait_until(condition, seconds: float, what: str):
    """The first true value of `condition`, polled; fails with `what` when `seconds` have passed."""
    deadline = time.monotonic() + seconds
    while True:
        if value := condition():
            return value
        if time.monotonic() > deadline:
            pytest.fail(f"after {seconds:.0f} s still not: {what}")
        time.sleep(0.2)


@pytest.fixture
def name() -> str:
    """An endpoint name that no other test uses."""
    return f"test-{uuid.uuid4().hex[:12]}"


def reached(name: str, count: int):
    """Says how many cases a bounded run had, and fails when they are fewer than its floor; as tests/harness/src/floors.rs."""
    floors = tomllib.loads((ROOT / "tests" / "floors.toml").read_text())
    floors = [floors["soak"], floors] if "EDGEWARD_SOAK" in os.environ else [floors]
    floor = next(found for found in (reduce(lambda at, key: at.get(key, {}), name.split("."), each) for each in floors) if found)
    line = f"{name}: {count} (floor {floor})"
    print(line)
    append(line)
    assert count >= floor, f"{name}: {count} cases ran, the floor is {floor}"


def append(record: str):
    """Appends to the report of tests/harness/src/report.rs, which says how a record looks."""
    if path := os.environ.get("EDGEWARD_REPORT"):
        with open(path, "a") as report:
            report.write(f"{record}\n")


# Clients whose packages do not go with those of the others.
APART = {"tritonclient_grpc": "grpc"}


def environment_of(name: str) -> str:
    """The environment that the tests of a client run in."""
    return APART.get(name, "common")


def pytest_ignore_collect(collection_path: Path, config):
    if not collection_path.name.startswith("test_"):
        return None
    wanted = config.getoption("--environment")
    return True if wanted and environment_of(collection_path.stem.removeprefix("test_")) != wanted else None


def pytest_addoption(parser):
    parser.addoption("--environment", help="only the clients of this environment: common or grpc")
    parser.addoption("--floors", type=Path, help="fail when fewer tests pass than [clients] in this TOML file says")


def floors_of(config, reporter) -> list[tuple[str, int, int]]:
    """Each client with how many of its tests passed, and the fewest that must."""
    floors_file = config.getoption("--floors")
    if floors_file is None:
        return []
    passed = Counter(client(report) for report in reporter.stats.get("passed", []))
    here = config.getoption("--environment")
    floors = tomllib.loads(floors_file.read_text())["clients"]
    floors = {name: floor for name, floor in floors.items() if here in (None, environment_of(name))}
    return [(name, passed[name], floor) for name, floor in floors.items() if isinstance(floor, int)]


def client(report) -> str:
    return Path(report.fspath).stem.removeprefix("test_")


def pytest_sessionfinish(session):
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    floors = floors_of(session.config, reporter)
    if session.exitstatus == pytest.ExitCode.OK and any(passed < floor for _, passed, floor in floors):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter, config):
    floors = floors_of(config, terminalreporter)
    records = [f"clients.{name}: {passed} (floor {floor})" for name, passed, floor in floors]
    for report in terminalreporter.stats.get("skipped", []):
        _, _, reason = report.longrepr
        records.append(f"SKIPPED {report.nodeid.replace(': ', ' ')}: {reason.removeprefix('Skipped: ')}")
    for line in records:
        terminalreporter.write_line(line)
        append(line)
    for name, passed, floor in floors:
        if passed < floor:
            terminalreporter.write_line(f"{name}: {passed} tests passed, the floor is {floor}", red=True)
