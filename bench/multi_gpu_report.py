#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tables and picture of docs/sharding.md from results of bench/multi_gpu.sh.

    python3 bench/multi_gpu_report.py [FILE...]       # all of bench/results/*_sharding.json; needs matplotlib
    python3 bench/multi_gpu_report.py --print FILE    # a short table to the screen

Rewrites what stands between <!-- multi-gpu:begin --> and <!-- multi-gpu:end -->, or adds a section, and draws
docs/sharding_measured.svg. Where two files have the same line, the younger one counts. A line is compared with that of
one rank in the same file, or, if that has none, with the youngest on the same kind of GPU.
"""
from __future__ import annotations

import argparse
import json
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- multi-gpu:begin -->", "<!-- multi-gpu:end -->"
HEADING, BEFORE = "## Measured on GPUs", "## When a rank is lost"
MIB = 2**20

NETWORKS = {"random_4x4096": "784-4x4096-10", "random_4x8192": "784-4x8192-10", "random_4x16384": "784-4x16384-10",
            "resnet_large": "CIFAR100 resnet large"}
POLICIES = ["replicated", "fully-sharded", "tensor-parallel"]
# Vorobyov and Ilyushin 2026, arXiv 2606.09377: two GPUs, PyTorch, wide MLPs; peak memory as a share of one GPU's.
PUBLISHED = {"fully-sharded": (0.61, 0.66), "tensor-parallel": (0.5, 0.5)}


def read(paths: list[Path]) -> tuple[list[dict], list[dict]]:
    """Reports, the oldest first, and their lines, each with its report, without those that a younger one repeats."""
    reports = sorted((json.loads(path.read_text()) | {"file": path.name} for path in paths), key=lambda r: r["date"])
    lines: dict[tuple, dict] = {}
    for report in reports:
        for line in report["lines"]:
            names = ("network", "method", "precision", "rounding", "policy", "ranks", "communicator", "search", "property",
                     "bandwidth")
            key = (report["gpu"], line["step"] if "error" in line else None, *(line.get(name) for name in names))
            lines.pop(key, None)
            lines[key] = line | {"report": report}
    def name(line: dict) -> str:
        return line["step"].removesuffix("most/")  # most of the ranks of that machine

    measured = {name(line) for line in lines.values() if "error" not in line}
    kept = [line for line in lines.values() if "error" not in line or name(line) not in measured]
    return reports, kept


def is_bounds(line: dict) -> bool:
    return "median" in line


def is_timed(line: dict) -> bool:
    """Ranks that share GPUs tell memory and bits."""
    return line["communicator"] != "loopback"


def kind_of(gpu: str) -> str:
    """H100, of NVIDIA H100 80GB HBM3."""
    return gpu.removeprefix("NVIDIA ").split()[0]


def total(line: dict) -> float:
    return line["bytes_at_rest"] + line["bytes_buffers"] + line["bytes_arena"]


class Group:
    """Lines of one network, method, precision, rounding and kind of GPU, of which one has one rank."""

    def __init__(self, lines: list[dict]):
        self.lines = sorted(lines, key=lambda line: (line["ranks"], line["communicator"] != "none",
                                                     POLICIES.index(line["policy"])))
        first = lines[0]
        self.network, self.method, self.precision, self.steps = (
            first[name] for name in ("network", "method", "precision", "steps"))
        self.rounding, self.gpu = first["rounding"], first["report"]["gpu"]

    def one(self, line: dict) -> dict | None:
        """The line of one rank that `line` is compared with."""
        alone = [other for other in self.lines if other["communicator"] == "none"]
        same = [other for other in alone if other["report"] is line["report"]]
        return (same or alone or [None])[-1]

    def title(self) -> str:
        method = "CROWN" if self.method == "crown" else f"alpha-CROWN, {self.steps} steps"
        precision = "" if self.precision == "fp32" else f", `{self.precision}`"
        return f"{NETWORKS.get(self.network, self.network)}, {method}{precision}, {kind_of(self.gpu)}"

    def is_published(self) -> bool:
        """Whether figures of others are about the same."""
        return self.network.startswith("random") and self.method == "crown"

    def at(self, policy: str, ranks: int) -> dict | None:
        found = [line for line in self.lines if line["ranks"] == ranks
                 and (line["communicator"] == "none" if ranks == 1 else line["policy"] == policy)]
        found.sort(key=is_timed)
        return found[-1] if found else None


def groups_of(lines: list[dict]) -> list[Group]:
    apart: dict[tuple, list[dict]] = {}
    for line in filter(is_bounds, lines):
        key = (line["report"]["gpu"], line["network"], line["method"], line["precision"], line["rounding"])
        apart.setdefault(key, []).append(line)
    timed = {key: some for key, some in apart.items() if any(line["ranks"] > 1 and is_timed(line) for line in some)}
    for key in apart.keys() - timed.keys():  # memory and bits are those of any kind of GPU
        alike = [some for other, some in timed.items() if other[1:] == key[1:]]
        for some in alike:
            some.extend(line for line in apart[key] if line["ranks"] > 1)
        if alike:
            del apart[key]
    order = list(NETWORKS)
    place = {network: at for at, network in enumerate(order)}
    return [Group(apart[key]) for key in sorted(apart, key=lambda k: (k[0], place.get(k[1], 99), k[2] != "crown", k[3:]))]


def deviation(line: dict, one: dict | None) -> str:
    """Whether bounds are those of one rank."""
    if not line["ranks_agree"]:
        return "RANKS DIFFER"
    if not line["repeatable"]:
        return "RUNS DIFFER"
    if one is None:
        return "-"
    if line["hash"] == one["hash"] and line["margins"] == one["margins"]:
        return "to the bit"
    pairs = zip(line["margins"], one["margins"])
    worst = max((float("inf") if a is None or b is None else abs(a - b) / max(1e-3, abs(b)) for a, b in pairs), default=0)
    return f"{worst:.2g}"


def costs(line: dict) -> tuple[float, float]:
    """Seconds of one run in collectives, and those of them that computations waited for."""
    return line["host_seconds"] + line["device_seconds"], line["host_seconds"] + line["device_exposed"]


def table(titles: list[str], rows: list[list[str]]) -> str:
    return "\n".join(["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles),
                      *("| " + " | ".join(row) + " |" for row in rows)])


def paragraph(text: str) -> str:
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False) + "\n\n"


def mib(count: float) -> str:
    return f"{count / MIB:.1f}"


def bounds_table(group: Group) -> str:
    rows = []
    for line in group.lines:
        one = group.one(line)
        seconds, exposed = costs(line)
        several, timed = line["ranks"] > 1, is_timed(line)
        name = "one rank" if line["communicator"] == "none" else line["policy"]
        rows.append([
            name, str(line["ranks"]), f"{line['median']:.4g}" if timed else "shared",
            f"{one['median'] / line['median']:.2f}" if one and timed else "-",
            mib(line["bytes_at_rest"]), mib(line["bytes_buffers"]), mib(line["bytes_arena"]),
            "yes" if line["bytes_planned"] == line["bytes_arena"] else "NO", mib(total(line)),
            f"{100 * total(line) / total(one):.1f} %" if one else "-", mib(line["bytes_machine"]) if timed else "-",
            mib(line["host_bytes"] + line["device_bytes"]),
            f"{100 * 1e3 * seconds / line['median']:.0f} %" if several and timed else "-",
            f"{100 * (1 - exposed / seconds):.0f} %" if several and timed and seconds > 0 else "-", deviation(line, one)])
    return table(["policy", "ranks", "ms", "times as fast", "parameters at rest, MiB", "buffers", "arena", "as planned",
                  "in all", "of one rank", "driver", "received, MiB", "in collectives", "of that hidden", "bounds"], rows)


def bandwidth_table(lines: list[dict]) -> str:
    lines = sorted((line for line in lines if "bandwidth" in line), key=lambda line: line["ranks"])
    if not lines:
        return ""
    names = {"all_gather": "all-gather", "sum": "sum in the order of ranks", "nccl_all_reduce": "`ncclAllReduce`"}
    rows = [[str(line["ranks"]), title, *(f"{rate:.4g}" for rate in line[name])]
            for line in lines for name, title in names.items()]
    sizes = [f"{size:g} MiB" for size in lines[0]["mebibytes"]]
    return ("GB/s that a rank receives, for results of this size (a block of weights has up to 32 MiB):\n\n" +
            table(["ranks", "collective", *sizes], rows) + "\n\n")


def search_table(lines: list[dict]) -> str:
    lines = sorted((line for line in lines if "search" in line),
                   key=lambda line: (line["gpu"], line["property"], line["ranks"], POLICIES.index(line["policy"])))
    if not lines:
        return ""
    rows = []
    for line in lines:
        seconds = line["seconds"]
        tree = max(seconds.get("tree", 0), 1e-9)
        memory = line["memory"]
        rows.append([kind_of(line["gpu"]), line["property"], line["policy"] if line["ranks"] > 1 else "one rank", str(line["ranks"]),
                     line["verdict"], f"{line['limit']:g}", str(line["domains"]), f"{tree:.2f}", f"{line['domains'] / tree:.0f}",
                     f"{100 * seconds.get('kernels', 0) / tree:.0f} %",
                     mib(memory["parameters"] + memory["buffers"] + memory["peak"]), mib(memory["search"])])
    return ("Branch and bound, " + lines[0]["search"] + "; of the limit the attack has used a part before:\n\n" +
            table(["GPU", "property", "policy", "ranks", "verdict", "limit, s", "domains", "seconds", "domains/s", "bounding",
                   "device, MiB", "host, MiB"], rows) + "\n\n")


def span(values: list[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:.0f} %" if f"{low:.0f}" == f"{high:.0f}" else f"{low:.0f} to {high:.0f} %"


def beside_published(groups: list[Group]) -> str:
    """On CROWN with two ranks and wide networks."""
    saved: dict[str, list[float]] = {policy: [] for policy in PUBLISHED}
    weights: list[float] = []
    for group in groups:
        if not group.is_published():
            continue
        for policy in saved:
            line = group.at(policy, 2)
            one = group.one(line) if line else None
            if one is None:
                continue
            saved[policy].append(100 * (1 - total(line) / total(one)))
            if policy == "fully-sharded":
                weights.append(100 * (1 - line["bytes_at_rest"] / one["bytes_at_rest"]))
    if not all(saved.values()):
        return ""
    return paragraph(
        f"CROWN on wide networks, two ranks: parameters, buffers and arena are {span(saved['fully-sharded'])} below one rank's "
        f"with `FullySharded` (published: 34 to 39 %), {span(saved['tensor-parallel'])} with `TensorParallel` (published: "
        f"about half); parameters at rest {span(weights)} (published for FSDP: 80 to 90 %). Published: Vorobyov and "
        "Ilyushin 2026, [arXiv 2606.09377](https://arxiv.org/abs/2606.09377), PyTorch on two GPUs, without times.")


def section(reports: list[dict], lines: list[dict]) -> str:
    groups = groups_of(lines)
    used = [report for report in reports if any(line["report"] is report for line in lines)]
    files = ", ".join(f"[{r['file']}](../bench/results/{r['file']}) ({r['gpus']} x {r['gpu']}, {r['date'][:10]}, "
                      f"commit {r['commit']})" for r in used)
    text = paragraph(
        "Ranks with a GPU each, one host, NCCL ([bench/multi_gpu.sh](../bench/multi_gpu.sh); tables by "
        f"[bench/multi_gpu_report.py](../bench/multi_gpu_report.py)); from {files}. Milliseconds are medians of run() with "
        "the bounds of all margins, of the slowest rank, start-up excluded; `driver` is what the driver gave out since the "
        "machine was made, kernels and what NCCL took later included; `received`, and time in collectives, are of one run; "
        "`hidden` is what computations did not wait for. The last column compares all hidden bounds and margins with one "
        "rank's: equal to the bit, or the largest relative difference of a margin. `shared`: more ranks than GPUs, as "
        "threads of a process; only memory and bounds say something.")
    text += "![memory and time against ranks](sharding_measured.svg)\n\n" + beside_published(groups)
    for group in groups:
        text += f"{group.title()}:\n\n{bounds_table(group)}\n\n"
    text += bandwidth_table(lines) + search_table(lines)
    failed = [line for line in lines if "error" in line]
    if failed:
        text += paragraph("Not measured: " + "; ".join(
            f"{line['step'].strip('/')}{' ' + line['method'] if 'method' in line else ''} ({line['error'].splitlines()[0][:120]})"
            for line in failed) + ".")
    return text


def rewrite(page: Path, text: str) -> None:
    old = page.read_text(encoding="utf-8")
    if BEGIN in old:
        before, rest = old.split(BEGIN, 1)
        after = rest.split(END, 1)[1]
    else:
        at = old.index(BEFORE)
        before, after = old[:at] + HEADING + "\n\n", "\n\n" + old[at:]
    page.write_text(before + BEGIN + "\n" + text.rstrip() + "\n" + END + after, encoding="utf-8")


def draw(groups: list[Group], path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "hull"  # the same file each time
    import matplotlib.pyplot as plt

    colours = dict(zip(POLICIES, ["#777777", "#4878a8", "#d9853b"]))
    shown = [group for group in groups if group.rounding == "outward"
             and any(line["communicator"] == "none" for line in group.lines)]
    if not shown:
        return
    columns, bands = min(4, len(shown)), (len(shown) + 3) // 4
    figure, axes = plt.subplots(2 * bands, columns, figsize=(2.9 * columns + 0.6, 5 * bands + 0.6), squeeze=False)
    for unused in range(len(shown), columns * bands):
        for row in range(2):
            axes[2 * (unused // columns) + row][unused % columns].axis("off")
    for at, group in enumerate(shown):
        band, column = divmod(at, columns)
        memory, time = axes[2 * band][column], axes[2 * band + 1][column]
        memory.set_title(group.title().replace("`", "").replace(", ", "\n", 1), fontsize=9)
        most = max(line["ranks"] for line in group.lines)
        counts = [2**k for k in range(most.bit_length()) if 2**k <= most]
        for policy in POLICIES:
            lines = [line for p in counts if (line := group.at(policy, p)) is not None]
            p = [line["ranks"] for line in lines]
            if p == [1] or not p:
                continue
            memory.plot(p, [100 * total(line) / total(group.one(line)) for line in lines], "o-", color=colours[policy],
                        label=policy, markersize=4)
            timed = [line for line in lines if is_timed(line)]
            time.plot([line["ranks"] for line in timed], [line["median"] for line in timed], "o-", color=colours[policy], label=policy, markersize=4)
        memory.plot(counts, [100 / p for p in counts], ":", color="black", linewidth=1, label="1 / P")
        one = group.at(POLICIES[0], 1)
        time.plot(counts, [one["median"] / p for p in counts], ":", color="black", linewidth=1, label="1 / P")
        if group.is_published() and 2 in counts:
            for policy, (low, high) in PUBLISHED.items():
                memory.errorbar([2], [50 * (low + high)], yerr=[[50 * (high - low)], [50 * (high - low)]], fmt="x",
                                color=colours[policy], capsize=4, label=f"{policy}, published")
        for axis in (memory, time):
            axis.set_xscale("log", base=2)
            axis.set_xticks(counts, [str(p) for p in counts])
            axis.grid(alpha=0.3)
        memory.set_ylim(0, 105)
        time.set_ylim(bottom=0)
        time.set_xlabel("ranks", fontsize=9)
    for band in range(bands):
        axes[2 * band][0].set_ylabel("memory of a rank, % of one rank's", fontsize=9)
        axes[2 * band + 1][0].set_ylabel("milliseconds", fontsize=9)
    handles: dict[str, object] = {}
    for axis in axes.flat:
        for handle, label in zip(*axis.get_legend_handles_labels()):
            handles.setdefault(label, handle)
    figure.legend(handles.values(), handles.keys(), loc="lower center", ncols=min(6, 2 * columns), fontsize=8)
    figure.tight_layout(rect=(0, 0.3 / figure.get_figheight(), 1, 1))
    figure.savefig(path, metadata={"Date": None})


def short(lines: list[dict]) -> str:
    rows = []
    for group in groups_of(lines):
        for line in group.lines:
            one, (seconds, exposed) = group.one(line), costs(line)
            rows.append([group.network, group.method, group.precision, line["policy"], str(line["ranks"]),
                         f"{line['median']:.3f}" if is_timed(line) else "shared",
                         f"{one['median'] / line['median']:.2f}" if one and is_timed(line) else "-",
                         mib(total(line)), f"{100 * total(line) / total(one):.0f} %" if one else "-",
                         f"{1e3 * seconds:.2f}", f"{1e3 * exposed:.2f}", deviation(line, one)])
    text = table(["network", "method", "precision", "policy", "P", "ms", "faster", "MiB", "of one", "collectives, ms",
                  "exposed, ms", "bounds"], rows) + "\n\n" + bandwidth_table(lines) + search_table(lines)
    return text + "\n".join(f"{line['step']} {line.get('method', '')}: {line['error']}" for line in lines if "error" in line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--print", action="store_true", help="only print a short table")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "sharding.md")
    parser.add_argument("--picture", type=Path, default=ROOT / "docs" / "sharding_measured.svg")
    args = parser.parse_args()
    reports, lines = read(args.files or sorted((ROOT / "bench" / "results").glob("*_sharding.json")))
    if not lines:
        parser.error("no results")
    if args.print:
        print(short(lines).strip())
        return
    rewrite(args.page, section(reports, lines))
    draw(groups_of(lines), args.picture)


if __name__ == "__main__":
    main()
