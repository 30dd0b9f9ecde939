#!/usr/bin/env bash
# shellcheck source=tpu/common.sh
. "$(dirname "$0")/common.sh"

usage() {
  cat <<'END'
tpu/resume.sh --name=NAME --zone=ZONE --accelerator-type=TYPE [OPTION ...] -- --config=CONFIG --workdir=gs://BUCKET/RUN

Sees a run through to its end on machines that may be taken away: looks at it every now and then, and when they are gone asks
for new ones, installs, and starts the same command, which goes on from the last checkpoint. A run that fails is started
again a few times. Begin with it or call it later, on any machine that stays on (in tmux, for example): what is there already
is taken over. Ctrl-C ends only the watching.

  --name, --zone, --project, --accelerator-type, --runtime-version, --slices, --spot
                       as for tpu/create.sh: what to ask for again
  --ref, --setup       as for tpu/install.sh
  --poll=SECONDS       how often to look (60)
  --timeout=SECONDS    how long to wait for new machines before giving up (86400)
  --max-failures=N     give up after so many failures (3); an hour of running clears the count, and being pre-empted is none
  --delete-when-done   delete the machines when the run has finished
  --dry-run            print the commands of one round in which the machines are gone

Example:
  tpu/resume.sh --name=wmt --zone=us-west4-a --accelerator-type=v5litepod-16 --spot --delete-when-done \
    --setup='gcloud storage cp -r gs://my-bucket/tensorflow_datasets .' \
    -- --config=wmt14_en_de_base --workdir=gs://my-bucket/base --config.data.rows_multiple_of=16
END
}

accelerator_type='' runtime_version='' slices=1 spot='' ref=HEAD setup=''
poll=60 timeout=86400 max_failures=3 delete_when_done=''
options='name zone project accelerator-type runtime-version slices ref setup poll timeout max-failures'
switches='spot delete-when-done'
read_options "$@"
need_machines
need accelerator-type v5litepod-16
need_number poll
need_number timeout
need_number max-failures
need_workdir

call() { # SCRIPT [ARGUMENT ...]
  local script=$1
  shift
  "$(dirname "$0")/$script" --name="$name" --zone="$zone" ${project:+--project="$project"} ${dry_run:+--dry-run} "$@"
}

create() {
  call create.sh --accelerator-type="$accelerator_type" ${runtime_version:+--runtime-version="$runtime_version"} \
    --slices="$slices" ${spot:+--spot} --timeout="$timeout" --poll="$poll"
}
start() { call run.sh -- "${rest[@]}"; }
install() { call install.sh --ref="$ref" ${setup:+--setup="$setup"}; }
# What worker 0 says of the run; `absent` where the scripts are not installed yet.
status() { on_workers 0 0 'if [ -e transformer ]; then bash transformer/tpu/worker.sh status; else echo absent; fi'; }

if [ "$dry_run" ]; then
  state
  call delete.sh --yes
  create
  install
  start
  status
  exit
fi

done_with() { # of a run that was stopped the machines stay: someone may want them
  if [ "$delete_when_done" ] && [ "$how" = finished ]; then
    call delete.sh --yes
  else
    say "The machines are still there, and cost money: tpu/delete.sh --name=$name --zone=$zone"
  fi
}

failures=0 healthy=0 incomplete=''

failed() { # WHAT: counts, and gives up rather than spend money on trying for ever
  failures=$((failures + 1)) healthy=0
  say "$1"
  if [ "$failures" -ge "$max_failures" ]; then
    say "That was failure $failures; giving up. tpu/logs.sh --all shows every worker's log."
    say "What machines there are still cost money: tpu/delete.sh --name=$name --zone=$zone"
    exit 1
  fi
}

start_again() {
  # Another worker may still be waiting for the one that is gone. If this fails, the next look says why.
  call stop.sh || true
  start || say "The run did not start. Looking again in $poll seconds."
}

while true; do
  now=$(state) || now=UNKNOWN
  case $now in
    UNKNOWN) failed "gcloud did not answer." ;;
    MISSING) create || failed "No machines were to be had." ;;
    SUSPENDED | FAILED)
      say "$name is $now: asking for new machines."
      call delete.sh --yes
      create || failed "No machines were to be had."
      ;;
    ACTIVE)
      how=$(status) || how=''
      how=${how##*$'\n'} # gcloud may have words of its own before it
      # Worker 0 may be installed where another is not.
      if [ "$how" = never ] && [ "$incomplete" ]; then how=absent; fi
      case $how in
        running)
          healthy=$((healthy + poll))
          if [ "$healthy" -ge 3600 ]; then failures=0; fi
          ;;
        finished) say "The run has finished." && done_with && exit 0 ;;
        stopped) say "The run was stopped by tpu/stop.sh; so ends the watching." && done_with && exit 0 ;;
        failed*)
          call logs.sh --once --lines=30 || true
          failed "The run ended: $how. Above are its last lines."
          start_again
          ;;
        never | interrupted) start_again ;;
        absent)
          if install; then
            incomplete=''
            start_again
          else
            incomplete=yes
            failed "Installing did not succeed."
          fi
          ;;
        # New machines take a while to answer, and lost ones to be called so. The run may well be going on.
        *) say "Worker 0 cannot be reached. Looking again in $poll seconds." ;;
      esac
      ;;
    *) say "$name: $now" ;;
  esac
  sleep "$poll"
done
