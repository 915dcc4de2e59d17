"""Tokenizer goldens and comparisons against Hugging Face `tokenizers` (developer use; tests need no Python).

  tokenizer.py make [--train]            writes tokenizer/texts.json and tokenizer/<name>/goldens.json; --train also makes
                                         the tokenizers anew (WordPiece training breaks ties at random: other ids)
  tokenizer.py compare MODEL TEXTS...    pb_tokenize against `tokenizers`, text by text; TEXTS: .jsonl files, folders
                                         of them, or /usr/share/wordnet (glosses); made-up strings are always added
  tokenizer.py hash MODEL                sha256 of the ids of every WordNet gloss: the constant in tests/test_tokenizer.c
  tokenizer.py unicode                   every code point through every normaliser setting
  tokenizer.py random MODEL N            N random strings

Made with tokenizers 0.23.3. The texts below were written for this file. pb_tokenize is built with the tests
(--tool says where, default build/tests/pb_tokenize).
"""
import argparse
import glob
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import unicodedata

import tokenizers
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers.implementations import BertWordPieceTokenizer

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "tokenizer")

NASTY = [
    "", " ", "   ", "\t\n\r", "a", "Hello, World!", "hello  world", " leading", "trailing ", "UPPER lower MiXeD",
    "don't can't we'll I'm they've you're he'd", "3.14159 and 1,000,000 or 1e-9", "e-mail@example.org (see: https://example.org/?q=1&r=2)",
    "caf\u00e9 cafe\u0301 CAF\u00c9 \u00fcber na\u00efve \u00c5ngstr\u00f6m \u0130stanbul \u0131l\u0131k",
    "\u0394\u03a3\u03a3 \u039f\u03b4\u03c5\u03c3\u03c3\u03b5\u03cd\u03c2 \u03a3", "Stra\u00dfe STRASSE \u1e9e", "\ufb01ne \ufb02at \u2460 \u00bd \u2122 \u33a1",
    "\u01c4\u01c5\u01c6 \u1f88 \u1fbc \u2126 \u212b \u212a", "\u0410\u0411\u0412 \u0439 \u0419 \u0451 \u0401", "\u05e9\u05c1\u05b8\u05dc\u05d5\u05b9\u05dd", "\u0645\u064e\u0631\u0652\u062d\u064e\u0628\u064b\u0627",
    "\u0928\u092e\u0938\u094d\u0924\u0947 \u0915\u094d\u0937", "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35", "\u4e2d\u6587\u5b57\u7b26 mixed\u4e2dwords", "\u3053\u3093\u306b\u3061\u306f \u30ab\u30bf\u30ab\u30ca \uff76\uff9e", "\ud55c\uad6d\uc5b4 \u1112\u1161\u11ab \uac00\u11a8",
    "\U0001f600 \U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1eb\U0001f1f7 \u2764\ufe0f", "\U00020000\U0002a6df\U0002b740\U0002b820\U0002f800 \uf900\ufaff\u3400",
    "zero\u200bwidth\u200cnon\u200djoin\ufeffbom\u00adsoft", "\u00a0nbsp\u2003em\u3000ideo\u202fnarrow\u180emvs\u2028ls\u2029ps\u0085nel\u000bvt\u000cff",
    "\u0001\u0002control\u007f\u0080\u009f \ufffdreplacement\ufffe\uffff \ue000private\U0010ffff", "a\u0300\u0301\u0302\u0303\u0304b", "a\u0334\u0301\u0323\u031b x\u0323\u0307 x\u0307\u0323",
    "q" + "\u0301\u0323" * 20 + "z", "\u1100\u1161\u11a8\u0301", "\u0344 \u0958 \u2adc \ufb1d", "\u00bfqu\u00e9? \u00a1s\u00ed! \u00abguillemets\u00bb \u201equotes\u201c \u2018x\u2019", "\u2013 \u2014 \u2026 \u2212 \u00d7 \u00f7 \u00b7 \u2022 \u20ac \u00a3 \u00a5 ^ ` ~ | $ + < = >",
    "[MASK] is [CLS] a [SEP] special [UNK] [PAD] token", "[mask] [ MASK ] [MASK][MASK]x[MASK]", "<s>hello</s> <unk> <s> <<s>> </s", "<0x41><0x0A> <0xFF>",
    "\u2581under\u2581line \u2581", "##prefix ##ing #", "x" * 99, "x" * 100, "x" * 101, "\u00e9" * 100 + " " + "\u00e9" * 101, "supercalifragilisticexpialidocious antidisestablishmentarianism",
    "new\nline\r\nand\ttabs\n\n\n  indented", "def f(x):\n    return x**2  # comment\n", "{\"json\": [1, 2, {\"a\": null}]}", "\\u0041 \\n \\\\", "a\u1abfb \u1df6 \u0898 \U00011a01 \U0001e000 \u1734 \u1715", "\u166d \u2e43 \u2e52 \u061d \U000111c9 \U00010ead \u1b7d", "\u0890 \u08e2 \U000110cd \U00013430 \u0600",
    "\u1c89 \ua7cb \ua7cc \ua7da \ua7dc \U00010d50 \U00016ea0 \U00010400 \u1c90 \u13a0 \uab70", "\u32ff \U0001f16c \ua7f2 \U00010781 \U00011938", "keep <tool> this<tool>that  <tool>  x", "word wordy sword word. word_ \u00e9word word\u0301 (word)", "Na\u00efve na\u00efve NAIVE tok", "ab" * 200, "the cat sat on the mat; the mat sat still.", " a b  c   d    e", "0 00 000 0000 12345 \u0661\u0662\u0663 \u2167 \u00b2", "'s 'S 'll 'LL ' s \u2019s", "mixed123abc ABCdef_ghi-jkl",
]
CORPUS = [
    "The cat sat on the mat and the dog ran to the old red house by the sea.", "She said that it was the best day of the year, and he did not know what to say.",
    "We were walking in the garden when the rain began to fall on the flowers.", "A tokenizer cuts a text into small pieces; training counts which pieces come together.",
    "Don't you think that's what they've been telling us? I'm sure we'll see.", "In 1999 there were 12,345 words; in 2024 there are 67,890 more.",
    "caf\u00e9 na\u00efve \u00fcber stra\u00dfe \u03b1\u03b2\u03b3 \u0430\u0431\u0432 \u4e2d\u6587 \u3053\u3093 \ud55c\uad6d", "def main(args):\n    for x in args:\n        print(x)\n    return 0",
    "hello world hello there hello hello world's words word wordy", "[a] {b} (c) <d> e-f g_h i/j k.l m,n o;p q:r s!t u?v w'x y\"z",
] * 4


