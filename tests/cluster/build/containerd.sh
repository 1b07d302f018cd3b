# containerd, its shim for runc, and ctr. Sourced by build.sh in modules/containerd; $1 is the folder for the programs.
# shellcheck shell=bash
mapfile -t programs < <(programs_of containerd)
CGO_ENABLED=0 go build -mod=readonly -trimpath -tags 'no_btrfs no_zfs no_devmapper no_aufs' \
  -ldflags "-s -w -X github.com/containerd/containerd/v2/version.Version=$(version_of containerd)" -o "$1/" "${programs[@]}"
