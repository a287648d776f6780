use super::*;
use crate::context::{Context, Run};
use crate::error::Failed;
use crate::host::HostRequest;
use crate::load::{Manifest, load_with};
use crate::script::Script;
use crate::source::SourceBuilder;
use futures_util::FutureExt;

const TEXT: &str = r#"
version: '1'
check: {stream_names: [a]}
streams:
  - name: a
    transformations: [{type: RemoveFields, field_pointers: [[x]]}]
    retriever:
      requester: {url_base: https://h.example, authenticator: {class_name: own.Login, user: me, ask: {path: /login}}}
      record_selector: {extractor: {class_name: source_declarative_manifest.components.Take, field_path: [data], other: 1}}
  - name: b
    retriever: {requester: {url_base: https://h.example}, record_selector: {extractor: {field_path: []}}}
"#;

const OVERLAY: &str = r#"
marks: [h.example]
classes:
  own.Login:
    instead: {type: BasicHttpAuthenticator, username: {$field: user}, password: {$field: secret}}
    differs: the password is left out
  components.Take:
    instead: {type: DpathExtractor, aam_wrap: w}
    transformations: [{type: KeysToLower}]
"#;

fn overlay(text: &str) -> Overlay {
    Overlay::parse(text, "o", &Bounds::default()).unwrap()
}

fn with(overlays: &[Overlay]) -> Manifest {
    load_with(TEXT, "m.yaml", overlays, &Bounds::default()).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn json(value: &Value, pointer: &str) -> String {
    serde_json::to_value(value).unwrap().pointer(pointer).unwrap().to_string()
}

#[test]
fn native_components_take_the_place_of_classes() {
    let manifest = with(&[overlay(OVERLAY)]);
    assert!(manifest.runnable().is_ok() && manifest.refused_streams().is_empty(), "{:?}", manifest.unsupported);
    let stream = &manifest.root.get("streams").and_then(Value::as_list).unwrap()[0];
    let auth = json(stream, "/retriever/requester/authenticator");
    assert_eq!(auth, r#"{"type":"BasicHttpAuthenticator","username":"me"}"#);
    let extractor = json(stream, "/retriever/record_selector/extractor");
    assert_eq!(extractor, r#"{"aam_wrap":"w","field_path":["data"],"type":"DpathExtractor"}"#);
    assert_eq!(json(stream, "/transformations/0"), r#"{"type":"KeysToLower"}"#);
    assert_eq!(json(stream, "/transformations/1/type"), r#""RemoveFields""#);
    let [differing] = manifest.differing_streams() else { panic!("{:?}", manifest.differing_streams()) };
    assert!(differing.problems[0].message.contains("the password is left out"));
    let uses: Vec<_> = manifest.classes().iter().map(|it| (it.class.as_str(), it.stream.as_deref())).collect();
    assert_eq!(uses, [("own.Login", Some("a")), ("source_declarative_manifest.components.Take", Some("a"))]);
}

#[test]
fn an_overlay_of_another_source_changes_nothing() {
    let other = with(&[overlay(&OVERLAY.replace("h.example", "else.example"))]);
    assert_eq!(other.refused_streams().len(), 1);
    // The first overlay that names the class wins.
    let nothing = overlay("classes: {Login: {instead: nothing, differs: no login}}");
    let both = with(&[nothing, overlay(OVERLAY)]);
    let stream = &both.root.get("streams").and_then(Value::as_list).unwrap()[0];
    assert!(stream.get("retriever").and_then(|it| it.get("requester")?.get("authenticator")).is_none());
}

#[test]
fn a_field_is_merged_with_more_keys() {
    let text = "classes: {Login: {instead: {type: SessionTokenAuthenticator, session_token_path: [t], request_authentication: \
        {type: Bearer}, login_requester: {$field: ask, type: HttpRequester, http_method: POST}}}}";
    let manifest = with(&[overlay(text)]);
    let stream = &manifest.root.get("streams").and_then(Value::as_list).unwrap()[0];
    let login = json(stream, "/retriever/requester/authenticator/login_requester");
    assert_eq!(login, r#"{"http_method":"POST","path":"/login","type":"HttpRequester"}"#);
}

#[test]
fn what_is_no_overlay_is_refused() {
    for (text, expected) in [
        ("a: [", "not valid YAML"),
        ("{}", "at least one class"),
        ("klasses: {}", "`marks` and `classes`"),
        ("marks: x\nclasses: {A: {instead: {type: NoAuth}}}", "list of texts"),
        ("classes: {A: {insted: {type: NoAuth}}}", "`insted` is not one of"),
        ("classes: {A: {instead: {type: NoSuch}}}", "`NoSuch` is not a component"),
        ("classes: {A: {instead: {type: CustomAuthenticator}}}", "not a component that AAM runs"),
        ("classes: {A: {instead: nothing}}", "say with `differs`"),
        ("classes: {A: {}}", "`instead` is a component"),
    ] {
        let problem = Overlay::parse(text, "o.yaml", &Bounds::default()).unwrap_err();
        assert!(problem.message.contains(expected), "{text}: {}", problem.message);
        assert_eq!(problem.file, "o.yaml");
    }
}

#[test]
fn the_overlays_of_this_crate_are_valid_and_name_their_source() {
    for (name, text) in SHIPPED {
        let overlay = Overlay::parse(text, name, &Bounds::default()).unwrap_or_else(|problem| panic!("{name}: {problem}"));
        assert!(!overlay.marks.is_empty(), "{name} would be applied to every manifest");
    }
    assert_eq!(shipped().len(), SHIPPED.len());
    let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/overlays")).unwrap();
    assert_eq!(folder.count(), SHIPPED.len(), "each file of the folder is in the list");
}

/// A class whose overlay is used with the class's own fields gives a manifest that loads and whose streams are built.
fn built(class: &str, kind: &str, fields: &str, mark: &str, config: &str) -> (Manifest, Value) {
    let component = format!("{{type: {kind}, class_name: components.{class}, {fields}}}");
    let at = |wanted: &str, default: &str| if kind == wanted { component.clone() } else { default.to_owned() };
    let extractor = at("CustomRecordExtractor", "{field_path: []}");
    let router = at("CustomPartitionRouter", "[]");
    let auth = at("CustomAuthenticator", "{type: NoAuth}");
    let paginator = match kind {
        "CustomPaginationStrategy" => format!(
            "{{type: DefaultPaginator, pagination_strategy: {component}, page_token_option: \
            {{type: RequestOption, inject_into: request_parameter, field_name: page}}}}"
        ),
        _ => "{type: NoPagination}".to_owned(),
    };
    let transformations = if kind == "CustomTransformation" { format!("[{component}]") } else { "[]".to_owned() };
    let path = if kind == "CustomPartitionRouter" { "/a/{{ stream_partition.id }}" } else { "/a" };
    let text = format!(
        "# {mark}\nversion: '1'\ncheck: {{stream_names: [a]}}\nstreams:\n  - name: a\n    $parameters: {{path: leaks}}\n    transformations: {transformations}\n    \
         retriever:\n      requester: {{url_base: https://h.example, path: '{path}', authenticator: {auth}}}\n      \
         record_selector: {{extractor: {extractor}}}\n      paginator: {paginator}\n      partition_router: {router}\n"
    );
    let manifest = crate::load::load(&text, "m.yaml", &Bounds::default()).unwrap_or_else(|it| panic!("{class}: {it:?}"));
    assert!(manifest.refused_streams().is_empty(), "{class}: {:?}", manifest.unsupported);
    (manifest, crate::script::json(config))
}

/// The records of the stream with these responses, and the requests that were sent.
fn read((manifest, config): &(Manifest, Value), responses: &[(&'static str, &'static str)]) -> (Vec<String>, Vec<HostRequest>) {
    let (host, bounds) = (Script::new(responses), Bounds::default());
    let ctx = Context::new(&manifest.root, config, &host, &bounds);
    let run = Run::new(&ctx);
    let mut found = Vec::new();
    let all = async {
        let source = SourceBuilder::new(ctx).all_streams(&run).await?;
        let stream = source.stream("a").unwrap();
        let mut slices = stream.slices(&run)?;
        while let Some(slice) = slices.next().await? {
            let mut records = stream.records(&run, slice).await?;
            while let Some(record) = records.next().await? {
                found.push(serde_json::to_value(&record).unwrap().to_string());
            }
        }
        Ok::<_, Failed>(())
    };
    all.now_or_never().unwrap().unwrap();
    let calls = std::mem::take(&mut *host.calls.lock().unwrap());
    (found, calls)
}

fn urls(calls: &[HostRequest]) -> Vec<&str> {
    calls.iter().map(|call| call.url.trim_start_matches("https://")).collect()
}

#[test]
fn extractors_give_the_records_of_their_classes() {
    for (class, fields, mark, response, expected) in [
        ("WrappingDpathExtractor", "field_path: []", "api.apify.com", r#"[{"a": 1}, 2]"#, r#"{"data":{"a":1}} {"data":2}"#),
        ("CustomExtractor", "", "api.publicapis.org", r#"{"categories": ["x", "y"]}"#, r#"{"name":"x"} {"name":"y"}"#),
        ("ChannelMembersExtractor", "field_path: [members]", "slack.com/api", r#"{"members": ["u"]}"#, r#"{"member_id":"u"}"#),
        ("LabelsRecordExtractor", "field_path: [values]", "atlassian.net", r#"{"values": ["l"]}"#, r#"{"label":"l"}"#),
        (
            "IVRMenusRecordExtractor",
            "",
            "ZendeskTalkAuthenticator",
            r#"{"ivrs": [{"id": 1, "menus": [{"id": 2}, {"id": 3}]}, {"id": 4}]}"#,
            r#"{"id":2,"ivr_id":1} {"id":3,"ivr_id":1}"#,
        ),
        (
            "IVRRoutesRecordExtractor",
            "",
            "ZendeskTalkAuthenticator",
            r#"{"ivrs": [{"id": 1, "menus": [{"id": 2, "routes": [{"id": 5}]}]}]}"#,
            r#"{"id":5,"ivr_menu_id":2}"#,
        ),
        (
            "CustomExtractor",
            "",
            "api.qualaroo.com",
            r#"[{"id": 1, "answered_questions": {"7": {"q": "it's"}, "8": {"q": null}}}, {"id": 2}]"#,
            r#"{"answered_questions":[{"q":"it's"},{"q":null}],"id":1} {"id":2}"#,
        ),
        (
            "CustomExtractor",
            "",
            "api.outreach.io",
            r#"{"data": [{"id": 9, "type": "t", "links": {}, "attributes": {"name": "n"}, "relationships": {"one": {"data": {"id": 1}},
                "many": {"data": [{"id": 2}, {"id": 3}]}, "none": {"data": null}}}]}"#,
            r#"{"id":9,"many":[2,3],"name":"n","one":1}"#,
        ),
        ("AdAccountRecordExtractor", "", "api.pinterest.com", r#"{"items": [{"id": 1}]}"#, r#"{"id":1}"#),
        ("AdAccountRecordExtractor", "", "api.pinterest.com", r#"{"id": 2}"#, r#"{"id":2}"#),
        (
            "MailChimpRecordExtractorEmailActivity",
            "field_path: [emails]",
            "api.mailchimp.com",
            r#"{"emails": [{"id": 1, "activity": [{"action": "open"}]}, {"id": 2, "activity": []}]}"#,
            r#"{"action":"open","id":1}"#,
        ),
        ("ExportDatesExtractor", "", "", r#"{"dates": ["d"]}"#, r#"{"dates":["d"]}"#),
    ] {
        let source = built(class, "CustomRecordExtractor", fields, mark, "{}");
        assert_eq!(read(&source, &[("/a", response)]).0.join(" "), expected, "{class} of {mark}");
    }
}

#[test]
fn custom_fields_are_listed() {
    let source = built("CustomFieldTransformation", "CustomTransformation", "", "chargebee.com", "{}");
    let (records, _) = read(&source, &[("/a", r#"[{"id": 1, "cf_x": "y"}, {"id": 2}]"#)]);
    let expected = [r#"{"cf_x":"y","custom_fields":[{"name":"cf_x","value":"y"}],"id":1}"#, r#"{"custom_fields":[],"id":2}"#];
    assert_eq!(records, expected);
    let kept = built("RemoveEmptyFields", "CustomTransformation", "field_pointers: [a]", "atlassian.net", "{}");
    assert_eq!(read(&kept, &[("/a", r#"[{"a": null}]"#)]).0, [r#"{"a":null}"#]);
}

#[test]
fn pages_end_with_the_last_one_that_is_named() {
    let source = built("CustomPageIncrement", "CustomPaginationStrategy", "page_size: 10", "content.guardianapis.com", "{}");
    let (one, two) = (r#"{"response": {"currentPage": 1, "pages": 2}}"#, r#"{"response": {"currentPage": 2, "pages": 2}}"#);
    let (_, calls) = read(&source, &[("page=2", two), ("/a", one)]);
    assert_eq!(urls(&calls), ["h.example/a", "h.example/a?page=2"]);
}

/// Authenticators of which the config selects the last one.
const SELECTED: &str = "basic_auth: {type: BasicHttpAuthenticator, username: i}, api_auth: {type: NoAuth}, token_auth: {type: NoAuth}, \
    oauth: {type: BearerAuthenticator, api_token: b}, oauth2: {type: BearerAuthenticator, api_token: b}";

/// The token requests of the authenticators, and the header that the stream's own request has.
#[test]
fn authenticators_send_what_their_classes_send() {
    let keys = r#"{"client_id": "i", "client_secret": "s", "domain": "looker.example", "account": "7", "region": "eu", "host": "gcp",
        "project_key": "p", "credentials": {"api_token": "t", "client_id": "i", "client_secret": "s", "refresh_token": "r",
        "auth_method": "api_token", "auth_type": "oauth2.0"}}"#;
    // The base64 of "i:s".
    let basic = "Basic aTpz";
    for (class, fields, mark, token_url, token_auth, token_body, header) in [
        (
            "ServerToServerOauthAuthenticator",
            "client_id: i, client_secret: s, account_id: '7', authorization_endpoint: https://zoom.us/oauth/token",
            "api.zoom.us",
            "zoom.us/oauth/token?grant_type=account_credentials&account_id=7",
            basic,
            "",
            "Bearer T",
        ),
        (
            "PayPalOauth2Authenticator",
            "client_id: i, client_secret: s, grant_type: client_credentials, token_refresh_endpoint: https://api-m.paypal.com/v1/oauth2/token",
            "paypal.com/v1/oauth2/token",
            "api-m.paypal.com/v1/oauth2/token",
            basic,
            "grant_type=client_credentials",
            "Bearer T",
        ),
        (
            "CustomOauth2Authenticator",
            "client_id: i, client_secret: s, refresh_token: r, grant_type: refresh_token, token_refresh_endpoint: https://o.okta.com/t",
            "okta.com",
            "o.okta.com/t",
            basic,
            "grant_type=refresh_token&refresh_token=r",
            "Bearer T",
        ),
        ("CustomBearerAuthenticator", "", "okta.com", "", "", "", "SSWS t"),
        (
            "PinterestOauthAuthenticator",
            "client_id: i, client_secret: s, refresh_token: r, token_refresh_endpoint: https://p.example/t",
            "api.pinterest.com",
            "p.example/t",
            basic,
            "grant_type=refresh_token&refresh_token=r",
            "Bearer T",
        ),
        ("LookerAuthenticator", "", "", "looker.example/api/4.0/login", "", "client_id=i&client_secret=s", "token T"),
        (
            "CommerceToolsOauth2Authenticator",
            "client_id: i, client_secret: s, grant_type: client_credentials, token_refresh_endpoint: https://auth.example/oauth/token",
            "",
            "auth.example/oauth/token",
            "",
            "grant_type=client_credentials&client_id=i&client_secret=s",
            "Bearer T",
        ),
        ("CustomAuthenticator", "username: i, password: s", "my.fastbill.com", "", "", "", basic),
        (
            "CustomAuthenticator",
            "email: e, password: s",
            "api2.myhours.com",
            "api2.myhours.com/api/tokens/login",
            "",
            r#"{"email": "e", "password": "s", "grantType": "password", "clientId": "api"}"#,
            "Bearer T",
        ),
        ("AuthenticatorRetently", SELECTED, "", "", "", "", "Bearer b"),
        ("AuthenticatorLeverHiring", SELECTED, "", "", "", "", "Bearer b"),
        ("TypeformAuthenticator", SELECTED, "", "", "", "", "Bearer b"),
        ("AuthenticatorZendeskSunshine", SELECTED, "", "", "", "", "Bearer b"),
        ("ZendeskTalkAuthenticator", SELECTED, "", "", "", "", "Bearer b"),
    ] {
        let source = built(class, "CustomAuthenticator", fields, mark, keys);
        let token = r#"{"access_token": "T", "accessToken": "T", "expires_in": 3600}"#;
        let (_, calls) = read(&source, &[("h.example/a", "[]"), ("", token)]);
        let authorization = |call: &HostRequest| {
            let header = call.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("authorization"));
            header.map(|(_, value)| value.clone()).unwrap_or_default()
        };
        if !token_url.is_empty() {
            let asked = &calls[0];
            let body = asked.body.as_ref().map(|body| String::from_utf8_lossy(body).into_owned()).unwrap_or_default();
            let asked = (asked.method.as_str(), urls(&calls)[0], authorization(asked), body);
            assert_eq!(asked, ("POST", token_url, token_auth.to_owned(), token_body.to_owned()), "{class}");
        }
        let own = calls.last().unwrap();
        assert_eq!((own.url.as_str(), authorization(own).as_str()), ("https://h.example/a", header), "{class}");
    }
}

#[test]
fn tokens_come_from_a_get_request_or_go_into_a_header_of_their_own() {
    let fields = "client_id: i, secret_key: s, url: https://auth.example/getAccess";
    let (_, calls) = read(
        &built("ShortLivedTokenAuthenticator", "CustomAuthenticator", fields, "", "{}"),
        &[("getAccess", r#"{"access_token": "T"}"#), ("/a", "[]")],
    );
    let sent = |call: &HostRequest, name: &str| call.headers.iter().any(|(key, value)| key == name && value.contains('T'));
    assert_eq!((calls[0].method.as_str(), urls(&calls)), ("GET", vec!["auth.example/getAccess", "h.example/a"]));
    assert!(sent(&calls[1], "Authorization"));
    let fields = "client_id: i, client_secret: s, refresh_token: r, token_refresh_endpoint: https://auth.example/o2/token";
    for class in ["AmazonSPOauthAuthenticator", "AmazonSPRdtAuthenticator"] {
        let source = built(class, "CustomAuthenticator", fields, "", "{}");
        let (_, calls) = read(&source, &[("/o2/token", r#"{"access_token": "T"}"#), ("/a", "[]")]);
        let body = calls[0].body.as_ref().map(|body| String::from_utf8_lossy(body).into_owned());
        assert_eq!(body.as_deref(), Some("grant_type=refresh_token&client_id=i&client_secret=s&refresh_token=r"), "{class}");
        assert!(sent(&calls[1], "x-amz-access-token"), "{class}");
        assert!(calls[1].headers.contains(&("x-amz-date".to_owned(), "20250615T123456Z".to_owned())), "{class}: {calls:?}");
    }
}

#[test]
fn routers_follow_the_config() {
    let stream = |name: &str| {
        format!(
            "{{name: {name}, retriever: {{requester: {{url_base: https://h.example, path: /{name}}}, record_selector: \
            {{extractor: {{field_path: []}}}}}}}}"
        )
    };
    let parents = |all: &[(&str, &str)]| {
        let one = |(name, key): &(&str, &str)| format!("{{parent_key: {key}, partition_field: id, stream: {}}}", stream(name));
        format!("parent_stream_configs: [{}]", all.iter().map(one).collect::<Vec<_>>().join(", "))
    };
    let groups = parents(&[("listed", "id"), ("below", "id")]);
    let (single, zenloop) =
        (parents(&[("parent", "id")]), parents(&[("parent", "id")]) + ", $parameters: {config_parent_field: survey_id}");
    for (class, fields, mark, config, expected) in [
        ("GroupStreamsPartitionRouter", &groups, "source_gitlab", "{}", "listed a/7"),
        ("GroupStreamsPartitionRouter", &groups, "source_gitlab", r#"{"groups_list": ["g"]}"#, "below a/8"),
        ("ProjectStreamsPartitionRouter", &single, "source_gitlab", r#"{"projects_list": ["g/x", "y"]}"#, "a/g%2Fx a/y"),
        ("ProjectStreamsPartitionRouter", &single, "source_gitlab", r#"{"projects_list": []}"#, "parent a/g%2Fp a/q"),
        ("SubstreamOrSinglePartitionRouter", &single, "atlassian.net", "{}", "a/"),
        ("SubstreamOrSinglePartitionRouter", &single, "atlassian.net", r#"{"projects": ["x"]}"#, "parent a/1"),
        ("SurveyIdPartitionRouter", &single, "", r#"{"survey_ids": ["3", "4"]}"#, "a/3 a/4"),
        ("SurveyIdPartitionRouter", &single, "", "{}", "parent a/1"),
        ("OrderIdsPartitionRouter", &single, "", r#"{"board_ids": ["b"]}"#, "a/b"),
        ("FormIdPartitionRouter", &single, "api.typeform.com", r#"{"form_ids": ["f"]}"#, "a/f"),
        ("ZenloopPartitionRouter", &zenloop, "", r#"{"survey_id": "s"}"#, "a/s"),
        ("ZenloopPartitionRouter", &zenloop, "", "{}", "parent a/1"),
    ] {
        let (manifest, config) = built(class, "CustomPartitionRouter", fields, mark, config);
        let parent = r#"{"id": 1, "projects": [{"id": 5, "path_with_namespace": "g/p"}, {"id": 6, "path_with_namespace": "q"}]}"#;
        let bodies = [("/parent", parent), ("/listed", r#"[{"id": 7}]"#), ("/below", r#"[{"id": 8}]"#), ("/a", "[]")];
        let (_, calls) = read(&(manifest, config), &bodies);
        let paths: Vec<&str> = urls(&calls).iter().map(|url| url.trim_start_matches("h.example/")).collect();
        assert_eq!(paths.join(" "), expected, "{class}");
    }
}

#[test]
fn a_field_of_the_config_is_computed() {
    let text = format!(
        "{TEXT}spec:\n  connection_specification: {{}}\n  config_normalization_rules:\n    type: ConfigNormalizationRules\n    \
        transformations: [{{type: CustomConfigTransformation, class_name: components.MailChimpOAuthDataCenterExtractor}}]\n\
        # api.mailchimp.com\n"
    );
    let manifest = crate::load::load(&text, "m.yaml", &Bounds::default()).unwrap();
    assert!(manifest.runnable().is_ok());
    let center = |config: &str| {
        let (config, host) = (crate::script::json(config), Script::new(&[]));
        let normalised = crate::config_rules::normalise(&manifest, &config, &host, &Bounds::default()).unwrap();
        normalised.config.get("data_center").map(Value::to_str).unwrap_or_default()
    };
    assert_eq!(center(r#"{"apikey": "abc-us10"}"#), "us10");
    assert_eq!(center(r#"{"credentials": {"apikey": "abc-us7"}}"#), "us7");
    assert_eq!(center(r#"{"credentials": {"access_token": "t"}}"#), "");
}

#[test]
fn a_validation_of_a_class_is_a_schema() {
    let spec = |class: &str| {
        format!(
            "{TEXT}spec:\n  connection_specification: {{}}\n  config_normalization_rules:\n    type: ConfigNormalizationRules\n    \
            validations: [{{type: DpathValidator, field_path: [d], validation_strategy: {{type: CustomValidationStrategy, \
            class_name: components.{class}}}}}]\n# ValidateJiraDomain source_gitlab\n"
        )
    };
    for (class, good, bad) in [
        ("ValidateJiraDomain", "acme.atlassian.net", "https://acme.atlassian.net"),
        ("ValidateApiUrl", "https://gitlab.example.com", "gitlab.example.com/api"),
    ] {
        let manifest = crate::load::load(&spec(class), "m.yaml", &Bounds::default()).unwrap();
        let is_valid = |text: &str| {
            let (config, host) = (crate::script::json(&format!(r#"{{"d": "{text}"}}"#)), Script::new(&[]));
            crate::config_rules::validate(&manifest, &config, &host, &Bounds::default()).is_ok()
        };
        assert_eq!((is_valid(good), is_valid(bad)), (true, false), "{class}");
    }
}
