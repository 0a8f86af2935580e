"""The worked exports of docs/models.md, as their readers run them: copied from the page, then imported by a box."""

import os
import re
import shlex
import subprocess
import sys

import pytest
from worked import DOCS, Block, blocks

BLOCKS = blocks(DOCS / "models.md")
# PyTorch and the others are gigabytes: `make soak` has them.
PROGRAMS = [block for block in BLOCKS if block.language == "python" and "EDGEWARD_SOAK" in os.environ]


def import_of(block: Block) -> list[str]:
    """The command that the page gives after a program."""
    after = BLOCKS[BLOCKS.index(block) + 1]
    assert after.language == "sh", f"no command follows the program under {block.heading}"
    binary, *arguments = shlex.split(after.text)
    assert binary == "edgeward"
    return arguments


def test_the_page_has_an_export_for_each_framework():
    programs = [block.text for block in BLOCKS if block.language == "python"]
    for framework in ["sklearn", "xgboost", "lightgbm", "torch"]:
        assert any(re.search(rf"^(import|from) {framework}\b", text, re.MULTILINE) for text in programs), framework


@pytest.mark.parametrize("block", PROGRAMS, ids=lambda block: block.heading)
def test_a_worked_export_is_taken_for_the_answers_of_its_framework(block, box, tmp_path):
    if box.landing is None:
        pytest.skip("the models of this box come from elsewhere")
    made = subprocess.run([sys.executable, "-c", block.text], cwd=tmp_path, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    command = [os.environ["EDGEWARD_BIN"], *import_of(block), "--state", str(box.landing.parent / "state")]
    run = lambda: subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    [answers] = tmp_path.glob("*/golden.json")
    right = answers.read_text()
    answers.write_text(re.sub(r"0\.(\d)", r"0.9\1", right))
    refused = run()
    assert refused.returncode != 0 and "expected" in refused.stderr, refused.stdout + refused.stderr
    answers.write_text(right)
    taken = run()
    assert taken.returncode == 0, taken.stdout + taken.stderr
