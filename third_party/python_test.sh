#!/bin/bash
# Runs one Python test (python.bzl): python_test.sh peers|plain SCRIPT ARG…
set -eu
kind="$1"
shift
python=/usr/bin/python3
if [[ "$kind" == peers ]]; then
  home="$(getent passwd "$(id -u)" | cut -d: -f6)"
  python="${TESSERA_PYTHON:-$home/.cache/tessera/python/bin/python3}"
  if [[ ! -x "$python" ]]; then
    echo "error: this test compares with packages from PyPI, and $python is not there; run ./check --setup once" >&2
    exit 1
  fi
fi
export PYTHONPATH="$PWD" PYTHONDONTWRITEBYTECODE=1
exec "$python" "$@"
