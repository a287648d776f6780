//! What the keys of a service principal of the kind `aws` mean together: its partition, its region and the endpoint of STS.

use super::Principal;
use crate::model::text::is_region;

/// A partition of AWS: a group of regions with accounts, ARNs and domain names of its own.
struct Partition {
    /// The second part of its ARNs.
    name: &'static str,
    /// The regions whose names begin so belong to the partition.
    region_prefix: &'static str,
    dns_suffix: &'static str,
    /// The region whose STS is called if the policy does not write one.
    region: &'static str,
}

/// The partitions, the most specific prefix first. Source: `partitions.json` of the AWS SDKs.
const PARTITIONS: [Partition; 8] = [
    Partition { name: "aws-cn", region_prefix: "cn-", dns_suffix: "amazonaws.com.cn", region: "cn-north-1" },
    Partition { name: "aws-us-gov", region_prefix: "us-gov-", dns_suffix: "amazonaws.com", region: "us-gov-west-1" },
    Partition { name: "aws-iso", region_prefix: "us-iso-", dns_suffix: "c2s.ic.gov", region: "us-iso-east-1" },
    Partition { name: "aws-iso-b", region_prefix: "us-isob-", dns_suffix: "sc2s.sgov.gov", region: "us-isob-east-1" },
    Partition { name: "aws-iso-e", region_prefix: "eu-isoe-", dns_suffix: "cloud.adc-e.uk", region: "eu-isoe-west-1" },
    Partition { name: "aws-iso-f", region_prefix: "us-isof-", dns_suffix: "csp.hci.ic.gov", region: "us-isof-south-1" },
    Partition { name: "aws-eusc", region_prefix: "eusc-", dns_suffix: "amazonaws.eu", region: "eusc-de-east-1" },
    Partition { name: "aws", region_prefix: "", dns_suffix: "amazonaws.com", region: "us-east-1" },
];

/// Where STS is called, and the region that signatures name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StsEndpoint {
    /// The URL without a path.
    pub url: String,
    pub region: String,
}

/// The parts of the ARN of an IAM role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoleArn<'a> {
    pub partition: &'a str,
    /// The number of the account, 12 digits.
    pub account: &'a str,
    /// The path and name of the role.
    pub role: &'a str,
}

impl RoleArn<'_> {
    /// Parses `arn:PARTITION:iam::ACCOUNT:role/NAME`.
    #[must_use]
    pub fn parse(text: &str) -> Option<RoleArn<'_>> {
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        let ["arn", partition, "iam", "", account, resource] = parts.as_slice() else { return None };
        let role = resource.strip_prefix("role/")?;
        let is_account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
        let is_role = !role.is_empty() && role.len() <= 600 && role.bytes().all(is_role_byte);
        let known = PARTITIONS.iter().any(|known| known.name == *partition);
        (is_account && is_role && known).then_some(RoleArn { partition, account, role })
    }
}

/// The characters of names and paths of roles (IAM User Guide, "IAM and AWS STS quotas").
fn is_role_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_+=,.@-/".contains(&byte)
}

fn partition_of(region: &str) -> &'static Partition {
    let found = PARTITIONS.iter().find(|partition| region.starts_with(partition.region_prefix));
    found.unwrap_or(&PARTITIONS[PARTITIONS.len() - 1])
}

/// Returns the endpoint of STS: that of the policy, that of the region, or, if the policy writes neither, the global endpoint
/// of the partition that the role belongs to.
#[must_use]
pub fn sts_endpoint(principal: &Principal) -> StsEndpoint {
    let role = principal.text("role_arn").and_then(RoleArn::parse);
    let of_role = PARTITIONS.iter().find(|partition| role.is_some_and(|role| role.partition == partition.name));
    let written = principal.text("region").filter(|region| is_region(region));
    let region = written.unwrap_or_else(|| of_role.map_or("us-east-1", |partition| partition.region)).to_string();
    let url = match (principal.text("sts_url"), written, of_role.is_none_or(|partition| partition.name == "aws")) {
        (Some(url), _, _) => url.to_string(),
        (None, None, true) => "https://sts.amazonaws.com".to_string(),
        _ => format!("https://sts.{region}.{}", partition_of(&region).dns_suffix),
    };
    StsEndpoint { url, region }
}

