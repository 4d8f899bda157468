#!/bin/bash
# A command on a Ray cluster of the nodes of a Slurm job (docs/cluster.md), which ends with the command:
#   sbatch slurm.sh emotalking train-many /shared/subjects/* -o /shared/avatars --address auto
#   sbatch slurm.sh serve run /shared/serve.yaml
# With the environment active in which emotalking and Ray are installed, on a file system that all nodes have.
#SBATCH --job-name=emotalking
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --time=12:00:00
# 6 minutes before the end, and by scancel --batch --signal=TERM: sessions end in order (drain_s 300), jobs keep what is done.
#SBATCH --signal=B:TERM@360
set -euo pipefail

hosts=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${hosts%%$'\n'*} # where this script runs
address=$(srun --nodes=1 --ntasks=1 --nodelist="$head" hostname -I | cut -d " " -f 1)
port=$((20000 + SLURM_JOB_ID % 10000)) # jobs of others may share the node
node=(--num-cpus="${SLURM_CPUS_PER_TASK:-1}" --num-gpus="${SLURM_GPUS_ON_NODE:-0}" --disable-usage-stats --block)
export RAY_ADDRESS="$address:$port"
# Other users of these nodes cannot run code on the cluster: they do not know the token, which lies in the home folder.
export RAY_AUTH_MODE=token
ray get-auth-token --generate > /dev/null

wait_for_nodes() {
    python - "$1" <<'PYTHON'
import sys, time
import ray
until = time.monotonic() + 300
while time.monotonic() < until:
    try:
        ray.init(log_to_driver=False, logging_level="ERROR", ignore_reinit_error=True)
        if sum(node["Alive"] for node in ray.nodes()) >= int(sys.argv[1]):
            sys.exit()
    except ConnectionError:
        pass
    time.sleep(1)
sys.exit("the nodes have not come within 5 minutes")
PYTHON
}

# A task of Slurm on each node: what Ray starts ends with it.
others=$((SLURM_JOB_NUM_NODES - 1))
srun --overlap --nodes=1 --ntasks=1 --nodelist="$head" \
    env -u RAY_ADDRESS ray start --head --node-ip-address="$address" --port="$port" "${node[@]}" &
wait_for_nodes 1
if [ "$others" -gt 0 ]; then
    srun --overlap --nodes="$others" --ntasks="$others" --exclude="$head" \
        ray start --address="$RAY_ADDRESS" "${node[@]}" &
    wait_for_nodes "$SLURM_JOB_NUM_NODES"
fi

env --default-signal=INT "$@" & # what a script starts beside itself ignores interrupts
command=$!
trap 'kill -INT $command' TERM
status=0
wait "$command" || status=$?
if kill -0 "$command" 2>/dev/null; then # the signal ended the wait alone
    wait "$command" || status=$?
fi
jobs -p | xargs -r kill 2>/dev/null || true # Ray
exit "$status"
