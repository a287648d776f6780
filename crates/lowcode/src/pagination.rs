//! How a stream moves from page to page (`requesters/paginators`).

use super::context::{Context, EvalContext};
use super::cursor::Cursor;
use super::decode::Decoder;
use super::error::Failed;
use super::interpolation::{InterpolatedBoolean, InterpolatedString, source_text};
use super::node::{field, flag, kind, parameters, set_field, text};
use super::request::merge::combine;
use super::request::option::{OptionPlace, RequestOption};
use super::response::Response;
use super::value::{Dict, Value};
use std::borrow::Cow;
use std::sync::Arc;

/// Where the token of the next page goes in a request.
#[derive(Debug)]
enum TokenOption {
    None,
    /// The token replaces the whole path or URL.
    Path,
    Option(RequestOption),
}

#[derive(Debug)]
enum Strategy {
    Cursor { value: InterpolatedString, stop: Option<InterpolatedBoolean>, page_size: Option<i64> },
    Offset { page_size: Option<PageSize>, inject_first: bool },
    Page { page_size: Option<i64>, start: i64, inject_first: bool },
}

#[derive(Debug)]
enum PageSize {
    Number(i64),
    /// Evaluated again for each page, with `response` as a variable.
    Template(InterpolatedString),
}

/// The paginator of a retriever.
#[derive(Debug, Default)]
pub struct Paginator {
    paged: Option<Paged>,
}

#[derive(Debug)]
struct Paged {
    strategy: Strategy,
    size_option: Option<RequestOption>,
    token_option: TokenOption,
    /// `is_data_feed`: the cursor that decides whether to stop. Paging stops after a page whose last record is older
    /// than the start of the cursor.
    stop_at: Option<Arc<Cursor>>,
}

/// What was read from one page.
pub struct Page<'a> {
    pub response: &'a Response,
    pub decoder: &'a Decoder,
    /// The number of records that passed the filters.
    pub records: usize,
    /// The number of records before any filter.
    pub extracted: usize,
    pub last_record: Option<&'a Value>,
    /// The token with which this page was requested.
    pub token: Option<&'a Value>,
    /// The page size that was requested in place of the one of the manifest.
    pub reduced_size: Option<i64>,
}

impl Paginator {
    /// # Errors
    /// Fails with the error that the CDK raises when it builds the component.
    pub fn build(node: &Value, stop_at: Option<Arc<Cursor>>, ctx: &Context<'_>) -> Result<Paginator, Failed> {
        match kind(node) {
            "" | "NoPagination" => return Ok(Paginator::default()),
            "DefaultPaginator" => {}
            other => return Err(Failed::config("UnsupportedComponent", format!("paginator {other} is not supported"))),
        }
        let at = ctx.eval_context();
        let option = |key: &str| set_field(node, key).map(|it| RequestOption::build(it, &Value::None)).transpose();
        let paged = Paged {
            strategy: Strategy::build(field(node, "pagination_strategy"), &at)?,
            size_option: option("page_size_option")?,
            token_option: match set_field(node, "page_token_option").map(kind) {
                None => TokenOption::None,
                Some("RequestPath") => TokenOption::Path,
                Some(_) => option("page_token_option")?.map_or(TokenOption::None, TokenOption::Option),
            },
            stop_at,
        };
        if paged.size_option.is_some() && paged.strategy.page_size(&at)?.is_none_or(|size| size == 0) {
            let message = "page_size_option cannot be set if the pagination strategy does not have a page_size";
            return Err(Failed::system("ValueError", message));
        }
        paged.refuse_one_place_twice(&at)?;
        Ok(Paginator { paged: Some(paged) })
    }

    /// Returns the token of the first page, if it has one.
    #[must_use]
    pub fn initial_token(&self) -> Option<Value> {
        match self.paged.as_ref().map(|paged| &paged.strategy) {
            Some(Strategy::Offset { inject_first: true, .. }) => Some(Value::Int(0)),
            Some(Strategy::Page { inject_first: true, start, .. }) => Some(Value::Int(*start)),
            _ => None,
        }
    }

    /// Returns the path that the token contains, if the manifest uses `RequestPath`.
    #[must_use]
    pub fn path(&self, token: Option<&Value>) -> Option<String> {
        match (&self.paged.as_ref()?.token_option, token) {
            (TokenOption::Path, Some(token)) if token.truthy() => Some(token.to_str()),
            _ => None,
        }
    }

    /// Returns the page size of the manifest, if there is one that is sent.
    ///
    /// # Errors
    /// Fails if a template fails, or if the page size is not an integer.
    pub fn page_size(&self, at: &EvalContext<'_>) -> Result<Option<i64>, Failed> {
        self.paged.as_ref().map_or(Ok(None), |paged| paged.strategy.page_size(at))
    }

