use crate::bounds::Bounds;
use crate::context::{Context, Run};
use crate::load::{Manifest, load};
use crate::script::{Script, json};
use crate::source::SourceBuilder;
use crate::{check, explain};
use futures_util::FutureExt;

const TEXT: &str = r#"
version: '1'
check: {type: CheckStream, stream_names: [CHECKED]}
definitions:
  requester: {type: HttpRequester, url_base: https://h.example, path: /a}
  selector: {type: RecordSelector, extractor: {type: DpathExtractor, field_path: [r]}}
  job:
    type: AsyncRetriever
    creation_requester: '#/definitions/requester'
    polling_requester: '#/definitions/requester'
    download_requester: '#/definitions/requester'
    record_selector: '#/definitions/selector'
    status_extractor: {type: DpathExtractor, field_path: [status]}
    status_mapping: {running: [a], completed: [b], failed: [c], timeout: [d]}
streams:
  - {type: DeclarativeStream, name: plain, retriever: {type: SimpleRetriever, requester: '#/definitions/requester',
      record_selector: '#/definitions/selector'}}
  - {type: DeclarativeStream, name: report, retriever: '#/definitions/job', primary_key: id}
  - type: DeclarativeStream
    name: child
    retriever:
      type: SimpleRetriever
      requester: '#/definitions/requester'
      record_selector: '#/definitions/selector'
      partition_router:
        type: SubstreamPartitionRouter
        parent_stream_configs: [{type: ParentStreamConfig, parent_key: id, partition_field: id, stream: '#/streams/1'}]
  - type: DeclarativeStream
    name: sized
    retriever:
      type: SimpleRetriever
      requester: '#/definitions/requester'
      record_selector: '#/definitions/selector'
      page_size_reduction: {type: PageSizeReduction}
"#;

fn manifest(text: &str) -> Manifest {
    load(text, "m.yaml", &Bounds::default()).unwrap_or_else(|problems| panic!("{problems:?}"))
}

#[test]
fn streams_are_refused_one_by_one_at_load() {
    let manifest = manifest(TEXT);
    assert!(manifest.runnable().is_ok());
    let warnings: Vec<String> = manifest.refused_streams().iter().map(|it| it.warning().to_string()).collect();
    assert_eq!(
        warnings,
        [
            "m.yaml:18:56: warning: the stream `report` cannot be read: `AsyncRetriever` is not supported",
            "m.yaml:18:56: warning: the stream `child` cannot be read: `AsyncRetriever` is not supported",
            "m.yaml:34:7: warning: the stream `sized` cannot be read: `PageSizeReduction` is not supported",
        ]
    );
    let explained = explain::explain(&manifest);
    let refused: Vec<usize> = explained.streams.iter().map(|it| it.refused.len()).collect();
    assert_eq!(refused, [0, 1, 1, 1]);
}

#[test]
fn a_refused_stream_is_listed_and_the_others_are_read() {
    let (manifest, config, bounds) = (manifest(TEXT), json("{}"), Bounds::default());
    let host = Script::new(&[("/a", r#"{"r": [{"id": 1}]}"#)]);
    let ctx = Context::new(&manifest.root, &config, &host, &bounds);
    let run = Run::new(&ctx);
    let source = SourceBuilder::new(ctx).all_streams(&run).now_or_never().unwrap().unwrap();
    let names: Vec<(&str, bool)> = source.streams.iter().map(|it| (it.name.as_str(), it.refused().is_some())).collect();
    assert_eq!(names, [("plain", false), ("report", true), ("child", true), ("sized", true)]);
    let failed = source.stream("child").unwrap().slices(&run).err().unwrap();
    assert_eq!(
        (failed.class, failed.message.as_str()),
        ("UnsupportedComponent", "`AsyncRetriever` is not supported (m.yaml:18:56)")
    );
    assert!(check::available(source.stream("plain").unwrap(), &run).now_or_never().unwrap().unwrap().is_none());
}

#[test]
fn a_check_of_a_refused_stream_makes_no_call() {
    let (config, bounds) = (json("{}"), Bounds::default());
    let checked = |names: &str| {
        let manifest = manifest(&TEXT.replace("CHECKED", names));
        let host = Script::new(&[("/a", r#"{"r": [{"id": 1}]}"#)]);
        let ctx = Context::new(&manifest.root, &config, &host, &bounds);
        let answer = check::check(&ctx, &Run::new(&ctx)).now_or_never().unwrap().unwrap();
        (answer, host.urls().len())
    };
    let reason = "Stream report is not available: `AsyncRetriever` is not supported (m.yaml:18:56)";
    assert_eq!(checked("plain, report"), (Err(reason.to_owned()), 0));
    assert_eq!(checked("plain"), (Ok(()), 1));
}

#[test]
fn outside_of_streams_and_with_a_class_the_manifest_is_refused() {
    let resolver = "\ndynamic_streams: [{type: DynamicDeclarativeStream, stream_template: '#/streams/0', components_resolver: \
        {type: HttpComponentsResolver, retriever: '#/definitions/job', components_mapping: []}}]\n";
    let problems = manifest(&(TEXT.to_owned() + resolver)).runnable().unwrap_err();
    assert_eq!(problems[0].message, "`AsyncRetriever` is not supported");
    let class = TEXT.replace("extractor: {type: DpathExtractor, field_path: [r]}", "extractor: {class_name: a.B}");
    assert_eq!(manifest(&class).runnable().unwrap_err()[0].class.as_deref(), Some("a.B"));
}

#[test]
fn a_value_or_a_field_may_be_what_is_not_run() {
    let signed = "requester: {type: HttpRequester, authenticator: {type: JwtAuthenticator, secret_key: k, algorithm: ES512},";
    let text = TEXT.replacen("requester: {type: HttpRequester,", signed, 1);
    let refused = manifest(&text);
    assert_eq!(refused.refused_streams().len(), 4);
    assert_eq!(refused.refused_streams()[0].problems[0].message, "`algorithm` ES512 of `JwtAuthenticator` is not supported");
    assert_eq!(manifest(&text.replace("ES512", "ES256")).refused_streams().len(), 3);
}
