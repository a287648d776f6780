//! Lists and their pages.

use crate::config::{Answer, List, Paging};
use crate::request::Request;
use crate::template::Scope;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use minijinja::Value;
use ring::hmac;

/// The part of a list that one request gets.
pub struct Page {
    pub items: Vec<Value>,
    /// The parameter of the next page.
    pub next: Option<Value>,
    pub offset: u64,
    pub size: u64,
    pub total: u64,
    /// The number of this page, from 1.
    pub number: u64,
}

pub enum PageResult<'a> {
    Page(Page),
    /// The cursor is not one of this list.
    BadCursor,
    /// The size is more than the maximum, and the vendor refuses that.
    OverMax(&'a Answer),
}

/// Cuts the page that `request` asks for. `place` is what a cursor belongs to.
pub fn page<'a>(list: &'a List, all: &[Value], request: &Request, place: &str) -> PageResult<'a> {
    let parameter = |name: &str| request.parameter(&list.parameters, name).filter(|value| !value.is_empty());
    let asked: Option<u64> = list.size.as_deref().and_then(parameter).and_then(|value| value.trim().parse().ok());
    if let Some(answer) = list.over_max.as_ref().filter(|_| asked.is_some_and(|size| size > list.max)) {
        return PageResult::OverMax(answer);
    }
    let size = asked.filter(|size| *size > 0).unwrap_or(list.default).min(list.max);
    let total = all.len() as u64;
    let offset = match &list.paging {
        Paging::None => 0,
        Paging::Cursor(name) => match parameter(name) {
            None => 0,
            Some(cursor) => match read_cursor(&cursor, place) {
                Some(offset) => offset,
                None => return PageResult::BadCursor,
            },
        },
        Paging::Offset { name, first, pages } => {
            let Ok(number) = parameter(name).map_or(Ok(*first), |value| value.trim().parse::<u64>()) else {
                return PageResult::BadCursor;
            };
            let number = number.saturating_sub(*first);
            if *pages { number.saturating_mul(size) } else { number }
        }
    };
    let end = offset.saturating_add(size).min(total);
    let next = (end < total).then(|| match &list.paging {
        Paging::None => None,
        Paging::Cursor(_) => Some(Value::from(cursor(end, place))),
        Paging::Offset { first, pages: true, .. } => Some(Value::from(offset / size.max(1) + 1 + first)),
        Paging::Offset { first, .. } => Some(Value::from(end + first)),
    });
    let at = |number: u64| usize::try_from(number).unwrap_or(usize::MAX).min(all.len());
    let items = all.get(at(offset)..at(end.max(offset))).unwrap_or_default().to_vec();
    PageResult::Page(Page { items, next: next.flatten(), offset, size, total, number: offset / size.max(1) + 1 })
}

impl Page {
    /// A page without items, as a caller sees it that may see none.
    pub fn without_items(size: u64) -> Page {
        Page { items: Vec::new(), next: None, offset: 0, size, total: 0, number: 1 }
    }

    /// Adds the names that answers of lists use.
    pub fn name(&self, list: &List, request: &Request, scope: &mut Scope) {
        scope.set("items", Value::from(self.items.clone()));
        scope.set("offset", self.offset);
        scope.set("size", self.size);
        scope.set("total", self.total);
        scope.set("page", self.number);
        scope.set("pages", self.total.div_ceil(self.size.max(1)));
        let parameter = match &list.paging {
            Paging::None => None,
            Paging::Cursor(name) | Paging::Offset { name, .. } => Some(name),
        };
        if let (Some(next), Some(parameter)) = (&self.next, parameter) {
            scope.set("next", next.clone());
            scope.set("next_url", request.address_with(parameter, &next.to_string()));
        }
    }
}

/// Cursors are signed, so that a client that makes its own is found out. The key is public.
fn key() -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, b"cursors of the sandbox")
}

fn cursor(offset: u64, place: &str) -> String {
    let tag = hmac::sign(&key(), format!("{offset} {place}").as_bytes());
    let mut bytes = offset.to_be_bytes().to_vec();
    bytes.extend_from_slice(tag.as_ref().get(..8).unwrap_or_default());
    URL_SAFE_NO_PAD.encode(bytes)
}

fn read_cursor(text: &str, place: &str) -> Option<u64> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let offset = u64::from_be_bytes(bytes.get(..8)?.try_into().ok()?);
    (cursor(offset, place) == text).then_some(offset)
}
