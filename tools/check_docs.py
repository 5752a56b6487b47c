#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks documents against the code.

docs/operators.md: every file of ops/ and every ONNX operator is there, and nothing else.
docs/errors.md: it has every heading that a message of the compiler names.
README.md: its program is an example, and so was compiled and run. All pages: links to files lead somewhere.
"""
import pathlib
import re
import sys

NO_OPERATORS = {"op", "head", "window"}  # what operators are made of

root = pathlib.Path(__file__).resolve().parent.parent
include = root / "include" / "hull"
page = (root / "docs" / "operators.md").read_text(encoding="utf-8")
problems = []


def compare(what, code, documented):
    problems.extend(f"docs/operators.md: {what} {name} is missing" for name in sorted(code - documented))
    problems.extend(f"docs/operators.md: {what} {name} is not in the code" for name in sorted(documented - code))


files = {path.stem for path in (include / "ops").glob("*.hpp")} - NO_OPERATORS
compare("operator file", files, set(re.findall(r"\]: \.\./include/hull/ops/(\w+)\.hpp$", page, re.MULTILINE)))

# ONNX operators with a computed operand: the second column of the tables, and Pad. On constants: one section of text.
tables, constants = page.split("## On constants")
columns = [row.split(" | ")[1] for row in re.findall(r"^\| \[.*$", tables, re.MULTILINE)]
reader = (include / "io" / "onnx.hpp").read_text(encoding="utf-8")
translated = set(re.findall(r'\{"([A-Z]\w*)", translate_\w+\}', reader))
compare("ONNX operator", translated, set(re.findall(r"`([A-Z]\w*)`", " ".join(columns))) | {"Pad"})

fold = "".join((include / "io" / "onnx" / f"{name}.hpp").read_text(encoding="utf-8") for name in ("fold", "fold_arithmetic"))
folded = set(re.findall(r'\{"([A-Z]\w*)",\s*(?:fold_\w+\}|same\}|\{\[)', fold))
listed = set(re.findall(r"`([A-Z]\w*)`", constants.split("## Everything else")[0])) - {"Outward", "Pad"}
compare("operator on constants", folded - translated, listed)

# A network header sees all operators.
seen = "".join(path.read_text(encoding="utf-8") for path in (include / "net").glob("*.hpp"))
problems.extend(f"include/hull/net: ops/{name}.hpp is included nowhere" for name in sorted(files)
                if f"<hull/ops/{name}.hpp>" not in seen)

readme = (root / "README.md").read_text(encoding="utf-8")
program = re.search(r"```cpp\n(.*?)```", readme, re.DOTALL)
example = (root / "examples" / "03_crown_cpu.cpp").read_text(encoding="utf-8")
if not program or not example.endswith(program[1]):
    problems.append("README.md: its first program is not that of examples/03_crown_cpu.cpp")

for document in [root / "README.md", root / "CONTRIBUTING.md", *sorted((root / "docs").glob("*.md"))]:
    for link in re.findall(r"\](?:\(|: )([^()#:\s]+)(?:#\S*)?(?:\)|$)", document.read_text(encoding="utf-8"), re.MULTILINE):
        if not (document.parent / link).exists():
            problems.append(f"{document.relative_to(root)}: the link to {link} leads nowhere")

messages = "".join(path.read_text(encoding="utf-8") for path in include.rglob("*.hpp"))
headings = set(re.findall(r"^## (\w+)$", (root / "docs" / "errors.md").read_text(encoding="utf-8"), re.MULTILINE))
named = set(re.findall(r"docs/errors\.md#(\w+)", messages))
problems.extend(f"docs/errors.md: a message names {name}, no heading does" for name in sorted(named - headings))

print("\n".join(problems) or "check_docs: ok")
sys.exit(bool(problems))
