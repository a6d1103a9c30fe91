#!/bin/sh
# Builds the native code for AArch64 and runs the tests of the kernels and of draws under user-mode
# emulation, at the level neon alone: the portable one is the same source wherever it is compiled. Everything lands in build/aarch64; the system's packages are left alone,
# but for the compiler and the emulator, which apt-get installs where they are missing.
#
#   tools/test_aarch64.sh [pytest arguments]
set -eu

here=$(cd "$(dirname "$0")/.." && pwd)
work=$here/build/aarch64
root=$work/root
PYTHON=${PYTHON:-python3}
CMAKE=${CMAKE:-cmake}
site=$work/site

fail() {
  echo "$1" >&2
  exit 1
}

install_tools() {
  command -v aarch64-linux-gnu-g++ > /dev/null && command -v qemu-aarch64 > /dev/null && return
  [ "$(id -u)" = 0 ] || fail "This needs aarch64-linux-gnu-g++ and qemu-aarch64: install the \
packages g++-aarch64-linux-gnu and qemu-user, or run this as root."
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends g++-aarch64-linux-gnu qemu-user
}

# Debian's Python for AArch64 and all that it needs, from the sources that this system uses.
make_root() {
  [ -e "$work/root.done" ] && return
  echo "Fetching Python for AArch64 ..."
  mkdir -p "$work/apt/lists/partial" "$work/apt/archives/partial" "$root"
  : > "$work/apt/status"
  apt() {
    apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures::=arm64 -o APT::Sandbox::User= \
      -o Dir::State="$work/apt" -o Dir::State::status="$work/apt/status" -o Dir::Cache="$work/apt" \
      -o Debug::NoLocking=1 "$@"
  }
  apt update
  apt install -y --download-only --no-install-recommends python3 libpython3-dev libstdc++6
  for package in "$work"/apt/archives/*.deb; do
    dpkg-deb --extract "$package" "$root"
  done
  touch "$work/root.done"
}

# A program that is the emulated Python.
make_python() {
  cat > "$work/python" << END
#!/bin/sh
PYTHONPATH="$work/package:$site" \\
  exec qemu-aarch64 -cpu max -L "$root" "$root/usr/bin/python3" "\$@"
END
  chmod +x "$work/python"
}

install_packages() {
  version=$("$work/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  [ "$(cat "$work/site.done" 2> /dev/null)" = "$version" ] && return
  echo "Fetching wheels for Python $version on AArch64 ..."
  "$PYTHON" -m pip --disable-pip-version-check --quiet install --upgrade --target "$site" \
    --only-binary :all: --python-version "$version" --implementation cp \
    --platform manylinux2014_aarch64 --platform manylinux_2_28_aarch64 \
    numpy ml_dtypes nanobind pytest hypothesis
  echo "$version" > "$work/site.done"
}

build() {
  "$CMAKE" -S "$here" -B "$work/native" \
    -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
    -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++ -DCMAKE_FIND_ROOT_PATH="$root" \
    -DCMAKE_CXX_FLAGS="-idirafter $root/usr/include" \
    -DPython_EXECUTABLE="$work/python" -Dnanobind_ROOT="$site/nanobind/cmake" > "$work/cmake.log" \
    || { cat "$work/cmake.log" >&2; exit 1; }
  "$CMAKE" --build "$work/native" --parallel
  rm -rf "$work/package"
  mkdir "$work/package"
  cp -R "$here/src/vivace" "$work/package"
  "$CMAKE" --install "$work/native" --prefix "$work/package" > "$work/install.log"
}

install_tools
make_root
make_python
install_packages
build
cd "$here"
"$work/python" -c "from vivace.backends.cpu._native import best_isa; print('Level:', best_isa())"

run() {
  # OpenBLAS's own threads would spin against each other under emulation.
  OPENBLAS_NUM_THREADS=1 "$work/python" -m pytest -p no:cacheprovider "$@"
}

if [ $# != 0 ]; then
  run "$@"
  exit
fi
# Two processes, one for each of two cores. Long contexts take the reference minutes here: of the
# tests of attention over them, those that compare the kernel with itself.
run -k "not portable" tests/backends/test_cpu_quantized.py tests/decoding/test_native_draw.py \
  > "$work/tests.log" 2>&1 &
run -k "not portable and not mixed_batches and not extreme_scores" \
  tests/backends/test_cpu_ops.py tests/backends/test_cpu_attention.py || failed=1
wait $! || failed=1
cat "$work/tests.log"
exit ${failed:-0}
