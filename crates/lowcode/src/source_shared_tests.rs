use super::*;
use crate::load::load;
use crate::script::{Script, json};
use futures_util::FutureExt;

/// Returns a manifest with the stream `s`. `requester` and `retriever` are additional fields of these components,
/// `more` is additional fields of the stream.
fn manifest(requester: &str, retriever: &str, more: &str) -> SharedManifest {
    let text = format!(
        r#"{{"version": "6.0.0", "type": "DeclarativeSource", "check": {{"type": "CheckStream", "stream_names": ["s"]}},
        "spec": {{"type": "Spec", "connection_specification": {{"type": "object",
            "properties": {{"key": {{"type": "string", "airbyte_secret": true}}}}}}}},
        "streams": [{{"type": "DeclarativeStream", "name": "s", {more} "retriever": {{"type": "SimpleRetriever", {retriever}
            "requester": {{"type": "HttpRequester", {requester}}},
            "record_selector": {{"type": "RecordSelector", "extractor": {{"type": "DpathExtractor", "field_path": ["r"]}}}}}}}}]}}"#
    );
    SharedManifest::new(load(&text, "m.yaml", &Bounds::default()).unwrap_or_else(|problems| panic!("{problems:?}")))
}

/// Reads as one connection of `manifest` with `config`. Returns the stream, the URLs of its requests, and the result.
fn read(manifest: &SharedManifest, config: &str, body: &'static str) -> (Arc<Stream>, Vec<String>, Result<String, Failed>) {
    let (config, bounds, host) = (json(config), Bounds::default(), Script::new(&[("https", body)]));
    let ctx = manifest.context(&config, &host, &bounds);
    let run = Run::new(&ctx);
    let source = manifest.builder(ctx).all_streams(&run).now_or_never().unwrap().unwrap_or_else(|failed| panic!("{failed:?}"));
    let stream = Arc::clone(&source.streams[0]);
    let records = async {
        let mut records = Vec::new();
        let mut slices = stream.slices(&run)?;
        while let Some(slice) = slices.next().await? {
            let mut page = stream.records(&run, slice).await?;
            while let Some(record) = page.next().await? {
                records.push(record.repr());
            }
        }
        Ok(records.join(" "))
    };
    let records = records.now_or_never().unwrap();
    let calls = host.calls.lock().unwrap();
    let shown = calls.iter().map(|call| format!("{} {:?} {}", call.url, call.headers, call.secret_in_url)).collect();
    (Arc::clone(&stream), shown, records)
}

const OWN: &str = r#""url_base": "{{ config['url'] }}", "path": "/{{ config['shop'] }}", "authenticator":
    {"type": "BearerAuthenticator", "api_token": "{{ config['key'] }}"}, "request_parameters": {"k": "{{ config['key'] }}"}"#;
const LABEL: &str =
    r#""transformations": [{"type": "AddFields", "fields": [{"path": ["of"], "value": "{{ config['shop'] }}"}]}],"#;

