"""Compiled programs as short as can be, in the notation of the TPU's compiler."""

# A product of [8, 16] and [16, 32], or two sums.
BRANCHES = """\
HloModule step, is_scheduled=true

%long (a: f32[8,32]) -> f32[8,32] {
  %a = f32[8,32]{1,0:T(8,128)} parameter(0)
  %twice = f32[8,32]{1,0:T(8,128)} add(%a, %a)
  ROOT %thrice = f32[8,32]{1,0:T(8,128)} add(%twice, %a)
}

%costly (b: (f32[8,16], f32[16,32])) -> f32[8,32] {
  %b = (f32[8,16]{1,0:T(8,128)}, f32[16,32]{1,0:T(8,128)}) parameter(0)
  %x = f32[8,16]{1,0:T(8,128)} get-tuple-element(%b), index=0
  %y = f32[16,32]{1,0:T(8,128)} get-tuple-element(%b), index=1
  ROOT %product = f32[8,32]{1,0:T(8,128)} convolution(%x, %y), dim_labels=bf_io->bf
}

ENTRY %main (which: pred[], p0: f32[8,32], p1: f32[8,16], p2: f32[16,32]) -> f32[8,32] {
  %which = pred[]{:T(512)} parameter(0)
  %p0 = f32[8,32]{1,0:T(8,128)} parameter(1)
  %p1 = f32[8,16]{1,0:T(8,128)} parameter(2)
  %p2 = f32[16,32]{1,0:T(8,128)} parameter(3)
  %two = (f32[8,16]{1,0:T(8,128)}, f32[16,32]{1,0:T(8,128)}) tuple(%p1, %p2)
  ROOT %one = f32[8,32]{1,0:T(8,128)} conditional(%which, %p0, %two), true_computation=%long, false_computation=%costly
}
"""

