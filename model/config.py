"""ModelConfig: every architecture of the project is a point of this space; each feature defaults to off or plain.

The legend for shapes, here and in all of model/:

    B batch   T time   D width (dim)   H query heads   K key/value heads   C head width   V vocabulary   F MLP hidden

Rules are checked here, before a tensor exists; a broken one names the value, the rule and the nearest legal values.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Lt

from base.config import require_divisible
from model.dial import dial

Count = Annotated[int, Ge(1)]
Amount = Annotated[int, Ge(0)]
MOST_CANONICAL = 16_384  # tokens: a table of 256 MiB
GATE_DIMS = 12  # dimensions of a vector that gates read


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    # Keys that may be written beside the fields and set many of them (base.config.load); none of them is kept.
    dials: ClassVar[Mapping[str, Callable[[Any, Mapping[str, Any]], dict[str, Any]]]] = {"depth": dial}

    # size
    vocab_size: Count = 1024
    layers: Count = 8
    dim: Count = 256
    heads: Count = 4
    kv_heads: Count = 4
    head_dim: Amount = 0  # 0: dim / heads
    hidden: Amount = 0  # MLP width F; 0: dim * mlp_mult
    mlp_mult: Annotated[float, Gt(0)] = 4.0
    tied: bool = True  # the head is the token table

    # block
    mlp: Literal["relu2", "leaky_relu2", "swiglu", "silu", "gelu"] = "swiglu"
    norm: Literal["rms", "rms_weight", "none"] = "rms"  # rms: no learned weight
    norm_order: Literal["pre", "post"] = "pre"
    norm_eps: Annotated[float, Gt(0)] = 1e-6
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.0
    branch_scale: bool = False  # a learned vector on each attention and MLP output, init 1
    resid_mix: bool = False  # x <- a*x + b*x0 before each block, learned vectors, init 1 and 0
    ln_scale: bool = False  # normed inputs times 1/sqrt(layer + 1)
    parallel_from: int | None = None  # from this layer on, attention and MLP read the same input (GPT-J)
    parallel_lanes: bool = False  # from there on, each reads a residual stream of its own and writes to both

    # positions
    pos: Literal["rope", "none"] = "rope"
    rope_base: Annotated[float, Gt(1)] = 10_000.0
    rope_dims: Amount = 0  # of each head, rotated; 0: all
    yarn_factor: Annotated[float, Ge(1), Lt(1e6)] = 1.0  # 1: off
    yarn_original: Count = 2048  # the length that was trained on, never the extended one
    yarn_beta_fast: Annotated[float, Gt(0)] = 32.0
    yarn_beta_slow: Annotated[float, Gt(0)] = 1.0
    yarn_attention: Annotated[float, Gt(0), Lt(1e6)] | None = None  # on cos and sin; None: 0.1 ln(factor) + 1

    # attention
    attention: tuple[Amount, ...] | None = None  # the layers that have it; None: all
    qk_norm: bool = False
    q_gain: float | None = None  # learned, one per head, from this value; None: off
    value_tables: tuple[Amount, ...] = ()  # layers whose values get a gated row of a table of the layer's own
    key_offset: bool = False  # the unrotated part of each key is the position before's: one layer finds what followed
    attn_gate: Annotated[float, Ge(0)] = 0.0  # s of a gate on each head, sigmoid(s * w.x[:12]), w init 0; 0: off
    xsa: Amount = 0  # in this many last layers, each head's output loses its part along the token's own value
    doc_mask: bool = False  # attention stays inside a document

    # input and output
    embed_norm: bool = False  # RMSNorm right after the embedding, before any block
    softcap: Annotated[float, Ge(0)] = 0.0  # c*tanh(logits/c); 0: off
    canonical: bool = False  # no probability for tokens that the tokenizer never puts after the one before
    smear: Literal["off", "static", "gated"] = "off"
    smear_bos_mask: bool = False  # the first token of a document takes nothing from the one before
    bos_id: Amount = 1  # where documents begin, for the masks
    bigram_buckets: Amount = 0  # 0: off
    bigram_dim: Count = 128
    match: Amount = 0  # longest match that is looked for, in tokens; 0: off
    match_count: Count = 1  # matches with different followers
    skips: Literal["off", "plain", "gated"] = "off"  # U-Net: first half's outputs into the second half, last first

    # loops: layers first..last run `loop_repeats` more times, once `loop_start` of the run is over
    loop_first: Amount = 0
    loop_last: Amount = 0
    loop_repeats: Amount = 0
    loop_start: Annotated[float, Ge(0), Lt(1)] = 0.0

    # initialisation
    init: Literal["ortho", "normal"] = "normal"  # ortho: output projections zero, other matrices orthogonal
    init_std: Annotated[float, Gt(0)] = 0.02  # of matrices under `normal`
    embed_std: Annotated[float, Gt(0)] = 0.02

    def __post_init__(self) -> None:
        require_divisible("heads", self.heads, "kv_heads", self.kv_heads)
        if not self.head_dim:
            require_divisible("dim", self.dim, "heads", self.heads)
        if self.hidden_width < 1:
            raise ValueError(f"mlp_mult {self.mlp_mult:g} leaves no MLP; use {1 / self.dim:g} or more")
        rotated = self.rope_dims or self.head_width
        if self.pos == "rope" and rotated % 2:
            name = "rope_dims" if self.rope_dims else "head width"
            raise ValueError(f"RoPE rotates pairs, and {name} {rotated} is odd; use {rotated - 1} or {rotated + 1}")
        if self.rope_dims > self.head_width:
            raise ValueError(f"rope_dims {self.rope_dims} is more than the head width; use {self.head_width} or less")
        if idle := [layer for layer in self.value_tables if layer not in self.attending]:
            raise ValueError(f"value_tables name layer {idle[0]}, which has no attention; name layers that have it")
        if self.key_offset and not (self.pos == "rope" and 0 < self.rope_dims < self.head_width):
            part = f"rope_dims {self.rope_dims} of pos {self.pos} leaves it none; use {self.head_width // 4 * 2}"
            raise ValueError(f"key_offset moves the unrotated part of each key, and {part}")
        if self.attention is not None:
            if list(self.attention) != sorted(set(self.attention)) or max(self.attention, default=0) >= self.layers:
                raise ValueError(f"attention {list(self.attention)}: name layers from 0 to {self.layers - 1}, in order")
            if self.norm_order == "post" or self.parallel_lanes:
                raise ValueError("attention in some layers only needs norm_order pre and parallel_lanes false")
        if self.xsa > self.layers:
            raise ValueError(f"xsa {self.xsa} is more than the {self.layers} layers; use {self.layers} or less")
        if self.parallel_from is not None and not 0 <= self.parallel_from < self.layers:
            raise ValueError(f"parallel_from {self.parallel_from} is not a layer; use 0 to {self.layers - 1}")
        if self.parallel_lanes and self.parallel_from is None:
            raise ValueError(f"parallel_lanes need a layer to begin at; set parallel_from to 0 to {self.layers - 1}")
        if self.loop_repeats and not self.loop_first <= self.loop_last < self.layers:
            span = f"loop_first {self.loop_first} to loop_last {self.loop_last}"
            raise ValueError(f"{span} is no range of layers; use 0 to {self.layers - 1}")
        if self.loop_repeats and self.parallel_lanes and self.loop_first < (self.parallel_from or 0) <= self.loop_last:
            loop = f"the loop over layers {self.loop_first} to {self.loop_last} would leave them again"
            raise ValueError(f"parallel_lanes begin at layer {self.parallel_from}, and {loop}; end it before")
        if self.bigram_buckets == 1:
            raise ValueError("bigram_buckets 1 leaves no bucket beside the reserved one; use 0 (off) or at least 2")
        if self.canonical and self.vocab_size > MOST_CANONICAL:
            raise ValueError(
                f"canonical has a byte for each of vocab_size {self.vocab_size:,}² pairs of tokens; "
                f"use a vocab_size of {MOST_CANONICAL:,} or less, or canonical false"
            )
        if self.norm_order == "post" and self.parallel_from is not None:
            raise ValueError("parallel_from needs norm_order pre: a parallel block has one norm before both branches")

    @property
    def head_width(self) -> int:
        return self.head_dim or self.dim // self.heads

    @property
    def gate_width(self) -> int:
        return min(GATE_DIMS, self.dim)

    @property
    def sharing_norms(self) -> Sequence[int]:
        """The layers that give attention and MLP the same normed input."""
        if self.parallel_from is None or self.parallel_lanes:
            return ()
        if self.attention is None:
            return range(self.parallel_from, self.layers)
        return [layer for layer in self.attention if layer >= self.parallel_from]

    @property
    def hidden_width(self) -> int:
        return self.hidden or round(self.dim * self.mlp_mult)

    @property
    def attending(self) -> Sequence[int]:
        """The layers that have attention."""
        return range(self.layers) if self.attention is None else self.attention

    def final_attention(self, order: Sequence[int]) -> int:
        """The last step of an order of layers that has attention (-1: none); what follows needs no other position."""
        steps = [step for step, layer in enumerate(order) if layer in self.attending]
        return steps[-1] if steps else -1

    def order(self, progress: float = 1.0) -> list[int]:
        """The layers in the order they run at this fraction of training; evaluation runs at 1.0."""
        once = list(range(self.layers))
        if not self.loop_repeats or progress < self.loop_start:
            return once
        loop = once[self.loop_first : self.loop_last + 1]
        return once[: self.loop_last + 1] + loop * self.loop_repeats + once[self.loop_last + 1 :]
