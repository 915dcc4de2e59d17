#!/usr/bin/env python3
"""HF PEFT on this GPU against peftbench, interleaved: same shape, rank, targets, batch, length, dtype; the step alone.

Random weights from a config, so nothing is downloaded. Eager with SDPA, and torch.compile; in both, PEFT's two ways of bf16 are
timed and the faster one is the peer. QLoRA needs bitsandbytes. What cannot be imported is not run (exit status 77 when torch,
transformers or peft is missing, or when nothing was compared). See README.md in this folder."""
import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")
missing = [m for m in ("torch", "transformers", "peft") if importlib.util.find_spec(m) is None]
if missing:
    print("not importable: " + ", ".join(missing))
    sys.exit(77)

import torch  # noqa: E402
from peft import AdaLoraConfig, LoraConfig, get_peft_model  # noqa: E402
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, BertConfig, GPT2Config, LlamaConfig  # noqa: E402
from transformers.pytorch_utils import Conv1D  # noqa: E402

LLAMA3 = {"rope_theta": 500000.0, "rms_norm_eps": 1e-5, "vocab_size": 128256, "max_position_embeddings": 8192}
SHAPES = {
    "minilm": BertConfig(vocab_size=30522, hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536,
                         max_position_embeddings=512, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, num_labels=2),
    "gpt2-124m": GPT2Config(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0),
    "llama-3.2-1b": LlamaConfig(hidden_size=2048, num_hidden_layers=16, num_attention_heads=32, num_key_value_heads=8,
                                intermediate_size=8192, tie_word_embeddings=True, **LLAMA3),
    "llama-3.2-3b": LlamaConfig(hidden_size=3072, num_hidden_layers=28, num_attention_heads=24, num_key_value_heads=8,
                                intermediate_size=8192, tie_word_embeddings=True, **LLAMA3),
    "llama-3.1-8b": LlamaConfig(hidden_size=4096, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=8,
                                intermediate_size=14336, **LLAMA3),
}
ENCODERS = ("minilm",)  # with a head of two classes, as the bench's; they learn a class per text, the others the next token
LINEARS = {"gpt2-124m": ["c_attn", "c_proj", "c_fc"],
           "minilm": r".*layer\.\d+\.(attention\.self\.(query|key|value)|attention\.output\.dense|intermediate\.dense|output\.dense)"}
LLAMA_LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def quantized(model):
    """Every linear layer but heads in NF4 with double quantisation, as bitsandbytes' loader would make it."""
    import bitsandbytes as bnb
    for name, module in list(model.named_modules()):
        if not isinstance(module, (torch.nn.Linear, Conv1D)) or name.endswith(("lm_head", "classifier", "pooler.dense")):
            continue
        weight = module.weight.data.T if isinstance(module, Conv1D) else module.weight.data  # Conv1D holds [in, out]
        new = bnb.nn.Linear4bit(weight.shape[1], weight.shape[0], bias=module.bias is not None,
                                compute_dtype=torch.bfloat16, compress_statistics=True, quant_type="nf4")
        if module.bias is not None:
            new.bias = module.bias
        new.weight = bnb.nn.Params4bit(weight.contiguous().cpu(), requires_grad=False, compress_statistics=True,
                                       quant_type="nf4", module=new)
        parent = model.get_submodule(name.rpartition(".")[0])
        setattr(parent, name.rpartition(".")[2], new.cuda())
    model.is_loaded_in_4bit = True  # as the loader sets it: PEFT takes its own layer for bitsandbytes' only then
    return model


def check_quantized(model):
    """Every adapter is PEFT's layer for bitsandbytes, which is what a user of QLoRA gets."""
    from peft.tuners.lora.bnb import Linear4bit
    from peft.tuners.lora.layer import LoraLayer
    kinds = {type(module) for module in model.modules() if isinstance(module, LoraLayer)}
    if kinds != {Linear4bit}:
        raise RuntimeError(f"PEFT wrapped 4-bit layers as {sorted(kind.__qualname__ for kind in kinds)}, expected Linear4bit")


