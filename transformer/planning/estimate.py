"""A step's time from shapes alone, in microseconds instead of a compilation: what a search compiles first.

Letters: P parameters, n chips, f fsdp, t tensor, c copies of the parameters (slices * data), A parts of a batch,
L layers, D width, u tokens of both sides on a chip (of which each passes L/2 layers; a language model's all of them).

    compute   model FLOPs / n, a third more where everything is computed again
    HBM       optimizer 7 * 4P/(f t), gradients 2 (1 + A) * 4P/t, products' weights 3 A * 2P/t,
              activations 60 * 2 D u L/2 (what fused layers read and write, within a factor of two)
    ICI       gradients 2 * 4P/(f t) (c - 1)/c; parameters gathered twice a part and gradients scattered once,
              (2 A + 1) * 4P/t (f - 1)/f; activations 4 * 2 * 2 D u L/2 (t - 1)/t; keys and values of sequences
              and a few hops a message: 30 a layer and part with fsdp, 12 with tensor, 4 with sequence, 10 in all
    DCN       gradients 2 * 4P/(f t) (s - 1)/s, by all chips of a slice together

It is right within a factor of two, which is enough to put candidates in order and not enough to print.
"""

from transformer.config import Config
from transformer.data.rows import Shape
from transformer.planning.collectives import HOP_SECONDS
from transformer.planning.counting import Operation
from transformer.planning.plan import model_flops
from transformer.planning.roofline import Roofline, roofline
from transformer.planning.topology import Topology

_TOUCHES = 60


def estimate(config: Config, shape: Shape, parameters: int, topology: Topology, cores: int = 1) -> Roofline:
    """The roofline of a step that is not compiled.

    Args:
      config: whose mesh sizes are all given, none -1.
      cores: devices that JAX has for a chip.
    """
    mesh, parts = config.mesh, config.training.parts
    copies = mesh.slices * mesh.data * mesh.sequence
    devices = topology.chips * cores
    alone = config.model.architecture == "language_model"
    layers = config.model.num_decoder_layers + (0 if alone else config.model.num_encoder_layers)
    passed = layers if alone else layers / 2  # by each token
    tokens = shape.rows * (shape.source_length + shape.target_length) * mesh.tensor / devices
    whole, own = 4 * parameters / mesh.tensor, 4 * parameters / (mesh.fsdp * mesh.tensor)
    activations = 2 * config.model.d_model * tokens * passed
    again = 4 / 3 if config.model.remat == "all" else 1.0

    memory = 7 * own + 2 * (1 + parts) * whole + 1.5 * parts * whole + _TOUCHES * activations / mesh.tensor
    sent = 2 * own * (copies - 1) / copies + (2 * parts + 1) * whole * (mesh.fsdp - 1) / mesh.fsdp
    sent += 8 * activations * (mesh.tensor - 1) / mesh.tensor + 2 * activations * (mesh.sequence - 1)
    between = 2 * own * (mesh.slices - 1) / mesh.slices / (mesh.data * mesh.sequence)
    chip = topology.chip.share(cores)
    messages = 10 + layers * parts * (30 * (mesh.fsdp > 1) + 12 * (mesh.tensor > 1) + 4 * (mesh.sequence > 1))
    waits = messages * HOP_SECONDS * sum(topology.grid) / 2
    # Half of the wires: few groups span whole rings in every direction.
    return roofline(
        [Operation(1, again * model_flops(config, shape) / devices, memory)],
        chip,
        ici=sent / (chip.ici_bandwidth / 2) + waits,
        dcn=between / chip.dcn_bandwidth,
    )
