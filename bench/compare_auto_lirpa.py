# SPDX-License-Identifier: Apache-2.0
"""Times IBP and CROWN of hull and of auto_LiRPA in turn on the CPU, and compares their bounds.

Needs: torch, onnx, numpy, auto_LiRPA (May 2026 release). Seconds are those of the bound computation alone: start-up,
reading and compiling are outside on both sides, and the first runs of each block are dropped. Every run of auto_LiRPA
gets a fresh perturbation, so it computes all hidden bounds again. Both sides bound the rows of the specification from
below (`--both-sides`: auto_LiRPA from above as well) and hidden nodes from both sides.

    python bench/compare_auto_lirpa.py --shared ../shared/vnncomp/mnist_fc --threads 2
    python bench/compare_auto_lirpa.py --peer-only --cases random-4x2048
"""
from __future__ import annotations

import argparse
import gzip
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from auto_LiRPA import BoundedModule, BoundedTensor, PerturbationLpNorm
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).resolve().parent.parent
MNIST = {f"mnist-256x{n}": f"mnist-net_256x{n}.onnx" for n in (2, 4, 6)}
RANDOM = {"random-4x1024": 1024, "random-4x2048": 2048}
DEFAULT = [*MNIST, "random-4x2048"]
METHODS = {"ibp": "IBP", "crown": "CROWN"}  # hull's name -> auto_LiRPA's


@dataclass
class Case:
    name: str
    model: Path
    spec: Path
    layers: list[tuple[np.ndarray, np.ndarray]]  # ([out, in], [out]) per affine node
    tensors: list[str]                           # ONNX name of what each affine node computes
    lower: np.ndarray                            # [in]
    upper: np.ndarray                            # [in]
    rows: np.ndarray                             # [s, out], in the order of the specification


def read_case(name: str, model: Path, spec: Path) -> Case:
    """Reads a chain of Flatten, Gemm and Relu, and the robustness property of one label."""
    graph = onnx.load(model).graph
    values = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    layers, tensors = [], []
    for node in graph.node:
        if node.op_type == "Gemm":
            transposed = any(a.name == "transB" and a.i for a in node.attribute)
            weight = values[node.input[1]]
            layers.append((weight if transposed else weight.T, values[node.input[2]]))
            tensors.append(node.output[0])
        elif node.op_type not in ("Flatten", "Relu"):
            sys.exit(f"{model}: node {node.name or node.op_type}: expected Flatten, Gemm or Relu")

    text = spec.read_text()
    box = {"<=": np.zeros(layers[0][0].shape[1]), ">=": np.zeros(layers[0][0].shape[1])}
    for relation, index, value in re.findall(r"\((<=|>=) X_(\d+) ([-+.eE\d]+)\)", text):
        box[relation][int(index)] = float(value)
    pairs = [(int(j), int(label)) for j, label in re.findall(r"\(and \(>= Y_(\d+) Y_(\d+)\)\)", text)]
    rows = np.zeros((len(pairs), len(layers[-1][1])), np.float32)
    for row, (other, label) in zip(rows, pairs):
        row[label], row[other] = 1, -1
    return Case(name, model, spec, layers, tensors, box[">="], box["<="], rows)


def mnist_case(name: str, shared: Path, folder: Path) -> Case:
    paths = []
    for source in (shared / "onnx" / MNIST[name], shared / "vnnlib" / "prop_0_0.03.vnnlib"):
        packed = source.with_name(source.name + ".gz")
        target = folder / source.name
        target.write_bytes(gzip.decompress(packed.read_bytes()) if packed.exists() else source.read_bytes())
        paths.append(target)
    return read_case(name, *paths)


