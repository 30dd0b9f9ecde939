#!/usr/bin/env bash
# shellcheck source=tpu/common.sh
. "$(dirname "$0")/common.sh"

usage() {
  cat <<'END'
tpu/create.sh --name=NAME --zone=ZONE --accelerator-type=TYPE [OPTION ...] [-- GCLOUD_OPTION ...]

Asks Google Cloud for a TPU VM or a pod, as a queued resource, and waits until it is there.
From then on it costs money, used or not, until tpu/delete.sh.

  --name=NAME              what to call it, for all the other scripts
  --zone=ZONE              one that has the type: gcloud compute tpus accelerator-types list --zone=ZONE
  --accelerator-type=TYPE  for example v5litepod-16 (v5e, 16 chips), v5p-8 (cores: 4 chips), v6e-16
  --runtime-version=V      the machines' image; by default the one for the type
  --slices=N               several slices of that type, joined by the data centre's network (1)
  --spot                   cheaper, but may be taken away at any moment: see tpu/resume.sh
  --project=PROJECT        by default gcloud's: gcloud config get project
  --timeout=SECONDS        how long to wait (3600). The request stays in the queue; call this again to go on waiting
  --poll=SECONDS           how often to look (30)
  --dry-run                print the commands instead
  -- GCLOUD_OPTION ...     passed on to 'gcloud compute tpus queued-resources create': --reserved, --network=...

Example:
  tpu/create.sh --name=wmt --zone=us-west4-a --accelerator-type=v5litepod-16 --spot
END
}

accelerator_type='' runtime_version='' slices=1 spot='' timeout=3600 poll=30
options='name zone project accelerator-type runtime-version slices timeout poll' switches='spot'
read_options "$@"
need_machines
need accelerator-type v5litepod-16
need_number slices
need_number timeout
need_number poll

# https://cloud.google.com/tpu/docs/runtimes
image_for() {
  case $1 in
    v6e-*) echo v2-alpha-tpuv6e ;;
    v5p-*) echo v2-alpha-tpuv5 ;;
    v5litepod-*) echo v2-alpha-tpuv5-lite ;;
    v[234]-*) echo tpu-ubuntu2204-base ;;
    *)
      die "no image is known here for --accelerator-type=$1. Say which: --runtime-version=V," \
        "see https://cloud.google.com/tpu/docs/runtimes."
      ;;
  esac
}

request() {
  local image=$runtime_version nodes=(--node-id="$name")
  [ -n "$image" ] || image=$(image_for "$accelerator_type")
  [ "$slices" -eq 1 ] || nodes=(--node-count="$slices" --node-prefix="$name")
  queued_resource create "$name" --accelerator-type="$accelerator_type" --runtime-version="$image" "${nodes[@]}" \
    ${spot:+--spot} ${rest[@]+"${rest[@]}"}
}

wait_until_active() {
  local now last='' deadline=$((SECONDS + timeout))
  while true; do
    now=$(state)
    [ "$now" = "$last" ] || say "$name: $now"
    last=$now
    case $now in
      ACTIVE) return ;;
      FAILED | SUSPENDING | SUSPENDED)
        die "$name is $now and will not become active. Usual reasons: no quota for the type in $zone, or a zone without it." \
          "The reason in full: gcloud compute tpus queued-resources describe $name --zone=$zone." \
          "Then tpu/delete.sh --name=$name --zone=$zone, and try again."
        ;;
    esac
    if [ "$SECONDS" -ge "$deadline" ]; then
      die "$name is still $now after $timeout seconds. It stays in the queue, and costs money as soon as it is ACTIVE:" \
        "call this again to go on waiting, or tpu/delete.sh --name=$name --zone=$zone to give up."
    fi
    sleep "$poll"
  done
}

if [ "$dry_run" ]; then
  state
  request
  state
else
  found=$(state)
  if [ "$found" = MISSING ]; then
    request
  else
    say "$name exists already, and is $found."
  fi
  wait_until_active
fi
