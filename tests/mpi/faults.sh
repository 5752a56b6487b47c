#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Ranks that are killed, that read another model, that are too few, that never join: every other rank ends within ten
# seconds (beside mpirun's own) with status 3, and somebody names the rank and the cause.
#   faults.sh CASE MPIEXEC RANKS_PROGRAM HULL EXAMPLES
set -uo pipefail
. "$(dirname "$0")/environment.sh" "$2"
what=$1 mpiexec=$2 ranks=$3 hull=$4 digits=$5/digits
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
model=$digits/mlp.onnx
spec=$(find "$digits/properties" -name '*.vnnlib*' | sort | head -n 1)

run() { timeout 120 "$mpiexec" --oversubscribe "$@" >"$folder/out" 2>"$folder/err"; }
expect() { # PATTERN FILE
  grep -qE "$1" "$folder/$2" || { echo "no '$1' in:"; cat "$folder/out" "$folder/err"; exit 1; }
}
start=$SECONDS
case $what in
  killed)
    cat >"$folder/rank" <<'SH'
#!/bin/sh
trap "" TERM # of mpirun
"$@"
echo "status $?"
SH
    chmod +x "$folder/rank"
    run -n 3 "$folder/rank" "$ranks" loop &
    for _ in $(seq 600); do
      sleep 0.1
      [ "$(grep -c 'is process' "$folder/out")" -eq 3 ] && break
    done
    start=$SECONDS
    kill -9 "$(sed -n 's/^rank 1 is process //p' "$folder/out")"
    wait
    expect 'hull: rank 1 is gone' err
    [ "$(grep -c '^status 3' "$folder/out")" -eq 2 ] || { echo "not two survivors with status 3"; cat "$folder/out"; exit 1; }
    ;;
  model)
    "$hull" compile "$model" -o "$folder" >/dev/null
    run -n 1 "$hull" verify "$model" "$spec" --comm mpi : -n 1 "$hull" verify "$digits/cnn.onnx" "$spec" --comm mpi
    [ $? -ne 0 ] || { echo "no failure"; exit 1; }
    expect 'hull: rank 1 has another model than rank 0' err
    ;;
  count)
    run -n 2 "$hull" verify "$model" "$spec" --comm mpi --ranks 3
    [ $? -ne 0 ] || { echo "no failure"; exit 1; }
    expect 'hull: --ranks 3, but mpirun started 2 ranks' err
    ;;
  absent)
    export HULL_PATIENCE=3
    run -n 1 "$ranks" loop : -n 1 sleep 40
    [ $? -ne 0 ] || { echo "no failure"; exit 1; }
    expect 'hull: rank 1 has not joined for 3 seconds' err
    ;;
esac
[ $((SECONDS - start)) -le $((10 + 3 * startup)) ] || { echo "took $((SECONDS - start)) seconds"; exit 1; }
