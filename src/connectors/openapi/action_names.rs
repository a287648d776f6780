//! The names of actions and of sensitive things, for [`super::side_effects`]. This module is pure.

/// What a name means, and where it means that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// An action or a sensitive thing wherever it stands in a path or an operationId.
    Anywhere,
    /// An action only where a verb stands: as the first word of an operationId or of a segment of a path, or as a whole
    /// segment that is the last one or precedes another name. Elsewhere it is usually a noun.
    AsVerb,
    /// A thing that is not dangerous to request, but that other operations are preferred to.
    Last,
}

/// The names, in lower case and separated by spaces. Only whole parts of a name count, so `/exports` and `/cartoons` may be
/// called; [`FIRST`] and [`FINAL`] add names that are joined without a separator. `sign-out` stands for the two parts of
/// `sign_out` and `signOut`.
pub const NAMES: &[(Meaning, &str)] = &[
    // Sessions.
    (
        Meaning::Anywhere,
        "login logon logout logoff signin signon signout signoff signup log-in log-on log-out log-off sign-in sign-on \
         sign-out sign-off sign-up authenticate authorize impersonate unregister callback oauth oauth2 saml sso \
         end-session endsession",
    ),
    // Changes of data.
    (
        Meaning::Anywhere,
        "create insert upsert modify delete destroy remove purge erase wipe flush truncate undelete unarchive rename \
         assign unassign unset unlink deletion dequeue consume ack acknowledge increment migrate detach",
    ),
    // Secrets, and what creates or ends them.
    (
        Meaning::Anywhere,
        "token secret secrets credential credentials password passwords passwd passphrase otp totp csrf xsrf jwt captcha \
         api-key access-key private-key apikey api-keys access-keys private-keys apikeys revoke revocation rotate reset \
         regenerate renew invalidate mint unlock enroll",
    ),
    // Jobs, machines and files that are made on request.
    (
        Meaning::Anywhere,
        "send resend trigger run rerun execute exec invoke start stop restart reboot shutdown shut-down kill terminate \
         pause resume suspend enable disable activate deactivate deploy undeploy rollback roll-back unpublish reindex \
         rebuild reload uninstall export download turn-on turn-off switch-on switch-off power-on power-off poweroff halt \
         disconnect",
    ),
    // Decisions and purchases.
    (
        Meaning::Anywhere,
        "cancel approve disapprove reject decline confirm verify submit reopen subscribe unsubscribe unfollow opt-in \
         opt-out cart basket checkout check-out check-in purchase refund withdraw redeem",
    ),
    (
        Meaning::AsVerb,
        "accept add archive backup ban block buy capture charge claim clear clone close commit deposit drop dump edit \
         fork generate grant import init install invite join leave lock merge move mute notify patch pay pop provision \
         publish put refresh register restore retry save set sync toggle transfer update upload validate vote",
    ),
    (Meaning::Last, "tokens keys jwks session sessions cookie cookies webhook logs audit debug metrics admin internal private"),
];

/// Words that follow a verb and precede its object, as in "Deletes the user". "Exports list" is the name of a list.
pub const DETERMINERS: &[&str] =
    &["the", "a", "an", "all", "this", "that", "your", "my", "one", "current", "every", "each", "any"];

/// Verbs that are also nouns, so that `/import-jobs` and `/block/latest` may be called.
pub const NOUNS: &[&str] = &[
    "archive", "backup", "block", "buy", "capture", "charge", "claim", "commit", "deposit", "drop", "dump", "grant", "import",
    "install", "invite", "join", "lock", "merge", "move", "patch", "put", "refresh", "restore", "retry", "sync", "transfer",
    "upload", "vote",
];

/// What follows a noun in the name of something that is only read.
pub const READ_ENDINGS: &[&str] = &[
    "codes",
    "count",
    "current",
    "events",
    "history",
    "info",
    "items",
    "jobs",
    "latest",
    "list",
    "locations",
    "logs",
    "options",
    "orders",
    "points",
    "policies",
    "prices",
    "rates",
    "records",
    "requests",
    "rules",
    "runs",
    "schedules",
    "search",
    "settings",
    "stats",
    "status",
    "tasks",
    "templates",
    "types",
];

/// Actions that are recognised at the beginning of a longer word: `deleteaccount`.
pub const FIRST: &[&str] = &[
    "logout",
    "logoff",
    "login",
    "signout",
    "signin",
    "signup",
    "delete",
    "create",
    "remove",
    "revoke",
    "rotate",
    "reset",
    "export",
    "download",
    "checkout",
    "password",
    "credential",
    "unsubscribe",
    "destroy",
    "purge",
    "terminate",
    "cancel",
    "impersonate",
    "shutdown",
];

/// Actions and sensitive things that are recognised at the end of a longer word: `addtocart`.
pub const FINAL: &[&str] = &[
    "logout",
    "logoff",
    "login",
    "signout",
    "signin",
    "signup",
    "delete",
    "create",
    "remove",
    "revoke",
    "rotate",
    "reset",
    "export",
    "download",
    "checkout",
    "password",
    "passwords",
    "credential",
    "credentials",
    "token",
    "secret",
    "secrets",
    "cart",
    "apikey",
    "apikeys",
    "unsubscribe",
    "shutdown",
];

/// What follows an action in names that do not mean it: `created`, `exporters`, `signing`, `passwordless`.
pub const INFLECTIONS: &[&str] =
    &["s", "d", "r", "rs", "ed", "er", "ers", "or", "ors", "ing", "able", "ion", "ions", "less", "g", "gs", "dat", "dby", "don"];
