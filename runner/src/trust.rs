//! The trust bundle: the image's own roots, the common public ones and the proxy's, as PEM and as PKCS12, and the
//! variables that name it.
//!
//! The variables take the place of whatever roots a client brings along, and many images have no store or an old one.
//! The common public roots are therefore always there: hosts that are passed through show certificates of those.

pub(crate) mod probe;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, OpenOptions, Permissions},
    io::{self, Read as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use assay_core::trust::{VARIABLES, Value};
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
    let ours = certificates(proxy_root);
    if ours.is_empty() {
        return Err(Error::Root("no PEM block".to_owned()));
    }
    let bundle = bundle(image_roots(), proxy_root);
    fs::create_dir_all(folder)?;
    fs::set_permissions(folder, Permissions::from_mode(0o755))?;
    let (pem, p12) = (folder.join("ca.pem"), folder.join("ca.p12"));
    put(&pem, bundle.as_bytes())?;
    put(&p12, &key_store(&bundle, &ours)?)?;
    Ok(variables(folder, &pem, &p12))
}

/// The image's roots as they are, the public ones that are not among them, and the proxy's.
fn bundle(mut bundle: String, proxy_root: &str) -> String {
    if !bundle.is_empty() && !bundle.ends_with('\n') {
        bundle.push('\n');
    }
    let known: BTreeSet<Vec<u8>> = certificates(&bundle).into_iter().collect();
    for root in webpki_root_certs::TLS_SERVER_ROOT_CERTS {
        if !known.contains(root.as_ref()) {
            bundle += &pem(root);
        }
    }
    bundle + proxy_root
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .filter_map(|line| std::str::from_utf8(line).ok())
        .collect();
    format!("{BEGIN}\n{}\n{END}\n", lines.join("\n"))
}

fn variables(folder: &Path, pem: &Path, p12: &Path) -> BTreeMap<String, String> {
    let java = format!(
        "-Djavax.net.ssl.trustStore={} -Djavax.net.ssl.trustStoreType=PKCS12 -Djavax.net.ssl.trustStorePassword={PASSWORD}",
        p12.display()
    );
    let value = |value: Value| match value {
        Value::Bundle => pem.to_string_lossy().into_owned(),
        Value::Folder => folder.to_string_lossy().into_owned(),
        Value::JavaOptions => java.clone(),
        Value::Words(words) => words.to_owned(),
    };
    VARIABLES
        .iter()
        .map(|variable| (variable.name.to_owned(), value(variable.value)))
        .collect()
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
