# KEDA's operator, metrics server and admission webhooks, and its own manifests. Built inside of KEDA's own module, whose
# go.mod replaces others and whose go.sum pins them all. Sourced by build.sh in modules/keda; $1 is the folder for the result.
# shellcheck shell=bash
module=$(module_of keda)
# Compared with modules/keda/go.sum.
source=$(go mod download -json "$module" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
tree=$(mktemp -d "$GOCACHE.keda.XXXXXX")
cp -r "$source/." "$tree"
chmod -R u+w "$tree"
cd "$tree"
for program in operator:keda adapter:keda-adapter webhooks:keda-admission-webhooks; do
  CGO_ENABLED=0 go build -mod=readonly -trimpath -ldflags "-s -w -X $module/version.Version=$(version_of keda)" \
    -o "$1/${program#*:}" "./cmd/${program%%:*}"
done
cp -r config "$1/config"
rm -rf "$tree"
