//! SRV and TXT records, from which some services are found (RFC 2782). The resolver of the C library does not return them,
//! so the name servers of `/etc/resolv.conf` are asked with the crate hickory-resolver.

use super::resolve::ServiceHost;
use super::{Session, log};
use crate::model::{Class, Failure};
use futures_util::future::BoxFuture;
use hickory_resolver::TokioResolver;
use hickory_resolver::net::NetError;
use hickory_resolver::proto::rr::RData;
use std::io;
use std::time::{Duration, Instant};

/// Limit on the hosts of one service. Larger answers are cut.
const MAX_HOSTS: usize = 64;
/// How long one name server may take. Another try and another server follow.
const QUERY_TIMEOUT: Duration = Duration::from_secs(2);

/// What DNS says about a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceRecords {
    /// The hosts of the SRV records, at least one.
    pub hosts: Vec<ServiceHost>,
    /// The texts of the TXT records of the service's own name.
    pub texts: Vec<String>,
}

/// Looks up `_SERVICE._tcp.HOST` and the texts of `HOST`, and logs both.
///
/// # Errors
/// Returns `Network` if the SRV record does not exist, or if the resolver does not answer within `limit`.
pub(super) async fn look_up(
    session: &Session,
    (service, host): (&str, &str),
    limit: Duration,
) -> Result<ServiceRecords, Failure> {
    let (name, lookup) = (format!("_{service}._tcp.{host}"), session.egress.lookup.as_ref());
    let started = Instant::now();
    let both = async {
        let hosts = lookup.services(&name).await?;
        let texts = lookup.texts(host).await?;
        Ok::<_, io::Error>((hosts, texts))
    };
    let found = tokio::time::timeout(limit, both).await;
    let failure = |title: String, reason: String| {
        let fix = format!("check what this machine's resolver answers: dig SRV {name}");
        Failure::new(Class::Network, title, fix).detail(reason)
    };
    let outcome = match found {
        Ok(Ok((mut hosts, texts))) if !hosts.is_empty() => {
            hosts.truncate(MAX_HOSTS);
            Ok(ServiceRecords { hosts, texts })
        }
        Ok(Ok(_)) => Err(failure(format!("the SRV record {name} was not found"), "the answer has no records".to_string())),
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => {
            Err(failure(format!("the SRV record {name} was not found"), error.to_string()))
        }
        Ok(Err(error)) => Err(failure(format!("could not look up the SRV record {name}"), error.to_string())),
        Err(_) => Err(failure(
            format!("could not look up the SRV record {name}"),
            format!("the resolver did not answer within {} s", limit.as_secs_f32()),
        )),
    };
    let error = outcome.as_ref().err().map(|failure| failure.class.as_str()).unwrap_or_default();
    let took = started.elapsed();
    let event = log::CallEvent { method: "DNS SRV", host: &name, took, error, rule: "name lookup", ..log::CallEvent::default() };
    log::write(&session.caller, &event);
    session.record(&event);
    outcome
}

/// A resolver for the configuration of the machine as it is now.
fn resolver() -> io::Result<TokioResolver> {
    let mut builder = TokioResolver::builder_tokio().map_err(io::Error::other)?;
    let options = builder.options_mut();
    options.timeout = QUERY_TIMEOUT;
    options.cache_size = 0;
    builder.build().map_err(io::Error::other)
}

fn failed(error: &NetError) -> io::Error {
    let kind = if error.is_no_records_found() { io::ErrorKind::NotFound } else { io::ErrorKind::Other };
    io::Error::new(kind, error.to_string())
}

/// A final dot makes a name absolute, so that the search domains of the machine are not tried.
fn absolute(name: &str) -> String {
    format!("{}.", name.trim_end_matches('.'))
}

/// See [`Lookup::services`](super::resolve::Lookup::services).
pub(super) fn services(name: &str) -> BoxFuture<'_, io::Result<Vec<ServiceHost>>> {
    Box::pin(async move { services_by(&resolver()?, name).await })
}

/// See [`Lookup::texts`](super::resolve::Lookup::texts).
pub(super) fn texts(name: &str) -> BoxFuture<'_, io::Result<Vec<String>>> {
    Box::pin(async move { texts_by(&resolver()?, name).await })
}

async fn services_by(resolver: &TokioResolver, name: &str) -> io::Result<Vec<ServiceHost>> {
    let answer = resolver.srv_lookup(absolute(name)).await.map_err(|error| failed(&error))?;
    let hosts = answer.answers().iter().filter_map(|record| match &record.data {
        RData::SRV(srv) => {
            let host = srv.target.to_ascii().trim_end_matches('.').to_ascii_lowercase();
            Some(ServiceHost { host, port: srv.port })
        }
        _ => None,
    });
    Ok(hosts.collect())
}

