#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Domains per second of branch and bound over kinks on mnist_fc, and the share of its time in bounding kernels.

    python3 bench/branch_rate.py --shared ../shared/vnncomp/mnist_fc --threads 2

Counts from the moment the root's attack is over; splitting, choosing, storing domains and the attack on corners are
what is not kernels.
"""
from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True, help="the folder mnist_fc")
    parser.add_argument("--network", default="256x6")
    parser.add_argument("--props", default="3_0.05,10_0.05,14_0.05")
    parser.add_argument("--timeout", type=float, default=30)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--hull", type=Path, default=ROOT / "tools" / "hull")
    args = parser.parse_args()
    model = args.shared / "onnx" / f"mnist-net_{args.network}.onnx.gz"
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "report.json"
        first = args.shared / "vnnlib" / f"prop_{args.props.split(',')[0]}.vnnlib.gz"
        device = ["--device", args.device]
        subprocess.run([str(args.hull), "bounds", str(model), str(first), *device], check=True,
                       stdout=subprocess.DEVNULL)
        print(f"{'property':<10} {'verdict':<8} {'domains':>8} {'seconds':>8} {'domains/s':>10} {'kernels':>8}")
        for prop in args.props.split(","):
            spec = args.shared / "vnnlib" / f"prop_{prop}.vnnlib.gz"
            subprocess.run([str(args.hull), "verify", str(model), str(spec), "--timeout", str(args.timeout),
                            "--threads", str(args.threads), *device, "--json", str(out)], check=True,
                           stdout=subprocess.DEVNULL)
            report = json.loads(out.read_text())
            tree, kernels = report["seconds"]["tree"], report["seconds"]["kernels"]
            print(f"{prop:<10} {report['verdict']:<8} {report['domains']:>8} {tree:>8.1f} "
                  f"{report['domains'] / max(tree, 1e-9):>10.0f} {kernels / max(tree, 1e-9):>8.1%}", flush=True)


if __name__ == "__main__":
    main()
