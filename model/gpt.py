"""Block and GPT: norms, residual mixes, U-Net skips, loops, parallel branches and lanes, softcap.

    logits = GPT(config)(tokens)                    (B, T) -> (B, T, V), fp32 or wider
    logits = model(chunk, cache)                    the same numbers, a chunk at a time
    nats = model.loss(tokens, targets, rows)        mean cross-entropy, `rows` positions' logits at a time (0: all)

Parameter kinds, for packing and for optimizer groups, come from `parameter_kind`, here and nowhere else.
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from model.attention import Attention, Given
from model.cache import Cache
from model.config import ModelConfig
from model.embedding import Embedding
from model.loss import chunked_loss
from model.masks import make_mask
from model.match import Match
from model.mlp import MLP
from model.norm import Norm
from model.rotary import Rotation

# Of a forbidden token's logit: next to no probability, and any text still has a finite loss.
FORBIDDEN_NATS = 30.0

Kind = Literal["embed", "head", "bigram", "attn", "mlp", "control"]


def parameter_kind(name: str, parameter: torch.Tensor) -> Kind:
    """Vectors, scalars and gates are `control`; a matrix has the kind of the module that holds it."""
    if parameter.ndim < 2 or name.endswith(".attn.gate"):
        return "control"
    if name == "embedding.table.weight" or name.endswith(".attn.values.weight"):
        return "embed"
    if name == "head.weight":
        return "head"
    if name.endswith("_gate"):
        return "control"
    if name.startswith("embedding.bigram."):
        return "bigram"
    if ".attn." in name:
        return "attn"
    return "mlp" if ".mlp." in name else "control"


def learning_kind(name: str, parameter: torch.Tensor) -> str:
    """As an optimizer tells them apart: BigramHash's projection multiplies, its table is looked up."""
    return "bigram_proj" if name == "embedding.bigram.proj.weight" else parameter_kind(name, parameter)


