//! What the list of connections shows: its filters and its order, as the address of the page has them. Pure.

use crate::funnel::Stage;
use crate::model::{Class, Risk, State};
use crate::page::Links;

/// The path of the list.
pub const PATH: &str = "/ui/connections";
/// The path of the list as CSV.
pub const CSV_PATH: &str = "/ui/connections.csv";
/// The value of the parameter `stage` for eligible connections that are not reachable.
pub const NOT_REACHABLE: &str = "not_reachable";
/// The maximum number of characters of a search.
pub const MAX_SEARCH_CHARS: usize = 200;
/// The maximum number of characters of the values of one filter. Every link of the page repeats them.
const MAX_LIST_CHARS: usize = 1000;

/// What the list is ordered by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Column {
    /// By state, the most urgent first; then by family and resource.
    #[default]
    Urgency,
    /// By the time since the connection was first asked for, the newest connection first.
    Age,
    Family,
    Resource,
    Owner,
}

impl Column {
    /// All of them.
    pub const ALL: [Column; 5] = [Column::Urgency, Column::Age, Column::Family, Column::Resource, Column::Owner];

    /// Returns the name in the address of the page.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Column::Urgency => "urgency",
            Column::Age => "age",
            Column::Family => "family",
            Column::Resource => "resource",
            Column::Owner => "owner",
        }
    }
}

/// The order of the list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sort {
    pub column: Column,
    /// In the address of the page, a reversed order has `-` before its name.
    pub is_reversed: bool,
}

/// The filters of the list and its order. A connection is listed if it satisfies every filter; within one filter, one of the
/// values is enough. An empty filter is satisfied by every connection, except that retired ones are listed only on demand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Terms that are separated by spaces. All of them must occur.
    pub search: String,
    pub states: Vec<State>,
    pub families: Vec<String>,
    pub owners: Vec<String>,
    pub risks: Vec<Risk>,
    pub warnings: Vec<Class>,
    /// Keys of causes, see [`crate::funnel::causes`].
    pub causes: Vec<String>,
    pub stages: Vec<Stage>,
    /// As one of the stages: eligible connections that are not reachable. [`Stage`] does not have it, because it is not a number
    /// of the funnel.
    pub is_unreachable: bool,
    pub sort: Sort,
}

impl Filter {
    /// Reads the filter from the parameters of an address. `get` returns the value of a parameter.
    ///
    /// # Errors
    /// Returns a sentence that says which values a parameter accepts.
    pub fn parse(get: impl Fn(&str) -> Option<String>) -> Result<Filter, String> {
        let text = |name: &str| get(name).unwrap_or_default();
        let search = text("q").split_whitespace().collect::<Vec<&str>>().join(" ");
        let chars = search.chars().count();
        if chars > MAX_SEARCH_CHARS {
            return Err(format!("q has {chars} characters; search for at most {MAX_SEARCH_CHARS}."));
        }
        let list = |name: &str| values(name, &text(name));
        let (unreachable, stages): (Vec<String>, Vec<String>) =
            list("stage")?.into_iter().partition(|value| value.eq_ignore_ascii_case(NOT_REACHABLE));
        Ok(Filter {
            search,
            states: named("state", &list("state")?, &State::ALL, State::as_str)?,
            families: list("family")?,
            owners: list("owner")?,
            risks: named("risk", &list("risk")?, &Risk::ALL, Risk::as_str)?,
            warnings: named("warning", &list("warning")?, &Class::ALL, Class::as_str)?,
            causes: list("cause")?,
            stages: named("stage", &stages, &Stage::ALL, Stage::as_str)?,
            is_unreachable: !unreachable.is_empty(),
            sort: sort(&text("sort"))?,
        })
    }

