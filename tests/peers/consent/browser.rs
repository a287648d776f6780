//! A headless Chromium that a test drives through ChromeDriver (W3C WebDriver): it clicks and types as a person does.

use crate::harness::{http_client, variable};
use crate::support::daemon::until;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A browser with its own profile: no cookie of another browser is in it.
pub struct Browser {
    driver: Child,
    session: String,
    client: reqwest::Client,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts a browser with a desktop window.
    pub async fn start() -> Browser {
        Browser::with("").await
    }

    /// Starts a browser that runs no script of a page.
    pub async fn without_scripts() -> Browser {
        Browser::with("javascript-off").await
    }

    async fn with(scripts: &str) -> Browser {
        let profile = tempfile::tempdir().expect("a folder");
        // ChromeDriver listens on the same port for IPv4 and IPv6, and ends if another program took one of them meanwhile.
        let (driver, port) = (0..5).find_map(|_| start_driver()).expect("ChromeDriver starts and prints its port");
        let profile_arg = format!("--user-data-dir={}", profile.path().display());
        let args = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--no-proxy-server",
            "--window-size=1280,900",
            profile_arg.as_str(),
        ];
        let preferences = match scripts {
            "" => json!({}),
            _ => json!({"profile.managed_default_content_settings.javascript": 2}),
        };
        let options = json!({"binary": variable("CHROMIUM", "BIN"), "args": args, "prefs": preferences});
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let client = http_client();
        let base = format!("http://127.0.0.1:{port}/session");
        let mut browser = Browser { driver, session: base, client, _profile: profile };
        let started = browser.post("", &wanted).await;
        browser.session = format!("{}/{}", browser.session, started["sessionId"].as_str().unwrap_or_else(|| panic!("{started}")));
        browser
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        let answer = self.client.post(format!("{}{path}", self.session)).json(body).send().await.expect("ChromeDriver answers");
        answer.json::<Value>().await.expect("JSON")["value"].take()
    }

    async fn get(&self, path: &str) -> Value {
        let answer = self.client.get(format!("{}{path}", self.session)).send().await.expect("ChromeDriver answers");
        answer.json::<Value>().await.expect("JSON")["value"].take()
    }

    /// Opens a page. A page that cannot be loaded is not a failure of the test.
    pub async fn open(&self, url: &str) {
        self.post("/url", &json!({"url": url})).await;
    }

    pub async fn address(&self) -> String {
        self.get("/url").await.as_str().unwrap_or_default().to_string()
    }

    /// The text of the page, as a person sees it.
    pub async fn text(&self) -> String {
        match self.find("body").await {
            Some(body) => self.get(&format!("/element/{body}/text")).await.as_str().unwrap_or_default().to_string(),
            None => String::new(),
        }
    }

    async fn find(&self, css: &str) -> Option<String> {
        let found = self.post("/element", &json!({"using": "css selector", "value": css})).await;
        found.as_object()?.values().next()?.as_str().map(str::to_string)
    }

    async fn must_find(&self, css: &str) -> String {
        match self.find(css).await {
            Some(element) => element,
            None => panic!("{css} is not on the page {}:\n{}", self.address().await, self.text().await),
        }
    }

    /// Clicks the element with the mouse.
    pub async fn click(&self, css: &str) {
        let element = self.must_find(css).await;
        let clicked = self.post(&format!("/element/{element}/click"), &json!({})).await;
        assert!(clicked.is_null(), "{css} cannot be clicked: {clicked}");
    }

    /// Types into a field.
    pub async fn fill(&self, css: &str, text: &str) {
        let element = self.must_find(css).await;
        let typed = self.post(&format!("/element/{element}/value"), &json!({"text": text})).await;
        assert!(typed.is_null(), "{css}: {typed}");
    }

    /// Runs a script in the page and returns its value.
    pub async fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", &json!({"script": script, "args": []})).await
    }

    /// Waits until the page shows `text`.
    pub async fn until_shown(&self, text: &str) {
        until(text, || async {
            let shown = format!("{}\n{}", self.address().await, self.text().await);
            (shown.contains(text), shown)
        })
        .await;
    }

    /// Sets the size of the screen in CSS pixels, and dark or light mode.
    pub async fn screen(&self, width: u32, height: u32, dark: bool) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        self.devtools("Emulation.setDeviceMetricsOverride", &size).await;
        let value = if dark { "dark" } else { "light" };
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": value}]});
        self.devtools("Emulation.setEmulatedMedia", &media).await;
    }

    async fn devtools(&self, command: &str, params: &Value) -> Value {
        self.post("/goog/cdp/execute", &json!({"cmd": command, "params": params})).await
    }

    /// Writes the whole page as a PNG.
    pub async fn screenshot(&self, path: &Path) {
        let shot = self.devtools("Page.captureScreenshot", &json!({"format": "png", "captureBeyondViewport": true})).await;
        let data = shot["data"].as_str().unwrap_or_else(|| panic!("{shot}"));
        let bytes = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, data).expect("base64");
        std::fs::write(path, bytes).expect("write");
    }

    /// What the pages wrote to the console since the last call, such as violations of the content security policy.
    pub async fn console(&self) -> Vec<String> {
        let entries = self.post("/se/log", &json!({"type": "browser"})).await;
        let text = |entry: &Value| entry["message"].as_str().unwrap_or_default().to_string();
        entries.as_array().into_iter().flatten().map(text).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let group = nix::unistd::Pid::from_raw(i32::try_from(self.driver.id()).unwrap_or(i32::MAX));
        let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
        let _ = self.driver.wait();
    }
}

/// Starts ChromeDriver and returns it with its port, or `None` if it ended without printing one.
fn start_driver() -> Option<(Child, u16)> {
    let mut driver = Command::new(variable("CHROMIUM", "DRIVER"))
        .arg("--port=0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        // Its own group, so that all processes of the browser end with it.
        .process_group(0)
        .spawn()
        .expect("ChromeDriver starts");
    let lines = BufReader::new(driver.stdout.take().expect("stdout")).lines();
    let port =
        lines.map_while(Result::ok).find_map(|line| line.strip_suffix('.')?.split("successfully on port ").nth(1)?.parse().ok());
    if port.is_none() {
        driver.wait().expect("ChromeDriver has ended");
    }
    port.map(|port| (driver, port))
}
