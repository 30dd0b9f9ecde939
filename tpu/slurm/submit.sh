#!/usr/bin/env bash
# shellcheck source=tpu/common.sh
. "$(dirname "$0")/../common.sh"

usage() {
  cat <<'END'
tpu/slurm/submit.sh --nodes=N --gpus-per-node=N [OPTION ...] -- --config=CONFIG --workdir=DIR [ARGUMENT ...]

Submits `transformer train` to a SLURM cluster with GPUs, one process a GPU, and goes on after every time limit until the run
is finished: shortly before the limit it saves and queues again. Call it where `transformer` is installed with '.[cuda]' and
on the PATH (an activated virtual environment), in a folder that all nodes share.

  --nodes=N             machines
  --gpus-per-node=N     GPUs of each
  --name=NAME           of the job (transformer)
  --time=HH:MM:SS       limit of one turn (24:00:00)
  --save-before=SECONDS how long before the limit to save (300): longer than a step and a checkpoint take
  --cpus-per-gpu=N      (8)
  --partition=NAME, --account=NAME  where your cluster wants them
  --log=FILE            (%x-%j.log: name and number of the job)
  --dry-run             print the command instead
  -- ARGUMENT ...       for `transformer train`; DIR must be on a disk that all nodes share, or gs://BUCKET/RUN (with
                        '.[cuda,gcs]' installed, where the nodes reach the bucket and have the rights to it)

Example:
  tpu/slurm/submit.sh --nodes=2 --gpus-per-node=4 --partition=gpu -- --config=wmt14_en_de_big --workdir=$HOME/runs/big
Then:
  squeue --me; tail -F transformer-*.log; scancel JOB
END
}

name=transformer nodes='' gpus_per_node='' time=24:00:00 save_before=300 cpus_per_gpu=8 partition='' account='' log=%x-%j.log
options='nodes gpus-per-node name time save-before cpus-per-gpu partition account log'
read_options "$@"
need nodes 2
need gpus-per-node 4
for option in nodes gpus-per-node save-before cpus-per-gpu; do need_number "$option"; done
[[ " ${rest[*]-}" == *" --workdir"[=\ ]* ]] ||
  die "what to run is missing, with a --workdir: $0 ... -- --config=CONFIG --workdir=DIR. See --help."

# B: to the script only, which then tells the processes.
run sbatch --job-name="$name" --nodes="$nodes" --ntasks-per-node="$gpus_per_node" --gpus-per-node="$gpus_per_node" \
  --cpus-per-task="$cpus_per_gpu" --time="$time" --signal="B:USR1@$save_before" --output="$log" \
  ${partition:+--partition="$partition"} ${account:+--account="$account"} \
  "$(cd "$(dirname "$0")" && pwd)/train.sbatch" "${rest[@]}"
