#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Seconds from `hull verify` to the verdict: once with an empty cache (the network is compiled), then with the cache warm.
# What is not bounding, attack or search is overhead.
#   bench/latency.sh MODEL SPEC
set -euo pipefail
hull=$(dirname "$(realpath "$0")")/../tools/hull
"$hull" --version >/dev/null # build the tool itself
cache=$(mktemp -d)
report=$cache/report.json
trap 'rm -rf "$cache"' EXIT

run() {
  local start=$EPOCHREALTIME
  "$hull" verify "$1" "$2" --cache-dir "$cache/networks" --json "$report" >"$cache/verdict"
  local end=$EPOCHREALTIME
  python3 - "$report" "$start" "$end" "$3" <<'PY'
import json, sys
path, start, end, name = sys.argv[1:]
report = json.load(open(path))
seconds = report["seconds"]
work = seconds["bound"] + seconds["attack"] + seconds["search"]
wall = float(end) - float(start)
print(f"{name}: {report['verdict']}, {wall:.3f} s in all; read {seconds['read']:.3f}, compile {seconds['compile']:.3f}, "
      f"bound + attack + search {work:.3f}, overhead {wall - work:.3f}")
PY
}

run "$1" "$2" "cold cache"
for i in 1 2 3; do run "$1" "$2" "warm cache"; done
