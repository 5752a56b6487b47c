#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What soundness in floating point costs in tightness: CROWN's output bounds with --rounding outward against nearest.

Prints, per network, the largest and the median relative growth of the width of the output bounds over all properties of
mnist_fc; both runs use the same hidden bounds policy.

    python3 bench/slack.py --shared ../shared/vnncomp/mnist_fc
"""
from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def width(model: Path, spec: Path, rounding: str) -> float:
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        subprocess.run([str(ROOT / "tools" / "hull"), "bounds", str(model), str(spec), "--method", "crown", "--hidden",
                        "replace", "--rounding", rounding, "--json", file.name], check=True)
        nodes = json.load(file)["nodes"]
    output = nodes[list(nodes)[-1]]
    return sum(output["upper"]) - sum(output["lower"])


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--shared", type=Path, required=True, help="folder with onnx/ and vnnlib/")
    options = arguments.parse_args()
    print("| network | boxes | median growth of the width | largest |\n|---|---|---|---|")
    for depth in (2, 4, 6):
        model = options.shared / "onnx" / f"mnist-net_256x{depth}.onnx"
        growth = []
        for spec in sorted((options.shared / "vnnlib").glob("prop_*")):
            nearest, outward = (width(model, spec, rounding) for rounding in ("nearest", "outward"))
            growth.append(outward / nearest - 1)
        print(f"| 256x{depth} | {len(growth)} | {100 * statistics.median(growth):.4f} % | {100 * max(growth):.4f} % |", flush=True)


if __name__ == "__main__":
    main()
