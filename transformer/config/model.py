"""The fields of a run's network."""

import dataclasses

from transformer.config.options import option


@dataclasses.dataclass
class ModelConfig:
    """The network. Defaults are the paper's base model (Table 3); the symbol in brackets is the paper's."""

    architecture: str = option(
        "encoder_decoder",
        "encoder_decoder: translates, as in the paper; language_model: a decoder alone, which continues text.",
        ("encoder_decoder", "language_model"),
    )
    d_model: int = option(512, "Width of the residual stream [d_model].", above=0)
    num_heads: int = option(8, "Attention heads in every attention [h].", above=0)
    num_kv_heads: int | None = option(
        None,
        "Heads of keys and values, each shared by num_heads / num_kv_heads query heads (grouped-query attention; 1: "
        "multi-query); unset: num_heads.",
        above=0,
    )
    d_k: int | None = option(None, "Width of a head's queries and keys [d_k]; unset: d_model / num_heads.", above=0)
    d_v: int | None = option(None, "Width of a head's values [d_v]; unset: the same as d_k.", above=0)
    d_ff: int = option(2048, "Inner width of the feed-forward network [d_ff].", above=0)
    num_encoder_layers: int = option(6, "Encoder layers [N]; unused in a language model.", above=0)
    num_decoder_layers: int = option(6, "Decoder layers [N]; all layers of a language model.", above=0)
    dropout: float = option(
        0.1, "Dropout on sub-layer outputs and on embeddings plus positions [P_drop].", at_least=0, below=1
    )
    attention_dropout: float = option(0.0, "Dropout on attention weights; the paper has none.", at_least=0, below=1)
    activation: str = option(
        "relu",
        "In the feed-forward network: relu, gelu, or gated by a second product: swiglu, geglu (Shazeer 2020).",
        ("relu", "gelu", "swiglu", "geglu"),
    )
    norm: str = option(
        "post",
        "post: LayerNorm(x + Sublayer(x)) as in the paper; pre: x + Sublayer(LayerNorm(x)) and a last norm a stack.",
        ("post", "pre"),
    )
    normalization: str = option(
        "layer", "layer: LayerNorm; rms: RMSNorm, which neither centres nor shifts.", ("layer", "rms")
    )
    biases: bool = option(True, "Biases in the feed-forward network and in LayerNorm; attention has none.")
    qk_norm: bool = option(False, "RMSNorm of each head's queries and keys.")
    logit_soft_cap: float = option(
        0.0,
        "Attention scores, with what positions add, become cap * tanh(score / cap), as in Gemma 2; 0: they stay.",
        at_least=0,
    )
    mask: str = option(
        "causal",
        "Whom a decoder's inputs see: causal: those before; prefix: a prompt sees all of itself (language models "
        "trained on pairs, whose sources are prompts).",
        ("causal", "prefix"),
    )
    attention_window: int | None = option(
        None, "Self-attention reaches fewer than this many positions; unset: any number.", above=0
    )
    attention_chunk: int | None = option(
        None, "Self-attention stays within chunks of this many positions; unset: no chunks.", above=0
    )
    positions: str = option(
        "sinusoidal",
        "How positions enter. Added to embeddings: sinusoidal (the paper's text), sinusoidal_t2t (the paper's code), "
        "learned (Table 3 row E). In every self-attention: rotary, t5 (learned biases for buckets of distances), shaw "
        "(learned vectors for distances), alibi (fixed slopes). Or none.",
        ("sinusoidal", "sinusoidal_t2t", "learned", "rotary", "t5", "shaw", "alibi", "none"),
    )
    rotary_base: float = option(10_000.0, "Rotary: the slowest wave is about 2 pi times this long.", above=1)
    rotary_scaling: str = option(
        "none",
        "Rotary for longer texts than were trained on: linear divides positions by rotary_factor, ntk raises the base.",
        ("none", "linear", "ntk"),
    )
    rotary_factor: float = option(1.0, "How many times longer rotary_scaling makes texts fit.", at_least=1)
    t5_buckets: int = option(32, "T5: buckets of distances.", at_least=4)
    t5_max_distance: int = option(128, "T5: the distance from which on all share the last bucket.", above=1)
    shaw_distance: int = option(16, "Shaw: the distance from which on all count as equal.", above=0)
    max_length: int = option(
        1024, "Rows of a learned position table; no sentence or decode can be longer with it.", above=0
    )
    tied_embeddings: str = option(
        "all",
        "all: source, target and output share one matrix (section 3.4); output: target and output; none: three.",
        ("all", "output", "none"),
    )
    attention: str = option(
        "transformer.model.attention:MultiHeadAttention",
        "The attention class, package.module:Class; your own outside this package trains by naming it here.",
    )
    kernel: str = option(
        "auto",
        "What computes attention: xla, or blockwise, which never holds all scores, everywhere; splash, on TPUs; cudnn, "
        "on GPUs; auto: what can and pays there. docs/attention.md says what each can do.",
        ("auto", "xla", "splash", "cudnn", "blockwise"),
    )
    dtype: str = option(
        "float32", "Precision of the products; parameters stay float32 in both.", ("float32", "bfloat16")
    )
    remat: str = option(
        "none",
        "What of a layer is not kept for the backward pass but computed again, for less memory: none; all but the "
        "products with weights; all.",
        ("none", "all_but_products", "all"),
    )
    unroll: int = option(
        1, "Layers unrolled in each turn of the scan over layers; more is faster, compiles longer.", above=0
    )

    @property
    def attention_roles(self) -> tuple[str, ...]:
        """The attentions of a model, see `transformer.model.attention.Role`."""
        return ("decoder",) if self.architecture == "language_model" else ("encoder", "decoder", "cross")

    @property
    def key_size(self) -> int:
        """d_k, resolved."""
        return self.d_model // self.num_heads if self.d_k is None else self.d_k

    @property
    def key_value_heads(self) -> int:
        """num_kv_heads, resolved."""
        return self.num_heads if self.num_kv_heads is None else self.num_kv_heads

    @property
    def gated(self) -> bool:
        """Whether the feed-forward network has a second product that its activation multiplies."""
        return self.activation in ("swiglu", "geglu")

    @property
    def value_size(self) -> int:
        """d_v, resolved."""
        return self.key_size if self.d_v is None else self.d_v
