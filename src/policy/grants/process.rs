//! The environment variables that belong to the process and are never a credential.

use crate::model::Locator;

/// Variables of the shell, the system, the TLS libraries and the service manager, compared without regard to case.
const NAMES: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "USERNAME",
    "SHELL",
    "PWD",
    "OLDPWD",
    "SHLVL",
    "_",
    "LANG",
    "LANGUAGE",
    "TERM",
    "TZ",
    "TMP",
    "TEMP",
    "TMPDIR",
    "HOSTNAME",
    "MAIL",
    "DISPLAY",
    "EDITOR",
    "PAGER",
    "PORT",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "FTP_PROXY",
    "NO_PROXY",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "OPENSSL_CONF",
    "GLIBC_TUNABLES",
    "DBUS_SESSION_BUS_ADDRESS",
    // bash(1), "Shell Variables"; the mark of a container (systemd, Podman, LXC).
    "BASH_ENV",
    "ENV",
    "CDPATH",
    "HISTFILE",
    "HISTFILESIZE",
    "HISTSIZE",
    "HISTCONTROL",
    "HISTIGNORE",
    "HISTTIMEFORMAT",
    "CONTAINER",
    // node(1), java(1).
    "NODE_ENV",
    "NODE_OPTIONS",
    "NODE_PATH",
    "NODE_EXTRA_CA_CERTS",
    "NODE_TLS_REJECT_UNAUTHORIZED",
    "JAVA_HOME",
    "JAVA_OPTS",
    "JAVA_TOOL_OPTIONS",
    "_JAVA_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "CLASSPATH",
    // systemd.exec(5), sd_notify(3), sd_listen_fds(3).
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "NOTIFY_SOCKET",
    "MAINPID",
    "MANAGERPID",
    "SERVICE_RESULT",
    "EXIT_CODE",
    "EXIT_STATUS",
    "RUNTIME_DIRECTORY",
    "STATE_DIRECTORY",
    "CACHE_DIRECTORY",
    "LOGS_DIRECTORY",
    "CONFIGURATION_DIRECTORY",
    "CREDENTIALS_DIRECTORY",
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "MEMORY_PRESSURE_WATCH",
    "MEMORY_PRESSURE_WRITE",
];

/// Beginnings of such names.
const PREFIXES: &[&str] = &[
    "AAM_",
    "LC_",
    "LD_",
    "DYLD_",
    "XDG_",
    "SSH_",
    "SUDO_",
    "SSL_CERT_",
    "SYSTEMD_",
    "KUBERNETES_",
    "TOKIO_",
    "RUST_",
    "RUSTUP_",
    "CARGO_",
    "MALLOC_",
    "BASH_FUNC_",
    "GIT_",
    "PERL5",
];

/// Interpreters whose variables are the name and further letters without an underscore: `PYTHONPATH`, `RUBYOPT`. Names such
/// as `PYTHON_TOKEN` and `RUBYGEMS_API_KEY` are not among them.
const INTERPRETERS: [&str; 3] = ["PYTHON", "RUBY", "PERL"];

/// Ends of the names that Kubernetes and container links add for each service: `SHOP_SERVICE_HOST`,
/// `SHOP_SERVICE_PORT_HTTP`, `SHOP_PORT`, `SHOP_PORT_80_TCP_ADDR`.
const SERVICE_ENDS: [&str; 3] = ["_SERVICE_HOST", "_SERVICE_PORT", "_PORT"];

/// Whether `locator` names a variable of the process itself.
#[must_use]
pub fn is_process_variable(locator: &Locator) -> bool {
    let Locator::Env(name) = locator else { return false };
    let upper = name.to_ascii_uppercase();
    NAMES.contains(&upper.as_str())
        || PREFIXES.iter().any(|prefix| upper.starts_with(prefix))
        || SERVICE_ENDS.iter().any(|end| upper.ends_with(end))
        || upper.contains("_SERVICE_PORT_")
        || is_container_link(&upper)
        || is_interpreter_variable(&upper)
}

/// Whether the name is of the form `SHOP_PORT_80_TCP` or `SHOP_PORT_80_TCP_ADDR`.
fn is_container_link(upper: &str) -> bool {
    upper.split("_PORT_").skip(1).any(|rest| {
        let (port, protocol) = rest.split_once('_').unwrap_or((rest, ""));
        let protocol = protocol.split('_').next().unwrap_or_default();
        !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) && matches!(protocol, "TCP" | "UDP" | "SCTP")
    })
}

fn is_interpreter_variable(upper: &str) -> bool {
    let rest = INTERPRETERS.iter().find_map(|interpreter| upper.strip_prefix(interpreter));
    rest.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}
