//! The sandbox's own certificate authority: a root whose key is gone, one intermediate that is bound to the opened
//! hosts, and a leaf per opened host. Made at start, kept in memory alone.
//!
//! Clients do not apply name constraints to a trust anchor alike, hence the intermediate: every client that was tried
//! refuses a leaf for another name or for an address below it.

use std::{collections::BTreeMap, fmt, net::IpAddr, sync::Arc};

use assay_core::egress::HostName;
use jiff::{Timestamp, ToSpan as _, civil::Date, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, date_time_ymd,
};
use rustls::{ServerConfig, crypto::CryptoProvider, server::NoServerSessionStorage};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// The authority of one sandbox.
#[derive(Debug)]
pub struct Authority {
    root_pem: String,
    configs: BTreeMap<HostName, Arc<ServerConfig>>,
    valid: Days,
}

/// What signs the leaves of a sandbox, bound to its opened hosts. Its key lives as long as this value.
pub struct Intermediate {
    root_pem: String,
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    made: Timestamp,
}

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A certificate or key cannot be made.
    #[error("make a certificate")]
    Certificate(#[from] rcgen::Error),
    /// TLS refuses what was made.
    #[error("set up TLS")]
    Tls(#[from] rustls::Error),
}

impl Authority {
    /// Makes root, intermediate and leaves for `hosts`. No key but the leaves' is left when this returns.
    pub fn new(hosts: &[HostName], now: Timestamp, provider: &Arc<CryptoProvider>) -> Result<Self, Error> {
        let intermediate = Intermediate::new(hosts, now)?;
        let configs = hosts
            .iter()
            .map(|host| {
                let config = intermediate.server(host.as_str(), provider)?;
                Ok((host.clone(), Arc::new(config)))
            })
            .collect::<Result<_, Error>>()?;
        Ok(Self {
            root_pem: intermediate.root_pem,
            configs,
            valid: Days::around(now),
        })
    }

    /// The public root, for the workload's trust store.
    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// Do clients take the certificates, by a clock that says `now`? Theirs is the same as ours.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        let today = now.to_zoned(TimeZone::UTC).date();
        self.valid.first <= today && today < self.valid.last
    }

    /// How to answer as an opened host.
    pub fn server(&self, host: &HostName) -> Option<Arc<ServerConfig>> {
        self.configs.get(host).map(Arc::clone)
    }
}

impl Intermediate {
    /// Makes a root, and signs an intermediate for `hosts` by it. The root's key is dropped before this returns.
    pub fn new(hosts: &[HostName], now: Timestamp) -> Result<Self, Error> {
        let (root_key, key) = (KeyPair::generate()?, KeyPair::generate()?);
        let root = root(now);
        let root_pem = root.self_signed(&root_key)?.pem();
        let signed = constrained(hosts, now).signed_by(&key, &Issuer::new(root, root_key))?;
        Ok(Self {
            root_pem,
            issuer: Issuer::new(constrained(hosts, now), key),
            certificate: signed.der().clone(),
            made: now,
        })
    }

    /// The public root above it.
    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// How to answer as `name`, a host or an address. It signs whatever it is asked to: that clients believe it for opened
    /// hosts alone is the work of its constraints.
    pub fn server(&self, name: &str, provider: &Arc<CryptoProvider>) -> Result<ServerConfig, Error> {
        let mut leaf = valid(self.made, name);
        leaf.subject_alt_names = CertificateParams::new([name.to_owned()])?.subject_alt_names;
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        leaf.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let signed = leaf.signed_by(&key, &self.issuer)?;
        let chain = vec![signed.der().clone(), self.certificate.clone()];
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // No resumption: every connection shows its name anew.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }
}

impl fmt::Debug for Intermediate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Intermediate")
    }
}

fn root(now: Timestamp) -> CertificateParams {
    let mut root = valid(now, "Assay sandbox root");
    root.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    root.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    root
}

fn constrained(hosts: &[HostName], now: Timestamp) -> CertificateParams {
    let mut intermediate = valid(now, "Assay sandbox intermediate");
    intermediate.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    intermediate.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    intermediate.use_authority_key_identifier_extension = true;
    let every = |address: IpAddr| GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(address, 0));
    // An empty list would permit every name.
    let nobody = [String::from("assay.invalid")];
    let names = hosts.iter().map(HostName::to_string);
    intermediate.name_constraints = Some(NameConstraints {
        permitted_subtrees: if hosts.is_empty() {
            nobody.map(GeneralSubtree::DnsName).into()
        } else {
            names.map(GeneralSubtree::DnsName).collect()
        },
        excluded_subtrees: vec![every([0, 0, 0, 0].into()), every([0_u16; 8].into())],
    });
    intermediate
}

