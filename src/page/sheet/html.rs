//! The page as HTML, for the text of a mail or a browser. The numbers are also text, because many readers of mail do not
//! draw SVG.

use super::super::chart::{Size, fill, number};
use super::super::trend::summary;
use super::{CHART_STYLE, Sheet, chart, wrapped};
use crate::funnel::coverage::target_percent;
use crate::model::text::printable;
use maud::{DOCTYPE, Markup, PreEscaped, html};

const STYLE: &str = "@page{size:A4;margin:11mm}*{box-sizing:border-box}\
body{margin:0 auto;max-width:46rem;padding:1rem;background:#fff;color:#1b1f24;font:13px/1.35 system-ui,'Segoe UI',Roboto,Helvetica,Arial,sans-serif}\
h1{font-size:1.6em;margin:0}h2{font-size:1.2em;margin:.8em 0 .2em}p{margin:.1em 0}svg{display:block;max-width:100%;height:auto}\
.quiet{color:#59626d;font-size:.95em}.answer{font-size:2.6em;font-weight:bold;margin:.1em 0 0}\
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.1em .6em .1em 0;font-weight:normal}td.number{text-align:right;font-weight:bold;width:5em}\
ul{display:flex;flex-wrap:wrap;gap:.1em 1.2em;margin:.3em 0;padding:0;list-style:none}li svg{display:inline-block;vertical-align:-1px}\
ol{margin:.2em 0;padding-left:2em}ol li{margin-bottom:.25em;overflow-wrap:anywhere}\
@media print{body{padding:0;max-width:none;font-size:10.5px}ol li,svg{break-inside:avoid}}";

/// The drawing with the labels of its axes.
const DRAWING: &str = "-40 -14 720 178";
const CHART: Size = Size { width: 640.0, height: 140.0 };
/// The number of columns of a title and of a fix, so that ten blockers fit on the page.
const TITLE_COLUMNS: usize = 100;
const FIX_COLUMNS: usize = 200;

/// Renders the page as a file.
#[must_use]
pub fn html(sheet: &Sheet) -> String {
    let (answer, target) = sheet.answer();
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (sheet.title()) }
                style { (PreEscaped(CHART_STYLE)) (PreEscaped(STYLE)) }
            }
            body {
                h1 { (one_line(&sheet.title(), TITLE_COLUMNS)) }
                p.quiet { (sheet.instant()) " · data source: database" }
                p.answer { (answer) }
                p { (target) }
                (bar(sheet.funnel.coverage, Some(sheet.funnel.target)))
                (funnel(sheet))
                (trend(sheet))
                (blockers(sheet))
            }
        }
    };
    printable(&page.into_string(), &['\n']).into_owned() + "\n"
}

/// The text on one line, cut if it is longer.
fn one_line(text: &str, columns: usize) -> String {
    wrapped(text, columns, 1).into_iter().next().unwrap_or_default()
}

/// A bar of the whole width with a filled share, and the mark of the target.
fn bar(share: f64, target: Option<f64>) -> Markup {
    html! {
        svg width="100%" height="12" viewBox="0 0 1000 12" preserveAspectRatio="none" aria-hidden="true" {
            rect.track width="1000" height="12" {}
            rect.bar width=(number(share * 1000.0)) height="12" {}
            @if let Some(target) = target {
                rect x=(number((target * 1000.0 - 2.0).max(0.0))) width="4" height="12" fill="#1b1f24" {}
            }
        }
    }
}

fn funnel(sheet: &Sheet) -> Markup {
    html! {
        h2 { "Funnel" }
        table {
            @for (label, count, share) in sheet.stages() {
                tr { th scope="row" width="90" { (label) } td { (bar(share, None)) } td.number { (count) } }
            }
        }
        @for losses in sheet.losses() { p.quiet { (losses) } }
    }
}

fn trend(sheet: &Sheet) -> Markup {
    html! {
        h2 { "Trend over " (sheet.series.range.label()) }
        @if sheet.series.points.is_empty() {
            p.quiet { "The trend begins with the first intent." }
        } @else {
            p { (summary(&sheet.series)) }
            svg width="720" height="178" viewBox=(DRAWING) role="img" aria-label="Connections by state, and the coverage" { (chart(&sheet.series, CHART)) }
            ul {
                @for layer in sheet.layers() {
                    li {
                        svg width="12" height="12" aria-hidden="true" { rect width="12" height="12" fill=(fill(layer)) {} }
                        " " (layer.label) " " strong { (sheet.last_count(layer)) }
                    }
                }
            }
            p.quiet { "Solid line: coverage. Dashed line: target " (target_percent(sheet.series.target)) " %. ◆: the policy changed. Times are in UTC." }
        }
    }
}

fn blockers(sheet: &Sheet) -> Markup {
    html! {
        @if sheet.funnel.received > 0 {
            h2 { @if sheet.blockers.is_empty() { "Every connection is active" } @else { "Blockers" } }
        }
        ol {
            @for blocker in &sheet.blockers {
                li {
                    strong { (one_line(&format!("{}: {}", blocker.size(), blocker.title), TITLE_COLUMNS)) }
                    @if !blocker.fix.is_empty() { br; "→ " (one_line(&blocker.fix, FIX_COLUMNS)) }
                }
            }
        }
        @if sheet.more > 0 { p.quiet { "and " (sheet.more) " more; aam status lists every connection" } }
    }
}
