//! The SSRF guard, which decides which addresses may be called.
//!
//! The guard refuses every address that is not public, unless `network.allow_private` lists it. The resolver uses it
//! for the addresses of host names and `send` uses it for IP literals. Both check again after each redirect. This
//! module is pure.

use crate::model::{Class, Failure};
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use url::{Host, Url};

/// Why an address may not be called. The HTTP client returns this as an error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{host} is {address}, {kind}")]
pub struct Refusal {
    pub host: String,
    pub address: IpAddr,
    /// The kind of address with its article, for example `a private address`.
    pub kind: &'static str,
}

impl Refusal {
    /// Returns the failure to report, with the policy line that would allow the address.
    #[must_use]
    pub fn failure(&self) -> Failure {
        let Refusal { host, address, kind } = self;
        let title = match host.trim_start_matches('[').trim_end_matches(']') == address.to_string() {
            true => format!("Not called: {address} is {kind} and the policy does not allow it"),
            false => format!("Not called: {host} is {address}, {kind}, and the policy does not allow it"),
        };
        // A metadata service hands out the credentials of this machine, so the message does not say how to allow it.
        let fix = match kind.contains("metadata") {
            true => "no source has this address: correct the resource id, or find out who wants aam to call it".to_string(),
            false => format!("if this address is intended, add it to the policy: network.allow_private: [{}]", single(*address)),
        };
        Failure::new(Class::EgressRefused, title, fix)
    }
}

/// Returns the kind of a non-public address, or `None` if the address is public.
#[must_use]
pub fn kind(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(v4) => kind_v4(v4),
        IpAddr::V6(v6) => kind_v6(v6),
    }
}

/// Checks that `address` is public or listed in `allowed`.
///
/// # Errors
/// Returns a refusal that names `host` and the address.
pub fn check(host: &str, address: IpAddr, allowed: &[IpNet]) -> Result<(), Refusal> {
    match kind(address) {
        Some(kind) if !listed(address, allowed) => Err(Refusal { host: host.to_string(), address, kind }),
        _ => Ok(()),
    }
}

/// Returns the addresses of `host` that may be called. A refused address does not block the others, because the caller
/// connects only to the returned addresses.
///
/// # Errors
/// Returns the first refusal if no address is left.
pub fn passing(host: &str, addresses: &[IpAddr], allowed: &[IpNet]) -> Result<Vec<IpAddr>, Refusal> {
    let mut first = None;
    let mut passed = Vec::new();
    for address in addresses {
        match check(host, *address, allowed) {
            Ok(()) => passed.push(*address),
            Err(refusal) => first = first.or(Some(refusal)),
        }
    }
    match first {
        Some(refusal) if passed.is_empty() => Err(refusal),
        _ => Ok(passed),
    }
}

/// Checks the parts of a URL that need no name resolution: the scheme, the user info and an IP literal as the host. The
/// `url` crate has already normalized `0x7f000001` and `2130706433` to `127.0.0.1`.
///
/// # Errors
/// Returns `EgressRefused` if the URL is not allowed.
pub fn check_url(url: &Url, allowed: &[IpNet]) -> Result<(), Failure> {
    let refuse = |title: String, fix: &str| Err(Failure::new(Class::EgressRefused, title, fix));
    let host = url.host_str().unwrap_or_default();
    if !matches!(url.scheme(), "http" | "https") {
        return refuse(
            format!("{host} was not called: its scheme {}: is not http or https", url.scheme()),
            "write an http or https address",
        );
    }
    if !url.username().is_empty() || url.password().is_some() {
        let fix = "remove user and password from the address and store them behind credential_locator";
        return refuse(format!("{host} was not called: its address holds a user or a password"), fix);
    }
    let address = match url.host() {
        Some(Host::Ipv4(v4)) => IpAddr::V4(v4),
        Some(Host::Ipv6(v6)) => IpAddr::V6(v6),
        Some(Host::Domain(name)) if !name.is_empty() => return Ok(()),
        _ => {
            return refuse(
                "an address without a host was not called".to_string(),
                "write an address of the form https://host/path",
            );
        }
    };
    check(host, address, allowed).map_err(|refusal| refusal.failure())
}

