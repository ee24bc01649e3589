"""LONGER in PyTorch, written for speed on a CPU, as a peer to measure against.

Reads one JSON object a line, answers with one: open (config, threads, safetensors file), batch (equal histories, one candidate a
request), logits, step. Fused QKV, block-diagonal attention over up to 64 events for the InnerTransformer, AdamW (foreach),
row-wise Adagrad on the tables (the item table's gradient is sparse), no padding. Gradients are not clipped.
"""
import json
import math
import struct
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint


def read_safetensors(path):
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        data = file.read()
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__" or entry["dtype"] != "F32":
            continue
        begin, end = entry["data_offsets"]
        tensors[name] = torch.from_numpy(np.frombuffer(data[begin:end], np.float32).reshape(entry["shape"]).copy())
    return tensors


class Longer:
    def __init__(self, config, tensors):
        self.c = config
        self.p = {}
        for name, t in tensors.items():
            if ".qkv." not in name:
                self.p[name] = t
        for name in [n for n in tensors if n.endswith(".qkv.query.weight")]:
            stem = name[: -len(".query.weight")]
            for kind, dim in (("weight", 1), ("bias", 0)):
                self.p[f"{stem}.{kind}"] = torch.cat([tensors[f"{stem}.{x}.{kind}"] for x in ("query", "key", "value")], dim)
        for name in list(self.p):
            if name.endswith(".weight"):  # stored [in, out]; F.linear takes [out, in]
                self.p[name] = self.p[name].t().contiguous()
        for t in self.p.values():
            t.requires_grad_(True)
        self.tables = {n: t for n, t in self.p.items() if n.startswith("table.")}
        dense = [(n, t) for n, t in self.p.items() if n not in self.tables]
        self.adamw = torch.optim.AdamW([t for _, t in dense], lr=1e-4, weight_decay=0.01, foreach=True)
        self.squares = {n: torch.zeros(t.shape[0]) for n, t in self.tables.items()}
        self.masks = {}

    def linear(self, name, x):
        return F.linear(x, self.p[f"{name}.weight"], self.p[f"{name}.bias"])

    def norm(self, name, x):
        return F.layer_norm(x.float(), x.shape[-1:], self.p[f"{name}.gain"], self.p[f"{name}.bias"], 1e-5)

    def mlp(self, name, x, layers):
        for i in range(layers):
            x = self.linear(f"{name}.{i}", x)
            if i < layers - 1:
                x = F.gelu(x)
        return x

    def embed(self, name, ids):
        return F.embedding(ids, self.p[f"table.{name}"], sparse=name == "item")

    def attend(self, q, k, v, heads, mask):
        batch, rows, width = q.shape
        size = width // heads
        split = lambda t: t.reshape(batch, t.shape[1], heads, size).transpose(1, 2)
        scores = torch.matmul(split(q) * (1 / math.sqrt(size)), split(k).transpose(2, 3)) + mask
        return torch.matmul(torch.softmax(scores, -1), split(v)).transpose(1, 2).reshape(batch, rows, width)

    def finish(self, name, x, attended):
        x = x + self.linear(f"{name}.out", attended)
        return x + self.linear(f"{name}.ffn.down", F.gelu(self.linear(f"{name}.ffn.up", self.norm(f"{name}.norm2", x))))

    def self_block(self, name, x, heads, mask):
        q, k, v = self.linear(f"{name}.qkv", self.norm(f"{name}.norm1", x)).chunk(3, -1)
        return self.finish(name, x, self.attend(q, k, v, heads, mask))

    def cross_block(self, name, x, pick, heads, mask):
        """Keys from all rows, queries from those picked."""
        width = x.shape[-1]
        n = self.norm(f"{name}.norm1", x)
        w, b = self.p[f"{name}.qkv.weight"], self.p[f"{name}.qkv.bias"]
        k, v = F.linear(n, w[width:], b[width:]).chunk(2, -1)
        q = F.linear(n[:, pick], w[:width], b[:width])
        return self.finish(name, x[:, pick], self.attend(q, k, v, heads, mask))

    def mask(self, kind, make):
        if kind not in self.masks:
            self.masks[kind] = torch.where(make(), 0.0, -math.inf)
        return self.masks[kind]

    def forward(self, b, again=False):
        c = self.c
        block = (lambda f, *a: checkpoint(f, *a, use_reentrant=False)) if again else (lambda f, *a: f(*a))
        requests, length = b["item"].shape
        merge, width, anchors = c["merge"], c["width"] * c["merge"], c["anchors"]
        base = torch.cat([self.embed("item", b["item"]), self.embed(c["tables"]["action"], b["action"])], -1)
        base = base + self.p["table.position"][:length].flip(0)
        x = self.mlp("token", torch.cat([base, self.embed("time_gap", b["bucket"])], -1), 2)

        events = requests * length
        span = max(s for s in range(merge, 65, merge) if events % s == 0)
        flat = x.reshape(events // span, span, c["width"])
        place = torch.arange(span) // merge
        diagonal = self.mask(("inner", span), lambda: place[:, None] == place[None, :])
        inner = flat
        for i in range(c["innerBlocks"]):
            inner = block(self.self_block, f"inner{i}", inner, c["innerHeads"], diagonal)
        history = (flat + inner).reshape(requests, length // merge, width)

        features = torch.cat([self.embed(c["tables"]["segment"], b["segment"]), self.embed(c["tables"]["region"], b["region"]), self.embed(c["tables"]["hour"], b["hour"])], -1)
        user = self.mlp("user_token", features, 2)
        item = self.embed("item", b["candidate"])
        as_event = F.pad(item, (0, self.p["token.0.weight"].shape[1] - item.shape[1]))
        candidate = self.linear("candidate_tile", self.mlp("token", as_event, 2)) + self.mlp("candidate_token", item, 2)
        if anchors:
            front = torch.cat([user[:, None], self.p["cls"].expand(requests, -1, -1)], 1) + self.p["slots"]
            own = candidate[:, None] + self.p["candidate_slots"]
            rows = torch.cat([front, history, own], 1)
        else:
            own = torch.stack([candidate, user], 1) + self.p["candidate_slots"]
            rows = torch.cat([history, own], 1)
        n, m, k = history.shape[1], own.shape[1], min(c["k"], history.shape[1])

        def visible(query, keys):  # stored order; user-side globals see the whole user side
            see = query[:, None] >= torch.arange(keys)[None, :]
            see[:anchors, : keys - m] = True
            return see

        pick = torch.cat([torch.arange(anchors), torch.arange(anchors + n - k, anchors + n + m)])
        x = block(self.cross_block, "layer0", rows, pick, c["heads"], self.mask(("cross", n), lambda: visible(pick, anchors + n + m)))
        total = anchors + k + m
        later = self.mask(("self", k), lambda: visible(torch.arange(total), total))
        for layer in range(1, c["selfLayers"] + 1):
            x = block(self.self_block, f"layer{layer}", x, c["heads"], later)
        out = self.norm("final_norm", x)
        parts = [out[:, anchors + k :].flatten(1), item, out[:, anchors : anchors + k].mean(1)]
        if anchors:
            parts.append(out[:, :anchors].flatten(1))
        return self.mlp("head", torch.cat(parts + [features], -1), 3)[:, 0]

    def step(self, b, precision, again):
        self.adamw.zero_grad(set_to_none=True)
        for t in self.tables.values():
            t.grad = None
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            logits = self.forward(b, again)
        F.binary_cross_entropy_with_logits(logits.float(), b["label"]).backward()
        self.adamw.step()
        with torch.no_grad():
            for name, t in self.tables.items():
                g = t.grad
                if g is None:
                    continue
                if g.is_sparse:
                    g = g.coalesce()
                    ids, values = g.indices()[0], g.values()
                    self.squares[name][ids] += values.square().mean(1)
                    t[ids] -= 0.05 * values / (self.squares[name][ids].sqrt() + 1e-8)[:, None]
                else:
                    self.squares[name] += g.square().mean(1)
                    t -= 0.05 * g / (self.squares[name].sqrt() + 1e-8)[:, None]


def main():
    model, batch = None, None
    for line in sys.stdin:
        ask = json.loads(line)
        if ask["cmd"] == "open":
            torch.set_num_threads(ask["threads"])
            model = Longer(ask["config"], read_safetensors(ask["weights"]))
            answer = {"torch": torch.__version__, "threads": torch.get_num_threads()}
        elif ask["cmd"] == "batch":
            batch = {k: torch.tensor(v, dtype=torch.float32 if k == "label" else torch.int64) for k, v in ask["batch"].items()}
            answer = {}
        elif ask["cmd"] == "logits":
            with torch.no_grad():
                answer = {"logits": model.forward(batch).tolist()}
        elif ask["cmd"] == "step":
            start = time.perf_counter()
            model.step(batch, ask["precision"], ask.get("checkpoint", False))
            answer = {"seconds": time.perf_counter() - start}
        else:
            answer = {"error": "unknown"}
        print(json.dumps(answer), flush=True)


main()