def bert(lowercase, strip, chinese, clean, max_chars, post, extra=(), size=260):
    t = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=max_chars))
    t.normalizer = normalizers.BertNormalizer(clean_text=clean, handle_chinese_chars=chinese, strip_accents=strip, lowercase=lowercase)
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    alphabet = sorted({c for s in NASTY for c in t.normalizer.normalize_str(s) if c > " "})
    t.train_from_iterator(CORPUS, trainers.WordPieceTrainer(vocab_size=size + 2 * len(alphabet), special_tokens=specials, initial_alphabet=alphabet, show_progress=False))
    ids = {s: t.token_to_id(s) for s in specials}
    if post == "bert":
        t.post_processor = processors.BertProcessing(("[SEP]", ids["[SEP]"]), ("[CLS]", ids["[CLS]"]))
    else:
        t.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])])
    t.add_tokens(list(extra))
    return t


def bpe(normalizer, pre, byte_fallback=False, fuse_unk=False, ignore_merges=False, unk="<unk>", alphabet=(), extra=(), size=420, post=None, byte_level=False):
    t = Tokenizer(models.BPE(unk_token=unk, byte_fallback=byte_fallback, fuse_unk=fuse_unk, ignore_merges=ignore_merges))
    if normalizer:
        t.normalizer = normalizer
    train_pre = pre or pre_tokenizers.Metaspace()  # pairs across blanks would only waste the small vocabulary
    t.pre_tokenizer = train_pre
    specials = ["<unk>", "<s>", "</s>"] + (["<0x%02X>" % b for b in range(256)] if byte_fallback else [])
    trainer = trainers.BpeTrainer(vocab_size=size + len(specials), special_tokens=specials, initial_alphabet=list(alphabet), limit_alphabet=120 if not byte_level else 256, show_progress=False)
    t.train_from_iterator(CORPUS, trainer)
    d = json.loads(t.to_str())
    d["pre_tokenizer"] = json.loads(pre.__getstate__()) if pre else None
    d["added_tokens"] = [a for a in d["added_tokens"] if not a["content"].startswith("<0x")]  # bytes are plain tokens
    d["model"].update(byte_fallback=byte_fallback, fuse_unk=fuse_unk, ignore_merges=ignore_merges)
    t = Tokenizer.from_str(json.dumps(d))
    if post == "s":
        t.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)])
    elif post == "roberta":
        t.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 1))
    elif post == "sequence":
        t.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), processors.TemplateProcessing(single="<s> $A </s>", pair="$A $B", special_tokens=[("<s>", 1), ("</s>", 2)])])
    t.add_tokens(list(extra))
    return t