/// Returns whether `host` is a name of the internal network. Such names are not sent to a proxy, because the proxy
/// resolves them without this guard.
#[must_use]
pub fn local_name(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let under = |zone: &str| host == zone || host.strip_suffix(zone).is_some_and(|rest| rest.ends_with('.'));
    ["localhost", "internal", "local", "localdomain"].into_iter().any(under) || host == "metadata" || host == "instance-data"
}

/// Returns whether `allowed` lists `address`.
#[must_use]
pub fn listed(address: IpAddr, allowed: &[IpNet]) -> bool {
    let contains = |address: IpAddr| allowed.iter().any(|net| net.contains(&address));
    // An IPv4-mapped IPv6 address reaches the same host as its IPv4 form.
    contains(address) || contains(address.to_canonical())
}

fn single(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(v4) => format!("{v4}/32"),
        IpAddr::V6(v6) => format!("{v6}/128"),
    }
}

/// The ranges come from RFC 6890 and its IANA registry. The cloud metadata addresses are those of AWS, GCP, Azure and
/// Alibaba.
fn kind_v4(address: Ipv4Addr) -> Option<&'static str> {
    let [a, b, c, d] = address.octets();
    Some(match (a, b, c, d) {
        (169, 254, 169, 254) | (169, 254, 170, 2 | 23) | (100, 100, 100, 200) | (168, 63, 129, 16) | (192, 0, 0, 192) => {
            "a cloud metadata address"
        }
        (0, ..) => "an address of this network",
        (127, ..) => "a loopback address",
        (10, ..) | (172, 16..=31, ..) | (192, 168, ..) => "a private address",
        (169, 254, ..) => "a link-local address",
        (100, 64..=127, ..) => "a carrier-grade NAT address",
        (192, 0, 0, _) | (192, 88, 99, _) => "an address reserved by the IETF",
        (192, 0, 2, _) | (198, 51, 100, _) | (203, 0, 113, _) => "a documentation address",
        (198, 18..=19, ..) => "a benchmarking address",
        (224..=239, ..) => "a multicast address",
        (255, 255, 255, 255) => "the broadcast address",
        (240..=255, ..) => "a reserved address",
        _ => return None,
    })
}

fn kind_v6(address: Ipv6Addr) -> Option<&'static str> {
    if let Some(inner) = embedded(address) {
        // The IPv6 address itself counts as public, so the embedded IPv4 address decides.
        return kind_v4(inner);
    }
    let [s0, s1, ..] = address.segments();
    if matches!(address.segments(), [0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x254 | 0x23]) {
        return Some("a cloud metadata address");
    }
    Some(match s0 {
        _ if address.is_unspecified() => "an address of this network",
        _ if address.is_loopback() => "a loopback address",
        0xfc00..=0xfdff => "a private address",
        0xfe80..=0xfebf => "a link-local address",
        0xfec0..=0xfeff => "a private address",
        0xff00..=0xffff => "a multicast address",
        0x0100 => "a discard-only address",
        0x2001 if s1 == 0x0db8 => "a documentation address",
        0x2001 if s1 < 0x0200 => "an address reserved by the IETF",
        0x3fff if s1 < 0x1000 => "a documentation address",
        0x5f00 => "an address reserved by the IETF",
        // Only 2000::/3 is assigned as global unicast.
        0x2000..=0x3fff => return None,
        _ => "a reserved address",
    })
}

