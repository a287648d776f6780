//! Why connections are not ACTIVE, grouped by cause and ordered by the coverage that a fix gains. Pure.
//!
//! Two connections have the same cause if their failures have the same class and the same title without its variable parts
//! (see `causes/template.rs`). The key of a cause is a digest of both, so that it stays the same when connections come and go.
//! A property test checks that every connection that is neither ACTIVE nor RETIRED is in exactly one cause.

pub mod addresses;
pub mod template;

use super::Coverage;
use crate::model::failure::needs_connector;
use crate::model::{Class, ConnectionId, Digest, State, Timestamp};
use crate::snapshot::Connection;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use template::template;

/// The title of the cause of connections that were not attempted yet.
pub const NOT_ATTEMPTED: &str = "No attempt has finished yet";
const NOT_ATTEMPTED_FIX: &str = "no action is required: AAM connects them";
/// The title of all breaking schema changes, whose own titles have a number and a plural.
const DRIFT: &str = "The schema changed in a way that breaks consumers";

/// The number of variable parts that a cause lists.
const MAX_VALUES: usize = 100;
/// The number of different fixes that a cause lists.
const MAX_FIXES: usize = 100;
/// The number of addresses from which the ranges of a fix are computed.
const MAX_ADDRESSES: usize = 1000;

/// A connection that is not ACTIVE, with the failure that keeps it from that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    pub id: ConnectionId,
    pub state: State,
    /// Whether the health step of the latest conclusive attempt passed.
    pub healthy: bool,
    pub source_type: Arc<str>,
    /// The `seq` of the entry with the intent.
    pub document: u64,
    /// When the connection last changed or was last checked.
    pub updated: Timestamp,
    /// The class of the failure. `None` if no attempt has finished yet.
    pub class: Option<Class>,
    pub title: Arc<str>,
    pub fix: Arc<str>,
}

impl Blocked {
    /// Reads a connection. `None` if it is ACTIVE or RETIRED.
    #[must_use]
    pub fn new(id: ConnectionId, connection: &Connection) -> Option<Blocked> {
        let state = connection.state();
        if matches!(state, State::Active | State::Retired) {
            return None;
        }
        let facts = super::blocker(state, connection).map(|attempt| &attempt.facts);
        let failed = facts.and_then(|facts| Some((facts.class?, Arc::clone(&facts.title), Arc::clone(&facts.fix))));
        let (class, title, fix) = match failed {
            Some((class, title, fix)) => (Some(class), title, fix),
            None => (None, NOT_ATTEMPTED.into(), NOT_ATTEMPTED_FIX.into()),
        };
        Some(Blocked {
            id,
            state,
            healthy: connection.is_healthy(),
            source_type: Arc::clone(&connection.source_type),
            document: connection.document,
            updated: connection.updated(),
            class,
            title,
            fix,
        })
    }

    /// Whether the connection counts in the coverage today.
    #[must_use]
    pub fn is_eligible(&self) -> bool {
        matches!(self.state, State::NetworkBlocked | State::Healing | State::Error)
    }

    /// Whether a fix can make the connection ACTIVE. That a source is not connected because the policy rejects it is a decision,
    /// what waits for its first attempt needs no fix, and a source that AAM does not have a connector for needs a new version or
    /// a manifest.
    #[must_use]
    pub fn can_rise(&self) -> bool {
        match self.class {
            None | Some(Class::NotEligible) => false,
            Some(class) => !needs_connector(class, &self.title, &self.fix),
        }
    }
}

/// What the title of a failure says without its variable parts.
#[derive(Clone, Debug)]
struct Kind {
    key: String,
    text: String,
    values: Vec<String>,
    address: Option<IpAddr>,
}

impl Kind {
    fn new(class: Option<Class>, title: &str) -> Kind {
        let template = template(title);
        let refused = addresses::refused(title).filter(|_| class == Some(Class::EgressRefused));
        let text = match (class, refused) {
            (_, Some((cause, _))) => cause.to_string(),
            (Some(Class::Drift), None) => DRIFT.to_string(),
            (Some(class), None) if template.text.is_empty() => class.as_str().replace('_', " "),
            _ => template.text,
        };
        let class = class.map_or("", Class::as_str);
        let key = Digest::from_parts(&[class.as_bytes(), b"\n", text.as_bytes()]).short();
        Kind { key, text, values: template.values, address: refused.map(|(_, address)| address) }
    }
}

/// The key of the cause that keeps a connection from being ACTIVE. `None` if it is ACTIVE or RETIRED. For many connections
/// use [`CauseKeys`].
#[must_use]
pub fn key_of(connection: &Connection) -> Option<String> {
    let blocked = Blocked::new(ConnectionId::FIRST, connection)?;
    Some(Kind::new(blocked.class, &blocked.title).key)
}

/// The keys of the causes of many connections. Equal titles are read once.
#[derive(Debug, Default)]
pub struct CauseKeys {
    kinds: HashMap<(Option<Class>, Arc<str>), Kind>,
}

impl CauseKeys {
    /// As [`key_of`].
    pub fn key_of(&mut self, connection: &Connection) -> Option<&str> {
        let blocked = Blocked::new(ConnectionId::FIRST, connection)?;
        Some(self.kind(&blocked).0.key.as_str())
    }

