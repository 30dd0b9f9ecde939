#!/usr/bin/env bash
# What a container runs: `transformer` with the given arguments.
#
# SIGTERM (the node is going away) lets training save and leave with 0, which Kubernetes would take for a finished worker.
# So a run that was told to stop leaves with 143 here, and the JobSet starts it again.
set -euo pipefail

# shellcheck source=tpu/xla_flags.sh
. "$(dirname "$0")/../xla_flags.sh"

stopped=''
transformer "$@" &
child=$!
trap 'stopped=yes; kill -TERM "$child" 2>/dev/null || true' TERM
while true; do
  result=0
  wait "$child" || result=$?
  kill -0 "$child" 2>/dev/null || break # otherwise a signal ended the wait, not the program
done
if [ "$stopped" ]; then exit 143; fi
exit "$result"
