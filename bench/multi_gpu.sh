#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Measures the sharding policies on 1, 2, 4 and 8 GPUs of this host, as far as they are there, over NCCL. The programs
# are those of bench/multi_gpu.cu; branch and bound goes through the command line tool. What matters most comes first,
# and what fails is a line of the result: it can be stopped at any time.
#
#   bench/multi_gpu.sh --bin DIR                        builds what DIR lacks, measures, writes bench/results
#   bench/multi_gpu.sh --bin DIR --build --jobs 2       only builds; needs no GPU, DIR may then be taken to one
#   bench/multi_gpu_report.py                           tables and picture of docs/sharding.md from the results
#
#   --bin DIR              build/multi_gpu
#   --out FILE             bench/results/<date>_<gpu>x<count>_sharding.json
#   --ranks "1 2 4 8"      numbers of ranks; more than there are GPUs are left out
#   --shared LIST          8: numbers of ranks that share the GPUs as threads of a process, where there are not so many
#                          GPUs: memory and bits of CROWN, no time
#   --networks LIST        random_4x4096 random_4x8192 resnet_large random_4x16384
#   --policies LIST        Replicated FullySharded TensorParallel
#   --precisions LIST      Fp32
#   --methods LIST         crown alpha-crown
#   --only REGEX           of the names of steps, which --list prints; --quick: two networks, CROWN, most ranks
#   --limit S, --total S   150, 3000: of one step; no step begins after so many seconds
#   --models DIR           VNN-COMP's mnist_fc, for branch and bound; without it that is left out
#   --props LIST, --search-limit S      3_0.05 10_0.05 14_0.05; 30, of one property
#   --hull FILE, --cache DIR            build/release/bin/hull (else tools/hull) and its compiled networks
#   --commit TEXT          git describe
#   --gpus N               as many as nvidia-smi lists
#
# NCCL is looked for in $NCCL_HOME, beside nvcc, in /usr, and in Python's package nvidia-nccl. NVLink multicast is off.
set -uo pipefail
cd "$(dirname "$(realpath "$0")")/.." || exit 2