# A loop of three turns: a product of [8, 16] and [16, 32] each, a slice of a stack, an update in place.
LOOP = """\
HloModule step, is_scheduled=true

%sum (a: f32[], b: f32[]) -> f32[] {
  %a = f32[]{:T(128)} parameter(0)
  %b = f32[]{:T(128)} parameter(1)
  ROOT %add = f32[]{:T(128)} add(%a, %b)
}

%fused (stack: bf16[3,16,32], x: bf16[8,16], turn: s32[]) -> f32[8,32] {
  %stack = bf16[3,16,32]{2,1,0:T(8,128)(2,1)} parameter(0)
  %x = bf16[8,16]{1,0:T(8,128)(2,1)S(1)} parameter(1)
  %turn = s32[]{:T(128)} parameter(2)
  %zero = s32[]{:T(128)} constant(0)
  %one = bf16[1,16,32]{2,1,0:T(8,128)(2,1)} dynamic-slice(%stack, %turn, %zero, %zero), dynamic_slice_sizes={1,16,32}
  %layer = bf16[16,32]{1,0:T(8,128)(2,1)} bitcast(%one)
  ROOT %product = f32[8,32]{1,0:T(8,128)} convolution(%x, %layer), dim_labels=bf_io->bf
}

%written (kept: f32[3,8,32], y: f32[8,32], turn: s32[]) -> f32[3,8,32] {
  %kept = f32[3,8,32]{2,1,0:T(8,128)} parameter(0)
  %y = f32[8,32]{1,0:T(8,128)} parameter(1)
  %turn = s32[]{:T(128)} parameter(2)
  %zero = s32[]{:T(128)} constant(0)
  %row = f32[1,8,32]{2,1,0:T(8,128)} bitcast(%y)
  ROOT %update = f32[3,8,32]{2,1,0:T(8,128)} dynamic-update-slice(%kept, %row, %turn, %zero, %zero)
}

%body (carry: (s32[], bf16[8,16], bf16[3,16,32], f32[3,8,32])) -> (s32[], bf16[8,16], bf16[3,16,32], f32[3,8,32]) {
  %carry = (s32[]{:T(128)}, bf16[8,16]{1,0:T(8,128)(2,1)S(1)}, /*index=2*/bf16[3,16,32]{2,1,0}, f32[3,8,32]{2,1,0}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%carry), index=0
  %x = bf16[8,16]{1,0:T(8,128)(2,1)S(1)} get-tuple-element(%carry), index=1
  %weights = bf16[3,16,32]{2,1,0:T(8,128)(2,1)} get-tuple-element(%carry), index=2
  %kept = f32[3,8,32]{2,1,0:T(8,128)} get-tuple-element(%carry), index=3
  %y = f32[8,32]{1,0:T(8,128)} fusion(%weights, %x, %i), kind=kOutput, calls=%fused
  %all = f32[8,32]{1,0:T(8,128)S(1)} all-reduce(%y), channel_id=1, replica_groups=[2,2]<=[4], to_apply=%sum, metadata={op_name="jit(step)/transpose(jvp())/while/body/closed_call/reduce_sum" stack_frame_id=1}
  %new = f32[3,8,32]{2,1,0:T(8,128)} fusion(%kept, %all, %i), kind=kLoop, calls=%written
  %step = s32[]{:T(128)} constant(1)
  %next = s32[]{:T(128)S(2)} add(%i, %step)
  ROOT %result = (s32[]{:T(128)}, bf16[8,16]{1,0:T(8,128)(2,1)S(1)}, bf16[3,16,32]{2,1,0}, f32[3,8,32]{2,1,0}) tuple(%next, %x, %weights, %new)
}

%condition (carry.1: (s32[], bf16[8,16], bf16[3,16,32], f32[3,8,32])) -> pred[] {
  %carry.1 = (s32[]{:T(128)}, bf16[8,16]{1,0}, bf16[3,16,32]{2,1,0}, f32[3,8,32]{2,1,0}) parameter(0)
  %i.1 = s32[]{:T(128)} get-tuple-element(%carry.1), index=0
  %turns = s32[]{:T(128)} constant(3)
  ROOT %lt = pred[]{:T(512)} compare(%i.1, %turns), direction=LT
}

ENTRY %main (p0: bf16[3,16,32], p1: bf16[8,16], p2: f32[3,8,32]) -> f32[3,8,32] {
  %p0 = bf16[3,16,32]{2,1,0:T(8,128)(2,1)} parameter(0)
  %p1 = bf16[8,16]{1,0:T(8,128)(2,1)} parameter(1)
  %p2 = f32[3,8,32]{2,1,0:T(8,128)} parameter(2)
  %fetch = (bf16[8,16]{1,0:T(8,128)(2,1)S(1)}, bf16[8,16]{1,0:T(8,128)(2,1)}, u32[]{:S(2)}) copy-start(%p1)
  %fetched = bf16[8,16]{1,0:T(8,128)(2,1)S(1)} copy-done(%fetch)
  %start = s32[]{:T(128)S(2)} constant(0)
  %carried = (s32[]{:T(128)}, bf16[8,16]{1,0:T(8,128)(2,1)S(1)}, bf16[3,16,32]{2,1,0}, f32[3,8,32]{2,1,0}) tuple(%start, %fetched, %p0, %p2)
  %loop = (s32[]{:T(128)}, bf16[8,16]{1,0:T(8,128)(2,1)S(1)}, bf16[3,16,32]{2,1,0}, f32[3,8,32]{2,1,0}) while(%carried), condition=%condition, body=%body
  ROOT %out = f32[3,8,32]{2,1,0:T(8,128)} get-tuple-element(%loop), index=3
}
"""  # noqa: E501 as the compiler prints them

# What scatters a sum among four chips on a TPU, and what goes to the other slice.
SCATTER = """\
HloModule step, is_scheduled=true

%sum (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %add = f32[] add(%a, %b)
}

%all-reduce-scatter (input: f32[128,128]) -> f32[32,128] {
  %input = f32[128,128]{1,0} parameter(0)
  %whole = f32[128,128]{1,0} all-reduce(%input), replica_groups={{0,2,4,6},{1,3,5,7}}, to_apply=%sum
  %zero = s32[] constant(0)
  ROOT %part = f32[32,128]{1,0} dynamic-slice(%whole, %zero, %zero), dynamic_slice_sizes={32,128}
}

ENTRY %main (p: f32[128,128]) -> f32[32,128] {
  %p = f32[128,128]{1,0} parameter(0)
  %part = f32[32,128]{1,0} fusion(%p), kind=kCustom, calls=%all-reduce-scatter, metadata={op_name="jit(step)/reshard"}
  %token = token[] after-all()
  %send = (f32[32,128]{1,0}, u32[], token[]) send(%part, %token), is_host_transfer=true, frontend_attributes={_xla_host_transfer_handler_name="xla_megascale_runtime",_xla_megascale_transfer_type="ALL_REDUCE"}
  ROOT %same = f32[32,128]{1,0} bitcast(%part)
}
"""  # noqa: E501

