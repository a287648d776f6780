//! What failures mean at Supabase, where hosts, users and certificates follow rules of their own. Pure.

use super::address::Endpoint;
use crate::model::{Class, Failure};

/// The way to a project that failed.
#[derive(Clone, Debug)]
pub struct ProjectWay {
    pub host: String,
    /// `None` for the Data API.
    pub endpoint: Option<Endpoint>,
    /// The reference of the project, if it is known.
    pub project: Option<String>,
}

impl ProjectWay {
    fn dashboard(&self) -> String {
        format!("supabase.com/dashboard/project/{}", self.project.as_deref().unwrap_or("PROJECT"))
    }

    /// Returns `failure` with what it means at Supabase.
    #[must_use]
    pub fn explained(&self, failure: Failure) -> Failure {
        let said = failure.detail.to_lowercase();
        let says = |texts: &[&str]| texts.iter().any(|text| said.contains(text));
        if says(&["unknownissuer"]) && self.endpoint.is_some_and(|endpoint| endpoint != Endpoint::Other) {
            return self.untrusted(failure);
        }
        match self.endpoint {
            Some(Endpoint::Pooler) if says(&["tenant or user not found", "enotfound", "no tenant identifier", "tenant/user"]) => {
                self.unknown_at_pooler(failure)
            }
            None | Some(Endpoint::Direct) if failure.class == Class::Network && failure.title.contains("was not found") => {
                self.unknown_host(failure)
            }
            Some(Endpoint::Direct) if failure.class == Class::Network && failure.title.contains(&self.host) => {
                self.unreachable(failure)
            }
            _ => failure,
        }
    }

    /// \[V\] supabase#49869, and supabase.com/docs, "Tenant or user not found": the host was composed instead of copied, the user
    /// does not name the project, or the project is paused.
    fn unknown_at_pooler(&self, failure: Failure) -> Failure {
        let project =
            self.project.as_ref().map_or("the project of this user".to_string(), |project| format!("the project {project}"));
        Failure {
            title: format!("the pooler {} does not know {project} or the role of this user", self.host),
            fix: format!(
                "copy the Session pooler string from {} > Connect into resource_ids: the number in aws-0 or aws-1 does not follow from \
                 the region; the user is ROLE.PROJECTREF, and the role must exist in the database; a paused project is unknown, too",
                self.dashboard()
            ),
            ..failure
        }
    }

    /// \[R\] NoorLifeApp#124: the names of a paused project do not exist.
    fn unknown_host(&self, failure: Failure) -> Failure {
        let or = match self.endpoint {
            Some(_) => {
                "; its database has only an IPv6 address unless the project has the IPv4 add-on: if this machine's resolver hides \
                        such addresses, copy the Session pooler string of Connect into resource_ids"
            }
            None => "",
        };
        Failure {
            title: format!(
                "the host {} was not found; Supabase removes the host names of paused and deleted projects",
                self.host
            ),
            fix: format!(
                "open {}: if the project is paused, select Restore project (the free plan pauses a project after a week without \
                 activity); if there is no such project, correct the reference in resource_ids{or}",
                self.dashboard()
            ),
            ..failure
        }
    }

    /// \[V\] supabase.com/docs, "Connect to your database": the direct connection is on IPv6 only without the add-on.
    fn unreachable(&self, failure: Failure) -> Failure {
        let fix = format!(
            "{} has only an IPv6 address unless the project has the IPv4 add-on, so a machine without IPv6 does not reach it: copy the \
             Session pooler string from {} > Connect into resource_ids, with the user ROLE.{}; otherwise {}",
            self.host,
            self.dashboard(),
            self.project.as_deref().unwrap_or("PROJECTREF"),
            failure.fix
        );
        Failure { fix, ..failure }
    }

    /// \[K\] supabase.com/docs, "Postgres SSL enforcement": the servers have certificates of Supabase's own authority.
    fn untrusted(&self, failure: Failure) -> Failure {
        let fix = format!(
            "Supabase has a certificate authority of its own: {}/database/settings > SSL Configuration > Download certificate, and name \
             the file in the policy's network.ca_file",
            self.dashboard()
        );
        Failure { fix, ..failure }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROJECT: &str = "abcdefghijklmnopqrst";

    fn way(endpoint: Option<Endpoint>) -> ProjectWay {
        let host = match endpoint {
            None => format!("{PROJECT}.supabase.co"),
            Some(Endpoint::Direct) => format!("db.{PROJECT}.supabase.co"),
            _ => "aws-0-eu-central-1.pooler.supabase.com".to_string(),
        };
        ProjectWay { host, endpoint, project: Some(PROJECT.to_string()) }
    }

    fn explained(endpoint: Option<Endpoint>, class: Class, title: &'static str, detail: &'static str) -> Failure {
        way(endpoint).explained(Failure::new(class, title, "check").detail(detail))
    }

    #[test]
    fn failures_say_what_supabase_means() {
        let pooler = Some(Endpoint::Pooler);
        for said in [
            "the server said: FATAL XX000: Tenant or user not found",
            "the server said: FATAL XX000: (ENOTFOUND) tenant/user postgres.x not found",
            "(ENOIDENTIFIER) no tenant identifier provided (external_id or sni_hostname required)",
        ] {
            let failure = explained(pooler, Class::CredentialRejected, "x", said);
            assert!(failure.title.contains(PROJECT) && failure.fix.contains("Session pooler"), "{failure:?}");
        }
        let direct = Some(Endpoint::Direct);
        let lost = explained(direct, Class::Network, "the host db.abcdefghijklmnopqrst.supabase.co was not found", "");
        assert!(lost.fix.contains("Restore project") && lost.fix.contains("IPv6"), "{lost:?}");
        let lost = explained(None, Class::Network, "the host abcdefghijklmnopqrst.supabase.co was not found", "");
        assert!(lost.fix.contains("Restore project") && !lost.fix.contains("IPv6"), "{lost:?}");
        let far = explained(direct, Class::Network, "could not connect to db.abcdefghijklmnopqrst.supabase.co:5432", "");
        assert!(far.fix.contains("session pooler") || far.fix.contains("Session pooler"), "{far:?}");
        assert!(far.fix.ends_with("otherwise check"), "{far:?}");
        let untrusted = explained(pooler, Class::Network, "the TLS handshake failed", "invalid peer certificate: UnknownIssuer");
        assert!(untrusted.fix.contains("network.ca_file"), "{untrusted:?}");
        for (endpoint, class) in
            [(None, Class::CredentialRejected), (Some(Endpoint::Other), Class::Network), (pooler, Class::Network)]
        {
            assert_eq!(explained(endpoint, class, "x was not found", "y").fix, "check");
        }
    }
}
