//! The two APIs of Airbyte, their addresses and their calls.
//!
//! Sources: airbytehq/airbyte-platform, `config.yaml` and `api.yaml` \[V\]. The configuration API (`/api/v1`) has everything,
//! and every call of it is a POST, an update too. The public API (`/api/public/v1`, in the cloud `api.airbyte.com/v1`) lists,
//! creates and describes sources; it does not have a check, and its update is a PUT, which AAM does not send.

use crate::model::{Class, Failure};
use url::Url;

/// Which API the address of the policy leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    Configuration,
    Public,
}

/// A call of Airbyte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Exchanges the id and the secret of an application for a token.
    Token,
    Definitions,
    Specification,
    Sources,
    Create,
    Update,
    Check,
    Discover,
}

impl Call {
    /// All calls, in the order in which an attempt makes them.
    pub const ALL: [Call; 8] = [
        Call::Token,
        Call::Sources,
        Call::Definitions,
        Call::Specification,
        Call::Create,
        Call::Update,
        Call::Check,
        Call::Discover,
    ];

    /// Returns method and path below the address of the API, or `None` if the API does not have the call.
    #[must_use]
    pub fn of_api(self, api: Api) -> Option<(&'static str, &'static str)> {
        Some(match (api, self) {
            (_, Call::Token) => ("POST", "/applications/token"),
            (Api::Configuration, Call::Definitions) => ("POST", "/source_definitions/list_for_workspace"),
            (Api::Configuration, Call::Specification) => ("POST", "/source_definition_specifications/get"),
            (Api::Configuration, Call::Sources) => ("POST", "/sources/list"),
            (Api::Configuration, Call::Create) => ("POST", "/sources/create"),
            (Api::Configuration, Call::Update) => ("POST", "/sources/update"),
            (Api::Configuration, Call::Check) => ("POST", "/sources/check_connection"),
            (Api::Configuration, Call::Discover) => ("POST", "/sources/discover_schema"),
            (Api::Public, Call::Definitions) => ("GET", "/workspaces/{workspace}/definitions/sources"),
            (Api::Public, Call::Sources) => ("GET", "/sources"),
            (Api::Public, Call::Create) => ("POST", "/sources"),
            (Api::Public, Call::Discover) => ("GET", "/streams"),
            (Api::Public, Call::Specification | Call::Update | Call::Check) => return None,
        })
    }
}

/// The address of one installation.
#[derive(Clone, Debug, PartialEq)]
pub struct Address {
    pub api: Api,
    base: Url,
}

impl Address {
    /// Reads `airbyte.platform.url`. Without a path, or with the path `/api`, it is the configuration API.
    ///
    /// # Errors
    /// Returns `Misconfigured` if the path is not one of Airbyte's.
    pub fn new(url: &Url) -> Result<Address, Failure> {
        let mut base = url.clone();
        base.set_query(None);
        base.set_fragment(None);
        let _ = (base.set_username(""), base.set_password(None));
        let path = url.path().trim_end_matches('/').to_string();
        let is_cloud = url.host_str() == Some("api.airbyte.com");
        let (api, path) = match path.as_str() {
            "" | "/v1" if is_cloud => (Api::Public, "/v1".to_string()),
            path if path.ends_with("/api/public/v1") => (Api::Public, path.to_string()),
            path if path.ends_with("/api/v1") => (Api::Configuration, path.to_string()),
            path if path.ends_with("/api") => (Api::Configuration, format!("{path}/v1")),
            "" => (Api::Configuration, "/api/v1".to_string()),
            _ => {
                return Err(Failure::new(
                    Class::Misconfigured,
                    format!("{url} is not the address of an API of Airbyte"),
                    "write airbyte.platform.url in the policy as https://HOST/api/v1, or https://api.airbyte.com/v1 for Airbyte Cloud",
                ));
            }
        };
        base.set_path(&path);
        Ok(Address { api, base })
    }

    /// Returns `host` or `host:port`.
    #[must_use]
    pub fn host(&self) -> String {
        let host = self.base.host_str().unwrap_or_default();
        self.base.port().map_or(host.to_string(), |port| format!("{host}:{port}"))
    }

    /// Returns method and address of a call, or `None` if the API does not have it.
    #[must_use]
    pub fn of_call(&self, call: Call, workspace: &str) -> Option<(&'static str, Url)> {
        let (method, path) = call.of_api(self.api)?;
        let mut url = self.base.clone();
        url.set_path(&format!("{}{}", self.base.path(), path.replace("{workspace}", workspace)));
        Some((method, url))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(url: &str) -> Result<Address, Failure> {
        Address::new(&Url::parse(url).unwrap())
    }

    #[test]
    fn each_address_leads_to_its_api() {
        for (url, api, token) in [
            ("https://airbyte.acme.example", Api::Configuration, "https://airbyte.acme.example/api/v1/applications/token"),
            ("https://airbyte.acme.example/api/", Api::Configuration, "https://airbyte.acme.example/api/v1/applications/token"),
            ("http://10.0.0.7:8000/api/v1", Api::Configuration, "http://10.0.0.7:8000/api/v1/applications/token"),
            ("https://acme.example/airbyte/api/v1", Api::Configuration, "https://acme.example/airbyte/api/v1/applications/token"),
            ("https://cloud.airbyte.com/api/v1", Api::Configuration, "https://cloud.airbyte.com/api/v1/applications/token"),
            ("https://acme.example/api/public/v1", Api::Public, "https://acme.example/api/public/v1/applications/token"),
            ("https://api.airbyte.com/v1/", Api::Public, "https://api.airbyte.com/v1/applications/token"),
            ("https://api.airbyte.com", Api::Public, "https://api.airbyte.com/v1/applications/token"),
        ] {
            let address = address(url).unwrap();
            assert_eq!(address.api, api, "{url}");
            assert_eq!(address.of_call(Call::Token, "w").unwrap().1.as_str(), token);
        }
        for url in ["https://airbyte.acme.example/v2", "https://airbyte.acme.example/workspaces/7"] {
            assert_eq!(address(url).unwrap_err().class, Class::Misconfigured, "{url}");
        }
    }

    #[test]
    fn neither_api_has_a_call_that_makes_a_connection_or_deletes() {
        let paths: Vec<&str> = [Api::Configuration, Api::Public]
            .iter()
            .flat_map(|api| Call::ALL.iter().filter_map(|call| call.of_api(*api)))
            .map(|(method, path)| {
                assert!(matches!(method, "GET" | "POST"), "{method} {path}");
                path
            })
            .collect();
        assert_eq!(paths.len(), 13);
        for path in paths {
            assert!(!path.contains("connections") && !path.contains("delete") && !path.contains("jobs"), "{path}");
        }
        assert_eq!(address("https://api.airbyte.com/v1").unwrap().of_call(Call::Update, "w"), None);
    }
}
