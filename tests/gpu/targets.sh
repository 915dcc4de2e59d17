# shellcheck shell=bash
# The targets for speed and memory, each met or not by what run_all.sh left in a folder. Sourced by run_all.sh and its check.
#
# A target is judged by the worst of everything it was measured for; what was not measured is said, and is not met.

field() { # FILE KEY: the first value of that key in a JSON file
    grep -oE "\"$2\":[[:space:]]*[^],}]*" "$1" | head -n 1 | sed -E 's/^[^:]*:[[:space:]]*//'
}

judge() { # TARGET least|most LIMIT: on stdin a line "VALUE WHAT" for everything it was measured for
    awk -v target="$1" -v way="$2" -v limit="$3" '
        $1 !~ /^[-+]?[0-9.]+(e[-+]?[0-9]+)?$/ { next }
        {
            v = $1 + 0
            $1 = ""
            n++
            if (way == "least" ? v < limit : v > limit) missed++
            if (n == 1 || (way == "least" ? v < worst : v > worst)) { worst = v; what = $0 }
        }
        END {
            if (n == 0) printf "%-60s not measured\n", target
            else printf "%-60s %-8s worst %.3f:%s; %d of %d\n", target, missed ? "NOT MET" : "met", worst, what, n - missed, n
        }'
}

# Lines "RATIO PEAKS SHAPE METHOD MODE" of all peers; PEAKS: ours over theirs.
peers() {
    cat "$1"/peer-*.log 2>/dev/null | awk '/ ratio [0-9.]+ / {
        for (i = 4; i < NF; i++) { if ($i == "ratio") r = $(i + 1); if ($i == "peak") { a = $(i + 1); b = $(i + 3) } }
        print r, (a > 0 ? b / a : "-"), $1, $2, $3 }'
}

# Lines "VALUE SHAPE METHOD": a field of every method of every shape, timed as graphs on all of the GPU.
steps() { # FOLDER KEY [METHODS [TRACER]]
    local file name
    for file in "$1"/step-*.json; do
        name=$(basename "$file" .json)
        name=${name#step-}
        case $name in *-eager | *-budget | *-slab | llama-65b-*) continue ;; esac
        case ,${3:-${name##*-}}, in *,"${name##*-}",*) ;; *) continue ;; esac
        [ -s "$file" ] || continue
        [ -z "${4:-}" ] || [ "$(field "$file" tracer)" = "\"$4\"" ] || continue
        echo "$(field "$file" "$2") ${name%-*} ${name##*-}"
    done
}

# Lines "TIMES SHAPE METHOD": a method's step over LoRA's of the same shape.
against_lora() { # FOLDER METHODS
    { steps "$1" step_s_median lora && steps "$1" step_s_median "$2"; } | awk '
        $3 == "lora" { base[$2] = $1; next }
        base[$2] > 0 { print $1 / base[$2], $2, $3 }'
}

shares() { # FOLDER PATTERN: lines "PERCENT CASE" of kernels at the rows of a batch
    grep -hE "$2" "$1/kernels-4096.txt" 2>/dev/null | awk '{ for (i = 2; i <= NF; i++) if ($i == "%") print $(i - 1), $1 }'
}

fastest() { # FOLDER NAME: the best median of its rounds
    local file
    for file in "$1/$2"-*.json; do [ -s "$file" ] && field "$file" step_s_median; done | sort -g | head -n 1
}
overhead() { # FOLDER HOW TRACED: a line "PERCENT HOW"
    echo "$(fastest "$1" "trace-$2-$3") $(fastest "$1" "trace-$2-none") $2" | awk 'NF == 3 && $2 > 0 { print 100 * ($1 / $2 - 1), $3 }'
}

tell_targets() { # FOLDER
    local file
    peers "$1" | awk '$4 == "lora" && $5 == "eager" { print $1, $3 }' | judge "LoRA >= 2.0x HF PEFT eager" least 2
    peers "$1" | awk '$4 == "lora" && $5 != "eager" { print $1, $3 }' | judge "LoRA >= 1.3x HF PEFT with torch.compile" least 1.3
    peers "$1" | awk '$4 == "qlora" { print $1, $3 }' | judge "QLoRA >= 2.0x PEFT with bitsandbytes" least 2
    peers "$1" | awk '{ print $1, $3, $4, $5 }' | judge "no method of a model below 1.0x" least 1
    peers "$1" | awk '{ print $2, $3, $4, $5 }' | judge "peak memory <= 0.7x PEFT's" most 0.7
    against_lora "$1" qlora | awk '{ print 1 / $1, $2 }' | judge "QLoRA >= 0.95x own LoRA's speed" least 0.95
    against_lora "$1" dora,adalora | judge "DoRA and AdaLoRA <= 1.15x own LoRA's step" most 1.15
    steps "$1" mfu | awk '$2 ~ /^llama/' | judge "MFU >= 45 % from 1B parameters on" least 0.45
    steps "$1" idle_share "" cupti | judge "GPU idle <= 2 % of a step" most 0.02 # other tracers see none
    shares "$1" '/dequantize4/' | judge "NF4 dequantisation >= 85 % of copy bandwidth" least 85
    shares "$1" '/(norm_fwd|norm_bwd|act_fwd|act_bwd|swiglu_fwd|swiglu_bwd|adamw)/' | judge "norms, activations, AdamW >= 80 %" least 80
    awk '/ % of the best/ { for (i = 2; i <= NF; i++) if ($i == "%") { v = $(i - 1); $(i - 1) = ""; print v, $0 } }' "$1/algorithms.log" 2>/dev/null | judge "GEMM >= 95 % of the best cuBLASLt" least 95
    for file in "$1"/step-llama-3*-lora.json; do
        if [ -s "$file" ]; then echo "$(field "$file" head_bytes) $(field "$file" logits_bytes) $(basename "$file" .json)"; fi
    done | awk '$2 > 0 { print $1 / $2, $3 }' | judge "loss layer <= 1/10 of all logits, vocabulary 128k" most 0.1
    for file in "$1"/step-*-budget.json; do
        if [ -s "$file" ]; then echo "$(field "$file" predicted_bytes) $(field "$file" device_bytes) $(basename "$file" .json)"; fi
    done | awk '$2 > 0 { d = $1 / $2 - 1; print 100 * (d < 0 ? -d : d), $3 }' | judge "predicted peak within 5 % of the driver's" most 5
    overhead "$1" eager ops | judge "tracing <= 3 % of a step, eager" most 3
    overhead "$1" graphs nodes | judge "tracing <= 5 % of a step, per graph node" most 5
    for file in "$1"/trace-*.json; do
        if [ -s "$file" ] && [ "$(field "$file" traced)" != '"none"' ]; then echo "$(field "$file" trace_dropped) $(basename "$file" .json)"; fi
    done | judge "no dropped records" most 0
}
