#!/usr/bin/env bash
# shellcheck source=tpu/common.sh
. "$(dirname "$0")/common.sh"

usage() {
  cat <<'END'
tpu/run.sh --name=NAME --zone=ZONE [--verb=VERB] -- --config=CONFIG --workdir=gs://BUCKET/RUN [ARGUMENT ...]

Starts the same `transformer train` on all workers, detached: it goes on when you disconnect. The processes find each other
through the TPU's environment. With a --workdir that holds checkpoints the run goes on where it stopped.

  --name=NAME, --zone=ZONE, --project=PROJECT  as given to tpu/create.sh
  --verb=VERB      another command of `transformer` than train
  --dry-run        print the command instead
  -- ARGUMENT ...  for `transformer train`: see `transformer train --help`

The work directory has to be where all workers see it, in a bucket or on a share: on the disk of each it is of no use.

Example:
  tpu/run.sh --name=wmt --zone=us-west4-a -- --config=wmt14_en_de_base --workdir=gs://my-bucket/base \
    --config.data.rows_multiple_of=16
Then:
  tpu/logs.sh --name=wmt --zone=us-west4-a
END
}

verb=train
options='name zone project verb'
read_options "$@"
need_machines
need_workdir

on_workers all all "bash transformer/tpu/worker.sh start $(quoted "$verb" "${rest[@]}")"
