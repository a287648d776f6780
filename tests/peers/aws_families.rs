//! The families `aws_org` and `redshift`. moto in auth mode is read as an organization; boto3 judges the sandbox, in which both
//! families are tried otherwise. No server was found that answers the metadata calls of Redshift's Data API: those of moto answer
//! 500.

use crate::daemon::sources::policy;
use crate::harness::variable;
use crate::support::daemon::{Workspace, intent_with_locator};
use crate::support::lowcode_families::EngineFixture;
use aam::model::{Class, Privilege};
use serde_json::{Value, json};
use tokio::process::Command;

peer_tests! {
    [Moto]: an_organization_of_moto_is_read, moto_refuses_wrong_keys_and_missing_permissions,
        a_role_with_an_external_id_reads_the_organization_of_moto;
    [Boto3]: boto3_accepts_the_sandbox_of_aws_org, boto3_accepts_the_sandbox_of_redshift,
        the_families_read_the_sandbox_under_one_base_url;
    [Postgres]: a_database_with_the_catalog_of_redshift_is_read, a_database_that_is_not_redshift_is_refused;
}

fn moto(name: &str) -> String {
    variable("MOTO", name)
}

fn keys_of(user: &str) -> String {
    json!({"access_key_id": moto(&format!("{user}_KEY_ID")), "secret_access_key": moto(&format!("{user}_SECRET"))}).to_string()
}

async fn an_organization_of_moto_is_read() {
    let fixture = EngineFixture::at("aws_org", &moto("ENDPOINT"));
    let arn = format!("arn:aws:organizations::{}:organization/{}", moto("MANAGEMENT"), moto("ORG"));
    for id in [moto("ORG"), moto("MANAGEMENT"), arn] {
        let opened = fixture.open("aws_org", &id, Some(&keys_of("ORG_READER"))).await.unwrap();
        assert!(matches!(opened.privilege, Privilege::Unknown { .. }), "moto does not simulate policies: {:?}", opened.privilege);
        let health = opened.connector.health().await.unwrap();
        assert!(health["read"].as_str().unwrap().starts_with("roots (200"), "{health:?}");
        let discovery = opened.connector.discover(aam::connectors::Bounds::default()).await.unwrap();
        let names: Vec<&str> = discovery.catalog.streams.iter().map(|stream| stream.name.as_str()).collect();
        assert_eq!(names, ["accounts", "organizational_units", "roots"]);
        assert_eq!(opened.connector.tiny_sync(&discovery.catalog, 20).await.unwrap().rows, 20, "of 26 accounts");
    }
    let other = fixture.open("aws_org", "o-anotherorg0", Some(&keys_of("ORG_READER"))).await.err().unwrap();
    assert_eq!(other.class, Class::WrongService, "{other:?}");
}

async fn moto_refuses_wrong_keys_and_missing_permissions() {
    let fixture = EngineFixture::at("aws_org", &moto("ENDPOINT"));
    let id = moto("ORG");
    let swapped = json!({"access_key_id": moto("ORG_READER_KEY_ID"), "secret_access_key": moto("ORG_NARROW_SECRET")}).to_string();
    let unknown = json!({"access_key_id": "AKNOBODYNOBODYNOBODY", "secret_access_key": "x"}).to_string();
    for (credential, class, title) in [
        (swapped, Class::CredentialRejected, "the secret access key does not belong to the access key id".to_string()),
        (unknown, Class::CredentialRejected, "AWS does not accept the access key id".to_string()),
        (
            keys_of("UNPRIVILEGED"),
            Class::PermissionDenied,
            format!(
                "IAM does not allow organizations:DescribeOrganization to arn:aws:iam::{}:user/unprivileged",
                moto("MANAGEMENT")
            ),
        ),
    ] {
        let failure = fixture.open("aws_org", &id, Some(&credential)).await.err().unwrap();
        assert_eq!((failure.class, &failure.title), (class, &title), "{failure:?}");
    }
    let narrow = fixture.open("aws_org", &id, Some(&keys_of("ORG_NARROW"))).await.unwrap();
    let failure = narrow.connector.health().await.unwrap_err();
    assert_eq!(failure.class, Class::PermissionDenied);
    assert!(failure.title.starts_with("IAM does not allow organizations:ListRoots to "), "{failure:?}");
}

