#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#   run.sh MPIEXEC RANKS PROGRAM
set -euo pipefail
. "$(dirname "$0")/environment.sh" "$1"
exec "$1" --oversubscribe -n "$2" "$3"
