#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks include/: no header includes a folder of higher rank, each starts with the licence line, none is too long."""
import pathlib
import re
import sys

RANKS = "core scalar relax ops net propagate search shard backend io".split()
LICENCE = "// SPDX-License-Identifier: Apache-2.0"
MOST_LINES = 400

root = pathlib.Path(__file__).resolve().parent.parent
include = root / "include"
problems = []
for header in sorted([*include.rglob("*.hpp"), *include.rglob("*.cuh")]):
    lines = header.read_text(encoding="utf-8").splitlines()
    place = header.relative_to(root)
    if not lines or lines[0] != LICENCE:
        problems.append(f"{place}:1: expected `{LICENCE}`")
    if len(lines) > MOST_LINES:
        problems.append(f"{place}: {len(lines)} lines, more than {MOST_LINES}: split it by idea")

    folder = header.relative_to(include / "hull").parts[0]
    if folder == header.name:  # the umbrella headers include/hull/*.hpp may include everything
        continue
    if folder not in RANKS:
        problems.append(f"{place}: the folder {folder} has no rank; the ranks are {' < '.join(RANKS)}")
        continue
    for number, line in enumerate(lines, 1):
        target = re.match(r'\s*#\s*include\s*[<"]hull/(?:(\w+)/)?', line)
        if target and target[1] is None:
            problems.append(f"{place}:{number}: umbrella headers are for users, not for headers")
        elif target and target[1] not in RANKS[: RANKS.index(folder) + 1]:
            problems.append(f"{place}:{number}: {folder} must not include {target[1]} ({' < '.join(RANKS)})")

print("\n".join(problems) or "check_layers: ok")
sys.exit(bool(problems))