#[test]
fn a_shared_stream_holds_nothing_of_who_used_it_first() {
    let manifest = manifest(OWN, "", LABEL);
    let config = |name: &str| format!(r#"{{"url": "https://{name}.example", "shop": "shop-{name}", "key": "key-of-{name}-1"}}"#);
    let mut streams: Vec<Arc<Stream>> = Vec::new();
    // A config value that looks like a template must not be evaluated as a template for other connections.
    let odd = r#"{"url": "https://{{ config['url'] }}", "shop": "{{ config['shop'] }}", "key": "{{ config['key'] }}"}"#;
    let _ = read(&manifest, odd, r#"{"r": []}"#);
    for name in ["ada", "bob", "ada"] {
        let (stream, calls, records) = read(&manifest, &config(name), r#"{"r": [{"id": 1}]}"#);
        assert!(streams.iter().all(|known| Arc::ptr_eq(known, &stream)), "all connections have one stream");
        let header = format!(r#"("Authorization", "Bearer key-of-{name}-1")"#);
        assert!(calls.len() == 1 && calls[0].contains(&header), "{calls:?}");
        assert!(calls[0].starts_with(&format!("https://{name}.example/shop-{name}?k=key-of-{name}-1 ")), "{calls:?}");
        assert!(calls[0].ends_with("true"), "a secret in the address is seen by the secrets of its own config");
        assert_eq!(records.unwrap(), format!("{{'id': 1, 'of': 'shop-{name}'}}"));
        streams.push(stream);
    }
    let failed = read(&manifest, &config("bob"), r#"!{"message": "wrong: key-of-bob-1, not key-of-ada-1"}"#).2.unwrap_err();
    assert!(format!("{failed:?}").contains("wrong: ****, not key-of-ada-1"), "{failed:?}");
    assert!(Arc::strong_count(&streams[0]) > 3, "the manifest keeps it");
    assert_eq!(format!("{:?}", manifest.streams), "SharedStreams(1)");
}

#[test]
fn what_was_built_with_a_look_at_a_config_is_not_shared() {
    let plain = r#""url_base": "https://h.example", "path": "/a""#;
    let with = |more: &str| format!("{plain}, {more}");
    let router = |router: &str| format!(r#""partition_router": {router},"#);
    let parent = |requester: &str| {
        router(&format!(
            r#"{{"type": "SubstreamPartitionRouter", "parent_stream_configs": [{{"type": "ParentStreamConfig", "parent_key": "id",
            "partition_field": "p", "stream": {{"type": "DeclarativeStream", "name": "parent", "retriever":
            {{"type": "SimpleRetriever", "requester": {{"type": "HttpRequester", {requester}}},
            "record_selector": {{"type": "RecordSelector", "extractor": {{"type": "DpathExtractor", "field_path": ["r"]}}}}}}}}}}]}}"#
        ))
    };
    let paged = |size: &str| {
        format!(
            r#""paginator": {{"type": "DefaultPaginator", "page_size_option": {{"type": "RequestOption",
            "inject_into": "request_parameter", "field_name": "n"}},
            "pagination_strategy": {{"type": "OffsetIncrement", "page_size": {size}}}}},"#
        )
    };
    let cursor = |start: &str| {
        format!(
            r#""incremental_sync": {{"type": "DatetimeBasedCursor", "cursor_field": "u", "datetime_format": "%Y-%m-%d",
            "start_datetime": "{start}", "end_datetime": "2025-01-01"}},"#
        )
    };
    let login = r#""authenticator": {"type": "SessionTokenAuthenticator", "session_token_path": ["t"], "expiration_duration": "PT1H",
        "login_requester": {"type": "HttpRequester", "url_base": "https://h.example", "path": "/login"},
        "request_authentication": {"type": "Bearer"}}"#;
    let selected = r#""authenticator": {"type": "SelectiveAuthenticator", "authenticator_selection_path": ["kind"], "authenticators":
        {"a": {"type": "BearerAuthenticator", "api_token": "{{ config['key'] }}"}, "b": {"type": "NoAuth"}}}"#;
    let oauth = r#""authenticator": {"type": "OAuthAuthenticator", "token_refresh_endpoint": "https://h.example/t",
        "client_id": "i", "client_secret": "s", "refresh_token": "r"}"#;
    let jwt = r#""authenticator": {"type": "JwtAuthenticator", "algorithm": "HS256", "secret_key": "{{ config['key'] }}"}"#;
    let asked = r#""schema_loader": {"type": "DynamicSchemaLoader", "retriever": {"type": "SimpleRetriever",
        "requester": {"type": "HttpRequester", "url_base": "https://h.example", "path": "/schema"},
        "record_selector": {"type": "RecordSelector", "extractor": {"type": "DpathExtractor", "field_path": ["r"]}}},
        "schema_type_identifier": {"type": "SchemaTypeIdentifier", "key_pointer": ["name"]}},"#;
    let retries =
        |retries: &str| with(&format!(r#""error_handler": {{"type": "DefaultErrorHandler", "max_retries": {retries}}}"#));
    let cases = [
        ("nothing special", plain.to_owned(), String::new(), String::new(), true),
        ("a token of the config", OWN.to_owned(), String::new(), LABEL.to_owned(), true),
        ("a fixed page size", plain.to_owned(), paged("5"), String::new(), true),
        ("a page size of the config", plain.to_owned(), paged(r#""{{ config['n'] }}""#), String::new(), false),
        ("fixed retries", retries("3"), String::new(), String::new(), true),
        ("retries of the config", retries(r#""{{ config['n'] }}""#), String::new(), String::new(), false),
        ("a list", plain.to_owned(), router(LIST), String::new(), true),
        (
            "a list of the config",
            plain.to_owned(),
            router(&LIST.replace(r#"["x"]"#, r#""{{ config['l'] }}""#)),
            String::new(),
            false,
        ),
        ("a parent", plain.to_owned(), parent(plain), String::new(), true),
        ("a parent with a login", plain.to_owned(), parent(&with(login)), String::new(), false),
        ("a login", with(login), String::new(), String::new(), false),
        ("a choice by the config", with(selected), String::new(), String::new(), false),
        ("OAuth", with(oauth), String::new(), String::new(), false),
        ("JWT", with(jwt), String::new(), String::new(), false),
        ("a start of the config", plain.to_owned(), String::new(), cursor("{{ config['start'] }}"), false),
        ("a cursor", plain.to_owned(), String::new(), cursor("2024-12-01"), false),
        ("a start by the clock", plain.to_owned(), String::new(), cursor("{{ now_utc().strftime('%Y-%m-%d') }}"), false),
        ("a schema that is asked for", plain.to_owned(), String::new(), asked.to_owned(), false),
    ];
    let (config, bounds, host) = (json(CONFIG), Bounds::default(), Script::new(&[]));
    for (name, requester, retriever, more, shared) in cases {
        let manifest = manifest(&requester, &retriever, &more);
        let built = || {
            let builder = manifest.builder(manifest.context(&config, &host, &bounds));
            builder.static_streams().unwrap_or_else(|failed| panic!("{name}: {failed:?}")).streams.remove(0)
        };
        assert!(built().refused().is_none(), "{name}");
        assert_eq!(Arc::ptr_eq(&built(), &built()), shared, "{name}");
    }
}

const LIST: &str = r#"{"type": "ListPartitionRouter", "cursor_field": "p", "values": ["x"]}"#;
const CONFIG: &str = r#"{"kind": "a", "key": "k", "n": 7, "l": ["y"], "start": "2024-12-01"}"#;

/// Whether responses are cached for child streams depends on which other streams exist, and that depends on the config.
#[test]
fn a_stream_with_children_is_another_one() {
    let child = r##"{"type": "ConditionalStreams", "condition": "{{ config['c'] }}", "streams": [{"type": "DeclarativeStream",
        "name": "c", "retriever": {"type": "SimpleRetriever", "requester": {"type": "HttpRequester",
        "url_base": "https://h.example", "path": "/c"}, "record_selector": {"type": "RecordSelector", "extractor":
        {"type": "DpathExtractor", "field_path": ["r"]}}, "partition_router": {"type": "SubstreamPartitionRouter",
        "parent_stream_configs": [{"type": "ParentStreamConfig", "parent_key": "id", "partition_field": "p",
        "stream": {"$ref": "#/streams/0"}}]}}}]}"##;
    let text = manifest(r#""url_base": "https://h.example", "path": "/a""#, "", "").text().to_owned();
    let text = text.strip_suffix("]}").unwrap().to_owned() + "," + child + "]}";
    let manifest = SharedManifest::new(load(&text, "m.yaml", &Bounds::default()).unwrap());
    let (bounds, host) = (Bounds::default(), Script::new(&[]));
    let built = |config: &str| {
        let config = json(config);
        manifest.builder(manifest.context(&config, &host, &bounds)).static_streams().unwrap().streams
    };
    let (with, without) = (built(r#"{"c": true}"#), built(r#"{"c": false}"#));
    assert_eq!((with.len(), without.len()), (2, 1));
    assert!(!Arc::ptr_eq(&with[0], &without[0]));
    assert!(Arc::ptr_eq(&with[0], &built(r#"{"c": true}"#)[0]));
    assert!(!Arc::ptr_eq(&with[1], &built(r#"{"c": true}"#)[1]), "a conditional stream is not shared");
}

#[test]
fn reads_are_independent_unless_requests_are_repeated() {
    let plain = r#""url_base": "https://h.example", "path": "/a""#;
    let with = |more: &str| format!("{plain}, {more}");
    let login = r#"{"type": "SessionTokenAuthenticator", "login_requester": {"type": "HttpRequester", "url_base": "https://h.example"},
        "session_token_path": ["t"], "request_authentication": {"type": "Bearer"}}"#;
    let bearer = r#"{"type": "BearerAuthenticator", "api_token": "x"}"#;
    let selective = with(&format!(
        r#""authenticator": {{"type": "SelectiveAuthenticator", "authenticator_selection_path": ["by"],
            "authenticators": {{"token": {bearer}, "login": {login}}}}}"#
    ));
    let router = r#""partition_router": {"type": "SubstreamPartitionRouter", "parent_stream_configs": [{"type": "ParentStreamConfig",
        "parent_key": "id", "partition_field": "p", "stream": {"type": "DeclarativeStream", "name": "parent", "retriever":
        {"type": "SimpleRetriever", "requester": {"type": "HttpRequester", "url_base": "https://h.example", "path": "/p"},
        "record_selector": {"type": "RecordSelector", "extractor": {"type": "DpathExtractor", "field_path": ["r"]}}}}}]},"#;
    let independent = |requester: &str, retriever: &str, config: &str, names: &[&str]| {
        manifest(requester, retriever, "").reads_are_independent(&json(config), names.iter().copied())
    };
    assert!(independent(plain, "", "{}", &["s"]));
    assert!(independent(&with(&format!(r#""authenticator": {bearer}"#)), "", "{}", &["s"]));
    assert!(!independent(plain, "", "{}", &["s", "made_by_a_dynamic_stream"]));
    assert!(!independent(&with(&format!(r#""authenticator": {login}"#)), "", "{}", &["s"]));
    let lasting = login.replace(
        "{\"type\": \"SessionTokenAuthenticator\",",
        "{\"type\": \"SessionTokenAuthenticator\", \"expiration_duration\": \"PT1H\",",
    );
    assert!(independent(&with(&format!(r#""authenticator": {lasting}"#)), "", "{}", &["s"]), "the streams share its token");
    assert!(independent(&with(r#""use_cache": true"#), "", "{}", &["s"]));
    assert!(independent(plain, router, "{}", &["s"]), "the host sends the requests of a parent once");
    assert!(independent(&selective, "", r#"{"by": "token"}"#, &["s"]));
    assert!(!independent(&selective, "", r#"{"by": "login"}"#, &["s"]));
    assert!(!independent(&selective, "", "{}", &["s"]), "no authenticator is selected");
}
