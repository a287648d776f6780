//! A strict reader of the OpenMetrics text format (openmetrics.io, version 1.0.0), for what AAM uses of it.

use std::collections::{BTreeMap, BTreeSet};

/// One sample: the name with its suffix, the labels and the value.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

/// The families of metrics by name, each with its type and its samples.
pub type Families = BTreeMap<String, (String, Vec<Sample>)>;

/// Parses `text`.
///
/// # Panics
/// Panics if the text breaks a rule of the format.
pub fn parse(text: &str) -> Families {
    let body = text.strip_suffix("# EOF\n").expect("the text ends with # EOF");
    let mut families = Families::new();
    let (mut current, mut helped) = (String::new(), BTreeSet::new());
    for line in body.lines() {
        assert!(!line.is_empty() && line.trim() == line, "an empty line or white space: {line:?}");
        if let Some(rest) = line.strip_prefix("# ") {
            let (keyword, rest) = rest.split_once(' ').expect(line);
            let (name, value) = rest.split_once(' ').expect(line);
            match keyword {
                "HELP" => assert!(helped.insert(name.to_string()) && !value.is_empty(), "{line}"),
                "UNIT" => assert!(name.ends_with(value), "{line}"),
                "TYPE" => {
                    assert!(is_name(name) && ["gauge", "counter", "histogram", "info"].contains(&value), "{line}");
                    assert!(families.insert(name.to_string(), (value.to_string(), Vec::new())).is_none(), "{name} comes twice");
                    current = name.to_string();
                }
                _ => panic!("{line}"),
            }
            continue;
        }
        let sample = sample(line);
        let (kind, samples) = families.get_mut(&current).expect("a TYPE before the samples");
        let suffix = sample.name.strip_prefix(&current).expect("samples follow their TYPE");
        let allowed: &[&str] = match kind.as_str() {
            "gauge" => &[""],
            "counter" => &["_total"],
            "histogram" => &["_bucket", "_sum", "_count"],
            _ => &["_info"],
        };
        assert!(allowed.contains(&suffix), "{line} is not a sample of a {kind}");
        assert!(kind == "gauge" || sample.value >= 0.0, "{line}");
        assert!(!samples.iter().any(|known| known.name == sample.name && known.labels == sample.labels), "{line} comes twice");
        samples.push(sample);
    }
    families.iter().filter(|(_, (kind, _))| kind == "histogram").for_each(|(name, (_, samples))| check_histogram(name, samples));
    assert!(families.keys().all(|name| helped.contains(name)), "every family has a HELP");
    families
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn sample(line: &str) -> Sample {
    let (series, value) = line.rsplit_once(' ').expect(line);
    let (name, labels) = match series.split_once('{') {
        None => (series, BTreeMap::new()),
        Some((name, rest)) => (name, labels(rest.strip_suffix('}').expect(line))),
    };
    assert!(is_name(name), "{line}");
    Sample { name: name.to_string(), labels, value: value.parse().expect(line) }
}

fn labels(mut text: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    while !text.is_empty() {
        let (name, rest) = text.split_once("=\"").expect(text);
        let (mut value, mut end, mut escaped) = (String::new(), None, false);
        for (at, c) in rest.char_indices() {
            match c {
                '"' if !escaped => {
                    end = Some(at);
                    break;
                }
                '\\' if !escaped => escaped = true,
                c => {
                    value.push(c);
                    escaped = false;
                }
            }
        }
        assert!(is_name(name) && labels.insert(name.to_string(), value).is_none(), "{name}");
        let rest = &rest[end.expect("a closing quote") + 1..];
        text = rest.strip_prefix(',').unwrap_or(rest);
        assert!(rest.is_empty() || rest.starts_with(','), "{rest}");
    }
    labels
}

/// Buckets are cumulative, ordered and end with +Inf, which equals the count.
fn check_histogram(name: &str, samples: &[Sample]) {
    let mut series: BTreeMap<BTreeMap<String, String>, Vec<&Sample>> = BTreeMap::new();
    for sample in samples {
        let mut labels = sample.labels.clone();
        labels.remove("le");
        series.entry(labels).or_default().push(sample);
    }
    for (labels, samples) in series {
        let buckets: Vec<(f64, f64)> = samples
            .iter()
            .filter(|sample| sample.name.ends_with("_bucket"))
            .map(|sample| (sample.labels["le"].parse().expect("a bound"), sample.value))
            .collect();
        assert!(buckets.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1), "{name} {labels:?}: {buckets:?}");
        let count = samples.iter().find(|sample| sample.name.ends_with("_count")).expect("a count").value;
        assert_eq!(buckets.last(), Some(&(f64::INFINITY, count)), "{name} {labels:?}");
        assert!(samples.iter().any(|sample| sample.name.ends_with("_sum")), "{name} {labels:?}");
    }
}
