# Cilium's agent, operator and CNI program, and the sources of the programs that the agent compiles. Built inside of
# Cilium's own module (its go.mod replaces others). Sourced by build.sh in modules/cilium; $1 is the folder for the result.
# shellcheck shell=bash
module=$(module_of cilium)
# Compared with modules/cilium/go.sum.
source=$(go mod download -json "$module" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
tree=$(mktemp -d "$GOCACHE.cilium.XXXXXX")
cp -r "$source/." "$tree"
chmod -R u+w "$tree"
cd "$tree"
rm -rf vendor
# A kernel without loadable modules has no /proc/modules: everything that it can do is built in, which is no error.
folder=pkg/datapath/linux/modules
sed -i 's|^\tloadedModules, err := listLoadedModules()$|&\n\tif errors.Is(err, os.ErrNotExist) {\n\t\treturn nil, nil\n\t}|' $folder/modules_linux.go
sed -i 's|^func (m \*Manager) FindModules(.*{$|&\n\tif m.modulesList == nil {\n\t\treturn true, nil\n\t}|' $folder/modules.go
if ! grep -q ErrNotExist $folder/modules_linux.go || ! grep -q 'modulesList == nil' $folder/modules.go; then
  fail "cilium: $folder has changed; look at how it reads /proc/modules"
fi
for program in daemon:cilium-agent operator:cilium-operator plugins/cilium-cni:cilium-cni; do
  tags=osusergo
  [ "$program" = operator:cilium-operator ] && tags+=,ipam_provider_operator
  CGO_ENABLED=0 go build -mod=mod -trimpath -tags "$tags" -ldflags "-s -w -X $module/pkg/version.ciliumVersion=${module##*/}" \
    -o "$1/${program#*:}" "./${program%%:*}"
done
cp -r bpf "$1/bpf"
rm -rf "$tree"
