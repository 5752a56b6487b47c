# SPDX-License-Identifier: Apache-2.0
"""Trains the two digit classifiers beside this file and chooses their robustness properties.

Writes mlp.onnx, cnn.onnx, properties/*.vnnlib and expected.csv. A property is called `unsat` when CROWN of auto_LiRPA
proves it with room to spare, or when alpha-CROWN does and CROWN fails; it is called `sat` when onnxruntime confirms a
counterexample found by PGD.

Needs: torch, scikit-learn, onnx, onnxruntime, auto_LiRPA. Nothing in hull needs this script.
"""
from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from auto_LiRPA import BoundedModule, BoundedTensor, PerturbationLpNorm
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from torch import nn

HERE = Path(__file__).resolve().parent
TRAIN_EPS = 0.08            # of the PGD attack during training
SIZES = {"crown": (0.02, 0.04, 0.06), "alpha-crown": (0.08,), "attack": (0.06, 0.1, 0.15)}  # eps by what settles it
ROOM = 0.1                  # least proved margin, and least violation, of a property that is written


class Mlp(nn.Module):
    """64-32-32-10."""
    shape = (1, 64)

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(64, 32), nn.Linear(32, 32), nn.Linear(32, 10)

    def forward(self, x):                                 # [b, 64]
        x = torch.relu(self.fc1(x))                       # [b, 32]
        x = torch.relu(self.fc2(x))                       # [b, 32]
        return self.fc3(x)                                # [b, 10]

    nodes = [("Gemm", "fc1", "x", "z1"), ("Relu", "", "z1", "h1"),
             ("Gemm", "fc2", "h1", "z2"), ("Relu", "", "z2", "h2"),
             ("Gemm", "fc3", "h2", "y")]


class Cnn(nn.Module):
    """Two convolutions, the second with a residual connection, average pooling and one affine layer."""
    shape = (1, 1, 8, 8)

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.fc = nn.Linear(128, 10)

    def forward(self, x):                                 # [b, 1, 8, 8]
        x = torch.relu(self.conv1(x))                     # [b, 8, 8, 8]
        x = torch.relu(self.conv2(x) + x)                 # [b, 8, 8, 8]
        x = nn.functional.avg_pool2d(x, 2)                # [b, 8, 4, 4]
        return self.fc(torch.flatten(x, 1))               # [b, 10]

    nodes = [("Conv", "conv1", "x", "z1"), ("Relu", "", "z1", "h1"),
             ("Conv", "conv2", "h1", "c2"), ("Add", "", "c2 h1", "z2"), ("Relu", "", "z2", "h2"),
             ("AveragePool", "", "h2", "p"), ("Flatten", "", "p", "f"),
             ("Gemm", "fc", "f", "y")]


ATTRIBUTES = {"Gemm": {"transB": 1}, "Flatten": {"axis": 1},
              "Conv": {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]},
              "AveragePool": {"kernel_shape": [2, 2], "strides": [2, 2]}}


def pgd(model: nn.Module, x: torch.Tensor, label: torch.Tensor, eps: float, steps: int, restart: bool) -> torch.Tensor:
    """Points within eps of x, clipped to [0, 1], at which the margin of the label is small."""
    low, up = (x - eps).clamp(min=0), (x + eps).clamp(max=1)
    point = low + (up - low) * torch.rand_like(x) if restart else x.clone()
    for step in range(steps):
        point.requires_grad_()
        output = model(point)
        rival = output.masked_fill(nn.functional.one_hot(label, 10).bool(), -torch.inf).max(1).values
        gradient, = torch.autograd.grad((rival - output.gather(1, label[:, None])[:, 0]).sum(), point)
        rate = eps * 2.5 / steps
        point = torch.clamp(point.detach() + rate * gradient.sign(), low, up)
    return point


def train(model: nn.Module, x: torch.Tensor, label: torch.Tensor, epochs: int = 60, batch: int = 32) -> None:
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    for _ in range(epochs):
        for part in torch.randperm(len(x)).split(batch):
            near = pgd(model, x[part], label[part], TRAIN_EPS, steps=4, restart=True)
            loss = sum(nn.functional.cross_entropy(model(v), label[part]) for v in (x[part], near))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        schedule.step()


def export(model: nn.Module, path: Path) -> None:
    """Opset 13, float32, batch 1; tensors named as in `nodes`."""
    nodes, tensors = [], []
    for op, layer, sources, result in model.nodes:
        inputs = sources.split()
        for kind in ("weight", "bias") if layer else ():
            inputs.append(f"{layer}.{kind}")
            tensors.append(numpy_helper.from_array(getattr(getattr(model, layer), kind).detach().numpy(), inputs[-1]))
        title = layer or f"{op.lower()}_{result}"
        nodes.append(helper.make_node(op, inputs, [result], title, **ATTRIBUTES.get(op, {})))
    ends = [helper.make_tensor_value_info("x", TensorProto.FLOAT, model.shape),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 10])]
    graph = helper.make_graph(nodes, path.stem, ends[:1], ends[1:], tensors)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, path)


