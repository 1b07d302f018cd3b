//! The workload's resolver. Allowed names get a synthetic address, which is enough: connections are captured by port
//! and dialled anew by name. So no query of a workload ever leaves the sandbox, and names cannot carry data out.

use std::net::{Ipv4Addr, Ipv6Addr};

use assay_core::{digest::Digest, egress::HostName};
use hickory_proto::{
    op::{Message, MessageType, Metadata, OpCode, Query, ResponseCode},
    rr::{DNSClass, Name, RData, Record, RecordType, rdata},
};

use crate::route::Reason;

/// Which families the workload has a route for; the other one is answered with no data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Families {
    /// IPv4.
    pub v4: bool,
    /// IPv6.
    pub v6: bool,
}

/// An answer and what was decided.
#[derive(Debug)]
pub struct Answered {
    /// The answer's bytes.
    pub bytes: Vec<u8>,
    /// The name, as far as there was one.
    pub name: Option<String>,
    /// `Ok` when the name was answered.
    pub verdict: Result<(), Reason>,
}

/// Answers one query; `None` when it cannot even be answered with an error.
pub fn answer(
    query: &[u8],
    families: Families,
    allows: impl Fn(&HostName) -> Result<(), Reason>,
) -> Option<Answered> {
    let request = Message::from_vec(query).ok()?;
    if request.metadata.message_type != MessageType::Query {
        return None;
    }
    let (code, records, name, verdict) = decide(&request, families, allows);
    let mut response = Message::new(
        request.metadata.id,
        MessageType::Response,
        request.metadata.op_code,
    );
    response.metadata = Metadata::response_from_request(&request.metadata);
    response.metadata.recursion_available = true;
    response.metadata.response_code = code;
    response.queries = request.queries;
    response.answers = records;
    Some(Answered {
        bytes: response.to_vec().ok()?,
        name,
        verdict,
    })
}

type Decided = (ResponseCode, Vec<Record>, Option<String>, Result<(), Reason>);

fn decide(
    request: &Message,
    families: Families,
    allows: impl Fn(&HostName) -> Result<(), Reason>,
) -> Decided {
    let refuse = |code, reason| (code, Vec::new(), None, Err(reason));
    let [query] = request.queries.as_slice() else {
        return refuse(ResponseCode::FormErr, "not_one_question");
    };
    if request.metadata.op_code != OpCode::Query {
        return refuse(ResponseCode::NotImp, "not_a_query");
    }
    if query.query_class() != DNSClass::IN {
        return refuse(ResponseCode::Refused, "other_class");
    }
    let name: String = query.name().to_ascii().chars().take(255).collect();
    let bare = name.strip_suffix('.').unwrap_or(&name);
    let verdict = bare
        .parse::<HostName>()
        .map_err(|_| "name_malformed")
        .and_then(|host| allows(&host).map(|()| host));
    match verdict {
        Ok(host) => (
            ResponseCode::NoError,
            records(query, &host, families),
            Some(name),
            Ok(()),
        ),
        Err(reason) => (ResponseCode::NXDomain, Vec::new(), Some(name), Err(reason)),
    }
}

/// Only addresses. In particular no HTTPS or SVCB records, which would hand out keys for encrypted hellos.
#[expect(clippy::wildcard_enum_match_arm, reason = "every other type has no data")]
fn records(query: &Query, host: &HostName, families: Families) -> Vec<Record> {
    let data = match query.query_type() {
        RecordType::A if families.v4 => RData::A(rdata::A(synthetic_v4(host))),
        RecordType::AAAA if families.v6 => RData::AAAA(rdata::AAAA(synthetic_v6(host))),
        _ => return Vec::new(),
    };
    vec![Record::from_rdata(Name::clone(query.name()), TTL_SECONDS, data)]
}

/// An address of 198.18.0.0/15 (benchmarking, never routed), the same for the same name.
pub fn synthetic_v4(host: &HostName) -> Ipv4Addr {
    let [a, b, c, ..] = *Digest::of(host.as_str()).bytes();
    Ipv4Addr::new(198, 18 + a % 2, b, c)
}

/// An address of `2001:2::/48` (benchmarking, never routed), the same for the same name.
pub fn synthetic_v6(host: &HostName) -> Ipv6Addr {
    let [a, b, c, d, ..] = *Digest::of(host.as_str()).bytes();
    Ipv6Addr::from([0x20, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d])
}

const TTL_SECONDS: u32 = 60;

#[cfg(test)]
mod tests {
    use super::*;

    const V4: Families = Families { v4: true, v6: false };

    fn ask(name: &str, record: RecordType, families: Families) -> Message {
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), record));
        let allows = |host: &HostName| match host.as_str() {
            "pypi.org" => Ok(()),
            _ => Err("host_not_allowed"),
        };
        let answered = answer(&message.to_vec().unwrap(), families, allows).unwrap();
        Message::from_vec(&answered.bytes).unwrap()
    }

    #[test]
    fn an_allowed_name_has_one_stable_synthetic_address() {
        let first = ask("pypi.org.", RecordType::A, V4);
        assert_eq!((first.metadata.id, first.answers.len()), (7, 1));
        assert_eq!(
            first.answers,
            ask("PyPI.org.", RecordType::A, V4)
                .answers
                .iter()
                .map(|record| {
                    let mut record = record.clone();
                    record.name = Name::from_ascii("pypi.org.").unwrap();
                    record
                })
                .collect::<Vec<_>>()
        );
        let RData::A(rdata::A(address)) = first.answers[0].data else {
            panic!("an A record")
        };
        assert!([18, 19].contains(&address.octets()[1]) && address.octets()[0] == 198);
    }

    #[test]
    fn other_types_of_an_allowed_name_have_no_data() {
        for record in [
            RecordType::AAAA,
            RecordType::HTTPS,
            RecordType::SVCB,
            RecordType::TXT,
            RecordType::MX,
        ] {
            let response = ask("pypi.org.", record, V4);
            assert_eq!(response.metadata.response_code, ResponseCode::NoError, "{record}");
            assert!(response.answers.is_empty(), "{record}");
        }
        let both = Families { v4: true, v6: true };
        assert_eq!(ask("pypi.org.", RecordType::AAAA, both).answers.len(), 1);
    }

    #[test]
    fn other_names_do_not_exist() {
        for name in ["secret.evil.example.", "localhost.", "a_b.pypi.org.", "."] {
            let response = ask(name, RecordType::A, V4);
            assert_eq!(response.metadata.response_code, ResponseCode::NXDomain, "{name}");
        }
    }

    #[test]
    fn what_is_no_query_gets_no_answer() {
        let allows = |_: &HostName| Ok(());
        assert!(answer(b"", V4, allows).is_none());
        assert!(answer(&[0xff; 40], V4, allows).is_none());
        let response = Message::new(7, MessageType::Response, OpCode::Query);
        assert!(answer(&response.to_vec().unwrap(), V4, allows).is_none());
    }
}
