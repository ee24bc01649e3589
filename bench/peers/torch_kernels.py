"""Single kernels in PyTorch on a GPU, as peers and roofs: the cases of bench/native/gpu by the same names, and a large product (gemm).

Reads one JSON object a line, {"case", "tiny"}, answers {"seconds": {way: seconds of one run}} with the ways in which PyTorch has it: eager,
compile, sdpa (the best of the fused scaled_dot_product_attention kernels that takes the mask). tiny: small shapes, on the CPU where no GPU is.
"""
import json
import math
import sys
import time

import torch
import torch.nn.functional as F

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def rand(*shape, grad=False):
    return torch.randn(*shape, device=DEVICE, dtype=torch.bfloat16, requires_grad=grad)


def seconds_of(run, tiny):
    """The median of five times, each of as many runs as take about 50 ms."""

    def timed(runs):
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(runs):
            run()
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - start) / runs

    timed(1)
    if tiny:
        return timed(1)
    timed(3)
    runs = max(1, int(0.05 / max(1e-6, timed(2))))
    return sorted(timed(runs) for _ in range(5))[2]


def gemm(tiny):
    n = 64 if tiny else 8192
    a, b = rand(n, n), rand(n, n)
    return {"eager": lambda: a @ b}


def attention(requests, rows, keys, heads, head, backward):
    """The last `rows` of `keys` as queries; a square causal one by its flag, any other by a mask of booleans."""
    q, k, v = rand(requests, heads, rows, head, grad=backward), rand(requests, heads, keys, head, grad=backward), rand(requests, heads, keys, head, grad=backward)
    causal = rows == keys
    mask = None if causal else torch.arange(keys, device=DEVICE)[None, :] <= torch.arange(keys - rows, keys, device=DEVICE)[:, None]
    forward = lambda: F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
    if not backward:
        return {"sdpa": forward}
    out = forward()
    d_out = torch.randn_like(out)
    return {"sdpa": lambda: torch.autograd.grad(out, (q, k, v), d_out, retain_graph=True)}


def linear(rows, inner, columns):
    x, w, b = rand(rows, inner), rand(columns, inner), rand(columns)
    run = lambda: F.gelu(F.linear(x, w, b))
    return {"eager": run, "compile": torch.compile(run), "cublas": lambda: F.linear(x, w, b)}  # the last without GELU


def inner_block(tokens, backward):
    d, group, heads = 32, 8, 4
    x = rand(tokens, d)
    gamma, beta = rand(d), rand(d)
    qkv, out, up, down = rand(3 * d, d), rand(d, d), rand(4 * d, d), rand(d, 4 * d)

    def run():
        n = F.layer_norm(x, (d,), gamma, beta)
        q, k, v = (t.reshape(-1, group, heads, d // heads).transpose(1, 2) for t in F.linear(n, qkv).chunk(3, -1))
        p = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(d // heads), -1)
        y = x + F.linear((p @ v).transpose(1, 2).reshape(-1, d), out)
        return y + F.linear(F.gelu(F.linear(F.layer_norm(y, (d,), gamma, beta), up)), down)

    if not backward:
        return {"eager": run, "compile": torch.compile(run)}
    leaves = [t.requires_grad_() for t in (x, gamma, beta, qkv, out, up, down)]
    d_y = rand(tokens, d)

    def gradient_of(forward):
        y = forward()
        return lambda: torch.autograd.grad(y, leaves, d_y, retain_graph=True)

    return {"eager": gradient_of(run), "compile": gradient_of(torch.compile(run))}


def embedding_backward(uses, rows):
    width = 32
    ids = torch.randint(rows, (uses,), device=DEVICE)
    dy = rand(uses, width)
    table, sums = torch.randn(rows, width, device=DEVICE), torch.zeros(rows, device=DEVICE)

    def run():
        at, where = torch.unique(ids, return_inverse=True)
        g = torch.zeros(len(at), width, device=DEVICE).index_add_(0, where, dy.float())
        sums[at] += g.square().mean(1)
        table[at] -= 0.05 * g / (sums[at].sqrt() + 1e-8)[:, None]

    return {"eager": run}


def case(name, tiny):
    if name == "gemm":
        return gemm(tiny)
    if name in ("attention-p", "attention-p-backward"):
        shape = (2, 12, 25, 2, 16) if tiny else (1024, 108, 250, 4, 64)
        return attention(*shape, name.endswith("backward"))
    if name.startswith("attention-4096-"):
        head = int(name.rsplit("-", 1)[1])
        return attention(*((1, 70, 70, 1, head) if tiny else (4, 4096, 4096, 16, head)), False)
    if name.startswith("linear-"):
        width = int(name.rsplit("-", 1)[1])
        return linear(*((40, 16, 16) if tiny else (262144, width, width)))
    if name in ("inner-forward", "inner-backward"):
        return inner_block(24 if tiny else 2048000, name.endswith("backward"))
    if name == "embedding-backward":
        return embedding_backward(*((50, 20) if tiny else (2048000, 1000000)))
    raise ValueError(f"no case {name}")


def main():
    for line in sys.stdin:
        ask = json.loads(line)
        try:
            with torch.set_grad_enabled(ask["case"].endswith("backward") and ask["case"].startswith("attention")):
                answer = {"seconds": {way: seconds_of(run, ask["tiny"]) for way, run in case(ask["case"], ask["tiny"]).items()}}
        except Exception as error:  # what PyTorch cannot do is told, not a failure of ours
            answer = {"error": f"{type(error).__name__}: {str(error)[:300]}"}
        print(json.dumps(answer), flush=True)


main()
