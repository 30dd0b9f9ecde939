#!/usr/bin/env bash
# shellcheck source=tpu/common.sh
. "$(dirname "$0")/../common.sh"

usage() {
  cat <<'END'
tpu/gke/apply.sh --name=NAME --image=IMAGE --accelerator=TYPE --topology=AxB [OPTION ...] \
    -- --config=CONFIG --workdir=gs://BUCKET/RUN [ARGUMENT ...]

Starts `transformer train` on TPU node pools of a GKE cluster, as a JobSet: fills tpu/gke/jobset.yaml and gives it to
kubectl. A worker that fails or is pre-empted makes all start again from the last checkpoint.

  --name=NAME           of the run: small letters, digits and hyphens
  --image=IMAGE         built and pushed as tpu/gke/Dockerfile says
  --accelerator=TYPE    the nodes' cloud.google.com/gke-tpu-accelerator: tpu-v5-lite-podslice (v5e), tpu-v5p-slice,
                        tpu-v6e-slice, tpu-v4-podslice
  --topology=AxB[xC]    chips of a slice, as the node pool was created: 4x4
  --nfs=SERVER:/SHARE   a share that is mounted at /mnt/runs in every container, for --workdir=/mnt/runs/RUN
  --chips-per-host=N    of the node pool's machine type (4)
  --slices=N            node pools to use together (1)
  --max-restarts=N      (50)
  --namespace=NAME      (default)
  --service-account=NAME  a Kubernetes service account; who may have to write to the bucket: tpu/README.md (default)
  --context=NAME        kubectl's context; by default the current one
  --dry-run             print the command, with the whole manifest, instead
  -- ARGUMENT ...       for `transformer train`

The cluster needs JobSet: https://jobset.sigs.k8s.io/docs/installation

Example:
  tpu/gke/apply.sh --name=wmt --image=europe-docker.pkg.dev/me/images/transformer \
    --accelerator=tpu-v5-lite-podslice --topology=4x4 \
    -- --config=wmt14_en_de_base --workdir=gs://my-bucket/base --config.data.rows_multiple_of=16
Then:
  kubectl logs --follow --selector=jobset.sigs.k8s.io/jobset-name=wmt,batch.kubernetes.io/job-completion-index=0
  kubectl delete jobset wmt
END
}

image='' accelerator='' topology='' chips_per_host=4 slices=1 max_restarts=50 namespace=default service_account=default
context='' nfs=''
options='name image accelerator topology nfs chips-per-host slices max-restarts namespace service-account context'
read_options "$@"
need name my-run
need image europe-docker.pkg.dev/PROJECT/REPOSITORY/transformer
need accelerator tpu-v5-lite-podslice
need topology 4x4
for option in chips-per-host slices max-restarts; do need_number "$option"; done
[[ $name =~ ^[a-z]([-a-z0-9]*[a-z0-9])?$ ]] ||
  die "--name=$name: Kubernetes takes small letters, digits and hyphens, a letter first, no hyphen last."
[[ $topology =~ ^[0-9]+(x[0-9]+)+$ ]] || die "--topology=$topology is not of the form 4x4 or 4x4x4."
[[ -z $nfs || $nfs == ?*:/?* ]] || die "--nfs=$nfs is not of the form SERVER:/SHARE, such as 10.0.0.2:/runs."
need_workdir
[[ $workdir == gs://* || (-n $nfs && $workdir == /mnt/runs/?*) ]] ||
  die "--workdir=$workdir is on a container's own disk, which is lost with it: --workdir=gs://BUCKET/RUN, or" \
    "--workdir=/mnt/runs/RUN with --nfs=SERVER:/SHARE."

chips=$((${topology//x/*}))
hosts=$((chips / chips_per_host))
[ $((hosts * chips_per_host)) -eq "$chips" ] ||
  die "--topology=$topology has $chips chips, which --chips-per-host=$chips_per_host does not divide." \
    "The node pool's machine type says how many it has: ct5lp-hightpu-4t has 4."

as_yaml() { # the words as a list of strings
  local word list=''
  for word in "$@"; do
    [[ $word != *[[:cntrl:]]* ]] || die "an argument holds a line break or another control character: $(quoted "$word")"
    word=${word//\\/\\\\}
    word=${word//\"/\\\"}
    list+=", \"$word\""
  done
  printf '[%s]' "${list#, }"
}

left_out='^# A template'
[ -n "$nfs" ] || left_out+='|# of --nfs$'
manifest=$(grep -Ev "$left_out" "$(dirname "$0")/jobset.yaml")
fill() { # PLACEHOLDER VALUE
  # Quoted, because bash 5.2 would take an & in it for what was found. No quotes around the whole, for older ones.
  manifest=${manifest//"@$1@"/"$2"}
}
fill NAME "$name"
fill NAMESPACE "$namespace"
fill MAX_RESTARTS "$max_restarts"
fill SLICES "$slices"
fill HOSTS "$hosts"
fill SERVICE_ACCOUNT "$service_account"
fill ACCELERATOR "$accelerator"
fill TOPOLOGY "$topology"
fill NFS_SERVER "${nfs%%:*}"
fill NFS_SHARE "${nfs#*:}"
fill IMAGE "$image"
fill CHIPS_PER_HOST "$chips_per_host"
fill ARGUMENTS "$(as_yaml train "${rest[@]}")" # last: what it brings is not searched again

command=(kubectl ${context:+--context="$context"} apply --filename=-)
if [ "$dry_run" ]; then
  printf "%s <<'MANIFEST'\n%s\nMANIFEST\n" "$(quoted "${command[@]}")" "$manifest"
else
  printf '%s\n' "$manifest" | "${command[@]}"
fi
