#!/usr/bin/env python3
"""HF PEFT on PyTorch against peftbench on this machine's CPU, interleaved. See README.md in this folder."""
import argparse
import json
import os
import pathlib
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
import types

ROOT = pathlib.Path(__file__).resolve().parents[2]
os.environ.setdefault("HF_HUB_OFFLINE", "1")
METHODS = ["lora", "dora", "adalora", "dylora", "qlora", "adapter", "full", "head"]
RANK, ALPHA, LR = 8, 16, 1e-3


# --- the data, one file that both sides read ---------------------------------------------------------------------------

def glosses():
    """(definition, lexicographer file number) of every WordNet synset."""
    for part in ("noun", "verb", "adj", "adv"):
        with open(f"/usr/share/wordnet/data.{part}", encoding="utf-8") as f:
            for line in f:
                if line.startswith("  "):
                    continue
                head, gloss = line.split("|", 1)
                text = re.split(r'; "', gloss.strip())[0].strip()
                if text:
                    yield text, head.split()[1]


def write_split(folder, name, rows):
    with open(f"{folder}/{name}.jsonl", "w", encoding="utf-8") as f:
        for text, label in rows:
            f.write(json.dumps({"text": text, "label": label}) + "\n")


def make_data(kind, tokenizer, folder, n):
    rng = random.Random(1)
    rows = list(glosses())
    rng.shuffle(rows)
    if kind == "equal":  # every text 30 single-token words: 32 tokens with the special ones, nobody pads
        words = [w for w, i in sorted(tokenizer.get_vocab().items(), key=lambda x: x[1]) if w.isalpha() and len(w) > 3]
        words = words[:4000]
        labels = sorted({label for _, label in rows})
        rows = [(" ".join(rng.choice(words) for _ in range(30)), rng.choice(labels)) for _ in range(n + 200)]
    os.makedirs(folder, exist_ok=True)
    train = rows[:n]
    known = {label for _, label in train}
    rest = [r for r in rows[n:n + 200] if r[1] in known]
    write_split(folder, "train", train)
    write_split(folder, "valid", rest[:60])
    write_split(folder, "test", rest[60:120])
    return train


# --- peftbench -----------------------------------------------------------------------------------------------------------

OURS = {"lora": {"rank": RANK, "alpha": ALPHA}, "dora": {"rank": RANK, "alpha": ALPHA},
        "adalora": {"init_rank": 12, "target_rank": RANK, "alpha": ALPHA}, "dylora": {"rank": RANK, "alpha": ALPHA},
        "qlora": {"rank": RANK, "alpha": ALPHA}, "adapter": {"size": 64}, "full": {}, "head": {}}


