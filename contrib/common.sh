# What the scripts here share: progress lines, packages, the Swift toolchain. Sourced, not run.
# shellcheck shell=bash

swift_version=6.3.1
# Swift 6.x Release Signing Key, https://www.swift.org/install/linux/tarball/
swift_key=52BB7E3DE28A71BE22EC05FFEF80A866B47A981F
swift_home=/opt/swift-$swift_version

started=$SECONDS
step() { printf '==> %s  (%d:%02d)\n' "$*" $(((SECONDS - started) / 60)) $(((SECONDS - started) % 60)); }
fail() { echo "${0##*/}: $*" >&2; exit 1; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; return; fi
  command -v sudo >/dev/null || fail "this needs root: run it as root, or install sudo"
  sudo --preserve-env=DEBIAN_FRONTEND,JOBLET_TESTHOST_KERNEL,JOBLET_TESTHOST_HOME "$@"
}

need_packages() {
  local missing=() package
  for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  step "install packages: ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  as_root apt-get update -qq
  as_root apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# What building takes: the libraries the programs use, and what the compiler calls.
need_build_packages() {
  command -v apt-get >/dev/null || fail "this script knows Debian and Ubuntu (apt); elsewhere install the packages README.md lists, then use swift build and contrib/install"
  need_packages ca-certificates curl git gnupg jq openssl pkg-config binutils g++ libc6-dev libncurses-dev libxml2-dev \
    tzdata libsystemd-dev libisal-dev libseccomp-dev libcurl4-openssl-dev libssl-dev zlib1g-dev \
    libsqlite3-dev libpcre2-dev libyaml-dev
}

# What an installation calls: mkfs.xfs or mke2fs makes the image that workspaces have their quota on.
need_run_packages() { need_packages xfsprogs e2fsprogs; }

# What Joblet is measured beside; without one of them its figures are absent, and say why.
need_bench_packages() {
  command -v apt-get >/dev/null || return 0
  need_packages bubblewrap runc >&2
}

# A Swift of at least 6.2: the one that is there, else the pinned release from swift.org.
need_swift() {
  if [ -x "$swift_home/usr/bin/swift" ]; then export PATH=$swift_home/usr/bin:$PATH; fi
  local have
  have=$(swift --version 2>/dev/null | sed -n 's/.*Swift version \([0-9]*\.[0-9]*\).*/\1/p' | head -n 1) || true
  if [ -n "$have" ] && [ "$(printf '6.2\n%s\n' "$have" | sort -V | head -n 1)" = 6.2 ]; then return 0; fi
  [ -z "$have" ] || step "Swift $have is too old, 6.2 is needed"
  install_swift
  export PATH=$swift_home/usr/bin:$PATH
}

install_swift() {
  local id version platform suffix='' url work
  # shellcheck disable=SC1091
  id=$(. /etc/os-release && echo "$ID") version=$(. /etc/os-release && echo "$VERSION_ID")
  case $id-$version in
    debian-12 | debian-13) platform=debian12 ;; # the release has no build of its own for 13; that of 12 runs there
    ubuntu-24.04) platform=ubuntu24.04 ;;
    ubuntu-22.04) platform=ubuntu22.04 ;;
    *) fail "no pinned Swift for $id $version; install Swift 6.2 or later from https://www.swift.org/install and run this again" ;;
  esac
  [ "$(uname -m)" != aarch64 ] || suffix=-aarch64
  url=https://download.swift.org/swift-$swift_version-release/${platform//./}$suffix/swift-$swift_version-RELEASE/swift-$swift_version-RELEASE-$platform$suffix.tar.gz
  work=$(mktemp -d)
  step "download Swift $swift_version for $platform (about 1 GB)"
  curl -fL --retry 3 --progress-bar -o "$work/swift.tar.gz" "$url" || fail "can't download $url"
  curl -fsSL --retry 3 -o "$work/swift.tar.gz.sig" "$url.sig" || fail "can't download $url.sig"
  curl -fsSL --retry 3 -o "$work/keys.asc" https://www.swift.org/keys/all-keys.asc || fail "can't download Swift's public keys"
  step "check its signature"
  # Not the keys but the pinned fingerprint is what is trusted: a line that names it is what gpg gives for nothing else.
  install -d -m 700 "$work/gnupg"
  GNUPGHOME=$work/gnupg gpg --batch --quiet --import "$work/keys.asc" 2>/dev/null || true
  GNUPGHOME=$work/gnupg gpg --batch --status-fd 1 --verify "$work/swift.tar.gz.sig" "$work/swift.tar.gz" 2>/dev/null |
    grep -q "^\[GNUPG:\] VALIDSIG .*$swift_key" || fail "the toolchain's signature is not by $swift_key; nothing was installed"
  step "unpack it into $swift_home"
  as_root mkdir -p "$swift_home"
  as_root tar -xzf "$work/swift.tar.gz" -C "$swift_home" --strip-components=1
  as_root chmod -R o+rX "$swift_home"
  rm -rf "$work"
}

# True where Joblet itself can run: systemd as PID 1 and a cgroup v2 that has its controllers.
is_real_host() {
  [ -d /run/systemd/system ] && [ "$(stat -fc %T /sys/fs/cgroup)" = cgroup2fs ] &&
    [ "$(grep -cwE 'cpu|memory|pids' <(tr ' ' '\n' </sys/fs/cgroup/cgroup.controllers))" = 3 ]
}

# Folders with shared objects that a program has from a toolchain, not from the system; with colons between them.
runtime_folders() { # PROGRAM
  ldd "$1" | sed -n 's/.* => \(.*\)\/[^/]* (0x.*/\1/p' | grep -vE '^/(usr/)?lib(64)?(/|$)' | sort -u | paste -sd: -
}
