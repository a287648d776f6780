use super::*;
use crate::funnel::Stage;

fn mark(step: Step, end: StepEnd) -> StepMark {
    StepMark { step, end, duration_ms: Some(120) }
}

fn row(number: usize) -> ConnectionRow {
    ConnectionRow {
        id: format!("00000000-0000-5000-8000-{number:012}"),
        state: State::NetworkBlocked,
        family: "jdbc".to_string(),
        resource: format!("jdbc:postgresql://10.4.3.{number}:5432/shop"),
        others: 2,
        owner: "owner@acme.example".to_string(),
        cause: "the policy does not allow the private address 10.4.3.12".to_string(),
        created: Timestamp(0),
        warnings: vec![Class::OverPrivileged, Class::CredentialEnding],
        steps: Step::ALL.map(|step| mark(step, StepEnd::Passed)).to_vec(),
        is_checking: false,
        is_held: false,
    }
}

fn page(rows: Vec<ConnectionRow>) -> ConnectionsPage {
    let total = rows.len();
    ConnectionsPage {
        links: Links::default(),
        filter: Filter::default(),
        all: 10_000,
        total,
        page: 1,
        rows,
        facets: Facets::default(),
        causes: Vec::new(),
        as_of: Timestamp(7_200_000),
    }
}

#[test]
fn a_line_shows_what_a_person_needs_and_each_step_has_a_title() {
    let mut first = row(1);
    for (index, mark) in first.steps.iter_mut().enumerate().skip(4) {
        mark.end = if index == 4 { StepEnd::Failed } else { StepEnd::Skipped };
    }
    let text = render(&page(vec![first])).into_string();
    for shown in [
        "⊘",
        "network blocked",
        "jdbc:postgresql://10.4.3.1:5432/shop",
        " +2",
        "owner@acme.example",
        "the policy does not allow",
        "2h ago",
        "over privileged",
        "title=\"over privileged, credential ending\"",
        "title=\"health: failed, 120 ms\"",
        "title=\"tiny sync: skipped\"",
        "aria-label=\"health failed, 4 passed, 2 skipped\"",
        "data-key=\"00000000-0000-5000-8000-000000000001\"",
    ] {
        assert!(text.contains(shown), "{shown} is missing in {text}");
    }
}

#[test]
fn texts_of_callers_are_escaped_and_cut() {
    let mut hostile = row(1);
    hostile.resource = format!("<script>{}", "x".repeat(5000));
    hostile.owner = "\"><img src=x>".to_string();
    let mut page = page(vec![hostile; PAGE_SIZE]);
    page.filter.search = "\"><b>".to_string();
    page.filter.owners = vec!["<i>".to_string()];
    page.facets.owners.values = vec![("<i>".to_string(), 1), (format!("<u>{}", "y".repeat(500)), 1)];
    let text = render(&page).into_string();
    for evil in ["<script>", "<img", "<b>", "<u>", "\"<i>"] {
        assert!(!text.contains(evil), "{evil}");
    }
    assert!(text.len() < 70_000, "{} bytes", text.len());
    assert!(text.contains("%3Ci%3E") && text.contains("&lt;i&gt; 1"), "the chip of the owner");
}

#[test]
fn a_chip_adds_its_value_or_removes_it_and_keeps_the_rest() {
    let mut page = page(vec![row(1)]);
    page.filter.search = "shop".to_string();
    page.filter.states = vec![State::Error];
    page.filter.stages = vec![Stage::Eligible];
    page.facets.states = vec![(State::Error, 1200), (State::Active, 3)];
    page.page = 1;
    let text = render(&page).into_string();
    assert!(text.contains("href=\"/ui/connections?q=shop&amp;stage=eligible\" aria-current=\"true\">✕ error 1,200"), "{text}");
    assert!(text.contains("href=\"/ui/connections?q=shop&amp;state=ERROR%2CACTIVE&amp;stage=eligible\">✓ active 3"), "{text}");
    assert!(text.contains("Funnel: Eligible"), "{text}");
    assert!(text.contains("<input type=\"hidden\" name=\"state\" value=\"ERROR\">"), "the search keeps the filters: {text}");
    assert!(text.contains("1 of 10,000"), "{text}");
}

#[test]
fn the_order_is_said_and_a_second_click_reverses_it() {
    let mut page = page(vec![row(1)]);
    page.filter.sort = Sort { column: Column::Age, is_reversed: false };
    let text = render(&page).into_string();
    assert!(text.contains("aria-sort=\"ascending\"><a href=\"/ui/connections?sort=-age\">Age"), "{text}");
    assert!(text.contains("<a href=\"/ui/connections\">State"), "{text}");
    page.filter.sort.is_reversed = true;
    let text = render(&page).into_string();
    assert!(text.contains("aria-sort=\"descending\"><a href=\"/ui/connections?sort=age\">Age"), "{text}");
    assert_eq!(text.matches("aria-sort").count(), 1);
}

#[test]
fn the_pager_leads_to_the_other_pages() {
    let mut page = page((0..PAGE_SIZE).map(row).collect());
    (page.total, page.page) = (1234, 3);
    let text = render(&page).into_string();
    assert!(text.contains("101–150 of 1,234"), "{text}");
    for link in ["rel=\"prev\" href=\"/ui/connections?page=2\"", "rel=\"next\" href=\"/ui/connections?page=4\"", "page=25\">Last"]
    {
        assert!(text.contains(link), "{link}");
    }
    (page.total, page.page) = (50, 1);
    assert!(!render(&page).into_string().contains("rel=\""));
}

#[test]
fn an_empty_list_says_why() {
    let mut page = page(Vec::new());
    page.all = 0;
    assert!(render(&page).into_string().contains("does not have connections yet"));
    page.filter.search = "x".to_string();
    page.all = 7;
    let text = render(&page).into_string();
    assert!(text.contains("None of the 7 connections matches") && text.contains("Show all connections"), "{text}");
}
