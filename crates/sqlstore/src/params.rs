//! The parameters of a statement, in the forms that `rusqlite` accepts.

use crate::{Error, Result, ToSql, ValueRef};

/// What takes the parameters, one after the other.
pub(crate) type Sink<'a> = dyn FnMut(ValueRef<'_>) -> Result<()> + 'a;

mod sealed {
    /// The parameters as values. Only this crate implements it.
    pub trait Visit {
        /// Passes each parameter to `sink`.
        ///
        /// # Errors
        /// If a value does not fit a type of SQL, and the errors of `sink`.
        fn visit(self, sink: &mut super::Sink<'_>) -> crate::Result<()>;
    }
}

/// The parameters of a statement: `[]`, `[a]`, `(a, b)`, [`params!`](crate::params) or [`params_from_iter`].
pub trait Params: sealed::Visit {}

impl<T: sealed::Visit> Params for T {}

/// The parameters that an iterator returns.
#[derive(Clone, Debug)]
pub struct ParamsFromIter<I>(I);

/// Uses the items of `iter` as parameters.
pub fn params_from_iter<I>(iter: I) -> ParamsFromIter<I>
where
    I: IntoIterator,
    I::Item: ToSql,
{
    ParamsFromIter(iter)
}

/// Makes a list of parameters of different types.
#[macro_export]
macro_rules! params {
    () => { &[] as &[&dyn $crate::ToSql] };
    ($($param:expr),+ $(,)?) => { &[$(&$param as &dyn $crate::ToSql),+] as &[&dyn $crate::ToSql] };
}

/// Passes the values to `sink` and names the one that does not fit.
fn visit_all<'a>(values: impl Iterator<Item = &'a dyn ToSql>, sink: &mut Sink<'_>) -> Result<()> {
    values.enumerate().try_for_each(|(at, value)| sink(value.to_sql().map_err(|error| numbered(error, at))?))
}

fn numbered(error: Error, at: usize) -> Error {
    match error {
        Error::Parameter { parameter: 0, message } => Error::Parameter { parameter: at + 1, message },
        other => other,
    }
}

// As in rusqlite, `[]` is the only empty array, so that the compiler can infer its type.
impl sealed::Visit for [&(dyn ToSql + Send + Sync); 0] {
    fn visit(self, _sink: &mut Sink<'_>) -> Result<()> {
        Ok(())
    }
}

impl sealed::Visit for &[&dyn ToSql] {
    fn visit(self, sink: &mut Sink<'_>) -> Result<()> {
        visit_all(self.iter().copied(), sink)
    }
}

impl<I> sealed::Visit for ParamsFromIter<I>
where
    I: IntoIterator,
    I::Item: ToSql,
{
    fn visit(self, sink: &mut Sink<'_>) -> Result<()> {
        self.0.into_iter().enumerate().try_for_each(|(at, value)| sink(value.to_sql().map_err(|error| numbered(error, at))?))
    }
}

macro_rules! arrays {
    ($($length:literal),*) => {$(
        impl<T: ToSql> sealed::Visit for [T; $length] {
            fn visit(self, sink: &mut Sink<'_>) -> Result<()> {
                visit_all(self.iter().map(|value| value as &dyn ToSql), sink)
            }
        }

        impl<T: ToSql> sealed::Visit for &[T; $length] {
            fn visit(self, sink: &mut Sink<'_>) -> Result<()> {
                visit_all(self.iter().map(|value| value as &dyn ToSql), sink)
            }
        }
    )*};
}

arrays!(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16);

impl sealed::Visit for () {
    fn visit(self, _sink: &mut Sink<'_>) -> Result<()> {
        Ok(())
    }
}

macro_rules! tuples {
    ($(($($name:ident: $at:tt),+)),*) => {$(
        impl<$($name: ToSql),+> sealed::Visit for ($($name,)+) {
            fn visit(self, sink: &mut Sink<'_>) -> Result<()> {
                visit_all([$(&self.$at as &dyn ToSql),+].into_iter(), sink)
            }
        }
    )*};
}

tuples!(
    (A: 0),
    (A: 0, B: 1),
    (A: 0, B: 1, C: 2),
    (A: 0, B: 1, C: 2, D: 3),
    (A: 0, B: 1, C: 2, D: 3, E: 4),
    (A: 0, B: 1, C: 2, D: 3, E: 4, F: 5),
    (A: 0, B: 1, C: 2, D: 3, E: 4, F: 5, G: 6),
    (A: 0, B: 1, C: 2, D: 3, E: 4, F: 5, G: 6, H: 7)
);
