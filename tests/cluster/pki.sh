#!/usr/bin/env bash
# Certificates and kubeconfigs of the test cluster: EC P-256, for two days.
#
# usage: pki.sh FOLDER NODE-ADDRESS
set -euo pipefail
folder=${1:?folder} address=${2:?node address}
mkdir -p "$folder"
cd "$folder"
[ -f complete ] && exit 0

key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1.key" 2>/dev/null; }

authority() { # name
  key "$1"
  openssl req -x509 -new -key "$1.key" -subj "/CN=$1" -days 2 -out "$1.crt" \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign 2>/dev/null
}

certificate() { # name authority subject usage [names]
  key "$1"
  {
    echo "basicConstraints=CA:FALSE"
    echo "keyUsage=critical,digitalSignature"
    echo "extendedKeyUsage=$4"
    [ -z "${5:-}" ] || echo "subjectAltName=$5"
  } >"$1.ext"
  openssl req -new -key "$1.key" -subj "$3" 2>/dev/null |
    openssl x509 -req -CA "$2.crt" -CAkey "$2.key" -CAcreateserial -days 2 -extfile "$1.ext" -out "$1.crt" 2>/dev/null
}

kubeconfig() { # name: of the certificate of that name
  cat >"$1.kubeconfig" <<EOF
apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: "https://$address:6443", certificate-authority: $folder/ca.crt}}]
users: [{name: $1, user: {client-certificate: $folder/$1.crt, client-key: $folder/$1.key}}]
contexts: [{name: test, context: {cluster: test, user: $1}}]
current-context: test
EOF
}

authority ca
authority front-proxy-ca
names=DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local
certificate apiserver ca /CN=kube-apiserver serverAuth "$names,DNS:localhost,IP:127.0.0.1,IP:10.96.0.1,IP:$address"
certificate apiserver-kubelet-client ca /O=system:masters/CN=kube-apiserver-kubelet-client clientAuth
certificate front-proxy-client front-proxy-ca /CN=front-proxy-client clientAuth
certificate admin ca /O=system:masters/CN=admin clientAuth
certificate controller-manager ca /CN=system:kube-controller-manager clientAuth
certificate scheduler ca /CN=system:kube-scheduler clientAuth
certificate kube-proxy ca /CN=system:kube-proxy clientAuth
certificate kubelet ca /O=system:nodes/CN=system:node:node1 clientAuth
certificate kubelet-server ca /O=system:nodes/CN=system:node:node1 serverAuth "DNS:node1,IP:$address"
openssl genrsa -out service-accounts.key 2048 2>/dev/null
openssl rsa -in service-accounts.key -pubout -out service-accounts.pub 2>/dev/null
for name in admin controller-manager scheduler kube-proxy kubelet; do kubeconfig $name; done
touch complete
