# Shared by the set-up scripts (sourced by bash): messages, root rights, the cache, and an apt of our own.
#
# The apt of our own has its lists and packages under build/deps/apt. It knows source packages and the i386
# architecture, which the system then need not know. Its mirrors and keys are the system's.

set -eu
TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
BUILD=$TOP/build
DEPS=$BUILD/deps
CACHE=${QEMU_WIN_CACHE:-${HOME:-/root}/.cache/qemu-win}

say() { echo "setup: $*"; }
die() { echo "setup: $*" >&2; exit 1; }

# Runs a command quietly; its output is shown only if it fails. First argument: the log's name.
quietly() {
    local log=$DEPS/log/$1.log
    shift
    mkdir -p "$DEPS/log"
    "$@" >"$log" 2>&1 && return
    tail -n 30 "$log" >&2
    die "failed: $* (all of it: $log)"
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "root rights are needed for: $*"
    fi
}

APT=$DEPS/apt
apt_options=(
    -o Dir::Etc::SourceList="$APT/sources.list" -o Dir::Etc::SourceParts=/dev/null
    -o Dir::State="$APT/state" -o Dir::State::status="$APT/status"
    -o Dir::Cache="$APT/cache" -o Dir::Cache::pkgcache=pkg.bin -o Dir::Cache::srcpkgcache=srcpkg.bin
    -o APT::Architectures=amd64,i386 -o APT::Sandbox::User=root
    -o Acquire::Retries=3 -o Debug::NoLocking=1
)

# Makes our own apt ready: sources of every suite, and i386 packages of the release itself.
apt_prepare() {
    if [ -e "$APT/ready" ]; then
        return
    fi
    say "reading Debian's package lists (sources and i386, into build/deps/apt)"
    mkdir -p "$APT/state/lists/partial" "$APT/cache/archives/partial"
    : >"$APT/status"
    local key=/usr/share/keyrings/debian-archive-keyring.gpg signed="" uri suite component
    if [ -e "$key" ]; then
        signed=" signed-by=$key"
    fi
    # shellcheck disable=SC2016  # the $(...) are apt's own
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' | sort -u |
    while read -r uri suite component; do
        if [ "$component" = main ]; then
            case $suite in
            *-*) ;;
            *) echo "deb [arch=amd64,i386$signed] $uri $suite main" ;;
            esac
            echo "deb-src [arch=amd64$signed] $uri $suite main"
        fi
    done >"$APT/sources.list"
    quietly apt-update apt-get "${apt_options[@]}" update
    touch "$APT/ready"
}

# own_apt TOOL ARGS: apt-get or apt-cache with our own lists.
own_apt() {
    local tool=$1
    shift
    "$tool" "${apt_options[@]}" "$@"
}

# Where there is no apt (MSYS2): the release's package lists by curl.
MIRROR=${QEMU_WIN_MIRROR:-https://deb.debian.org/debian}
RELEASE=bookworm

# list_field PACKAGE[:ARCH] FIELD, from the list of the architecture (amd64 if none is named).
list_field() {
    local name=${1%%:*} arch=amd64 list
    case $1 in
    *:*) arch=${1#*:} ;;
    esac
    list=$DEPS/lists/$arch
    if [ ! -e "$list" ]; then
        say "reading Debian's package list for $arch" >&2
        mkdir -p "$DEPS/lists"
        curl -fsSL "$MIRROR/dists/$RELEASE/main/binary-$arch/Packages.xz" | xz -d >"$list.part"
        mv "$list.part" "$list"
    fi
    awk -v name="$name" -v field="$2:" 'BEGIN { RS = ""; FS = "\n" }
        $1 == "Package: " name {
            for (i = 2; i <= NF; i++)
                if (index($i, field) == 1) {
                    print substr($i, length(field) + 2)
                    exit
                }
        }' "$list"
}

have_apt() { command -v apt-get >/dev/null; }

# package_field PACKAGE[:ARCH] FIELD: Version, Depends, ...
package_field() {
    if have_apt; then
        apt_prepare
        own_apt apt-cache show --no-all-versions "$1" | sed -n "s/^$2: //p" | head -n 1
    else
        list_field "$1" "$2"
    fi
}

# Puts the package's file into the current folder.
download_deb() {
    local file
    if have_apt; then
        own_apt apt-get download "$1"
    else
        file=$(list_field "$1" Filename)
        curl -fsSLO "$MIRROR/$file"
        echo "$(list_field "$1" SHA256)  ${file##*/}" | sha256sum -c
    fi
}

# unpack_deb PACKAGE[:ARCH] DIRECTORY: downloads a package (cached) and unpacks it; nothing is installed.
unpack_deb() {
    local package=$1 dir=$2 version file
    version=$(package_field "$package" Version)
    [ -n "$version" ] || die "Debian has no package $package"
    file=$CACHE/debs/${package//:/_}_${version//:/%}.deb
    if [ ! -e "$file" ]; then
        say "downloading $package $version"
        mkdir -p "$CACHE/debs" "$DEPS/download"
        rm -rf "$DEPS/download"/*
        (cd "$DEPS/download" && quietly "download-${package%%:*}" download_deb "$package")
        mv "$DEPS/download"/*.deb "$file"
    fi
    mkdir -p "$dir"
    if have_apt; then
        dpkg-deb -x "$file" "$dir"
    else
        bsdtar -xOf "$file" 'data.tar*' | bsdtar -xf - -C "$dir"
    fi
}
