//! The stages of the funnel. The summary, the metrics, the dashboard and `GET /metrics/funnel` all use this table.

use super::Funnel;
use crate::model::State;

/// A number of the funnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    Received,
    Eligible,
    Reachable,
    Active,
    Pending,
    AwaitingCredentials,
    NetworkBlocked,
    Healing,
    Error,
    UnsupportedType,
    Rejected,
}

/// One row of the table.
struct Row {
    stage: Stage,
    /// The name as a JSON field, as a value of the Prometheus label `stage`, and as the `funnel_stage` of a connection.
    name: &'static str,
    /// The label in the summary and on the dashboard.
    label: &'static str,
    /// The state whose connections are counted in this stage. `None` for a stage that is the sum of others.
    state: Option<State>,
    /// The stage that includes this one.
    part_of: Option<Stage>,
}

const fn row(stage: Stage, name: &'static str, label: &'static str, state: Option<State>, part_of: Option<Stage>) -> Row {
    Row { stage, name, label, state, part_of }
}

/// All stages in the order of the dashboard. RETIRED connections are not in any stage.
const TABLE: [Row; 11] = [
    row(Stage::Received, "received", "Received", None, None),
    row(Stage::Eligible, "eligible", "Eligible", None, Some(Stage::Received)),
    row(Stage::Reachable, "reachable", "Reachable", None, Some(Stage::Eligible)),
    row(Stage::Active, "active", "Active", Some(State::Active), Some(Stage::Eligible)),
    row(Stage::Pending, "pending", "Pending", Some(State::Pending), Some(Stage::Received)),
    row(
        Stage::AwaitingCredentials,
        "awaiting_credentials",
        "Awaiting Creds",
        Some(State::AwaitingCredentials),
        Some(Stage::Received),
    ),
    row(Stage::NetworkBlocked, "network_blocked", "Network Blocked", Some(State::NetworkBlocked), Some(Stage::Eligible)),
    row(Stage::Healing, "healing", "Healing", Some(State::Healing), Some(Stage::Eligible)),
    row(Stage::Error, "error", "Error", Some(State::Error), Some(Stage::Eligible)),
    row(Stage::UnsupportedType, "unsupported_type", "Unsupported Type", Some(State::Unsupported), Some(Stage::Received)),
    row(Stage::Rejected, "rejected", "Rejected", Some(State::Rejected), Some(Stage::Received)),
];

impl Stage {
    /// All stages, in the order of the dashboard.
    pub const ALL: [Stage; TABLE.len()] = {
        let mut all = [Stage::Received; TABLE.len()];
        let mut index = 0;
        while index < TABLE.len() {
            all[index] = TABLE[index].stage;
            index += 1;
        }
        all
    };

    /// The stages on the way from an accepted intent to a live connection.
    pub const MAIN: [Stage; 4] = [Stage::Received, Stage::Eligible, Stage::Reachable, Stage::Active];

    fn row(self) -> &'static Row {
        TABLE.iter().find(|row| row.stage == self).unwrap_or(&TABLE[0])
    }

    /// Returns the stage that counts the connections in `state`, or `None` for RETIRED.
    #[must_use]
    pub fn from_state(state: State) -> Option<Stage> {
        TABLE.iter().find(|row| row.state == Some(state)).map(|row| row.stage)
    }

    /// Returns the name of the stage in JSON and in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.row().name
    }

    /// Returns the label of the stage in the summary and on the dashboard.
    #[must_use]
    pub fn label(self) -> &'static str {
        self.row().label
    }

    /// The stage that includes this one.
    #[must_use]
    pub fn part_of(self) -> Option<Stage> {
        self.row().part_of
    }
}

impl Funnel {
    /// Returns the number of connections in `stage`.
    #[must_use]
    pub fn count(&self, stage: Stage) -> u64 {
        match stage {
            Stage::Received => self.received,
            Stage::Eligible => self.eligible,
            Stage::Reachable => self.reachable,
            Stage::Active => self.active,
            Stage::Pending => self.pending,
            Stage::AwaitingCredentials => self.awaiting_credentials,
            Stage::NetworkBlocked => self.network_blocked,
            Stage::Healing => self.healing,
            Stage::Error => self.error,
            Stage::UnsupportedType => self.unsupported_type,
            Stage::Rejected => self.rejected,
        }
    }

    pub(super) fn increment(&mut self, stage: Stage) {
        *match stage {
            Stage::Received => &mut self.received,
            Stage::Eligible => &mut self.eligible,
            Stage::Reachable => &mut self.reachable,
            Stage::Active => &mut self.active,
            Stage::Pending => &mut self.pending,
            Stage::AwaitingCredentials => &mut self.awaiting_credentials,
            Stage::NetworkBlocked => &mut self.network_blocked,
            Stage::Healing => &mut self.healing,
            Stage::Error => &mut self.error,
            Stage::UnsupportedType => &mut self.unsupported_type,
            Stage::Rejected => &mut self.rejected,
        } += 1;
    }
}
