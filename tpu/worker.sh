#!/usr/bin/env bash
# What the other scripts do on a worker, over ssh. It stands in ~/transformer there, the virtual environment and the state
# of the run beside it, so that a new copy of the code touches neither.
#
#   worker.sh free                               fails when a run is going on
#   worker.sh install
#   worker.sh start VERB [ARGUMENT ...]
#   worker.sh status                             absent (not installed), never (started), running, finished, stopped,
#                                                interrupted, or failed CODE
#   worker.sh stop SECONDS
#   worker.sh log LINES follow|once [named]
set -euo pipefail

code=$(cd "$(dirname "$0")/.." && pwd)
home=$(dirname "$code")
venv=$home/transformer-venv
state=$home/transformer-run

# After a restart of the machine the number may be some other process's.
running() { [ -f "$state/pid" ] && grep -qsz '^supervise$' "/proc/$(cat "$state/pid")/cmdline"; }

status() {
  if running; then
    echo running
  elif [ -f "$state/end" ]; then
    cat "$state/end"
  elif [ -f "$state/pid" ]; then
    echo interrupted # the machine went down before a word could be written
  elif [ -x "$venv/bin/transformer" ]; then
    echo never
  else
    echo absent
  fi
}

free() {
  ! running || { echo "A run is going on here: tpu/stop.sh ends it, tpu/logs.sh shows it." >&2 && exit 1; }
}

install() {
  python3 -m pip install --quiet --user uv
  [ -x "$venv/bin/python" ] || python3 -m uv venv --quiet --python 3.12 "$venv"
  python3 -m uv pip install --quiet --python "$venv/bin/python" "${code}[tpu,gcs]"
}

start() {
  free
  [ -x "$venv/bin/transformer" ] || { echo "Nothing is installed here: tpu/install.sh first." >&2 && exit 1; }
  mkdir -p "$state"
  rm -f "$state/end" "$state/stop" "$state/child"
  # A session of its own: it outlives this connection.
  setsid nohup bash "$0" supervise "$@" >>"$state/log" 2>&1 </dev/null &
  echo $! >"$state/pid"
  # Until the program is there to be stopped.
  for _ in {1..100}; do
    [ ! -s "$state/child" ] || break
    sleep 0.1
  done
}

# Runs the program, and writes how it came to its end. Both a stop that was asked for and a machine going down let the
# program save and leave with 0: only here can these be told from a run that is finished.
supervise() {
  local child result interrupted=''
  # shellcheck source=tpu/xla_flags.sh
  . "$code/tpu/xla_flags.sh"
  "$venv/bin/transformer" "$@" &
  child=$!
  echo "$child" >"$state/child"
  trap 'interrupted=yes; kill -TERM "$child" 2>/dev/null || true' TERM
  while true; do
    result=0
    wait "$child" || result=$?
    kill -0 "$child" 2>/dev/null || break # otherwise a signal ended the wait, not the program
  done
  if [ "$interrupted" ]; then
    echo interrupted >"$state/end"
  elif [ -f "$state/stop" ]; then
    echo stopped >"$state/end"
  elif [ "$result" -eq 0 ]; then
    echo finished >"$state/end"
  else
    echo "failed $result" >"$state/end"
  fi
}

stop() {
  running || return 0
  touch "$state/stop"
  kill -TERM "$(cat "$state/child")" 2>/dev/null || true
  local deadline=$((SECONDS + $1))
  while running; do
    if [ "$SECONDS" -ge "$deadline" ]; then
      echo "$(hostname): still running after $1 seconds; killed. The last checkpoint is what there is." >&2
      kill -KILL "$(cat "$state/child")"
      exit 1
    fi
    sleep 0.2
  done
}

log() {
  local lines=$1 follow=$2 prefix=''
  [ -z "${3:-}" ] || prefix="$(hostname): "
  [ -f "$state/log" ] || { echo "Nothing was started here yet: tpu/run.sh." >&2 && exit 1; }
  if [ "$follow" = follow ] && running; then
    tail --lines="$lines" --pid="$(cat "$state/pid")" -F "$state/log"
  else
    tail --lines="$lines" "$state/log"
  fi | sed -u "s/^/$prefix/"
  echo "$prefix($(status))"
}

case ${1-} in
  free | install | start | supervise | status | stop | log) "$@" ;;
  *)
    sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"
    [ "${1-}" = --help ] || exit 2
    ;;
esac
