"""LONGER in PyTorch, written for speed on a CPU, as a peer to measure against; "device": "cuda" runs the same on a GPU, "compile" through torch.compile.

Reads one JSON object a line, answers with one: open (config, threads, safetensors file), batch (one candidate a request), logits,
step, peak. Fused QKV with the scale folded in, attention by baddbmm over the mask, block-diagonal attention over several groups
for the InnerTransformer, narrow and cat in place of indexing, AdamW (foreach), row-wise Adagrad on the tables (the item table's
gradient is sparse, those of a few rows are a product). Ragged histories are packed up to the merge; merged rows are padded in
front and masked. Gradients are not clipped.
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
    def __init__(self, config, tensors, device="cpu", compiled=False):
        self.c = config
        self.device = device
        self.compiled = compiled
        self.p = {}
        for name, t in tensors.items():
            if ".qkv." not in name:
                self.p[name] = t
        for name in [n for n in tensors if n.endswith(".qkv.query.weight")]:
            stem = name[: -len(".query.weight")]
            for kind, dim in (("weight", 1), ("bias", 0)):
                self.p[f"{stem}.{kind}"] = torch.cat([tensors[f"{stem}.{x}.{kind}"] for x in ("query", "key", "value")], dim)
            heads = config["innerHeads"] if stem.startswith("inner") else config["heads"]
            width = tensors[name].shape[0]
            for kind in ("weight", "bias"):
                self.p[f"{stem}.{kind}"][..., :width] *= 1 / math.sqrt(width // heads)
        for name in list(self.p):
            if name.endswith(".weight"):  # stored [in, out]; F.linear takes [out, in]
                self.p[name] = self.p[name].t().contiguous()
        self.p = {name: t.to(device) for name, t in self.p.items()}
        for t in self.p.values():
            t.requires_grad_(True)
        self.tables = {n: t for n, t in self.p.items() if n.startswith("table.")}
        dense = [(n, t) for n, t in self.p.items() if n not in self.tables]
        self.adamw = torch.optim.AdamW([t for _, t in dense], lr=1e-4, weight_decay=0.01, foreach=True)
        self.squares = {n: torch.zeros(t.shape[0], device=device) for n, t in self.tables.items()}

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
        table = self.p[f"table.{name}"]
        if ids.dtype == torch.float32:  # one-hot rows: the gradient of a table of few rows is a product
            return ids @ table
        return F.embedding(ids, table, sparse=name == "item" and not self.compiled)  # torch.compile has no sparse gradients

    def attend(self, q, k, v, heads, mask):
        """q, k, v of [batch, rows, width]; mask [rows, keys] or [batch * heads, rows, keys]. The scale is in the query's weights."""
        batch, rows, width = q.shape
        size = width // heads
        split = lambda t: t.reshape(batch, t.shape[1], heads, size).transpose(1, 2).reshape(batch * heads, t.shape[1], size)
        scores = torch.baddbmm(mask.to(q.dtype).expand(batch * heads, rows, k.shape[1]), split(q), split(k).transpose(1, 2))
        return torch.bmm(torch.softmax(scores, -1), split(v)).reshape(batch, heads, rows, size).transpose(1, 2).reshape(batch, rows, width)

    def finish(self, name, x, attended):
        x = x + self.linear(f"{name}.out", attended)
        return x + self.linear(f"{name}.ffn.down", F.gelu(self.linear(f"{name}.ffn.up", self.norm(f"{name}.norm2", x))))

    def self_block(self, name, x, heads, mask):
        q, k, v = self.linear(f"{name}.qkv", self.norm(f"{name}.norm1", x)).chunk(3, -1)
        return self.finish(name, x, self.attend(q, k, v, heads, mask))

    def cross_block(self, name, x, anchors, recent, heads, mask):
        """Keys from all rows, queries from the first `anchors` and the last `recent`."""
        width = x.shape[-1]
        pick = lambda t: torch.cat([t.narrow(1, 0, anchors), t.narrow(1, t.shape[1] - recent, recent)], 1) if anchors else t.narrow(1, t.shape[1] - recent, recent)
        n = self.norm(f"{name}.norm1", x)
        w, b = self.p[f"{name}.qkv.weight"], self.p[f"{name}.qkv.bias"]
        k, v = F.linear(n, w[width:], b[width:]).chunk(2, -1)
        q = F.linear(pick(n), w[:width], b[:width])
        return self.finish(name, pick(x), self.attend(q, k, v, heads, mask))

    def prepare(self, lists, longest):
        """A batch's tensors, masks and places; ragged where lengths differ. Nothing of it counts as the step's time."""
        c = self.c
        merge, anchors, heads = c["merge"], c["anchors"], c["heads"]
        lengths = [len(x) for x in lists["item"]]
        groups = [-(-n // merge) for n in lengths]
        most, total = max(groups), sum(groups) * merge
        span = max(s for s in range(merge, longest + 1, merge) if total % s == 0)
        flat = lambda name: torch.tensor([x for row, n, g in zip(lists[name], lengths, groups) for x in [0] * (g * merge - n) + row])
        hot = lambda name, table: F.one_hot(flat(name), self.p[f"table.{table}"].shape[0]).float()
        position = torch.tensor([max(0, g * merge - 1 - i) if i >= g * merge - n else 0 for n, g in zip(lengths, groups) for i in range(g * merge)])
        b = {"item": flat("item"), "action": hot("action", c["tables"]["action"]), "bucket": hot("bucket", "time_gap"), "position": position, "span": span, "most": most,
             "label": torch.tensor(lists["label"], dtype=torch.float32), **{k: torch.tensor(lists[k]) for k in ("segment", "region", "hour", "candidate")}}
        place = torch.arange(span) // merge
        inner = place[:, None] == place[None, :]
        ragged = len(set(lengths)) > 1 or lengths[0] % merge > 0
        b["valid"], b["spread"] = None, None
        if ragged:
            real = torch.tensor([i >= g * merge - n for n, g in zip(lengths, groups) for i in range(g * merge)])
            b["valid"] = real.float()[:, None]
            rows = real.reshape(-1, span)
            inner = inner[None] & (rows[:, None, :] | ~rows[:, :, None])
            inner = inner.repeat_interleave(c["innerHeads"], 0)
            b["spread"] = torch.tensor([r * most + most - g + i for r, g in enumerate(groups) for i in range(g)])
        requests, own = len(lengths), 1 if anchors else 2
        k = min(c["k"], most)
        there = torch.ones(requests, anchors + most + own, dtype=torch.bool)
        for r, g in enumerate(groups):
            there[r, anchors : anchors + most - g] = False

        def visible(query, there):  # stored order; user-side globals see the whole user side; padding sees itself
            keys = there.shape[1]
            see = query[:, None] >= torch.arange(keys)[None, :]
            see[:anchors, : keys - own] = True
            if not ragged:
                return see[None]
            same = query[:, None] == torch.arange(keys)[None, :]
            return ((see[None] & there[:, None, :]) | same[None]).repeat_interleave(heads, 0)

        pick = torch.cat([torch.arange(anchors), torch.arange(anchors + most - k, anchors + most + own)])
        additive = lambda see: torch.where(see, 0.0, -math.inf)
        b["inner"], b["cross"], b["self"] = additive(inner), additive(visible(pick, there)), additive(visible(torch.arange(len(pick)), there[:, pick]))
        b["pool"] = (there[:, anchors + most - k : anchors + most] / torch.tensor(groups).clamp(max=k)[:, None])[:, None]
        return {name: x.to(self.device) if isinstance(x, torch.Tensor) else x for name, x in b.items()}

    def forward(self, b, again=False):
        c = self.c
        block = (lambda f, *a: checkpoint(f, *a, use_reentrant=False)) if again else (lambda f, *a: f(*a))
        requests = b["candidate"].shape[0]
        merge, width, anchors = c["merge"], c["width"] * c["merge"], c["anchors"]
        base = torch.cat([self.embed("item", b["item"]), self.embed(c["tables"]["action"], b["action"])], -1)
        base = base + (self.embed("position", b["position"]) if b["valid"] is not None else self.p["table.position"][: b["most"] * merge].flip(0).repeat(requests, 1))
        x = self.mlp("token", torch.cat([base, self.embed("time_gap", b["bucket"])], -1), 2)

        flat = x.reshape(-1, b["span"], c["width"])
        inner = flat
        for i in range(c["innerBlocks"]):
            inner = block(self.self_block, f"inner{i}", inner, c["innerHeads"], b["inner"])
        history = (flat + inner).reshape(-1, c["width"])
        if b["valid"] is None:
            history = history.reshape(requests, b["most"], width)
        else:
            history = (history * b["valid"]).reshape(-1, width)
            history = history.new_zeros(requests * b["most"], width).index_copy(0, b["spread"], history).reshape(requests, b["most"], width)

        of_user = torch.cat([self.embed(c["tables"]["segment"], b["segment"]), self.embed(c["tables"]["region"], b["region"])], -1)
        of_context = self.embed(c["tables"]["hour"], b["hour"])
        user = self.mlp("user_token", torch.cat([of_user, of_context], -1), 2)
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
        m, k = own.shape[1], min(c["k"], b["most"])
        x = block(self.cross_block, "layer0", rows, anchors, k + m, c["heads"], b["cross"])
        for layer in range(1, c["selfLayers"] + 1):
            x = block(self.self_block, f"layer{layer}", x, c["heads"], b["self"])
        out = self.norm("final_norm", x)
        parts = [out[:, anchors + k :].flatten(1), self.norm("head.candidate_norm", item), torch.bmm(b["pool"], out[:, anchors : anchors + k])[:, 0]]
        if anchors:
            parts.append(out[:, :anchors].flatten(1))
        return self.mlp("head", torch.cat(parts + [self.norm("head.user_norm", of_user), self.norm("head.context_norm", of_context)], -1), 3)[:, 0]

    def step(self, b, precision, again=False):
        self.adamw.zero_grad(set_to_none=True)
        for t in self.tables.values():
            t.grad = None
        with torch.autocast(self.device, torch.bfloat16, enabled=precision == "bf16"):
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


def memory(field):
    with open("/proc/self/status") as status:
        return next(1024 * int(line.split()[1]) for line in status if line.startswith(field))


def main():
    model, batches = None, {}
    for line in sys.stdin:
        ask = json.loads(line)
        if ask["cmd"] == "open":
            torch.set_num_threads(ask["threads"])
            model = Longer(ask["config"], read_safetensors(ask["weights"]), ask.get("device", "cpu"), ask.get("compile", False))
            if model.compiled:
                model.forward = torch.compile(model.forward)
            answer = {"torch": torch.__version__, "threads": torch.get_num_threads()}
        elif ask["cmd"] == "batch":
            batches[ask["name"]] = model.prepare(ask["batch"], ask["span"])
            answer = {}
        elif ask["cmd"] == "logits":
            with torch.no_grad():
                answer = {"logits": model.forward(batches[ask["name"]]).tolist()}
        elif ask["cmd"] == "step":
            start = time.perf_counter()
            model.step(batches[ask["name"]], ask["precision"])
            if model.device == "cuda":
                torch.cuda.synchronize()
            answer = {"seconds": time.perf_counter() - start}
        elif ask["cmd"] == "peak":  # bytes by which the process grows at its highest in its second step
            model.step(batches[ask["name"]], ask["precision"], True)  # optimizer state and libraries are there after it
            before = memory("VmRSS")
            with open("/proc/self/clear_refs", "w") as reset:
                reset.write("5")
            model.step(batches[ask["name"]], ask["precision"], ask["checkpoint"])
            answer = {"bytes": memory("VmHWM") - before}
        else:
            answer = {"error": "unknown"}
        print(json.dumps(answer), flush=True)


main()