async fn texts_by(resolver: &TokioResolver, name: &str) -> io::Result<Vec<String>> {
    let answer = match resolver.txt_lookup(absolute(name)).await {
        Ok(answer) => answer,
        Err(error) if error.is_no_records_found() => return Ok(Vec::new()),
        Err(error) => return Err(failed(&error)),
    };
    let texts = answer.answers().iter().filter_map(|record| match &record.data {
        RData::TXT(txt) => Some(String::from_utf8_lossy(&txt.txt_data.concat()).into_owned()),
        _ => None,
    });
    Ok(texts.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
    use hickory_resolver::net::runtime::TokioRuntimeProvider;
    use tokio::net::UdpSocket;

    const SRV: u16 = 33;
    const TXT: u16 = 16;

    /// The bytes of a name: labels with their lengths.
    fn labels(name: &str) -> Vec<u8> {
        let mut bytes: Vec<u8> =
            name.split('.').flat_map(|label| [&[label.len() as u8][..], label.as_bytes()].concat()).collect();
        bytes.push(0);
        bytes
    }

    fn srv(port: u16, target: &str) -> Vec<u8> {
        [&[0, 0, 0, 0][..], &port.to_be_bytes(), &labels(target)].concat()
    }

    fn txt(parts: &[&str]) -> Vec<u8> {
        parts.iter().flat_map(|part| [&[part.len() as u8][..], part.as_bytes()].concat()).collect()
    }

    /// The response to `query` (RFC 1035, section 4) with these records of the type that is asked for.
    fn response(query: &[u8], records: &[(u16, Vec<u8>)]) -> Vec<u8> {
        let end = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
        let kind = u16::from_be_bytes([query[end - 4], query[end - 3]]);
        let found: Vec<&Vec<u8>> = records.iter().filter(|(own, _)| *own == kind).map(|(_, data)| data).collect();
        // Name error if nothing is known.
        let flags = if records.is_empty() { 0x8183_u16 } else { 0x8180 };
        let mut bytes = [&query[..2], &flags.to_be_bytes(), &[0, 1], &(found.len() as u16).to_be_bytes(), &[0; 4]].concat();
        bytes.extend(&query[12..end]);
        for data in found {
            bytes.extend([0xC0, 12]);
            bytes.extend([&kind.to_be_bytes()[..], &[0, 1, 0, 0, 0, 60], &(data.len() as u16).to_be_bytes(), data].concat());
        }
        bytes
    }

    /// A resolver whose name server answers with `records`.
    async fn resolver_of(records: Vec<(u16, Vec<u8>)>) -> TokioResolver {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 1024];
            while let Ok((read, from)) = socket.recv_from(&mut buffer).await {
                let _ = socket.send_to(&response(&buffer[..read], &records), from).await;
            }
        });
        let mut connection = ConnectionConfig::udp();
        connection.port = address.port();
        let mut server = NameServerConfig::udp(address.ip());
        server.connections = vec![connection];
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).build().unwrap()
    }

    #[tokio::test]
    async fn records_of_a_name_server_are_read() {
        let records = vec![
            (SRV, srv(27017, "Shard-00.ab12c.mongodb.net")),
            (SRV, srv(27018, "shard-01.ab12c.mongodb.net")),
            (TXT, txt(&["authSource=admin&", "replicaSet=rs0"])),
        ];
        let resolver = resolver_of(records).await;
        let mut hosts = services_by(&resolver, "_mongodb._tcp.c.ab12c.mongodb.net").await.unwrap();
        hosts.sort_by_key(|host| host.port);
        assert_eq!(hosts[0], ServiceHost { host: "shard-00.ab12c.mongodb.net".to_string(), port: 27017 });
        assert_eq!(hosts.len(), 2);
        assert_eq!(texts_by(&resolver, "c.ab12c.mongodb.net").await.unwrap(), ["authSource=admin&replicaSet=rs0"]);
    }

    #[tokio::test]
    async fn a_name_without_records_is_not_found_and_has_no_texts() {
        let resolver = resolver_of(Vec::new()).await;
        let error = services_by(&resolver, "_mongodb._tcp.gone.mongodb.net").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound, "{error}");
        assert!(texts_by(&resolver, "gone.mongodb.net").await.unwrap().is_empty());
    }
}
