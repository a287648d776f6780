//! Classifies MySQL and MariaDB errors.
//!
//! The codes are from the MySQL Server Error Message Reference and the MariaDB Error Code Reference; 9001 and the text
//! `ProxySQL Error` are from the sources of ProxySQL.

use super::auth::{LoginRefusal, Plugin};
use super::client::ClientError;
use super::packets::PacketError;
use crate::connectors::sql::quote::backtick;
use crate::connectors::sql::server::unreachable;
use crate::connectors::sql::tls;
use crate::connectors::sql::uri::DatabaseServer;
use crate::model::{Class, Failure};
use std::io::ErrorKind;
use std::time::Duration;

/// The phase in which an error occurred.
#[derive(Clone, Copy)]
pub enum Stage<'a> {
    /// Before the login is complete.
    Open,
    /// After the login. The text names what was attempted, for example `list the tables`.
    Work(&'a str),
}

/// Classifies `error`.
#[must_use]
pub fn classify(server: &DatabaseServer, user: &str, stage: Stage<'_>, error: &ClientError) -> Failure {
    match error {
        ClientError::Tls(reason) => tls::failure(server, reason),
        ClientError::Login(refusal) => classify_refusal(server, user, refusal),
        ClientError::OldProtocol => Failure::new(
            Class::Unsupported,
            format!("{server}: the server speaks only the protocol before MySQL 4.1"),
            "AAM reads MySQL since 4.1 and every MariaDB; upgrade the server, or export the data",
        )
        .detail("its greeting lacks CLIENT_PROTOCOL_41 or CLIENT_SECURE_CONNECTION, or its challenge does not have 20 bytes"),
        ClientError::Packet(PacketError::Server(own)) => {
            let message = format!("ERROR {} ({}): {}", own.code, own.state, own.message);
            classify_code(server, user, stage, own.code, &message)
        }
        ClientError::Packet(PacketError::Io(io)) => classify_io(server, stage, io),
        ClientError::Packet(PacketError::NotMysql) => wrong_service(server),
        ClientError::Packet(PacketError::Malformed(rule)) => Failure::new(
            Class::Remote,
            format!("{server}: the response breaks the MySQL protocol"),
            format!("check that {} is a MySQL or MariaDB server, and the proxies between AAM and it", server.authority()),
        )
        .detail(*rule),
        ClientError::Packet(PacketError::Memory(bound)) => bound.failure(&format!("{server}: the answer")),
        ClientError::Packet(PacketError::TooLarge(what)) => Failure::new(
            Class::Unsupported,
            format!("{server}: a response exceeds a limit of AAM: {what}"),
            "give the account access to fewer tables, or to views without the very long values",
        ),
    }
}

fn classify_refusal(server: &DatabaseServer, user: &str, refusal: &LoginRefusal) -> Failure {
    let account = account_of(user);
    match refusal {
        LoginRefusal::Unproven(plugin) => Failure::new(
            Class::Misconfigured,
            format!("{server}: the server asks for the password itself, but TLS does not prove which server it is"),
            format!(
                "write ?sslMode=verify-full into the resource id; or allow it in the policy: network: {{allow_weak_login: [\"{}\"]}}",
                server.authority()
            ),
        )
        .detail(match plugin {
            Plugin::CachingSha2 => format!(
                "{} was answered; the server does not have its result in its cache and asks for the password",
                plugin.as_str()
            ),
            _ => format!("the authentication plugin of the account is {}", plugin.as_str()),
        }),
        LoginRefusal::UnsupportedPlugin(name) => Failure::new(
            Class::Unsupported,
            match name {
                Some(name) => format!("{server}: AAM does not support the authentication plugin {name} of this account"),
                None => format!("{server}: AAM does not support the authentication plugin of this account"),
            },
            format!(
                "use an account with one of mysql_native_password, caching_sha2_password, ed25519; for example in MySQL: \
                 ALTER USER {account} IDENTIFIED WITH caching_sha2_password BY '...'; in MariaDB: \
                 ALTER USER {account} IDENTIFIED VIA ed25519 USING PASSWORD('...');"
            ),
        )
        .detail("without a password in the form that the plugin expects, the server does not complete the login"),
        LoginRefusal::Broken(what) => Failure::new(
            Class::Remote,
            format!("{server}: the login breaks the MySQL protocol"),
            format!("check that {} is a MySQL or MariaDB server, and the proxies between AAM and it", server.authority()),
        )
        .detail(*what),
    }
}

