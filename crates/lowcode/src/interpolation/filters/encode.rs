//! Hashes, base64 and URL encoding.

use super::super::EvalError;
use super::super::args::Args;
use super::super::object::{Object, type_error};
use super::super::ops::items;
use super::text::quoted;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use data_encoding::HEXLOWER;
use md5::{Digest, Md5};
use ring::{digest, hmac};

/// The text of a value on which a method of `str` is called. A value of another type raises AttributeError.
fn text<'o>(value: &'o Object<'_>, method: &str) -> Result<&'o str, EvalError> {
    match value {
        Object::Str(text) | Object::Markup(text) => Ok(text),
        Object::Undefined(message) => Err(EvalError::new("UndefinedError", &**message)),
        other => Err(EvalError::new("AttributeError", format!("'{}' object has no attribute '{method}'", other.type_name()))),
    }
}

pub(super) fn apply<'a>(name: &str, value: &Object<'a>, args: Args<'a>) -> Result<Object<'a>, EvalError> {
    match name {
        "hash" => hash(value, args),
        "hmac" => {
            let [key, kind] = args.bind(name, ["key", "hash_type"], 1)?;
            if let Some(kind) = kind
                && kind.to_str()? != "sha256"
            {
                return Err(EvalError::value_error(format!(
                    "Hash type '{}' is not allowed. Allowed types: sha256",
                    kind.to_str()?
                )));
            }
            let key = hmac::Key::new(hmac::HMAC_SHA256, key.unwrap_or(Object::None).to_str()?.as_bytes());
            Ok(Object::str(HEXLOWER.encode(hmac::sign(&key, value.to_str()?.as_bytes()).as_ref())))
        }
        "urlencode" => {
            let [] = args.positional(name, 0)?;
            url_encode(value)
        }
        _ => {
            let [] = args.positional(name, 0)?;
            let text = text(value, "encode")?;
            match name {
                "base64decode" => decode(text),
                // Despite its name, the CDK's filter `base64binascii_decode` encodes.
                "base64binascii_decode" if !text.is_ascii() => {
                    Err(EvalError::new("UnicodeEncodeError", "'ascii' codec can't encode character"))
                }
                _ => Ok(Object::str(STANDARD.encode(text))),
            }
        }
    }
}

/// Python's `b64decode`. It skips characters outside the alphabet and everything after the padding.
fn decode<'a>(text: &str) -> Result<Object<'a>, EvalError> {
    let error = |message: &str| EvalError::new("Error", message);
    let data: String = text.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=')).collect();
    let body = data.find('=').map_or(data.as_str(), |at| data.get(..at).unwrap_or_default());
    let padding = data.len() - body.len();
    match body.len() % 4 {
        1 => return Err(error("Invalid base64-encoded string")),
        2 if padding < 2 => return Err(error("Incorrect padding")),
        3 if padding < 1 => return Err(error("Incorrect padding")),
        _ => {}
    }
    let config = base64::engine::GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent);
    let bytes = base64::engine::GeneralPurpose::new(&base64::alphabet::STANDARD, config).decode(body);
    let bytes = bytes.map_err(|_| error("Incorrect padding"))?;
    let text = String::from_utf8(bytes).map_err(|_| EvalError::new("UnicodeDecodeError", "'utf-8' codec can't decode bytes"))?;
    Ok(Object::str(text))
}

fn hash<'a>(value: &Object<'a>, args: Args<'a>) -> Result<Object<'a>, EvalError> {
    let [kind, salt] = args.bind("hash", ["hash_type", "salt"], 0)?;
    let mut data = value.to_str()?.into_bytes();
    if let Some(salt) = salt.filter(Object::truthy) {
        data.extend(salt.to_str()?.into_bytes());
    }
    let kind = match kind {
        Some(kind) => match kind.text() {
            Some(kind) => kind.to_string(),
            None => return type_error("attribute name must be string"),
        },
        None => "md5".into(),
    };
    let digest = match kind.as_str() {
        "md5" => return Ok(Object::str(HEXLOWER.encode(&Md5::digest(&data)))),
        "sha1" => digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &data),
        "sha256" => digest::digest(&digest::SHA256, &data),
        "sha384" => digest::digest(&digest::SHA384, &data),
        "sha512" => digest::digest(&digest::SHA512, &data),
        other => return Err(EvalError::new("AttributeError", format!("No hashing function named {other}"))),
    };
    Ok(Object::str(HEXLOWER.encode(digest.as_ref())))
}

fn url_encode<'a>(value: &Object<'a>) -> Result<Object<'a>, EvalError> {
    let pairs = match value {
        _ if value.text().is_some() => return Ok(Object::str(quoted(&value.to_str()?, "/", false))),
        _ if value.is_dict() => super::super::methods::copy(value)?.into_values().collect(),
        other => match items(other) {
            Err(_) => return Ok(Object::str(quoted(&value.to_str()?, "/", false))),
            Ok(all) => {
                let mut pairs = Vec::new();
                for pair in all {
                    match items(&pair)?.as_slice() {
                        [key, value] => pairs.push((key.clone(), value.clone())),
                        _ => return Err(EvalError::value_error("not enough values to unpack (expected 2)")),
                    }
                }
                pairs
            }
        },
    };
    let mut parts = Vec::new();
    for (key, value) in pairs {
        parts.push(format!("{}={}", quoted(&key.to_str()?, "", true), quoted(&value.to_str()?, "", true)));
    }
    Ok(Object::str(parts.join("&")))
}
