//! Sources that cannot become ACTIVE, and the texts that the failure of each must contain.

use super::sources::*;
use crate::harness::variable;
use crate::support::daemon::Workspace;

/// A source that cannot become ACTIVE, with the state and the failure that it must have.
pub struct Case {
    pub source: Source,
    pub state: &'static str,
    pub class: &'static str,
    /// Texts that the failure or its fix must contain: the vendor's code, the permission, what to type.
    pub mentions: &'static [&'static str],
}

pub fn case(source: Source, state: &'static str, class: &'static str, mentions: &'static [&'static str]) -> Case {
    Case { source, state, class, mentions }
}

/// The cases of the databases. `closed` is a port on which no program listens, `silent` one whose server never answers,
/// and `cut` are the ports of proxies that close the connection in the middle of a response.
pub fn databases(closed: u16, silent: u16, cut: [u16; 4]) -> Vec<Case> {
    let (pg, maria) = (address("POSTGRES"), address("MARIADB"));
    let wrong = || login("reader", "not-the-password");
    let (postgres, mariadb) = (|| role("POSTGRES", "reader"), || role("MARIADB", "reader"));
    let mut all = vec![
        case(
            source("wrong password", "postgres", format!("postgresql://{pg}/shop?ApplicationName=wrong"), wrong()),
            "AWAITING_CREDENTIALS",
            "credential_rejected",
            &["28P01", "ALTER ROLE"],
        ),
        case(
            source(
                "no permission",
                "postgres",
                format!("postgresql://{pg}/shop?ApplicationName=blind"),
                role("POSTGRES", "blind"),
            ),
            "AWAITING_CREDENTIALS",
            "permission_denied",
            &["lacks USAGE", "GRANT SELECT ON"],
        ),
        case(
            source("no such database", "postgres", format!("postgresql://{pg}/gone"), postgres()),
            "ERROR",
            "not_found",
            &["3D000", "gone"],
        ),
        case(
            source("wrong password", "jdbc", format!("jdbc:mariadb://{maria}/shop?connectTimeout=4000"), wrong()),
            "AWAITING_CREDENTIALS",
            "credential_rejected",
            &["1045", "ALTER USER"],
        ),
        case(
            source("no permission", "jdbc", format!("jdbc:mariadb://{maria}/shop?connectTimeout=4001"), role("MARIADB", "blind")),
            "AWAITING_CREDENTIALS",
            "permission_denied",
            &["1044", "GRANT SELECT"],
        ),
        case(
            source("no such database", "jdbc", format!("jdbc:mariadb://{maria}/gone"), role("MARIADB", "super")),
            "ERROR",
            "not_found",
            &["1049", "gone"],
        ),
    ];
    for (family, scheme, secret, name) in
        [("postgres", "postgresql", postgres(), "PostgreSQL"), ("jdbc", "jdbc:mariadb", mariadb(), "MariaDB")]
    {
        let id = |port: u16| format!("{scheme}://127.0.0.1:{port}/shop");
        let cut = if name == "PostgreSQL" { [cut[0], cut[1]] } else { [cut[2], cut[3]] };
        all.push(case(
            source("unreachable", family, id(closed), secret.clone()),
            "NETWORK_BLOCKED",
            "network",
            &["connection refused"],
        ));
        all.push(case(
            source("hanging", family, id(silent), secret.clone()),
            "NETWORK_BLOCKED",
            "network",
            &["no response within"],
        ));
        all.push(case(source("cut in the login", family, id(cut[0]), secret.clone()), "ERROR", "remote", &["127.0.0.1"]));
        all.push(case(source("cut in an answer", family, id(cut[1]), secret.clone()), "ERROR", "remote", &["127.0.0.1"]));
    }
    all
}

