#!/usr/bin/env bash
# Makes the root file system of the test cluster's builder image: Debian 12 with Debian's Buildah, as a tar in
# ${ASSAY_CACHE:-$HOME/.cache/assay}. Prints its path. Needs what base-images.sh has made before.
#
# Packages are unpacked, not configured: what builds with chroot isolation needs no service and no helper of theirs.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

packages=(buildah golang-github-containers-common golang-github-containers-image
  libgpgme11 libassuan0 libgpg-error0 libseccomp2 libdevmapper1.02.1 libudev1 libselinux1)

cache=${ASSAY_CACHE:-$HOME/.cache/assay}
tar=$cache/buildah-1.tar
if [ ! -f "$tar" ]; then
  say "making the builder's image"
  root=$(mktemp -d "$cache/buildah.XXXXXX")
  trap 'rm -rf "$root"' EXIT
  mkdir "$root/debs" "$root/root"
  chmod 777 "$root/debs"
  (cd "$root/debs" && apt-get -o Acquire::Retries=5 download -qq "${packages[@]}" >&2) || fail "apt-get download ${packages[*]} failed; see its messages above"
  tar -C "$root/root" -xf "$cache/bookworm-slim-1.tar"
  for deb in "$root"/debs/*.deb; do dpkg-deb --fsys-tarfile "$deb" | tar -C "$root/root" --keep-directory-symlink -xf -; done
  rm -rf "$root"/root/usr/share/{doc,man,locale}
  tar -C "$root/root" --sort=name --mtime=@0 --numeric-owner -cf "$tar.part" .
  mv "$tar.part" "$tar"
fi
echo "$tar"