async fn a_role_with_an_external_id_reads_the_organization_of_moto() {
    let mut workspace = Workspace::new();
    let at = moto("ENDPOINT");
    workspace.set("AWS_KEYS", &keys_of("ASSUMER"));
    let (role, external_id) = (moto("ROLE"), moto("EXTERNAL_ID"));
    let principal = format!(
        "{{kind: aws, session_name: org, keys: \"env:AWS_KEYS\", role_arn: \"{role}\", external_id: \"{external_id}\", sts_url: \"{at}\"}}"
    );
    let text = policy(
        "1h",
        &format!("families: {{aws_org: {{base_url: \"{at}\"}}}}\ncredentials:\n  principals:\n    role: {principal}\n"),
    );
    workspace.write_policy(&format!("allowlist: [aws_org]\n{text}"));
    let daemon = workspace.serve().await;
    let response = daemon.push(&intent_with_locator("aws_org", &moto("ORG"), "sp:role")).await;
    assert_eq!((response.status, &response.body["status"]), (201, &json!("ACTIVE")), "{}", response.body);
    let steps = response.body["steps"].as_array().cloned().unwrap_or_default();
    let upsert = steps.iter().find(|step| step["step"] == "upsert").unwrap();
    assert_eq!(upsert["evidence"]["privilege"]["verdict"], "ok", "{upsert}");
}

/// Runs boto3 and returns what it prints.
async fn boto3(key: &[&str]) -> Value {
    let ran = Command::new(variable("BOTO3", "PYTHON"))
        .arg(variable("BOTO3", "SCRIPT"))
        .args(key)
        .env("HTTPS_PROXY", variable("BOTO3", "SANDBOX"))
        .env("AWS_CA_BUNDLE", variable("BOTO3", "CA"))
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .output()
        .await
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    serde_json::from_slice(&ran.stdout).unwrap()
}

fn length(list: &Value) -> Option<usize> {
    list.as_array().map(Vec::len)
}

async fn boto3_accepts_the_sandbox_of_aws_org() {
    let read = boto3(&["AKSANDBOXORGREADER01", "sandbox-secret-of-reader"]).await;
    assert_eq!(read["caller"], "arn:aws:iam::111122223333:user/reader");
    assert_eq!(read["organization"]["Id"], "o-acmecompany");
    let lists = ["roots", "units", "accounts"].map(|name| length(&read[name]));
    assert_eq!(lists, [Some(1), Some(5), Some(12)], "{read}");
    assert_eq!(read["simulated"], json!({"organizations:ListRoots": "allowed", "organizations:CloseAccount": "implicitDeny"}));
    let session = boto3(&["ASSANDBOXORGSESSION1", "sandbox-secret-of-session", "sandbox-session-token"]).await;
    assert_eq!(session["caller"], "arn:aws:sts::111122223333:assumed-role/auditor/aam");
    for (key, codes, status) in [
        (vec!["AKSANDBOXORGREADER01", "another"], ["SignatureDoesNotMatch", "InvalidSignatureException"], [403, 400]),
        (vec!["AKSANDBOXORGNOBODY01", "another"], ["InvalidClientTokenId", "UnrecognizedClientException"], [403, 400]),
        (
            vec!["ASSANDBOXORGSESSION1", "sandbox-secret-of-session"],
            ["InvalidClientTokenId", "UnrecognizedClientException"],
            [403, 400],
        ),
        (
            vec!["ASSANDBOXORGEXPIRED1", "sandbox-secret-of-expired", "sandbox-session-ended"],
            ["ExpiredToken", "ExpiredTokenException"],
            [403, 400],
        ),
    ] {
        let refused = boto3(&key).await;
        for ((name, code), status) in ["caller", "organization"].iter().zip(codes).zip(status) {
            assert_eq!((&refused[name]["error"], &refused[name]["status"]), (&json!(code), &json!(status)), "{refused}");
        }
    }
    let member = boto3(&["AKSANDBOXORGMEMBER01", "sandbox-secret-of-member"]).await;
    assert_eq!(member["organization"]["Id"], "o-acmecompany", "DescribeOrganization answers in every account");
    assert_eq!(member["accounts"]["error"], "AccessDeniedException", "{member}");
}

