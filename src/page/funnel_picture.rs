//! The funnel as a picture: four columns from received to active, and a branch for each loss between them. Every part is a link
//! to its connections. Narrow screens get the same parts as a list.

use super::Links;
use super::connections::filter;
use super::parts::{readable, symbol};
use crate::funnel::causes::Blocked;
use crate::funnel::{Funnel, Stage};
use crate::model::State;
use crate::model::text::counted;
use maud::{Markup, html};
use std::collections::BTreeMap;

/// The width of the drawing, in its own units.
const WIDTH: u32 = 690;
/// The distance between the left edges of two columns, and the width of a column.
const STEP: u32 = 190;
const COLUMN: u32 = 100;
/// The top and the full height of the columns.
const TOP: u32 = 48;
const HEIGHT: u32 = 84;
/// The distance between two labels of losses.
const ROW: u32 = 20;
/// The distance between two lines that lead to labels.
const LANE: u32 = 8;
/// The least height of a part that has connections, so that it can be seen.
const MIN_HEIGHT: f64 = 2.0;

/// The states whose connections do not become eligible, in the order of the picture.
const NOT_ELIGIBLE: [State; 4] = [State::Rejected, State::Unsupported, State::AwaitingCredentials, State::Pending];
/// The states of eligible connections that are not ACTIVE.
const NOT_ACTIVE: [State; 3] = [State::NetworkBlocked, State::Healing, State::Error];

/// The numbers of the picture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FunnelPicture {
    pub columns: Vec<FunnelColumn>,
}

/// A stage of the funnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunnelColumn {
    pub label: &'static str,
    pub count: u64,
    /// The address of the list with these connections.
    pub href: String,
    /// What does not reach the next stage. Each loss has at least one connection.
    pub losses: Vec<FunnelLoss>,
}

/// Connections of one state that do not reach the next stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunnelLoss {
    pub state: State,
    pub count: u64,
    pub href: String,
}

impl FunnelPicture {
    /// Builds the picture. `blocked` are the connections that are not ACTIVE.
    #[must_use]
    pub fn new(funnel: &Funnel, blocked: &[Blocked], links: &Links) -> FunnelPicture {
        let mut counts: BTreeMap<(State, bool), u64> = BTreeMap::new();
        for one in blocked {
            // Only eligible connections can be reachable.
            *counts.entry((one.state, one.healthy && one.is_eligible())).or_default() += 1;
        }
        let losses = |states: &[State], healthy: bool| -> Vec<FunnelLoss> {
            let found = states.iter().filter_map(|state| {
                let count = *counts.get(&(*state, healthy))?;
                let is_split = counts.contains_key(&(*state, !healthy));
                Some(FunnelLoss { state: *state, count, href: loss_link(links, *state, healthy, is_split) })
            });
            found.collect()
        };
        let stages = |value: &str| filter_link(links, &[("stage", value)]);
        let column = |stage: Stage, href: String, losses: Vec<FunnelLoss>| FunnelColumn {
            label: stage.label(),
            count: funnel.count(stage),
            href,
            losses,
        };
        let columns = vec![
            column(Stage::Received, links.to(filter::PATH, &[]), losses(&NOT_ELIGIBLE, false)),
            column(Stage::Eligible, stages(Stage::Eligible.as_str()), losses(&NOT_ACTIVE, false)),
            column(Stage::Reachable, stages(Stage::Reachable.as_str()), losses(&NOT_ACTIVE, true)),
            column(Stage::Active, filter_link(links, &[("state", State::Active.as_str())]), Vec::new()),
        ];
        FunnelPicture { columns }
    }

    fn count(&self, index: usize) -> u64 {
        self.columns.get(index).map_or(0, |column| column.count)
    }

    /// The picture in one sentence, for those who cannot see it.
    #[must_use]
    pub fn sentence(&self) -> String {
        let received = counted(usize::try_from(self.count(0)).unwrap_or(usize::MAX), "connection");
        format!("{received} received; eligible: {}, reachable: {}, active: {}.", self.count(1), self.count(2), self.count(3))
    }
}