def ours(args, method, dtype, folder, seed):
    with tempfile.TemporaryDirectory() as out:
        suite = {"title": "peer", "model": args.model, "data": {"dir": folder, "max_len": args.max_len}, "dtype": dtype,
                 "seeds": [seed], "train": {"steps": args.steps, "batch": args.batch, "clip": 1.0},
                 "eval": {"batch": 64, "train_examples": 16, "infer_repeats": 1},
                 "runs": [{"label": method, "method": method, "lr": LR, "params": OURS[method]}]}
        path = f"{out}/peer.json"
        with open(path, "w") as f:
            json.dump(suite, f)
        cmd = [str(ROOT / "build/peftbench"), "run", path, "--threads", str(args.threads), "--out", f"{out}/r", "--no-report"]
        done = subprocess.run(cmd, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{' '.join(cmd)}\n{done.stderr}")
        record = json.load(open(next(pathlib.Path(f"{out}/r").rglob("record.json"))))
    metrics = {m["tag"]: m["value"] for m in record["metrics"]}
    return metrics["time/step/median"], metrics


# --- HF PEFT ---------------------------------------------------------------------------------------------------------------

def build_peer(method, dtype, args, classes):
    import torch
    import torch.nn as nn
    from peft import AdaLoraConfig, LoraConfig, get_peft_model
    from transformers import AutoModel
    torch.manual_seed(0)
    kw = {"attn_implementation": "sdpa"}
    if method == "qlora":
        from transformers import BitsAndBytesConfig
        kw["quantization_config"] = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4",
                                                       bnb_4bit_use_double_quant=True,
                                                       bnb_4bit_compute_dtype=torch.bfloat16 if dtype != "f32" else torch.float32)
    kw["dtype"] = torch.bfloat16 if dtype == "bf16-weights" else torch.float32
    base = AutoModel.from_pretrained(args.model, add_pooling_layer=False, **kw)
    targets = r".*layer\.\d+\.(attention\.self\.(query|key|value)|attention\.output\.dense|intermediate\.dense|output\.dense)"
    if method in ("lora", "qlora"):
        base = get_peft_model(base, LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=targets))
    elif method == "dora":
        base = get_peft_model(base, LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=targets, use_dora=True))
    elif method == "adalora":
        base = get_peft_model(base, AdaLoraConfig(init_r=12, target_r=RANK, lora_alpha=ALPHA, total_step=10000, tinit=5,
                                                  tfinal=100, deltaT=1, target_modules=targets))
    elif method == "dylora":
        base.requires_grad_(False)
        replace_linears(base, targets, lambda lin: DyLoRA(lin))
    elif method == "adapter":
        base.requires_grad_(False)
        for layer in base.encoder.layer:
            layer.attention.output.dropout = Bottleneck(layer.attention.output.dropout, 384, 64)
            layer.output.dropout = Bottleneck(layer.output.dropout, 384, 64)
        for name, p in base.named_parameters():
            if "LayerNorm" in name:
                p.requires_grad_(True)
    elif method == "head":
        base.requires_grad_(False)
    head = nn.Linear(384, classes)

    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.base, self.head, self.drop = base, head, nn.Dropout(0.1)

        def forward(self, ids, mask, labels):
            h = self.base(input_ids=ids, attention_mask=mask).last_hidden_state
            m = mask.unsqueeze(-1).to(h.dtype)
            pooled = (h * m).sum(1) / m.sum(1)
            logits = self.head(self.drop(pooled).to(self.head.weight.dtype))
            loss = nn.functional.cross_entropy(logits.float(), labels)
            return types.SimpleNamespace(loss=loss, logits=logits)

    return Classifier().train()


def replace_linears(model, pattern, make):
    import torch.nn as nn
    for path, module in list(model.named_modules()):
        if isinstance(module, nn.Linear) and re.fullmatch(pattern, path):
            parent, leaf = path.rsplit(".", 1)
            setattr(model.get_submodule(parent), leaf, make(module))


def DyLoRA(linear):
    import torch
    import torch.nn as nn
    import torch.nn.functional as F

    class Module(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = linear
            self.a = nn.Parameter(torch.randn(RANK, linear.in_features) * 0.02)
            self.b = nn.Parameter(torch.zeros(linear.out_features, RANK))

        def forward(self, x):
            n = DyLoRA.rank
            a = torch.cat([self.a[:n - 1].detach(), self.a[n - 1:n]])
            b = torch.cat([self.b[:, :n - 1].detach(), self.b[:, n - 1:n]], dim=1)
            return self.linear(x) + (ALPHA / n) * F.linear(F.linear(x, a.to(x.dtype)), b.to(x.dtype))

    return Module()


def Bottleneck(drop, d, m):
    import torch.nn as nn

    class Module(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop, self.down, self.up, self.act = drop, nn.Linear(d, m), nn.Linear(m, d), nn.GELU(approximate="tanh")
            nn.init.normal_(self.down.weight, std=1e-3)
            nn.init.normal_(self.up.weight, std=1e-3)

        def forward(self, h):
            h = self.drop(h)
            return h + self.up(self.act(self.down(h.to(self.down.weight.dtype)))).to(h.dtype)

    return Module()


class Peer:
    def __init__(self, method, dtype, args, batches, classes):
        import torch
        self.torch, self.method, self.dtype, self.batches = torch, method, dtype, batches
        self.model = build_peer(method, dtype, args, classes)
        params = [p for p in self.model.parameters() if p.requires_grad]
        self.params, self.step_no = params, 0
        self.optimizer = torch.optim.AdamW(params, lr=LR, weight_decay=0.01)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda s: max(0.0, 1 - s / 10000))

    def step(self):
        torch = self.torch
        ids, mask, labels = self.batches[self.step_no % len(self.batches)]
        start = time.perf_counter()
        if self.method == "dylora":
            DyLoRA.rank = 1 + self.step_no % RANK
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.dtype == "bf16-autocast"):
            loss = self.model(ids, mask, labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.params, 1.0)
        self.optimizer.step()
        if self.method == "adalora":
            self.model.base.base_model.update_and_allocate(self.step_no)
        self.schedule.step()
        self.optimizer.zero_grad()
        self.step_no += 1
        return time.perf_counter() - start


