//! Evidence of steps as nested lists.

use maud::{Markup, html};
use serde_json::{Map, Value};

/// The number of levels that are shown as lists. Deeper values are shown as JSON.
const MAX_DEPTH: usize = 3;
/// The number of items of one list that are shown.
const MAX_ITEMS: usize = 50;

/// Renders evidence.
pub(super) fn list(evidence: &Map<String, Value>) -> Markup {
    object(evidence, 0)
}

fn object(object: &Map<String, Value>, depth: usize) -> Markup {
    html! {
        dl.facts {
            @for (key, fact) in object { dt { (key.replace('_', " ")) } dd { (value(fact, depth)) } }
        }
    }
}

fn value(fact: &Value, depth: usize) -> Markup {
    match fact {
        Value::Null => html! { span.quiet { "none" } },
        Value::Bool(true) => html! { "yes" },
        Value::Bool(false) => html! { "no" },
        Value::Number(number) => html! { (number.to_string()) },
        Value::String(text) => html! { (text) },
        Value::Object(inner) if depth < MAX_DEPTH => object(inner, depth + 1),
        Value::Array(items) if depth < MAX_DEPTH => html! {
            ul.plainlist {
                @for item in items.iter().take(MAX_ITEMS) { li { (value(item, depth + 1)) } }
                @if items.len() > MAX_ITEMS { li.quiet { "and " (items.len() - MAX_ITEMS) " more" } }
            }
        },
        deeper => html! { code { (deeper.to_string()) } },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn deep_and_long_values_are_bounded_and_texts_are_escaped() {
        let mut deep = json!("<b>");
        for _ in 0..40 {
            deep = json!({ "in": deep });
        }
        let evidence = json!({"deep": deep, "long": (0..60).collect::<Vec<u32>>(), "text": "<script>", "off": false});
        let html = list(evidence.as_object().unwrap()).into_string();
        assert_eq!(html.matches("<dl").count(), MAX_DEPTH + 1, "{html}");
        assert!(html.contains("and 10 more") && html.contains("&lt;script&gt;") && html.contains("<dt>off</dt><dd>no</dd>"));
        assert!(!html.contains("<b>") && !html.contains("<script>"));
    }
}