fn filter_link(links: &Links, pairs: &[(&str, &str)]) -> String {
    links.to(filter::PATH, pairs)
}

/// The list of a loss. If a state is lost in two places, each has its own list.
fn loss_link(links: &Links, state: State, healthy: bool, is_split: bool) -> String {
    let stage = match (is_split, healthy) {
        (false, _) => "",
        (true, true) => Stage::Reachable.as_str(),
        (true, false) => filter::NOT_REACHABLE,
    };
    filter_link(links, &[("state", state.as_str()), ("stage", stage)])
}

/// Renders the picture, and the list that narrow screens show in its place.
#[must_use]
pub fn render(picture: &FunnelPicture) -> Markup {
    html! {
        (drawing(picture))
        (list(picture))
    }
}

fn drawing(picture: &FunnelPicture) -> Markup {
    let rows = picture.columns.iter().map(|column| column.losses.len()).max().unwrap_or(0);
    let height = TOP + HEIGHT + 12 + ROW * u32::try_from(rows).unwrap_or(0);
    let columns: Vec<(u32, &FunnelColumn)> = (0_u32..).zip(&picture.columns).collect();
    html! {
        svg.funnel viewBox=(format!("0 0 {WIDTH} {height}")) role="group" aria-label=(picture.sentence()) {
            @for (index, column) in &columns {
                @let next = usize::try_from(*index).ok().and_then(|index| picture.columns.get(index + 1));
                (column_of(*index, column, next.map(|next| next.count), picture.count(0)))
            }
        }
    }
}

/// A column, the flow to the next one, and its losses. `next` is the count of the next column.
fn column_of(index: u32, column: &FunnelColumn, next: Option<u64>, received: u64) -> Markup {
    let left = index * STEP;
    let right = left + COLUMN;
    let full = height_of(column.count, received);
    let kept = next.map_or(full, |next| height_of(next, received).min(full));
    let tone = if next.is_none() { "active" } else { "stage" };
    html! {
        @if next.is_some_and(|next| next > 0) {
            rect.flow x=(right) y=(TOP) width=(STEP - COLUMN) height=(number(kept)) {}
        }
        a.part href=(column.href) {
            text.label x=(left) y="16" { (column.label) }
            text.count x=(left) y="40" { (column.count) }
            rect.(tone) x=(left) y=(TOP) width=(COLUMN) height=(number(full)) {}
        }
        (losses(right, column, full, kept))
    }
}

/// The losses of a column: a slice at its right edge for each, and a line from it to a label.
fn losses(right: u32, column: &FunnelColumn, full: f64, kept: f64) -> Markup {
    let lost: u64 = column.losses.iter().map(|loss| loss.count).sum();
    let places = u32::try_from(column.losses.len()).unwrap_or(0);
    let mut top = f64::from(TOP) + kept;
    let mut parts = Vec::new();
    for (place, loss) in (0_u32..).zip(&column.losses) {
        let height = (full - kept) * share(loss.count, lost);
        // The first slice has the outermost line and the first label, so that no line crosses another.
        let lane = right + 10 + LANE * (places - 1 - place);
        let row = TOP + HEIGHT + 22 + ROW * place;
        let label = right + 14 + LANE * places;
        let start = top + height / 2.0;
        let path = format!("M{right} {} H{lane} V{} H{}", number(start), row - 4, label - 4);
        parts.push((loss, top, height, path, label, row));
        top += height;
    }
    html! {
        @for (loss, top, height, path, label, row) in &parts {
            @let (sign, tone) = symbol(loss.state);
            a.part.(tone) href=(loss.href) {
                rect.slice x=(right - 14) y=(number(*top)) width="14" height=(number(height.max(MIN_HEIGHT))) {}
                path.branch d=(path) {}
                text.loss x=(label) y=(row) { (sign) " " (loss.count) " " (short_name(loss.state)) }
            }
        }
    }
}

