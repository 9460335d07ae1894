# Sourced by ./quickstart and ./check: finds the cache folder, installs what is missing, starts Bazel.
#
# Everything here may run again and again: what is there is not installed twice, and nothing is written into the tree.
# TESSERA_CACHE (default ${XDG_CACHE_HOME:-~/.cache}/tessera) holds all that outlives a run:
#   bazel-disk/  Bazel's results, shared by every checkout      python/  the peers that tests compare with
#   models/      real models that tests fetch from packages

TESSERA_CACHE="${TESSERA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tessera}"
export TESSERA_CACHE
TESSERA_PYTHON="${TESSERA_PYTHON:-$TESSERA_CACHE/python/bin/python3}"
export TESSERA_PYTHON

# step TEXT…: one line of progress, with the seconds since the start.
step() { printf '== %4ds  %s\n' "$SECONDS" "$*" >&2; }

# die TEXT…: says what is wrong and what to do, and stops.
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# packages GROUP…: the names in third_party/packages.txt that any of the groups needs.
packages() {
  local group name wanted=" $* "
  while read -r group name; do
    case "$group" in '' | \#*) continue ;; esac
    [[ "$wanted" == *" $group "* ]] && printf '%s\n' "$name"
  done <third_party/packages.txt
  return 0
}

# missing_packages GROUP…: those of them that are not installed.
missing_packages() {
  local name
  for name in $(packages "$@"); do
    [[ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null)" == installed ]] || printf '%s\n' "$name"
  done
}

# install_packages GROUP…: installs what is missing, as root or through sudo; asks the network only then.
install_packages() {
  command -v dpkg-query >/dev/null || die "this script installs Debian packages and finds no dpkg;" \
    "install the equivalents of third_party/packages.txt by hand and run it with --no-install"
  local missing sudo=()
  mapfile -t missing < <(missing_packages "$@")
  if [[ ${#missing[@]} -eq 0 ]]; then
    step "system packages: all here"
    return
  fi
  if [[ "$(id -u)" -ne 0 ]]; then
    command -v sudo >/dev/null || die "missing packages, and neither root nor sudo to install them;" \
      "have this run: apt-get install ${missing[*]}"
    sudo=(sudo)
  fi
  step "system packages: installing ${missing[*]}"
  "${sudo[@]}" apt-get update -q >&2 || die "apt-get update failed; see above"
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}" >&2 ||
    die "apt-get install failed; see above. Tessera is built on Debian 12, with the names of third_party/packages.txt"
}

# install_python: a virtual environment with third_party/requirements.txt, made again only when that file changes.
install_python() {
  local home="$TESSERA_CACHE/python" stamp="$TESSERA_CACHE/python/requirements.txt"
  if cmp -s third_party/requirements.txt "$stamp"; then
    step "Python packages for tests: all here"
    return
  fi
  step "Python packages for tests: installing into $home"
  mkdir -p "$TESSERA_CACHE"
  [[ -x "$home/bin/python3" ]] || /usr/bin/python3 -m venv "$home" || die "python3 -m venv $home failed; see above"
  "$home/bin/python3" -m pip install -q --disable-pip-version-check -r third_party/requirements.txt >&2 ||
    die "pip could not install third_party/requirements.txt; see above"
  cp third_party/requirements.txt "$stamp"
}

# run_bazel COMMAND ARG…: Bazel with the shared disk cache. `bazel` is Debian's; it needs no network.
run_bazel() {
  local command="$1"
  shift
  bazel "$command" --disk_cache="$TESSERA_CACHE/bazel-disk" "$@"
}