def random_case(name: str, folder: Path, seed: int = 0, eps: float = 0.001) -> Case:
    """784-4xW-10 with Kaiming-normal weights and zero bias; the box is a uniform random centre +- eps, not clipped."""
    rng = np.random.default_rng(seed)
    widths = [784, *[RANDOM[name]] * 4, 10]
    nodes, tensors, value, source = [], [], rng.random(784, np.float32), "x"
    center = value
    for i, (fan_in, out) in enumerate(zip(widths, widths[1:]), 1):
        weight = rng.standard_normal((out, fan_in), np.float32) * np.float32(np.sqrt(2 / fan_in))
        tensors += [numpy_helper.from_array(weight, f"w{i}"),
                    numpy_helper.from_array(np.zeros(out, np.float32), f"b{i}")]
        result = f"z{i}" if out != 10 else "y"
        nodes.append(helper.make_node("Gemm", [source, f"w{i}", f"b{i}"], [result], f"fc{i}", transB=1))
        value, source = weight @ value, f"h{i}"
        if out != 10:
            nodes.append(helper.make_node("Relu", [result], [source], f"relu{i}"))
            value = np.maximum(value, 0)
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, d]) for n, d in (("x", 784), ("y", 10))]
    graph = helper.make_graph(nodes, "random", ends[:1], ends[1:], tensors)
    model, spec = folder / f"{name}.onnx", folder / f"{name}.vnnlib"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), model)

    label = int(value.argmax())
    lines = [f"(declare-const X_{i} Real)" for i in range(784)] + [f"(declare-const Y_{i} Real)" for i in range(10)]
    for i, c in enumerate(center):
        lines += [f"(assert (>= X_{i} {c - eps:.9f}))", f"(assert (<= X_{i} {c + eps:.9f}))"]
    lines += ["(assert (or", *[f"  (and (>= Y_{j} Y_{label}))" for j in range(10) if j != label], "))"]
    spec.write_text("\n".join(lines) + "\n")
    return read_case(name, model, spec)


