//! What a comparison with the CDK came to.

/// One row of the table. `name` is one of those that `tests/parity/main.rs` has a target for.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub name: &'static str,
    /// Cases that were compared.
    pub total: usize,
    /// Cases in which both sides agree.
    pub agreed: usize,
    /// One line for each other case: which it is, what was expected, what came.
    pub disagreements: Vec<String>,
}

impl Outcome {
    /// Nothing compared yet.
    #[must_use]
    pub fn new(name: &'static str) -> Outcome {
        Outcome { name, total: 0, agreed: 0, disagreements: Vec::new() }
    }

    /// Counts one case; `difference` is called only if the sides differ.
    pub fn case(&mut self, agrees: bool, difference: impl FnOnce() -> String) {
        self.total += 1;
        if agrees {
            self.agreed += 1;
        } else {
            self.disagreements.push(difference());
        }
    }
}

/// So that a comparison may answer one row or several.
impl From<Outcome> for Vec<Outcome> {
    fn from(outcome: Outcome) -> Vec<Outcome> {
        vec![outcome]
    }
}
