#!/usr/bin/env python3
"""Embeddings of the real base model by transformers, for tests/test_minilm.c.

    .venv/bin/python tests/goldens/make_minilm.py .cache/models/all-MiniLM-L6-v2 tests/goldens

Writes minilm.json: texts (our own), their token ids and the mean-pooled last hidden states, each text alone, f32."""
import json
import sys

import torch
import transformers
from transformers import AutoModel, AutoTokenizer

TEXTS = ["a small boat crossed the harbour before dawn", "The measurement was repeated; nothing changed.",
         "Café naïveté, 42 % off — déjà vu!", "x", "matrices of rank eight, trained in a few minutes on two cores",
         "someone who repairs clocks and watches", "UPPER lower MiXeD 3.14159 e-mail@example.org",
         "to move quickly and lightly through the air " * 12]


def main():
    torch.set_num_threads(1)
    model_dir, out = sys.argv[1:3]
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    model = AutoModel.from_pretrained(model_dir, attn_implementation="eager", dtype=torch.float32).eval()
    rows = []
    for text in TEXTS:
        enc = tokenizer(text, return_tensors="pt", truncation=True, max_length=128)
        with torch.no_grad():
            pooled = model(**enc).last_hidden_state.mean(1)[0]
        rows.append({"text": text, "ids": enc["input_ids"][0].tolist(), "embedding": [float(f"{v:.8g}") for v in pooled]})
    json.dump({"torch": torch.__version__, "transformers": transformers.__version__, "rows": rows},
              open(f"{out}/minilm.json", "w"), indent=None, separators=(",", ":"))


main()
