//! The moods that every vendor has. `docs/sandbox.md` lists them.

use crate::config::Account;
use crate::reply::{Delivery, Reply};
use std::time::Duration;

/// The names of the moods that every vendor has.
pub const COMMON: [&str; 14] = [
    "slow", "hanging", "cut", "page", "moved", "strayed", "busy500", "busy502", "busy503", "down", "limited", "empty", "many",
    "blind",
];

/// How long a slow vendor takes for each answer.
pub const SLOW: Duration = Duration::from_millis(700);

/// The calls that a busy vendor answers with its status before it answers well.
pub const BUSY_CALLS: u64 = 2;

/// The items of each dataset of an account that has many.
pub const MANY_ITEMS: u64 = 45;

/// The host that `moved` and `strayed` send callers to.
pub const OTHER_HOST: &str = "elsewhere.invalid";

pub const PAGE: &str = "<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body><h1>Sign in</h1><p>This is a page for people.</p></body></html>\n";

const DOWN: &str = "<html><head><title>503 Service Temporarily Unavailable</title></head><body><center><h1>503 Service Temporarily Unavailable</h1></center></body></html>\n";

/// The answer of the vendor's infrastructure, before its API looks at the request. `call` counts the account's calls from 1.
/// `is_token` is a call of a token endpoint: those are only late, absent or down.
pub fn early(account: &Account, call: u64, path: &str, is_token: bool) -> Option<Reply> {
    if account.has("hanging") {
        return Some(Reply { delivery: Delivery::Never, ..Reply::new(200) });
    }
    if account.has("down") {
        return Some(down());
    }
    if is_token {
        return None;
    }
    let busy = ["busy500", "busy502", "busy503"].into_iter().find(|mood| account.has(mood));
    if let Some(status) = busy.filter(|_| call <= BUSY_CALLS).and_then(|mood| mood.strip_prefix("busy")?.parse().ok()) {
        return Some(Reply::html(status, &format!("<html><body><h1>{status}</h1></body></html>\n")));
    }
    if account.has("page") {
        return Some(Reply::html(200, PAGE));
    }
    if account.has("moved") {
        let mut reply = Reply::new(302);
        reply.headers.push(("location".to_owned(), format!("https://{OTHER_HOST}{path}")));
        return Some(reply);
    }
    None
}

/// The answer of a vendor that is down.
pub fn down() -> Reply {
    Reply::html(503, DOWN)
}

/// Changes an answer of the API.
pub fn late(account: &Account, reply: &mut Reply) {
    if account.has("slow") {
        reply.delay += SLOW;
    }
    if account.has("cut") {
        reply.delivery = Delivery::Cut;
    }
}
