//! Starts the sandbox, or checks the files of its vendors.

use clap::Parser;
use sandbox::config::load_folder;
use sandbox::sandbox::{Outage, RunOptions, Sandbox};
use sandbox::server::{Entry, serve};
use sandbox::{state, tls::Authority};
use serde_json::{Map, Value, json};
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// `EX_CONFIG` of sysexits.h.
const BAD_FILES: u8 = 78;

/// Plays vendors on loopback from files. docs/sandbox.md describes them.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Folder with one file for each vendor
    #[arg(long, default_value = "sandbox")]
    vendors: PathBuf,
    /// Play only these families
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Check the files of the vendors and end: exit code 78 if a file is wrong
    #[arg(long)]
    check: bool,
    /// Address of the HTTP proxy that has all hosts of the vendors
    #[arg(long, default_value = "127.0.0.1:0")]
    proxy: String,
    /// Plain HTTP for one host: HOST=ADDRESS
    #[arg(long, value_name = "HOST=ADDRESS")]
    http: Vec<String>,
    /// Folder that ca.pem, addresses.json and credentials.json are written to
    #[arg(long, default_value = "var/sandbox")]
    state: PathBuf,
    /// Every answer is late: 80..400ms, or one duration
    #[arg(long, value_parser = latency)]
    latency: Option<(Duration, Duration)>,
    /// Share of calls that fail: 3%
    #[arg(long, value_parser = share, default_value = "0%")]
    faults: f64,
    /// A vendor is down for a while, in seconds from the start: okta=20..80s
    #[arg(long, value_name = "FAMILY=FROM..TO", value_parser = outage)]
    outage: Vec<Outage>,
    /// A vendor throttles each so-many-th call of an account: gitlab=7
    #[arg(long, value_name = "FAMILY=CALLS", value_parser = throttle)]
    throttle: Vec<(String, u64)>,
    /// Makes chance the same in each run
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// End when standard input is closed
    #[arg(long)]
    until_stdin_closes: bool,
}

fn vendors(count: usize) -> String {
    if count == 1 { "1 vendor".to_owned() } else { format!("{count} vendors") }
}

fn milliseconds(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let number = number.parse().ok()?;
    match unit {
        "" | "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        _ => None,
    }
}

/// `80..400ms` or `2s`. A first number without a unit has that of the second.
fn latency(text: &str) -> Result<(Duration, Duration), String> {
    let example = "expected for example 80..400ms or 2s";
    let (least, most) = text.split_once("..").unwrap_or((text, text));
    let unit = most.trim_start_matches(|c: char| c.is_ascii_digit());
    let is_bare = least.bytes().all(|byte| byte.is_ascii_digit());
    let least = if is_bare { milliseconds(&format!("{least}{unit}")) } else { milliseconds(least) };
    match (least, milliseconds(most)) {
        (Some(least), Some(most)) if least <= most => Ok((least, most)),
        (Some(_), Some(_)) => Err("the second duration is shorter than the first".to_owned()),
        _ => Err(example.to_owned()),
    }
}

fn share(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').ok_or("expected for example 3%")?;
    let number: f64 = number.parse().map_err(|_| "expected for example 3%")?;
    if (0.0..=100.0).contains(&number) { Ok(number / 100.0) } else { Err("expected 0% to 100%".to_owned()) }
}

fn outage(text: &str) -> Result<Outage, String> {
    let (family, times) = text.split_once('=').ok_or("expected for example okta=20..80s")?;
    let (from, to) = latency(times)?;
    Ok(Outage { family: family.to_owned(), from, to })
}

fn throttle(text: &str) -> Result<(String, u64), String> {
    let example = || "expected for example gitlab=7".to_owned();
    let (family, calls) = text.split_once('=').ok_or_else(example)?;
    let calls = calls.parse().ok().filter(|calls| *calls > 0).ok_or_else(example)?;
    Ok((family.to_owned(), calls))
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let loaded = match load_folder(&arguments.vendors, &arguments.only) {
        Ok(loaded) => loaded,
        Err(problems) => {
            for problem in problems {
                eprintln!("{problem}");
            }
            return ExitCode::from(BAD_FILES);
        }
    };
    if arguments.check {
        println!("{}: no problem found", vendors(loaded.len()));
        return ExitCode::SUCCESS;
    }
    let options = RunOptions {
        latency: arguments.latency,
        faults: arguments.faults,
        seed: arguments.seed,
        outages: arguments.outage.clone(),
        throttled: arguments.throttle.clone(),
    };
    let sandbox = Arc::new(Sandbox::new(loaded, options));
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("could not start worker threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(run(&arguments, sandbox));
    // Calls that hang are not waited for.
    runtime.shutdown_timeout(Duration::from_millis(200));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

async fn listen(address: &str) -> Result<(TcpListener, String), String> {
    let failed = |error: io::Error| format!("could not listen on {address}: {error}");
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?.to_string();
    Ok((listener, bound))
}

async fn run(arguments: &Arguments, sandbox: Arc<Sandbox>) -> Result<(), String> {
    let folder = &arguments.state;
    let unwritten = |error: io::Error| format!("could not write to {}: {error}", folder.display());
    let authority = Arc::new(Authority::new()?);
    let mut terminated = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let mut interrupted = signal(SignalKind::interrupt()).map_err(|error| error.to_string())?;
    std::fs::create_dir_all(folder).map_err(unwritten)?;
    state::write(folder, "ca.pem", &authority.pem()).map_err(unwritten)?;
    let credentials = state::credentials(&sandbox);
    state::write(folder, "credentials.json", &format!("{credentials:#}\n")).map_err(unwritten)?;
    let (listener, proxy) = listen(&arguments.proxy).await?;
    tokio::spawn(serve(listener, Arc::clone(&sandbox), Entry::Proxy(authority)));
    let mut http = Map::new();
    for pair in &arguments.http {
        let (host, address) = pair.split_once('=').ok_or_else(|| format!("--http {pair}: expected HOST=ADDRESS"))?;
        if !sandbox.has_host(host) {
            return Err(format!("--http {pair}: no vendor has the host {host}"));
        }
        let (listener, bound) = listen(address).await?;
        sandbox.add_origin(host, &bound);
        http.insert(host.to_owned(), bound.into());
        tokio::spawn(serve(listener, Arc::clone(&sandbox), Entry::Host(host.to_owned())));
    }
    let addresses: Value = json!({"proxy": proxy, "http": http});
    state::write(folder, "addresses.json", &format!("{addresses:#}\n")).map_err(unwritten)?;
    println!("{} behind the proxy http://{proxy}; addresses.json is in {}", vendors(sandbox.vendors.len()), folder.display());
    tokio::select! {
        _ = terminated.recv() => {}
        _ = interrupted.recv() => {}
        () = stdin_closed(), if arguments.until_stdin_closes => {}
    }
    Ok(())
}

/// Standard input is read in a thread of its own, which ends with the process.
async fn stdin_closed() {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        let _ = sender.send(());
    });
    let _ = receiver.await;
}
