# kind, which reads kind/cluster.yaml in the tests. Sourced by build.sh in modules/kind; $1 is the folder for the program.
# shellcheck shell=bash
CGO_ENABLED=0 go build -mod=readonly -trimpath -ldflags "-s -w" -o "$1/kind" "$(programs_of kind)"
