use super::*;
use crate::credentials::Secret;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use proptest::prelude::*;

/// A store and the secrets that it knows.
struct Known(Arc<Store>, Vec<Arc<KnownSecret>>);

impl Known {
    fn scrub<'a>(&self, text: &'a str) -> Cow<'a, str> {
        replaced(text, self.0.find(text))
    }
}

fn store(values: &[&str]) -> Known {
    let store = Arc::<Store>::default();
    let secrets = values.iter().filter_map(|value| store.learn(value)).collect();
    Known(store, secrets)
}

#[test]
fn a_secret_is_found_in_every_form() {
    let secret = "p@ss/wörd \"+<7>";
    let store = store(&[secret]);
    let basic = STANDARD.encode(format!("reader:{secret}"));
    let texts = [
        format!("password={secret};"),
        serde_json::json!({ "error": secret }).to_string(),
        format!("{:?}", Some(secret)),
        format!("https://x.example/?q={}", percent_encoding::utf8_percent_encode(secret, percent_encoding::NON_ALPHANUMERIC)),
        format!("body {}", url::form_urlencoded::Serializer::new(String::new()).append_pair("p", secret).finish()),
        format!("hex {}", data_encoding::HEXLOWER.encode(secret.as_bytes())),
        format!("Authorization: Basic {basic}"),
        format!("raw {}", URL_SAFE_NO_PAD.encode(secret)),
        "a page with p@ss/wörd &quot;+&lt;7&gt; in it".to_string(),
        "python's json: p@ss/w\\u00f6rd \\\"+<7>".to_string(),
    ];
    for text in texts {
        let clean = store.scrub(&text);
        assert!(clean.contains(MARK), "not found in {text}");
    }
    assert!(!store.scrub(&format!("Basic {basic}")).contains(&basic[12..30]));
    assert_eq!(store.scrub("nothing of that kind"), "nothing of that kind");
}

#[test]
fn overlapping_secrets_leave_nothing_behind() {
    let store = store(&["alpha-bravo", "bravo-charlie", "bravo"]);
    assert_eq!(store.scrub("see alpha-bravo-charlie!"), "see [redacted]!");
    assert_eq!(store.scrub("bravobravo"), MARK);
}

#[test]
fn short_values_are_not_learnt() {
    assert_eq!(
        store(&["first-value", "second-value", "abc", ""]).scrub("first-value second-value abc"),
        "[redacted] [redacted] abc"
    );
}

#[test]
fn a_secret_is_forgotten_with_its_last_holder() {
    let Known(store, mut secrets) = store(&[]);
    let learn = |value: &str| store.learn(value).unwrap();
    for i in 0..300 {
        secrets.push(learn(&format!("value-number-{i:04}")));
    }
    assert!(Arc::ptr_eq(&learn("value-number-0007"), &secrets[7]), "all who hold a value share it");
    assert!(store.sizes().1 <= 9, "{:?}", store.sizes());
    let found = |i: usize| !store.find(&format!("<value-number-{i:04}>")).is_empty();
    assert!((0..300).all(found));
    secrets.truncate(10);
    assert_eq!(store.len(), 10);
    assert!(store.sizes().0 <= 10 + 300 / 2, "{:?}", store.sizes());
    assert!((0..10).all(found));
    secrets.clear();
    assert_eq!(store.len(), 0);
    assert!(store.sizes().0 <= 16, "{:?}", store.sizes());
    // Attempts with tokens of their own leave nothing behind.
    for i in 0..300 {
        drop(learn(&format!("minted-token-{i}")));
    }
    assert!(store.len() == 0 && store.sizes().0 <= 16, "{:?}", store.sizes());
}

#[tokio::test]
async fn an_attempt_scrubs_with_its_own_secrets_and_never_what_the_caller_wrote() {
    let texts = |id: &str| vec![id.to_string(), "env:A_PIN".to_string()];
    let attempt = |id: &str| AttemptSecrets::new(&texts(id));
    let other = attempt("x");
    Arc::clone(&other).run(async { learn_value("83912-other") }).await;
    let said = "the source said 4711-own, and 83912-other";
    let own = attempt("https://api.example/4711-own/openapi.json");
    own.run(async {
        learn_value("4711-own");
        learn_value("token-of-this-attempt");
        assert_eq!(scrub(said), said, "the guess of the caller stays, and so does what another attempt knows");
        assert_eq!(
            scrub("GET api.example/4711-own/openapi.json: token-of-this-attempt"),
            "GET api.example/4711-own/openapi.json: [redacted]"
        );
        assert_eq!(scrub("https://api.example/%34711-own: x4711-ownx"), "https://api.example/[redacted]: x4711-ownx");
        let thread = attempt_of_thread();
        assert_eq!(thread.join().unwrap(), "a thread of it: [redacted]");
    })
    .await;
    assert!(attempt_is_over());
    assert_eq!(scrub_all("83912-other"), MARK, "logs are scrubbed with all secrets in use");
    drop(other);
}

