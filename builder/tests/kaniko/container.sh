#!/bin/sh
# A container as a build's pod gives it to Kaniko: a root of its own that may be written to, our program as process 1, no
# right but to map a user namespace. Runs in mount and process namespaces of its own.
#
# usage: container.sh STAGE LAYOUT PLAN    STAGE: bin, context, bases, executor; LAYOUT: where the result goes
set -eu
stage=$1 layout=$2 plan=$3

disk=$stage/disk
mkdir -p "$disk"
mount -t tmpfs -o size=256m none "$disk"
mkdir "$disk/upper" "$disk/work" "$disk/root"
mount -t overlay none -o "lowerdir=/,upperdir=$disk/upper,workdir=$disk/work" "$disk/root"
root=$disk/root
mkdir -p "$root/kaniko" "$root/assay/storage" "$root/assay/layout" "$root/old"
cp "$stage/executor" "$root/kaniko/executor"
for volume in bin context bases; do
  mkdir "$root/assay/$volume"
  mount --bind -o ro "$stage/$volume" "$root/assay/$volume"
done
mount --bind "$layout" "$root/assay/layout"
mount -t proc none "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
cd "$root"
pivot_root . old
umount -l /old
exec setpriv --no-new-privs --inh-caps=-all --bounding-set=-all,+setfcap,+setgid,+setuid \
  /assay/bin/assay-builder run "$plan"
