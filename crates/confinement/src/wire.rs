//! What the calling program and its launcher say to each other, over a socket that only these two have.
//!
//! The caller sends an [`Task::Launch`]. The launcher answers with a [`Report`], followed by the listening socket if it
//! made one. The caller sends [`GO`], and the launcher sends [`Step::Executing`] before the program starts. A launcher that
//! supervises the program sends [`Step::Started`] then. One that becomes the program cannot: its socket closes itself at that
//! moment, so the end of the stream means that the program runs.
//!
//! A launcher that supervises sends [`Task::Begin`] over a second socket to the first process of the program's own process
//! namespace, which answers with the same steps and, at the end, with [`Step::Ended`].

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Plan, Support};

/// Bytes of the longest message: a plan with a few hundred paths and variables takes some 50 kB.
const MAX_MESSAGE_BYTES: u32 = 4 << 20;

/// The answer of the caller that the program may start.
pub(crate) const GO: u8 = b'G';

/// What a launcher is started for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Task {
    /// By the caller: make the namespaces, and start the program of the plan.
    Launch(Box<Request>),
    /// By a launcher: be the first process of a process namespace, and start the program there.
    Begin(Box<Plan>),
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    /// The process id of the caller, by which the launcher sees that its caller is still there.
    pub caller: i32,
    /// The port of a proxy that the caller listens on. Without it the launcher makes a network of its own.
    pub port: Option<u16>,
    /// Without a plan the launcher only reports what it could enforce.
    pub plan: Option<Plan>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    pub support: Support,
    /// Whether a listening socket follows.
    pub listener: bool,
    /// Whether the launcher stays as the supervisor of the program instead of becoming it.
    pub supervises: bool,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Step {
    Executing,
    Failed(String),
    Started,
    /// The program has ended, with its exit code or with the signal that ended it.
    Ended {
        code: Option<i32>,
        signal: Option<i32>,
    },
}

/// Sends one message with its length before it.
pub(crate) fn send<T: Serialize>(mut stream: &UnixStream, message: &T) -> io::Result<()> {
    let body = serde_json::to_vec(message)?;
    let length = u32::try_from(body.len()).ok().filter(|length| *length <= MAX_MESSAGE_BYTES);
    let length = length.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the message is too long"))?;
    stream.write_all(&length.to_be_bytes())?;
    stream.write_all(&body)
}

/// Receives one message, or nothing if the other side has closed the stream before it.
pub(crate) fn receive<T: DeserializeOwned>(mut stream: &UnixStream) -> io::Result<Option<T>> {
    let mut length = [0_u8; 4];
    match stream.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let length = u32::from_be_bytes(length);
    if length > MAX_MESSAGE_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the message is too long"));
    }
    let mut body = Vec::new();
    stream.take(u64::from(length)).read_to_end(&mut body)?;
    Ok(Some(serde_json::from_slice(&body)?))
}

/// Hands a listening socket to the other process.
pub(crate) fn send_listener(stream: &UnixStream, listener: &TcpListener) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [listener.as_fd()];
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::Error::other("the message has no room for a descriptor"));
    }
    // A descriptor travels with at least one byte.
    sendmsg(stream, &[IoSlice::new(&[GO])], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Takes the listening socket that the other process hands over.
pub(crate) fn receive_listener(stream: &UnixStream) -> io::Result<TcpListener> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0_u8; 1];
    recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut descriptor: Option<OwnedFd> = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            descriptor = descriptors.last();
        }
    }
    let missing = || io::Error::new(io::ErrorKind::InvalidData, "the message does not carry a socket");
    Ok(TcpListener::from(descriptor.ok_or_else(missing)?))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;

    use super::{Step, receive, receive_listener, send, send_listener};

    #[test]
    fn a_message_and_a_socket_arrive_and_the_end_is_seen() {
        let (left, right) = UnixStream::pair().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        send(&left, &Step::Failed("reason".to_string())).unwrap();
        send_listener(&left, &listener).unwrap();
        drop((left, listener));
        assert!(matches!(receive::<Step>(&right).unwrap(), Some(Step::Failed(reason)) if reason == "reason"));
        let received = receive_listener(&right).unwrap();
        TcpStream::connect(address).unwrap();
        received.accept().unwrap();
        assert!(receive::<Step>(&right).unwrap().is_none());
    }

    #[test]
    fn a_length_beyond_the_bound_is_refused_before_memory_is_taken() {
        let (mut left, right) = UnixStream::pair().unwrap();
        left.write_all(&u32::MAX.to_be_bytes()).unwrap();
        assert!(receive::<Step>(&right).is_err());
        send(&left, &"x".repeat(5 << 20)).unwrap_err();
    }
}
