use super::*;
use crate::bounds::Bounds;
use crate::load::load;

const TEXT: &str = r##"
version: '1'
check: {stream_names: [users]}
streams:
  - name: users
    incremental_sync: {type: DatetimeBasedCursor, cursor_field: at, datetime_format: '%s', start_datetime: '1'}
    retriever:
      requester:
        url_base: "https://{{ config['region'] }}.example.com/v1/"
        path: /users
        authenticator: {type: OAuthAuthenticator, token_refresh_endpoint: "https://login.example.com/token", client_secret: "{{ config['s'] }}"}
      record_selector: {extractor: {field_path: []}}
      paginator: {type: DefaultPaginator, pagination_strategy: {type: PageIncrement}}
  - name: posts
    retriever:
      requester: {url_base: https://api.example.com, path: "users/{{ stream_partition.id }}/posts", http_method: POST}
      record_selector: {extractor: {field_path: []}}
      partition_router:
        - {type: ListPartitionRouter, cursor_field: kind, values: [a]}
        - {type: SubstreamPartitionRouter, parent_stream_configs: [{parent_key: id, partition_field: id, stream: '#/streams/0'}]}
spec: {connection_specification: {properties: {c: {oneOf: [{properties: {s: {airbyte_secret: true}}}]}}}}
"##;

#[test]
fn a_person_reads_what_would_be_called() {
    let manifest = load(TEXT, "m.yaml", &Bounds::default()).unwrap_or_else(|problems| panic!("{problems:?}"));
    let explained = explain(&manifest);
    let hosts: Vec<&str> = explained.hosts.iter().map(String::as_str).collect();
    assert_eq!(hosts, ["api.example.com", "login.example.com", "{{ config['region'] }}.example.com"]);
    assert_eq!(explained.secrets, ["c.s"]);
    assert_eq!(
        explained.render(),
        "hosts:    api.example.com, login.example.com, {{ config['region'] }}.example.com\n\
         methods:  GET, POST\n\
         auth:     NoAuth, OAuthAuthenticator\n\
         secrets:  c.s\n\
         check:    users\n\
         streams:  2\n\
         \x20 users\n\
         \x20   GET https://{{ config['region'] }}.example.com/v1/users  (OAuthAuthenticator; pages: PageIncrement)\n\
         \x20   since: at\n\
         \x20 posts\n\
         \x20   POST https://api.example.com/users/{{ stream_partition.id }}/posts  (NoAuth; pages: none)\n\
         \x20   for each: list by kind\n\
         \x20   for each: records of users\n"
    );
}

#[test]
fn classes_are_named_with_their_places_and_streams() {
    let text = TEXT
        .replace("{extractor: {field_path: []}}\n      paginator", "{extractor: {class_name: own.Take}}\n      paginator")
        .replace(
            "  - name: posts\n",
            "  - name: posts\n    state_migrations: [{type: CustomStateMigration, class_name: own.Old}]\n",
        )
        + "  # end\n";
    let manifest = load(&text, "m.yaml", &Bounds::default()).unwrap_or_else(|problems| panic!("{problems:?}"));
    let more = load(
        &text.replace(
            "stream: '#/streams/0'",
            "stream: {name: p, retriever: {requester: {url_base: https://p.example}, \
        record_selector: {extractor: {field_path: []}}}}",
        ),
        "m.yaml",
        &Bounds::default(),
    )
    .unwrap();
    let named = |manifest: &_| -> Vec<(String, Vec<String>, Vec<String>)> {
        let all = explain(manifest).classes.into_iter();
        all.map(|it| (it.class, it.places.into_iter().collect(), it.streams)).collect()
    };
    let class = |name: &str, place: &str, streams: &[&str]| {
        (name.to_owned(), vec![format!("m.yaml:{place}")], streams.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>())
    };
    assert_eq!(named(&manifest), [class("own.Take", "12:25", &["users", "posts"]), class("own.Old", "15:24", &["posts"])]);
    assert_eq!(named(&more), [class("own.Take", "12:25", &["users"]), class("own.Old", "15:24", &["posts"])]);
    let explained = explain(&more);
    assert_eq!(
        (explained.checked.as_slice(), explained.not_checked.as_slice()),
        (&["posts".to_owned()][..], &["users".to_owned()][..])
    );
    let rendered = explained.render();
    for line in [
        "check:    posts\n          not users, which cannot be read here\n",
        "classes:  2\n  own.Take\n    `CustomRecordExtractor` runs the class `own.Take`, which only Python can run\n    at: m.yaml:12:25\n    streams: users\n",
        "`CustomStateMigration` with the class `own.Old` is not used: a read without a state migrates nothing",
    ] {
        assert!(rendered.contains(line), "{line} in {rendered}");
    }
}
