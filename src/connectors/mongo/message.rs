//! Messages of MongoDB's wire protocol, as bytes. This module knows no socket.
//!
//! Requests are `OP_MSG` with one section, or `OP_QUERY` for the handshake with servers that do not know the command `hello`.
//! Responses are `OP_MSG` or `OP_REPLY` with exactly one document. Compression, checksums, document sequences and streamed
//! responses are not announced, so a server that uses them breaks the protocol. The format is from the MongoDB manual, "MongoDB
//! Wire Protocol".

use bson::RawDocument;
use bson::raw::RawDocumentBuf;

/// The length of a message's header in bytes.
pub const HEADER_BYTES: usize = 16;
/// Limit on a response, in bytes. A batch of documents has at most 16 MiB, and its envelope 16 KiB
/// (`BSONObjMaxUserSize`, `BSONObjMaxInternalSize`).
pub const MAX_MESSAGE_BYTES: usize = (16 << 20) + (64 << 10);
/// The smallest BSON document: its length and its end.
const MIN_DOCUMENT_BYTES: usize = 5;

const OP_REPLY: i32 = 1;
const OP_QUERY: i32 = 2004;
const OP_MSG: i32 = 2013;
/// The flag of an `OP_QUERY` that a secondary may answer.
const SECONDARY_OK: u32 = 4;
/// The flag of an `OP_REPLY` whose document is an error.
const QUERY_FAILURE: u32 = 2;

/// The rule of the protocol that a response breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokenRule(pub &'static str);

/// The header of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The bytes that follow the header.
    pub body_bytes: usize,
    opcode: i32,
}

impl Header {
    /// Parses the header of the response to `request`.
    ///
    /// # Errors
    /// The rule that it breaks. A service of another kind nearly always breaks one here.
    pub fn parse(bytes: &[u8; HEADER_BYTES], request: i32) -> Result<Header, BrokenRule> {
        let mut fields = bytes.chunks_exact(4).filter_map(|part| part.try_into().ok().map(i32::from_le_bytes));
        let (Some(length), Some(_), Some(response_to), Some(opcode)) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return Err(BrokenRule("the header is cut"));
        };
        if opcode != OP_MSG && opcode != OP_REPLY {
            return Err(BrokenRule("the response is neither OP_MSG nor OP_REPLY"));
        }
        let length = usize::try_from(length).map_err(|_| BrokenRule("the length of the response is negative"))?;
        if length > MAX_MESSAGE_BYTES {
            return Err(BrokenRule("the response is longer than 16 MiB"));
        }
        if response_to != request {
            return Err(BrokenRule("the response belongs to another request"));
        }
        let body_bytes = length.checked_sub(HEADER_BYTES).filter(|rest| *rest >= MIN_DOCUMENT_BYTES);
        let body_bytes = body_bytes.ok_or(BrokenRule("the response is too short to hold a document"))?;
        Ok(Header { body_bytes, opcode })
    }

    /// The document in the bytes after the header. It fills the rest of them.
    ///
    /// # Errors
    /// The rule that the response breaks.
    pub fn document(&self, mut body: Vec<u8>) -> Result<RawDocumentBuf, BrokenRule> {
        let offset = if self.opcode == OP_MSG { message_offset(&body)? } else { reply_offset(&body)? };
        body.drain(..offset.min(body.len()));
        RawDocumentBuf::from_bytes(body).map_err(|_| BrokenRule("the response does not hold exactly one BSON document"))
    }
}

fn message_offset(body: &[u8]) -> Result<usize, BrokenRule> {
    let flags = unsigned(body, 0).ok_or(BrokenRule("the flags of the response are cut"))?;
    if flags != 0 {
        return Err(BrokenRule("the response has a checksum, announces more, or has flags that AAM did not ask for"));
    }
    match body.get(4) {
        Some(0) => Ok(5),
        _ => Err(BrokenRule("the response does not begin with the section of the body")),
    }
}

/// Flags, cursor, position and number of documents precede the documents of an `OP_REPLY`.
fn reply_offset(body: &[u8]) -> Result<usize, BrokenRule> {
    let flags = unsigned(body, 0).ok_or(BrokenRule("the flags of the response are cut"))?;
    match unsigned(body, 16) {
        Some(1) => {}
        _ => return Err(BrokenRule("the response does not hold exactly one document")),
    }
    // The document of a failed query has the error, which the caller reads like any other.
    let _ = flags & QUERY_FAILURE;
    Ok(20)
}

fn unsigned(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_le_bytes)
}