/// The failure of a login that was refused without TLS and then failed with TLS as well.
#[must_use]
pub fn also_over_tls(refused: Failure, with_tls: &Failure) -> Failure {
    // The same refusal over TLS shows that TLS is not what is missing.
    if with_tls.class == Class::CredentialRejected {
        return refused;
    }
    let fix = format!(
        "{}; if the account requires TLS, write sslMode=verify-full into the resource id ({}: {})",
        refused.fix.trim_end_matches(';'),
        with_tls.title,
        with_tls.fix
    );
    Failure { fix, ..refused }
}

/// Classifies an error code. `message` is the server's message and becomes the detail of the failure.
#[must_use]
pub fn classify_code(server: &DatabaseServer, user: &str, stage: Stage<'_>, code: u16, message: &str) -> Failure {
    let doing = match stage {
        Stage::Open => "log in",
        Stage::Work(what) => what,
    };
    let failure = match stage {
        Stage::Work(what) => object_failure(server, user, what, code),
        Stage::Open => None,
    };
    let failure = failure.or_else(|| login_failure(server, user, code, message)).or_else(|| server_failure(server, user, code));
    let failure = failure.unwrap_or_else(|| {
        Failure::new(
            Class::Remote,
            format!("{server}: the server refused to {doing}"),
            "see the detail, which is the message of the server",
        )
    });
    failure.detail(format!("the server said: {message}"))
}

/// The account as it is written in statements. AAM does not know from which host the server sees it.
fn account_of(user: &str) -> String {
    format!("'{}'@'HOST'", user.replace('\'', "''"))
}

/// The statement that allows `user` to read all tables of its database.
pub fn grant_for(server: &DatabaseServer, user: &str) -> String {
    format!("GRANT SELECT, SHOW VIEW ON {}.* TO {};", backtick(&server.database), account_of(user))
}

/// Failures that concern the object that was read.
fn object_failure(server: &DatabaseServer, user: &str, doing: &str, code: u16) -> Option<Failure> {
    let remote = |title: String, fix: &str| Some(Failure::new(Class::Remote, title, fix));
    match code {
        1045 | 1449 => Some(Failure::new(
            Class::PermissionDenied,
            format!("{server}: could not {doing}: the DEFINER of the view no longer exists or has lost its rights"),
            "ALTER DEFINER = an existing account VIEW ...; or remove the view",
        )),
        1356 => remote(
            format!("{server}: could not {doing}: the view refers to something that is missing or that its definer may not read"),
            "SHOW CREATE VIEW shows what the view refers to; change the view, or remove it",
        ),
        1142 | 1143 | 1227 | 1370 => Some(Failure::new(
            Class::PermissionDenied,
            format!("{server}: {user} does not have the privilege to {doing}"),
            grant_for(server, user),
        )),
        1792 => remote(
            format!("{server}: could not {doing}, because it would write and the transaction is read-only"),
            &format!("a view or function writes when it is read: REVOKE SELECT on it FROM {};", account_of(user)),
        ),
        1205 => remote(
            format!("{server}: could not {doing}: another session has locked it"),
            "look for the session that holds the lock: SHOW PROCESSLIST;",
        ),
        1317 | 1969 | 3024 => remote(
            format!("{server}: the time limit stopped the statement to {doing}"),
            "check the load and the number of tables on the server",
        ),
        // The engine cannot open or read the files of a table: 1016 and 1017 (file), 1030 (engine), 1033 and 1034
        // (structure, index), 1035, 1194 and 1195 (crashed), 1812 and 1932 (tablespace, engine), 1877, 3723.
        29 | 1016 | 1017 | 1030 | 1033 | 1034 | 1035 | 1194 | 1195 | 1812 | 1877 | 1932 | 3723 => remote(
            format!("{server}: could not {doing}: the server cannot read the files of the table"),
            "CHECK TABLE shows what is damaged; REPAIR TABLE, or restore the table from a backup",
        ),
        1064 if doing == READ_ONLY => Some(Failure::new(
            Class::Unsupported,
            format!("{server}: the server does not have read-only transactions"),
            "AAM reads MySQL since 5.6 and MariaDB since 10.0; upgrade the server",
        )),
        _ => None,
    }
}

/// What [`super::session`] attempts first. A server that does not know the statement is too old.
pub const READ_ONLY: &str = "make the session read-only";