fn attempt_of_thread() -> std::thread::JoinHandle<String> {
    let attempt = super::attempt();
    std::thread::spawn(move || with_attempt(attempt, || scrub("a thread of it: token-of-this-attempt").into_owned()))
}

fn attempt_is_over() -> bool {
    super::attempt().is_none()
}

#[tokio::test]
async fn a_text_is_scrubbed_before_it_is_cut_and_a_cut_secret_is_recognized() {
    let secrets = AttemptSecrets::new(&[]);
    secrets
        .run(async {
            learn_value("a-token-of-thirty-characters-x");
            let text = format!("{} a-token-of-thirty-characters-x and more", "x".repeat(40));
            for max in 1..text.len() {
                let cut = scrub_and_cut(&text, max);
                assert!(!cut.contains("a-token") && cut.chars().count() <= max, "{max}: {cut}");
            }
            let long = format!("{}a-token-of-thirty-characters-x", "y ".repeat(10_000));
            assert!(!scrub_and_cut(&long, 19_000).contains("a-token"));
            assert_eq!(scrub_and_cut("a \n\t b\u{1b}[31m \u{202e}c", 99), "a b[31m c");
            for cut in ["said: \"a-token-of-thi\"", "said: a-token-of-thirty-characters-...", "said: a-toke"] {
                assert!(scrub(cut).starts_with("said: ") && !scrub(cut).contains("a-toke"), "{}", scrub(cut));
            }
            assert_eq!(scrub("a-tok"), "a-tok");
            learn_value("github_pat_of-the-test-0000000000");
            let name = "the connector (airbyte-source-github)";
            assert_eq!(scrub(name), name, "an ordinary name with which a token begins is not a part of it");
            assert_eq!(scrub("a token: github_pat_of-t..."), "a token: [redacted]...");
        })
        .await;
}

#[test]
fn further_encodings_are_seen_through() {
    let secret = "tok/en+9 Zx81";
    let known = store(&[secret]);
    let percent = |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
    let wrapped = |text: &str, end: &str| {
        text.as_bytes().chunks(9).map(|line| String::from_utf8_lossy(line).into_owned()).collect::<Vec<_>>().join(end)
    };
    let base32 = data_encoding::BASE32.encode(format!("us:{secret}:x").as_bytes());
    let base64 = STANDARD.encode(format!("user:{secret}:more"));
    let escaped: String = secret.chars().map(|c| format!("\\u{:04X}", u32::from(c))).collect();
    let entities: String = secret.chars().map(|c| format!("&#{};", u32::from(c))).collect();
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    for text in [
        percent(&percent(secret)),
        percent(&percent(&percent(secret))),
        percent(secret).to_lowercase(),
        base32.clone(),
        base32.to_lowercase(),
        wrapped(&base64, "\n"),
        wrapped(&base64, "\r\n  "),
        serde_json::json!(wrapped(&base64, "\n")).to_string(),
        percent(&base64),
        URL_SAFE_NO_PAD.encode(format!("a{secret}")),
        URL_SAFE_NO_PAD.encode(format!("ab{secret}b")),
        wrapped(secret, "\n"),
        escaped.clone(),
        serde_json::json!(escaped).to_string(),
        entities,
        hex.to_uppercase(),
        hex.chars().enumerate().map(|(at, c)| if at % 2 == 0 { c.to_ascii_uppercase() } else { c }).collect(),
        secret.to_uppercase(),
        secret.to_lowercase(),
    ] {
        assert!(known.scrub(&format!("<{text}>")).contains(MARK), "not found in {text}");
    }
}

#[test]
fn names_of_a_json_credential_stay_readable() {
    let json = r#"{"username":"reader-of-reports","password":"kept-for-us-alone","region":"eu-central-1","ssl":true,
        "port":"15432","retries":12345,"pin":"90817","url":"postgres://u:in%2Furl-hidden@h/db","nested":{"client_secret":"deep-hidden-thing"}}"#;
    learn(&Credential::read(Secret::new(json.to_string())));
    let text = "reader-of-reports eu-central-1 true 15432 12345";
    assert_eq!(scrub(text), text);
    for secret in ["kept-for-us-alone", "in/url-hidden", "in%2Furl-hidden", "in%2furl-hidden", "deep-hidden-thing", "90817"] {
        assert_eq!(scrub(&format!("<{secret}>")), "<[redacted]>", "{secret}");
    }
}

#[test]
fn parts_of_a_plain_credential_are_secret_too() {
    learn(&Credential::read(Secret::new("robot-account:the-second-half-of-it\n".to_string())));
    assert_eq!(scrub("user robot-account with the-second-half-of-it"), "user robot-account with [redacted]");
    let pem = "-----BEGIN THING-----\nQUJDREVGR0hJSktMTU5PUFFSU1RVVg\nWFlaYWJjZGVmZ2hpamtsbW5vcHFyc3R\n-----END THING-----\n";
    learn(&Credential::read(Secret::new(pem.to_string())));
    assert_eq!(scrub("line WFlaYWJjZGVmZ2hpamtsbW5vcHFyc3R of it"), "line [redacted] of it");
}

