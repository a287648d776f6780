//! A resource id that its family does not understand: the intent is REJECTED before its credential is looked at, it is in
//! no denominator, and the message names the accepted forms.

use crate::support::daemon::{Workspace, intent_with_locator};

/// A malformed id of each engine, and a part of the accepted form that its fix must name.
const MALFORMED: [(&str, &str, &str); 9] = [
    ("slack", "workspace_T1", "workspace_T0123ABCD or T0123ABCD (workspace)"),
    ("github", "acme/platform/extra", "acme/website (repository), acme (organization)"),
    ("postgres", "postgresql://db.acme.example", "postgresql://HOST"),
    ("jdbc", "shop database", "jdbc:postgresql:"),
    ("jdbc", "jdbc:mysql://db.acme.example:99999/shop", "jdbc:mysql:"),
    ("openapi", "not a url", "https://"),
    ("s3", "Not_A_Bucket!", "s3://BUCKET"),
    ("s3_compat", "https://minio.acme.example", "https://ENDPOINT/BUCKET"),
    ("filesource", "file:///srv/x.csv", "/srv/x.csv"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_resource_id_is_rejected_with_the_accepted_forms() {
    let workspace = Workspace::new();
    workspace.write_policy("allowlist: [slack, github, postgres, jdbc, openapi, s3, s3_compat, filesource]\n");
    let daemon = workspace.serve().await;
    for (source_type, id, form) in MALFORMED {
        // The credential does not exist either, which must not matter.
        let answer = daemon.push(&intent_with_locator(source_type, id, "env:NOT_SET_ANYWHERE")).await;
        assert_eq!(answer.body["status"], "REJECTED", "{source_type} {id}: {}", answer.body);
        assert_eq!(answer.body["error"]["class"], "not_mappable", "{}", answer.body);
        let fix = answer.body["error"]["fix"].as_str().unwrap_or_default();
        assert!(fix.contains(form), "{source_type} {id}: {fix}");
    }
    let funnel = daemon.funnel().await;
    assert_eq!(funnel["rejected"], MALFORMED.len(), "{funnel}");
    assert_eq!((&funnel["eligible"], &funnel["awaiting_credentials"]), (&0.into(), &0.into()), "{funnel}");
    daemon.stop().await;
}