class AutoLirpa:
    """auto_LiRPA with its default options on the same layers, box and rows."""

    def __init__(self, case: Case, both_sides: bool):
        modules: list[torch.nn.Module] = []
        for weight, bias in case.layers:
            linear = torch.nn.Linear(*weight.shape[::-1])
            linear.weight.data, linear.bias.data = torch.tensor(weight), torch.tensor(bias)
            modules += [linear, torch.nn.ReLU()]
        self.lower, self.upper = (torch.tensor(v, dtype=torch.float32)[None] for v in (case.lower, case.upper))
        self.center = (self.lower + self.upper) / 2
        self.rows = torch.tensor(case.rows)[None]
        self.both_sides = both_sides
        self.model = BoundedModule(torch.nn.Sequential(*modules[:-1]), torch.zeros_like(self.center))

    def run(self, method: str) -> tuple[float, np.ndarray]:
        """Seconds of one computation, and the lower bounds of the rows [s]."""
        with torch.no_grad():
            start = time.perf_counter()
            box = PerturbationLpNorm(norm=float("inf"), x_L=self.lower, x_U=self.upper)
            bounds = self.model.compute_bounds(x=(BoundedTensor(self.center, box),), C=self.rows,
                                               method=METHODS[method], bound_upper=self.both_sides)
            seconds = time.perf_counter() - start
        return seconds, bounds[0][0].numpy()

    def hidden(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Bounds of every pre-activation after the last run."""
        relus = [n for n in self.model.nodes() if type(n).__name__ == "BoundRelu"]
        return [tuple(b[0].numpy() for b in (n.inputs[0].lower, n.inputs[0].upper)) for n in relus]


def run_hull(tool: Path, case: Case, method: str, args: argparse.Namespace, folder: Path) -> dict:
    out = folder / "hull.json"
    command = [str(tool), "bounds", str(case.model), str(case.spec), "--method", method, "--rounding", args.rounding,
               "--repeat", str(args.warmup + args.repeat), "--threads", str(args.threads), "--json", str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"hull failed with status {done.returncode}:\n  {' '.join(command)}\n{done.stderr}")
    return json.loads(out.read_text())


def difference(case: Case, peer: AutoLirpa, rows: np.ndarray, result: dict) -> dict:
    """Largest absolute difference over the rows, and over the hidden neurons that both sides call unstable; and how
    many hidden neurons only one side calls unstable. A NaN stays a NaN."""
    hidden, disputed = [0.0], 0
    for name, (low, up) in zip(case.tensors, peer.hidden()):
        own_low, own_up = (np.array(result["nodes"][name][side], float).ravel() for side in ("lower", "upper"))
        unstable, own = (low < 0) & (up > 0), ~((own_low >= 0) | (own_up <= 0))
        hidden += [*np.abs(own_low - low)[unstable & own], *np.abs(own_up - up)[unstable & own]]
        disputed += int((unstable != own).sum())
    own_rows = np.array([row["lower"] for row in result["rows"]], float)
    return {"row_difference": float(np.max(np.abs(own_rows - rows))), "hidden_difference": float(np.max(hidden)),
            "disputed": disputed}


def compare(case: Case, method: str, args: argparse.Namespace, folder: Path) -> dict:
    peer, times, result = AutoLirpa(case, args.both_sides), {"auto_LiRPA": [], "hull": []}, None
    for _ in range(args.rounds):
        block = [peer.run(method) for _ in range(args.warmup + args.repeat)]
        times["auto_LiRPA"] += [seconds for seconds, _ in block[args.warmup:]]
        if not args.peer_only:
            result = run_hull(args.hull, case, method, args, folder)
            times["hull"] += result["seconds"]["bound"][args.warmup:]
    line = {"case": case.name, "method": method, "threads": args.threads}
    for side, seconds in times.items():
        if seconds:
            line[side] = {k: 1e3 * f(seconds) for k, f in (("median", statistics.median), ("min", min), ("max", max))}
    if result:
        for name, kind in (("ratio", "median"), ("ratio_of_minima", "min")):
            line[name] = line["auto_LiRPA"][kind] / line["hull"][kind]
        line |= difference(case, peer, block[-1][1], result)
    return line


def show(line: dict) -> str:
    cells = [f"{line['case']:<14}", f"{line['method']:<6}"]
    for side in ("auto_LiRPA", "hull"):
        t = line.get(side)
        cells.append(f"{t['median']:9.2f} {t['min']:9.2f} {t['max']:9.2f}" if t else f"{'-':>9} {'-':>9} {'-':>9}")
    if "ratio" in line:
        cells.append(f"{line['ratio']:7.2f} {line['ratio_of_minima']:7.2f}")
        cells.append(f"{line['row_difference']:8.1e} {line['hidden_difference']:8.1e} {line['disputed']:5d}")
    return " | ".join(cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared/vnncomp/mnist_fc",
                        help="folder of the mnist_fc benchmark with onnx/ and vnnlib/ (plain or .gz)")
    parser.add_argument("--hull", type=Path, default=ROOT / "tools/hull", help="the command line tool")
    parser.add_argument("--cases", nargs="+", default=DEFAULT, choices=[*MNIST, *RANDOM], metavar="CASE",
                        help=f"of {', '.join([*MNIST, *RANDOM])}")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--rounding", choices=["nearest", "outward"], default="nearest", help="of hull")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=3, help="blocks of each side, in turn")
    parser.add_argument("--repeat", type=int, default=7, help="measured runs per block")
    parser.add_argument("--warmup", type=int, default=3, help="dropped runs per block")
    parser.add_argument("--both-sides", action="store_true", help="auto_LiRPA bounds the rows from above as well")
    parser.add_argument("--peer-only", action="store_true", help="run auto_LiRPA alone")
    parser.add_argument("--json", type=Path, help="write the table here as well")
    args = parser.parse_args()
    if not args.peer_only and not args.hull.is_file():
        sys.exit(f"{args.hull}: no such tool; build hull first, name it with --hull, or use --peer-only")
    torch.set_num_threads(args.threads)

    print(f"threads {args.threads}, torch {torch.__version__}, rounding of hull: {args.rounding}; milliseconds")
    print(f"{'case':<14} | method | auto_LiRPA: median, min, max  | hull: median, min, max        |"
          " ratio: medians, minima | largest difference: rows, unstable neurons; neurons unstable for one side only")
    lines = []
    with tempfile.TemporaryDirectory() as temp:
        folder = Path(temp)
        for name in args.cases:
            case = random_case(name, folder) if name in RANDOM else mnist_case(name, args.shared, folder)
            for method in args.methods:
                lines.append(compare(case, method, args, folder))
                print(show(lines[-1]), flush=True)
    if args.json:
        args.json.write_text(json.dumps(lines, indent=1) + "\n")


if __name__ == "__main__":
    main()