    /// Returns the token and the page size as request options for `place`. `reduced` takes the place of the page size.
    ///
    /// # Errors
    /// Fails if a template fails, or if the page size is not an integer.
    pub fn options(
        &self,
        place: OptionPlace,
        token: Option<&Value>,
        reduced: Option<i64>,
        at: &EvalContext<'_>,
    ) -> Result<Dict, Failed> {
        let mut options = Dict::default();
        let Some(paged) = &self.paged else { return Ok(options) };
        let scope = at.scope(Vec::new());
        if let (TokenOption::Option(option), Some(token)) = (&paged.token_option, token)
            && option.place == place
        {
            option.inject(&mut options, token.clone(), &scope)?;
        }
        if let Some(option) = paged.size_option.as_ref().filter(|it| it.place == place)
            && let Some(size) = reduced.map_or_else(|| paged.strategy.page_size(at), |size| Ok(Some(size)))?
            && size != 0
        {
            option.inject(&mut options, Value::Int(size), &scope)?;
        }
        Ok(options)
    }

    /// Returns the token of the page after `page`, or `None` if the slice has no more pages.
    ///
    /// # Errors
    /// Fails if a template fails.
    pub fn next_token(&self, page: &Page<'_>, at: &EvalContext<'_>) -> Result<Option<Value>, Failed> {
        let Some(paged) = &self.paged else { return Ok(None) };
        if let (Some(cursor), Some(record)) = (&paged.stop_at, page.last_record)
            && record.truthy()
            && !cursor.should_be_synced(record, at)?
        {
            return Ok(None);
        }
        Ok(paged.strategy.next(page, at)?.filter(Value::truthy))
    }

    /// Whether the paginator needs the last record of each page.
    #[must_use]
    pub fn needs_last_record(&self) -> bool {
        self.paged.as_ref().is_some_and(|it| it.stop_at.is_some() || matches!(it.strategy, Strategy::Cursor { .. }))
    }
}

impl Paged {
    /// # Errors
    /// Fails with ValueError if the token and the page size go to the same place.
    fn refuse_one_place_twice(&self, at: &EvalContext<'_>) -> Result<(), Failed> {
        let (Some(size), TokenOption::Option(token)) = (&self.size_option, &self.token_option) else { return Ok(()) };
        if size.place != token.place {
            return Ok(());
        }
        let scope = at.scope(Vec::new());
        let (mut a, mut b) = (Dict::default(), Dict::default());
        size.inject(&mut a, Value::str("dummy_value_0"), &scope)?;
        token.inject(&mut b, Value::str("dummy_value_1"), &scope)?;
        combine([Value::Dict(a), Value::Dict(b)], size.place == OptionPlace::BodyJson)?;
        Ok(())
    }
}

/// Returns `page_size` as the CDK's model reads it: a string of digits counts as a number.
fn number(node: &Value) -> Option<i64> {
    match field(node, "page_size") {
        Value::Int(int) => Some(*int),
        Value::Bool(bool) => Some(i64::from(*bool)),
        Value::Str(text) => text.trim().parse().ok(),
        _ => None,
    }
}

fn int_of(value: &Value) -> Result<i64, Failed> {
    match value {
        Value::Int(int) => Ok(*int),
        Value::Bool(bool) => Ok(i64::from(*bool)),
        other => {
            let kind = other.type_name();
            let message = format!("{} is of type <class '{kind}'>. Expected <class 'int'>", other.to_str());
            Err(Failed::system("Exception", message))
        }
    }
}

/// Returns the page size of a strategy that evaluates it only once.
fn fixed_size(node: &Value, at: &EvalContext<'_>) -> Result<Option<i64>, Failed> {
    match (number(node), text(node, "page_size")) {
        (Some(number), _) => Ok(Some(number)),
        (None, Some(template)) => {
            let value = InterpolatedString::new(template, parameters(node)).eval(&at.scope(Vec::new()), &[])?;
            int_of(&value).map(Some)
        }
        _ => Ok(None),
    }
}

impl Strategy {
    fn build(node: &Value, at: &EvalContext<'_>) -> Result<Strategy, Failed> {
        let inject_first = flag(node, "inject_on_first_request");
        Ok(match kind(node) {
            "CursorPagination" => {
                let page_size = fixed_size(node, at)?;
                for key in ["stop_condition", "cursor_value"] {
                    if page_size.is_none() && text(node, key).is_some_and(reads_page_size) {
                        let message = format!("The `{key}` reads `page_size`, but the CursorPagination declares none");
                        return Err(Failed::system("ValueError", message));
                    }
                }
                Strategy::Cursor {
                    value: InterpolatedString::new(&field(node, "cursor_value").to_str(), parameters(node)),
                    stop: text(node, "stop_condition").map(|it| InterpolatedBoolean::new(it, parameters(node))),
                    page_size,
                }
            }
            "OffsetIncrement" => Strategy::Offset {
                page_size: match (number(node), text(node, "page_size").filter(|it| !it.is_empty())) {
                    (Some(number), _) => Some(PageSize::Number(number)),
                    (None, Some(text)) => Some(PageSize::Template(InterpolatedString::new(text, parameters(node)))),
                    _ => None,
                },
                inject_first,
            },
            "PageIncrement" => Strategy::Page {
                page_size: fixed_size(node, at)?,
                start: field(node, "start_from_page").as_i64().unwrap_or(0),
                inject_first,
            },
            other => {
                return Err(Failed::config("UnsupportedComponent", format!("pagination strategy {other} is not supported")));
            }
        })
    }