bin=build/multi_gpu out='' models='' hull='' cache='' commit='' gpus='' only='.' action=measure
ranks="1 2 4 8" shared="8" networks="random_4x4096 random_4x8192 resnet_large random_4x16384"
policies="Replicated FullySharded TensorParallel" precisions=Fp32 methods="crown alpha-crown"
props="3_0.05 10_0.05 14_0.05" limit=150 total=3000 search_limit=30 jobs=$(nproc)
command="bench/multi_gpu.sh $*"
while (($#)); do
  case $1 in
    --build) action=build ;;
    --list) action=list ;;
    --quick) networks="random_4x4096 random_4x8192" methods=crown only='^b.*/(1|most)/' ;;
    --bin | --out | --models | --hull | --cache | --commit | --gpus | --only | --ranks | --shared | --networks | --policies | \
      --precisions | --methods | --props | --limit | --total | --search-limit | --jobs)
      (($# > 1)) || { echo "multi_gpu.sh: $1 wants a value" >&2; exit 2; }
      name=${1#--}
      printf -v "${name//-/_}" %s "$2"
      shift ;;
    *) echo "multi_gpu.sh: unknown option $1" >&2; exit 2 ;;
  esac
  shift
done

# Where NCCL is: sets nccl_home and nccl_lib.
find_nccl() {
  local home lib python nvcc=${CUDACXX:-$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)}
  python=$(python3 -c 'import nvidia.nccl as n; print(list(n.__path__)[0])' 2>/dev/null)
  for home in "${NCCL_HOME:-}" "$(dirname "$(dirname "$(realpath "$nvcc")")")" /usr /usr/local "$python"; do
    for lib in lib64 lib lib/x86_64-linux-gnu; do
      [[ -n $home && -e $home/$lib/libnccl.so.2 ]] || continue
      nccl_home=$home nccl_lib=$home/$lib
      [ ! -e "$home/include/nccl.h" ] || return 0
    done
  done
  [ -n "${nccl_lib:-}" ]
}
nccl_home='' nccl_lib=''

# The program of a step: NETWORK POLICY RANKS PRECISION [multi | shared].
program() {
  local fixed=0
  [ "$3" != 1 ] || fixed=1
  [ "$2" != TensorParallel ] || fixed=$3
  echo "bench_${5:-multi}_gpu_$1_$2_${fixed}_$4"
}

build() { # NAME
  local network policy fixed precision rest=${1#bench_*_gpu_} comm=Nccl
  [[ $1 != bench_shared_* ]] || comm=Loopback
  precision=${rest##*_} rest=${rest%_*}
  fixed=${rest##*_} rest=${rest%_*}
  policy=${rest##*_} network=${rest%_*}
  local begin=$SECONDS flags=()
  [ "$nccl_home" = /usr ] || flags=(-I"$nccl_home/include")
  "${CUDACXX:-$nvcc}" -std=c++20 -O3 --expt-relaxed-constexpr --extended-lambda -diag-suppress 20208,186,445,1675 \
    -gencode arch=compute_90a,code=sm_90a -cudart static -Xcompiler -fopenmp -I include "${flags[@]}" \
    -DHULL_BENCH_WORK="$network" -DHULL_BENCH_POLICY="$policy" -DHULL_BENCH_RANKS="$fixed" \
    -DHULL_BENCH_PRECISION="$precision" -DHULL_BENCH_COMM=$comm bench/multi_gpu.cu -o "$bin/$1" -L"$nccl_lib" -l:libnccl.so.2 \
    -Xlinker -s,-rpath="$nccl_lib" >"$bin/$1.log" 2>&1 && rm "$bin/$1.log"
  echo "$1: $((SECONDS - begin)) s$([ -x "$bin/$1" ] || echo ", FAILED: $bin/$1.log")"
}

build_missing() { # NAME...
  local name
  nvcc=$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)
  mkdir -p "$bin"
  for name; do
    [ ! -x "$bin/$name" ] || continue
    while (($(jobs -rp | wc -l) >= jobs)); do wait -n; done
    build "$name" &
  done
  wait
}

# Names of steps, in order: kind/network/policy/precision/ranks, where the largest number of ranks is followed by /most.
steps() {
  local network policy precision p most='' more=()
  for p in $ranks; do most=$p; done
  for p in $ranks; do [ "$p" = "$most" ] || [ "$p" = 1 ] || more=("$p" "${more[@]}"); done
  one_network() { # NETWORK RANKS...
    local network=$1 p
    shift
    for precision in $precisions; do
      for p; do
        [ "$p" != 1 ] || { echo "bounds/$network/Replicated/$precision/1/"; continue; }
        for policy in $policies; do
          echo "bounds/$network/$policy/$precision/$p/$([ "$p" != "$most" ] || echo most/)"
        done
      done
    done
  }
  wants() { [[ " $networks " == *" $1 "* ]]; }
  local ends=()
  [[ " $ranks " != *" 1 "* ]] || ends=(1)
  [ "$most" = 1 ] || ends+=("$most")
  for network in random_4x4096 random_4x8192; do ! wants $network || one_network $network "${ends[@]}"; done
  [ "$most" = 1 ] || echo "bandwidth/all/Replicated/Fp32/$most/most/"
  for network in resnet_large random_4x16384; do ! wants $network || one_network $network "${ends[@]}"; done
  for p in $shared; do
    for network in random_4x4096 random_4x8192; do
      ! wants $network || for policy in $policies; do echo "shared/$network/$policy/Fp32/$p/"; done
    done
  done
  for network in random_4x4096 random_4x8192; do ! wants $network || one_network $network "${more[@]}"; done
  for p in "${ends[@]}" "${more[@]}"; do
    for policy in $policies; do
      [ "$p" != 1 ] || policy=Replicated
      echo "search/mnist_256x6/$policy/Fp32/$p/$([ "$p" != "$most" ] || echo most/)"
      [ "$p" != 1 ] || break
    done
  done
  for p in "${more[@]}"; do echo "bandwidth/all/Replicated/Fp32/$p/"; done
  for network in resnet_large random_4x16384; do ! wants $network || one_network $network "${more[@]}"; done
}

if [ "$action" = measure ]; then
  [ -n "$gpus" ] || gpus=$(nvidia-smi -L 2>/dev/null | grep -c '^GPU')
  ((gpus > 0)) || { echo "multi_gpu.sh: no GPU; --build only builds" >&2; exit 2; }
  there=''
  for p in $ranks; do ((p > gpus)) || there+="$p "; done
  ranks=$there there=''
  for p in $shared; do ((p <= gpus)) || there+="$p "; done
  shared=$there
fi
[ -n "${ranks// /}" ] || { echo "multi_gpu.sh: no number of ranks is left" >&2; exit 2; }
mapfile -t names < <(steps | grep -E "$only")
[ "$action" != list ] || { printf '%s\n' "${names[@]}"; exit 0; }

find_nccl || { echo "multi_gpu.sh: NCCL was not found; NCCL_HOME may name its folder" >&2; exit 2; }
needed=()
for name in "${names[@]}"; do
  IFS=/ read -r kind network policy precision p _ <<<"$name"
  [ "$kind" != bounds ] || needed+=("$(program "$network" "$policy" "$p" "$precision")")
  [ "$kind" != shared ] || needed+=("$(program "$network" "$policy" "$p" "$precision" shared)")
  [ "$kind" != bandwidth ] || needed+=("$(program "${networks%% *}" "$policy" "$p" "$precision")")
done
mapfile -t needed < <(printf '%s\n' "${needed[@]}" | awk 'NF && !seen[$0]++')
build_missing "${needed[@]}"
[ "$action" != build ] || exit 0

export NCCL_NVLS_ENABLE=0 LD_LIBRARY_PATH=$nccl_lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
[ ! -e "$nccl_home/include/nccl.h" ] || export NCCL_HOME=$nccl_home
gpu=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -n 1)
driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -n 1)
[ -n "$commit" ] || commit=$(git describe --always --dirty 2>/dev/null || echo unknown)
short=$(awk '{print tolower($2)}' <<<"${gpu:-no gpu}")
[ -n "$out" ] || out=bench/results/$(date -u +%F)_${short}x${gpus}_sharding.json
mkdir -p "$(dirname "$out")"
if [ -z "$hull" ]; then
  hull=build/release/bin/hull
  [ -x $hull ] || hull=tools/hull
fi
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT

forget() { for text in stdout stderr told; do : >"$temp/$text"; done; }

# Appends the lines of JSON of $temp/stdout to the result, or one that says why there are none: STEP STATUS.
note() {
  python3 - "$out" "$temp" "$1" "$2" "$gpu" "$gpus" "$driver" "$commit" "$command" "$SECONDS" <<'PY'
import datetime, json, pathlib, sys
out, temp, step, status, gpu, gpus, driver, commit, command, seconds = sys.argv[1:]
out, temp = pathlib.Path(out), pathlib.Path(temp)
kept = temp / "report.json"
report = json.loads(kept.read_text()) if kept.exists() else {
    "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"), "gpu": gpu, "gpus": int(gpus),
    "driver": driver, "commit": commit, "command": command, "lines": []}
lines = []
for text in (temp / "stdout").read_text(errors="replace").splitlines():
    try:
        lines.append({"step": step} | json.loads(text))
    except ValueError:
        pass
if status != "0" and not any("error" in line for line in lines):
    why = "\n".join((temp / "stderr").read_text(errors="replace").strip().splitlines()[-3:])[-500:]
    late = {"124": "stopped at its limit of time", "137": "killed", "skipped": "left out"}.get(status, f"status {status}")
    lines.append({"step": step, "error": f"{late}: {why}" if why else late})
for line in lines:
    numbers = [f"{line['median']:.2f} ms"] if "median" in line else []
    numbers += [f"arena {line['bytes_arena'] / 2**20:.1f} MiB, hash {line['hash']}"] if "hash" in line else []
    numbers += [f"{line['verdict']}, {line['domains']} domains"] if "verdict" in line else []
    numbers += [f"all_gather {line['all_gather']} GB/s"] if "bandwidth" in line else []
    print(f"  {line.get('method', '')} {', '.join(numbers)}{line.get('error', '')}", flush=True)
report["seconds"] = int(seconds)
report["lines"] += lines
text = json.dumps(report, indent=1) + "\n"
kept.write_text(text)
out.write_text(text)
PY
}

run_bounds() { # NETWORK POLICY PRECISION RANKS
  local how=(--repeat 5 --warmup 2 --seconds 20) list
  list=$(tr ' ' , <<<"$methods")
  case $1 in
    resnet_large) how=(--repeat 3 --warmup 1 --seconds 20) list=crown ;;
    random_4x16384) how=(--repeat 3 --warmup 1 --seconds 20) ;;
  esac
  timeout -k 5 "$limit" "$bin/$(program "$1" "$2" "$4" "$3")" --ranks "$4" --method "$list" "${how[@]}" \
    >"$temp/stdout" 2>"$temp/stderr"
}

