#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs every test case of a CUDA test program under compute-sanitizer, each in a process of its own and several at once:
# one after the other they take an hour. Left out: measurements, and tests of kernels that fail on purpose.
#
#   tests/sanitize.sh memcheck build/cuda/bin/test_backend_cuda
#   tests/sanitize.sh racecheck build/cuda/bin/test_shard_cuda --brief --limit 1200 --jobs 8
#
# --brief leaves out what launches the same kernels on the same shapes again (tests/support/brief.hpp), which racecheck
# slows down most. --only REGEX: cases whose names match; --first REGEX: those that begin first. Cases are spread over all
# GPUs.
#
# One line for each case: passed, FAILED (a test failed or the tool found something) or "no end" within --limit seconds
# (600). The status is 0 if all passed.
set -uo pipefail

[ $# -ge 2 ] || { sed -n '3,15s/^# \{0,1\}//p' "$0" >&2; exit 2; }
tool=$1 program=$(realpath "$2") limit=600 jobs=$(nproc) only=. first=.
unset HULL_TEST_BRIEF
shift 2
while (($#)); do
  case $1 in
    --brief) export HULL_TEST_BRIEF=1; shift; continue ;;
    --limit | --jobs | --only | --first) (($# > 1)) || { echo "sanitize.sh: $1 wants a value" >&2; exit 2; } ;;
  esac
  case $1 in
    --limit) limit=$2 ;;
    --jobs) jobs=$2 ;;
    --only) only=$2 ;;
    --first) first=$2 ;;
    *) echo "sanitize.sh: unknown option $1" >&2; exit 2 ;;
  esac
  shift 2
done
command -v compute-sanitizer >/dev/null || { echo "sanitize.sh: no compute-sanitizer; it comes with CUDA" >&2; exit 2; }

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
one_case() { # NUMBER NAME
  local begin=$SECONDS status how=passed
  export CUDA_VISIBLE_DEVICES=$((${slot:-0} % gpus))
  # doctest takes commas for the ends of names
  timeout -k 5 "$limit" compute-sanitizer --tool "$tool" --error-exitcode 99 "$program" --test-case="${2//,/?}" \
    >"$logs/$1" 2>&1
  status=$?
  case $status in
    0) ;;
    124 | 137) how="no end" ;;
    *) how=FAILED ;;
  esac
  printf '%-7s %5d s  %s\n' "$how" $((SECONDS - begin)) "$2"
  if [ "$how" = FAILED ]; then grep -m 5 -E '^=========|ERROR' "$logs/$1" | sed 's/^/        /'; fi
  [ $status = 0 ] || touch "$logs/bad"
}
export -f one_case
gpus=$(nvidia-smi -L 2>/dev/null | grep -c '^GPU')
((gpus > 0)) || gpus=1
export tool program limit logs gpus

mapfile -t cases < <("$program" --list-test-cases | grep -v '^\[doctest\]\|^===' |
  grep -Evx 'times|apart: .*|kernels that .*|memory that the device has not.*|a call that fails .*' |
  grep -E -e "$only" | sort -u)
((${#cases[@]} > 0)) || { echo "sanitize.sh: $program lists no test cases; is there a GPU?" >&2; exit 2; }
mapfile -t cases < <(for rest in '' -v; do printf '%s\n' "${cases[@]}" | grep -E $rest -e "$first"; done)
for ((i = 0; i < ${#cases[@]}; ++i)); do printf '%s\0%s\0' "$i" "${cases[i]}"; done |
  xargs -0 -n 2 -P "$jobs" --process-slot-var=slot bash -c 'one_case "$@"' _
[ ! -e "$logs/bad" ]
