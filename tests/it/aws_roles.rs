//! Static keys and assumed roles, against a fake of STS. The peer test against moto proves signatures and policies.

use crate::support::aws::{Fake, Received, Reply, Rig, STATIC_ID, STATIC_SECRET, document, field, imds};
use aam::credentials::redact::AttemptSecrets;
use aam::model::Class;
use aam::providers::Reading;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::SeqCst};

const ROLE: &str = "arn:aws:iam::222233334444:role/reader";
const ONE_HOUR: &str = "2026-11-29T13:00:00Z";

fn minted(action: &str, expiration: &str) -> String {
    format!(
        "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{action}Result><AssumedRoleUser><AssumedRoleId>A:aam\
         </AssumedRoleId><Arn>arn:aws:sts::222233334444:assumed-role/reader/aam</Arn></AssumedRoleUser><Credentials>\
         <AccessKeyId>ASIAMINTED</AccessKeyId><SecretAccessKey>canary/minted+secret</SecretAccessKey>\
         <SessionToken>canary-minted-session==</SessionToken><Expiration>{expiration}</Expiration></Credentials>\
         <PackedPolicySize>37</PackedPolicySize></{action}Result><ResponseMetadata><RequestId>R-1</RequestId></ResponseMetadata>\
         </{action}Response>"
    )
}

fn error(code: &str, message: &str) -> String {
    format!(
        "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type><Code>{code}</Code>\
         <Message>{message}</Message></Error><RequestId>R-2</RequestId></ErrorResponse>"
    )
}

const CALLER: &str = "<GetCallerIdentityResponse><GetCallerIdentityResult><UserId>U</UserId><Account>111122223333</Account>\
    <Arn>arn:aws:sts::111122223333:assumed-role/aam-task/i-1</Arn></GetCallerIdentityResult></GetCallerIdentityResponse>";

fn principal(fake: &Fake, more: &str) -> String {
    format!("{{kind: aws, keys: \"env:AWS_KEYS\", role_arn: \"{ROLE}\", sts_url: \"{}\"{more}}}", fake.url)
}

async fn refusing(status: u16, code: &'static str, message: &'static str) -> (Fake, Rig) {
    let fake = Fake::start(move |request| match request.form()["Action"].as_str() {
        "GetCallerIdentity" => Reply::Answer(200, CALLER.to_string()),
        _ => Reply::Answer(status, error(code, message)),
    })
    .await;
    let rig = Rig::new(&principal(&fake, ", external_id: \"acme:42\", region: eu-west-1")).with_static_keys();
    (fake, rig)
}