run_shared() { # NETWORK POLICY PRECISION RANKS
  timeout -k 5 "$limit" "$bin/$(program "$1" "$2" "$4" "$3" shared)" --ranks "$4" --method crown --repeat 1 --warmup 1 \
    --seconds 60 >"$temp/stdout" 2>"$temp/stderr"
}

run_bandwidth() { # RANKS
  timeout -k 5 "$limit" "$bin/$(program "${networks%% *}" Replicated "$1" Fp32)" --ranks "$1" --bandwidth yes \
    >"$temp/stdout" 2>"$temp/stderr"
}

# One process of the tool for each rank; only rank 0 reports. Ranks meet at next_port.
next_port=$((20000 + RANDOM % 10000))
run_tool() { # POLICY RANKS SECONDS ARGUMENTS...
  local policy=$1 p=$2 seconds=$3 r status=0 children=() place=()
  shift 3
  ((p == 1)) || place=(--comm nccl --shard "$policy")
  for ((r = 0; r < p; ++r)); do
    RANK=$r LOCAL_RANK=$r WORLD_SIZE=$p MASTER_ADDR=127.0.0.1 MASTER_PORT=$next_port timeout -k 5 "$seconds" \
      "$hull" "$@" --device cuda --threads $(($(nproc) / p)) "${place[@]}" ${cache:+--cache-dir "$cache"} \
      >>"$temp/told" 2>>"$temp/stderr" &
    children+=($!)
  done
  for r in "${children[@]}"; do wait "$r" || status=$?; done
  return "$status"
}

