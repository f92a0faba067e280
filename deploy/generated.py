"""Files in the repository that follow from others: each generator writes its own, or says that they are out of date."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from deploy.native.settings import ROOT


def main(files: Mapping[Path, str], task: str) -> int:
    """Write the files that differ from what they must hold, and name them; with --check only name them.

    Returns the exit status: 1 when `--check` found one; `task` makes it current.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true", help="write nothing; 1 when a file is out of date")
    check = parser.parse_args().check
    changed = [path for path, text in files.items() if not path.is_file() or path.read_text("utf-8") != text]
    for path in changed:
        if check:
            sys.stderr.write(f"{path.relative_to(ROOT)} is out of date: run `task {task}`\n")
        else:
            path.write_text(files[path], "utf-8")
            sys.stdout.write(f"{path.relative_to(ROOT)}\n")
    return 1 if check and changed else 0
