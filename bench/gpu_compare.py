# SPDX-License-Identifier: Apache-2.0
"""Times IBP, CROWN and alpha-CROWN of hull and of auto_LiRPA in turn on the same GPU, and compares their bounds.

Needs: torch, numpy, onnx, auto_LiRPA 0.7.1, and a binary bench_cuda_WORK of bench/cuda.cu for each work.

    python bench/gpu_compare.py --models DIR --bin DIR --out gpu.json
    python bench/gpu_compare.py --bin DIR --works random_4x8192 --methods ibp crown --roundings outward --out gpu.json
    python bench/gpu_compare.py --models DIR --bin DIR --device cpu --works mnist_256x2     (binaries made by g++)

Both sides get the same float weights, box and forms: margins of the class predicted at the centre over the others. The
box of mnist works is that of prop_0_0.03; the others are a fixed random centre in [0, 1] +- eps, not clipped, with
Kaiming-normal weights and zero bias. Times are wall-clock of the bounds alone until they are on the host; making the
model and copying weights are outside on both sides, copying box and forms to the GPU is inside for hull only. Every
run of auto_LiRPA gets a fresh perturbation, so it computes all hidden bounds again; it runs in float32 with TF32 off
and its default options (alpha-CROWN: 20 steps at rate 0.1, as hull), and bounds the forms from below only.

Memory of hull: arena and parameters; of auto_LiRPA: torch's peak of allocated bytes, parameters included. `looser` and
`tighter` in the table: by how much hull's bounds lie below and above auto_LiRPA's at most. hull intersects hidden
bounds with those of intervals; `--intersect no` leaves that out. With IBP auto_LiRPA multiplies the forms into the last
layer, hull bounds them over the intervals of the outputs; what is compared is the latter on both sides, from one more
run that is not timed. What fails on one side is reported and the rest goes on. --out has all numbers so far after
every method.
"""
from __future__ import annotations

import argparse
import copy
import datetime
import gc
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
import torch
from torch import nn

MNIST = {f"mnist_256x{n}": f"mnist-net_256x{n}.onnx" for n in (2, 4, 6)}
RANDOM = {  # name -> widths of the hidden layers, eps
    "random_4x2048": ([2048] * 4, 0.001),
    "random_4x4096": ([4096] * 4, 0.001),
    "random_4x8192": ([8192] * 4, 0.0005),
    "random_3x16384": ([16384] * 3, 0.0003),
}
WORKS = [*MNIST, *RANDOM, "conv"]
METHODS = {"ibp": "IBP", "crown": "CROWN", "alpha-crown": "CROWN-Optimized"}  # hull's name -> auto_LiRPA's
MIB = 2**20


@dataclass
class Work:
    name: str
    model: nn.Sequential
    lower: torch.Tensor  # [1, *input]
    upper: torch.Tensor  # [1, *input]
    rows: torch.Tensor   # [s, out]


def margins(model: nn.Sequential, centre: torch.Tensor) -> torch.Tensor:
    """The class predicted at the centre minus each other one."""
    with torch.no_grad():
        scores = model(centre)[0]
    best = int(scores.argmax())
    unit = torch.eye(len(scores))
    return torch.stack([unit[best] - unit[k] for k in range(len(scores)) if k != best])


def unpacked(path: Path) -> bytes:
    packed = path.with_name(path.name + ".gz")
    return path.read_bytes() if path.exists() else gzip.decompress(packed.read_bytes())


def filled(kind: type[nn.Module], *sizes: int, weight: np.ndarray, bias: np.ndarray) -> nn.Module:
    layer = nn.utils.skip_init(kind, *sizes)
    layer.weight.data, layer.bias.data = torch.from_numpy(weight.copy()), torch.from_numpy(bias.copy())
    return layer


