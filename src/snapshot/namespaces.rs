//! The connections by namespace. Pure.

use super::connections::ConnectionRef;
use super::{Connection, Snapshot};
use crate::model::ConnectionId;
use std::collections::BTreeSet;
use std::sync::Arc;

impl Snapshot {
    /// The namespaces that have connections.
    #[must_use]
    pub fn namespaces(&self) -> BTreeSet<String> {
        match self.trend.all_namespaces() {
            Some(names) => names.map(ToString::to_string).collect(),
            None => {
                let names: BTreeSet<Arc<str>> = self.connections.values().map(|known| Arc::clone(&known.namespace)).collect();
                names.iter().map(ToString::to_string).collect()
            }
        }
    }

    /// The namespaces that have connections and accept entries.
    #[must_use]
    pub fn open_namespaces(&self) -> BTreeSet<String> {
        let mut names = self.namespaces();
        names.retain(|name| !self.is_closed(name));
        names
    }

    /// The connections of `namespace`, in order of id.
    pub fn of_namespace<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = (ConnectionId, ConnectionRef<'a>)> {
        self.connections.iter().filter(move |(_, connection)| &*connection.namespace == namespace)
    }

    /// Returns the connections of a namespace as they are now, for work that takes longer than the snapshot may be held.
    #[must_use]
    pub fn shared(&self, namespace: &str) -> Vec<(ConnectionId, Connection)> {
        let of_namespace = self.of_namespace(namespace);
        of_namespace.map(|(id, connection)| (id, connection.into_owned())).collect()
    }
}
