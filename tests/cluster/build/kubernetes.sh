# Kubernetes' own programs, and kubectl. Sourced by build.sh in modules/kubernetes; $1 is the folder for the programs.
# shellcheck shell=bash
version=$(version_of kubernetes)
flags="-s -w"
for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
  flags+=" -X $package.gitVersion=$version -X $package.gitMajor=1 -X $package.gitMinor=$(echo "$version" | cut -d. -f2)"
  flags+=" -X $package.gitTreeState=clean -X $package.gitCommit=$version -X $package.buildDate=1970-01-01T00:00:00Z"
done
mapfile -t programs < <(programs_of kubernetes)
CGO_ENABLED=0 go build -mod=readonly -trimpath -ldflags "$flags" -o "$1/" "${programs[@]}"
