#!/usr/bin/env bash
# shellcheck source=tpu/common.sh
. "$(dirname "$0")/common.sh"

usage() {
  cat <<'END'
tpu/install.sh --name=NAME --zone=ZONE [--ref=COMMIT] [--setup=COMMAND]

Copies this clone, as committed, to every worker and installs it there with '.[tpu,gcs]' into a virtual environment of its own
(with a Python that uv fetches: the machines' own may be older than what is needed). Installing again replaces the code;
runs and their logs stay.

  --name=NAME, --zone=ZONE, --project=PROJECT  as given to tpu/create.sh
  --ref=COMMIT     what to copy: a branch, tag or commit (HEAD)
  --setup=COMMAND  run afterwards in the home directory of every worker: to fetch prepared data, and to mount a share if
                   runs are kept on one
  --dry-run        print the commands instead

Example:
  tpu/install.sh --name=wmt --zone=us-west4-a \
    --setup='gcloud storage cp -r gs://my-bucket/tensorflow_datasets .'
END
}

ref=HEAD setup=''
options='name zone project ref setup'
read_options "$@"
need_machines

clone=$(cd "$(dirname "$0")/.." && pwd)
git -C "$clone" rev-parse --quiet --verify "$ref^{commit}" >/dev/null ||
  die "$clone is not a git clone with a commit '$ref'. Clone the project with git, or give another --ref."
if [ "$ref" = HEAD ] && [ -n "$(git -C "$clone" status --porcelain)" ]; then
  say "Note: $clone has changes that are not committed; they stay here."
fi

# A name without a directory, so that scp finds it: ssh paths are relative to the home directory on the other side.
archive=transformer.tar.gz
work=${TMPDIR:-/tmp}
run git -C "$clone" archive --format=tar.gz --prefix=transformer/ --output="$work/$archive" "$ref"
queued_resource scp "$work/$archive" "$name:$archive" --node=all --worker=all --batch-size=all
worker=transformer/tpu/worker.sh
on_workers all all "{ [ ! -e $worker ] || bash $worker free; } && rm -rf transformer && tar -xzf $archive &&" \
  "bash $worker install"
[ -z "$setup" ] || on_workers all all "$setup"
