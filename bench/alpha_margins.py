#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Margins and memory of alpha-CROWN, beside those of auto_LiRPA.

    python3 bench/alpha_margins.py --shared ../shared/vnncomp/mnist_fc

prints the margins of labels 0-3 on 256x2 and 256x4 (box: centre of prop_0 +- 0.015, 20 steps) beside auto_LiRPA's,
which optimises all slopes for the sum of the margins. Exit status 1 if any of ours is looser.

    python bench/alpha_margins.py --memory --cases 64MB,256MB --peer

does the same for a random 784-4x2048-10 network (bench/compare_auto_lirpa.py makes it) under several memory budgets,
and prints the bytes that the bounds took: the arena's peak, and that of the process. `--peer` runs auto_LiRPA's
CROWN-Optimized on it too, on the CPU; both need torch, onnx, numpy and auto_LiRPA (May 2026 release).
"""
from __future__ import annotations

import argparse
import gzip
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RADIUS, LABEL, OTHERS = 0.015, 4, (0, 1, 2, 3)
PEER = {"256x2": (0.84788, 0.85154, 0.83703, 0.84479), "256x4": (1.00390, 1.00040, 0.98502, 0.99936)}


def unpack(source: Path, folder: Path) -> Path:
    packed, target = source.with_name(source.name + ".gz"), folder / source.name
    target.write_bytes(gzip.decompress(packed.read_bytes()) if packed.exists() else source.read_bytes())
    return target


def centre_spec(prop: str) -> str:
    """The property of labels 0-3 on the box with the same centre as that of `prop`."""
    ends: dict[str, dict[int, float]] = {"<=": {}, ">=": {}}
    for relation, index, value in re.findall(r"\((<=|>=) X_(\d+) ([-+.eE\d]+)\)", prop):
        ends[relation][int(index)] = float(value)
    lines = [f"(declare-const X_{i} Real)" for i in range(784)] + [f"(declare-const Y_{i} Real)" for i in range(10)]
    for i in range(784):
        centre = 0.5 * (ends[">="][i] + ends["<="][i])
        lines += [f"(assert (>= X_{i} {centre - RADIUS!r}))", f"(assert (<= X_{i} {centre + RADIUS!r}))"]
    lines.append("(assert (or " + " ".join(f"(and (>= Y_{j} Y_{LABEL}))" for j in OTHERS) + "))")
    return "\n".join(lines) + "\n"


def bounds(tool: Path, model: Path, spec: Path, extra: list[str], folder: Path) -> tuple[dict, int]:
    """The report of `hull bounds`, and the peak resident bytes of that process."""
    out = folder / "bounds.json"
    command = [str(tool), "bounds", str(model), str(spec), "--method", "alpha-crown", "--json", str(out), *extra]
    subprocess.run(command + ["--repeat", "1"], check=True, stdout=subprocess.DEVNULL)  # compiles
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, process.returncode, usage = os.wait4(process.pid, 0)
    if process.returncode:
        sys.exit(f"hull failed: {' '.join(command)}")
    return json.loads(out.read_text()), usage.ru_maxrss * 1024


def margins(args: argparse.Namespace, folder: Path) -> bool:
    spec = folder / "centre.vnnlib"
    spec.write_text(centre_spec(unpack(args.shared / "vnnlib" / "prop_0_0.03.vnnlib", folder).read_text()))
    print(f"{'network':<8} {'':<11}" + "".join(f" label {j:<5}" for j in OTHERS))
    worse = False
    for network, peer in PEER.items():
        model = unpack(args.shared / "onnx" / f"mnist-net_{network}.onnx", folder)
        report, _ = bounds(args.hull, model, spec, ["--rounding", args.rounding], folder)
        own = [row["lower"] for row in report["rows"]]
        worse = worse or any(a < b for a, b in zip(own, peer))
        print(f"{network:<8} {'auto_LiRPA':<11}" + "".join(f" {x:<11.5f}" for x in peer))
        print(f"{network:<8} {'hull':<11}" + "".join(f" {x:<11.5f}" for x in own))
    return worse


def memory(args: argparse.Namespace, folder: Path) -> bool:
    sys.path.insert(0, str(ROOT / "bench"))
    import compare_auto_lirpa as peer_bench

    case = peer_bench.random_case("random-4x2048", folder)
    weights = sum(w.size + b.size for w, b in case.layers) * 4
    print(f"parameters: {weights / 2**20:.1f} MiB")
    worse = False
    for budget in args.cases.split(","):
        report, process = bounds(args.hull, case.model, case.spec,
                                 ["--rounding", args.rounding, "--memory-budget", budget], folder)
        own = [row["lower"] for row in report["rows"]]
        used = report["memory"][0]
        print(f"budget {budget:>7}: planned {used['planned'] / 2**20:.1f} MiB, arena peak {used['peak'] / 2**20:.1f} MiB,"
              f" process {process / 2**20:.1f} MiB, {report['seconds']['bound'][-1]:.1f} s")
        print("  rows " + " ".join(f"{x:.5f}" for x in own), flush=True)
    if args.peer:
        peer = peer_bench.AutoLirpa(case, False)
        box = peer_bench.PerturbationLpNorm(norm=float("inf"), x_L=peer.lower, x_U=peer.upper)
        peer.model.set_bound_opts({"optimize_bound_args": {"iteration": 20, "lr_alpha": 0.1, "lr_decay": 0.98}})
        lower, _ = peer.model.compute_bounds(x=(peer_bench.BoundedTensor(peer.center, box),), C=peer.rows,
                                             method="CROWN-Optimized", bound_upper=False)
        rows = lower[0].detach().numpy()
        print("  auto_LiRPA " + " ".join(f"{x:.5f}" for x in rows))
        worse = any(a < b for a, b in zip(own, rows))
    return worse


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, help="the folder mnist_fc")
    parser.add_argument("--memory", action="store_true", help="the random network under memory budgets")
    parser.add_argument("--cases", default="64MB,256MB", help="budgets, comma separated")
    parser.add_argument("--peer", action="store_true", help="run auto_LiRPA on the random network too")
    parser.add_argument("--rounding", default="outward", choices=["outward", "nearest"])
    parser.add_argument("--hull", type=Path, default=ROOT / "tools" / "hull")
    args = parser.parse_args()
    if args.shared is None and not args.memory:
        parser.error("--shared or --memory")
    worse = False
    with tempfile.TemporaryDirectory() as name:
        if args.shared is not None:
            worse = margins(args, Path(name)) or worse
        if args.memory:
            worse = memory(args, Path(name)) or worse
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
