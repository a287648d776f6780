//! The arguments of a call, and Python's rules for binding them to parameters.

use super::EvalError;
use super::object::Object;
use std::sync::Arc;

#[derive(Clone, Default)]
pub(super) struct Args<'a> {
    pub(super) positional: Vec<Object<'a>>,
    pub(super) named: Vec<(Arc<str>, Object<'a>)>,
}

impl<'a> Args<'a> {
    pub(super) fn from_positional(positional: Vec<Object<'a>>) -> Args<'a> {
        Args { positional, named: Vec::new() }
    }

    /// Binds the arguments to the parameters `names`. The first `required` of them must be given.
    ///
    /// # Errors
    /// TypeError if the arguments do not fit the parameters.
    pub(super) fn bind<const N: usize>(
        self,
        function: &str,
        names: [&str; N],
        required: usize,
    ) -> Result<[Option<Object<'a>>; N], EvalError> {
        let mut bound = [const { None }; N];
        if self.positional.len() > N {
            let given = self.positional.len();
            return Err(EvalError::type_error(format!("{function}() takes {N} positional arguments but {given} were given")));
        }
        for (slot, value) in bound.iter_mut().zip(self.positional) {
            *slot = Some(value);
        }
        for (name, value) in self.named {
            let slot = names.iter().position(|it| *it == &*name).and_then(|at| bound.get_mut(at));
            match slot {
                Some(slot @ None) => *slot = Some(value),
                Some(_) => return Err(EvalError::type_error(format!("{function}() got multiple values for argument '{name}'"))),
                None => return Err(EvalError::type_error(format!("{function}() got an unexpected keyword argument '{name}'"))),
            }
        }
        match bound.iter().zip(names).take(required).find(|(slot, _)| slot.is_none()) {
            Some((_, name)) => {
                Err(EvalError::type_error(format!("{function}() missing 1 required positional argument: '{name}'")))
            }
            None => Ok(bound),
        }
    }

    /// Like [`Self::bind`], for a function that takes no keyword arguments.
    ///
    /// # Errors
    /// TypeError if the arguments do not fit the parameters.
    pub(super) fn positional<const N: usize>(
        self,
        function: &str,
        required: usize,
    ) -> Result<[Option<Object<'a>>; N], EvalError> {
        if !self.named.is_empty() {
            return Err(EvalError::type_error(format!("{function}() takes no keyword arguments")));
        }
        self.bind(function, [""; N], required)
    }
}
