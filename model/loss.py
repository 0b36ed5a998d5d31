"""Cross-entropy without the full logits: the head and the loss a few positions at a time, gradients made on the way.

    loss = chunked_loss(x, weight, targets, softcap, rows)      x (N, D), weight (V, D), targets (N) -> mean nats

The logits of N positions take 4·N·V bytes, and their softmax and gradient as much again: at V = 65,536 more than the
rest of the model together. Here only `rows` of them exist at a time. A chunk's gradients are made while its logits are
at hand, so that nothing is computed twice; the price is one more gradient of `weight` and of `x` in memory until
backward. Equal to the plain loss to rounding. The plain loss stays in GPT.loss: it is faster where logits are small.
"""

from typing import Any

import torch
from torch import Tensor, nn


def chunked_loss(x: Tensor, weight: Tensor, targets: Tensor, softcap: float, rows: int) -> Tensor:
    """Mean nats of `targets` under softmax(softcap(x @ weight.T))."""
    loss: Tensor = _ChunkedLoss.apply(x, weight, targets, softcap, rows)  # type: ignore[no-untyped-call]
    return loss


class _ChunkedLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, targets: Tensor, softcap: float, rows: int) -> Tensor:
        learning = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        wide = torch.promote_types(x.dtype, torch.float32)  # sums over chunks
        nats = torch.zeros((), dtype=wide, device=x.device)
        x_grad = torch.empty_like(x) if learning else None
        weight_grad = torch.zeros(weight.shape, dtype=wide, device=x.device) if learning else None
        for begin in range(0, len(x), rows):
            part = x[begin : begin + rows]
            chosen = targets[begin : begin + rows, None]
            raw = nn.functional.linear(part, weight.to(part.dtype))  # (rows, V); under autocast in less than x's width
            z = raw.to(wide)
            if softcap:
                z = z.div_(softcap).tanh_().mul_(softcap)
            total = torch.logsumexp(z, dim=-1, keepdim=True)
            nats += (total - z.gather(1, chosen)).sum()
            if x_grad is None or weight_grad is None:
                continue
            slope = torch.sub(z, total).exp_()  # the softmax; less one at the target: d nats / d z
            slope.scatter_add_(1, chosen, -torch.ones_like(total))
            if softcap:
                slope.mul_(z.div_(softcap).square_().neg_().add_(1))  # through tanh
            slope = slope.div_(len(x)).to(raw.dtype)
            x_grad[begin : begin + rows] = slope @ weight.to(raw.dtype)
            if raw.dtype == wide:
                weight_grad.addmm_(slope.T, part)  # no copy of V x D for each chunk
            else:
                weight_grad += slope.T @ part.to(raw.dtype)
        ctx.save_for_backward(x_grad, None if weight_grad is None else weight_grad.to(weight.dtype))
        return nats / len(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        x_grad, weight_grad = ctx.saved_tensors
        return x_grad * grads[0].to(x_grad.dtype), weight_grad * grads[0].to(weight_grad.dtype), None, None, None