def tiny():
    """name -> Tokenizer; together they use every component that datasets/tokenizer.c supports."""
    meta = "\u2581"
    llama = normalizers.Sequence([normalizers.Prepend(meta), normalizers.Replace(" ", meta)])
    added = [AddedToken("<tool>", lstrip=True, rstrip=True, normalized=False), AddedToken("word", single_word=True, normalized=True), AddedToken("na\u00efve", normalized=True), AddedToken("tok", normalized=False), AddedToken("token", normalized=False)]
    llama3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    bytes_ = pre_tokenizers.ByteLevel.alphabet()
    return {
        "bert-uncased": bert(True, None, True, True, 100, "template"),
        "bert-cased": bert(False, None, True, True, 20, "bert", added),
        "bert-accents": bert(True, False, False, False, 100, "template", added[:1]),
        "bert-stripped": bert(False, True, True, False, 100, "bert", added[1:3]),
        "llama": bpe(llama, None, byte_fallback=True, fuse_unk=True, post="s"),
        "llama-added": bpe(llama, None, byte_fallback=True, fuse_unk=True, extra=added, post="s"),
        "metaspace-first": bpe(None, pre_tokenizers.Metaspace(prepend_scheme="first", split=False), fuse_unk=True, extra=added),
        "metaspace-split": bpe(normalizers.Sequence([normalizers.Strip(), normalizers.NFKC(), normalizers.Lowercase()]), pre_tokenizers.Metaspace(prepend_scheme="always"), ignore_merges=True, post="roberta"),
        "metaspace-never": bpe(normalizers.NFD(), pre_tokenizers.Metaspace(prepend_scheme="never"), unk=None),
        "gpt2": bpe(None, pre_tokenizers.ByteLevel(add_prefix_space=False), unk=None, alphabet=bytes_, byte_level=True),
        "roberta": bpe(normalizers.NFKD(), pre_tokenizers.ByteLevel(add_prefix_space=True), unk=None, alphabet=bytes_, byte_level=True, extra=added[:2], post="roberta"),
        "llama3": bpe(normalizers.NFC(), pre_tokenizers.Sequence([pre_tokenizers.Split(tokenizers.Regex(llama3), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]), unk=None, ignore_merges=True, alphabet=bytes_, byte_level=True, post="sequence"),
    }


def make(args):
    os.makedirs(OUT, exist_ok=True)
    with open(os.path.join(OUT, "texts.json"), "w", encoding="utf-8") as f:
        f.write("[\n" + ",\n".join(json.dumps(s) for s in NASTY) + "\n]\n")
    for name, t in tiny().items() if args.train else []:
        folder = os.path.join(OUT, name)
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, "tokenizer.json"), "w", encoding="utf-8") as f:
            f.write(t.to_str(pretty=False) + "\n")
    for path in sorted(glob.glob(os.path.join(OUT, "*", "tokenizer.json"))):
        write_goldens(os.path.dirname(path), Tokenizer.from_file(path))
    folder = os.path.join(OUT, "vocab-txt")  # the uncased one again, from vocab.txt alone
    os.makedirs(folder, exist_ok=True)
    t = Tokenizer.from_file(os.path.join(OUT, "bert-uncased", "tokenizer.json"))
    with open(os.path.join(folder, "vocab.txt"), "w", encoding="utf-8") as f:
        f.writelines(token + "\n" for token, _ in sorted(t.get_vocab().items(), key=lambda x: x[1]))
    write_goldens(folder, t)


