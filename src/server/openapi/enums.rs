//! The schemas of the fixed texts of the API. Each is made from the list of its Rust type, so a new value is documented as
//! soon as it exists.

use crate::families::Transport;
use crate::funnel::{RETIRED, Stage};
use crate::model::ledger::{Fact, Why};
use crate::model::schema_change::ChangeKind;
use crate::model::{Class, Scope, State, Step, StepStatus, SyncMode};
use crate::policy::TokenScope;
use crate::server::problem_code::ProblemCode;
use std::borrow::Cow;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

/// The states in which a connection can be healed: all but RETIRED.
pub struct HealableState;

/// Returns the schema of a text with fixed values.
fn text_enum(about: &str, values: impl Iterator<Item = &'static str>) -> RefOr<Schema> {
    let values: Vec<&str> = values.collect();
    ObjectBuilder::new().schema_type(Type::String).description(Some(about)).enum_values(Some(values)).into()
}

macro_rules! text_enums {
    ($($kind:ty as $name:literal, $about:literal: $values:expr;)*) => {$(
        impl PartialSchema for $kind {
            fn schema() -> RefOr<Schema> {
                text_enum($about, $values)
            }
        }
        impl ToSchema for $kind {
            fn name() -> Cow<'static, str> {
                $name.into()
            }
        }
    )*};
}

text_enums! {
    State as "State", "The state of a connection, from the most to the least urgent.":
        State::ALL.iter().map(|state| state.as_str());
    HealableState as "HealableState", "A state from which a connection can be checked again.":
        State::ALL.iter().filter(|state| **state != State::Retired).map(|state| state.as_str());
    Class as "ErrorClass", "The class of a failure or a warning.": Class::ALL.iter().map(|class| class.as_str());
    Stage as "FunnelStage", "The furthest stage of the funnel that a connection has reached; retired connections are not in the funnel.": Stage::ALL.iter().map(|stage| stage.as_str()).chain([RETIRED]);
    Step as "StepName", "A step of the Safe Mode pipeline, in the order in which they run.":
        Step::ALL.iter().map(|step| step.as_str());
    StepStatus as "StepStatus", "How a step ended.": StepStatus::NAMES.into_iter();
    Fact as "EntryKind", "The kind of an entry in the history of a connection.": Fact::CONNECTION_KINDS.into_iter();
    ChangeKind as "SchemaChangeKind", "What changed in a catalog.": ChangeKind::ALL.iter().map(|kind| kind.as_str());
    Why as "CheckReason", "Why a check is due.": Why::ALL.iter().map(|why| why.as_str());
    Scope as "CheckScope", "How much of the pipeline a check runs.": Scope::ALL.iter().map(|scope| scope.as_str());
    SyncMode as "SyncMode", "A sync mode of Airbyte.": SyncMode::ALL.iter().map(|mode| mode.as_str());
    Transport as "Transport", "How the data of a source is reached.":
        Transport::ALL.iter().map(|transport| transport.as_str());
    TokenScope as "TokenScope", "What a token may do.": TokenScope::ALL.iter().map(|scope| scope.as_str());
    ProblemCode as "ProblemCode", "The stable, machine-readable kind of a problem.":
        ProblemCode::ALL.iter().map(|code| code.as_str());
}