#[test]
fn json_is_scrubbed_in_place() {
    learn_value("minted-token-4711-abcd");
    let mut json = serde_json::json!({ "a": ["x minted-token-4711-abcd", 1, null], "minted-token-4711-abcd": { "b": "fine" } });
    scrub_json(&mut json);
    assert_eq!(json, serde_json::json!({ "a": ["x [redacted]", 1, null], "[redacted]": { "b": "fine" } }));
    let failure = Failure::new(crate::model::Class::Remote, "t", "f").detail("said minted-token-4711-abcd");
    assert_eq!(scrub_failure(failure).detail, "said [redacted]");
}

#[test]
fn a_secret_in_two_writes_is_still_caught() {
    learn_value("split-over-two-writes-1");
    let mut out = Vec::new();
    {
        let mut event = ScrubbedEvent { inner: &mut out, colour: false, held: Vec::new() };
        event.write_all(b"one\ntoken split-over-").unwrap();
        event.flush().unwrap();
        event.write_all(b"two-writes-1 end\x1b[2J\n").unwrap();
    }
    assert_eq!(String::from_utf8(out).unwrap(), "one\\u{a}token [redacted] end\\u{1b}[2J\n", "one event is one line");
    assert_eq!(
        printable_styled("\u{1b}[2mtime\u{1b}[0m \u{1b}[2J\u{1b}[8mhidden \u{1b}]0;t\u{7}"),
        "\u{1b}[2mtime\u{1b}[0m \\u{1b}[2J\\u{1b}[8mhidden \\u{1b}]0;t\\u{7}"
    );
}

#[test]
fn events_are_scrubbed_on_their_way_out() {
    learn_value("canary-of-the-log-writer");
    let out = Arc::new(Mutex::new(Vec::<u8>::new()));
    let subscriber =
        tracing_subscriber::fmt().json().with_writer(ScrubbingWriter { inner: Arc::clone(&out).maker(), colour: false }).finish();
    tracing::subscriber::with_default(subscriber, || {
        tracing::warn!(header = "Bearer canary-of-the-log-writer", "said {:?}", "canary-of-the-log-writer");
    });
    let text = String::from_utf8(out.lock().unwrap().clone()).unwrap();
    assert!(text.contains("Bearer [redacted]") && !text.contains("canary"), "{text}");
}

/// Turns a shared buffer into a maker of writers.
trait Maker {
    fn maker(self) -> Box<dyn Fn() -> Shared + Send + Sync>;
}

struct Shared(Arc<Mutex<Vec<u8>>>);

impl Maker for Arc<Mutex<Vec<u8>>> {
    fn maker(self) -> Box<dyn Fn() -> Shared + Send + Sync> {
        Box::new(move || Shared(Arc::clone(&self)))
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

proptest! {
    // Building the automaton is slow in a debug build, so run only a few cases.
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_form_survives(secret in "\\PC{6,40}", before in "\\PC{0,12}", after in "\\PC{0,12}", user in "[a-z]{0,5}") {
        prop_assume!(!MARK.contains(secret.as_str()) && !secret.contains(MARK));
        let store = store(&[secret.as_str()]);
        for form in forms::all(&secret) {
            let clean = store.scrub(&format!("{before}{form}{after}")).into_owned();
            prop_assert!(clean.contains(MARK));
            prop_assert!(!clean.contains(&form) && !clean.contains(&secret), "{} in {}", form, clean);
        }
        // The secret is inside a longer base64 text, at any alignment. Only the characters at its two edges may remain.
        let basic = STANDARD.encode(format!("{user}:{secret}:{after}"));
        let clean = store.scrub(&basic).into_owned();
        prop_assert!(clean.contains(MARK), "{} in {}", secret, basic);
        prop_assert!(!clean.contains(&basic));
        prop_assert_eq!(clean.len() + secret.len() * 4 / 3 <= basic.len() + MARK.len() + 4, true);
    }

    #[test]
    fn scrubbing_is_total_and_repeatable(secrets in proptest::collection::vec("\\PC{4,12}", 1..8), text in "\\PC{0,200}") {
        for value in forms::values(&text).iter().chain(&forms::field_values("password", &text)) {
            prop_assert!(text.contains(value.as_str()) || value.len() <= text.len());
        }
        let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
        let store = store(&secrets);
        let clean = store.scrub(&text).into_owned();
        prop_assert!(secrets.iter().all(|secret| MARK.contains(secret) || secret.contains(MARK) || !clean.contains(secret)));
    }
}

/// The database that knows a user of MongoDB occurs in messages, which must stay readable.
#[test]
fn the_database_of_a_user_is_not_secret() {
    for name in ["auth_source", "authSource", "authentication_database", "auth_db"] {
        assert!(forms::field_values(name, "users_of_acme").is_empty(), "{name}");
    }
}