def write_goldens(folder, t):
    with open(os.path.join(folder, "goldens.json"), "w", encoding="utf-8") as f:
        f.write('{"made_with": "tokenizers %s", "vocab": %d, "ids": [\n' % (tokenizers.__version__, 1 + max(t.get_vocab().values())))
        f.write(",\n".join(json.dumps(t.encode(s).ids, separators=(",", ":")) for s in NASTY))
        f.write("\n]}\n")


def ours(tool, folder, texts):
    with tempfile.TemporaryFile() as f:
        for s in texts:
            b = s.encode("utf-8")
            f.write(b"%d\n" % len(b) + b)
        f.seek(0)
        out = subprocess.run([tool, folder], stdin=f, stdout=subprocess.PIPE, check=True).stdout.decode()
    lines = out.split("\n")[:-1]
    assert len(lines) == len(texts), (len(lines), len(texts))
    return lines


def load(folder):
    path = os.path.join(folder, "tokenizer.json")
    if os.path.exists(path):
        t = Tokenizer.from_file(path)
        t.no_truncation()
        t.no_padding()
        return t
    return BertWordPieceTokenizer(os.path.join(folder, "vocab.txt"), lowercase=True)._tokenizer


def check(tool, folder, texts):
    """Number of texts whose ids differ; prints the first few."""
    t, bad = load(folder), 0
    got = ours(tool, folder, texts)
    for i in range(0, len(texts), 4096):
        for s, e, line in zip(texts[i:i + 4096], t.encode_batch(texts[i:i + 4096]), got[i:i + 4096]):
            if line == " ".join(map(str, e.ids)):
                continue
            bad += 1
            if bad <= 5:
                print("  differs: %r\n    theirs %s\n    ours   %s" % (s[:200], e.ids[:40], line[:200]))
    return bad


def read_texts(path):
    files = [path] if os.path.isfile(path) else sorted(glob.glob(os.path.join(path, "**", "*.jsonl"), recursive=True))
    texts = []
    for name in files:
        with open(name, encoding="utf-8") as f:
            for line in f:
                texts += [v for v in json.loads(line).values() if isinstance(v, str)]
    for name in sorted(glob.glob(os.path.join(path, "data.*"))):
        with open(name, encoding="utf-8") as f:
            texts += [line.split(" | ", 1)[1].strip() for line in f if not line.startswith("  ")]
    return texts


def compare(args):
    total = bad = 0
    for path in [None] + args.texts:
        texts = read_texts(path) if path else NASTY + [a + " " + b for a in NASTY for b in NASTY[:40]]
        n = check(args.tool, args.model, texts)
        print("%s: %d texts, %d differ" % (path or "made-up strings", len(texts), n))
        total, bad = total + len(texts), bad + n
    print("total: %d texts, %d differ" % (total, bad))
    return bad > 0


