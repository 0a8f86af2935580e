"""The box beside MLflow's own scoring server: its recorded answers to the shapes of parity/shapes.py (see parity/record.py)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import requests

PARITY = Path(__file__).resolve().parent / "parity"
sys.path.insert(0, str(PARITY))

from shapes import SHAPES  # noqa: E402

RECORDED = json.loads((PARITY / "recorded.json").read_text())["answers"]

# Where the box differs on purpose: what it answers instead, and where docs/clients.md says why.
DIFFERENT = {}


@pytest.fixture(scope="module")
def endpoints(box):
    """Both models, imported and served as `parity-labels` and `parity-scores`."""
    if box.landing is None:
        pytest.skip("the models of this box come from elsewhere")
    api = f"{box.url}/api/2.0/serving-endpoints"
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {box.token}"
    for model in ("labels", "scores"):
        command = [os.environ["EDGEWARD_BIN"], "model", "import", str(PARITY / model), "--name", f"main.default.parity_{model}"]
        command += ["--version", "1", "--state", str(box.landing.parent / "state")]
        made = subprocess.run(command, capture_output=True, text=True)
        assert made.returncode == 0, made.stdout + made.stderr
        entity = {"name": "only", "entity_name": f"main.default.parity_{model}", "entity_version": "1"}
        made = session.post(api, json={"name": f"parity-{model}", "config": {"served_entities": [entity]}}, timeout=60)
        assert made.status_code == 200 and made.json()["state"]["ready"] == "READY", made.text
    yield {model: f"{box.url}/serving-endpoints/parity-{model}/invocations" for model in ("labels", "scores")}
    for model in ("labels", "scores"):
        session.delete(f"{api}/parity-{model}", timeout=60)


def same(ours, theirs) -> bool:
    """Equal in structure, keys, kinds of numbers and texts; floating-point numbers within 1e-6 relative."""
    if isinstance(theirs, float):
        return isinstance(ours, float) and ours == pytest.approx(theirs, rel=1e-6, abs=1e-9)
    if type(ours) is not type(theirs):
        return False
    if isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(same(ours[key], theirs[key]) for key in theirs)
    if isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    return ours == theirs


def test_enough_shapes_are_recorded():
    assert len(RECORDED) >= 40 and set(RECORDED) == {name for name, *_ in SHAPES}
    assert set(DIFFERENT) <= set(RECORDED)


@pytest.mark.parametrize(("name", "model", "content_type", "body"), SHAPES, ids=[name for name, *_ in SHAPES])
def test_a_request_is_answered_as_mlflow_answers_it(box, endpoints, name, model, content_type, body):
    headers = {"Authorization": f"Bearer {box.token}", "Content-Type": content_type}
    answer = requests.post(endpoints[model], data=body.encode(), headers=headers, timeout=30)
    expected = RECORDED[name]
    if name in DIFFERENT:
        status, code = DIFFERENT[name]
        assert (expected["status"], expected.get("error_code")) != (status, code), "it does not differ any more"
    else:
        status, code = expected["status"], expected.get("error_code")
    assert answer.status_code == status, answer.text
    if status == 200:
        assert same(answer.json(), expected["body"]), answer.text
    elif code is not None:
        assert answer.json()["error_code"] == code, answer.text
    if status != 200:
        assert answer.json()["message"]