    /// The kind of a failure, and whether its title was not met before.
    fn kind(&mut self, blocked: &Blocked) -> (&Kind, bool) {
        let name = (blocked.class, Arc::clone(&blocked.title));
        let is_new = !self.kinds.contains_key(&name);
        let kind = self.kinds.entry(name).or_insert_with(|| Kind::new(blocked.class, &blocked.title));
        (&*kind, is_new)
    }
}

/// Connections that are not ACTIVE for the same reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// Identifies the cause in addresses. 12 hex digits.
    pub key: String,
    /// What happened: the title of the failures if they are equal, and otherwise what they have in common.
    pub title: String,
    /// The connections, in order of their ids. There is at least one.
    pub members: Vec<Blocked>,
    /// The number of members in each state.
    pub states: BTreeMap<State, u64>,
    /// The variable parts of the titles, at most 100, in alphabetical order.
    pub values: Vec<String>,
    /// What to do, in one text; may be empty.
    pub fix: String,
    /// The fix of each member, without repetitions, at most 100.
    pub fixes: Vec<String>,
    /// The coverage if all members become ACTIVE that a fix can help, see [`Blocked::can_rise`].
    pub after: Coverage,
    /// By how much that is higher than today, in hundredths of a point.
    pub gain: u64,
}

/// All causes of a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Causes {
    /// What raises the coverage when it is fixed, the largest gain first.
    pub raising: Vec<Cause>,
    /// What does not raise it: connections that wait for their first attempt, that the policy rejects, that AAM does not have a
    /// connector for, and all if the coverage is full. The most frequent first.
    pub others: Vec<Cause>,
}

/// Groups connections by cause. `today` is the coverage of their namespace.
#[must_use]
pub fn causes(blocked: Vec<Blocked>, today: Coverage) -> Causes {
    let mut keys = CauseKeys::default();
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    for member in blocked {
        let (kind, is_new) = keys.kind(&member);
        match groups.get_mut(&kind.key) {
            Some(group) => group.add(member, kind, is_new),
            None => {
                let mut group = Group::default();
                let key = kind.key.clone();
                group.add(member, kind, is_new);
                groups.insert(key, group);
            }
        }
    }
    let all = groups.into_iter().map(|(key, group)| group.cause(key, today));
    let (mut raising, mut others): (Vec<Cause>, Vec<Cause>) = all.partition(|cause| cause.after.compare(today).is_gt());
    let by_count = |a: &Cause, b: &Cause| b.members.len().cmp(&a.members.len()).then_with(|| a.key.cmp(&b.key));
    raising.sort_by(|a, b| b.after.compare(a.after).then_with(|| by_count(a, b)));
    others.sort_by(by_count);
    Causes { raising, others }
}

/// The members of a cause while they are collected.
#[derive(Debug, Default)]
struct Group {
    text: String,
    /// The title that all members have, or `None` if they have different ones.
    title: Option<Arc<str>>,
    members: Vec<Blocked>,
    values: BTreeSet<String>,
    addresses: BTreeSet<IpAddr>,
    fixes: BTreeSet<Arc<str>>,
}

impl Group {
    fn add(&mut self, member: Blocked, kind: &Kind, is_new: bool) {
        if self.members.is_empty() {
            self.text.clone_from(&kind.text);
            self.title = Some(Arc::clone(&member.title));
        } else if self.title.as_ref().is_some_and(|title| *title != member.title) {
            self.title = None;
        }
        if is_new {
            let room = MAX_VALUES.saturating_sub(self.values.len());
            self.values.extend(kind.values.iter().take(room).cloned());
            let has_room = self.addresses.len() < MAX_ADDRESSES;
            self.addresses.extend(kind.address.filter(|_| has_room));
        }
        if self.fixes.len() < MAX_FIXES && !member.fix.is_empty() && !self.fixes.contains(&member.fix) {
            self.fixes.insert(Arc::clone(&member.fix));
        }
        self.members.push(member);
    }

    fn cause(self, key: String, today: Coverage) -> Cause {
        let mut states: BTreeMap<State, u64> = BTreeMap::new();
        for member in &self.members {
            *states.entry(member.state).or_default() += 1;
        }
        let rising: Vec<&Blocked> = self.members.iter().filter(|member| member.can_rise()).collect();
        let newly = rising.iter().filter(|member| !member.is_eligible()).count();
        let count = |members: usize| u64::try_from(members).unwrap_or(u64::MAX);
        let after = today.after(count(rising.len()), count(newly));
        let title = match &self.title {
            Some(title) if self.addresses.is_empty() && !title.is_empty() => title.to_string(),
            _ => self.text.clone(),
        };
        let (fix, fixes) = self.fix();
        let gain = today.gain(after);
        Cause { key, title, states, fix, fixes, after, gain, values: self.values.into_iter().collect(), members: self.members }
    }

    /// The fix of the whole cause, and those of its members.
    fn fix(&self) -> (String, Vec<String>) {
        if !self.addresses.is_empty() {
            let fix = addresses::fix(&self.text, &self.addresses);
            return (fix.clone(), vec![fix]);
        }
        let fixes: Vec<String> = self.fixes.iter().map(ToString::to_string).collect();
        let fix = match fixes.as_slice() {
            [] => String::new(),
            [fix] => fix.clone(),
            [first, rest @ ..] => {
                let common = template(first).text;
                // Without a common form, the first one is an example.
                if rest.iter().all(|fix| template(fix).text == common) { common } else { first.clone() }
            }
        };
        (fix, fixes)
    }
}

#[cfg(test)]
mod tests;
