#!/usr/bin/env bash
# shellcheck source=tpu/common.sh
. "$(dirname "$0")/common.sh"

usage() {
  cat <<'END'
tpu/stop.sh --name=NAME --zone=ZONE [--timeout=SECONDS]

Asks the run on every worker to stop (SIGTERM): it finishes the step, saves, and ends. Waits until it has ended.
tpu/run.sh with the same --workdir goes on. The machines stay, and go on costing money: tpu/delete.sh.

  --name=NAME, --zone=ZONE, --project=PROJECT  as given to tpu/create.sh
  --timeout=SECONDS  a worker that has not ended by then is killed (SIGKILL), and the command fails (600)
  --dry-run          print the command instead

Example:
  tpu/stop.sh --name=wmt --zone=us-west4-a
END
}

timeout=600
options='name zone project timeout'
read_options "$@"
need_machines
need_number timeout

on_workers all all "bash transformer/tpu/worker.sh stop $timeout"
