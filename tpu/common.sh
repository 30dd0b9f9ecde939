# shellcheck shell=bash
# What every script here shares: reading options, --dry-run, errors that name the way out, and calling gcloud.
#
# A script names its options in `options` (and those without a value in `switches`), declares a variable with the default
# for each, defines `usage`, and calls `read_options "$@"`.

set -euo pipefail

options='' switches='' dry_run=''
rest=() # what follows `--`
name='' zone='' project=''

die() { # what is wrong, and what to do about it
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 2
}

say() { printf '%s\n' "$*" >&2; }

# --- options ---

read_options() {
  local key value
  while [ $# -gt 0 ]; do
    case $1 in
      -h | --help) usage && exit 0 ;;
      --dry-run) dry_run=yes && shift && continue ;;
      --) shift && rest=("$@") && return ;;
      --*=*) key=${1%%=*} value=${1#*=} && shift ;;
      --*)
        key=$1 && shift
        if contains "$switches" "${key#--}"; then
          value=yes
        elif contains "$options" "${key#--}"; then
          [ $# -gt 0 ] || die "$key needs a value: $key=VALUE."
          value=$1 && shift
        fi
        ;;
      *) die "'$1' is not an option. Every option is written --NAME=VALUE; try --help." ;;
    esac
    key=${key#--}
    contains "$options $switches" "$key" ||
      die "there is no option --$key. There are: $(listed "$options $switches")--dry-run --help."
    printf -v "${key//-/_}" %s "$value"
  done
}

contains() { case " $1 " in *" $2 "*) true ;; *) false ;; esac }

# shellcheck disable=SC2086 # the words of a list are meant to be split
listed() { printf -- '--%s ' $1; }

need() { # OPTION EXAMPLE
  local variable=${1//-/_}
  [ -n "${!variable}" ] || die "--$1 is missing, for example --$1=$2. See --help."
}

need_number() { # OPTION
  local variable=${1//-/_}
  case ${!variable} in '' | *[!0-9]*) die "--$1=${!variable} is not a whole number." ;; esac
}

workdir=''

need_workdir() { # in what follows `--`: in a bucket, or a folder that all machines see
  local words=" ${rest[*]-}" way_out
  way_out="Name a bucket, --workdir=gs://BUCKET/RUN, or a folder on a share that all machines mount, --workdir=/mnt/runs/RUN."
  [[ $words == *" --workdir"[=\ ]* ]] ||
    die "what to run is missing, with a --workdir: $0 ... -- --config=CONFIG --workdir=gs://BUCKET/RUN. See --help."
  workdir=${words##*" --workdir"[=\ ]}
  workdir=${workdir%% *}
  case $workdir in
    gs://?*/?* | /?*) ;;
    *://*) die "--workdir=$workdir: several machines cannot keep a run there. $way_out" ;;
    *)
      die "--workdir=$workdir is not an absolute path:" \
        "every machine would have a folder of its own, which is lost with it. $way_out"
      ;;
  esac
}

# --- running ---

quoted() { # the words as one line that a shell reads back as the same words
  local word line=''
  for word in "$@"; do
    if [[ ! $word =~ ^[-A-Za-z0-9_@%+=:,./]+$ ]]; then
      if [[ $word == *[\'[:cntrl:]]* ]]; then
        printf -v word %q "$word"
      else
        word="'$word'" # easier to read
      fi
    fi
    line+=" $word"
  done
  printf '%s' "${line# }"
}

run() {
  if [ "$dry_run" ]; then
    printf '%s\n' "$(quoted "$@")"
  else
    "$@"
  fi
}

# --- queued resources: the options --name, --zone and --project of every script that uses these ---

# Names and zones come up everywhere: `gcloud config` may hold the project, never the name.
need_machines() {
  need name my-run
  need zone us-west4-a
}

queued_resource() { # VERB [ARGUMENT ...]
  local verb=$1
  shift
  run gcloud compute tpus queued-resources "$verb" "$@" --zone="$zone" ${project:+--project="$project"}
}

on_workers() { # NODES WORKERS COMMAND...: the same command on each, at the same time
  local nodes=$1 workers=$2
  shift 2
  queued_resource ssh "$name" --node="$nodes" --worker="$workers" --batch-size=all --command="$*"
}

# The state of the queued resource, MISSING where there is none. Any other failure ends the script with gcloud's words.
state() {
  local found
  if [ "$dry_run" ]; then
    queued_resource describe "$name" --format='value(state.state)'
  elif found=$(queued_resource describe "$name" --format='value(state.state)' 2>&1); then
    # Warnings of gcloud come before the value.
    printf '%s\n' "${found##*$'\n'}"
  elif [[ $found == *NOT_FOUND* ]]; then
    echo MISSING
  else
    printf '%s\n' "$found" >&2
    die "gcloud cannot tell the state of $name in $zone. 'gcloud auth login' and --project are the usual remedies."
  fi
}
