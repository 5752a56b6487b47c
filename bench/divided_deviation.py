#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How far bounds under TensorParallel are from those of one rank: every hidden and output bound of mnist_fc.

    python3 bench/divided_deviation.py --shared ../shared/vnncomp/mnist_fc --network 256x6 --ranks 2

Prints, for each rounding and method, the largest difference relative to the bound (to 0.001 for smaller ones) and to the
width of its interval; exit status 1 if a relative one under `nearest` is above 1e-5.
"""
from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def bounds(model: Path, spec: Path, method: str, rounding: str, more: list[str]) -> dict:
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        subprocess.run([str(ROOT / "tools" / "hull"), "bounds", str(model), str(spec), "--method", method, "--rounding",
                        rounding, "--json", file.name, *more], check=True)
        return json.load(file)["nodes"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True, help="the folder mnist_fc")
    parser.add_argument("--network", default="256x6")
    parser.add_argument("--ranks", default="2")
    args = parser.parse_args()
    model = args.shared / "onnx" / f"mnist-net_{args.network}.onnx"
    spec = args.shared / "vnnlib" / "prop_0_0.03.vnnlib"
    worst_nearest = 0.0
    print("| rounding | method | relative | of the width |\n|---|---|---|---|")
    for rounding in ("nearest", "outward"):
        for method in ("crown", "alpha-crown"):
            one = bounds(model, spec, method, rounding, [])
            several = bounds(model, spec, method, rounding, ["--shard", "tensor-parallel", "--ranks", args.ranks, "--comm", "loopback"])
            relative = width = 0.0
            for name, node in one.items():
                for side in ("lower", "upper"):
                    for a, b, low, high in zip(node[side], several[name][side], node["lower"], node["upper"]):
                        relative = max(relative, abs(a - b) / max(1e-3, abs(a)))
                        width = max(width, abs(a - b) / max(1e-6, high - low))
            print(f"| {rounding} | {method} | {relative:.1e} | {width:.1e} |", flush=True)
            if rounding == "nearest":
                worst_nearest = max(worst_nearest, relative)
    return 0 if worst_nearest <= 1e-5 else 1


if __name__ == "__main__":
    sys.exit(main())
