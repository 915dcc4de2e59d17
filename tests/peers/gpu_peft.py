#!/usr/bin/env python3
"""HF PEFT on this GPU against peftbench, interleaved: same shape, rank, targets, batch, length, dtype; the step alone.

Random weights from a config, so nothing is downloaded. Eager with SDPA, and torch.compile. QLoRA needs bitsandbytes. What
cannot be imported is not run (exit status 77 when torch, transformers or peft is missing). See README.md in this folder."""
import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")
missing = [m for m in ("torch", "transformers", "peft") if importlib.util.find_spec(m) is None]
if missing:
    print("not importable: " + ", ".join(missing))
    sys.exit(77)

import torch  # noqa: E402
from peft import AdaLoraConfig, LoraConfig, get_peft_model  # noqa: E402
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig  # noqa: E402

LLAMA3 = {"rope_theta": 500000.0, "rms_norm_eps": 1e-5, "vocab_size": 128256, "max_position_embeddings": 8192}
SHAPES = {
    "gpt2-124m": GPT2Config(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0),
    "llama-3.2-1b": LlamaConfig(hidden_size=2048, num_hidden_layers=16, num_attention_heads=32, num_key_value_heads=8,
                                intermediate_size=8192, tie_word_embeddings=True, **LLAMA3),
    "llama-3.2-3b": LlamaConfig(hidden_size=3072, num_hidden_layers=28, num_attention_heads=24, num_key_value_heads=8,
                                intermediate_size=8192, tie_word_embeddings=True, **LLAMA3),
    "llama-3.1-8b": LlamaConfig(hidden_size=4096, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=8,
                                intermediate_size=14336, **LLAMA3),
}
LINEARS = {"gpt2-124m": ["c_attn", "c_proj", "c_fc"]}
LLAMA_LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def quantized(model):
    """Every linear layer of the decoder in NF4 with double quantisation, as bitsandbytes' loader would make it."""
    import bitsandbytes as bnb
    for name, module in list(model.named_modules()):
        if not isinstance(module, torch.nn.Linear) or name.endswith("lm_head"):
            continue
        new = bnb.nn.Linear4bit(module.in_features, module.out_features, bias=module.bias is not None,
                                compute_dtype=torch.bfloat16, compress_statistics=True, quant_type="nf4")
        new.weight = bnb.nn.Params4bit(module.weight.data.cpu(), requires_grad=False, compress_statistics=True,
                                       quant_type="nf4", module=new)
        parent = model.get_submodule(name.rpartition(".")[0])
        setattr(parent, name.rpartition(".")[2], new.cuda())
    return model


def build(args, method):
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        model = AutoModelForCausalLM.from_config(SHAPES[args.shape], attn_implementation="sdpa")
    torch.set_default_dtype(torch.float32)
    model.config.use_cache = False
    if method == "full":
        return model.train()
    if method == "qlora":
        model = quantized(model)
    targets = LINEARS.get(args.shape, LLAMA_LINEARS)
    if method == "adalora":
        config = AdaLoraConfig(init_r=args.rank, target_r=args.rank - args.rank // 3, lora_alpha=2 * args.rank, total_step=10000,
                               tinit=5, tfinal=100, target_modules=targets)
    else:
        config = LoraConfig(r=args.rank, lora_alpha=2 * args.rank, target_modules=targets, use_dora=method == "dora")
    return get_peft_model(model, config).train()


class Peer:
    """One model and its optimizer; step() is forward, backward, clipping and AdamW."""

    def __init__(self, args, method, compiled):
        self.model = build(args, method)
        self.weights = [p for p in self.model.parameters() if p.requires_grad]
        self.optim = torch.optim.AdamW(self.weights, lr=1e-6, fused=True)
        self.run = torch.compile(self.model) if compiled else self.model
        self.adalora = method == "adalora"
        self.ids = torch.randint(0, SHAPES[args.shape].vocab_size, (args.batch, args.max_len), device="cuda")
        self.count = 0

    def step(self):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        self.optim.zero_grad(set_to_none=True)
        self.run(input_ids=self.ids, labels=self.ids).loss.backward()
        torch.nn.utils.clip_grad_norm_(self.weights, 1.0)
        self.optim.step()
        if self.adalora:
            self.model.base_model.update_and_allocate(self.count)
        self.count += 1
        end.record()
        torch.cuda.synchronize()
        return begin.elapsed_time(end) / 1e3


def ours(args, method):
    params = {"adalora": {"init_rank": args.rank, "target_rank": args.rank - args.rank // 3}, "full": {}}.get(
        method, {"rank": args.rank, "alpha": 2 * args.rank})
    cmd = [args.bench, "bench", "step", "--device", "cuda", "--shape", args.shape, "--methods", method, "--params",
           json.dumps(params), "--dtype", "bf16", "--batch", str(args.batch), "--max-len", str(args.max_len),
           "--steps", str(args.steps), "--warmup", "3", "--format", "json"]
    done = subprocess.run(cmd, capture_output=True, text=True)
    if done.returncode != 0:
        return None, done.stderr.strip().splitlines()[-1:]
    row = json.loads(done.stdout)[0]
    return row, None


def measure(args, method, compiled):
    """Rounds of both sides in turns; the median of all steps of a side."""
    theirs, mine, why = [], [], None
    torch.cuda.reset_peak_memory_stats()
    peer = Peer(args, method, compiled)
    for _ in range(3):
        peer.step()
    for _ in range(args.rounds):
        theirs += [peer.step() for _ in range(args.steps)]
        torch.cuda.empty_cache()
        row, why = ours(args, method)
        if row is None:
            break
        mine += row["step_s"]
    result = {"shape": args.shape, "method": method, "peer": "torch.compile" if compiled else "eager",
              "batch": args.batch, "length": args.max_len, "rank": args.rank, "peer_s": statistics.median(theirs),
              "peer_peak_bytes": torch.cuda.max_memory_allocated(), "peftbench_s": statistics.median(mine) if mine else None,
              "why": why}
    if mine:
        result["ratio"] = result["peer_s"] / result["peftbench_s"]
        result["peftbench_peak_bytes"] = row["peak_bytes"]
    del peer
    torch.cuda.empty_cache()
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bench", required=True, help="the peftbench program")
    parser.add_argument("--shape", default="llama-3.2-1b", choices=sorted(SHAPES))
    parser.add_argument("--methods", default="lora")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--max-len", type=int, default=512)
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--out", default=".")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        print("no GPU that this torch can use")
        return 77
    results, failed = [], 0
    for method in args.methods.split(","):
        for compiled in (False,) if args.no_compile or method == "qlora" else (False, True):
            if method == "qlora" and importlib.util.find_spec("bitsandbytes") is None:
                print("qlora: not run: bitsandbytes is not importable")
                continue
            try:
                results.append(measure(args, method, compiled))
            except Exception as error:  # a peer that fails is a result too
                results.append({"shape": args.shape, "method": method, "peer": "torch.compile" if compiled else "eager",
                                "why": f"{type(error).__name__}: {error}"[:300]})
            failed += results[-1].get("ratio") is None
            print(json.dumps(results[-1]), flush=True)
            with open(os.path.join(args.out, f"peer-{args.shape}.json"), "w", encoding="utf-8") as f:
                json.dump({"torch": torch.__version__, "gpu": torch.cuda.get_device_name(0), "results": results}, f, indent=1)
    return 1 if failed else 0


sys.exit(main())
