#!/usr/bin/env bash
# Reads the fixture of version 1 with `read_store.py`, which was written from docs/format.md alone. Then damages copies
# of the fixture. The reader must list as before what a second copy heals, and refuse a newer version.
#
# Needs: Python 3.
set -euo pipefail
cd "$(dirname "$0")/.."

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

# damage <name> <Python that changes the files below `root`>
damage() {
    cp -r tests/fixtures/v1 "$dir/$1"
    python3 - "$dir/$1" "$2" << 'END'
import os, pathlib, struct, sys, zlib

root = pathlib.Path(sys.argv[1])
logs = sorted(root.glob("manifests/*.log"))
assert logs, "there are no logs"


def write(path, at, data):
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(data)


exec(sys.argv[2])
END
}

same() {
    python3 tests/read_store.py "$1" | diff tests/fixtures/v1.txt -
}

refused() {
    local rc=0
    python3 tests/read_store.py "$dir/$1" > "$dir/out" 2> "$dir/why" || rc=$?
    if [ "$rc" != 1 ] || [ -s "$dir/out" ] || ! grep -qF "$2" "$dir/why"; then
        printf '%s: exit code %s instead of a refusal with "%s"\n' "$1" "$rc" "$2" >&2
        cat "$dir/why" >&2
        exit 1
    fi
}

same tests/fixtures/v1

damage half '
for log in logs:
    half, = struct.unpack_from("<Q", log.read_bytes(), 56)
    write(log, 8192, bytes(half))'
same "$dir/half"

damage base '
for base in root.glob("manifests/*.base"):
    base.unlink()'
same "$dir/base"

damage block '
for base in root.glob("manifests/*.base"):
    write(base, 4096 + 100, bytes([base.read_bytes()[4096 + 100] ^ 1]))'
same "$dir/block"

damage identity '
write(root / "piton.store", 0, bytes(44))'
same "$dir/identity"

# The record of checkpoint 4 has its new state: the segment may lack it.
damage unsynced '
segment = root / "shared/00000010-001-0000000001.seg"
os.truncate(segment, 64 + 700 + 48)'
same "$dir/unsynced"

# The newest log announces version 2, with checksums that are right for it.
damage newer '
head = bytearray(logs[-1].read_bytes()[:72])
struct.pack_into("<I", head, 8, 2)
for at in (0, 4096):
    write(logs[-1], at, head + struct.pack("<I", zlib.crc32(head)))'
refused newer 'version 2'

# Both copies of what means something are damaged: a record of the log, the base, a state.
damage record '
log = next(log for log in logs if log.name == "00000010-0000000001.log")
for at in (0x3000, 0x13000):
    write(log, at + 52, b"\xff")'
refused record 'a record is damaged'

damage cut '
log = next(log for log in logs if log.name == "00000010-0000000001.log")
os.truncate(log, 100000)'
refused cut 'the last log is cut short'

damage bases '
for base in root.glob("manifests/*-*.[bc]*"):
    write(base, 4096 + 100, bytes([base.read_bytes()[4096 + 100] ^ 1]))'
refused bases 'a block of a base is damaged in both files'

damage state '
for segment in root.glob("shared/*.seg"):
    write(segment, 64 + 10, bytes([segment.read_bytes()[64 + 10] ^ 1]))'
refused state 'a state has another checksum'