def mnist_work(name: str, folder: Path) -> Work:
    import onnx
    from onnx import numpy_helper

    graph = onnx.load_model_from_string(unpacked(folder / MNIST[name])).graph
    values = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    layers: list[nn.Module] = []
    for node in graph.node:
        if node.op_type == "Gemm":
            transposed = any(a.name == "transB" and a.i for a in node.attribute)
            weight = values[node.input[1]] if transposed else values[node.input[1]].T
            layers.append(filled(nn.Linear, *weight.shape[::-1], weight=weight, bias=values[node.input[2]]))
        elif node.op_type == "Relu":
            layers.append(nn.ReLU())
        elif node.op_type != "Flatten":
            raise ValueError(f"{MNIST[name]}: expected Flatten, Gemm or Relu, got {node.op_type}")
    ends = {relation: torch.zeros(1, 784) for relation in ("<=", ">=")}
    text = unpacked(folder / "prop_0_0.03.vnnlib").decode()
    for relation, index, value in re.findall(r"\((<=|>=) X_(\d+) ([-+.eE\d]+)\)", text):
        ends[relation][0, int(index)] = float(value)
    lower, upper = ends[">="], ends["<="]
    model = nn.Sequential(*layers)
    return Work(name, model, lower, upper, margins(model, (lower + upper) / 2))


def random_work(name: str) -> Work:
    """Drawn on the CPU, so the numbers are the same wherever this runs."""
    random = torch.Generator().manual_seed(0)

    def drawn(kind: type[nn.Module], *sizes: int, **options: int) -> nn.Module:
        layer = nn.utils.skip_init(kind, *sizes, **options)
        fan_in = layer.weight[0].numel()
        layer.weight.data.normal_(0, (2 / fan_in) ** 0.5, generator=random)
        layer.bias.data.zero_()
        return layer

    layers: list[nn.Module] = []
    if name == "conv":
        shape, eps = (1, 3, 32, 32), 1 / 255
        for source, out, stride in ((3, 64, 1), (64, 64, 2), (64, 128, 1), (128, 128, 2)):
            layers += [drawn(nn.Conv2d, source, out, 3, stride=stride, padding=1), nn.ReLU()]
        layers += [nn.Flatten(), drawn(nn.Linear, 128 * 8 * 8, 512), nn.ReLU(), drawn(nn.Linear, 512, 10)]
    else:
        shape, (hidden, eps) = (1, 784), RANDOM[name]
        widths = [784, *hidden, 10]
        for source, out in zip(widths, widths[1:]):
            layers += [drawn(nn.Linear, source, out), nn.ReLU()]
        layers.pop()
    centre = torch.rand(shape, generator=random)
    model = nn.Sequential(*layers)
    return Work(name, model, centre - eps, centre + eps, margins(model, centre))


def write_numbers(work: Work, path: Path) -> None:
    """As bench/cuda.cu reads them."""
    with path.open("wb") as file:
        for layer in work.model:
            if hasattr(layer, "weight"):
                layer.weight.detach().numpy().tofile(file)
                layer.bias.detach().numpy().tofile(file)
        for tensor in (work.lower, work.upper, torch.tensor([float(len(work.rows))]), work.rows):
            tensor.contiguous().numpy().tofile(file)


def repetitions(method: str, args: argparse.Namespace) -> tuple[int, int]:
    """How many runs warm up, and how many are measured."""
    return (1, min(3, args.repeat)) if method == "alpha-crown" else (3, args.repeat)


def run_hull(work: Work, numbers: Path, method: str, rounding: str, args: argparse.Namespace) -> dict:
    warmup, repeat = repetitions(method, args)
    rounding, _, precision = rounding.partition("/")
    command = [str((args.bin / f"bench_cuda_{work.name}").resolve()), work.name, "--method", method, "--rounding",
               rounding, "--precision", precision or "fp32", "--device", args.device, "--weights", str(numbers), "--warmup", str(warmup), "--repeat",
               str(repeat), "--seconds", str(args.seconds), "--intersect", args.intersect]
    if args.row_bytes:
        command += ["--row-bytes", str(args.row_bytes)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=args.timeout)
    except (OSError, subprocess.TimeoutExpired) as e:
        return {"error": f"{type(e).__name__}: {e}"[:500]}
    if done.returncode:
        return {"error": f"status {done.returncode}: {done.stderr.strip()[-500:]}"}
    result = json.loads(done.stdout)
    result["bounds"] = [float("-inf") if b is None else b for b in result["bounds"]]
    result["bytes"] = result["arena_bytes"] + result["parameter_bytes"]
    return result