/// The cases of the object stores and the OpenAPI service; the ports are those of [`databases`].
pub fn services(closed: u16, silent: u16, cut: [u16; 2]) -> Vec<Case> {
    let (moto, nanio, fastapi) = (variable("MOTO", "ENDPOINT"), variable("NANIO", "ENDPOINT"), variable("FASTAPI", "URL"));
    let (lister, token) = (|| key("MOTO", "LISTER"), || variable("FASTAPI", "TOKEN"));
    let wrong = |peer: &str, user: &str| format!("{}:not-the-secret", variable(peer, &format!("{user}KEY_ID")));
    let local = |port: u16, path: &str| format!("http://127.0.0.1:{port}{path}");
    vec![
        case(
            source("wrong password", "s3_compat", format!("{moto}/aam-landing/orders"), wrong("MOTO", "LISTER_")),
            "AWAITING_CREDENTIALS",
            "credential_rejected",
            &["SignatureDoesNotMatch", "secret_access_key"],
        ),
        case(
            source("wrong password at nanio", "s3_compat", format!("{nanio}/landing"), wrong("NANIO", "")),
            "AWAITING_CREDENTIALS",
            "credential_rejected",
            &["SignatureDoesNotMatch", "secret_access_key"],
        ),
        case(
            source("unknown key", "s3_compat", format!("{nanio}/landing/orders"), "unknown-key-id:not-the-secret".to_string()),
            "AWAITING_CREDENTIALS",
            "credential_rejected",
            &["InvalidAccessKeyId"],
        ),
        case(
            source("no permission", "s3_compat", format!("{moto}/aam-landing"), key("MOTO", "UNPRIVILEGED")),
            "AWAITING_CREDENTIALS",
            "permission_denied",
            &["AccessDenied", "s3:ListBucket", "\"Action\""],
        ),
        case(
            source("no such bucket", "s3_compat", format!("{nanio}/gone"), key("NANIO", "")),
            "ERROR",
            "not_found",
            &["NoSuchBucket"],
        ),
        case(
            source("unreachable", "s3_compat", local(closed, "/aam-landing"), lister()),
            "NETWORK_BLOCKED",
            "network",
            &["connection refused"],
        ),
        case(
            source("hanging", "s3_compat", local(silent, "/aam-landing"), lister()),
            "NETWORK_BLOCKED",
            "network",
            &["did not answer within"],
        ),
        case(source("cut in an answer", "s3_compat", local(cut[0], "/aam-landing"), lister()), "ERROR", "remote", &["127.0.0.1"]),
        case(
            source("wrong password", "openapi", format!("{fastapi}/openapi.json"), "not-the-token".to_string()),
            "AWAITING_CREDENTIALS",
            "credential_rejected",
            &["401", "unknown token"],
        ),
        case(
            source("no permission", "openapi", fastapi.clone(), format!("{}-unprivileged", token())),
            "AWAITING_CREDENTIALS",
            "permission_denied",
            &["403", "this token may not read books", "GET /books"],
        ),
        case(source("unreachable", "openapi", local(closed, ""), token()), "NETWORK_BLOCKED", "network", &["connection refused"]),
        case(source("hanging", "openapi", local(silent, ""), token()), "NETWORK_BLOCKED", "network", &["did not answer within"]),
        case(source("cut in an answer", "openapi", local(cut[1], ""), token()), "ERROR", "remote", &["127.0.0.1"]),
    ]
}

/// Cases of files, which have neither a password nor a server.
pub fn files(workspace: &Workspace) -> Vec<Case> {
    let intact = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/seeds/data/orders.parquet")).expect("the seed file");
    std::fs::write(workspace.path("data/cut.parquet"), &intact[..intact.len() / 2]).expect("write");
    let path = |name: &str| workspace.path(name).display().to_string();
    vec![
        case(source("no permission", "filesource", path("policy/policy.yaml"), None), "ERROR", "misconfigured", &["files.roots"]),
        case(source("unreachable", "filesource", path("data/gone.csv"), None), "ERROR", "not_found", &["gone.csv"]),
        case(source("cut file", "filesource", path("data/cut.parquet"), None), "ERROR", "remote", &["cut.parquet"]),
    ]
}
