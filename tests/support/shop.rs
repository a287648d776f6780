//! A mock of the invented vendor that the manifest `tests/data/lowcode/shop.yaml` describes: an online shop with
//! customers, orders and events, served on loopback by threads.
//!
//! The first segment of the path selects its behaviour: `ok`, `retry` (the first two calls of a path end in 500),
//! `broken` (always 500), `missing` (404), `html` (not JSON), `nulls` (a record without a name, and 403 for the orders
//! of one customer), `nofield` (the list is under another key), `echo` (records and errors that contain the token),
//! `elsewhere-PORT` (links to another port). Every request needs `Authorization: Bearer` with [`TOKEN`].

use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

/// The token that the shop accepts.
pub const TOKEN: &str = "shop-token-1";
/// The number of customers.
const CUSTOMERS: usize = 7;

/// The running mock of the shop.
pub struct Shop {
    pub url: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// `METHOD target authorization`, in order.
    requests: Vec<String>,
    failures: HashMap<String, usize>,
}

impl Shop {
    /// Starts a shop on a port that the kernel chooses.
    pub fn start() -> Shop {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let state = Arc::clone(&shared);
                std::thread::spawn(move || serve(socket, &state));
            }
        });
        Shop { url, state }
    }

    /// A config for a shop that behaves as `mode` says.
    #[allow(dead_code, reason = "the bench writes its own")]
    pub fn config(&self, mode: &str) -> Value {
        json!({"base_url": format!("{}/{mode}", self.url), "api_key": TOKEN, "start_date": "2024-01-01T00:00:00Z", "shop": "north"})
    }

    /// The port on which the shop listens.
    pub fn port(&self) -> &str {
        self.url.rsplit(':').next().unwrap_or_default()
    }

    /// The requests since the previous call, in order.
    pub fn take_requests(&self) -> Vec<String> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.failures.clear();
        std::mem::take(&mut state.requests)
    }
}

/// Answers the requests of one connection until the client closes it.
fn serve(socket: TcpStream, state: &Mutex<State>) {
    let _ = socket.set_nodelay(true);
    let Ok(mut out) = socket.try_clone() else { return };
    let mut lines = BufReader::new(socket).lines().map_while(Result::ok);
    while let Some(first) = lines.next() {
        let (mut authorization, mut host) = (String::new(), String::new());
        for line in lines.by_ref().take_while(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').unwrap_or_default();
            match name.to_ascii_lowercase().as_str() {
                "authorization" => authorization = value.trim().to_string(),
                "host" => host = value.trim().to_string(),
                _ => {}
            }
        }
        let mut parts = first.split(' ');
        let (method, target) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let (status, body) = {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            state.requests.push(format!("{method} {target} {authorization}"));
            match method {
                "GET" | "POST" => answer(&host, target, &authorization, &mut state.failures),
                _ => (405, json!({"error": {"message": "method not allowed"}}).to_string()),
            }
        };
        let head =
            format!("HTTP/1.1 {status} Said\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        if out.write_all(head.as_bytes()).is_err() {
            return;
        }
    }
}

fn answer(host: &str, target: &str, authorization: &str, failures: &mut HashMap<String, usize>) -> (u16, String) {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let query: HashMap<String, String> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let mode = parts.first().copied().unwrap_or_default();
    if authorization != format!("Bearer {TOKEN}") {
        return (401, json!({"error": {"message": "token unknown"}}).to_string());
    }
    let failed = failures.entry(path.to_string()).or_default();
    match mode {
        "retry" if *failed < 2 => {
            *failed += 1;
            return (500, json!({"message": "later"}).to_string());
        }
        "broken" => return (500, json!({"message": "down"}).to_string()),
        "missing" => return (404, json!({"message": "no such thing"}).to_string()),
        "html" => return (200, "<html>hello</html>".to_string()),
        "nofield" => return (200, json!({"items": []}).to_string()),
        _ => {}
    }
    match parts.get(1..).unwrap_or_default() {
        ["v1", "customers"] => (200, customers(mode, &query).to_string()),
        ["v1", "customers", id, "orders"] => orders(&format!("http://{host}/{mode}"), mode, id, &query),
        ["v1", "events"] => (200, events(&query).to_string()),
        _ => (404, json!({"message": "no such path"}).to_string()),
    }
}

fn customers(mode: &str, query: &HashMap<String, String>) -> Value {
    let number = |name: &str, other: usize| query.get(name).and_then(|text| text.parse().ok()).unwrap_or(other);
    let (offset, limit): (usize, usize) = (number("offset", 0), number("limit", 100));
    let name = |id: usize| match mode {
        "nulls" if id == 3 => Value::Null,
        "echo" => json!(format!("name {id} came with {TOKEN}")),
        _ => json!(format!("name {id}")),
    };
    let page: Vec<Value> =
        (offset..CUSTOMERS.min(offset.saturating_add(limit))).map(|id| json!({"id": id, "name": name(id)})).collect();
    json!({ "data": page })
}

/// Customer 1 has two pages of orders; the first order of each odd customer is a draft.
fn orders(base: &str, mode: &str, id: &str, query: &HashMap<String, String>) -> (u16, String) {
    let customer: usize = id.parse().unwrap_or_default();
    if mode == "nulls" && customer == 2 {
        return (403, json!({"message": "not yours"}).to_string());
    }
    if mode == "echo" {
        return (403, json!({"message": format!("{TOKEN} may not")}).to_string());
    }
    if query.contains_key("page") {
        return (200, json!({"data": [{"number": format!("{customer}-b"), "state": "paid"}]}).to_string());
    }
    let state = if customer.is_multiple_of(2) { "open" } else { "draft" };
    let mut page = json!({"data": [{"number": format!("{customer}-a"), "state": state}]});
    if customer == 1 {
        let base = mode.strip_prefix("elsewhere-").map_or(base.to_string(), |port| format!("http://127.0.0.1:{port}/ok"));
        page["next"] = json!(format!("{base}/v1/customers/1/orders?page=2"));
    }
    (200, page.to_string())
}

fn events(query: &HashMap<String, String>) -> Value {
    let since = query.get("since").map(String::as_str).unwrap_or_default();
    let page: usize = query.get("page").and_then(|text| text.parse().ok()).unwrap_or(1);
    let count = if page == 1 && since.starts_with("2024-01-01") { 4 } else { 2 };
    json!({"data": (0..count).map(|n| json!({"id": format!("{since}/{page}/{n}"), "at": since})).collect::<Vec<_>>()})
}
