//! What the login may do, from `connectionStatus` (MongoDB manual, "Built-In Roles" and "Privilege Actions").

use super::limits::MAX_NAMED;
use crate::credentials::redact;
use crate::model::Privilege;
use bson::RawDocument;
use bson::raw::RawBsonRef;
use std::collections::BTreeSet;

/// Limit on the entries of one list that are read: users, roles, privileges, or the actions of a privilege. A longer list makes
/// the verdict unknown.
const MAX_ENTRIES: usize = 5000;
/// Limit on the length of a name, in characters.
const MAX_NAME_CHARS: usize = 200;

/// Actions that only read data or conditions, from the sources of MongoDB (`src/mongo/db/auth/action_type.idl` and
/// `builtin_roles.yml`). Those of the role `read` come first.
const READING: [&str; 47] = [
    "changeStream",
    "collStats",
    "dbHash",
    "dbStats",
    "find",
    "killCursors",
    "listCollections",
    "listIndexes",
    "listSearchIndexes",
    "planCacheRead",
    "allCollectionStats",
    "checkFreeMonitoringStatus",
    "checkMetadataConsistency",
    "connPoolStats",
    "getChangeStreamState",
    "getClusterParameter",
    "getCmdLineOpts",
    "getDatabaseVersion",
    "getDefaultRWConcern",
    "getLog",
    "getParameter",
    "getShardMap",
    "getShardVersion",
    "hostInfo",
    "indexStats",
    "inprog",
    "listCachedAndActiveUsers",
    "listCursors",
    "listDatabases",
    "listSampledQueries",
    "listSessions",
    "listShards",
    "netstat",
    "oidcListKeys",
    "operationMetrics",
    "queryStatsRead",
    "queryStatsReadTransformed",
    "replSetGetConfig",
    "replSetGetStatus",
    "serverStatus",
    "shardedDataDistribution",
    "shardingState",
    "top",
    "useUUID",
    "validate",
    "viewRole",
    "viewUser",
];

/// Words with which the names of all other actions begin: those that change data, structure, users or the server.
const CHANGING: [&str; 72] = [
    "add",
    "advance",
    "analyze",
    "any",
    "append",
    "apply",
    "application",
    "audit",
    "auth",
    "bypass",
    "change",
    "cleanup",
    "clear",
    "closeAll",
    "collMod",
    "compact",
    "configure",
    "connPoolSync",
    "convert",
    "cpuProfiler",
    "create",
    "dbCheck",
    "drop",
    "emptycapped",
    "enable",
    "export",
    "flush",
    "force",
    "fsync",
    "grant",
    "impersonate",
    "import",
    "insert",
    "internal",
    "invalidate",
    "issueDirect",
    "killAny",
    "killop",
    "logRotate",
    "move",
    "oidReset",
    "oidcRefresh",
    "planCacheIndex",
    "planCacheWrite",
    "querySettings",
    "reIndex",
    "refine",
    "remove",
    "rename",
    "repair",
    "replSetConfigure",
    "replSetHeartbeat",
    "replSetReconfig",
    "replSetResize",
    "replSetStateChange",
    "reshard",
    "resync",
    "revoke",
    "rotate",
    "runAs",
    "runTenant",
    "set",
    "shardCollection",
    "shutdown",
    "split",
    "storageDetails",
    "touch",
    "trafficRecord",
    "transition",
    "unlock",
    "unshard",
    "update",
];

/// Built-in roles that only read.
pub(super) const READING_ROLES: [&str; 3] = ["read", "readAnyDatabase", "clusterMonitor"];
/// Built-in roles that can do more, also of Atlas.
const CHANGING_ROLES: [&str; 20] = [
    "readWrite",
    "readWriteAnyDatabase",
    "dbAdmin",
    "dbAdminAnyDatabase",
    "dbOwner",
    "userAdmin",
    "userAdminAnyDatabase",
    "clusterAdmin",
    "clusterManager",
    "hostManager",
    "backup",
    "restore",
    "root",
    "atlasAdmin",
    "enableSharding",
    "directShardOperations",
    "searchCoordinator",
    "dbAdminAllDbs",
    "__system",
    "__queryableBackup",
];

/// A name and the database to which it belongs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Named {
    pub name: String,
    pub database: String,
}