class Device:
    """What is asked of torch's device beside computing."""

    def __init__(self, name: str):
        self.name, self.is_gpu = name, name == "cuda"

    def wait(self) -> None:
        if self.is_gpu:
            torch.cuda.synchronize()

    def empty(self) -> None:
        gc.collect()
        if self.is_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def allocated(self) -> int:
        return torch.cuda.memory_allocated() if self.is_gpu else 0

    def peak(self) -> int:
        return torch.cuda.max_memory_allocated() if self.is_gpu else 0


def run_peer(work: Work, method: str, device: Device, args: argparse.Namespace) -> dict:
    """auto_LiRPA with its default options; a fresh model, so no method profits from the one before."""
    from auto_LiRPA import BoundedModule, BoundedTensor, PerturbationLpNorm

    lower, upper, rows = (tensor.to(device.name) for tensor in (work.lower, work.upper, work.rows[None]))
    centre = (lower + upper) / 2
    plain = copy.deepcopy(work.model).requires_grad_(False).eval().to(device.name)
    model = BoundedModule(plain, torch.zeros_like(centre), device=device.name)
    model.eval()  # with requires_grad off: no gradients of the weights
    model.set_bound_opts({"optimize_bound_args": {"iteration": 20, "lr_alpha": 0.1, "lr_decay": 0.98}})
    optimises = method == "alpha-crown"
    at_rest = device.allocated()
    device.empty()

    def run(forms: torch.Tensor | None) -> list[torch.Tensor | None]:
        with torch.set_grad_enabled(optimises):
            box = PerturbationLpNorm(norm=float("inf"), x_L=lower, x_U=upper)
            bounds = model.compute_bounds(x=(BoundedTensor(centre, box),), C=forms, method=METHODS[method],
                                          bound_upper=forms is None)
        return [None if b is None else b.detach()[0].cpu() for b in bounds[:2]]

    warmup, repeat = repetitions(method, args)
    begin, seconds, bounds = time.perf_counter(), [], torch.empty(0)
    for number in range(warmup + repeat):
        warm = number >= warmup
        if time.perf_counter() - begin > args.seconds and not (warm and not seconds):
            continue  # late: the warm-ups end early, and one measured run is enough
        device.wait()
        start = time.perf_counter()
        bounds = run(rows)[0]
        device.wait()
        if warm:
            seconds.append(time.perf_counter() - start)
    result = {"median": 1e3 * statistics.median(seconds), "min": 1e3 * min(seconds), "max": 1e3 * max(seconds),
              "repetitions": len(seconds), "bounds": bounds.tolist(), "bytes": device.peak(), "bytes_at_rest": at_rest}
    if method == "ibp":
        low, up = (end.double() for end in run(None))
        forms = work.rows.double()
        result["bounds_of_intervals"] = (forms.clamp(min=0) @ low + forms.clamp(max=0) @ up).tolist()
    return result


def try_peer(work: Work, method: str, device: Device, args: argparse.Namespace) -> dict:
    try:
        return run_peer(work, method, device, args)
    except Exception as e:  # noqa: BLE001 - out of memory, or whatever this release does not do
        return {"error": f"{type(e).__name__}: {e}"[:500]}
    finally:
        device.empty()


def compared(hull: dict, peer: dict) -> dict:
    """The ratio of times, and how far hull's bounds lie below and above; NaN stays NaN."""
    if "error" in hull or "error" in peer:
        return {}
    theirs = np.array(peer.get("bounds_of_intervals", peer["bounds"]))
    difference = np.array(hull["bounds"]) - theirs
    return {"ratio": peer["median"] / hull["median"], "looser": float(np.maximum(-difference, 0).max()),
            "tighter": float(np.maximum(difference, 0).max()), "largest": float(np.abs(theirs).max())}


