#!/bin/bash
# Tests the kernels, what they stand on and the accuracy of models on emulated 64-bit Arm processors: the emulator's best,
# and a Cortex-A53, which has no dot product instructions.
#
#   scripts/test-aarch64.sh SCRATCH [arguments of cargo test]
#
# For x86-64 hosts with Debian's apt. Nothing is installed: packages are unpacked in the folder SCRATCH (2 GB), which the
# next run uses again. Emulation is slow: allow an hour. REALM_CPUS names other processors (`qemu-aarch64 -cpu help`).
set -euo pipefail
TARGET=aarch64-unknown-linux-gnu
SCRATCH=$(realpath -m "${1:?which scratch folder}")
shift
cd "$(dirname "$0")/.."
mkdir -p "$SCRATCH"

# An apt with a state of its own: the host's suite, and newer ones for the sources of Rust.
set_up_apt() {
  local apt=$SCRATCH/apt mirror suite
  export APT_CONFIG=$apt/apt.conf
  [ ! -f "$apt/ready" ] || return 0
  mirror=$(APT_CONFIG= apt-get indextargets --format '$(REPO_URI)' | head -1)
  mkdir -p "$apt"/{lists/partial,archives/partial}
  : > "$apt/status"
  for suite in trixie-backports forky; do
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main"
  done > "$apt/sources.list"
  cat > "$apt/apt.conf" <<CONF
Dir::State::Lists "$apt/lists"; Dir::State::Status "$apt/status"; Dir::Cache "$apt"; Dir::Cache::Archives "$apt/archives";
Dir::Etc::SourceList "$apt/sources.list"; APT::Default-Release "$(. /etc/os-release && echo "$VERSION_CODENAME")";
APT::Sandbox::User "root"; Acquire::Check-Valid-Until "false";
CONF
  apt-get -q update
  touch "$apt/ready"
}

# Unpacks Debian packages, `name` or `name=version`, below $SCRATCH/root.
unpack() {
  local package name
  for package; do
    name=${package%%=*}
    [ ! -f "$SCRATCH/apt/$name.unpacked" ] || continue
    (cd "$SCRATCH/apt/archives" && apt-get -q download "$package")
    dpkg-deb -x "$SCRATCH/apt/archives/$name"_*.deb "$SCRATCH/root"
    touch "$SCRATCH/apt/$name.unpacked"
  done
}

# The driver that links (rustc knows by its name how to call it), the C library, the emulator.
set_up_tools() {
  local gcc
  gcc=$(apt-cache depends gcc-aarch64-linux-gnu | sed -n 's/.*Depends: gcc-\([0-9]*\)-aarch64-linux-gnu$/\1/p' | head -1)
  unpack binutils-aarch64-linux-gnu "gcc-$gcc-aarch64-linux-gnu" "libgcc-$gcc-dev-arm64-cross" libgcc-s1-arm64-cross \
    libc6-arm64-cross libc6-dev-arm64-cross qemu-user-static
  cat > "$SCRATCH/aarch64-linux-gnu-gcc" <<LINK
#!/bin/sh
export LD_LIBRARY_PATH=$SCRATCH/root/usr/lib/x86_64-linux-gnu
exec $SCRATCH/root/usr/bin/aarch64-linux-gnu-gcc-$gcc --sysroot=$SCRATCH/root "\$@"
LINK
  chmod +x "$SCRATCH/aarch64-linux-gnu-gcc"
}

# The standard library: as a part of the toolchain (`rustup target add`), else compiled with the tests from Debian's copy
# of its sources, beside a hard-linked copy of the toolchain.
set_up_rust() {
  local version sysroot
  BUILD_STD=()
  sysroot=$(rustc --print sysroot)
  [ ! -d "$sysroot/lib/rustlib/$TARGET/lib" ] || return 0
  version=$(rustc --version | sed 's/rustc \([0-9.]*\).*/\1/')
  unpack "rust-src=$version*"
  [ -d "$SCRATCH/toolchain" ] || cp -al "$sysroot" "$SCRATCH/toolchain" 2>/dev/null || cp -a "$sysroot" "$SCRATCH/toolchain"
  mkdir -p "$SCRATCH/toolchain/lib/rustlib/src/rust"
  ln -sfn "$SCRATCH/root/usr/src/rustc-$version/library" "$SCRATCH/toolchain/lib/rustlib/src/rust/library"
  export PATH=$SCRATCH/toolchain/bin:$PATH RUSTC_BOOTSTRAP=1
  BUILD_STD=(-Zbuild-std=std,test,panic_unwind)
}

set_up_apt
set_up_tools
set_up_rust
qemu=$SCRATCH/root/usr/bin/qemu-aarch64-static
export CARGO_TARGET_DIR=$SCRATCH/target
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=$SCRATCH/aarch64-linux-gnu-gcc

for cpu in ${REALM_CPUS:-max cortex-a53}; do
  export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="$qemu -cpu $cpu -L $SCRATCH/root/usr/aarch64-linux-gnu"
  cargo_test() { cargo test --no-default-features --target $TARGET "${BUILD_STD[@]}" "$@"; }
  echo "== $cpu"
  if [ $# -gt 0 ]; then
    cargo_test "$@"
  else
    cargo_test --lib -- kernels:: quant:: compute::
    cargo_test --test accuracy
  fi
done
