#!/usr/bin/env bash
# shellcheck source=tpu/common.sh
. "$(dirname "$0")/../common.sh"

usage() {
  cat <<'END'
tpu/gke/xpk.sh --name=NAME --cluster=CLUSTER --tpu-type=TYPE --image=IMAGE [OPTION ...] \
    -- --config=CONFIG --workdir=gs://BUCKET/RUN [ARGUMENT ...]

The same as tpu/gke/apply.sh, on a cluster made and queued by xpk (pip install xpk).
The cluster itself, once:
  xpk cluster create --cluster=CLUSTER --tpu-type=TYPE --num-slices=N --spot

  --name=NAME         of the run, xpk's workload
  --cluster=CLUSTER   an xpk cluster
  --tpu-type=TYPE     for example v5litepod-16
  --image=IMAGE       built and pushed as tpu/gke/Dockerfile says
  --storage=STORAGE   a share that xpk knows and mounts at /mnt/runs, for --workdir=/mnt/runs/RUN (tpu/README.md,
                      "On a share")
  --slices=N          (1)
  --max-restarts=N    (50)
  --project=PROJECT, --zone=ZONE  by default gcloud's
  --dry-run           print the command instead
  -- ARGUMENT ...     for `transformer train`

Example:
  tpu/gke/xpk.sh --name=wmt --cluster=mine --tpu-type=v5litepod-16 \
    --image=europe-docker.pkg.dev/me/images/transformer \
    -- --config=wmt14_en_de_base --workdir=gs://my-bucket/base --config.data.rows_multiple_of=16
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
need_number slices
need_number max-restarts
need_workdir
[[ $workdir == gs://* || (-n $storage && $workdir == /mnt/runs/?*) ]] ||
  die "--workdir=$workdir is on a container's own disk, which is lost with it: --workdir=gs://BUCKET/RUN, or" \
    "--workdir=/mnt/runs/RUN with --storage=STORAGE."

# xpk has a shell run the command, instead of the image's entry point.
run xpk workload create --workload="$name" --cluster="$cluster" --tpu-type="$tpu_type" --num-slices="$slices" \
  --docker-image="$image" ${storage:+--storage="$storage"} --max-restarts="$max_restarts" \
  ${project:+--project="$project"} ${zone:+--zone="$zone"} \
  --command="bash /transformer/tpu/gke/entrypoint.sh $(quoted train "${rest[@]}")"