def shown(line: dict) -> str:
    def cell(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    hull, peer = line["hull"], line["auto_LiRPA"]
    memory = [None if "error" in side else side["bytes"] / MIB for side in (hull, peer)]
    cells = [line["work"], line["method"], line["rounding"], cell(hull.get("median"), ".3f"),
             cell(peer.get("median"), ".3f"), cell(line.get("ratio"), ".2f"), *(cell(m, ".1f") for m in memory),
             *(cell(line.get(name), ".1e") for name in ("looser", "tighter"))]
    return "| " + " | ".join(cells) + " |"


def table(lines: list[dict]) -> str:
    titles = ["work", "method", "rounding of hull", "hull ms", "auto_LiRPA ms", "ratio", "hull MiB", "auto_LiRPA MiB",
              "looser", "tighter"]
    text = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles), *map(shown, lines)]
    for line in lines:
        for side in ("hull", "auto_LiRPA"):
            if "error" in line[side]:
                reason = line[side]["error"].splitlines()[0][:160]
                text.append(f"{line['work']} {line['method']} {line['rounding']}: {side} failed: {reason}")
    return "\n".join(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, help="folder of mnist_fc's models and prop_0_0.03.vnnlib, or .gz")
    parser.add_argument("--bin", type=Path, required=True, help="folder of the binaries bench_cuda_WORK")
    parser.add_argument("--works", nargs="+", default=WORKS, choices=WORKS, metavar="WORK", help=", ".join(WORKS))
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--roundings", nargs="+", default=["nearest", "outward", "outward/tf32x3", "outward/fp16x3"],
                        choices=["nearest", "outward", "nearest/tf32x3", "outward/tf32x3", "nearest/fp16x3",
                                 "outward/fp16x3"])
    parser.add_argument("--repeat", type=int, default=10, help="measured runs, after 3 others; alpha-CROWN: 3 after 1")
    parser.add_argument("--seconds", type=float, default=30, help="no further runs of one side after so many")
    parser.add_argument("--timeout", type=float, default=120, help="seconds after which a process of hull is given up")
    parser.add_argument("--row-bytes", type=int, default=0, help="of hull; 0: its default")
    parser.add_argument("--intersect", choices=["yes", "no"], default="yes", help="of hull")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--hull-only", action="store_true", help="leave auto_LiRPA out")
    parser.add_argument("--temp", type=Path, help="where files of weights may lie: 2.2 GiB for random_3x16384")
    parser.add_argument("--out", type=Path, help="write all numbers here")
    args = parser.parse_args()
    if args.models is None and any(name in MNIST for name in args.works):
        parser.error("mnist works need --models")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    device = Device(args.device)

    report = {"device": torch.cuda.get_device_name() if device.is_gpu else "cpu", "torch": torch.__version__,
              "cuda": torch.version.cuda, "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
              "command": " ".join(sys.argv), "lines": []}
    if not args.hull_only:
        try:
            import auto_LiRPA
            report["auto_LiRPA"] = auto_LiRPA.__version__
        except ImportError as e:
            report["auto_LiRPA"] = f"none: {e}"
    print(f"{report['device']}, torch {report['torch']}, auto_LiRPA {report.get('auto_LiRPA', 'left out')}", flush=True)

    for name in args.works:
        with tempfile.TemporaryDirectory(dir=args.temp) as folder:
            work = mnist_work(name, args.models) if name in MNIST else random_work(name)
            numbers = Path(folder) / "numbers"
            write_numbers(work, numbers)
            for method in args.methods:
                own = {rounding: run_hull(work, numbers, method, rounding, args) for rounding in args.roundings}
                peer = {"error": "left out"} if args.hull_only else try_peer(work, method, device, args)
                for rounding, hull in own.items():
                    line = {"work": name, "method": method, "rounding": rounding, "hull": hull, "auto_LiRPA": peer}
                    report["lines"].append(line | compared(hull, peer))
                    print(shown(report["lines"][-1]), flush=True)
                if args.out:
                    args.out.write_text(json.dumps(report, indent=1) + "\n")
        del work
        device.empty()
    print("\nMilliseconds: medians. ratio: auto_LiRPA / hull. looser, tighter: hull's bounds against auto_LiRPA's.")
    print(table(report["lines"]))


if __name__ == "__main__":
    main()