/// Writes a request as `OP_MSG`.
#[must_use]
pub fn encode_message(request: i32, command: &RawDocument) -> Vec<u8> {
    let mut body = vec![0; 5];
    body.extend(command.as_bytes());
    framed(request, OP_MSG, &body)
}

/// Writes a request as `OP_QUERY` on the commands of the database `admin`.
#[must_use]
pub fn encode_query(request: i32, command: &RawDocument) -> Vec<u8> {
    let mut body = SECONDARY_OK.to_le_bytes().to_vec();
    body.extend(b"admin.$cmd\0");
    // No document is skipped, and one is returned.
    body.extend(0_i32.to_le_bytes());
    body.extend((-1_i32).to_le_bytes());
    body.extend(command.as_bytes());
    framed(request, OP_QUERY, &body)
}

fn framed(request: i32, opcode: i32, body: &[u8]) -> Vec<u8> {
    // Requests have a few KiB, so the length always fits.
    let length = i32::try_from(HEADER_BYTES + body.len()).unwrap_or(i32::MAX);
    let mut message = Vec::with_capacity(HEADER_BYTES + body.len());
    for field in [length, request, 0, opcode] {
        message.extend(field.to_le_bytes());
    }
    message.extend(body);
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::rawdoc;
    use proptest::prelude::*;

    fn header(length: i32, response_to: i32, opcode: i32) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        for (at, field) in [length, 7, response_to, opcode].into_iter().enumerate() {
            bytes[at * 4..at * 4 + 4].copy_from_slice(&field.to_le_bytes());
        }
        bytes
    }

    /// A response as a server sends it.
    fn response(opcode: i32, document: &RawDocument) -> Vec<u8> {
        let prefix = if opcode == OP_MSG { vec![0; 5] } else { [&[0; 16][..], &[1, 0, 0, 0]].concat() };
        [&prefix[..], document.as_bytes()].concat()
    }

    #[test]
    fn both_forms_of_a_response_yield_the_document() {
        let sent = rawdoc! {"ok": 1.0};
        for opcode in [OP_MSG, OP_REPLY] {
            let body = response(opcode, &sent);
            let length = i32::try_from(HEADER_BYTES + body.len()).unwrap();
            let parsed = Header::parse(&header(length, 3, opcode), 3).unwrap();
            assert_eq!(parsed.body_bytes, body.len());
            assert_eq!(parsed.document(body).unwrap().get_f64("ok").unwrap(), 1.0);
        }
    }

    #[test]
    fn every_rule_is_checked_before_memory_is_used() {
        for (bytes, rule) in [
            (header(-1, 3, OP_MSG), "negative"),
            (header(i32::MAX, 3, OP_MSG), "longer than 16 MiB"),
            (header(20, 3, OP_MSG), "too short"),
            (header(100, 4, OP_MSG), "another request"),
            (header(100, 3, 2012), "neither"),
            (*b"HTTP/1.1 400 Bad", "neither"),
        ] {
            let broken = Header::parse(&bytes, 3).unwrap_err();
            assert!(broken.0.contains(rule), "{rule}: {broken:?}");
        }
        let body = response(OP_MSG, &rawdoc! {"ok": 1.0});
        let parsed = Header::parse(&header(100, 3, OP_MSG), 3).unwrap();
        for (at, byte) in [(0, 1), (0, 2), (2, 1), (4, 1), (5, 200)] {
            let mut changed = body.clone();
            changed[at] = byte;
            assert!(parsed.document(changed).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_request_has_the_documented_bytes() {
        let command = rawdoc! {"hello": 1};
        let message = encode_message(9, &command);
        assert_eq!(message[..16], [37, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0xDD, 7, 0, 0][..]);
        assert_eq!(message[16..21], [0; 5]);
        assert_eq!(&message[21..], command.as_bytes());
        let query = encode_query(9, &command);
        assert_eq!(query[12..20], [0xD4, 7, 0, 0, 4, 0, 0, 0]);
        assert_eq!(&query[20..31], b"admin.$cmd\0");
        assert_eq!(query[31..39], [0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF]);
    }

    proptest! {
        #[test]
        fn no_response_makes_the_parser_panic(bytes in proptest::array::uniform16(any::<u8>()), body in proptest::collection::vec(any::<u8>(), 0..200), message: bool) {
            let _ = Header::parse(&bytes, 1);
            let header = Header { body_bytes: body.len(), opcode: if message { OP_MSG } else { OP_REPLY } };
            if let Ok(document) = header.document(body) {
                let _ = document.iter().take(50).filter_map(Result::ok).count();
            }
        }
    }
}
