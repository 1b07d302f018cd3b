# runc. Its namespace entry is C, so it needs a compiler and libseccomp. Sourced by build.sh in modules/runc.
# shellcheck shell=bash
need_packages libseccomp-dev gcc libc6-dev pkg-config
CGO_ENABLED=1 go build -mod=readonly -trimpath -tags seccomp -ldflags "-s -w" -o "$1/runc" "$(programs_of runc)"