class Block(nn.Module):
    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        depth_scale = 1 / math.sqrt(layer + 1) if config.ln_scale else 1.0
        self.post = config.norm_order == "post"
        attends = layer in config.attending
        self.attn_norm = Norm(config, depth_scale) if attends else None
        self.attn = Attention(config, layer) if attends else None
        self.mlp_norm = None if layer in config.sharing_norms else Norm(config, depth_scale)
        self.mlp = MLP(config)
        self.drop = nn.Dropout(config.dropout)
        self.resid_mix = nn.Parameter(torch.ones(2, config.dim)) if config.resid_mix else None
        self.attn_scale = nn.Parameter(torch.ones(config.dim)) if config.branch_scale and attends else None
        self.mlp_scale = nn.Parameter(torch.ones(config.dim)) if config.branch_scale else None

    def forward(
        self,
        x: torch.Tensor,  # (B, T, D)
        lane: torch.Tensor | None,  # (B, T, D) what the MLP reads, if not what attention writes
        weights: torch.Tensor | None,  # (2, 3) of x, lane <- of itself, of attention's output, of the MLP's
        given: Given,
        step: int,
        last: int,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """x and lane, (B, last, D) each: earlier positions serve only as keys and values."""
        if self.attn is None or self.attn_norm is None:
            assert self.mlp_norm is not None
            read = self._mix(x[:, -last:], given.x0)
            return read + self._scale(self.mlp(self.mlp_norm(read)), self.mlp_scale), None
        read = self._mix(x, given.x0)
        n = read if self.post else self.attn_norm(read)
        attended = self._scale(self.attn(n, given, step, last), self.attn_scale)
        if lane is not None and weights is not None and self.mlp_norm is not None:
            x, lane = x[:, -last:], lane[:, -last:]
            made = self._scale(self.mlp(self.mlp_norm(lane)), self.mlp_scale)
            w = weights.to(x.dtype)
            mixed = w[0, 0] * x + w[0, 1] * attended + w[0, 2] * made
            return mixed, w[1, 0] * lane + w[1, 1] * attended + w[1, 2] * made
        x, n = read[:, -last:], n[:, -last:]
        if self.post:
            x = self.attn_norm(x + attended)
            x = x + self._scale(self.mlp(x), self.mlp_scale)
            return (x if self.mlp_norm is None else self.mlp_norm(x)), None
        if self.mlp_norm is None:  # shared
            return x + attended + self._scale(self.mlp(n), self.mlp_scale), None
        x = x + attended
        return x + self._scale(self.mlp(self.mlp_norm(x)), self.mlp_scale), None

    def _mix(self, x: torch.Tensor, x0: torch.Tensor) -> torch.Tensor:
        if self.resid_mix is None:
            return x
        mix = self.resid_mix.to(x.dtype)
        return mix[0] * x + mix[1] * x0[:, -x.shape[1] :]

    def _scale(self, branch: torch.Tensor, scale: torch.Tensor | None) -> torch.Tensor:
        branch = self.drop(branch)
        return branch if scale is None else branch * scale.to(branch.dtype)


class Product(nn.Module):
    """The head's product with the last states; a module, so that a hook can add to it (eval/document_ttt.py)."""

    def forward(self, x: torch.Tensor, head: torch.Tensor) -> torch.Tensor:  # (…, D), (V, D) -> (…, V)
        return nn.functional.linear(x, head.to(x.dtype))


class GPT(nn.Module):
    # (V, V) true where the tokenizer never puts a token (column) after another (row): data/canonical.py. No weight, and
    # in no state dict: quant.unpack.attach_table makes it from the tokenizer.
    forbidden: torch.Tensor | None

    def __init__(self, config: ModelConfig, made: Callable[[nn.Module], object] = lambda block: None) -> None:
        """`made` gets each block as soon as it is initialised, to shard it before the next one takes memory."""
        super().__init__()
        self.config = config
        self.embedding = Embedding(config)
        self.blocks = nn.ModuleList()
        for layer in range(config.layers):
            block = Block(config, layer)
            self._initialise_block(block)
            made(block)
            self.blocks.append(block)
        self.match = Match(config) if config.match else None
        self.rope = Rotation(config) if config.pos == "rope" else None
        self.norm = Norm(config)
        self.head = None if config.tied else nn.Linear(config.dim, config.vocab_size, bias=False)
        self.product = Product()
        pairs = len(config.order()) // 2
        self.skip_weights = nn.Parameter(torch.ones(pairs, config.dim)) if config.skips != "off" else None
        self.skip_gates = nn.Parameter(torch.zeros(pairs, config.dim)) if config.skips == "gated" else None
        lanes = torch.tensor([1.1, 1.0, 1.0]).repeat(config.layers, 2)  # as PR #1530: of all layers, used or not
        self.lanes = nn.Parameter(lanes) if config.parallel_lanes else None
        self.register_buffer("forbidden", None, persistent=False)
        self.order = config.order()  # the layers that run; a training loop switches loops on by setting it
        self.checkpointing = False  # trade compute for activation memory, block by block
        self.embedding.apply(self._initialise)
        if self.embedding.bigram is not None:  # adds zero at the start, while its table already gets gradients
            nn.init.zeros_(self.embedding.bigram.table.weight)
            with torch.no_grad():
                self.embedding.bigram.proj.weight.mul_(1 / math.sqrt(2 * config.layers))
        if self.head is not None:
            self._initialise(self.head)

    def prepare(self, positions: int) -> None:
        """Make what compiled code is to read and not to make, for rows of so many tokens."""
        if self.rope is not None:
            self.rope.reserve(positions, self.embedding.table.weight)

    def forward(self, tokens: torch.Tensor, cache: Cache | None = None, last: int | None = None) -> torch.Tensor:
        """(B, T) -> (B, T, V); with `last`, (B, last, V) of the last positions."""
        return self.logits(self.trunk(tokens, cache, last), tokens[:, -last:] if last else tokens)

    def trunk(self, tokens: torch.Tensor, cache: Cache | None = None, last: int | None = None) -> torch.Tensor:
        """(B, T) -> (B, T, D): everything before the last norm and the head; with `last`, (B, last, D).

        The last block with attention and those after it can be spared the other positions; blocks before it need them
        as keys and values.
        """
        x: torch.Tensor = self.embedding(tokens, cache)
        length = tokens.shape[1]
        past = tokens  # (B, T_all)
        if cache is not None and cache.tokens is not None:
            past = torch.cat([cache.tokens, tokens], dim=1)
        match = self.match.find(past, length, self.embedding.table) if self.match is not None else None
        if self.match is not None and match is not None:
            x = x + self.match.enter(match)
        if not x.is_meta and torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))  # half the traffic between products; norms widen it
        rope = self.rope(past.shape[1] - length, length, x) if self.rope is not None else None
        mask = make_mask(self.config, past, length)
        first = None
        if self.config.doc_mask and self.config.key_offset:
            first = (tokens == self.config.bos_id)[:, None, :, None]
        given = Given(tokens, x, rope, mask, first, cache)
        pairs = len(self.order) // 2
        saved: list[torch.Tensor] = []  # outputs of the first half, for the second half's skips
        final = self.config.final_attention(self.order)
        lane: torch.Tensor | None = None  # the MLPs' residual stream, once it parts from attention's
        weights: torch.Tensor | None = None
        for step, layer in enumerate(self.order):
            if self.lanes is not None and layer >= (self.config.parallel_from or 0):
                lane = x if lane is None else lane
                weights = self.lanes[layer].view(2, 3)
            if step >= pairs and saved:
                x = self._skip(x, saved.pop(), step - pairs)
            block = self.blocks[layer]
            queries = length if last is None or step < final else last
            if last is not None and step == final:
                given = given._replace(mask=make_mask(self.config, past, last))
            if self.checkpointing and self.training:
                x, lane = checkpoint(block, x, lane, weights, given, step, queries, use_reentrant=False)
            else:
                x, lane = block(x, lane, weights, given, step, queries)
            if self.skip_weights is not None and step < pairs:
                saved.append(x)
        x = x if lane is None else (x + lane) / 2
        if cache is not None:
            cache.tokens = past
        if self.match is not None and match is not None:
            x = x + self.match.leave(match, x.shape[1])
        return x

    def logits(self, x: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """(…, D) and the tokens (…) there -> (…, V) in fp32 or wider: last norm, head, softcap, canonical tokens."""
        z = self._logits(x, self._head())
        if not self.config.canonical:
            return z
        if self.forbidden is None:
            raise ValueError("canonical is true and the model has no table; quant.unpack.attach_table gives it one")
        return z.add(self.forbidden[tokens], alpha=-FORBIDDEN_NATS)

    def loss(self, tokens: torch.Tensor, targets: torch.Tensor, rows: int = 0) -> torch.Tensor:
        """What training minimises, (B, T), (B, T) -> mean nats; with `rows`, that many positions have logits at a time.

        Forbidden tokens count here: to look them up took 14 % of a step of cpu10, and the gain is the score's alone.
        """
        x = self.trunk(tokens)
        if rows:
            return chunked_loss(self.norm(x).flatten(0, 1), self._head(), targets.flatten(), self.config.softcap, rows)
        return nn.functional.cross_entropy(self._logits(x, self._head()).flatten(0, 1), targets.flatten())

    def shortlist_loss(
        self, tokens: torch.Tensor, drawn: torch.Tensor, places: torch.Tensor, log_share: torch.Tensor
    ) -> torch.Tensor:
        """An estimate of `loss` from the logits of the drawn tokens (S,): data/shortlist.py."""
        z = self._logits(self.trunk(tokens), self._head()[drawn]) - log_share
        return nn.functional.cross_entropy(z.flatten(0, 1), places.flatten())

    def _logits(self, x: torch.Tensor, head: torch.Tensor) -> torch.Tensor:
        z: torch.Tensor = self.product(self.norm(x), head)
        z = z.float() if z.dtype in (torch.bfloat16, torch.float16) else z
        cap = self.config.softcap
        return cap * torch.tanh(z / cap) if cap else z

    def _head(self) -> torch.Tensor:
        return self.embedding.table.weight if self.head is None else self.head.weight

    def _skip(self, x: torch.Tensor, saved: torch.Tensor, number: int) -> torch.Tensor:
        assert self.skip_weights is not None
        added = self.skip_weights[number].to(x.dtype) * saved[:, -x.shape[1] :]
        if self.skip_gates is None:
            return x + added
        gate = torch.sigmoid(self.skip_gates[number].to(x.dtype))
        return gate * x + (1 - gate) * added

    @torch.no_grad()
    def _initialise(self, module: nn.Module) -> None:
        config = self.config
        if isinstance(module, nn.Embedding):
            module.weight.normal_(0, config.embed_std)
        elif isinstance(module, nn.Linear):
            if config.init == "normal" or min(module.weight.shape) < 64:
                module.weight.normal_(0, config.init_std)
            elif not module.weight.is_meta:
                nn.init.orthogonal_(module.weight)

    @torch.no_grad()
    def _initialise_block(self, block: Block) -> None:
        block.apply(self._initialise)
        if block.attn is not None and block.attn.values is not None:
            block.attn.values.weight.mul_(0.01 / self.config.embed_std)
        if block.resid_mix is not None:
            block.resid_mix[1] = 0
        if self.config.init == "ortho":
            if block.attn is not None:
                block.attn.out.weight.zero_()
            block.mlp.down.weight.zero_()