    /// Returns the parameters of the address that shows this list. [`Filter::parse`] reads them again.
    #[must_use]
    pub fn pairs(&self) -> Vec<(&'static str, String)> {
        let sort = match self.sort {
            sort if sort == Sort::default() => String::new(),
            Sort { column, is_reversed } => format!("{}{}", if is_reversed { "-" } else { "" }, column.as_str()),
        };
        let pairs = [
            ("q", self.search.clone()),
            ("state", joined(self.states.iter().map(|state| state.as_str()))),
            ("family", joined(self.families.iter().map(String::as_str))),
            ("owner", joined(self.owners.iter().map(String::as_str))),
            ("risk", joined(self.risks.iter().map(|risk| risk.as_str()))),
            ("warning", joined(self.warnings.iter().map(|class| class.as_str()))),
            ("cause", joined(self.causes.iter().map(String::as_str))),
            ("stage", joined(self.stages.iter().map(|stage| stage.as_str()).chain(self.is_unreachable.then_some(NOT_REACHABLE)))),
            ("sort", sort),
        ];
        pairs.into_iter().filter(|(_, value)| !value.is_empty()).collect()
    }

    /// Whether the list leaves something out, apart from retired connections.
    #[must_use]
    pub fn is_narrow(&self) -> bool {
        *self != Filter { sort: self.sort, ..Filter::default() }
    }

    /// Whether one of the filters is set whose chips are not always visible.
    #[must_use]
    pub fn has_more(&self) -> bool {
        !(self.families.is_empty() && self.owners.is_empty() && self.risks.is_empty() && self.warnings.is_empty())
    }

    /// Returns the address of a page of this list. `path` is [`PATH`] or [`CSV_PATH`].
    #[must_use]
    pub fn address(&self, links: &Links, path: &str, page: usize) -> String {
        let pairs = self.pairs();
        let page = if page > 1 { page.to_string() } else { String::new() };
        let mut all: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (*name, value.as_str())).collect();
        all.push(("page", &page));
        links.to(path, &all)
    }
}

/// Returns the address of the list with one filter, for the numbers and causes of other pages. `name` is the name of the
/// parameter.
#[must_use]
pub fn link(links: &Links, name: &str, value: &str) -> String {
    links.to(PATH, &[(name, &escaped(value))])
}

/// Adds `value` to the list, or removes it.
pub fn toggle<T: PartialEq>(list: &mut Vec<T>, value: T) {
    let before = list.len();
    list.retain(|known| *known != value);
    if list.len() == before {
        list.push(value);
    }
}

/// Commas separate the values of a list, so a comma within a value is escaped.
fn escaped(value: &str) -> String {
    value.replace('%', "%25").replace(',', "%2C")
}

fn joined<'a>(values: impl Iterator<Item = &'a str>) -> String {
    values.map(escaped).collect::<Vec<String>>().join(",")
}

fn values(name: &str, text: &str) -> Result<Vec<String>, String> {
    if text.chars().count() > MAX_LIST_CHARS {
        return Err(format!("{name} has more than {MAX_LIST_CHARS} characters; choose fewer values."));
    }
    let mut values: Vec<String> = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let value = part.replace("%2C", ",").replace("%2c", ",").replace("%25", "%");
        if !values.contains(&value) {
            values.push(value);
        }
    }
    Ok(values)
}

fn named<T: Copy + PartialEq>(name: &str, texts: &[String], all: &[T], as_str: fn(T) -> &'static str) -> Result<Vec<T>, String> {
    let mut found = Vec::new();
    for text in texts {
        let Some(value) = all.iter().copied().find(|value| as_str(*value).eq_ignore_ascii_case(text.trim())) else {
            let names: Vec<&str> = all.iter().map(|value| as_str(*value)).collect();
            return Err(format!("{name} must be one or several of {}, separated by commas.", names.join(", ")));
        };
        if !found.contains(&value) {
            found.push(value);
        }
    }
    Ok(found)
}

