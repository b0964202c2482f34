//! Visits every state that a world can come to.

use std::{
    collections::{HashSet, VecDeque},
    fmt,
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash},
};

/// Something that goes from state to state by steps of which it has a finite number.
pub(super) trait Explored: Hash + Sized {
    /// Every state that may come next. Labels cost time, so they are left empty without `trace`.
    fn steps(&self, trace: bool) -> Vec<Step<Self>>;

    /// What must never be but is.
    fn broken(&self) -> Option<String>;

    /// What must not be left when no step leads on.
    fn broken_at_end(&self) -> Option<String>;
}

/// A step that may be taken.
pub(super) struct Step<W> {
    pub(super) label: String,
    pub(super) world: W,
}

/// In which order states are visited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// In little memory: for exploring everything.
    Deep,
    /// The nearest first: for finding a short way to what is broken.
    Broad,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Different states.
    pub(super) states: u64,
    /// Steps between them.
    pub(super) steps: u64,
    /// Steps of the longest way that was gone.
    pub(super) longest: usize,
    /// States from which no step leads on.
    pub(super) ends: u64,
    /// The first state that breaks a promise, and how it came about.
    pub(super) broken: Option<Broken>,
}

/// How a promise is broken.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) what: String,
    pub(super) way: Vec<String>,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, label) in self.way.iter().enumerate() {
            writeln!(f, "{:3}. {label}", n + 1)?;
        }
        write!(f, "  => {}", self.what)
    }
}

/// Follows `choices` from `first` and writes down what happens.
fn retrace<W: Explored>(first: &W, choices: &[u32], what: String) -> Broken {
    let mut way = Vec::with_capacity(choices.len());
    let mut here: Option<W> = None;
    for choice in choices {
        let mut steps = here.as_ref().unwrap_or(first).steps(true);
        let step = steps.swap_remove(*choice as usize);
        way.push(step.label);
        here = Some(step.world);
    }
    Broken { what, way }
}

/// States that were seen, by 64 bits of hash: with ten million states the chance that one is taken for
/// another is below one in 100,000.
#[derive(Default)]
struct Seen(HashSet<u64>);

impl Seen {
    fn is_new<W: Hash>(&mut self, world: &W) -> bool {
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        self.0.insert(hasher.hash_one(world))
    }
}

/// More states than this take too much memory.
const STATES_MAX: u64 = 50_000_000;

/// Visits every state that can be reached from `first`, or up to the first that is broken.
pub(super) fn explore<W: Explored>(first: &W, order: Order) -> Found {
    match order {
        Order::Deep => deep(first),
        Order::Broad => broad(first),
    }
}

fn deep<W: Explored>(first: &W) -> Found {
    let mut found = Found {
        states: 1,
        ..Found::default()
    };
    let mut seen = Seen::default();
    seen.is_new(first);
    // The steps that are still to be taken at each depth, and the one that is being followed.
    let mut open = vec![first.steps(false).into_iter().enumerate()];
    let mut choices: Vec<u32> = Vec::new();
    while let Some(steps) = open.last_mut() {
        let Some((choice, step)) = steps.next() else {
            open.pop();
            choices.pop();
            continue;
        };
        found.steps += 1;
        if !seen.is_new(&step.world) {
            continue;
        }
        found.states += 1;
        assert!(found.states < STATES_MAX, "the world is too large");
        choices.push(choice as u32);
        found.longest = found.longest.max(choices.len());
        if let Some(what) = step.world.broken() {
            found.broken = Some(retrace(first, &choices, what));
            return found;
        }
        let next = step.world.steps(false);
        if next.is_empty() {
            found.ends += 1;
            if let Some(what) = step.world.broken_at_end() {
                found.broken = Some(retrace(first, &choices, what));
                return found;
            }
        }
        open.push(next.into_iter().enumerate());
    }
    found
}

fn broad<W: Explored>(first: &W) -> Found {
    let mut found = Found {
        states: 1,
        ..Found::default()
    };
    let mut seen = Seen::default();
    seen.is_new(first);
    // How each state was reached: from which, by which of its steps.
    let mut ways: Vec<(usize, u32)> = vec![(0, 0)];
    let mut queue: VecDeque<(usize, W)> = VecDeque::new();
    let mut steps = first.steps(false);
    let mut from = 0;
    loop {
        found.ends += u64::from(steps.is_empty());
        for (choice, step) in steps.into_iter().enumerate() {
            found.steps += 1;
            if !seen.is_new(&step.world) {
                continue;
            }
            let here = ways.len();
            ways.push((from, choice as u32));
            found.states += 1;
            if let Some(what) = step.world.broken() {
                let mut choices = Vec::new();
                let mut at = here;
                while at != 0 {
                    choices.push(ways[at].1);
                    at = ways[at].0;
                }
                choices.reverse();
                found.longest = choices.len();
                found.broken = Some(retrace(first, &choices, what));
                return found;
            }
            queue.push_back((here, step.world));
        }
        let Some((next, world)) = queue.pop_front() else {
            return found;
        };
        (from, steps) = (next, world.steps(false));
    }
}