/// The actions that are allowed on one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Grant {
    resource: Resource,
    actions: BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Resource {
    /// An empty database or collection stands for all.
    Collection {
        database: String,
        collection: String,
    },
    Cluster,
    Anything,
    /// A kind of resource that AAM does not know.
    Other,
}

/// Who the server says that the connection is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    pub users: Vec<Named>,
    pub roles: Vec<Named>,
    grants: Vec<Grant>,
    /// Why the lists may not show everything that the login may do, or `None` if they were read to the end.
    incomplete: Option<String>,
}

impl Status {
    /// Reads the response of `connectionStatus`. Returns `None` if it has no `authInfo`.
    #[must_use]
    pub fn parse(document: &RawDocument) -> Option<Status> {
        let info = document.get_document("authInfo").ok()?;
        let mut lists = Lists { info, incomplete: None };
        Some(Status {
            users: lists.read("authenticatedUsers", "users", |entry, _| named_in(entry, "user")),
            roles: lists.read("authenticatedUserRoles", "roles", |entry, _| named_in(entry, "role")),
            grants: lists.read("authenticatedUserPrivileges", "privileges", grant),
            incomplete: lists.incomplete,
        })
    }

    /// Whether the login may read something of `database`. `None` if the server does not list privileges, or not all of them
    /// were read.
    #[must_use]
    pub fn reads(&self, database: &str) -> Option<bool> {
        let reads = self.grants.iter().any(|grant| {
            let covers = match &grant.resource {
                Resource::Collection { database: name, .. } => name.is_empty() || name == database,
                Resource::Anything => true,
                Resource::Cluster | Resource::Other => false,
            };
            covers && (grant.actions.contains("find") || grant.actions.contains("anyAction"))
        });
        let is_known = reads || !self.grants.is_empty() && self.incomplete.is_none();
        is_known.then_some(reads)
    }

    /// The verdict on the privileges.
    #[must_use]
    pub fn verdict(&self) -> Privilege {
        let mut excess: Vec<String> = self
            .roles
            .iter()
            .filter(|role| CHANGING_ROLES.contains(&role.name.as_str()))
            .map(|role| format!("role {} on {}", role.name, role.database))
            .collect();
        let mut unknown = BTreeSet::new();
        for grant in &self.grants {
            let more: Vec<&str> = grant.actions.iter().map(String::as_str).filter(|action| !reads(action)).collect();
            let changing: Vec<&str> = more.iter().copied().filter(|action| changes(action)).collect();
            if changing.is_empty() {
                unknown.extend(more);
            } else {
                excess.push(format!("{} on {}", named(&changing, ", "), grant.resource.name()));
            }
        }
        if !excess.is_empty() {
            let names: Vec<&str> = excess.iter().map(String::as_str).collect();
            return Privilege::Over { grants: cut(&names) };
        }
        if !unknown.is_empty() {
            let names: Vec<&str> = unknown.into_iter().collect();
            return Privilege::Unknown { reason: format!("AAM does not know these actions: {}", named(&names, ", ")) };
        }
        if let Some(reason) = &self.incomplete {
            return Privilege::Unknown { reason: reason.clone() };
        }
        if !self.grants.is_empty() {
            return Privilege::Ok;
        }
        self.verdict_of_roles()
    }

    /// The verdict if the server lists roles only, as some compatible servers do.
    fn verdict_of_roles(&self) -> Privilege {
        let unknown = self.roles.iter().filter(|role| !READING_ROLES.contains(&role.name.as_str()));
        let unknown: Vec<&str> = unknown.map(|role| role.name.as_str()).collect();
        match (self.roles.is_empty(), unknown.is_empty()) {
            (true, _) => Privilege::Unknown { reason: "the server lists neither roles nor privileges of the login".to_string() },
            (false, true) => Privilege::Ok,
            (false, false) => {
                let reason = format!("the server does not list the privileges of the roles {}", named(&unknown, ", "));
                Privilege::Unknown { reason }
            }
        }
    }
}

fn reads(action: &str) -> bool {
    READING.contains(&action)
}

fn changes(action: &str) -> bool {
    !reads(action) && CHANGING.iter().any(|begin| action.starts_with(begin))
}

