use p12_keystore::Pkcs12ImportPolicy;

use super::*;

/// A self-signed root made for this test, valid for a hundred years.
const ROOT: &str = include_str!("tests/root.pem");

#[test]
fn the_bundle_holds_the_proxys_root_in_both_forms() {
    let folder = tempfile::tempdir().unwrap();
    let variables = write(folder.path(), ROOT).unwrap();
    let pem = fs::read_to_string(&variables["SSL_CERT_FILE"]).unwrap();
    assert!(pem.ends_with(ROOT));
    let p12 = fs::read(folder.path().join("ca.p12")).unwrap();
    let store = KeyStore::from_pkcs12(&p12, PASSWORD, Pkcs12ImportPolicy::Strict).unwrap();
    let wanted = certificates(ROOT).remove(0);
    let found = store.entries().any(|(_, entry)| match entry {
        KeyStoreEntry::Certificate(certificate) => certificate.as_der() == wanted,
        KeyStoreEntry::PrivateKeyChain(_) | KeyStoreEntry::Secret(_) => false,
    });
    assert!(found);
    let mode = fs::metadata(folder.path().join("ca.pem"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o644);
}

#[test]
fn what_is_no_certificate_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(write(folder.path(), "hello"), Err(Error::Root(_))));
    let broken = format!("{BEGIN}\naGVsbG8=\n{END}\n");
    assert!(matches!(write(folder.path(), &broken), Err(Error::Root(_))));
}