# PEFT's own default holds adapters in f32 over a bf16 base; autocast then runs their products in bf16. The other way holds all in
# bf16. For full fine-tuning: f32 weights under autocast, or bf16 weights.
WAYS = ("autocast", "bf16")


def build(args, method, way):
    torch.manual_seed(0)
    dtype = torch.float32 if method == "full" and way == "autocast" else torch.bfloat16
    torch.set_default_dtype(dtype)
    encoder = args.shape in ENCODERS
    with torch.device("cuda"):
        model = (AutoModelForSequenceClassification if encoder else AutoModelForCausalLM).from_config(
            SHAPES[args.shape], attn_implementation="sdpa")
    torch.set_default_dtype(torch.float32)
    if next(model.parameters()).dtype != dtype:  # releases differ in what a config without a type means
        model = model.to(dtype)
    model.config.use_cache = False
    if method == "full":
        return model.train()
    if method == "qlora":
        model = quantized(model)
    targets = LINEARS.get(args.shape, LLAMA_LINEARS)
    task = {"task_type": "SEQ_CLS"} if encoder else {}  # the head is trained too
    if method == "adalora":
        config = AdaLoraConfig(init_r=args.rank, target_r=args.rank - args.rank // 3, lora_alpha=2 * args.rank, total_step=10000,
                               tinit=5, tfinal=100, target_modules=targets, **task)
    else:
        config = LoraConfig(r=args.rank, lora_alpha=2 * args.rank, target_modules=targets, use_dora=method == "dora", **task)
    model = get_peft_model(model, config, autocast_adapter_dtype=way == "autocast").train()
    if method == "qlora":
        check_quantized(model)
    if way == "bf16":
        for weight in model.parameters():
            if weight.requires_grad:
                weight.data = weight.data.to(torch.bfloat16)
    return model


class Peer:
    """One model and its optimizer; step() is forward, backward, clipping and AdamW, on the host's clock until the GPU is done."""

    def __init__(self, args, method, way, compiled):
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        self.model = build(args, method, way)
        self.way = way
        self.weights = [p for p in self.model.parameters() if p.requires_grad]
        self.optim = torch.optim.AdamW(self.weights, lr=1e-6, fused=True)
        self.run = torch.compile(self.model) if compiled else self.model
        self.adalora = method == "adalora"
        self.ids = torch.randint(0, SHAPES[args.shape].vocab_size, (args.batch, args.max_len), device="cuda")
        self.labels = torch.randint(0, 2, (args.batch,), device="cuda") if args.shape in ENCODERS else self.ids
        self.count = 0
        for _ in range(4):
            self.step()
        self.peak_bytes = torch.cuda.max_memory_allocated() - before

    def step(self):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        self.optim.zero_grad(set_to_none=True)
        with torch.autocast("cuda", dtype=torch.bfloat16, enabled=self.way == "autocast"):
            loss = self.run(input_ids=self.ids, labels=self.labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.weights, 1.0)
        self.optim.step()
        if self.adalora:
            self.model.base_model.update_and_allocate(self.count)
        self.count += 1
        torch.cuda.synchronize()
        return time.perf_counter() - begin