def peer_batches(rows, tokenizer, args):
    import torch
    labels = sorted({label for _, label in rows})
    order = list(range(len(rows)))
    random.Random(2).shuffle(order)
    out = []
    for i in range(0, len(order) - args.batch + 1, args.batch):
        chunk = [rows[j] for j in order[i:i + args.batch]]
        enc = tokenizer([t for t, _ in chunk], truncation=True, max_length=args.max_len, padding=True, return_tensors="pt")
        out.append((enc["input_ids"], enc["attention_mask"], torch.tensor([labels.index(l) for _, l in chunk])))
    return out, len(labels)


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("--model", default=str(ROOT / ".cache/models/all-MiniLM-L6-v2"))
    ap.add_argument("--methods", default=",".join(METHODS))
    ap.add_argument("--dtypes", default="f32,bf16")
    ap.add_argument("--kinds", default="real,equal")
    ap.add_argument("--rounds", type=int, default=3)
    ap.add_argument("--steps", type=int, default=24)
    ap.add_argument("--batch", type=int, default=32)
    ap.add_argument("--max-len", type=int, default=64, dest="max_len")
    ap.add_argument("--threads", type=int, default=os.cpu_count())
    ap.add_argument("--json", help="also write the figures here")
    args = ap.parse_args()

    import torch
    import transformers
    import peft
    from transformers import AutoTokenizer
    torch.set_num_threads(args.threads)
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, peft {peft.__version__}, "
          f"{args.threads} threads, batch {args.batch}, rank {RANK}, every linear layer targeted", flush=True)
    print("kind   dtype method    peft ms  (way)            peftbench ms   ratio  [min, max over rounds]", flush=True)
    results = []
    with tempfile.TemporaryDirectory() as tmp:
        for kind in args.kinds.split(","):
            folder = f"{tmp}/{kind}"
            rows = make_data(kind, tokenizer, folder, args.batch * args.steps * 2)
            batches, classes = peer_batches(rows, tokenizer, args)
            for dtype in args.dtypes.split(","):
                for method in args.methods.split(","):
                    ways = ["f32"] if dtype == "f32" else ["bf16-autocast", "bf16-weights"]
                    peers = {}
                    for way in ways:
                        try:
                            peers[way] = Peer(method, way, args, batches, classes)
                            for _ in range(4):
                                peers[way].step()
                        except Exception as e:  # a way PyTorch cannot go on a CPU is said, not hidden
                            peers.pop(way, None)
                            print(f"# {method} {way}: PyTorch cannot: {str(e).splitlines()[0][:110]}", flush=True)
                    mine, theirs, metrics = [], {w: [] for w in peers}, {}
                    for r in range(args.rounds):
                        t, metrics = ours(args, method, dtype, folder, r + 1)
                        mine.append(t)
                        for way, peer in peers.items():
                            theirs[way].append(statistics.median(peer.step() for _ in range(args.steps)))
                    row = {"kind": kind, "dtype": dtype, "method": method, "peftbench_s": mine, "peft_s": theirs}
                    if theirs:
                        best = min(theirs, key=lambda w: statistics.median(theirs[w]))
                        ratios = [p / m for p, m in zip(theirs[best], mine)]
                        row.update(best=best, ratio=statistics.median(ratios))
                        print(f"{kind:6} {dtype:5} {method:8} {1e3 * statistics.median(theirs[best]):8.1f}  {best:15} "
                              f"{1e3 * statistics.median(mine):13.1f} {row['ratio']:7.2f}  "
                              f"[{min(ratios):.2f}, {max(ratios):.2f}]", flush=True)
                    else:
                        print(f"{kind:6} {dtype:5} {method:8}        -  none            {1e3 * statistics.median(mine):13.1f}",
                              flush=True)
                    results.append(row)
    if args.json:
        with open(args.json, "w") as f:
            json.dump({"torch": torch.__version__, "peft": peft.__version__, "threads": args.threads, "batch": args.batch,
                       "rows": results}, f, indent=1)


if __name__ == "__main__":
    main()
