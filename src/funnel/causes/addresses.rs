//! The address ranges that a policy has to allow so that refused addresses may be called. Pure.

use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The kinds of addresses that a policy may allow, as the refusal names them, and the title of their cause.
const KINDS: [(&str, &str); 4] = [
    (PRIVATE, "Private addresses not allowed"),
    ("a loopback address", "Loopback addresses not allowed"),
    ("a link-local address", "Link-local addresses not allowed"),
    ("a carrier-grade NAT address", "Carrier-grade NAT addresses not allowed"),
];

/// Only private addresses are allowed as a range. Ranges of the other kinds hold the addresses of metadata services.
const PRIVATE: &str = "a private address";

/// The number of ranges that a fix lists.
const MAX_RANGES: usize = 8;

/// The title of the cause of a refusal, and the refused address. `None` if `title` is not about an address that a policy may
/// allow.
#[must_use]
pub fn refused(title: &str) -> Option<(&'static str, IpAddr)> {
    let (_, cause) =
        KINDS.iter().find(|(kind, _)| title.contains(kind)).filter(|_| title.contains("policy does not allow it"))?;
    let mut parts = title.split_whitespace().map(|word| word.trim_matches(['[', ']', '(', ')', ',', ';']));
    let address = parts.find_map(|word| word.parse::<IpAddr>().ok())?;
    Some((cause, address.to_canonical()))
}

/// What to do so that `addresses`, which were refused with the title `cause`, may be called.
#[must_use]
pub fn fix(cause: &str, addresses: &BTreeSet<IpAddr>) -> String {
    let is_private = KINDS.iter().any(|(kind, title)| *kind == PRIVATE && *title == cause);
    let ranges = if is_private { ranges(addresses) } else { addresses.iter().filter_map(|one| single(*one)).collect() };
    let listed: Vec<String> = ranges.iter().take(MAX_RANGES).map(ToString::to_string).collect();
    let more = match ranges.len().saturating_sub(MAX_RANGES) {
        0 => String::new(),
        more => format!("; and {more} more ranges"),
    };
    let these = if addresses.len() == 1 { "this address is" } else { "these addresses are" };
    let wider = match ranges.iter().any(|range| Some(*range) != single(range.addr())) {
        true => "; a range allows its other addresses too, so list single addresses where that is too much",
        false => "",
    };
    let listed = listed.join(", ");
    format!("allow {listed} if {these} intended, in the policy: network.allow_private: [{listed}]{more}{wider}")
}

/// The smallest ranges in the usual sizes: one address; the /24 (IPv6: /64) that holds several; the /16 that holds three or
/// more of these. No range is wider.
#[must_use]
pub fn ranges(addresses: &BTreeSet<IpAddr>) -> Vec<IpNet> {
    let narrow = grouped(addresses.iter().copied(), |address| net(*address, if address.is_ipv4() { 24 } else { 64 }));
    let narrow: Vec<IpNet> = narrow
        .into_iter()
        .flat_map(|(net, members)| if members.len() == 1 || holds_metadata(net) { singles(&members) } else { vec![net] })
        .collect();
    let wide = grouped(narrow, |range| net(range.addr(), if range.addr().is_ipv4() { 16 } else { 64 }));
    let mut ranges: Vec<IpNet> = wide
        .into_iter()
        .flat_map(|(net, members)| if members.len() >= 3 && net.addr().is_ipv4() { vec![net] } else { members })
        .collect();
    ranges.sort();
    ranges
}

/// Groups `items` by the range that `range` gives. Items without one are left out.
fn grouped<T>(items: impl IntoIterator<Item = T>, range: impl Fn(&T) -> Option<IpNet>) -> BTreeMap<IpNet, Vec<T>> {
    let mut groups: BTreeMap<IpNet, Vec<T>> = BTreeMap::new();
    for item in items {
        if let Some(range) = range(&item) {
            groups.entry(range).or_default().push(item);
        }
    }
    groups
}

fn singles(addresses: &[IpAddr]) -> Vec<IpNet> {
    addresses.iter().filter_map(|address| single(*address)).collect()
}

fn single(address: IpAddr) -> Option<IpNet> {
    net(address, if address.is_ipv4() { 32 } else { 128 })
}

fn net(address: IpAddr, prefix: u8) -> Option<IpNet> {
    Some(IpNet::new(address, prefix).ok()?.trunc())
}

/// Whether the range holds the metadata addresses of AWS, which are private IPv6 addresses. It is never allowed as a whole.
fn holds_metadata(range: IpNet) -> bool {
    matches!(range.addr(), IpAddr::V6(address) if address.segments().starts_with(&[0xfd00, 0x0ec2, 0, 0]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> BTreeSet<IpAddr> {
        text.split(' ').map(|one| one.parse().unwrap()).collect()
    }

    fn merged(text: &str) -> String {
        ranges(&set(text)).iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn addresses_become_the_smallest_usual_ranges() {
        assert_eq!(merged("10.4.3.12"), "10.4.3.12/32");
        assert_eq!(merged("10.4.3.12 10.4.3.200"), "10.4.3.0/24");
        assert_eq!(merged("10.4.3.12 10.4.9.1"), "10.4.3.12/32 10.4.9.1/32");
        assert_eq!(merged("10.4.3.12 10.4.9.1 10.4.9.2 10.4.200.7"), "10.4.0.0/16");
        assert_eq!(merged("10.4.0.1 10.4.1.1 10.4.2.1 192.168.1.9"), "10.4.0.0/16 192.168.1.9/32");
        assert_eq!(merged("fd12::1 fd12::2 fd13::1"), "fd12::/64 fd13::1/128");
        assert_eq!(merged("fd00:ec2::1 fd00:ec2::2"), "fd00:ec2::1/128 fd00:ec2::2/128");
    }

    #[test]
    fn refusals_are_recognized_with_and_without_a_name() {
        let private = |title: &str| refused(title).map(|(cause, address)| format!("{cause}: {address}"));
        for title in [
            "Not called: 10.4.3.12 is a private address and the policy does not allow it",
            "Not called: db.corp is 10.4.3.12, a private address, and the policy does not allow it",
        ] {
            assert_eq!(private(title).as_deref(), Some("Private addresses not allowed: 10.4.3.12"), "{title}");
        }
        assert_eq!(
            private("Not called: localhost is ::1, a loopback address, and the policy does not allow it").as_deref(),
            Some("Loopback addresses not allowed: ::1")
        );
        assert_eq!(private("Not called: x is 169.254.169.254, a cloud metadata address, and the policy does not allow it"), None);
        assert_eq!(private("a private address of the owner is missing"), None);
    }

    #[test]
    fn the_fix_names_the_ranges_and_says_when_they_are_wider() {
        let private = fix("Private addresses not allowed", &set("10.4.0.1 10.4.1.1 10.4.2.1"));
        assert!(
            private.starts_with(
                "allow 10.4.0.0/16 if these addresses are intended, in the policy: network.allow_private: [10.4.0.0/16]; a range"
            ),
            "{private}"
        );
        let loopback = fix("Loopback addresses not allowed", &set("127.0.0.1 127.0.0.2"));
        assert!(loopback.ends_with("network.allow_private: [127.0.0.1/32, 127.0.0.2/32]"), "{loopback}");
    }
}
