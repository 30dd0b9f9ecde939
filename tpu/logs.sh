#!/usr/bin/env bash
# shellcheck source=tpu/common.sh
. "$(dirname "$0")/common.sh"

usage() {
  cat <<'END'
tpu/logs.sh --name=NAME --zone=ZONE [--all] [--once] [--lines=N]

Follows the log of the run, until it ends or Ctrl-C, which leaves the run alone.

  --name=NAME, --zone=ZONE, --project=PROJECT  as given to tpu/create.sh
  --all      of every worker, each line with the machine's name; otherwise of worker 0 of the first slice, which
             reports for all. When a start fails, the reason may be in another worker's
  --once     show what there is and return
  --lines=N  begin with the last N lines (100)
  --dry-run  print the command instead

Example:
  tpu/logs.sh --name=wmt --zone=us-west4-a --all --once --lines=20
END
}

all='' once='' lines=100
options='name zone project lines' switches='all once'
read_options "$@"
need_machines
need_number lines

which=0 follow=follow prefix=''
if [ "$all" ]; then which=all prefix=named; fi
if [ "$once" ]; then follow=once; fi
on_workers "$which" "$which" "bash transformer/tpu/worker.sh log $lines $follow $prefix"