/// Returns the IPv4 address that is embedded in an IPv6 address: mapped, compatible, translated, NAT64, 6to4 or ISATAP.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let s = address.segments();
    let join = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match s {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0, 0, 0, 0, 0, 0, high, low]
        | [0x0064, 0xff9b, 0, 0, 0, 0, high, low] => Some(join(high, low)),
        // 64:ff9b:1::/48 is the local-use translation prefix; it always leads to the internal network.
        [0x0064, 0xff9b, 1, ..] => Some(Ipv4Addr::new(10, 0, 0, 0)),
        [0x2002, high, low, ..] => Some(join(high, low)),
        [_, _, _, _, 0x0000 | 0x0200, 0x5efe, high, low] => Some(join(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn every_form_of_a_place_inside_is_refused() {
        let inside = "127.0.0.1 127.9.9.9 10.1.2.3 172.16.0.1 172.31.255.255 192.168.1.1 169.254.1.1 100.64.0.1 100.127.255.255 \
            0.0.0.0 0.1.2.3 224.0.0.1 239.1.1.1 255.255.255.255 240.0.0.1 192.0.2.1 198.51.100.7 203.0.113.9 198.18.0.1 192.0.0.8 \
            ::1 :: fc00::1 fdff::1 fe80::1 fec0::1 ff02::1 2001:db8::1 3fff::1 100::1 2001::1 4000::1 \
            ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::10.0.0.1 ::127.0.0.1 ::ffff:0:10.0.0.1 64:ff9b::10.0.0.1 64:ff9b::169.254.169.254 \
            64:ff9b:1::1 2002:7f00:1:: 2002:a9fe:a9fe::1 2607:f8b0::5efe:10.0.0.1";
        for text in inside.split_whitespace() {
            assert!(kind(ip(text)).is_some(), "{text} passed");
            assert!(check("host", ip(text), &[]).is_err(), "{text} passed");
        }
        for text in [
            "169.254.169.254",
            "169.254.170.2",
            "169.254.170.23",
            "100.100.100.200",
            "168.63.129.16",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "::ffff:169.254.169.254",
        ] {
            assert_eq!(kind(ip(text)), Some("a cloud metadata address"), "{text}");
        }
    }

    #[test]
    fn public_addresses_pass() {
        for text in "1.1.1.1 8.8.8.8 100.63.0.1 100.128.0.1 172.15.0.1 172.32.0.1 192.167.1.1 2606:4700::1111 2a00:1450::1 \
            ::ffff:8.8.8.8 64:ff9b::8.8.8.8 2002:808:808::1"
            .split_whitespace()
        {
            assert_eq!(kind(ip(text)), None, "{text}");
        }
    }

    #[test]
    fn the_policy_opens_what_it_lists_and_no_more() {
        let allowed: Vec<IpNet> = vec!["10.1.2.3/32".parse().unwrap()];
        assert!(check("db", ip("10.1.2.3"), &allowed).is_ok());
        assert!(check("db", ip("::ffff:10.1.2.3"), &allowed).is_ok());
        assert!(check("db", ip("10.1.2.4"), &allowed).is_err());
        assert!(check("db", ip("64:ff9b::10.1.2.3"), &allowed).is_err(), "a translated address is another place");
        assert_eq!(passing("db", &[ip("10.1.2.4"), ip("10.1.2.3")], &allowed), Ok(vec![ip("10.1.2.3")]));
        let refusal = passing("db", &[ip("10.1.2.4")], &allowed).unwrap_err().failure();
        assert_eq!(refusal.title, "Not called: db is 10.1.2.4, a private address, and the policy does not allow it");
        assert_eq!(refusal.fix, "if this address is intended, add it to the policy: network.allow_private: [10.1.2.4/32]");
    }

    #[test]
    fn literals_in_any_spelling_are_seen() {
        for text in [
            "http://0x7f000001/",
            "http://2130706433/",
            "http://127.1/",
            "http://0177.0.0.1/",
            "http://[::ffff:7f00:1]/",
            "http://[::1]/",
        ] {
            let failure = check_url(&Url::parse(text).unwrap(), &[]).unwrap_err();
            assert_eq!(failure.class, Class::EgressRefused, "{text}");
            assert!(failure.title.contains("loopback"), "{text}: {}", failure.title);
        }
        for text in ["ftp://example.com/", "file:///etc/hosts", "http://user@example.com/", "http://:secret@example.com/"] {
            let failure = check_url(&Url::parse(text).unwrap(), &[]).unwrap_err();
            assert!(!failure.title.contains("secret"), "{}", failure.title);
        }
        assert!(check_url(&Url::parse("https://example.com/x?y").unwrap(), &[]).is_ok());
    }

    #[test]
    fn names_that_mean_inside_are_known() {
        for name in ["localhost", "LOCALHOST.", "a.localhost", "metadata.google.internal", "db.internal", "printer.local"] {
            assert!(local_name(name), "{name}");
        }
        for name in ["example.com", "notlocalhost", "internal.example.com"] {
            assert!(!local_name(name), "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_wrapping_hides_an_inner_address(a: u32) {
            let v4 = Ipv4Addr::from(a);
            let [high, low] = [(a >> 16) as u16, a as u16];
            for outer in [
                v4.to_ipv6_mapped(),
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
                Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
            ] {
                prop_assert_eq!(kind(IpAddr::V6(outer)), kind_v4(v4));
            }
        }
    }
}
