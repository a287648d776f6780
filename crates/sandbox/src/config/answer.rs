//! Answers by name, headers, and the moods of one vendor.

use crate::pattern::Pattern;
use crate::template::Template;
use crate::yaml::{Node, Problems};

pub struct Answer {
    pub status: Template,
    pub headers: Vec<(String, Template)>,
    pub body: Option<Template>,
}

impl Answer {
    pub fn parse(node: &Node<'_>, problems: &mut Problems) -> Option<Answer> {
        let mut fields = node.fields(problems)?;
        let status = fields.required("status", problems).map(|node| status(&node, problems));
        let headers = headers(fields.get("headers"), problems);
        let body = fields.get("body").map(|node| Template::new(&node, problems));
        fields.finish(problems);
        Some(Answer { status: status?, headers, body })
    }
}

pub fn status(node: &Node<'_>, problems: &mut Problems) -> Template {
    match node.value.as_u64() {
        Some(status) if !(200..=599).contains(&status) => problems.add(&node.pointer, "a status is from 200 to 599"),
        None if !node.value.is_string() => problems.add(&node.pointer, "expected a status"),
        _ => {}
    }
    Template::new(node, problems)
}

pub fn headers(node: Option<Node<'_>>, problems: &mut Problems) -> Vec<(String, Template)> {
    let mut headers = Vec::new();
    for (name, node) in node.map(|node| node.entries(problems)).unwrap_or_default() {
        if hyper::header::HeaderName::try_from(name).is_err() {
            problems.add(&node.pointer, format!("{name:?} is not a header name"));
        }
        for value in node.one_or_more(problems) {
            if !(value.value.is_string() || value.value.is_number()) {
                problems.add(&value.pointer, "expected a text");
            }
            headers.push((name.to_ascii_lowercase(), Template::new(&value, problems)));
        }
    }
    headers
}

/// A mood that one vendor has: an answer for some of its paths.
pub struct Mood {
    pub answer: Option<String>,
    /// `None` is every path.
    paths: Option<Vec<Pattern>>,
    /// After this many answers the vendor answers well.
    pub calls: Option<u64>,
    /// Milliseconds before an answer.
    pub delay: Option<u64>,
    /// Also before the credential is looked at.
    pub early: bool,
}

impl Mood {
    pub fn parse(node: &Node<'_>, problems: &mut Problems) -> Option<Mood> {
        let mut fields = node.fields(problems)?;
        let answer = fields.text("answer", problems);
        let mut paths = Vec::new();
        let mut all = true;
        for node in fields.get("paths").map(|node| node.one_or_more(problems)).unwrap_or_default() {
            match node.text(problems).as_deref() {
                None | Some("*") => {}
                Some(text) => {
                    all = false;
                    // A `*` at the end stands for anything, also for nothing.
                    let forms = match text.strip_suffix('*') {
                        Some(text) => vec![text.to_owned(), format!("{text}{{rest*}}")],
                        None => vec![text.to_owned()],
                    };
                    for form in forms {
                        match Pattern::path(&form) {
                            Ok(pattern) => paths.push(pattern),
                            Err(error) => problems.add(&node.pointer, error),
                        }
                    }
                }
            }
        }
        let mood = Mood {
            answer,
            paths: (!all).then_some(paths),
            calls: fields.number("calls", problems),
            delay: fields.number("delay_ms", problems),
            early: fields.flag("early", problems),
        };
        fields.finish(problems);
        Some(mood)
    }

    pub fn concerns(&self, path: &str) -> bool {
        self.paths.as_ref().is_none_or(|paths| paths.iter().any(|pattern| pattern.captures(path).is_some()))
    }
}