/// Backdated by a day for clocks that are slow; short enough for the strictest client.
fn valid(now: Timestamp, name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    params.distinguished_name = subject;
    let date = |day: Date| {
        let part = |value: i8| u8::try_from(value).unwrap_or(1);
        date_time_ymd(i32::from(day.year()), part(day.month()), part(day.day()))
    };
    let days = Days::around(now);
    params.not_before = date(days.first);
    params.not_after = date(days.last);
    params
}

/// From the begin of one day to the begin of another, UTC.
#[derive(Debug, Clone, Copy)]
struct Days {
    first: Date,
    last: Date,
}

impl Days {
    fn around(now: Timestamp) -> Self {
        let today = now.to_zoned(TimeZone::UTC).date();
        Self {
            first: today.saturating_sub(2.days()),
            last: today.saturating_add(VALID_DAYS.days()),
        }
    }
}

const VALID_DAYS: i64 = 30;

#[cfg(test)]
mod tests {
    use assay_core::clock::{Clock as _, SystemClock};
    use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConnection};
    use rustls_pki_types::{ServerName, pem::PemObject as _};

    use super::*;

    fn authority(hosts: &[&str]) -> Authority {
        let hosts: Vec<HostName> = hosts.iter().map(|host| host.parse().unwrap()).collect();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        Authority::new(&hosts, SystemClock.now(), &provider).unwrap()
    }

    /// Why the handshake fails, if it does.
    fn handshake(root_pem: &str, server: Arc<ServerConfig>, name: &str) -> Option<rustls::Error> {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(root_pem.as_bytes());
        roots.add(root.unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut server = ServerConnection::new(server).unwrap();
        while client.is_handshaking() || server.is_handshaking() {
            let mut wire = Vec::new();
            client.write_tls(&mut wire).unwrap();
            server.read_tls(&mut &*wire).unwrap();
            if let Err(error) = server.process_new_packets() {
                return Some(error);
            }
            wire.clear();
            server.write_tls(&mut wire).unwrap();
            client.read_tls(&mut &*wire).unwrap();
            if let Err(error) = client.process_new_packets() {
                return Some(error);
            }
        }
        None
    }

    #[test]
    fn a_client_with_our_root_trusts_model_hosts_and_nothing_else() {
        let authority = authority(&["models.example.com", "api.example.org"]);
        let server = |host: &str| authority.server(&host.parse().unwrap());
        let leaf = server("models.example.com").unwrap();
        assert_eq!(
            handshake(authority.root_pem(), Arc::clone(&leaf), "models.example.com"),
            None
        );
        assert!(handshake(authority.root_pem(), leaf, "api.example.org").is_some());
        assert!(server("evil.example").is_none());
    }

    #[test]
    fn another_sandbox_does_not_trust_our_root() {
        let (ours, other) = (authority(&["a.example.com"]), authority(&["a.example.com"]));
        let leaf = ours.server(&"a.example.com".parse().unwrap()).unwrap();
        assert!(handshake(other.root_pem(), leaf, "a.example.com").is_some());
    }

    #[test]
    fn a_leaf_outside_of_the_constraints_is_refused() {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let hosts = ["models.example.com".parse().unwrap()];
        let intermediate = Intermediate::new(&hosts, SystemClock.now()).unwrap();
        let forge = |name: &str| {
            let config = intermediate.server(name, &provider).unwrap();
            handshake(intermediate.root_pem(), Arc::new(config), name)
        };
        assert_eq!(forge("models.example.com"), None);
        assert!(forge("evil.example").is_some() && forge("192.0.2.1").is_some());
    }

    #[test]
    fn a_sandbox_without_models_still_has_a_root() {
        assert!(authority(&[]).root_pem().starts_with("-----BEGIN CERTIFICATE"));
    }

    #[test]
    fn a_leaf_is_valid_for_clocks_that_are_a_day_off() {
        let host = "models.example.com";
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        // Beyond what the dates allow for the same clients refuse it.
        for (hours, is_taken) in [(-24, true), (24, true), (3 * 24, false), (-31 * 24, false)] {
            let now = SystemClock.now() + jiff::Span::new().hours(hours);
            let authority = Authority::new(&[host.parse().unwrap()], now, &provider).unwrap();
            let leaf = authority.server(&host.parse().unwrap()).unwrap();
            let refused = handshake(authority.root_pem(), leaf, host);
            assert_eq!(refused.is_none(), is_taken, "{hours}: {refused:?}");
        }
    }
}