fn sort(text: &str) -> Result<Sort, String> {
    if text.is_empty() {
        return Ok(Sort::default());
    }
    let (is_reversed, name) = text.strip_prefix('-').map_or((false, text), |name| (true, name));
    let column = Column::ALL.into_iter().find(|column| column.as_str().eq_ignore_ascii_case(name));
    column.map(|column| Sort { column, is_reversed }).ok_or_else(|| {
        let names = Column::ALL.map(Column::as_str).join(", ");
        format!("sort must be one of {names}, with - before it for the reverse order.")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::sample::subsequence;

    fn parse(pairs: &[(&'static str, String)]) -> Result<Filter, String> {
        Filter::parse(|wanted| pairs.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.clone()))
    }

    fn one(name: &'static str, value: &str) -> Result<Filter, String> {
        parse(&[(name, value.to_string())])
    }

    prop_compose! {
        fn filters()(
            terms in proptest::collection::vec("[^\\s]{1,6}", 0..4),
            states in subsequence(State::ALL.to_vec(), 0..=9),
            (families, owners, causes) in (texts(), texts(), texts()),
            risks in subsequence(Risk::ALL.to_vec(), 0..=3),
            warnings in subsequence(Class::ALL.to_vec(), 0..=3),
            stages in subsequence(Stage::ALL.to_vec(), 0..=3),
            is_unreachable in any::<bool>(),
            column in proptest::sample::select(Column::ALL.to_vec()),
            is_reversed in any::<bool>(),
        ) -> Filter {
            let search = terms.join(" ");
            Filter { search, states, families, owners, risks, warnings, causes, stages, is_unreachable, sort: Sort { column, is_reversed } }
        }
    }

    fn texts() -> impl Strategy<Value = Vec<String>> {
        proptest::collection::btree_set("[a-c%,2C5 ü]{1,8}", 0..4).prop_map(|texts| texts.into_iter().collect())
    }

    proptest! {
        #[test]
        fn the_address_holds_the_whole_filter(filter in filters()) {
            prop_assert_eq!(parse(&filter.pairs()).expect("valid"), filter.clone());
            let address = filter.address(&Links::default(), PATH, 3);
            let query = address.split_once('?').map_or("", |(_, query)| query);
            let pairs: Vec<(String, String)> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
            let get = |wanted: &str| pairs.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
            prop_assert_eq!(get("page"), Some("3".to_string()));
            prop_assert_eq!(Filter::parse(get).expect("valid"), filter);
        }

        #[test]
        fn any_value_is_read_or_refused(value in "\\PC{0,300}", name in proptest::sample::select(vec!["q", "state", "owner", "sort"])) {
            if let Ok(filter) = one(name, &value) {
                prop_assert_eq!(parse(&filter.pairs()).expect("valid"), filter);
            }
        }
    }

    #[test]
    fn lists_are_separated_by_commas_and_an_unknown_value_is_explained() {
        let filter = one("state", "error, ACTIVE,error").expect("states");
        assert_eq!(filter.states, [State::Error, State::Active]);
        assert_eq!(one("owner", "Smith%2C John,a").expect("owners").owners, ["Smith, John", "a"]);
        assert!(one("state", "BROKEN").expect_err("refused").contains("NETWORK_BLOCKED"));
        assert!(one("sort", "size").expect_err("refused").contains("urgency, age"));
        assert_eq!(one("sort", "-age").expect("a sort").sort, Sort { column: Column::Age, is_reversed: true });
        assert!(one("q", &"x".repeat(201)).expect_err("refused").contains("201 characters"));
        assert!(one("owner", &"x".repeat(1001)).is_err());
    }

    #[test]
    fn other_pages_link_to_any_value() {
        let address = link(&Links::default(), "cause", "a,b%c");
        assert_eq!(address, "/ui/connections?cause=a%252Cb%2525c");
        assert_eq!(one("cause", "a%2Cb%25c").expect("a cause").causes, ["a,b%c"]);
    }
}
