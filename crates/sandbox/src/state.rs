//! The files of the folder `--state`.

use crate::keys;
use crate::sandbox::Sandbox;
use serde_json::{Map, Value, json};
use std::io;
use std::path::Path;

/// Writes a file in one step, so that a reader never sees a part of it.
///
/// # Errors
/// Fails if the folder cannot be written.
pub fn write(folder: &Path, name: &str, text: &str) -> io::Result<()> {
    let draft = folder.join(format!("{name}.new"));
    std::fs::write(&draft, text)?;
    std::fs::rename(draft, folder.join(name))
}

/// Every credential of the vendors, by family and name: those of the files as they are sent, and clients as the JSON that AAM
/// and official clients need.
pub fn credentials(sandbox: &Sandbox) -> Value {
    let mut families = Map::new();
    for vendor in &sandbox.vendors {
        let mut named = Map::new();
        for own in &vendor.credentials {
            let about = json!({
                "kind": own.kind, "value": own.value, "account": own.accounts, "state": own.state,
                "scopes": own.scopes, "roles": own.roles,
            });
            named.insert(own.name.clone(), about);
        }
        for client in &vendor.clients {
            let own = &client.credential;
            let mut about = json!({
                "kind": "client", "client_id": client.id, "client_secret": client.secret, "account": own.accounts,
                "scopes": own.scopes, "roles": own.roles, "refresh_tokens": client.refresh_tokens,
            });
            if let (Some(name), Value::Object(about)) = (client.key.as_deref(), &mut about) {
                about.insert("private_key".to_owned(), keys::private_pem(name).into());
                if name == "client" {
                    about.insert("certificate".to_owned(), keys::certificate_pem().into());
                }
            }
            named.insert(own.name.clone(), about);
        }
        families.insert(vendor.family.clone(), Value::Object(named));
    }
    Value::Object(families)
}
