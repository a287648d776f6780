//! Why a stored key cannot sign.

/// Why a stored key cannot sign. It never contains a part of the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnusableKey {
    Empty,
    /// The text is neither PEM nor a JWK.
    UnknownForm,
    PublicKey,
    Certificate,
    CertificateRequest,
    /// The form of `ssh-keygen`.
    OpenSsh,
    /// The encryption in headers of PEM (RFC 1421) that OpenSSL used before PKCS#8.
    OldEncryption,
    /// PKCS#8 with an encryption other than PBES2 with AES or Triple DES.
    UnsupportedEncryption,
    PassphraseMissing,
    WrongPassphrase,
    TooShort,
    TooLong,
    UnknownCurve(String),
    UnknownAlgorithm(String),
    /// A shared secret as JWK (`kty: oct`).
    SharedSecret,
    /// An EC key without its public half, which ring does not compute.
    PublicHalfMissing,
    /// A JWK without this member.
    MemberMissing(&'static str),
    /// A set of keys with this number of private keys.
    KeySet(usize),
    /// The key cannot sign with the algorithm that was asked for.
    Unfit {
        algorithm: &'static str,
        key: &'static str,
    },
    Damaged,
}

impl UnusableKey {
    /// Returns what is wrong, to be read after the name of the key: "is a public key".
    #[must_use]
    pub fn message(&self) -> String {
        let text = match self {
            UnusableKey::Empty => "is empty",
            UnusableKey::UnknownForm => "is not a private key: it is neither PEM (BEGIN PRIVATE KEY) nor a JWK",
            UnusableKey::PublicKey => "is a public key, and only a private key can sign",
            UnusableKey::Certificate => "is a certificate without its private key",
            UnusableKey::CertificateRequest => "is a certificate request without its private key",
            UnusableKey::OpenSsh => "has the form of ssh-keygen, which is not supported",
            UnusableKey::OldEncryption => "is encrypted in OpenSSL's old format, which is not supported",
            UnusableKey::UnsupportedEncryption => "is encrypted with an algorithm that is not supported",
            UnusableKey::PassphraseMissing => "is encrypted, and the policy does not name a passphrase",
            UnusableKey::WrongPassphrase => "cannot be decrypted with the passphrase: the passphrase is wrong",
            UnusableKey::TooShort => "is an RSA key of fewer than 2048 bits, which is not secure",
            UnusableKey::TooLong => "is an RSA key of more than 4096 bits, which is not supported",
            UnusableKey::UnknownCurve(curve) => return format!("is an EC key of the curve {curve}, which is not supported"),
            UnusableKey::UnknownAlgorithm(id) => return format!("is a key of the algorithm {id}, which is not supported"),
            UnusableKey::SharedSecret => "is a shared secret (kty oct), not a private key",
            UnusableKey::PublicHalfMissing => "is an EC key without its public half",
            UnusableKey::MemberMissing(name) => return format!("is a JWK without the member {name}"),
            UnusableKey::KeySet(0) => "is a set of keys without a private key",
            UnusableKey::KeySet(count) => return format!("is a set of {count} private keys, and it is not clear which to use"),
            UnusableKey::Unfit { algorithm, key } => return format!("is {key}, which cannot sign with {algorithm}"),
            UnusableKey::Damaged => "is damaged or incomplete",
        };
        text.to_string()
    }

    /// Returns what to do.
    #[must_use]
    pub fn fix(&self) -> &'static str {
        match self {
            UnusableKey::Empty | UnusableKey::UnknownForm => {
                "store the whole private key, from the line that begins with -----BEGIN to the line that begins with -----END"
            }
            UnusableKey::PublicKey => "store the private key that belongs to it; the public key is what the vendor has",
            UnusableKey::Certificate | UnusableKey::CertificateRequest => {
                "store the private key from which it was made, or a PEM file that has both"
            }
            UnusableKey::OpenSsh => "convert a copy of it: ssh-keygen -p -m PKCS8 -f KEY",
            UnusableKey::OldEncryption | UnusableKey::UnsupportedEncryption => {
                "convert it: openssl pkcs8 -topk8 -v2 aes-256-cbc -in OLD.pem -out NEW.pem, and store NEW.pem"
            }
            UnusableKey::PassphraseMissing => {
                "add passphrase: LOCATOR beside the key, for example passphrase: env:KEY_PASSPHRASE"
            }
            UnusableKey::WrongPassphrase => {
                "store the passphrase with which the key was encrypted; openssl pkey -in KEY.pem -noout asks for it and tests it"
            }
            UnusableKey::TooShort => {
                "create a key of 2048 bits or more (openssl genrsa 3072), register its public key at the vendor, and store it"
            }
            UnusableKey::TooLong => {
                "create a key of at most 4096 bits (openssl genrsa 3072), register its public key at the vendor, and store it"
            }
            UnusableKey::UnknownCurve(_) | UnusableKey::UnknownAlgorithm(_) => {
                "use an RSA key (openssl genrsa 3072), an EC key of the curve P-256 or P-384, or an Ed25519 key"
            }
            UnusableKey::SharedSecret => "store the private key of a key pair; a shared secret is the key secret of the policy",
            UnusableKey::PublicHalfMissing => "convert it: openssl pkey -in OLD.pem -out NEW.pem, and store NEW.pem",
            UnusableKey::MemberMissing(_) => "store the JWK as the vendor showed it when the key was created, with all members",
            UnusableKey::KeySet(_) => "store only the one private key",
            UnusableKey::Unfit { .. } => "write an algorithm that fits the key, or leave algorithm out",
            UnusableKey::Damaged => "store the file again, unchanged; openssl pkey -in KEY.pem -noout tests it",
        }
    }
}
