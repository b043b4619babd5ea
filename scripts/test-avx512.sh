#!/bin/bash
# Tests the kernels on emulated x86-64 processors that have AVX-512 and AVX-VNNI, on hosts that have neither.
#
#   scripts/test-avx512.sh SCRATCH [arguments of the test program: name filters, --exact, --skip]
#
# For x86-64 hosts with Debian's apt and a C++ compiler. Bochs emulates a whole machine (qemu has no AVX-512): Linux starts
# in it from a disc that holds the test program and a first process that runs it. Nothing is installed: packages are
# unpacked and Bochs is compiled (Debian's is several times slower) in the folder SCRATCH (1 GB), which the next run uses
# again. Emulation is slow: property tests run REALM_CASES cases (2). REALM_CPUS names other processors
# (`SCRATCH/bochs --help cpu`); a run of more than REALM_SECONDS is ended.
set -euo pipefail
TARGET=x86_64-unknown-linux-gnu
SUITE=trixie # Bochs 3.0: the 2.7 before knows no AVX-VNNI, the 3.1 after divides wrongly
SCRATCH=$(realpath -m "${1:?which scratch folder}")
shift
[ $# -gt 0 ] || set -- kernels:: quant::
cd "$(dirname "$0")/.."
mkdir -p "$SCRATCH"/{apt/lists/partial,apt/archives/partial,root,disc/isolinux}

# Unpacks the packages and all they need below $SCRATCH/root, with an apt of its own: as if nothing were installed.
set_up_tools() {
  local apt=$SCRATCH/apt mirror kernel package
  [ ! -f "$apt/ready" ] || return 0
  mirror=$(apt-get indextargets --format '$(REPO_URI)' | head -1)
  for kind in deb deb-src; do
    echo "$kind [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $SUITE main"
  done > "$apt/sources.list"
  : > "$apt/status"
  cat > "$apt/apt.conf" <<CONF
Dir::State::Lists "$apt/lists"; Dir::State::Status "$apt/status"; Dir::Cache "$apt"; Dir::Cache::Archives "$apt/archives";
Dir::Etc::SourceList "$apt/sources.list"; Dir::Etc::SourceParts "/dev/null"; APT::Sandbox::User "root";
CONF
  export APT_CONFIG=$apt/apt.conf
  apt-get -q update
  apt-get -q install --download-only --yes --no-install-recommends bochsbios vgabios xorriso isolinux syslinux-common
  kernel=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p')
  (cd "$apt/archives" && apt-get -q download "$kernel")
  for package in "$apt"/archives/*.deb; do dpkg-deb -x "$package" "$SCRATCH/root"; done
  cp "$SCRATCH"/root/boot/vmlinuz-* "$SCRATCH/disc/isolinux/vmlinuz"
  cp "$SCRATCH/root/usr/lib/ISOLINUX/isolinux.bin" "$SCRATCH/root/usr/lib/syslinux/modules/bios/ldlinux.c32" \
    "$SCRATCH/disc/isolinux"
  touch "$apt/ready"
}

# Compiles Bochs without display, debugger and what else makes it slow.
set_up_bochs() {
  local source=$SCRATCH/bochs-source uri name size hash
  [ ! -x "$SCRATCH/bochs" ] || return 0
  mkdir -p "$source"
  read -r uri name size hash < <(APT_CONFIG=$SCRATCH/apt/apt.conf apt-get source --print-uris bochs | grep '\.orig\.tar')
  /usr/lib/apt/apt-helper -c "$SCRATCH/apt/apt.conf" download-file "$(tr -d "'" <<< "$uri")" "$source/$name" "$hash"
  tar -x --strip-components 1 -C "$source" -f "$source/$name"
  (
    cd "$source"
    ./configure -q CXXFLAGS=-O2 CFLAGS=-O2 --with-nogui --disable-docbook --disable-gameport --disable-assert-checks \
      --disable-stats --enable-cpu-level=6 --enable-x86-64 --enable-avx --enable-evex --enable-protection-keys \
      --enable-cet --enable-memtype --enable-repeat-speedups --enable-fast-function-calls --enable-handlers-chaining \
      --enable-trace-linking
    make -s -j"$(nproc)"
  ) > "$source/log" 2>&1
  cp "$source/bochs" "$SCRATCH/bochs"
}

# Runs one of the unpacked programs with the libraries that came with it.
run() {
  local program=$SCRATCH/root/usr/bin/$1
  shift
  "$SCRATCH/root/usr/lib64/ld-linux-x86-64.so.2" --library-path "$SCRATCH/root/usr/lib/x86_64-linux-gnu" "$program" "$@"
}

# Compiles the tests and the first process, both without shared libraries: the emulated machine has no files but these.
build() {
  export RUSTFLAGS="-C target-feature=+crt-static" CARGO_TARGET_DIR=$SCRATCH/target
  tests=$(cargo test --no-default-features --lib --no-run --target $TARGET --message-format=json \
    | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -1)
  strip -o "$SCRATCH/tests" "$tests"
  rustc --edition 2024 -O $RUSTFLAGS --target $TARGET -C strip=symbols -o "$SCRATCH/init" scripts/test-avx512.rs
}

# An entry of a newc archive (Linux, Documentation/driver-api/early-userspace/buffer-format.rst): name, mode, file,
# and of devices the two numbers.
inode=0
entry() {
  local size=0
  [ -z "$3" ] || size=$(stat -c %s "$3")
  inode=$((inode + 1))
  printf '070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x' $inode "$2" 0 0 1 0 "$size" 0 0 "${4:-0}" "${5:-0}" \
    $((${#1} + 1)) 0
  printf '%s\0' "$1"
  head -c $(((4 - (110 + ${#1} + 1) % 4) % 4)) /dev/zero
  [ -z "$3" ] || cat "$3" <(head -c $(((4 - size % 4) % 4)) /dev/zero)
}

# The disc that the machine starts from.
make_disc() {
  local disc=$SCRATCH/disc/isolinux
  printf '%s\n' "${REALM_CASES:-2}" "$@" > "$SCRATCH/arguments"
  {
    entry init 0100755 "$SCRATCH/init"
    entry tests 0100755 "$SCRATCH/tests"
    entry arguments 0100644 "$SCRATCH/arguments"
    entry dev/random 020666 '' 1 8
    entry dev/urandom 020666 '' 1 9
    entry TRAILER!!! 0 ''
  } > "$disc/initrd"
  cat > "$disc/isolinux.cfg" <<CONF
DEFAULT tests
LABEL tests
KERNEL vmlinuz
INITRD initrd
APPEND console=ttyS0,115200 quiet nokaslr edd=off no5lvl mitigations=off tsc=reliable no_timer_check
CONF
  run xorriso -as mkisofs -quiet -o "$SCRATCH/disc.iso" -b isolinux/isolinux.bin -c isolinux/boot.cat -no-emul-boot \
    -boot-load-size 4 -boot-info-table "$SCRATCH/disc" 2> /dev/null
}

# Starts the machine with the named processor and shows what it writes to its serial port, until it switches itself off.
emulate() {
  local machine=$SCRATCH/machine-$1 pid
  mkdir -p "$machine"
  rm -f "$machine"/*
  # Bochs' AMX is not complete enough for Linux to start.
  cat > "$machine/bochsrc" <<CONF
config_interface: textconfig
display_library: nogui
cpu: model=$1, exclude_features="amx amx_bf16 amx_int8", ips=100000000, reset_on_triple_fault=0
memory: guest=1024, host=1024
romimage: file=$SCRATCH/root/usr/share/bochs/BIOS-bochs-latest, options=fastboot
vgaromimage: file=$SCRATCH/root/usr/share/vgabios/vgabios.bin
ata0-master: type=cdrom, path=$SCRATCH/disc.iso, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev=$machine/serial
clock: sync=none
panic: action=fatal
info: action=ignore
log: $machine/log
CONF
  timeout -k 5 "${REALM_SECONDS:-3600}" "$SCRATCH/bochs" -q -f "$machine/bochsrc" < /dev/null > "$machine/output" 2>&1 &
  pid=$!
  touch "$machine/serial"
  tail --pid=$pid -n +1 -f "$machine/serial" || true
  wait $pid || true
  grep -q '^tests ended: exit status: 0' "$machine/serial"
}

set_up_tools
set_up_bochs
build
make_disc --test-threads=1 "$@"
for cpu in ${REALM_CPUS:-sapphire_rapids arrow_lake}; do
  echo "== $cpu"
  emulate "$cpu"
done
