use super::super::index::DocumentFacts;
use super::*;
use crate::model::ConnectionId;
use crate::page::connections::filter::toggle;
use proptest::prelude::*;
use proptest::sample::select as one_of;

const NOW: Timestamp = Timestamp(1_000_000);

fn row(namespace: &str, family: &str, resource: &str, owner: &str) -> Row {
    let document = DocumentFacts {
        seq: 1,
        resource: resource.into(),
        others: 0,
        owner: owner.into(),
        lower_owner: owner.to_lowercase().into(),
        risk: Some(Risk::Low),
        text: format!("{}\nenv:token_{family}\n{family}", resource.to_lowercase()).into(),
    };
    Row {
        id: ConnectionId::derive(namespace, family, &[resource.to_string()]),
        changed: 1,
        namespace: namespace.into(),
        family: family.into(),
        state: State::Active,
        is_healthy: true,
        cause: None,
        title: "".into(),
        lower_title: "".into(),
        warnings: 0,
        ends_at: None,
        created: Timestamp(0),
        document: Arc::new(document),
    }
}

prop_compose! {
    fn rows()(
        parts in proptest::collection::vec(
            (one_of(vec!["a", "b"]), one_of(vec!["s3", "jdbc", "slack"]), one_of(vec!["Ann", "Bob", ""]), one_of(State::ALL.to_vec()), 0..3_usize, any::<bool>()),
            0..140,
        ),
    ) -> Vec<Arc<Row>> {
        let mut rows: Vec<Arc<Row>> = Vec::new();
        for (number, (namespace, family, owner, state, kind, flag)) in parts.into_iter().enumerate() {
            let mut row = Row { state, is_healthy: flag, ..row(namespace, family, &format!("R{}", number % 60), owner) };
            row.created = Timestamp(i64::try_from(number % 7).expect("small"));
            if state != State::Active {
                (row.title, row.lower_title) = (format!("Cause {kind}").into(), format!("cause {kind}").into());
                row.cause = Some(format!("k{kind}").into());
            }
            row.warnings = if flag { class_bit(Class::OverPrivileged) } else { 0 };
            row.ends_at = (kind == 0).then_some(NOW);
            rows.push(Arc::new(row));
        }
        rows
    }
}

fn sublist<T: Clone + std::fmt::Debug + 'static>(all: Vec<T>) -> impl Strategy<Value = Vec<T>> {
    prop_oneof![Just(Vec::new()), proptest::sample::subsequence(all, 1..=2)]
}

prop_compose! {
    fn filters()(
        search in one_of(vec!["", "", "r1", "R1 s3", "ann", "cause 1", "TOKEN_slack"]),
        states in sublist(State::ALL.to_vec()),
        families in sublist(vec!["s3".to_string(), "jdbc".to_string(), "fax".to_string()]),
        owners in sublist(vec!["Ann".to_string(), "Bob".to_string()]),
        risks in sublist(Risk::ALL.to_vec()),
        warnings in sublist(vec![Class::OverPrivileged, Class::CredentialEnding]),
        causes in sublist(vec!["k0".to_string(), "k1".to_string()]),
        stages in sublist(Stage::ALL.to_vec()),
        is_unreachable in prop_oneof![3 => Just(false), 1 => Just(true)],
        column in one_of(Column::ALL.to_vec()),
        is_reversed in any::<bool>(),
    ) -> Filter {
        let search = search.to_string();
        Filter { search, states, families, owners, risks, warnings, causes, stages, is_unreachable, sort: Sort { column, is_reversed } }
    }
}

/// What the filter means, written without regard to speed.
fn is_listed(row: &Row, filter: &Filter) -> bool {
    let text = format!("{} {} {}", row.document.text, row.document.owner, row.title).to_lowercase();
    let id = row.id.to_string();
    let warns = |class: &Class| match class {
        Class::CredentialEnding => row.ends_at.is_some(),
        class => row.warnings & class_bit(*class) != 0,
    };
    let states = if filter.states.is_empty() { State::ALL[..8].to_vec() } else { filter.states.clone() };
    filter.search.to_lowercase().split(' ').all(|term| text.contains(term) || id.starts_with(term))
        && states.contains(&row.state)
        && (filter.families.is_empty() || filter.families.iter().any(|family| **family == *row.family))
        && (filter.owners.is_empty() || filter.owners.iter().any(|owner| **owner == *row.document.owner))
        && (filter.risks.is_empty() || filter.risks.contains(&Risk::Low))
        && (filter.warnings.is_empty() || filter.warnings.iter().any(warns))
        && (filter.causes.is_empty() || filter.causes.iter().any(|cause| Some(cause.as_str()) == row.cause.as_deref()))
        && ((filter.stages.is_empty() && !filter.is_unreachable)
            || filter.stages.iter().any(|stage| is_in_stage(row, *stage))
            || (filter.is_unreachable
                && !row.is_healthy
                && matches!(row.state, State::NetworkBlocked | State::Healing | State::Error)))
}

fn ids(rows: &[Arc<Row>]) -> Vec<ConnectionId> {
    rows.iter().map(|row| row.id).collect()
}

