//! The baseline of the API figures: hyper with HTTP/1 and one fixed body, without routes and tokens.

use crate::Measured;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// The first argument that makes this program the server.
pub const COMMAND: &str = "--fixed-server";

/// The server, in its own process.
pub struct Fixed {
    child: Child,
    pub port: u16,
}

impl Fixed {
    /// Starts a server that answers with `size` bytes.
    pub fn start(size: usize) -> Measured<Fixed> {
        let mut child =
            Command::new(std::env::current_exe()?).args([COMMAND, &size.to_string()]).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        let stdout = child.stdout.take().ok_or("no stdout")?;
        BufReader::new(stdout).read_line(&mut line)?;
        Ok(Fixed { child, port: line.trim().parse()? })
    }
}

impl Drop for Fixed {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves until the process is killed.
pub fn run(arguments: &[String]) {
    let size = arguments.first().and_then(|text| text.parse().ok()).unwrap_or(0);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(serve(size))) {
        Ok(()) => {}
        Err(error) => eprintln!("bench: the fixed server ended: {error}"),
    }
}

async fn serve(size: usize) -> Measured<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?.port());
    let body = Bytes::from(vec![b'x'; size]);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let body = body.clone();
        let answer = hyper::service::service_fn(move |_: Request<Incoming>| {
            let body = body.clone();
            async move { Ok::<_, Infallible>(Response::new(Full::new(body))) }
        });
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
    }
}