def hash_glosses(args):
    t, h = load(args.model), hashlib.sha256()
    for name in ["noun", "verb", "adj", "adv"]:
        with open("/usr/share/wordnet/data." + name, encoding="utf-8") as f:
            texts = [line.split(" | ", 1)[1].strip(" \n") for line in f if not line.startswith("  ")]
        for e in t.encode_batch(texts):
            h.update((" ".join(map(str, e.ids)) + "\n").encode())
    print(h.hexdigest())


POOLS = [(0x20, 0x7E)] * 6 + [(0, 0x2FF), (0x300, 0x36F), (0x370, 0x52F), (0x590, 0x6FF), (0x900, 0x97F), (0x1E00, 0x20FF), (0x2100, 0x2BFF), (0x3000, 0x30FF), (0x4E00, 0x4FFF), (0xAC00, 0xACFF), (0x1100, 0x11FF), (0, 0xD7FF), (0xE000, 0x10FFFF)]


def random_text(r):
    out = []
    for _ in range(r.randrange(1, 8)):
        lo, hi = r.choice(POOLS)
        out += [chr(r.randint(lo, hi)) for _ in range(r.randrange(1, 8))]
        if r.random() < 0.3:
            out.append(r.choice([" ", "  ", "\n", "[MASK]", "<s>", "</s>", "<tool>", "word", "\u2581", "na\u00efve", "token", "'s"]))
    # Unassigned code points are left to `unicode`: regular expressions of different Unicode versions disagree on them.
    return "".join(c for c in out if unicodedata.category(c[0]) not in ("Cs", "Cn"))


def random_texts(args):
    r = random.Random(args.seed)
    folders = [args.model] if args.model != "tiny" else sorted(glob.glob(os.path.join(OUT, "*", "")))
    bad = 0
    for folder in folders:
        n = check(args.tool, folder, [random_text(r) for _ in range(args.n)])
        print("%s: %d random texts, %d differ" % (os.path.basename(folder.rstrip("/")), args.n, n))
        bad += n
    return bad > 0


def unicode(args):
    """A vocabulary of all code points shows what the normaliser and the pre-tokenizer did with each."""
    points = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    vocab = {"[UNK]": 0}
    for c in points[1:]:
        vocab[c] = len(vocab)
        vocab["##" + c] = len(vocab)
    bad = 0
    for lower, strip, chinese, clean in [(True, None, True, True), (True, False, False, False), (False, True, True, False), (False, None, False, True)]:
        t = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
        t.normalizer = normalizers.BertNormalizer(clean_text=clean, handle_chinese_chars=chinese, strip_accents=strip, lowercase=lower)
        t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        with tempfile.TemporaryDirectory() as folder:
            t.save(os.path.join(folder, "tokenizer.json"), pretty=False)
            for texts in (["a%sb" % c for c in points], ["x\u0301%s\u0334\u0323y" % c for c in points]):
                n = check(args.tool, folder, texts)
                print("lowercase %s, strip_accents %s, chinese %s, clean %s: %d code points, %d differ" % (lower, strip, chinese, clean, len(texts), n))
                bad += n
    return bad > 0


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--tool", default=os.path.join(HERE, "..", "..", "build", "tests", "pb_tokenize"))
    sub = p.add_subparsers(dest="command", required=True)
    c = sub.add_parser("make")
    c.add_argument("--train", action="store_true")
    c.set_defaults(run=make)
    c = sub.add_parser("compare")
    c.add_argument("model")
    c.add_argument("texts", nargs="*")
    c.set_defaults(run=compare)
    c = sub.add_parser("hash")
    c.add_argument("model")
    c.set_defaults(run=hash_glosses)
    c = sub.add_parser("random")
    c.add_argument("model", help='a folder, or "tiny" for every golden one')
    c.add_argument("n", type=int)
    c.add_argument("--seed", type=int, default=1)
    c.set_defaults(run=random_texts)
    sub.add_parser("unicode").set_defaults(run=unicode)
    args = p.parse_args()
    sys.exit(args.run(args) or 0)


if __name__ == "__main__":
    main()
