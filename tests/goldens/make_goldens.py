#!/usr/bin/env python3
"""Makes the golden files that the C tests compare with: tiny BERT and Llama models, every method, in f32.

    python3 -m venv .venv && .venv/bin/pip install -r tests/goldens/requirements.txt
    .venv/bin/python tests/goldens/make_goldens.py tests/goldens [FOLDER ...]

All of it, or only the folders named. For each family a folder with a Hugging Face model (config.json, model.safetensors) and
one <case>.safetensors per case:
    batch.ids, batch.lengths, batch.labels | batch.loss_from      the packed batch
    init.<parameter>        what the C side must load before the first step (adapters, task head)
    logits, loss            of the first forward (loss without AdaLoRA's term; loss_term is that term)
    grad.<parameter>        of the first backward, AdaLoRA's term included
    after.<parameter>       every trainable parameter after 10 AdamW steps on the same batch
Metadata: method, its parameters as a suite would give them, learning rate, weight decay, steps.
LoRA, rsLoRA, AdaLoRA, DoRA come from HF PEFT, 4-bit codes and 8-bit AdamW from bitsandbytes, the models from transformers;
DyLoRA and the Houlsby and Pfeiffer adapters are direct transcriptions of the papers' formulas, written here.
BERT and Llama have every method; the other families, all parameters trained: their configurations differ where their code
does (RoBERTa: first-token pooling; Qwen2: tied head, biases on q, k, v; Mistral: heads wider than the stream; Llama 3: tied
head, scaled rotary frequencies; GPT-2: fused and transposed weights).
"""
import json
import math
import os
import sys
from types import SimpleNamespace

os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")


def portable_bitsandbytes():
    """bitsandbytes' portable backend, the exact one: its native CPU library looks absmax up in a table of 65536 steps (only
    nearly the nearest code) and, in 0.50.2 on AVX-512, dequantises to other values than its own codes say."""
    import ctypes
    load = ctypes.cdll.LoadLibrary

    def refuse(path):
        if "bitsandbytes" in str(path):
            raise OSError("the portable backend is wanted")
        return load(path)
    ctypes.cdll.LoadLibrary = refuse
    import bitsandbytes
    ctypes.cdll.LoadLibrary = load
    from bitsandbytes.cextension import ErrorHandlerMockBNBNativeLibrary, lib
    assert isinstance(lib, ErrorHandlerMockBNBNativeLibrary)
    return bitsandbytes


bnb = portable_bitsandbytes()
import bitsandbytes.functional as BF
import torch
import torch.nn as nn
import torch.nn.functional as F
from peft import AdaLoraConfig, LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import (BertConfig, BertModel, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, MistralConfig,
                          MistralForCausalLM, Qwen2Config, Qwen2ForCausalLM, RobertaConfig, RobertaModel)

torch.set_num_threads(1)
LR, WD, STEPS = 5e-3, 0.01, 10
RANK, ALPHA = 4, 8.0

