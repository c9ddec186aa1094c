#!/usr/bin/env bash
# Real file systems: ext4, XFS and btrfs in images on loop devices, and tmpfs. Moves checkpoints within and across them, and
# fills small ones to the last byte.
#
# Needs: Linux, root, loop devices, mount, losetup, mkfs.ext4, mkfs.xfs, mkfs.btrfs, and 2.5 GiB for the images, which are
# sparse. Where any of that is missing it says so, and succeeds. What it mounts is unmounted whatever happens.
set -euo pipefail
cd "$(dirname "$0")/.."

skip() {
    printf 'skipped: %s\n' "$1"
    exit 0
}

[ "$(uname)" = Linux ] || skip "this needs Linux"
[ "$(id -u)" = 0 ] || skip "this needs root"
for tool in losetup mount umount mkfs.ext4 mkfs.xfs mkfs.btrfs; do
    command -v "$tool" > /dev/null || skip "$tool is missing (e2fsprogs, xfsprogs, btrfs-progs)"
done

dir=$(mktemp -d)
mounted=()
clean() {
    for ((n = ${#mounted[@]} - 1; n >= 0; n--)); do
        umount "${mounted[n]}" || umount -l "${mounted[n]}" || true
    done
    rm -rf --one-file-system "$dir"
}
trap clean EXIT

put() {
    mkdir -p "$dir/$1"
    mount "${@:2}" "$dir/$1" || return 1
    mounted+=("$dir/$1")
}

truncate -s 400M "$dir/probe"
device=$(losetup -f 2> /dev/null) || skip "there are no loop devices"
losetup "$device" "$dir/probe" 2> /dev/null || skip "loop devices cannot be used here"
losetup -d "$device"
rm "$dir/probe"

for kind in ext4 xfs btrfs; do
    for letter in a b; do
        truncate -s 400M "$dir/$kind-$letter.img"
        case $kind in
            ext4) mkfs.ext4 -q "$dir/$kind-$letter.img" ;;
            xfs) mkfs.xfs -q -m reflink=1 "$dir/$kind-$letter.img" ;;
            btrfs) mkfs.btrfs -q --mixed "$dir/$kind-$letter.img" ;;
        esac
        put "$kind-$letter" -o loop "$dir/$kind-$letter.img" || skip "$kind cannot be mounted here"
    done
done
put tmpfs-a -t tmpfs -o size=400M tmpfs
put tmpfs-b -t tmpfs -o size=400M tmpfs
for kind in ext4 xfs btrfs tmpfs; do
    mkdir "$dir/$kind-a/inner"
    # Another mount of the same file system: hard links stop there, reflinks do not.
    put "$kind-bind" --bind "$dir/$kind-a/inner"
done

# 64 MiB each. mkfs.xfs makes one of less than 300 MiB only for its own tests, which it knows by these variables.
for kind in ext4 xfs btrfs btrfs-mixed; do
    truncate -s 64M "$dir/full-$kind.img"
    case $kind in
        ext4) mkfs.ext4 -q "$dir/full-$kind.img" ;;
        xfs) TEST_DIR=1 TEST_DEV=1 QA_CHECK_FS=1 mkfs.xfs -q "$dir/full-$kind.img" ;;
        btrfs) truncate -s 128M "$dir/full-$kind.img" && mkfs.btrfs -q "$dir/full-$kind.img" ;;
        btrfs-mixed) mkfs.btrfs -q --mixed "$dir/full-$kind.img" ;;
    esac
    put "full-$kind" -o loop "$dir/full-$kind.img" || skip "$kind of 64 MiB cannot be mounted here"
done

run() {
    PITON_MOUNTS=$dir cargo test --locked --all-features --test it "$1" -- --exact --ignored
}
run transfer::filesystems::checkpoints_move_within_and_across_real_file_systems
run around::full::store_on_a_full_file_system_opens_gives_space_back_and_closes
