//! The trust bundle: the image's own roots and the proxy's, as PEM and as PKCS12, and the variables that name it.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions, Permissions},
    io::{self, Read as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use p12_keystore::{Certificate, KeyStore, KeyStoreEntry};

/// Where images keep their roots; the first that exists counts.
const ROOTS: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
const LONGEST: u64 = 4 << 20;
/// Not a secret: Java wants one, and the store holds public roots.
const PASSWORD: &str = "changeit";
const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// The bundle could not be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A file.
    #[error("cannot write the trust bundle: {0}")]
    Write(#[from] io::Error),
    /// What the proxy sent is no certificate.
    #[error("the proxy's root is not a certificate: {0}")]
    Root(String),
    /// The key store.
    #[error("cannot make the PKCS12 store: {0}")]
    Store(String),
}

/// Writes `ca.pem` and `ca.p12` into `folder`, readable for everybody, and returns the variables that name them.
pub(crate) fn write(folder: &Path, proxy_root: &str) -> Result<BTreeMap<String, String>, Error> {
    let mut bundle = image_roots();
    if !bundle.is_empty() && !bundle.ends_with('\n') {
        bundle.push('\n');
    }
    let ours = certificates(proxy_root);
    if ours.is_empty() {
        return Err(Error::Root("no PEM block".to_owned()));
    }
    bundle += proxy_root;
    fs::create_dir_all(folder)?;
    fs::set_permissions(folder, Permissions::from_mode(0o755))?;
    let (pem, p12) = (folder.join("ca.pem"), folder.join("ca.p12"));
    put(&pem, bundle.as_bytes())?;
    put(&p12, &key_store(&bundle, &ours)?)?;
    Ok(variables(&pem.to_string_lossy(), &p12.to_string_lossy()))
}

fn variables(pem: &str, p12: &str) -> BTreeMap<String, String> {
    let mut variables: BTreeMap<String, String> = [
        "SSL_CERT_FILE",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
        "NODE_EXTRA_CA_CERTS",
        "GIT_SSL_CAINFO",
        "AWS_CA_BUNDLE",
        "DENO_CERT",
        "CARGO_HTTP_CAINFO",
        "PIP_CERT",
        "NPM_CONFIG_CAFILE",
        "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
        "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
        "HEX_CACERTS_PATH",
        "NIX_SSL_CERT_FILE",
    ]
    .into_iter()
    .map(|name| (name.to_owned(), pem.to_owned()))
    .collect();
    let folder = Path::new(pem).parent().unwrap_or(Path::new("/"));
    let java = format!(
        "-Djavax.net.ssl.trustStore={p12} -Djavax.net.ssl.trustStoreType=PKCS12 -Djavax.net.ssl.trustStorePassword={PASSWORD}"
    );
    variables.extend([
        ("SSL_CERT_DIR".to_owned(), folder.to_string_lossy().into_owned()),
        ("DENO_TLS_CA_STORE".to_owned(), "system,mozilla".to_owned()),
        ("UV_NATIVE_TLS".to_owned(), "1".to_owned()),
        ("JAVA_TOOL_OPTIONS".to_owned(), java),
    ]);
    variables
}

fn image_roots() -> String {
    let mut text = String::new();
    for path in ROOTS {
        let open = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(path);
        let Ok(file) = open else { continue };
        if file.metadata().is_ok_and(|metadata| metadata.is_file())
            && file.take(LONGEST).read_to_string(&mut text).is_ok()
        {
            return text;
        }
        text.clear();
    }
    text
}

/// The certificates of a PEM text, DER. What does not parse is left out.
fn certificates(pem: &str) -> Vec<Vec<u8>> {
    pem.split(BEGIN)
        .skip(1)
        .filter_map(|rest| {
            let body: String = rest.split(END).next()?.split_whitespace().collect();
            STANDARD.decode(body).ok()
        })
        .collect()
}

fn key_store(bundle: &str, ours: &[Vec<u8>]) -> Result<Vec<u8>, Error> {
    let mut store = KeyStore::new();
    for (number, der) in certificates(bundle).iter().enumerate() {
        match Certificate::from_der(der) {
            Ok(certificate) => {
                store.add_entry(&format!("root-{number}"), KeyStoreEntry::Certificate(certificate));
            }
            Err(error) if ours.contains(der) => return Err(Error::Root(error.to_string())),
            // An oddity of the image, which the PEM bundle keeps as it is.
            Err(_) => {}
        }
    }
    // The store keeps no secret, so few iterations do; a sandbox should start quickly.
    let writer = store
        .writer(PASSWORD)
        .encryption_iterations(1_000)
        .mac_iterations(1_000);
    writer.write().map_err(|error| Error::Store(error.to_string()))
}

fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::write(path, bytes)?;
    fs::set_permissions(path, Permissions::from_mode(0o644))
}

#[cfg(test)]
mod tests;