policy_of() { # POLICY, as the tool calls it
  case $1 in
    FullySharded) echo fully-sharded ;;
    TensorParallel) echo tensor-parallel ;;
    *) echo replicated ;;
  esac
}

# Compiles the networks of all searches that will run, together: each takes a minute.
prepare_searches() {
  local name kind policy p
  for name in "${names[@]}"; do
    IFS=/ read -r kind _ policy _ p _ <<<"$name"
    [ "$kind" = search ] || continue
    ((next_port += 10)) # here: what runs behind has a copy
    run_tool "$(policy_of "$policy")" "$p" 400 bounds "$search_model" "$models/vnnlib/prop_${props%% *}.vnnlib.gz" \
      --method ibp &
  done
  wait
}

run_search() { # POLICY RANKS
  local policy prop spec status=0 model=$search_model
  policy=$(policy_of "$1")
  for prop in $props; do
    spec=$models/vnnlib/prop_$prop.vnnlib.gz
    rm -f "$temp/verdict.json"
    ((next_port += 10))
    run_tool "$policy" "$2" $((search_limit + 30)) verify "$model" "$spec" --timeout "$search_limit" \
      --json "$temp/verdict.json" || { status=$?; continue; }
    python3 - "$temp/verdict.json" "$prop" "$policy" "$2" "$search_limit" >>"$temp/stdout" 2>>"$temp/stderr" <<'PY'
import json, sys
path, prop, policy, ranks, limit = sys.argv[1:]
report = json.load(open(path))
most = {key: max(rank.get(key, 0) for rank in report["memory"]) for key in report["memory"][0] if key != "rank"}
print(json.dumps({"search": "mnist_fc 256x6", "property": prop, "policy": policy, "ranks": int(ranks),
                  "limit": float(limit), "precision": report["precision"], "gpu": report["device_name"],
                  "verdict": report["verdict"], "domains": report["domains"], "seconds": report["seconds"],
                  "memory": most}))
PY
  done
  return "$status"
}

echo "${gpu:-no GPU} x $gpus, ${#names[@]} steps, $out"
search_model=$models/onnx/mnist-net_256x6.onnx.gz
forget
[ ! -e "$search_model" ] || prepare_searches
for name in "${names[@]}"; do
  IFS=/ read -r kind network policy precision p _ <<<"$name"
  if ((SECONDS > total)); then
    echo "out of time before $name"
    forget
    echo "no time was left" >"$temp/stderr"
    note "$name" skipped
    continue
  fi
  if [ "$kind" = search ] && [ ! -e "$search_model" ]; then
    echo "$name: left out, --models names no folder with onnx/mnist-net_256x6.onnx.gz"
    continue
  fi
  echo "$name ($SECONDS s)"
  forget
  case $kind in
    bounds) run_bounds "$network" "$policy" "$precision" "$p" ;;
    shared) run_shared "$network" "$policy" "$precision" "$p" ;;
    bandwidth) run_bandwidth "$p" ;;
    search) run_search "$policy" "$p" ;;
  esac
  note "$name" $?
done
python3 bench/multi_gpu_report.py --print "$out"