def property_text(index: int, label: int, eps: float, image: np.ndarray) -> str:
    lines = [f"; image {index} of scikit-learn's digits, label {label}, eps {eps}", ""]
    lines += [f"(declare-const X_{i} Real)" for i in range(64)]
    lines += [f"(declare-const Y_{i} Real)" for i in range(10)] + [""]
    for i, pixel in enumerate(image.astype(float)):  # sixteenths and eps: exact in six decimals
        low, up = max(0.0, pixel - eps), min(1.0, pixel + eps)
        lines += [f"(assert (>= X_{i} {low:.6f}))", f"(assert (<= X_{i} {up:.6f}))"]
    lines += ["", "(assert (or", *[f"  (and (>= Y_{j} Y_{label}))" for j in range(10) if j != label], "))", ""]
    return "\n".join(lines)


def margin(bounded: BoundedModule, x: torch.Tensor, label: int, eps: float, method: str) -> float:
    """Least lower bound over the nine rows label - other."""
    box = PerturbationLpNorm(norm=float("inf"), x_L=(x - eps).clamp(min=0), x_U=(x + eps).clamp(max=1))
    rows = torch.eye(10)[label] - torch.eye(10)[[j for j in range(10) if j != label]]  # [9, 10]
    bounds = bounded.compute_bounds(x=(BoundedTensor(x, box),), C=rows[None], method=method, bound_upper=False)
    return bounds[0].min().item()


def refuted(session: onnxruntime.InferenceSession, model: nn.Module, x: torch.Tensor, label: int, eps: float) -> bool:
    target = torch.tensor([label])
    for restart in (False, True, True):
        point = pgd(model, x, target, 0.999 * eps, steps=40, restart=restart)  # stays inside after rounding
        output = session.run(None, {"x": point.numpy()})[0][0]
        if np.delete(output, label).max() - output[label] > ROOM:
            return True
    return False


def choose(model: nn.Module, name: str, images: np.ndarray, labels: np.ndarray, held_out: np.ndarray) -> list[tuple]:
    """For each eps the first held-out image, of a digit not yet used, for which the verdict is sure."""
    session = onnxruntime.InferenceSession(HERE / f"{name}.onnx")
    bounded = BoundedModule(model, torch.zeros(model.shape))

    def sure(how: str, x: torch.Tensor, label: int, eps: float) -> bool:
        if how == "attack":
            return refuted(session, model, x, label, eps)
        crown = margin(bounded, x, label, eps, "CROWN")
        return crown > ROOM if how == "crown" else crown < 0 and margin(bounded, x, label, eps, "alpha-CROWN") > ROOM

    table, digits = [], set()
    for how, eps in ((how, eps) for how, sizes in SIZES.items() for eps in sizes):
        for index in held_out:
            label, x = int(labels[index]), torch.tensor(images[index]).reshape(model.shape)
            if label not in digits and model(x).argmax() == label and sure(how, x, label, eps):
                break
        else:
            raise SystemExit(f"{name}: no image that {how} settles at eps {eps}")
        digits.add(label)
        path = f"properties/{name}_{index}_{eps}.vnnlib"
        (HERE / path).write_text(property_text(index, label, eps, images[index]))
        table.append((f"{name}.onnx", path, "sat" if how == "attack" else "unsat"))
    return table


def main() -> None:
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    digits = load_digits()
    images, labels = (digits.data / 16).astype(np.float32), digits.target
    order = np.random.default_rng(0).permutation(len(images))
    held_out, seen = order[:360], order[360:]
    (HERE / "properties").mkdir(exist_ok=True)
    for old in (HERE / "properties").glob("*.vnnlib"):
        old.unlink()

    table = []
    for name, kind in (("mlp", Mlp), ("cnn", Cnn)):
        torch.manual_seed(0)
        model = kind()
        x, label = torch.tensor(images).reshape(-1, *kind.shape[1:]), torch.tensor(labels)
        train(model, x[seen], label[seen])
        hits = model(x[held_out]).argmax(1) == label[held_out]
        attacked = pgd(model, x[held_out], label[held_out], 0.06, steps=40, restart=False)
        kept = (model(attacked).argmax(1) == label[held_out]).float().mean()
        print(f"{name}: test accuracy {hits.float().mean():.3f}, under attack at eps 0.06 {kept:.3f}")
        export(model, HERE / f"{name}.onnx")
        model.requires_grad_(False)
        table += choose(model, name, images, labels, held_out)
    rows = ["onnx,vnnlib,verdict", *[",".join(row) for row in table]]
    (HERE / "expected.csv").write_text("\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