/// The name of a state that fits beside a column.
fn short_name(state: State) -> &'static str {
    match state {
        State::AwaitingCredentials => "awaiting",
        State::NetworkBlocked => "blocked",
        State::Healing => "healing",
        State::Error => "error",
        State::Unsupported => "unsupported",
        State::Rejected => "rejected",
        State::Pending => "pending",
        State::Active => "active",
        State::Retired => "retired",
    }
}

/// The same parts as a list, for narrow screens.
fn list(picture: &FunnelPicture) -> Markup {
    html! {
        ul.funnel-list aria-label="Funnel" {
            @for column in &picture.columns {
                li {
                    a href=(column.href) { span { (column.label) } strong { (column.count) } }
                    @if !column.losses.is_empty() {
                        ul {
                            @for loss in &column.losses {
                                @let (sign, tone) = symbol(loss.state);
                                li { a.(tone) href=(loss.href) { span { span aria-hidden="true" { (sign) " " } (readable(loss.state.as_str())) } strong { (loss.count) } } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn share(part: u64, whole: u64) -> f64 {
    let number = |count: u64| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    if whole == 0 { 0.0 } else { number(part) / number(whole) }
}

fn height_of(count: u64, received: u64) -> f64 {
    let height = f64::from(HEIGHT) * share(count, received);
    if count == 0 { 0.0 } else { height.max(MIN_HEIGHT) }
}

fn number(value: f64) -> String {
    format!("{value:.1}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ConnectionId, Timestamp};
    use crate::snapshot::Snapshot;

    fn blocked(state: State, healthy: bool) -> Blocked {
        Blocked {
            id: ConnectionId::FIRST,
            state,
            healthy,
            source_type: "jdbc".into(),
            document: 0,
            updated: Timestamp(0),
            class: None,
            title: "".into(),
            fix: "".into(),
        }
    }

    fn picture(blocked: &[Blocked], active: u64) -> FunnelPicture {
        let mut funnel = crate::funnel::funnel(&Snapshot::default(), "a", 0.9, Timestamp(0));
        let eligible = blocked.iter().filter(|one| one.is_eligible()).count() as u64;
        funnel.received = blocked.len() as u64 + active;
        funnel.eligible = eligible + active;
        funnel.reachable = blocked.iter().filter(|one| one.healthy).count() as u64 + active;
        funnel.active = active;
        FunnelPicture::new(&funnel, blocked, &Links::default())
    }

    #[test]
    fn the_losses_of_a_column_lead_to_the_next_one() {
        let picture = picture(
            &[
                blocked(State::Rejected, false),
                blocked(State::Pending, false),
                blocked(State::NetworkBlocked, false),
                blocked(State::Error, false),
                blocked(State::Error, true),
                blocked(State::Healing, true),
            ],
            4,
        );
        for pair in picture.columns.windows(2) {
            let lost: u64 = pair[0].losses.iter().map(|loss| loss.count).sum();
            assert_eq!(pair[0].count - lost, pair[1].count, "{}", pair[0].label);
        }
        assert_eq!(picture.sentence(), "10 connections received; eligible: 8, reachable: 6, active: 4.");
        let links: Vec<&str> = picture.columns.iter().flat_map(|column| &column.losses).map(|loss| loss.href.as_str()).collect();
        assert_eq!(
            links,
            [
                "/ui/connections?state=REJECTED",
                "/ui/connections?state=PENDING",
                "/ui/connections?state=NETWORK_BLOCKED",
                "/ui/connections?state=ERROR&stage=not_reachable",
                "/ui/connections?state=HEALING",
                "/ui/connections?state=ERROR&stage=reachable",
            ]
        );
    }

    #[test]
    fn the_drawing_has_no_inline_style_and_names_every_part() {
        let text = render(&picture(&[blocked(State::Rejected, false)], 1)).into_string();
        assert!(!text.contains("style="), "{text}");
        assert_eq!(text.matches("1 rejected").count(), 1);
        assert!(text.contains("2 connections received; eligible: 1"));
        assert!(render(&FunnelPicture::default()).into_string().contains("<svg"), "an empty picture does not panic");
    }
}
