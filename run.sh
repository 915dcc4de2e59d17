#!/usr/bin/env bash
# Sets up whatever is missing (system packages, base model, build), then runs the quick comparison and writes its report.
# Arguments go to `peftbench run quick`, for example: ./run.sh --seeds 1
set -euo pipefail
cd "$(dirname "$0")"
. setup/common.sh

# shellcheck disable=SC2086
need_packages $PB_PACKAGES
need_model || exit 3
need_build build peftbench
case " $* " in *" cuda "* | *"=cuda "*) need_build build cuda_backend ;; esac
exec build/peftbench run quick "$@"
