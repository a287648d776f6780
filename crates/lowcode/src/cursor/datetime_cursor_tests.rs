use super::*;
use crate::bounds::Bounds;
use crate::config::Config;
use crate::script::{Script, json};
use proptest::prelude::*;

fn slices_of(fields: &str) -> Result<Vec<(String, String)>, Failed> {
    let node = json(&format!(r#"{{"type": "DatetimeBasedCursor", "cursor_field": "u", {fields}}}"#));
    let (host, bounds, config) = (Script::new(&[]), Bounds::default(), Value::None);
    let at = EvalContext { config: Config::new(&config), host: &host, bounds: &bounds, slice: None };
    let cursor = DatetimeCursor::build(&node, &at)?;
    let mut intervals = cursor.intervals(&at)?;
    let mut all = Vec::new();
    while let Some(slice) = intervals.next(&cursor)? {
        all.push((slice["start_time"].to_str(), slice["end_time"].to_str()));
        assert!(all.len() < 10_000);
    }
    Ok(all)
}

fn days(more: &str) -> Vec<(String, String)> {
    slices_of(&format!(r#""datetime_format": "%Y-%m-%d", {more}"#)).unwrap()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

// The expected slices were printed by create_concurrent_cursor_from_datetime_based_cursor of airbyte-cdk 7.39.1.
#[test]
fn cuts_as_the_cdk_does() {
    let within = |more: &str| days(&format!(r#""start_datetime": "2024-01-01", "end_datetime": "2024-03-10" {more}"#));
    assert_eq!(
        within(r#", "step": "P1M", "cursor_granularity": "P1D""#),
        pairs(&[("2024-01-01", "2024-01-31"), ("2024-02-01", "2024-02-29"), ("2024-03-01", "2024-03-10")])
    );
    assert_eq!(within(""), pairs(&[("2024-01-01", "2024-03-10")]));
    let until = |end: &str, more: &str| days(&format!(r#""start_datetime": "2024-01-01", "end_datetime": "{end}" {more}"#));
    let step = r#", "step": "P30D", "cursor_granularity": "P1D""#;
    assert_eq!(until("2024-03-01", step), pairs(&[("2024-01-01", "2024-01-30"), ("2024-01-31", "2024-03-01")]));
    assert_eq!(until("2024-01-01", step), pairs(&[("2024-01-01", "2024-01-01")]));
    assert_eq!(until("2023-01-01", ""), pairs(&[]));
    let look = format!(r#"{step}, "lookback_window": "P5D""#);
    assert_eq!(until("2024-02-10", &look), pairs(&[("2024-01-01", "2024-01-30"), ("2024-01-31", "2024-02-10")]));
}

#[test]
fn clamps_as_the_cdk_does() {
    let week = days(
        r#""start_datetime": "2024-01-03", "end_datetime": "2024-01-25", "step": "P1W", "cursor_granularity": "P1D",
           "clamping": {"target": "WEEK", "target_details": {"weekday": "MONDAY"}}"#,
    );
    assert_eq!(week, pairs(&[("2024-01-08", "2024-01-14"), ("2024-01-15", "2024-01-21")]));
    let month = days(
        r#""start_datetime": "2024-01-15", "end_datetime": "2024-03-10", "step": "P1M", "cursor_granularity": "P1D",
           "clamping": {"target": "MONTH"}"#,
    );
    assert_eq!(month, pairs(&[("2024-02-01", "2024-02-29")]));
}

#[test]
fn reads_other_formats_and_bounds() {
    let epoch = slices_of(
        r#""datetime_format": "%s", "start_datetime": "0", "end_datetime": "100000", "step": "P1D", "cursor_granularity": "PT1S""#,
    );
    assert_eq!(epoch.unwrap(), pairs(&[("0", "86399"), ("86400", "100000")]));
    let min = days(
        r#""end_datetime": "2024-03-10", "start_datetime": {"type": "MinMaxDatetime", "datetime": "2024-01-05",
           "min_datetime": "2024-02-01", "datetime_format": "%Y-%m-%d"}"#,
    );
    assert_eq!(min, pairs(&[("2024-02-01", "2024-03-10")]));
    let lone_step = slices_of(r#""datetime_format": "%Y-%m-%d", "start_datetime": "2024-01-01", "step": "P1D""#);
    assert_eq!(lone_step.unwrap_err().class, "ValueError");
    let wrong = slices_of(r#""datetime_format": "%Y-%m-%d", "start_datetime": "2024-01-01T00:00:00Z""#);
    assert_eq!(wrong.unwrap_err().class, "ValueError");
}

proptest! {
    #[test]
    fn slices_cover_the_interval_once(start in 0_i64..40_000, length in 0_i64..50_000, step in 200_i64..20_000, grain in 1_i64..100) {
        let end = start + length;
        let all = slices_of(&format!(
            r#""datetime_format": "%s", "start_datetime": "{start}", "end_datetime": "{end}", "step": "PT{step}S",
               "cursor_granularity": "PT{grain}S""#
        )).unwrap();
        let number = |text: &String| text.parse::<i64>().unwrap();
        prop_assert_eq!(number(&all.first().unwrap().0), start);
        prop_assert_eq!(number(&all.last().unwrap().1), end);
        for pair in all.windows(2) {
            prop_assert_eq!(number(&pair[0].1) + grain, number(&pair[1].0), "no gap, no overlap");
        }
    }

    #[test]
    fn never_panics(start in "[0-9%YmdT:-]{0,12}", format in "(%[YmdHsf]-?){0,4}", step in "P?[0-9]{0,3}[DMYTHS]{0,2}") {
        let _ = slices_of(&format!(
            r#""datetime_format": "{format}", "start_datetime": "{start}", "end_datetime": "2024", "step": "{step}",
               "cursor_granularity": "P1D""#
        ));
    }
}