impl Resource {
    fn name(&self) -> String {
        let all = |name: &str| if name.is_empty() { "*".to_string() } else { name.to_string() };
        match self {
            Resource::Collection { database, collection } => format!("{}.{}", all(database), all(collection)),
            Resource::Cluster => "the cluster".to_string(),
            Resource::Anything => "everything".to_string(),
            Resource::Other => "another resource".to_string(),
        }
    }
}

/// The first names, and the number of the others.
fn cut(names: &[&str]) -> Vec<String> {
    let mut kept: Vec<String> = names.iter().take(MAX_NAMED).map(|name| (*name).to_string()).collect();
    if names.len() > MAX_NAMED {
        kept.push(format!("and {} more", names.len() - MAX_NAMED));
    }
    kept
}

fn named(names: &[&str], separator: &str) -> String {
    cut(names).join(separator)
}

/// The lists of `authInfo`, and why they may not be complete.
struct Lists<'a> {
    info: &'a RawDocument,
    incomplete: Option<String>,
}

impl Lists<'_> {
    /// Reads the entries of the list `field`, which holds `what`. A list that the server leaves out is empty, as from servers that
    /// list roles only. `parse` gets a flag that it sets if it did not read all of an entry.
    fn read<T>(&mut self, field: &str, what: &str, parse: impl Fn(&RawDocument, &mut bool) -> Option<T>) -> Vec<T> {
        let list = match self.info.get(field) {
            Ok(None | Some(RawBsonRef::Null)) => return Vec::new(),
            Ok(Some(RawBsonRef::Array(list))) => list,
            Ok(Some(_)) | Err(_) => {
                self.not_read(format!("the response does not list the {what} of the login in the form of MongoDB"));
                return Vec::new();
            }
        };
        let (mut entries, mut cut, mut malformed) = (Vec::new(), false, false);
        for (position, entry) in list.into_iter().enumerate() {
            if position >= MAX_ENTRIES {
                cut = true;
                break;
            }
            match entry.ok().and_then(|entry| entry.as_document()).and_then(|entry| parse(entry, &mut cut)) {
                Some(entry) => entries.push(entry),
                None => malformed = true,
            }
        }
        if cut {
            self.not_read(format!(
                "the {what} of the login have more than {MAX_ENTRIES} entries, and AAM did not read the others"
            ));
        }
        if malformed {
            self.not_read(format!("the {what} of the login have an entry that does not have the form of MongoDB"));
        }
        entries
    }

    fn not_read(&mut self, reason: String) {
        self.incomplete.get_or_insert(reason);
    }
}

fn named_in(entry: &RawDocument, key: &str) -> Option<Named> {
    Some(Named { name: compared(entry.get_str(key).ok()?), database: compared(entry.get_str("db").unwrap_or("")) })
}

/// Returns a name that is compared, so that secrets in it are removed only where it is shown. A longer one is cut, and fits nothing.
fn compared(text: &str) -> String {
    match text.len() <= MAX_NAME_CHARS {
        true => text.to_string(),
        false => redact::scrub_and_cut(text, MAX_NAME_CHARS),
    }
}

/// Reads one privilege. Sets `cut` if it has more actions than are read.
fn grant(entry: &RawDocument, cut: &mut bool) -> Option<Grant> {
    let mut actions = BTreeSet::new();
    for (position, action) in entry.get_array("actions").ok()?.into_iter().enumerate() {
        if position >= MAX_ENTRIES {
            *cut = true;
            break;
        }
        actions.insert(compared(action.ok()?.as_str()?));
    }
    let resource = entry.get_document("resource").ok();
    let flag = |name: &str| resource.is_some_and(|resource| resource.get_bool(name).unwrap_or(false));
    let text = |name: &str| resource.and_then(|resource| resource.get_str(name).ok());
    let resource = match (text("db"), text("collection")) {
        _ if flag("anyResource") => Resource::Anything,
        _ if flag("cluster") => Resource::Cluster,
        (Some(database), collection) => {
            Resource::Collection { database: database.to_string(), collection: collection.unwrap_or("").to_string() }
        }
        _ => Resource::Other,
    };
    Some(Grant { resource, actions })
}

#[cfg(test)]
#[path = "privileges_tests.rs"]
mod tests;
