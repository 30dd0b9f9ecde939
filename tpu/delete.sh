#!/usr/bin/env bash
# shellcheck source=tpu/common.sh
. "$(dirname "$0")/common.sh"

usage() {
  cat <<'END'
tpu/delete.sh --name=NAME --zone=ZONE [--yes]

Deletes the machines, and everything on their disks, or the request for them. Only this ends the costs.
What is in a bucket or on a share stays. gcloud asks first, unless --yes is given.

  --name=NAME, --zone=ZONE, --project=PROJECT  as given to tpu/create.sh
  --yes                                        do not ask
  --dry-run                                    print the command instead

Example:
  tpu/delete.sh --name=wmt --zone=us-west4-a
END
}

yes=''
options='name zone project' switches='yes'
read_options "$@"
need_machines

# --force: the nodes too, not only the request that brought them.
queued_resource delete "$name" --force ${yes:+--quiet}
