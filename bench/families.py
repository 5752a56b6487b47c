#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs hull on families of VNN-COMP instances and prints the table of docs/results.md.

A family is a folder with onnx/, vnnlib/, instances.csv (onnx,vnnlib,timeout) and expected.csv (onnx,vnnlib,verdict,...,
abcrown_time_s last). Exit status 1 if any verdict contradicts the expected one.

    python3 bench/families.py --shared ../shared/vnncomp --cap 60
    python3 bench/families.py --shared ../shared/vnncomp --families acasxu,mnist_fc --rows rows.csv --certificates
"""
from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COLUMNS = ["unsat", "sat", "unknown", "timeout", "refused"]


def instances(family: Path) -> list[dict]:
    limits = {}
    with open(family / "instances.csv", newline="") as file:
        for row in csv.reader(file):
            if len(row) >= 3:
                limits[row[0].removeprefix("./"), row[1].removeprefix("./")] = float(row[2])
    with open(family / "expected.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["limit"] = limits.get((row["onnx"].removeprefix("./"), row["vnnlib"].removeprefix("./")), 300.0)
    return rows


def run(family: Path, row: dict, cap: float, extra: list[str]) -> tuple[str, float, str]:
    """Verdict, seconds, and what was said if there is no verdict."""
    limit = min(cap, row["limit"])
    command = [str(ROOT / "tools" / "hull"), "verify", str(family / row["onnx"]), str(family / row["vnnlib"]),
               "--timeout", str(limit), *extra]
    start = time.monotonic()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit + 30)
    except subprocess.TimeoutExpired:
        return "hang", time.monotonic() - start, ""
    seconds = time.monotonic() - start
    if done.returncode != 0:
        return ("refused" if done.returncode == 2 else "error"), seconds, done.stderr.strip()
    return done.stdout.split("\n", 1)[0], seconds, ""


def check(family: Path, row: dict, certificate: Path) -> tuple[str, float]:
    """What `hull check` says of the certificate, and the seconds it took."""
    command = [str(ROOT / "tools" / "hull"), "check", str(family / row["onnx"]), str(family / row["vnnlib"]),
               str(certificate)]
    start = time.monotonic()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    except subprocess.TimeoutExpired:
        return "unfinished", time.monotonic() - start
    return ("accepted" if done.returncode == 0 else done.stderr.strip() or done.stdout.strip()), time.monotonic() - start


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--shared", type=Path, required=True, help="folder with one folder per family")
    arguments.add_argument("--families", default="", help="comma-separated; default: all that have expected.csv")
    arguments.add_argument("--cap", type=float, default=60, help="no instance gets more seconds than this")
    arguments.add_argument("--rows", type=Path, help="write one line per instance to this file")
    arguments.add_argument("--certificates", action="store_true", help="write and check one for each unsat")
    arguments.add_argument("hull", nargs="*", help="further options for hull verify, after --")
    options = arguments.parse_args()

    names = options.families.split(",") if options.families else sorted(
        p.parent.name for p in options.shared.glob("*/expected.csv"))
    lines, refusals, wrong = [], {}, []
    if options.rows:
        options.rows.write_text("family,onnx,vnnlib,verdict,expected,seconds,certificate,check seconds\n")
    print("| family | instances | " + " | ".join(COLUMNS) + " | seconds | abcrown unsat/sat | its seconds on those | "
          "contradictions | certificates accepted |")
    print("|---" * (len(COLUMNS) + 7) + "|")
    for name in names:
        family = options.shared / name
        rows, found, total, bad, accepted = instances(family), Counter(), 0.0, 0, 0
        for row in rows:
            with tempfile.TemporaryDirectory() as folder:
                certificate = Path(folder) / "certificate"
                extra = ["--certificate", str(certificate)] if options.certificates else []
                verdict, seconds, message = run(family, row, options.cap, [*options.hull, *extra])
                said, check_seconds = "", 0.0
                if options.certificates and verdict == "unsat":
                    said, check_seconds = check(family, row, certificate)
                    accepted += said == "accepted"
                    if said != "accepted":
                        wrong.append(f"{name}: {row['onnx']} {row['vnnlib']}: certificate: {said}")
            found[verdict] += 1
            total += seconds
            if message:
                refusals.setdefault(name, set()).add(message.replace(str(family) + "/", ""))
            if {verdict, row["verdict"]} == {"sat", "unsat"}:
                bad += 1
                wrong.append(f"{name}: {row['onnx']} {row['vnnlib']}: {verdict}, expected {row['verdict']}")
            lines.append([name, row["onnx"], row["vnnlib"], verdict, row["verdict"], f"{seconds:.2f}", said,
                          f"{check_seconds:.2f}"])
            if options.rows:  # at once: a run of hours may be cut short
                with open(options.rows, "a", newline="") as file:
                    csv.writer(file).writerow(lines[-1])
        others = sum(count for verdict, count in found.items() if verdict not in COLUMNS)
        solved = [row for row in rows if row["abcrown_time_s"]]
        peer = Counter(row["verdict"] for row in solved)
        print(f"| {name} | {len(rows)} | " + " | ".join(str(found[c]) for c in COLUMNS) +
              f" | {total:.1f} | {peer['unsat']}/{peer['sat']} | {sum(float(r['abcrown_time_s']) for r in solved):.1f} | "
              f"{bad} | {accepted} |" + (f" {others} errors" if others else ""), flush=True)
    for name, messages in refusals.items():
        for message in sorted(messages):
            print(f"\n{name}: {message}")
    for line in wrong:
        print("CONTRADICTION " + line if "certificate:" not in line else "REFUSED " + line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
