#!/usr/bin/env bash
# shellcheck source=tpu/common.sh
. "$(dirname "$0")/../common.sh"

usage() {
  cat <<'END'
tpu/gke/xpk.sh --name=NAME --cluster=CLUSTER --tpu-type=TYPE --image=IMAGE --storage=STORAGE [OPTION ...] \
    -- --config=CONFIG --workdir=/mnt/runs/RUN [ARGUMENT ...]

The same as tpu/gke/apply.sh, on a cluster made and queued by xpk (pip install xpk).
Once, the cluster and the Filestore share (tpu/README.md, step 3), which has to be in the cluster's network:
  xpk cluster create --cluster=CLUSTER --tpu-type=TYPE --num-slices=N --spot
  xpk storage attach STORAGE --cluster=CLUSTER --type=gcpfilestore --instance=INSTANCE --vol=SHARE \
    --mount-point=/mnt/runs --readonly=false --auto-mount=false

  --name=NAME         of the run, xpk's workload
  --cluster=CLUSTER   an xpk cluster
  --tpu-type=TYPE     for example v5litepod-16
  --image=IMAGE       built and pushed as tpu/gke/Dockerfile says
  --storage=STORAGE   the share's name in xpk, as attached above at /mnt/runs
  --slices=N          (1)
  --max-restarts=N    (50)
  --project=PROJECT, --zone=ZONE  by default gcloud's
  --dry-run           print the command instead
  -- ARGUMENT ...     for `transformer train`

Example:
  tpu/gke/xpk.sh --name=wmt --cluster=mine --tpu-type=v5litepod-16 --storage=runs \
    --image=europe-docker.pkg.dev/me/images/transformer \
    -- --config=wmt14_en_de_base --workdir=/mnt/runs/base --config.data.rows_multiple_of=16
Then:
  xpk workload list --cluster=mine
  xpk workload delete --cluster=mine --workload=wmt
END
}

cluster='' tpu_type='' image='' storage='' slices=1 max_restarts=50
options='name cluster tpu-type image storage slices max-restarts project zone'
read_options "$@"
need name my-run
need cluster my-cluster
need tpu-type v5litepod-16
need image europe-docker.pkg.dev/PROJECT/REPOSITORY/transformer
need storage runs
need_number slices
need_number max-restarts
need_workdir
[[ $workdir == /mnt/runs/?* ]] ||
  die "--workdir=$workdir is not on the share: --workdir=/mnt/runs/RUN. A container's own disk is lost with it."

# xpk has a shell run the command, instead of the image's entry point.
run xpk workload create --workload="$name" --cluster="$cluster" --tpu-type="$tpu_type" --num-slices="$slices" \
  --docker-image="$image" --storage="$storage" --max-restarts="$max_restarts" \
  ${project:+--project="$project"} ${zone:+--zone="$zone"} \
  --command="bash /transformer/tpu/gke/entrypoint.sh $(quoted train "${rest[@]}")"
