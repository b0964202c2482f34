//! Parts of a state that many states have in common.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    ops::Deref,
    rc::Rc,
};

/// A value that is shared until it is changed, and hashed once.
#[derive(Clone)]
pub(super) struct Shared<T> {
    value: Rc<T>,
    hash: u64,
}

impl<T: Hash + Clone> Shared<T> {
    pub(super) fn new(value: T) -> Self {
        let mut hasher = DefaultHasher::new();
        value.hash(&mut hasher);
        Self {
            hash: hasher.finish(),
            value: Rc::new(value),
        }
    }

    pub(super) fn edit<R>(&mut self, edit: impl FnOnce(&mut T) -> R) -> R {
        let mut value = Rc::unwrap_or_clone(Rc::clone(&self.value));
        let result = edit(&mut value);
        *self = Self::new(value);
        result
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> Hash for Shared<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.hash.hash(state);
    }
}