    fn page_size(&self, at: &EvalContext<'_>) -> Result<Option<i64>, Failed> {
        match self {
            Strategy::Cursor { page_size, .. } | Strategy::Page { page_size, .. } => Ok(*page_size),
            Strategy::Offset { page_size: None, .. } => Ok(None),
            Strategy::Offset { page_size: Some(PageSize::Number(number)), .. } => Ok(Some(*number)),
            Strategy::Offset { page_size: Some(PageSize::Template(template)), .. } => {
                int_of(&template.eval(&at.scope(Vec::new()), &[])?).map(Some)
            }
        }
    }

    fn next(&self, page: &Page<'_>, at: &EvalContext<'_>) -> Result<Option<Value>, Failed> {
        let count = page.extracted as i64;
        match self {
            Strategy::Cursor { value, stop, page_size } => {
                next_cursor(value, stop.as_ref(), page.reduced_size.or(*page_size), page, at)
            }
            Strategy::Page { page_size, start, .. } => {
                if page_size.is_some_and(|size| size != 0 && count < size) || count == 0 {
                    return Ok(None);
                }
                Ok(Some(Value::Int(page.token.map_or(Ok(*start), int_of)?.saturating_add(1))))
            }
            Strategy::Offset { page_size, .. } => {
                let size = match (page.reduced_size, page_size) {
                    (Some(reduced), _) => Some(reduced),
                    (None, None) => None,
                    (None, Some(PageSize::Number(number))) => Some(*number),
                    (None, Some(PageSize::Template(template))) => Some(offset_size(template, page, at)?),
                };
                if size.is_some_and(|size| size != 0 && count < size) || count == 0 {
                    return Ok(None);
                }
                Ok(Some(Value::Int(page.token.map_or(Ok(0), int_of)?.saturating_add(count))))
            }
        }
    }
}

fn offset_size(template: &InterpolatedString, page: &Page<'_>, at: &EvalContext<'_>) -> Result<i64, Failed> {
    let body = first_body(page, at)?;
    let value = template.eval(&at.scope(vec![("response", &body)]), &[])?;
    match value {
        Value::Int(int) => Ok(int),
        Value::Float(float) => Ok(float.ceil() as i64),
        Value::Bool(bool) => Ok(i64::from(bool)),
        falsy if !falsy.truthy() => Ok(0),
        other => {
            let message = format!("'<' not supported between instances of 'int' and '{}'", other.type_name());
            Err(Failed::system("TypeError", message))
        }
    }
}

fn first_body<'p>(page: &Page<'p>, at: &EvalContext<'_>) -> Result<Cow<'p, Value>, Failed> {
    // In Python, this is `next()` of an empty generator.
    page.decoder.first(page.response, at.bounds)?.ok_or_else(|| Failed::system("StopIteration", "the answer has no body"))
}

fn next_cursor(
    value: &InterpolatedString,
    stop: Option<&InterpolatedBoolean>,
    page_size: Option<i64>,
    page: &Page<'_>,
    at: &EvalContext<'_>,
) -> Result<Option<Value>, Failed> {
    let body = first_body(page, at)?;
    let mut headers = page.response.headers_value();
    if let Value::Dict(dict) = &mut headers {
        dict.insert("link".into(), page.response.links());
    }
    let none = Value::None;
    let (count, size) = (Value::Int(page.records as i64), page_size.map_or(Value::None, Value::Int));
    let scope = at.scope_of_slice(vec![
        ("response", &body),
        ("headers", &headers),
        ("last_record", page.last_record.unwrap_or(&none)),
        ("last_page_size", &count),
        ("page_size", &size),
    ]);
    if let Some(stop) = stop
        && stop.eval(&scope)?
    {
        return Ok(None);
    }
    match at.bounds.plain_texts {
        true => Ok(source_text::value(value.render(&scope), None).map(Some)?),
        false => Ok(Some(value.eval(&scope, &[])?)),
    }
}

/// Whether a template reads the variable `page_size`, as opposed to a field with that name.
fn reads_page_size(text: &str) -> bool {
    if !text.contains("{{") && !text.contains("{%") {
        return false;
    }
    let word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices("page_size").any(|(at, found)| {
        let before = text.get(..at).and_then(|it| it.chars().next_back());
        let after = text.get(at + found.len()..).and_then(|it| it.chars().next());
        !before.is_some_and(|c| word(c) || matches!(c, '.' | '\'' | '"')) && !after.is_some_and(word)
    })
}

#[cfg(test)]
mod tests {
    use super::reads_page_size;

    #[test]
    fn a_variable_is_no_field() {
        assert!(reads_page_size("{{ last_page_size < page_size }}"));
        assert!(!reads_page_size("{{ last_page_size < config['page_size'] or response.page_size }}"));
        assert!(!reads_page_size("page_size"));
    }
}