def ours(args, method):
    params = {"adalora": {"init_rank": args.rank, "target_rank": args.rank - args.rank // 3}, "full": {}}.get(
        method, {"rank": args.rank, "alpha": 2 * args.rank})
    cmd = [args.bench, "bench", "step", "--device", "cuda", "--shape", args.shape, "--methods", method, "--params",
           json.dumps(params), "--dtype", "bf16", "--batch", str(args.batch), "--max-len", str(args.max_len),
           "--steps", str(args.steps), "--warmup", "3", "--format", "json"]
    done = subprocess.run(cmd, capture_output=True, text=True)
    if done.returncode != 0:
        return None, (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1][:300]
    return json.loads(done.stdout)[0], None


def measure(args, method, compiled):
    """Rounds of both sides in turns; the median of all steps of a side, of PEFT's ways the faster one's."""
    result = {"shape": args.shape, "method": method, "peer": "torch.compile" if compiled else "eager", "batch": args.batch,
              "length": args.max_len, "rank": args.rank, "ways": {}, "peftbench_s": None}
    peers, mine, row = [], [], None
    for way in WAYS:
        try:
            peers.append(Peer(args, method, way, compiled))
        except Exception as error:  # a way that cannot be gone is a result too
            result["ways"][way] = {"why": f"{type(error).__name__}: {error}"[:300]}
            torch.cuda.empty_cache()
    theirs = {peer.way: [] for peer in peers}
    for _ in range(args.rounds):
        for peer in peers:
            theirs[peer.way] += [peer.step() for _ in range(args.steps)]
        torch.cuda.empty_cache()
        row, why = ours(args, method)
        if row is None:
            result["why"] = why
            break
        mine += row["step_s"]
    for peer in peers:
        result["ways"][peer.way] = {"median_s": statistics.median(theirs[peer.way]), "peak_bytes": peer.peak_bytes,
                                    "step_s": theirs[peer.way]}
    if row is not None:
        result["peftbench_s"] = statistics.median(mine)
        result["peftbench_step_s"] = mine
        result["peftbench_peak_bytes"] = row["peak_bytes"]
    if peers:
        best = min(peers, key=lambda peer: statistics.median(theirs[peer.way]))
        result["way"] = best.way
        result["peer_s"] = statistics.median(theirs[best.way])
        result["peer_peak_bytes"] = best.peak_bytes
        if row is not None:
            result["ratio"] = result["peer_s"] / result["peftbench_s"]
    del peers
    torch.cuda.empty_cache()
    return result


def told(result):
    line = f"{result['shape']:13} {result['method']:8} {result['peer']:13}"
    if result.get("ratio") is None:
        whys = [result.get("why")] + [f"{w}: {r['why']}" for w, r in result["ways"].items() if "why" in r]
        return f"{line} no ratio: {'; '.join(w for w in whys if w)}"
    return (f"{line} {1e3 * result['peer_s']:8.1f} ms ({result['way']})  peftbench {1e3 * result['peftbench_s']:8.1f} ms  "
            f"ratio {result['ratio']:.2f}  peak {result['peer_peak_bytes'] / 2**30:.1f} and "
            f"{result['peftbench_peak_bytes'] / 2**30:.1f} GiB")


def main():
    began = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bench", required=True, help="the peftbench program")
    parser.add_argument("--shape", default="llama-3.2-1b", choices=sorted(SHAPES))
    parser.add_argument("--methods", default="lora")
    parser.add_argument("--modes", default="eager,compile")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--max-len", type=int, default=512)
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=1e9, help="nothing is begun after this time")
    parser.add_argument("--out", default=".")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        print("no GPU that this torch can use")
        return 77
    results, failed = [], 0
    for mode in args.modes.split(","):
        for method in args.methods.split(","):
            if method == "qlora" and (mode == "compile" or importlib.util.find_spec("bitsandbytes") is None):
                print(f"qlora {mode}: not run: {'bitsandbytes is not importable' if mode != 'compile' else 'eager only'}")
                continue
            if time.monotonic() - began > args.seconds:
                print(f"{method} {mode}: not run: the time is used up")
                continue
            try:
                results.append(measure(args, method, mode == "compile"))
            except Exception as error:
                results.append({"shape": args.shape, "method": method, "peer": mode, "ways": {},
                                "why": f"{type(error).__name__}: {error}"[:300]})
            failed += results[-1].get("ratio") is None
            print(told(results[-1]), flush=True)
            name = f"peer-{args.shape}-{args.modes}-{args.methods}.json".replace(",", "-")
            with open(os.path.join(args.out, name), "w", encoding="utf-8") as f:
                json.dump({"torch": torch.__version__, "gpu": torch.cuda.get_device_name(0), "results": results}, f, indent=1)
    return 1 if failed else 0 if results else 77


if __name__ == "__main__":
    sys.exit(main())
