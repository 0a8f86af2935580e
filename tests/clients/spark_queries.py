"""Runs the Spark programs of docs/analysts.md. Usage: spark_queries.py FOLDER, where FOLDER holds `landing`.

Needs pyspark (tests/python/soak.txt) and a Java that it can start. Exit 1: a program failed or found no row.
"""

import contextlib
import io
import os
import sys

from worked import PAGE, blocks


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 64
    os.chdir(sys.argv[1])
    programs = [block for block in blocks() if block.heading == "Spark"]
    assert programs, f"{PAGE} has no program for Spark"
    for program in programs:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(program.text, f"{PAGE.name}, Spark", "exec"), {})
        print(printed.getvalue(), end="")
        if "champion" not in printed.getvalue():
            print("spark: the program found no row of the champion", file=sys.stderr)
            return 1
    print(f"spark: {len(programs)} program(s) of {PAGE.name} ran")
    return 0


if __name__ == "__main__":
    sys.exit(main())
