//! Templates with results recorded from the CDK, and hostile templates.

use super::*;
use crate::host::{HostError, HostRequest, HostResponse};
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use proptest::prelude::*;
use std::time::{Duration, Instant};

struct Frozen;

impl Host for Frozen {
    fn send(&self, _call: HostRequest) -> BoxFuture<'_, Result<HostResponse, HostError>> {
        Box::pin(async { Err(HostError::refused("no calls")) })
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_microsecond(1_749_990_896_789_012).unwrap()
    }

    fn pause(&self, _wait: Duration) -> BoxFuture<'_, Result<(), HostError>> {
        Box::pin(async { Ok(()) })
    }

    fn uuid(&self) -> String {
        "00000000-0000-4000-8000-000000000000".into()
    }
}

fn eval(template: &str, context: &Value) -> Result<Value, EvalError> {
    let none = Value::Dict(Default::default());
    let get = |name: &str| context.get(name).unwrap_or(&none);
    let vars = vec![("stream_slice", get("stream_slice")), ("record", get("record"))];
    let (config, parameters, bounds) = (get("config"), get("parameters"), Bounds::default());
    let scope = Scope { config: Config::new(config), parameters, vars, host: &Frozen, bounds: &bounds };
    InterpolatedString::new(template, parameters).eval(&scope, &[])
}

fn untupled(value: &Value) -> Value {
    match value {
        Value::Dict(dict) => match dict.get("__tuple__") {
            Some(items) => untupled(items),
            None => Value::Dict(dict.iter().map(|(key, it)| (key.clone(), untupled(it))).collect()),
        },
        Value::List(items) => Value::List(items.iter().map(untupled).collect()),
        other => other.clone(),
    }
}

/// The first line is the context. Every other line contains a template and the result that airbyte-cdk 7.39.1 gives.
#[test]
fn agrees_with_the_cdk() {
    let mut lines = include_str!("verified.jsonl").lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let context = lines.next().unwrap();
    let mut failed = Vec::new();
    for line in lines {
        let template = line.get("t").and_then(Value::as_str).unwrap();
        let found = match eval(template, &context) {
            Ok(value) => format!("{{'ok': {}}}", value.repr()),
            Err(error) => format!("{{'err': '{}'}}", error.class),
        };
        let expected = untupled(line.get("exp").unwrap()).repr();
        if found != expected {
            failed.push(format!("{template}: expected {expected}, found {found}"));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn hostile_templates_end_with_an_error() {
    let deep = |open: &str, close: &str| format!("{{{{ {}1{} }}}}", open.repeat(5000), close.repeat(5000));
    let body =
        "{% for a in x %}{% for b in x %}{% for c in x %}{% for d in x %}1{% endfor %}{% endfor %}{% endfor %}{% endfor %}";
    let context: Value = serde_json::from_str("{\"config\": {}}").unwrap();
    for template in [
        "{{ 'a' * 10**9 }}".to_owned(),
        "{{ [1] * 10**9 }}".to_owned(),
        "{{ 10 ** 10 ** 10 }}".to_owned(),
        "{{ '%1000000000d' % 1 }}".to_owned(),
        "{{ '{:>1000000000}'.format(1) }}".to_owned(),
        "{{ 'a'.ljust(10**10) }}".to_owned(),
        "{{ ('a' * 40)|regex_search('^(a*)*(a*)*(?=b)(x)') }}{{ 10**100 }}".to_owned(),
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}".to_owned(),
        format!("{{% set x = 'a' * 100 %}}{body}"),
        "{% set x = [] %}{% set y = x.append(x) %}{{ x }}".to_owned(),
        deep("(", ")"),
        deep("[", "]"),
        deep("-", ""),
        deep("1 + ", ""),
        deep("not ", ""),
        deep("", ".a"),
        "{% if 1 %}".repeat(5000),
    ] {
        let start = Instant::now();
        let result = eval(&template, &context);
        let shown: String = template.chars().take(60).collect();
        assert!(result.is_err(), "{shown} gave a value");
        assert!(start.elapsed() < Duration::from_secs(20), "{shown} took too long");
    }
}

#[test]
fn mappings_drop_what_is_empty() {
    let config: Value = serde_json::from_str(r#"{"a": "1", "e": ""}"#).unwrap();
    let (none, bounds) = (Value::None, Bounds::default());
    let scope = Scope { config: Config::new(&config), parameters: &none, vars: vec![], host: &Frozen, bounds: &bounds };
    let text = r#"{"x": "{{ config.a }}", "y": "{{ config.e }}", "z": "{{ config.no.more }}", "{{ config.a }}": [null, "{{ config.e }}"]}"#;
    let mapping: Value = serde_json::from_str(text).unwrap();
    let nested = InterpolatedNestedMapping::new(&mapping, &none).eval(&scope).unwrap();
    assert_eq!(nested.repr(), "{'x': 1, '1': [None, None]}");
    let flat = InterpolatedMapping::new(mapping.as_dict().unwrap(), &none);
    let flat = flat.eval(&scope, &[PyType::Str, PyType::List]).unwrap();
    assert_eq!(Value::Dict(flat).repr(), "{'x': '1', 'y': None, 'z': None, '1': [None, '{{ config.e }}']}");
    for (text, expected) in
        [("{{ config.e }}", false), ("{{ config.a == '1' }}", true), ("{{ 0.0 }}", false), ("{{ 'a' + 1 }}", true)]
    {
        assert_eq!(InterpolatedBoolean::new(text, &none).eval(&scope), Ok(expected), "{text}");
    }
}

proptest! {
    #[test]
    fn never_panics(
        text in any::<String>(),
        code in "[-{}%#|.()\\[\\]a-c1-9'~*+/=<>, \n]{0,40}",
        name in "(if|for|set|x in|not|is|else|end)",
    ) {
        let context = Value::Dict(Default::default());
        let _ = eval(&text, &context);
        let _ = eval(&format!("{{{{ {code} }}}}"), &context);
        let _ = eval(&format!("{{% {name} {code} %}}{{{{ {code} }}}}{{% end{name} %}}"), &context);
    }
}
