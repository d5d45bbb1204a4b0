# shellcheck shell=bash
# Sourced by ./quickstart and ./test: makes a bare Debian machine able to build, and keeps what is built outside
# the checkout. Installs from package registries only, and only what is missing.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# The toolchain that rust-toolchain.toml pins, and the target of static binaries.
rust_version=$(sed -n 's/^channel = "\(.*\)"$/\1/p' "$root/rust-toolchain.toml")
rust_target=$(uname -m)-unknown-linux-musl

say() { printf '[%6d s] %s\n' "$SECONDS" "$*"; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

# need_packages PACKAGE:PROGRAM...: installs the packages whose programs are not there.
need_packages() {
  local missing=() p
  for p in "$@"; do command -v "${p#*:}" >/dev/null || missing+=("${p%%:*}"); done
  ((${#missing[@]})) || return 0
  [[ $EUID == 0 ]] || die "install ${missing[*]} first, or run this as root"
  say "installing ${missing[*]}"
  apt-get update -qq >/dev/null
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# need_rust COMPONENT...: the pinned toolchain with these components and the static target.
need_rust() {
  local component have
  command -v rustup >/dev/null || die "Rust is missing: install rustup (https://rustup.rs), then run this again"
  if ! rustup toolchain list | grep -q "^$rust_version-"; then
    say "installing Rust $rust_version"
    rustup toolchain install "$rust_version" --profile minimal --no-self-update >/dev/null
  fi
  have=$(rustup component list --toolchain "$rust_version" --installed)
  for component in "$@"; do
    grep -q "^$component" <<<"$have" || rustup component add --toolchain "$rust_version" "$component" >/dev/null
  done
  rustup target list --toolchain "$rust_version" --installed | grep -qx "$rust_target" ||
    rustup target add --toolchain "$rust_version" "$rust_target" >/dev/null
}

# need_go: what the local cluster's programs are built with.
need_go() {
  command -v go >/dev/null || die "Go is missing: install Go 1.24 or newer, then run this again"
}

export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-${HOME:?HOME is not set}/.cache}/gantry/target}