BERT = dict(vocab_size=61, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
            max_position_embeddings=24, type_vocab_size=2, hidden_act="gelu", layer_norm_eps=1e-12,
            hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
LLAMA = dict(vocab_size=61, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
             intermediate_size=48, max_position_embeddings=64, rms_norm_eps=1e-5, rope_theta=10000.0,
             tie_word_embeddings=False, attention_bias=False, bos_token_id=1, eos_token_id=2)
SMALL = dict(vocab_size=61, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=24)
SMALL_LLAMA = dict(SMALL, num_key_value_heads=2, max_position_embeddings=64, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2,
                   pad_token_id=None)
ROBERTA = dict(SMALL, max_position_embeddings=18, type_vocab_size=1, pad_token_id=1, hidden_act="gelu", layer_norm_eps=1e-5,
               hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
GPT2 = dict(vocab_size=61, n_embd=16, n_layer=2, n_head=4, n_inner=24, n_positions=16, activation_function="gelu_new",
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=1, eos_token_id=2)
QWEN2 = dict(SMALL_LLAMA, rope_theta=1000.0, tie_word_embeddings=True)
MISTRAL = dict(SMALL_LLAMA, head_dim=8, tie_word_embeddings=False, sliding_window=32)
# Wavelengths of 6.3, 20, 63 and 199 positions: kept, blended (twice), divided.
LLAMA3 = dict(SMALL_LLAMA, max_position_embeddings=256, head_dim=8, tie_word_embeddings=True,
              rope_parameters=dict(rope_type="llama3", rope_theta=100.0, factor=4.0, low_freq_factor=1.0, high_freq_factor=8.0,
                                   original_max_position_embeddings=128))
FAMILIES = {"bert": lambda: BertModel(BertConfig(**BERT, attn_implementation="eager"), add_pooling_layer=False),
            "llama": lambda: LlamaForCausalLM(LlamaConfig(**LLAMA, attn_implementation="eager")),
            "roberta": lambda: RobertaModel(RobertaConfig(**ROBERTA, attn_implementation="eager"), add_pooling_layer=False),
            "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**GPT2, attn_implementation="eager")),
            "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**QWEN2, attn_implementation="eager")),
            "mistral": lambda: MistralForCausalLM(MistralConfig(**MISTRAL, attn_implementation="eager")),
            "llama3": lambda: LlamaForCausalLM(LlamaConfig(**LLAMA3, attn_implementation="eager"))}
ENCODERS = {"bert": "mean", "roberta": "cls"}  # and how they pool
CLASSES = 5
LENGTHS = [5, 9, 3, 7]


def randomize(module, seed):
    """Weights of a size that makes every non-linearity bend."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in module.named_parameters():
            noise = torch.randn(p.shape, generator=g)
            if p.ndim == 1 and name.endswith("weight"):
                p.copy_(1.0 + 0.1 * noise)
            elif p.ndim == 1:
                p.copy_(0.1 * noise)
            else:
                p.copy_(noise * (0.5 if "embed" in name or ".wte." in name or ".wpe." in name else 0.2))


class Classifier(nn.Module):
    """Encoder, mean pooling over real tokens or the first one, linear head; sequences padded, the padding masked."""

    def __init__(self, family):
        super().__init__()
        self.base, self.pool = FAMILIES[family](), ENCODERS[family]
        self.head = nn.Linear(self.base.config.hidden_size, CLASSES)

    def forward(self, ids, mask, labels):
        h = self.base(input_ids=ids, attention_mask=mask).last_hidden_state
        m = mask.unsqueeze(-1).float()
        pooled = (h * m).sum(1) / m.sum(1) if self.pool == "mean" else h[:, 0]
        logits = self.head(pooled)
        return SimpleNamespace(loss=F.cross_entropy(logits, labels), logits=logits)


class Completion(nn.Module):
    """Causal model; loss on the tokens from loss_from on, mean over all of them."""

    def __init__(self, family):
        super().__init__()
        self.base = FAMILIES[family]()

    def forward(self, ids, mask, loss_from):
        logits = self.base(input_ids=ids, attention_mask=mask).logits
        rows, targets, packed = [], [], []
        for s, start in enumerate(loss_from.tolist()):
            n = int(mask[s].sum())
            packed.append(logits[s, :n])
            rows.append(logits[s, start - 1:n - 1])
            targets.append(ids[s, start:n])
        loss = F.cross_entropy(torch.cat(rows), torch.cat(targets))
        return SimpleNamespace(loss=loss, logits=torch.cat(packed))


def new_model(family):
    model = Classifier(family) if family in ENCODERS else Completion(family)
    randomize(model, 7)
    return model


def batch(seed):
    g = torch.Generator().manual_seed(seed)
    width = max(LENGTHS)
    ids = torch.zeros(len(LENGTHS), width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, n in enumerate(LENGTHS):
        ids[i, :n] = torch.randint(3, 61, (n,), generator=g)
        mask[i, :n] = 1
    labels = torch.randint(0, CLASSES, (len(LENGTHS),), generator=g)
    loss_from = torch.tensor([max(1, n // 2) for n in LENGTHS])
    return ids, mask, labels, loss_from


# --- names: ours <- torch's -------------------------------------------------------------------------------------------

BERT_SITES = {"attention.self.query": "attn.q", "attention.self.key": "attn.k", "attention.self.value": "attn.v",
              "attention.output.dense": "attn.o", "intermediate.dense": "mlp.up", "output.dense": "mlp.down"}
LLAMA_SITES = {"self_attn.q_proj": "attn.q", "self_attn.k_proj": "attn.k", "self_attn.v_proj": "attn.v",
               "self_attn.o_proj": "attn.o", "mlp.gate_proj": "mlp.gate", "mlp.up_proj": "mlp.up",
               "mlp.down_proj": "mlp.down"}


def site_of(family, torch_name):
    """layers.N.attn.q from a torch module path."""
    parts = torch_name.split(".layers." if family == "llama" else ".layer.")[-1]
    index, rest = parts.split(".", 1)
    return f"layers.{index}.{(LLAMA_SITES if family == 'llama' else BERT_SITES)[rest]}"


def our_name(family, name):
    """The C side's parameter name for a torch parameter name."""
    name = name.replace("base_model.model.", "")
    for tag in (".lora_A", ".lora_B", ".lora_E"):
        if tag in name:
            return site_of(family, name[:name.index(tag)]) + tag
    if ".lora_magnitude_vector" in name:
        return site_of(family, name[:name.index(".lora_magnitude_vector")]) + ".dora_m"
    if name.startswith("head."):
        return name
    for part in ("adapter_down.weight", "adapter_down.bias", "adapter_up.weight", "adapter_up.bias"):
        if name.endswith(part):
            return name.split("@", 1)[1]
    name = name[len("base."):] if name.startswith("base.") else name
    return name.replace(".base_layer", "")


# --- methods ------------------------------------------------------------------------------------------------------------

class DyLoRALinear(nn.Module):
    """y = W x + b + (alpha/b_rank) B[:, :b] A[:b] x; frozen: only row/column b gets a gradient (Valipour et al. 2022)."""

    def __init__(self, linear, a, b):
        super().__init__()
        self.linear, self.lora_A, self.lora_B, self.b, self.frozen = linear, nn.Parameter(a), nn.Parameter(b), RANK, True

    def forward(self, x):
        n = self.b
        A, B = self.lora_A[:n], self.lora_B[:, :n]
        if self.frozen and n > 1:
            A = torch.cat([A[:n - 1].detach(), A[n - 1:]])
            B = torch.cat([B[:, :n - 1].detach(), B[:, n - 1:]], dim=1)
        return self.linear(x) + (ALPHA / n) * F.linear(F.linear(x, A), B)


class Bottleneck(nn.Module):
    def __init__(self, d, m, act):
        super().__init__()
        self.adapter_down, self.adapter_up, self.act = nn.Linear(d, m), nn.Linear(m, d), act

    def branch(self, h):
        return self.adapter_up(self.act(self.adapter_down(h)))


class BertOut(nn.Module):
    """Replaces BertSelfOutput / BertOutput: dense, adapter, residual, LayerNorm (Houlsby), or Pfeiffer's two norms."""

    def __init__(self, old, adapter, pfeiffer):
        super().__init__()
        self.dense, self.LayerNorm, self.adapter, self.pfeiffer = old.dense, old.LayerNorm, adapter, pfeiffer

    def forward(self, h, residual):
        h = self.dense(h)
        if self.pfeiffer:
            z = self.LayerNorm(h + residual)
            return self.LayerNorm(self.adapter.branch(z) + h + residual)
        return self.LayerNorm(h + self.adapter.branch(h) + residual)


class LlamaOut(nn.Module):
    """Replaces o_proj / down_proj: the projection, then h + branch(h)."""

    def __init__(self, old, adapter):
        super().__init__()
        self.old, self.adapter = old, adapter

    @property
    def weight(self):
        return self.old.weight

    def forward(self, x):
        h = self.old(x)
        return h + self.adapter.branch(h)


def fill(p, seed, scale):
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        p.copy_(scale * torch.randn(p.shape, generator=g))


def freeze(model):
    for p in model.parameters():
        p.requires_grad_(False)


def targets(family, names):
    table = LLAMA_SITES if family == "llama" else BERT_SITES
    return [k for k, v in table.items() if v in names]


def target_globs(names):
    return ["*." + n for n in names]


def fill_adapters(model):
    for i, (name, p) in enumerate(sorted(model.named_parameters())):
        if "lora_" in name and p.requires_grad and "magnitude" not in name and "ranknum" not in name:
            fill(p, 1000 + i, 0.3)


def peft_lora(family, model, names, alpha=ALPHA, **kw):
    config = LoraConfig(r=RANK, lora_alpha=alpha, target_modules=targets(family, names), lora_dropout=0.0, **kw)
    peft = get_peft_model(model.base, config)
    return peft


def quantise_linears(model):
    """The weights that a 4-bit base multiplies with: NF4, double quantisation, back to f32 (bitsandbytes)."""
    for path, module in model.named_modules():
        if isinstance(module, nn.Linear) and "layer" in path:
            packed, state = BF.quantize_4bit(module.weight.detach().clone(), blocksize=64, compress_statistics=True,
                                             quant_type="nf4")
            with torch.no_grad():
                module.weight.copy_(BF.dequantize_4bit(packed, state).reshape(module.weight.shape))


def train_head(model):
    if hasattr(model, "head"):
        for p in model.head.parameters():
            p.requires_grad_(True)


def build(family, case):
    """-> (model, method, params, hooks) with trainables marked and filled."""
    torch.manual_seed(0)
    model = new_model(family)
    all_names = sorted(set((LLAMA_SITES if family == "llama" else BERT_SITES).values()))
    hooks = SimpleNamespace(before=None, after=None)
    if case == "full":
        return model, "full", {}, hooks
    if case == "head":
        freeze(model)
        train_head(model)
        return model, "head", {}, hooks
    if case in ("lora", "rslora", "dora", "lora_qv", "lora_bias", "lora_bias_all"):
        names = all_names if case in ("lora", "rslora", "dora") else ["attn.q", "attn.v"]
        bias = {"lora_bias": "lora_only", "lora_bias_all": "all"}.get(case, "none")
        # rsLoRA's scale is alpha/2 here: the alpha of the others would make ten steps a chaotic path
        alpha = ALPHA / 2 if case == "rslora" else ALPHA
        model.base = peft_lora(family, model, names, alpha, use_rslora=case == "rslora", use_dora=case == "dora", bias=bias)
        fill_adapters(model)
        train_head(model)
        params = {"rank": RANK, "alpha": alpha, "targets": target_globs(names)}
        if case == "rslora":
            params["rslora"] = True
        if bias != "none":
            params["bias"] = bias
        return model, "dora" if case == "dora" else "lora", params, hooks
    if case == "qlora":
        quantise_linears(model)
        model.base = peft_lora(family, model, all_names)
        fill_adapters(model)
        train_head(model)
        params = {"rank": RANK, "alpha": ALPHA, "targets": target_globs(all_names), "code": "nf4", "block": 64,
                  "double_quant": True}
        return model, "qlora", params, hooks
    if case == "adalora":
        config = AdaLoraConfig(init_r=6, target_r=3, tinit=2, tfinal=2, deltaT=1, total_step=STEPS, lora_alpha=ALPHA,
                               beta1=0.85, beta2=0.85, orth_reg_weight=0.5, lora_dropout=0.0,
                               target_modules=targets(family, all_names))
        model.base = get_peft_model(model.base, config)
        fill_adapters(model)
        train_head(model)
        hooks.after = lambda step: model.base.base_model.update_and_allocate(step)
        params = {"init_rank": 6, "target_rank": 3, "tinit": 2, "tfinal": 2, "delta_t": 1, "alpha": ALPHA, "beta1": 0.85,
                  "beta2": 0.85, "orth_weight": 0.5, "targets": target_globs(all_names)}
        return model, "adalora", params, hooks
    if case in ("dylora", "dylora_free"):
        freeze(model)
        sites = []
        for path, module in list(model.named_modules()):
            if isinstance(module, nn.Linear) and "layer" in path and not path.startswith("head"):
                g = torch.Generator().manual_seed(3000 + len(sites))
                site = DyLoRALinear(module, 0.3 * torch.randn(RANK, module.in_features, generator=g),
                                    0.3 * torch.randn(module.out_features, RANK, generator=g))
                site.frozen = case == "dylora"
                parent = model.get_submodule(path.rsplit(".", 1)[0])
                setattr(parent, path.rsplit(".", 1)[1], site)
                sites.append(site)
        train_head(model)
        ranks = [3, 1, 4, 2, 2, 4, 1, 3, 4, 3]

        def before(step):
            for s in sites:
                s.b = ranks[step]
        hooks.before = before
        hooks.ranks = ranks
        return model, "dylora", {"rank": RANK, "alpha": ALPHA, "frozen": case == "dylora"}, hooks
    if case in ("houlsby", "pfeiffer"):
        freeze(model)
        act = (lambda x: F.gelu(x, approximate="tanh")) if case == "houlsby" else F.relu
        layers = model.base.encoder.layer if family == "bert" else model.base.model.layers
        count = 0
        for n, layer in enumerate(layers):
            for place in (("attn.out", "mlp.out") if case == "houlsby" else ("mlp.out",)):
                adapter = Bottleneck(32, 6, act)
                for p in adapter.parameters():
                    fill(p, 5000 + count, 0.3)
                    count += 1
                adapter.site = f"layers.{n}.{place}"
                if family == "bert":
                    if place == "attn.out":
                        layer.attention.output = BertOut(layer.attention.output, adapter, False)
                    else:
                        layer.output = BertOut(layer.output, adapter, case == "pfeiffer")
                elif place == "attn.out":
                    layer.self_attn.o_proj = LlamaOut(layer.self_attn.o_proj, adapter)
                else:
                    layer.mlp.down_proj = LlamaOut(layer.mlp.down_proj, adapter)
        for name, p in model.named_parameters():
            if case == "houlsby" and "norm" in name.lower():
                p.requires_grad_(True)
        train_head(model)
        params = {"variant": case, "size": 6}
        return model, "adapter", params, hooks
    raise ValueError(case)


def named_trainables(family, model):
    adapters = {}
    for path, module in model.named_modules():
        if isinstance(module, Bottleneck):
            adapters[path] = module.site
    out, seen = {}, set()
    for name, p in model.named_parameters():
        if not p.requires_grad or "ranknum" in name or id(p) in seen:
            continue
        seen.add(id(p))
        for path, site in adapters.items():
            if name.startswith(path + "."):
                name = "x@" + site + name[len(path):]
                break
        out[our_name(family, name)] = p
    return out


def shape_for_c(name, t):
    """peft keeps AdaLoRA's E as [r,1] and DoRA's m as [out]; the C side keeps vectors."""
    return t.reshape(-1) if name.endswith(".lora_E") or name.endswith(".dora_m") else t


def named_for_c(family, name, t):
    """A tensor of the model under the C side's names and shapes: GPT-2's fused [in, 3 out] as three [out, in], RoBERTa's
    position table without the two rows that no position uses."""
    if family == "gpt2":
        name = name.replace("transformer.", "")
        if ".c_attn." in name:
            stem, leaf = name.rsplit(".", 1)
            return {f"{stem}.{which}.{leaf}": part.t() for which, part in zip("qkv", t.chunk(3, dim=-1))}
        if name.startswith("h.") and t.ndim == 2:
            return {name: t.t()}
    if family == "roberta" and "position_embeddings" in name:
        return {name: t[2:]}
    return {name: shape_for_c(name, t)}


def decays(p):
    """The C side's rule: matrices decay (AdaLoRA's E, [r,1] here, is one); biases, norms and other vectors do not."""
    return p.ndim >= 2


def run_case(out_dir, family, case):
    model, method, params, hooks = build(family, case)
    model.eval()
    ids, mask, labels, loss_from = batch(11)
    third = labels if family in ENCODERS else loss_from
    trainables = named_trainables(family, model)
    tensors = {"batch.ids": torch.cat([ids[i, :n] for i, n in enumerate(LENGTHS)]).int(),
               "batch.lengths": torch.tensor(LENGTHS, dtype=torch.int32)}
    tensors["batch.labels" if family in ENCODERS else "batch.loss_from"] = third.int()

    def keep(kind, name, t):
        tensors.update({f"{kind}.{n}": v for n, v in named_for_c(family, name, t).items()})
    if hooks.before:
        tensors["dylora.ranks"] = torch.tensor(hooks.ranks, dtype=torch.int32)
    for name, p in trainables.items():
        if case != "full":  # otherwise the model's own file has them
            keep("init", name, p.detach().clone())
    if hasattr(model, "head"):  # the head is new: its initial values always travel with the case
        tensors["init.head.weight"] = model.head.weight.detach().clone()
        tensors["init.head.bias"] = model.head.bias.detach().clone()
    groups = [{"params": [p for p in trainables.values() if decays(p)], "weight_decay": WD},
              {"params": [p for p in trainables.values() if not decays(p)], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW([g for g in groups if g["params"]], lr=LR, betas=(0.9, 0.999), eps=1e-8)
    reg = 0.0
    for step in range(STEPS):
        if hooks.before:
            hooks.before(step)
        optimizer.zero_grad(set_to_none=False)
        out = model(ids, mask, third)
        loss = out.loss
        if case == "adalora":
            term, count = 0.0, 0
            for n, p in model.named_parameters():
                if "lora_A" in n or "lora_B" in n:
                    gram = p @ p.T if "lora_A" in n else p.T @ p
                    term = term + torch.norm(gram - torch.eye(*gram.size()), p="fro")
                    count += 1
            reg = 0.5 * term / count
            total = loss + reg
        else:
            total = loss
        total.backward()
        if step == 0:
            tensors["logits"] = out.logits.detach().clone()
            tensors["loss"] = loss.detach().reshape(1)
            if case == "adalora":
                tensors["loss_term"] = reg.detach().reshape(1)
            for name, p in trainables.items():
                g = p.grad if p.grad is not None else torch.zeros_like(p)
                keep("grad", name, g.clone())
        optimizer.step()
        if hooks.after:
            hooks.after(step)
    for name, p in trainables.items():
        keep("after", name, p.detach().clone())
    tensors["loss_last"] = loss.detach().reshape(1)
    meta = {"method": method, "params": json.dumps(params), "lr": repr(LR), "weight_decay": repr(WD), "steps": str(STEPS),
            "torch": torch.__version__}
    save_file({k: v.contiguous() for k, v in tensors.items()}, f"{out_dir}/{case}.safetensors", metadata=meta)
    print(f"{family}/{case}: {len(trainables)} trainable tensors, loss {float(tensors['loss'][0]):.6f} -> "
          f"{float(loss):.6f}")


def save_base(out_dir, family):
    new_model(family).base.save_pretrained(out_dir)
    if ENCODERS.get(family) == "cls":
        os.makedirs(f"{out_dir}/1_Pooling", exist_ok=True)
        with open(f"{out_dir}/1_Pooling/config.json", "w", encoding="utf-8") as f:
            json.dump({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, f)
            f.write("\n")
    for extra in ("generation_config.json",):
        if os.path.exists(f"{out_dir}/{extra}"):
            os.remove(f"{out_dir}/{extra}")


def quant_cases(out_dir):
    """bitsandbytes: packed codes, absmax, double quantisation; dequantised values."""
    g = torch.Generator().manual_seed(5)
    cases = {"small": torch.randn(48, 32, generator=g) * 0.05, "wide": torch.randn(50, 384, generator=g) * 0.02,
             "odd": torch.randn(5, 13, generator=g), "heavy": torch.randn(64, 64, generator=g) ** 3}
    cases["zeros"] = torch.randn(8, 64, generator=g)
    cases["zeros"][2] = 0
    tensors = {}
    for name, w in cases.items():
        tensors[f"{name}.w"] = w
        for code in ("nf4", "fp4"):
            for double in (False, True):
                packed, state = BF.quantize_4bit(w.clone(), blocksize=64, compress_statistics=double, quant_type=code)
                key = f"{name}.{code}.{'dq' if double else 'sq'}"
                tensors[f"{key}.codes"] = packed.reshape(-1).clone()
                if double:
                    tensors[f"{key}.absmax_q"] = state.absmax.reshape(-1).clone()
                    tensors[f"{key}.absmax2"] = state.state2.absmax.reshape(-1).clone()
                    tensors[f"{key}.offset"] = state.offset.reshape(1).float().clone()
                else:
                    tensors[f"{key}.absmax"] = state.absmax.reshape(-1).clone()
                if name != "wide":
                    tensors[f"{key}.values"] = BF.dequantize_4bit(packed, state).reshape(w.shape).float().clone()
    tensors["map.signed"] = BF.create_dynamic_map(signed=True).float()
    tensors["map.unsigned"] = BF.create_dynamic_map(signed=False).float()
    save_file({k: v.contiguous() for k, v in tensors.items()}, f"{out_dir}/quant.safetensors",
              metadata={"bitsandbytes": bnb.__version__, "torch": torch.__version__})
    print(f"quant: {len(tensors)} tensors")


def adamw8_case(out_dir):
    """bitsandbytes' 8-bit block-wise AdamW: weights, codes and absmax after each of a few steps. 600 weights: two whole blocks
    of 256 and a short one; gradients of very different sizes, and some zeros."""
    import bitsandbytes.backends.cpu.ops as cpu
    n, steps = 600, 6
    g = torch.Generator().manual_seed(9)
    w = torch.randn(n, generator=g)
    signed, unsigned = BF.create_dynamic_map(signed=True).float(), BF.create_dynamic_map(signed=False).float()
    m, v = torch.zeros(n, dtype=torch.uint8), torch.zeros(n, dtype=torch.uint8)
    m_absmax, v_absmax = torch.zeros(3), torch.zeros(3)
    size = 10.0 ** (-4 * torch.rand(n, generator=g))
    size[::17] = 0
    tensors = {"map.signed": signed, "map.unsigned": unsigned, "w.0": w.clone()}
    for step in range(1, steps + 1):
        grad = size * torch.randn(n, generator=g)
        cpu._optimizer_update_8bit_blockwise_cpu("adam", grad, w, m, v, 0.9, 0.999, 0.0, 0.0, 1e-8, step, LR, signed, unsigned,
                                                 m_absmax, v_absmax, WD, 1.0)
        for name, t in (("g", grad), ("w", w), ("m", m), ("v", v), ("m_absmax", m_absmax), ("v_absmax", v_absmax)):
            tensors[f"{name}.{step}"] = t.clone()
    save_file(tensors, f"{out_dir}/adamw8.safetensors",
              metadata={"lr": repr(LR), "weight_decay": repr(WD), "steps": str(steps), "bitsandbytes": bnb.__version__})
    print(f"adamw8: {steps} steps of {n} weights")


CASES = {"bert": ("full", "head", "lora", "lora_qv", "lora_bias", "lora_bias_all", "rslora", "dora", "qlora", "adalora", "dylora",
                  "dylora_free", "houlsby", "pfeiffer"),
         # the language-model head is a base parameter: head-only has nothing to train
         "llama": ("full", "lora", "lora_qv", "rslora", "dora", "qlora", "adalora", "dylora", "dylora_free", "houlsby",
                   "pfeiffer")}


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else "tests/goldens"
    wanted = sys.argv[2:] or [*FAMILIES, "quant", "adamw8"]
    for family in FAMILIES:
        if family not in wanted:
            continue
        out_dir = f"{root}/{family}"
        os.makedirs(out_dir, exist_ok=True)
        save_base(out_dir, family)
        for case in CASES.get(family, ("full",)):
            run_case(out_dir, family, case)
    if "quant" in wanted:
        quant_cases(root)
    if "adamw8" in wanted:
        adamw8_case(root)


if __name__ == "__main__":
    main()
