//! Mistakes that a test can let the code of a collection make, to prove that it would be found. Outside of
//! tests nobody can: there `makes` is `false` when the program is compiled.

/// What is done wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mistake {
    /// Sessions that began before the condemn entry are not waited for.
    NoWait,
    /// What was committed since the first look is not marked.
    NoRemark,
    /// What is needed is taken off the list only after the list is in the log.
    LateRescue,
    /// Objects are deleted before the list is in the log.
    EarlyDelete,
    /// A collector whose entry is refused, as another one leads by now, tries again with the next number.
    Zombie,
}

#[cfg(test)]
thread_local! {
    static SEEDED: std::cell::Cell<Option<Mistake>> = const { std::cell::Cell::new(None) };
}

/// Lets this thread make a mistake from now on, or none.
#[cfg(test)]
pub(crate) fn seed(mistake: Option<Mistake>) {
    SEEDED.set(mistake);
}

/// Whether this thread makes a mistake.
#[cfg(test)]
pub(crate) fn makes(mistake: Mistake) -> bool {
    SEEDED.get() == Some(mistake)
}

/// Whether this thread makes a mistake.
#[cfg(not(test))]
pub(crate) const fn makes(_: Mistake) -> bool {
    false
}