/// Returns what is wrong with the keys of a principal: the key, what it is, and what to write.
#[must_use]
pub fn problem(principal: &Principal) -> Option<(&'static str, String, &'static str)> {
    let text = |name: &str| principal.text(name);
    let region = text("region");
    if region.is_some_and(|region| !is_region(region)) {
        return Some(("region", "this is not the name of a region".to_string(), "write a region such as eu-central-1"));
    }
    let Some(role) = text("role_arn") else {
        let needing = ["web_identity_token_file", "external_id", "session_name", "sts_url", "region"];
        let key = needing.into_iter().find(|key| text(key).is_some())?;
        return Some((key, format!("{key} has no meaning without role_arn"), "write the role to assume as role_arn"));
    };
    let Some(arn) = RoleArn::parse(role) else {
        let hint = "write arn:aws:iam::ACCOUNT:role/NAME, with aws-cn or aws-us-gov in China and GovCloud";
        return Some(("role_arn", "this is not the ARN of a role".to_string(), hint));
    };
    if let Some(other) = region.map(partition_of).filter(|partition| partition.name != arn.partition) {
        let message = format!("the region belongs to the partition {}, and the role to {}", other.name, arn.partition);
        return Some(("region", message, "write a region of the role's partition"));
    }
    if text("external_id").is_some() && text("web_identity_token_file").is_some() {
        let hint = "remove external_id; the trust policy limits a web identity by its subject and audience";
        return Some(("external_id", "a web identity has no external id".to_string(), hint));
    }
    // The lengths and characters are those of the API reference of AssumeRole.
    let fits = |value: &str, max: usize, more: &[u8]| {
        (2..=max).contains(&value.len()) && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || more.contains(&byte))
    };
    if text("session_name").is_some_and(|name| !fits(name, 64, b"_+=,.@-")) {
        let hint = "use 2 to 64 letters, digits and _+=,.@-";
        return Some(("session_name", "this is not the name of a session".to_string(), hint));
    }
    if text("external_id").is_some_and(|id| !fits(id, 1224, b"_+=,.@:/-")) {
        let hint = "use 2 to 1,224 letters, digits and _+=,.@:/-, as the owner of the role wrote it";
        return Some(("external_id", "this is not an external id".to_string(), hint));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::Setting;
    use super::*;

    fn principal(pairs: &[(&'static str, &str)]) -> Principal {
        let settings = pairs.iter().map(|(key, value)| (*key, Setting::Text((*value).to_string()))).collect();
        Principal { kind: "aws", settings }
    }

    const ROLE: &str = "arn:aws:iam::111122223333:role/team/reader";

    #[test]
    fn the_endpoint_follows_region_and_partition() {
        for (pairs, url, region) in [
            (vec![("role_arn", ROLE)], "https://sts.amazonaws.com", "us-east-1"),
            (vec![("role_arn", ROLE), ("region", "eu-west-1")], "https://sts.eu-west-1.amazonaws.com", "eu-west-1"),
            (vec![("role_arn", ROLE), ("region", "us-east-1")], "https://sts.us-east-1.amazonaws.com", "us-east-1"),
            (vec![("role_arn", "arn:aws-cn:iam::111122223333:role/r")], "https://sts.cn-north-1.amazonaws.com.cn", "cn-north-1"),
            (
                vec![("role_arn", "arn:aws-cn:iam::111122223333:role/r"), ("region", "cn-northwest-1")],
                "https://sts.cn-northwest-1.amazonaws.com.cn",
                "cn-northwest-1",
            ),
            (
                vec![("role_arn", "arn:aws-us-gov:iam::111122223333:role/r")],
                "https://sts.us-gov-west-1.amazonaws.com",
                "us-gov-west-1",
            ),
            (
                vec![("role_arn", ROLE), ("region", "eu-west-1"), ("sts_url", "https://vpce-1.sts.example")],
                "https://vpce-1.sts.example",
                "eu-west-1",
            ),
        ] {
            let principal = principal(&pairs);
            assert_eq!(problem(&principal), None, "{pairs:?}");
            assert_eq!(sts_endpoint(&principal), StsEndpoint { url: url.to_string(), region: region.to_string() }, "{pairs:?}");
        }
    }

    #[test]
    fn keys_that_do_not_fit_together_are_named() {
        for (pairs, key) in [
            (vec![("web_identity_token_file", "/t")], "web_identity_token_file"),
            (vec![("external_id", "abc")], "external_id"),
            (vec![("role_arn", "arn:aws:iam::1:role/r")], "role_arn"),
            (vec![("role_arn", "arn:aws:iam::111122223333:user/u")], "role_arn"),
            (vec![("role_arn", "arn:aws:sts::111122223333:assumed-role/r/s")], "role_arn"),
            (vec![("role_arn", "arn:aws:iam::111122223333:role/r\"x")], "role_arn"),
            (vec![("role_arn", "arn:aws-cn:iam::111122223333:role/r"), ("region", "eu-west-1")], "region"),
            (vec![("role_arn", ROLE), ("region", "eu/west")], "region"),
            (vec![("role_arn", ROLE), ("session_name", "a b")], "session_name"),
            (vec![("role_arn", ROLE), ("external_id", "x")], "external_id"),
            (vec![("role_arn", ROLE), ("external_id", "abc"), ("web_identity_token_file", "/t")], "external_id"),
        ] {
            assert_eq!(problem(&principal(&pairs)).map(|problem| problem.0), Some(key), "{pairs:?}");
        }
    }
}
