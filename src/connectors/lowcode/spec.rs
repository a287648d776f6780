//! The families of this engine, each parsed once into its specification, its patterns and the manifest's text.

use super::address::Patterns;
use super::family_spec::{AuthMethod, FamilySpec, Identity, Limit};
use super::identity;
use crate::families::{self, Family, MANIFEST_ENGINES};
use crate::model::{Class, Failure};
use ::lowcode::bounds::Bounds;
use ::lowcode::load;
use ::lowcode::source::SharedManifest;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, OnceLock};

/// The `stream` of a described schema that stands for all data streams.
const ANY_STREAM: &str = "*";

/// A family that the low-code engine serves.
#[derive(Debug)]
pub struct Spec {
    pub form: FamilySpec,
    pub patterns: Patterns,
    /// The manifest as JSON text for the interpreter's loader, which accepts it because JSON is valid YAML.
    pub manifest: String,
    loaded: OnceLock<Result<Arc<SharedManifest>, String>>,
}

impl Spec {
    /// Parses the part of the family file that this engine reads. Returns `None` if the file does not have such a part.
    ///
    /// # Errors
    /// Returns a message that describes the defect of the file. A test parses all family files.
    pub fn from_family(family: &Family) -> Result<Option<Spec>, String> {
        let Some(value) = family.lowcode.as_ref().filter(|_| MANIFEST_ENGINES.contains(&family.engine.as_str())) else {
            return Ok(None);
        };
        let mut form: FamilySpec = serde_json::from_value(value.clone()).map_err(|error| error.to_string())?;
        for method in &mut form.auth {
            let name = method.login.as_ref().unwrap_or(&method.name);
            let login = family.login.iter().find(|login| login.name == *name);
            let login = login.ok_or_else(|| format!("login has no way {name}"))?;
            method.needs = login.required().map(str::to_string).collect();
            method.optional = login.fields.iter().filter(|field| field.optional).map(|field| field.name.clone()).collect();
            method.is_pair = method.needs.len() == 2 && login.plain.as_ref().is_some_and(|form| form.contains(':'));
        }
        Spec::read(form).map(Some)
    }

    /// Compiles a family's specification.
    ///
    /// # Errors
    /// Returns a message that describes the inconsistency.
    pub fn read(form: FamilySpec) -> Result<Spec, String> {
        let patterns = Patterns::compile(&form)?;
        let names: Vec<&str> = form.source["streams"]
            .as_array()
            .map(|streams| streams.iter().filter_map(|stream| stream["name"].as_str()).collect())
            .unwrap_or_default();
        if form.privilege.all_sources().any(|source| !source.is_valid()) {
            return Err("a source of privilege names one of header, field, claim, granted, and stream with grants".to_string());
        }
        let compares_nothing = |rule: &&Identity| rule.matches.is_empty() && rule.any.is_empty() && !rule.host;
        if let Some(rule) = form.identity.iter().flat_map(Identity::calls).find(compares_nothing) {
            return Err(format!("the identity of {} compares nothing", rule.kind));
        }
        if let Some(method) = form
            .auth
            .iter()
            .find(|method| method.otherwise.as_ref().is_some_and(|name| !form.auth.iter().any(|other| other.name == *name)))
        {
            return Err(format!("auth has no method for the otherwise of {}", method.name));
        }
        let is_day = |method: &&AuthMethod| method.ends.as_ref().is_none_or(|day| identity::end(day).is_some());
        if let Some(method) = form.auth.iter().find(|method| !is_day(method)) {
            return Err(format!("the day on which {} ends is not of the form YYYY-MM-DD", method.name));
        }
        let unknown_class =
            |method: &&AuthMethod| !method.otherwise_if.is_empty() && super::errors::class(&method.otherwise_if).is_none();
        if let Some(method) = form.auth.iter().find(unknown_class) {
            return Err(format!("the class {} is not known", method.otherwise_if));
        }
        let kinds = || form.address.kinds.iter();
        let asked = kinds()
            .filter(|kind| kind.generated.is_none())
            .flat_map(|kind| &kind.streams)
            .chain(form.auth.iter().map(|way| &way.health).filter(|name| !name.is_empty()))
            .chain(form.auth.iter().filter_map(|way| Some(&way.first.as_ref()?.stream)))
            .chain(form.identity.iter().flat_map(Identity::stream_names))
            .chain(form.blind.iter().filter_map(|blind| blind.unless.as_ref()).flat_map(|rule| &rule.streams))
            .chain(form.schemas.iter().flat_map(|schema| [&schema.stream, &schema.from]).filter(|name| *name != ANY_STREAM))
            .chain(form.identity.iter().filter_map(|rule| Some(&rule.claim.as_ref()?.stream)))
            .chain(form.blind.iter().flat_map(|blind| &blind.streams))
            .chain(form.empty.iter().map(|empty| &empty.stream))
            .chain(form.privilege.all_sources().map(|source| &source.stream).filter(|name| !name.is_empty()));
        if let Some(missing) = asked.into_iter().find(|name| !names.contains(&name.as_str())) {
            return Err(format!("source has no stream {missing}"));
        }
        if let Some(kind) = kinds().find(|kind| !form.identity.iter().any(|rule| rule.kind == kind.name)) {
            return Err(format!("the kind {} has no identity", kind.name));
        }
        if let Some(rule) = form.errors.rules.iter().find(|rule| super::errors::class(&rule.class).is_none()) {
            return Err(format!("the class {} is not known", rule.class));
        }
        let classes = form.identity.iter().flat_map(Identity::calls).filter_map(|rule| rule.mismatch.as_ref()?.class.as_ref());
        if let Some(unknown) = classes.into_iter().find(|name| super::errors::class(name).is_none()) {
            return Err(format!("the class {unknown} is not known"));
        }
        form.limits.iter().try_for_each(Limit::check)?;
        let manifest = form.source.to_string();
        Ok(Spec { form, patterns, manifest, loaded: OnceLock::new() })
    }

    /// Returns the manifest, which is loaded on first use.
    ///
    /// # Errors
    /// Fails only if the family file has a defect. A test loads all of them.
    pub fn loaded(&self) -> Result<Arc<SharedManifest>, Failure> {
        let load = || {
            let read = load::load(&self.manifest, "source", &Bounds::default());
            let runs = read.and_then(|read| read.runnable().map(|()| Arc::new(SharedManifest::new(read))));
            runs.map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
        };
        self.loaded.get_or_init(load).clone().map_err(|error| {
            Failure::new(Class::Bug, "the manifest of a family cannot be used", "report this as a defect of AAM").detail(error)
        })
    }
}

/// The parsed specification of each family of this engine.
static SPECS: LazyLock<BTreeMap<&'static str, Spec>> = LazyLock::new(|| {
    let spec = |family: &'static Arc<Family>| Some((&*family.id, Spec::from_family(family).ok()??));
    families::all().iter().filter_map(spec).collect()
});

/// Returns the specification of the family `id`, or `None` if another engine serves it or if it is a custom source.
#[must_use]
pub fn find(id: &str) -> Option<&'static Spec> {
    SPECS.get(id)
}