#[tokio::test]
async fn static_keys_are_passed_on_and_read_at_each_use() {
    let rig = Rig::new("{kind: aws, keys: \"env:AWS_KEYS\"}").with_static_keys();
    let provided = rig.provide(Reading::Cached).await.unwrap();
    assert_eq!(
        (field(&provided, "access_key_id").as_str(), field(&provided, "secret_access_key").as_str()),
        (STATIC_ID, STATIC_SECRET)
    );
    assert_eq!((provided.facts.valid_until, provided.credential.is_read_only()), (None, false));
    rig.set("AWS_KEYS", r#"{"AWS_ACCESS_KEY_ID":"AKIANEXT","AWS_SECRET_ACCESS_KEY":"canary-next","AWS_REGION":"eu-west-1"}"#);
    let provided = rig.provide(Reading::Cached).await.unwrap();
    assert_eq!((field(&provided, "access_key_id").as_str(), field(&provided, "region").as_str()), ("AKIANEXT", "eu-west-1"));
    rig.set("AWS_KEYS", r#"{"access_key_id":"AKIANEXT"}"#);
    let failure = rig.failure().await;
    assert_eq!(failure.class, Class::CredentialMissing);
    assert!(failure.title.contains("env:AWS_KEYS") && failure.title.contains("secret_access_key"), "{failure:?}");
}

#[tokio::test]
async fn a_role_is_assumed_with_the_session_policy_and_renewed_before_its_end() {
    let expiration = Arc::new(std::sync::Mutex::new(ONE_HOUR.to_string()));
    let ends = Arc::clone(&expiration);
    let fake = Fake::start(move |_| Reply::Answer(200, minted("AssumeRole", &ends.lock().unwrap()))).await;
    let rig =
        Rig::new(&principal(&fake, ", external_id: \"acme:42\", session_name: aam-prod, region: eu-west-1")).with_static_keys();
    let provided = rig.provide(Reading::Cached).await.unwrap();
    assert_eq!(field(&provided, "session_token"), "canary-minted-session==");
    assert!(provided.credential.is_read_only());
    assert_eq!(provided.facts.evidence["session_policy"], "allows reading only");
    assert_eq!(provided.facts.evidence["packed_policy_percent"], 37);
    assert_eq!(provided.facts.valid_until.map(|at| at.rfc3339()).as_deref(), Some("2026-11-29T13:00:00.000Z"));

    let call: Received = fake.received.lock().unwrap()[0].clone();
    let form = call.form();
    let names: BTreeSet<&str> = form.keys().map(String::as_str).collect();
    assert_eq!(names, BTreeSet::from(["Action", "Version", "RoleArn", "RoleSessionName", "Policy", "ExternalId"]));
    assert_eq!(
        (form["RoleArn"].as_str(), form["RoleSessionName"].as_str(), form["ExternalId"].as_str()),
        (ROLE, "aam-prod", "acme:42")
    );
    let policy: serde_json::Value = serde_json::from_str(&form["Policy"]).unwrap();
    assert_eq!(policy["Statement"][1]["Effect"], "Deny");
    assert!(call.body.contains("organizations%3AList%2A") && !call.body.contains('*'), "{}", call.body);
    let authorization = &call.headers["authorization"];
    assert!(authorization.contains(&format!("Credential={STATIC_ID}/20261129/eu-west-1/sts/aws4_request")), "{authorization}");
    assert!(authorization.contains("SignedHeaders=content-type;host;x-amz-date,"), "{authorization}");
    assert_eq!((call.method.as_str(), call.target.as_str()), ("POST", "/"));

    rig.clock.forward(3400);
    rig.provide(Reading::Cached).await.unwrap();
    assert_eq!(fake.calls().len(), 1, "200 s before its end the session is still used");
    rig.clock.forward(120);
    *expiration.lock().unwrap() = "2026-11-29T14:00:00Z".to_string();
    rig.provide(Reading::Cached).await.unwrap();
    assert_eq!(fake.calls().len(), 2, "80 s before its end it is replaced");
    rig.provide(Reading::Anew).await.unwrap();
    assert_eq!(fake.calls().len(), 3, "a rejected session is replaced");
}

#[tokio::test]
async fn an_instance_may_assume_a_role() {
    let sts = Fake::start(|_| Reply::Answer(200, minted("AssumeRole", ONE_HOUR))).await;
    let metadata = Fake::start(|request| imds(request, Some("task"), &document(Some("Success"), ONE_HOUR))).await;
    let rig = Rig::new(&format!(
        "{{kind: aws, source: instance, metadata_url: \"{}\", role_arn: \"{ROLE}\", sts_url: \"{}\"}}",
        metadata.url, sts.url
    ));
    let provided = rig.provide(Reading::Cached).await.unwrap();
    assert!(provided.credential.is_read_only());
    assert_eq!(provided.facts.evidence["instance_role"], "task");
    let call = sts.received.lock().unwrap()[0].clone();
    assert_eq!(call.headers["x-amz-security-token"], crate::support::aws::SESSION);
}

#[tokio::test]
async fn ten_thousand_connections_share_one_session() {
    let fake = Fake::start(|_| Reply::Answer(200, minted("AssumeRole", ONE_HOUR))).await;
    let rig = Arc::new(Rig::new(&principal(&fake, "")).with_static_keys());
    let tasks = (0..10_000).map(|connection| {
        let rig = Arc::clone(&rig);
        tokio::spawn(async move {
            let request = rig.request(connection, Reading::Cached);
            let provided = AttemptSecrets::new(&[]).run(rig.providers.provide(&request)).await;
            provided.map(|provided| field(&provided, "access_key_id")).map_err(|failure| format!("{failure:?}"))
        })
    });
    for minted in futures_util::future::join_all(tasks).await {
        assert_eq!(minted.unwrap(), Ok("ASIAMINTED".to_string()));
    }
    assert_eq!(fake.calls(), ["POST /"]);
}

#[tokio::test]
async fn a_role_that_does_not_trust_aam_shows_who_aam_is_and_what_to_paste() {
    let denied = "User: arn:aws:sts::111122223333:assumed-role/aam-task/i-1 is not authorized to perform: sts:AssumeRole";
    let (fake, rig) = refusing(403, "AccessDenied", denied).await;
    let failure = rig.failure().await;
    assert_eq!(failure.class, Class::PermissionDenied);
    let caller = "arn:aws:sts::111122223333:assumed-role/aam-task/i-1";
    assert_eq!(failure.title, format!("{caller} is not allowed to assume the role {ROLE}"));
    let trust = r#"{"Action":"sts:AssumeRole","Condition":{"StringEquals":{"sts:ExternalId":"acme:42"}},"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:role/aam-task"}}"#;
    assert!(failure.fix.contains(trust), "{failure:?}");
    assert!(failure.fix.contains("222233334444") && failure.fix.contains(&format!(r#""Resource":"{ROLE}""#)), "{failure:?}");
    assert!(failure.detail.contains("said: \"AccessDenied: User: "), "{failure:?}");
    assert_eq!(fake.calls().len(), 2, "AssumeRole, then GetCallerIdentity");

    let (_, rig) = refusing(403, "AccessDenied", "not authorized, with an explicit deny in a service control policy").await;
    assert!(rig.failure().await.fix.contains("the service control policy"), "{:?}", rig.failure().await);
}

#[tokio::test]
async fn every_refusal_has_its_own_class_and_fix() {
    for (status, code, class, fix) in [
        (400, "ExpiredToken", Class::CredentialRejected, "create an access key for the IAM user and store it at env:AWS_KEYS"),
        (403, "InvalidClientTokenId", Class::CredentialRejected, "env:AWS_KEYS"),
        (403, "SignatureDoesNotMatch", Class::CredentialRejected, "as they were shown"),
        (400, "MalformedPolicyDocument", Class::Bug, "report this"),
        (400, "PackedPolicyTooLarge", Class::Misconfigured, "session tags"),
        (403, "RegionDisabledException", Class::Misconfigured, "Security Token Service"),
        (400, "ValidationError", Class::Misconfigured, "credentials.principals.main"),
        (400, "Throttling", Class::Throttled, ""),
        (400, "SomethingNew", Class::Remote, "text of AWS"),
        (503, "ServiceUnavailable", Class::Remote, "tries again"),
    ] {
        let (_, rig) = refusing(status, code, "a text").await;
        let failure = rig.failure().await;
        assert_eq!(failure.class, class, "{code}: {failure:?}");
        assert!(failure.fix.contains(fix), "{code}: {failure:?}");
        assert!(!failure.title.contains('{') && !failure.fix.contains("{r"), "{code}: {failure:?}");
        assert!(failure.detail.contains(code), "{code}: {failure:?}");
    }
}

#[tokio::test]
async fn a_wrong_clock_is_named_as_such() {
    let fake = Fake::start(|_| {
        let body = error("SignatureDoesNotMatch", "Signature expired: 20261129T120000Z is now earlier than 20261129T121500Z (x)");
        Reply::With(403, ("date", "Sun, 29 Nov 2026 12:30:00 GMT".to_string()), body)
    })
    .await;
    let rig = Rig::new(&principal(&fake, "")).with_static_keys();
    let failure = rig.failure().await;
    assert_eq!(failure.class, Class::Remote);
    assert_eq!(failure.title, "this machine's clock is 1800 s behind that of 127.0.0.1, so its signatures are rejected");

    // The end counts by the clock of STS, so a clock that is 10 minutes ahead does not shorten or lengthen the session.
    let fake = Fake::start(|_| {
        Reply::With(200, ("date", "Sun, 29 Nov 2026 11:50:00 GMT".to_string()), minted("AssumeRole", "2026-11-29T12:50:00Z"))
    })
    .await;
    let rig = Rig::new(&principal(&fake, "")).with_static_keys();
    let provided = rig.provide(Reading::Cached).await.unwrap();
    assert_eq!(provided.facts.valid_until.map(|at| at.rfc3339()).as_deref(), Some("2026-11-29T13:00:00.000Z"));
    assert_eq!(provided.facts.evidence["clock"], "this machine's clock is 600 s ahead of that of 127.0.0.1");
}

#[tokio::test]
async fn a_hostile_sts_does_not_bring_keys_into_texts() {
    let fake = Fake::start(|request| {
        let echo = format!("{STATIC_SECRET} {} {}", request.body, request.headers["authorization"]);
        Reply::Answer(403, error("AccessDenied", &echo.replace(['<', '&'], " ")))
    })
    .await;
    let rig = Rig::new(&principal(&fake, "")).with_static_keys();
    // `failure` fails if the text contains a canary.
    assert!(rig.failure().await.detail.contains("[redacted]"));
    for body in ["<html>canary</html>", "", "<AssumeRoleResponse>", "{\"AssumeRoleResponse\":{}}"] {
        let fake = Fake::start(move |_| Reply::Answer(200, body.to_string())).await;
        let rig = Rig::new(&principal(&fake, "")).with_static_keys();
        assert_eq!(rig.failure().await.class, Class::WrongService, "{body}");
    }
    // An ARN that would break out of the statement is not pasted.
    let fake = Fake::start(|request| match request.form()["Action"].as_str() {
        "GetCallerIdentity" => Reply::Answer(200, CALLER.replace("i-1", "\"},{\"Effect\":\"Allow")),
        _ => Reply::Answer(403, error("AccessDenied", "no")),
    })
    .await;
    let rig = Rig::new(&principal(&fake, "")).with_static_keys();
    assert!(rig.failure().await.fix.contains("ARN_OF_AAM"));
}

#[tokio::test]
async fn a_web_identity_token_is_read_at_each_mint() {
    let claims = |n: u32| {
        use data_encoding::BASE64URL_NOPAD as url_safe;
        let body = format!(
            r#"{{"iss":"https://oidc.example/id/A","sub":"system:serviceaccount:ns:aam","aud":["sts.amazonaws.com"],"n":{n}}}"#
        );
        format!("{}.{}.canary-signature-{n}", url_safe.encode(b"{\"alg\":\"RS256\"}"), url_safe.encode(body.as_bytes()))
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let answers = Arc::new(AtomicI64::new(0));
    let count = Arc::clone(&answers);
    let fake = Fake::start(move |request| {
        let is_signed = request.headers.contains_key("authorization");
        assert!(!is_signed, "AssumeRoleWithWebIdentity is not signed");
        match count.fetch_add(1, SeqCst) {
            0 => Reply::Answer(200, minted("AssumeRoleWithWebIdentity", ONE_HOUR)),
            1 => Reply::Answer(400, error("ExpiredTokenException", "Token expired")),
            2 => Reply::Answer(403, error("AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity")),
            3 => Reply::Answer(400, error("InvalidIdentityToken", "No OpenIDConnect provider found in your account")),
            4 => Reply::Answer(400, error("IDPCommunicationError", "timeout")),
            _ => Reply::Answer(403, error("IDPRejectedClaim", "revoked")),
        }
    })
    .await;
    let rig = Rig::new(&format!(
        "{{kind: aws, web_identity_token_file: \"{}\", role_arn: \"{ROLE}\", sts_url: \"{}\"}}",
        file.display(),
        fake.url
    ));
    let failure = rig.failure().await;
    assert!(failure.class == Class::CredentialMissing && failure.fix.contains("AWS_WEB_IDENTITY_TOKEN_FILE"), "{failure:?}");
    std::fs::write(&file, claims(1)).unwrap();
    let provided = rig.provide(Reading::Cached).await.unwrap();
    assert!(provided.credential.is_read_only());
    assert_eq!(provided.facts.evidence["web_identity"], "system:serviceaccount:ns:aam");
    std::fs::write(&file, claims(2)).unwrap();
    let anew = || async { rig.provide(Reading::Anew).await.err().unwrap() };
    let failure = anew().await;
    assert!(failure.class == Class::CredentialRejected && failure.fix.contains("kubelet"), "{failure:?}");
    let failure = anew().await;
    assert_eq!(failure.class, Class::PermissionDenied);
    for part in [
        r#""Federated":"arn:aws:iam::222233334444:oidc-provider/oidc.example/id/A""#,
        r#""oidc.example/id/A:sub":"system:serviceaccount:ns:aam""#,
        r#""oidc.example/id/A:aud":"sts.amazonaws.com""#,
    ] {
        assert!(failure.fix.contains(part), "{failure:?}");
    }
    let failure = anew().await;
    assert!(
        failure.fix.contains("get-open-id-connect-provider") && failure.fix.contains("https://oidc.example/id/A"),
        "{failure:?}"
    );
    let failure = anew().await;
    assert!(failure.class == Class::Remote && failure.fix.contains(".well-known/openid-configuration"), "{failure:?}");
    assert_eq!(anew().await.class, Class::CredentialRejected);
    let received = fake.received.lock().unwrap().clone();
    assert_eq!(received[0].form()["WebIdentityToken"], claims(1));
    assert_eq!(received[1].form()["WebIdentityToken"], claims(2));
    assert!(received.iter().all(|call| call.form().contains_key("Policy") && !call.form().contains_key("ExternalId")));
}
