"""The samples of docs/clients.md, as their readers run them."""

import json
import os
import subprocess
import sys

import pytest
from worked import DOCS, Block, blocks

BLOCKS = [block for block in blocks(DOCS / "clients.md") if block.language in ("python", "sh")]
RUN = [block for block in BLOCKS if "quickstart" not in block.text]


def test_the_page_shows_every_client():
    shown = "\n".join(block.text for block in RUN)
    clients = ["databricks.sdk", "mlflow.deployments", "tritonclient.http", "tritonclient.grpc", "from openai"]
    for word in ["curl ", "import requests", *clients]:
        assert word in shown, word


def python_of(block: Block) -> str:
    """The interpreter that has the packages of a sample."""
    if "tritonclient.grpc" not in block.text:
        return sys.executable
    if not (python := os.environ.get("EDGEWARD_GRPC_PYTHON")):
        pytest.skip("EDGEWARD_GRPC_PYTHON names no interpreter with tritonclient[grpc]")
    return python


@pytest.mark.parametrize("block", RUN, ids=lambda block: f"{block.heading}-{BLOCKS.index(block)}")
def test_a_sample_runs(block: Block, box, tmp_path):
    environment = {**os.environ, "URL": box.url, "TOKEN": box.token}
    if block.language == "python":
        names = f"URL, TOKEN = {box.url!r}, {box.token!r}\n"
        command = [python_of(block), "-c", names + block.text]
    else:
        command = ["bash", "-euo", "pipefail", "-c", block.text]
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    if block.language == "sh":
        assert isinstance(json.loads(ran.stdout)["predictions"], list), ran.stdout
