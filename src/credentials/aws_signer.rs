//! Signs each request for the service of AWS that it goes to (Signature Version 4).
//!
//! Several services may have one address, for example behind a proxy or at a simulator. The header `X-Amz-Target` or the
//! parameter `Version` of a form then shows which of them is meant.

use super::Secret;
use super::signer::{RequestSigner, SignedResponse, UnsignedRequest};
use super::sigv4::{self, Keys, Scope, Unsigned};
use crate::model::{Class, Failure};
use data_encoding::HEXLOWER;
use ring::digest;

/// Headers that are signed if they are sent, besides those that the signature adds.
const SIGNED_HEADERS: [&str; 2] = ["content-type", "x-amz-target"];

/// A service whose requests are signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwsService {
    /// Scheme, host and port.
    pub origin: String,
    /// The beginning of `X-Amz-Target` up to its dot, for example `AWSOrganizationsV20161128`; empty for a service without
    /// this header.
    pub target: String,
    /// The parameter `Version` of a form, for example `2011-06-15`; empty if it does not matter.
    pub version: String,
    /// The name of the service in the scope of the signature, for example `organizations`.
    pub service: String,
    pub region: String,
}

impl AwsService {
    fn is_meant(&self, request: &UnsignedRequest<'_>) -> bool {
        let prefix = request.header("x-amz-target").and_then(|target| target.split_once('.')).map(|(prefix, _)| prefix);
        let has_version = || {
            let form = request.form().unwrap_or_default().as_bytes();
            url::form_urlencoded::parse(form).any(|(name, value)| name == "Version" && value == self.version)
        };
        request.url.origin().ascii_serialization() == self.origin
            && (self.target.is_empty() || prefix == Some(self.target.as_str()))
            && (self.version.is_empty() || has_version())
    }
}

/// Signs with an access key of AWS.
pub struct AwsSigner {
    pub keys: Keys,
    /// The first service that a request fits is the one that it is signed for.
    pub services: Vec<AwsService>,
}

impl RequestSigner for AwsSigner {
    fn scheme(&self) -> &'static str {
        "AWS"
    }

    fn headers(&self, request: &UnsignedRequest<'_>) -> Result<Vec<(String, Secret)>, Failure> {
        let Some(service) = self.services.iter().find(|service| service.is_meant(request)) else {
            let title = format!("{} has no service of AWS that this call is for", request.url.origin().ascii_serialization());
            return Err(Failure::new(Class::Bug, title, "report this as a defect of AAM"));
        };
        let signed: Vec<(&str, &str)> = SIGNED_HEADERS.iter().filter_map(|name| Some((*name, request.header(name)?))).collect();
        let payload_sha256 = HEXLOWER.encode(digest::digest(&digest::SHA256, request.body).as_ref());
        let unsigned = Unsigned { method: request.method, url: request.url, headers: &signed, payload_sha256: &payload_sha256 };
        let scope = Scope { service: &service.service, region: &service.region };
        Ok(sigv4::sign(unsigned, &self.keys, scope, request.now))
    }

    /// The error rules of the family read the errors of AWS.
    fn refusal(&self, _response: &SignedResponse<'_>) -> Option<Failure> {
        None
    }

    fn secrets(&self) -> Vec<Secret> {
        let Keys { secret_access_key, session_token, .. } = &self.keys;
        [secret_access_key.clone()].into_iter().chain(session_token.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;
    use url::Url;

    fn signer() -> AwsSigner {
        let secret = |text: &str| Secret::new(text.to_string());
        let keys = Keys {
            access_key_id: secret("AKEXAMPLE"),
            secret_access_key: secret("not-a-secret/for+tests"),
            session_token: Some(secret("tok/en+==")),
        };
        let service = |origin: &str, target: &str, version: &str, service: &str, region: &str| AwsService {
            origin: origin.to_string(),
            target: target.to_string(),
            version: version.to_string(),
            service: service.to_string(),
            region: region.to_string(),
        };
        let services = vec![
            service("http://127.0.0.1:9000", "AWSOrganizationsV20161128", "", "organizations", "us-east-1"),
            service("http://127.0.0.1:9000", "", "2011-06-15", "sts", "us-east-1"),
            service("http://127.0.0.1:9000", "", "2010-05-08", "iam", "us-east-1"),
            service("https://redshift-data.eu-central-1.amazonaws.com", "RedshiftData", "", "redshift-data", "eu-central-1"),
        ];
        AwsSigner { keys, services }
    }

    fn authorization(url: &str, headers: &[(&str, &str)], body: &str) -> Result<String, Failure> {
        let (url, now) = (Url::parse(url).unwrap(), Timestamp::parse("2026-11-29T07:30:05Z").unwrap());
        let headers = signer().headers(&UnsignedRequest { method: "POST", url: &url, headers, body: body.as_bytes(), now })?;
        assert!(headers.iter().any(|(name, value)| name == "x-amz-security-token" && value.expose() == "tok/en+=="));
        Ok(headers.iter().find(|(name, _)| name == "authorization").unwrap().1.expose().to_string())
    }

    #[test]
    fn the_target_or_the_version_chooses_the_service_of_an_address() {
        let (json, form) = (
            ("content-type", "application/x-amz-json-1.1"),
            ("content-type", "application/x-www-form-urlencoded; charset=utf-8"),
        );
        let target = |text| ("x-amz-target", text);
        let (local, redshift) = ("http://127.0.0.1:9000/", "https://redshift-data.eu-central-1.amazonaws.com/");
        for (url, headers, body, scope, names) in [
            (
                local,
                vec![json, target("AWSOrganizationsV20161128.ListRoots"), ("accept", "*/*")],
                "{}",
                "us-east-1/organizations",
                "content-type;host;x-amz-date;x-amz-security-token;x-amz-target",
            ),
            (
                local,
                vec![form],
                "Action=GetCallerIdentity&Version=2011-06-15",
                "us-east-1/sts",
                "content-type;host;x-amz-date;x-amz-security-token",
            ),
            (
                local,
                vec![form],
                "Action=SimulatePrincipalPolicy&Version=2010-05-08",
                "us-east-1/iam",
                "content-type;host;x-amz-date;x-amz-security-token",
            ),
            (
                redshift,
                vec![target("RedshiftData.ListDatabases")],
                "{}",
                "eu-central-1/redshift-data",
                "host;x-amz-date;x-amz-security-token;x-amz-target",
            ),
        ] {
            let made = authorization(url, &headers, body).unwrap();
            assert!(made.contains(&format!("/20261129/{scope}/aws4_request, SignedHeaders={names}, ")), "{made}");
            assert!(!made.contains("not-a-secret"));
        }
        assert!(authorization(redshift, &[target("RedshiftDataX.ListDatabases")], "{}").is_err());
        assert!(authorization(local, &[json], "{}").is_err());
        assert!(authorization("https://other.example/", &[form], "Version=2011-06-15").is_err());
    }

    /// The same call signed by botocore 1.44.8 (`SigV4Auth`).
    #[test]
    fn the_signature_is_that_of_botocore() {
        let headers =
            [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", "AWSOrganizationsV20161128.ListAccounts")];
        let made = authorization("http://127.0.0.1:9000/", &headers, r#"{"MaxResults":20}"#).unwrap();
        assert!(made.ends_with("Signature=f21b2bc3fc203697e8244e8e84d8e3530359ecac0c49079f76522882fb1df2a5"), "{made}");
    }
}