async fn boto3_accepts_the_sandbox_of_redshift() {
    let read = boto3(&["AKSANDBOXRSREADER000", "sandbox-secret-of-reader"]).await;
    assert_eq!(read["databases"], json!(["dev", "warehouse", "awsdatacatalog", "sample_data_dev"]), "{read}");
    assert_eq!((length(&read["tables"]), length(&read["columns"])), (Some(14), Some(4)), "{read}");
    assert_eq!(read["workgroup"]["error"], "ValidationException", "{read}");
    let narrow = boto3(&["AKSANDBOXRSNARROW000", "sandbox-secret-of-narrow"]).await;
    assert_eq!((&narrow["tables"]["error"], &narrow["tables"]["status"]), (&json!("AccessDeniedException"), &json!(400)));
    let wrong = boto3(&["AKSANDBOXRSREADER000", "another"]).await;
    assert_eq!(wrong["databases"]["error"], "InvalidSignatureException", "{wrong}");
}

async fn the_families_read_the_sandbox_under_one_base_url() {
    let keys = |id: &str, secret: &str| json!({"access_key_id": id, "secret_access_key": secret}).to_string();
    for (family, base, id, credential, rows) in [
        ("aws_org", "PLAIN", "o-acmecompany", keys("AKSANDBOXORGREADER01", "sandbox-secret-of-reader"), 18),
        ("redshift", "REDSHIFT", "eu-central-1/reports/dev", keys("AKSANDBOXRSREADER000", "sandbox-secret-of-reader"), 3),
    ] {
        let fixture = EngineFixture::at(family, &variable("BOTO3", base));
        let opened = fixture.open(family, id, Some(&credential)).await.unwrap();
        let reason = match &opened.privilege {
            Privilege::Unknown { reason } => reason.clone(),
            other => format!("{other:?}"),
        };
        assert!(reason.starts_with("IAM was asked about"), "{family}: {reason}");
        let discovery = opened.connector.discover(aam::connectors::Bounds::default()).await.unwrap();
        assert_eq!(opened.connector.tiny_sync(&discovery.catalog, 20).await.unwrap().rows, rows, "{family}");
    }
}

fn postgres(name: &str) -> String {
    variable("POSTGRES", name)
}

/// The seed of PostgreSQL has a database with the version and the views of Redshift. Real Redshift has older functions, another
/// way to log in, and other messages, which PostgreSQL cannot show.
async fn a_database_with_the_catalog_of_redshift_is_read() {
    let fixture = EngineFixture::at("redshift", "http://127.0.0.1:9");
    let host = format!("127.0.0.1:{}", postgres("PORT"));
    let login =
        |user: &str| json!({"user": user, "password": postgres(&format!("{}_PASSWORD", user.to_uppercase()))}).to_string();
    for id in [format!("{host}/redshift"), format!("jdbc:redshift://{host}/redshift;ApplicationName=aam")] {
        let opened = fixture.open("redshift", &id, Some(&login("reader"))).await.unwrap();
        assert_eq!(opened.identity["redshift_version"], "1.0.12103", "{:?}", opened.identity);
        assert_eq!(opened.privilege, Privilege::Ok);
        opened.connector.health().await.unwrap();
        let found = opened.connector.discover(aam::connectors::Bounds::default()).await.unwrap();
        let names: Vec<&str> = found.catalog.streams.iter().map(|stream| stream.name.as_str()).collect();
        assert_eq!(names, ["customers", "orders"], "without the table that the user may not see");
        let columns = &found.catalog.streams[1].json_schema["properties"];
        assert_eq!((&columns["id"]["type"], &columns["amount"]["type"]), (&json!("integer"), &json!(["null", "number"])));
        assert_eq!(opened.connector.tiny_sync(&found.catalog, 20).await.unwrap().rows, 2);
    }
    let writer = fixture.open("redshift", &format!("{host}/redshift"), Some(&login("writer"))).await.unwrap();
    let Privilege::Over { grants } = writer.privilege else { panic!("{:?}", writer.privilege) };
    assert_eq!(grants, ["CREATEDB", "INSERT, UPDATE or DELETE on table \"sales\".\"orders\""]);
}

async fn a_database_that_is_not_redshift_is_refused() {
    let fixture = EngineFixture::at("redshift", "http://127.0.0.1:9");
    let id = format!("127.0.0.1:{}/shop", postgres("PORT"));
    let login = |password: &str| json!({"user": "reader", "password": password}).to_string();
    let failure = fixture.open("redshift", &id, Some(&login(&postgres("READER_PASSWORD")))).await.err().unwrap();
    assert_eq!((failure.class, failure.fix.contains("source_type: postgres")), (Class::WrongService, true), "{failure:?}");
    let failure = fixture.open("redshift", &id, Some(&login("wrong"))).await.err().unwrap();
    assert_eq!(failure.class, Class::CredentialRejected, "{failure:?}");
}
