//! The page as SVG 1.1. Text stays text, so that it can be searched, copied and read aloud.

use super::super::chart::{Size, fill, number};
use super::super::trend::summary;
use super::{Blocker, CHART_STYLE, Sheet, chart, wrapped};
use crate::funnel::coverage::target_percent;
use crate::model::text::printable;
use maud::{Markup, PreEscaped, html};

/// A4 in pixels of 1/96 inch.
const WIDTH: u32 = 794;
const HEIGHT: u32 = 1123;
/// The space on the left and on the right.
const MARGIN: u32 = 48;
/// The width between the margins.
const CONTENT: f64 = 698.0;
const CHART: Size = Size { width: 620.0, height: 140.0 };

const STYLE: &str = "text{font-family:system-ui,'Segoe UI',Roboto,Helvetica,Arial,sans-serif;fill:#1b1f24}\
.label text,text.label{fill:#59626d}text.mark{fill:#0b57a4}.strong{font-weight:bold}";

/// The number of columns of a line of a blocker's title and of its fix, so that also wide letters fit between the margins.
const TITLE_COLUMNS: usize = 96;
const FIX_COLUMNS: usize = 108;

/// Renders the page as a file.
#[must_use]
pub fn svg(sheet: &Sheet) -> String {
    let drawing = html! {
        svg xmlns="http://www.w3.org/2000/svg" version="1.1" width=(WIDTH) height=(HEIGHT) viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) {
            title { (sheet.title()) }
            style type="text/css" { (PreEscaped(CHART_STYLE)) (PreEscaped(STYLE)) }
            rect width=(WIDTH) height=(HEIGHT) fill="#fff" {}
            (answer(sheet))
            (funnel(sheet))
            (trend(sheet))
            (blockers(sheet))
        }
    };
    let file = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{}\n", drawing.into_string());
    printable(&file, &['\n']).into_owned()
}

/// A line of text at the left margin.
fn line(y: u32, size: &str, class: &str, text: &str) -> Markup {
    html! { text x=(MARGIN) y=(y) font-size=(size) class=(class) { (text) } }
}

fn answer(sheet: &Sheet) -> Markup {
    let (answer, target) = sheet.answer();
    let title = wrapped(&sheet.title(), 60, 1).into_iter().next().unwrap_or_default();
    let mark = number(f64::from(MARGIN) + CONTENT * sheet.funnel.target);
    html! {
        (line(62, "19", "strong", &title))
        (line(80, "11", "label", &format!("{} · data source: database", sheet.instant())))
        (line(122, "32", "strong", &answer))
        (line(142, "13", "", &target))
        rect.track x=(MARGIN) y="152" width=(number(CONTENT)) height="14" {}
        rect.bar x=(MARGIN) y="152" width=(number(CONTENT * sheet.funnel.coverage)) height="14" {}
        line x1=(mark) x2=(mark) y1="148" y2="170" stroke="#1b1f24" stroke-width="2" {}
    }
}

fn funnel(sheet: &Sheet) -> Markup {
    let width = CONTENT - 160.0;
    html! {
        (line(200, "14", "strong", "Funnel"))
        @for (y, (label, count, share)) in (212_u32..).step_by(21).zip(sheet.stages()) {
            (line(y + 12, "12", "", label))
            rect.track x="136" y=(y) width=(number(width)) height="16" {}
            rect.bar x="136" y=(y) width=(number(width * share)) height="16" {}
            text.strong x=(number(width + 146.0)) y=(y + 12) font-size="12" { (count) }
        }
        @for (y, losses) in (310_u32..).step_by(16).zip(sheet.losses()) { (line(y, "11", "label", &losses)) }
    }
}

fn trend(sheet: &Sheet) -> Markup {
    html! {
        (line(358, "14", "strong", &format!("Trend over {}", sheet.series.range.label())))
        @if sheet.series.points.is_empty() {
            (line(378, "12", "label", "The trend begins with the first intent."))
        } @else {
            (line(375, "12", "", &summary(&sheet.series)))
            g transform="translate(84,392)" { (chart(&sheet.series, CHART)) }
            @for (index, layer) in (0_u32..).zip(sheet.layers()) {
                (key(index, &fill(layer), layer.label, sheet.last_count(layer)))
            }
            (line(606, "10", "label", &format!("Solid line: coverage. Dashed line: target {} %. ◆: the policy changed. Times are in UTC.", target_percent(sheet.series.target))))
        }
    }
}

/// An entry of the key; four fit in a row.
fn key(index: u32, fill: &str, label: &str, count: u32) -> Markup {
    let (x, y) = (MARGIN + index % 4 * 174, 560 + index / 4 * 16);
    html! {
        rect x=(x) y=(y) width="12" height="12" fill=(fill) stroke="#dfe2e6" {}
        text x=(x + 18) y=(y + 10) font-size="11" { (label) " " (count) }
    }
}

fn blockers(sheet: &Sheet) -> Markup {
    let title = if sheet.blockers.is_empty() { "Every connection is active" } else { "Blockers" };
    let mut y = 650;
    html! {
        @if sheet.funnel.received > 0 { (line(632, "14", "strong", title)) }
        @for blocker in &sheet.blockers { (self::blocker(blocker, &mut y)) }
        @if sheet.more > 0 { (line(y, "11", "label", &format!("and {} more; aam status lists every connection", sheet.more))) }
    }
}

/// Renders a blocker in at most three lines, and moves `y` below it.
fn blocker(blocker: &Blocker, y: &mut u32) -> Markup {
    let title = wrapped(&format!("{}: {}", blocker.size(), blocker.title), TITLE_COLUMNS, 1);
    let fix = wrapped(&format!("→ {}", blocker.fix), FIX_COLUMNS, 2);
    let fix = if blocker.fix.is_empty() { Vec::new() } else { fix };
    let lines = title.iter().map(|text| ("11.5", "strong", text)).chain(fix.iter().map(|text| ("10.5", "", text)));
    let mut placed = Vec::new();
    for (size, class, text) in lines {
        placed.push(line(*y, size, class, text));
        *y += 14;
    }
    *y += 4;
    html! { @for line in placed { (line) } }
}
