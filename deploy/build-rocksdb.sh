#!/usr/bin/env bash
# Builds RocksDB once, as a static library outside the checkout.
#
# cargo would compile it again for every package selection and profile (14 to 28 minutes each time);
# with ROCKSDB_LIB_DIR set, the sys crate only generates its bindings. The sources are the sys crate's
# own, taken from cargo's registry, joined into unity files of twelve (3 to 6 minutes on two cores).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/env.sh"

manifest=$here/../Cargo.toml
src_of() { # directory of a locked dependency's sources
  cargo metadata --format-version 1 --locked --manifest-path "$manifest" |
    python3 -c "import json,sys; print(next(p['manifest_path'] for p in json.load(sys.stdin)['packages'] if p['name']=='$1'))" | xargs dirname
}
command -v python3 >/dev/null || die "python3 is missing: apt-get install python3"
sys=$(src_of librocksdb-sys)
lz4=$(src_of lz4-sys)/liblz4/lib
version=$(basename "$sys")
stamp=$ROCKSDB_LIB_DIR/version
if [ -f "$ROCKSDB_LIB_DIR/librocksdb.a" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$version" ]; then
  exit 0
fi
say "building RocksDB ($version) once into $ROCKSDB_LIB_DIR; about 4 minutes on two cores"
work=$(mktemp -d "${TMPDIR:-/tmp}/kybern-rocksdb.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$ROCKSDB_LIB_DIR"

grep -v '^util/build_version.cc$' "$sys/rocksdb_lib_sources.txt" | sed '/^\s*$/d' | awk -v w="$work" -v s="$sys/rocksdb" '
  { f = sprintf("%s/unity_%02d.cc", w, int((NR - 1) / 12)); printf "#include \"%s/%s\"\n", s, $1 > f }'
cp "$sys/build_version.cc" "$work/build_version.cc"

cat >"$work/Makefile" <<M
CXXFLAGS = -O2 -std=c++20 -fPIC -msse4.2 -include cstdint -w -DNDEBUG -DLZ4 -DHAVE_ALIGNED_NEW -DHAVE_UINT128_EXTENSION \\
  -DOS_LINUX -DROCKSDB_PLATFORM_POSIX -DROCKSDB_LIB_IO_POSIX -DROCKSDB_SCHED_GETCPU_PRESENT \\
  -DROCKSDB_AUXV_GETAUXVAL_PRESENT -DROCKSDB_FALLOCATE_PRESENT -DROCKSDB_RANGESYNC_PRESENT \\
  -I$sys/rocksdb/include -I$sys/rocksdb -I$sys/rocksdb/third-party/gtest-1.8.1/fused-src -I$sys -I$lz4
OBJS = \$(patsubst %.cc,%.o,\$(wildcard $work/*.cc))
all: \$(OBJS)
	rm -f $work/librocksdb.a && ar rcs $work/librocksdb.a \$(OBJS)
%.o: %.cc
	@\$(CXX) \$(CXXFLAGS) -c \$< -o \$@ && echo "  \$(notdir \$<)"
M
[ "$(uname -m)" = x86_64 ] || sed -i 's/-msse4.2//' "$work/Makefile"
make -s -j"$(nproc)" -f "$work/Makefile" all
mv "$work/librocksdb.a" "$ROCKSDB_LIB_DIR/librocksdb.a"
echo "$version" >"$stamp"
say "RocksDB is built: $(du -h "$ROCKSDB_LIB_DIR/librocksdb.a" | cut -f1)"
