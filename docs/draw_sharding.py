#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draws docs/sharding.svg: who holds what under each policy, for two ranks, and which collective runs when.

    python3 docs/draw_sharding.py        # needs matplotlib
"""
from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "hull"  # the same file each time
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.patches import Rectangle  # noqa: E402

COLOURS = ["#4878a8", "#d9853b"]
BOTH = "#b8b8b8"


def box(axis, x, y, width, height, colour, text=""):
    axis.add_patch(Rectangle((x, y), width, height, facecolor=colour, edgecolor="white", linewidth=1.5))
    if text:
        axis.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=8, color="black")


def frame(axis, title, lines):
    axis.set_title(title, fontsize=11, loc="left")
    axis.set_xlim(0, 10)
    axis.set_ylim(-0.2, 6.2)
    axis.axis("off")
    axis.text(0, -0.1, "\n".join(lines), fontsize=8, va="top")


def replicated(axis):
    frame(axis, "Replicated", ["rows divided; all-gather of the bounds of a stage when they are finished"])
    for k, name in enumerate(("W1", "W2")):
        box(axis, 0.2 + 2.4 * k, 3.6, 2, 2, BOTH, f"{name}: both ranks")
    for r in range(2):
        box(axis, 5.6, 4.6 - r, 4, 0.95, COLOURS[r], f"rows of A, alpha: rank {r}")
    axis.annotate("", (7.6, 2.2), (7.6, 3.4), arrowprops={"arrowstyle": "->"})
    axis.text(7.8, 2.8, "all-gather of bounds", fontsize=8, va="center")
    box(axis, 5.6, 1.2, 4, 0.95, BOTH, "bounds of the stage: both ranks")


def fully_sharded(axis):
    frame(axis, "FullySharded", ["rows divided, too; a block of columns is collected while the one before is used,",
                                 "and forgotten afterwards: two buffers, whatever the width of the layer"])
    for block in range(4):
        for r in range(2):
            box(axis, 0.2 + 0.6 * block, 4.6 - r, 0.58, 0.98, COLOURS[r])
    axis.text(1.4, 3.35, "W: blocks of columns,\neach cut in two", fontsize=8, ha="center", va="top")
    axis.annotate("", (4.2, 4.6), (2.8, 4.6), arrowprops={"arrowstyle": "->"})
    axis.text(3.5, 4.75, "all-gather", fontsize=8, ha="center")
    box(axis, 4.3, 3.6, 0.58, 2, BOTH, "now")
    box(axis, 5.0, 3.6, 0.58, 2, "#dddddd", "next")
    for r in range(2):
        box(axis, 6.0, 4.6 - r, 3.7, 0.95, COLOURS[r], f"rows of A, alpha: rank {r}")
    axis.annotate("", (7.8, 2.2), (7.8, 3.4), arrowprops={"arrowstyle": "->"})
    axis.text(8.0, 2.8, "all-gather of bounds", fontsize=8, va="center")
    box(axis, 6.0, 1.2, 3.7, 0.95, BOTH, "bounds of the stage: both ranks")


def tensor_parallel(axis):
    frame(axis, "TensorParallel", ["a pair of layers: neurons between the two are divided, with the columns of A that",
                                   "belong to them; one sum over ranks for each pair, on the way back and on the way forward"])
    for r in range(2):
        box(axis, 0.2, 4.6 - r, 2.2, 0.95, COLOURS[r], f"rows of W1: {r}")
        box(axis, 3.0 + 1.1 * r, 3.6, 1.05, 1.95, COLOURS[r], f"columns\nof W2: {r}")
    for r in range(2):
        box(axis, 6.0 + 1.0 * r, 3.6, 0.95, 1.95, COLOURS[r], f"A: {r}")
    box(axis, 8.3, 3.6, 1.5, 1.95, BOTH, "A at the\nends: both")
    axis.annotate("", (1.4, 2.2), (1.4, 3.4), arrowprops={"arrowstyle": "->"})
    axis.text(1.6, 2.8, "backward: sum of A W1", fontsize=8, va="center")
    axis.annotate("", (5.4, 2.2), (5.4, 3.4), arrowprops={"arrowstyle": "<-"})
    axis.text(5.6, 2.8, "forward: sum of W2 y", fontsize=8, va="center")


def main() -> None:
    figure, axes = plt.subplots(3, 1, figsize=(7.5, 9.6))
    for axis, draw in zip(axes, (replicated, fully_sharded, tensor_parallel)):
        draw(axis)
    figure.tight_layout(h_pad=3.0)
    figure.savefig(Path(__file__).with_name("sharding.svg"), metadata={"Date": None})


if __name__ == "__main__":
    main()
