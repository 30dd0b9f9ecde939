# shellcheck shell=bash
# The flags of libtpu that runs are started with, and why. An unknown flag ends a run at its start: after an upgrade of
# libtpu, look here first. Defaults that are right already are left alone; memory flags are for whoever runs out of it
# (https://openxla.org/xla/flags_guidance).

flags=(
  # The gradients' all-reduce runs while the chips compute. Off by default; the guidance above suggests it for v5e.
  --xla_tpu_enable_async_collective_fusion_fuse_all_reduce=true

  # The all-reduce of one layer's gradients overlaps the backward pass of the layer before, arrays of different sizes
  # included. Matters most between slices, where the network is slow. As axlearn (compiler_options.py) and MaxText's
  # benchmarks set them.
  --xla_tpu_enable_data_parallel_all_reduce_opt=true
  --xla_tpu_data_parallel_opt_different_sized_ops=true

  # Several slices: a lost or hanging one ends the run, which can then be resumed, instead of leaving the others waiting
  # at full price. As axlearn sets them; without effect in a single slice.
  --megascale_error_reporter_abort_on_hang=true
  --megascale_error_reporter_abort_on_error=true
)
# What the environment brings comes last, and so wins.
export LIBTPU_INIT_ARGS="${flags[*]}${LIBTPU_INIT_ARGS:+ $LIBTPU_INIT_ARGS}"