/// Failures of the login, and those that the server can report at any time for the account.
fn login_failure(server: &DatabaseServer, user: &str, code: u16, message: &str) -> Option<Failure> {
    let account = account_of(user);
    let rejected = |title: String, fix: String| Some(Failure::new(Class::CredentialRejected, title, fix));
    match code {
        1045 if message.contains("ProxySQL Error") => rejected(
            format!("{server}: the pooler ProxySQL does not accept {user} with this password"),
            "add the account to mysql_users of ProxySQL, then LOAD MYSQL USERS TO RUNTIME; or store the right password where \
             credential_locator points"
                .to_string(),
        ),
        1045 | 1698 => rejected(
            format!("{server}: the server does not accept {user} with this password"),
            format!(
                "store the right password where credential_locator points; to set a new one: ALTER USER {account} IDENTIFIED BY '...';"
            ),
        ),
        1820 | 1862 => rejected(
            format!("{server}: the password of {user} has expired, and the server demands a new one"),
            format!("ALTER USER {account} IDENTIFIED BY '...'; then store the new password where credential_locator points"),
        ),
        3118 | 3955 | 4151 => {
            rejected(format!("{server}: the account {user} is locked"), format!("ALTER USER {account} ACCOUNT UNLOCK;"))
        }
        1130 => rejected(
            format!("{server}: the server does not accept connections from this machine"),
            format!("create the account {account} for the address of this machine"),
        ),
        1044 => Some(Failure::new(
            Class::PermissionDenied,
            format!("{server}: {user} does not have access to the database"),
            grant_for(server, user),
        )),
        1049 => Some(Failure::new(
            Class::NotFound,
            format!("{server}: the database does not exist"),
            "correct the name in the resource id; SHOW DATABASES lists those that exist",
        )),
        // 1275: the account has a password hash of MySQL 3.23, which the server no longer accepts.
        1251 | 1275 | 1524 => Some(Failure::new(
            Class::Unsupported,
            format!("{server}: the server cannot use the authentication plugin of {user}"),
            format!("ALTER USER {account} IDENTIFIED BY '...'; gives the account another one; or load the plugin on the server"),
        )),
        3159 => Some(Failure::new(
            Class::Misconfigured,
            format!("{server}: the server accepts encrypted connections only"),
            "write sslMode=verify-full into the resource id",
        )),
        _ => None,
    }
}

/// Failures of the whole server, or of a pooler in front of it.
fn server_failure(server: &DatabaseServer, user: &str, code: u16) -> Option<Failure> {
    let remote = |title: String, fix: &str| Some(Failure::new(Class::Remote, title, fix));
    match code {
        1040 | 1203 | 1226 => Some(
            Failure::new(
                Class::Throttled,
                format!("{server}: the server does not have a free connection for {user}"),
                "wait, or raise max_connections or the account's MAX_USER_CONNECTIONS",
            )
            .after(Duration::from_secs(30)),
        ),
        1129 => {
            remote(format!("{server}: the server has blocked this machine after failed connections"), "mariadb-admin flush-hosts")
        }
        1053 => remote(format!("{server}: the server is shutting down"), "wait until it accepts connections"),
        9001 => remote(
            format!("{server}: the pooler ProxySQL could not connect to a database server"),
            "check the servers of the account's default_hostgroup: SELECT * FROM runtime_mysql_servers;",
        ),
        _ => None,
    }
}

fn classify_io(server: &DatabaseServer, stage: Stage<'_>, error: &std::io::Error) -> Failure {
    let failure = match error.kind() {
        ErrorKind::ConnectionRefused | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::TimedOut => {
            return unreachable(server, error);
        }
        ErrorKind::ConnectionReset if matches!(stage, Stage::Open) => Failure::new(
            Class::Network,
            format!("{server}: the connection was reset"),
            "check the firewalls and proxies between AAM and the server",
        ),
        _ => Failure::new(
            Class::Remote,
            format!("{server}: the connection was closed in the middle of a response"),
            "check the log of the server and the proxies between AAM and the server",
        ),
    };
    failure.detail(error.to_string())
}

fn wrong_service(server: &DatabaseServer) -> Failure {
    Failure::new(
        Class::WrongService,
        format!("{server}: the service at this address does not speak the MySQL protocol"),
        format!("check host and port: {} is another service", server.authority()),
    )
    .detail("its first packet is not a greeting of MySQL")
}
