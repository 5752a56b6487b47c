# SPDX-License-Identifier: Apache-2.0
# As many ranks as wanted, on a machine of any size, by any user. Ends with 77 where mpirun cannot start processes.
#   . environment.sh MPIEXEC
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMP_NUM_THREADS=1
export OMPI_MCA_plm_rsh_agent=true # no ssh is needed on one host
begin=$SECONDS
if ! timeout 60 "$1" --oversubscribe -n 3 true; then
  echo "skipped: $1 cannot start processes here"
  exit 77
fi
startup=$((SECONDS - begin)) # seconds that mpirun itself takes
export HULL_PATIENCE=120     # many ranks on few cores
