#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#   run.sh MPIEXEC RANKS PROGRAM
set -euo pipefail
. "$(dirname "$0")/environment.sh" "$1"
export HULL_PATIENCE=120 # many ranks on few cores
exec "$1" --oversubscribe -n "$2" "$3"