# An all-gather that goes on beside a product: begun, carried on, waited for.
ASYNCHRONOUS = """\
HloModule step, is_scheduled=true

%began (part: bf16[16,64]) -> (bf16[16,64], bf16[64,64], u32[]) {
  %part = bf16[16,64]{1,0} parameter(0)
  %gather = bf16[64,64]{1,0} all-gather(%part), channel_id=7, replica_groups={{0,1,2,3}}, dimensions={0}
  ROOT %start = (bf16[16,64]{1,0}, bf16[64,64]{1,0}, u32[]{:S(2)}) custom-call(%gather), custom_call_target="AsyncCollectiveStart"
}

%carried (part: bf16[16,64], whole: bf16[64,64], x: bf16[8,64], y: bf16[64,32]) -> (bf16[8,32], bf16[16,64], bf16[64,64], bf16[64,64]) {
  %part = bf16[16,64]{1,0} parameter(0)
  %whole = bf16[64,64]{1,0} parameter(1)
  %x = bf16[8,64]{1,0} parameter(2)
  %y = bf16[64,32]{1,0} parameter(3)
  %product = bf16[8,32]{1,0} convolution(%x, %y), dim_labels=bf_io->bf
  %gather = bf16[64,64]{1,0} all-gather(%part), channel_id=7, replica_groups={{0,1,2,3}}, dimensions={0}
  ROOT %all = (bf16[8,32]{1,0}, bf16[16,64]{1,0}, bf16[64,64]{1,0}, bf16[64,64]{1,0}) tuple(%product, %part, %whole, %gather)
}

%ended (part: bf16[16,64], whole: bf16[64,64]) -> bf16[64,64] {
  %part = bf16[16,64]{1,0} parameter(0)
  %whole = bf16[64,64]{1,0} parameter(1)
  %gather = bf16[64,64]{1,0} all-gather(%part), channel_id=7, replica_groups={{0,1,2,3}}, dimensions={0}
  ROOT %done = bf16[64,64]{1,0} custom-call(%part, %whole, %gather), custom_call_target="AsyncCollectiveDone"
}

ENTRY %main (p0: bf16[16,64], p1: bf16[8,64], p2: bf16[64,32]) -> bf16[64,64] {
  %p0 = bf16[16,64]{1,0} parameter(0)
  %p1 = bf16[8,64]{1,0} parameter(1)
  %p2 = bf16[64,32]{1,0} parameter(2)
  %one = (bf16[16,64]{1,0}, bf16[64,64]{1,0}, u32[]{:S(2)}) fusion(%p0), kind=kCustom, calls=%began
  %part = bf16[16,64]{1,0} get-tuple-element(%one), index=0
  %whole = bf16[64,64]{1,0} get-tuple-element(%one), index=1
  %two = (bf16[8,32]{1,0}, bf16[16,64]{1,0}, bf16[64,64]{1,0}, bf16[64,64]{1,0}) fusion(%part, %whole, %p1, %p2), kind=kOutput, calls=%carried
  %part.2 = bf16[16,64]{1,0} get-tuple-element(%two), index=1
  %whole.2 = bf16[64,64]{1,0} get-tuple-element(%two), index=3
  ROOT %out = bf16[64,64]{1,0} fusion(%part.2, %whole.2), kind=kCustom, calls=%ended
}
"""  # noqa: E501 as the compiler prints them


def splash_call(phase: str, blocks: str, metadata: str, results: str, operands: str) -> str:
    """A program that is one call of a kernel of splash attention, which has what it says of itself on lines of its own.

    Args:
      operands: `name: type` of each, commas between.
    """
    parameters = [each.split(": ") for each in operands.split("; ")]
    lines = [f"  %{name} = {kind} parameter({number})" for number, (name, kind) in enumerate(parameters)]
    names = ", ".join(f"%{name}" for name, _ in parameters)
    return f"""\
HloModule step, is_scheduled=true

ENTRY %main (p: f32[]) -> f32[4,4] {{
{chr(10).join(lines)}
  %splash = {results} custom-call({names}), custom_call_target="tpu_custom_call", frontend_attributes={{kernel_metadata={{
"xprof_metadata":"{{{metadata}}}"
}}}}, metadata={{op_name="jit(step)/jvp()/{blocks}/shard_map/splash_mha_{phase}/pallas_call" stack_frame_id=1}}, backend_config={{}}
  %after = f32[4,8]{{1,0}} broadcast(%zero), dimensions={{}}
  %other = f32[8,4]{{1,0}} broadcast(%zero), dimensions={{}}
  %zero = f32[] constant(0)
  ROOT %dot = f32[4,4]{{1,0}} dot(%after, %other), lhs_contracting_dims={{1}}, rhs_contracting_dims={{0}}
}}
"""  # noqa: E501 as the compiler prints it