proptest! {
    #[test]
    fn the_pages_together_are_what_the_filter_means(rows in rows(), filter in filters()) {
        let all = select(&rows, "a", &filter, NOW, None);
        let mut expected: Vec<&Row> = rows.iter().map(|row| &**row).filter(|row| &*row.namespace == "a" && is_listed(row, &filter)).collect();
        expected.sort_by(|a, b| compare(a, b, filter.sort));
        prop_assert_eq!(ids(&all.found), expected.iter().map(|row| row.id).collect::<Vec<_>>());
        let mut pages = Vec::new();
        for number in 1..=all.total.div_ceil(PAGE_SIZE).max(1) {
            let page = select(&rows, "a", &filter, NOW, Some(number));
            prop_assert_eq!((page.page, page.total), (number, all.total));
            pages.extend(ids(&page.found));
        }
        prop_assert_eq!(pages, ids(&all.found));
    }

    /// The number on a chip is the length of the list after a click on it, if no other value of its filter is set.
    #[test]
    fn the_count_of_a_chip_is_the_length_of_its_list(rows in rows(), filter in filters()) {
        let facets = select(&rows, "a", &filter, NOW, Some(1)).facets;
        let total = |change: &dyn Fn(&mut Filter)| {
            let mut filter = filter.clone();
            change(&mut filter);
            select(&rows, "a", &filter, NOW, Some(1)).total
        };
        for (state, count) in &facets.states {
            prop_assert_eq!(total(&|filter| filter.states = vec![*state]), *count);
        }
        for (family, count) in &facets.families.values {
            prop_assert_eq!(total(&|filter| filter.families = vec![family.clone()]), *count);
        }
        for (owner, count) in &facets.owners.values {
            prop_assert_eq!(total(&|filter| filter.owners = vec![owner.clone()]), *count);
        }
        for (risk, count) in &facets.risks {
            prop_assert_eq!(total(&|filter| filter.risks = vec![*risk]), *count);
        }
        for (class, count) in &facets.warnings {
            prop_assert_eq!(total(&|filter| filter.warnings = vec![*class]), *count);
        }
        for state in &filter.states {
            prop_assert!(facets.states.iter().any(|(known, _)| known == state), "what is set can be removed");
        }
    }

    #[test]
    fn a_value_that_is_toggled_twice_changes_nothing(mut list in proptest::collection::btree_set(0..9_u8, 0..5).prop_map(|set| set.into_iter().collect::<Vec<_>>()), value in 0..9_u8) {
        let before = list.clone();
        toggle(&mut list, value);
        prop_assert_ne!(&list, &before);
        toggle(&mut list, value);
        list.sort_unstable();
        prop_assert_eq!(list, before);
    }
}

#[test]
fn an_id_is_found_by_its_beginning() {
    let rows = vec![Arc::new(row("a", "s3", "bucket", "Ann")), Arc::new(row("a", "s3", "other", "Ann"))];
    let id = rows[1].id.to_string();
    for length in [8, 13, 36] {
        let filter = Filter { search: id[..length].to_uppercase(), ..Filter::default() };
        assert_eq!(ids(&select(&rows, "a", &filter, NOW, Some(1)).found), [rows[1].id], "{}", filter.search);
    }
    let filter = Filter { search: id[9..20].to_string(), ..Filter::default() };
    assert_eq!(select(&rows, "a", &filter, NOW, Some(1)).total, 0, "the middle of an id is not its beginning");
}

#[test]
fn the_most_frequent_texts_are_offered_and_the_chosen_ones() {
    let counts: HashMap<&str, usize> =
        ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n"].into_iter().zip(1..).collect();
    let facet = most_frequent(counts, &["a".to_string(), "gone".to_string()]);
    assert_eq!(facet.values.len(), 14);
    assert_eq!(facet.values.first(), Some(&("n".to_string(), 14)));
    assert_eq!(facet.values.last(), Some(&("gone".to_string(), 0)));
    assert!(facet.values.contains(&("a".to_string(), 1)) && !facet.values.iter().any(|(text, _)| text == "b"));
    assert_eq!(facet.more, 1);
    let long = "x".repeat(MAX_CHIP_BYTES + 1);
    assert_eq!(most_frequent(HashMap::from([(long.as_str(), 3)]), &[]), TextFacet { values: Vec::new(), more: 1 });
}

#[test]
fn the_text_of_a_cause_leaves_out_what_differs() {
    let blocked = |resource: &str, title: &str| {
        let row = row("a", "s3", resource, "Ann");
        Arc::new(Row { cause: Some("k".into()), title: title.into(), state: State::Error, ..row })
    };
    let same = [blocked("1", "bucket x1 was not found"), blocked("2", "bucket x1 was not found")];
    assert_eq!(cause_text(&same, "a", "k"), "bucket x1 was not found");
    let different = [blocked("1", "bucket x1 was not found"), blocked("2", "bucket y2 was not found")];
    let text = cause_text(&different, "a", "k");
    assert!(!text.contains("x1") && text.contains("was not found"), "{text}");
    assert_eq!(cause_text(&same, "b", "k"), "cause k");
}
