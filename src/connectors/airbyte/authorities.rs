//! The certificate authorities that a connector trusts: those of the system, and the one of its run.
//!
//! Each variable replaces the default bundle of the libraries that read it, so the file has both. The connector reaches
//! nothing but the proxy of its run; the authorities of the system are there for what it verifies by itself.
//!
//! Libraries of Python that only ask the package certifi, as old versions of the CDK do, read no variable. Python runs
//! [`PYTHON_START`] before anything else, which answers for certifi.

use crate::operator_file;
use std::path::Path;

/// The files in which systems keep their authorities.
const SYSTEM_FILES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// The maximum size of such a file in bytes. The authorities of a whole operating system are about 250 KB.
const MAX_SYSTEM_BYTES: u64 = 4 << 20;

/// The variables that name the file to the libraries of connectors: requests, OpenSSL, curl, boto3, Node.js, httplib2 and gRPC.
pub const VARIABLES: [&str; 7] = [
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "AWS_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "HTTPLIB2_CA_CERTS",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
];

/// The name and the content of the file that Python runs at its start, if it is in a folder of `PYTHONPATH`.
pub const PYTHON_START: (&str, &str) = (
    "sitecustomize.py",
    "import os\n\ntry:\n    import certifi\n    import certifi.core\nexcept ImportError:\n    pass\nelse:\n    \
     certifi.where = certifi.core.where = lambda: os.environ[\"REQUESTS_CA_BUNDLE\"]\n",
);

/// Returns the content of the file for a run whose authority is `own`, in PEM form. Blocks.
#[must_use]
pub fn bundle(own: &str) -> String {
    let read = |path: &&str| operator_file::read_text(Path::new(path), MAX_SYSTEM_BYTES).ok();
    let system = SYSTEM_FILES.iter().find_map(read).unwrap_or_default();
    format!("{}\n{}\n", own.trim_end(), system.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_authority_of_the_run_comes_first() {
        let own = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
        assert!(bundle(own).starts_with(own));
    }
}
