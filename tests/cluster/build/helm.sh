# Helm, which renders manifests/chart in the tests. Sourced by build.sh in modules/helm; $1 is the folder for the program.
# shellcheck shell=bash
CGO_ENABLED=0 go build -mod=readonly -trimpath -ldflags "-s -w -X helm.sh/helm/v3/internal/version.version=$(version_of helm)" \
  -o "$1/helm" "$(programs_of helm)"
