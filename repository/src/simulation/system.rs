//! What stands in for the system while a simulation runs: tasks take turns on one thread, in an order that
//! the seed decides; random numbers come from the seed; the clock stands still while anybody has something
//! to do and then jumps to the next moment for which somebody waits.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use super::chance::Chance;

/// Turns after which something goes round in circles.
const TURNS_MAX: u64 = 20_000_000;
/// When the simulation's clock begins, in milliseconds since 1970.
const BEGIN_MS: i64 = 1_700_000_000_000;

type Task = Pin<Box<dyn Future<Output = ()>>>;

struct System {
    numbers: Chance,
    now: Duration,
    /// How far the clock for people is off, in milliseconds.
    jumped_ms: i64,
    /// Who waits until when; the number keeps them apart.
    waiting: BTreeMap<(Duration, u64), Waker>,
    waited: u64,
    /// Tasks that have not had a turn yet.
    spawned: Vec<Task>,
}

thread_local! {
    static SYSTEM: RefCell<Option<System>> = const { RefCell::new(None) };
}

/// Does something with this thread's system, if it has one.
fn with<T>(edit: impl FnOnce(&mut System) -> T) -> Option<T> {
    SYSTEM.with_borrow_mut(|system| system.as_mut().map(edit))
}

/// Whether a simulation runs in this thread.
pub(crate) fn is_seeded() -> bool {
    with(|_| ()).is_some()
}

/// Fills `bytes` if this thread has a seed.
pub(crate) fn fill(bytes: &mut [u8]) -> bool {
    let filled = with(|system| {
        for part in bytes.chunks_mut(8) {
            let word = system.numbers.next().to_le_bytes();
            part.copy_from_slice(&word[..part.len()]);
        }
    });
    filled.is_some()
}

/// Milliseconds since 1970 if this thread has a seed.
pub(crate) fn now_ms() -> Option<i64> {
    with(|system| BEGIN_MS + system.jumped_ms + system.now.as_millis() as i64)
}

/// Time since the beginning if this thread has a seed.
pub(crate) fn uptime() -> Option<Duration> {
    with(|system| system.now)
}

/// Puts the clock for people forward or back.
pub(super) fn jump(by_ms: i64) {
    with(|system| system.jumped_ms += by_ms);
}

/// Waits by the simulation's clock.
pub(crate) fn sleep(duration: Duration) -> Sleep {
    Sleep {
        until: uptime().unwrap_or_default() + duration,
        number: None,
    }
}

pub(crate) struct Sleep {
    until: Duration,
    number: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let (until, number) = (self.until, self.number);
        let number = with(|system| {
            if system.now >= until {
                return None;
            }
            let number = number.unwrap_or_else(|| {
                system.waited += 1;
                system.waited
            });
            let waker = context.waker().clone();
            system.waiting.insert((until, number), waker);
            Some(number)
        });
        match number.flatten() {
            Some(number) => {
                self.number = Some(number);
                Poll::Pending
            }
            None => Poll::Ready(()),
        }
    }
}

/// Gives the simulation one more task. It goes on when who began it is gone.
pub(super) fn spawn(task: impl Future<Output = ()> + 'static) {
    with(|system| system.spawned.push(Box::pin(task)));
}

/// Numbers of tasks that want a turn, each once.
#[derive(Default)]
struct Ready(Mutex<Vec<usize>>);

impl Ready {
    fn add(&self, number: usize) {
        let mut ready = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !ready.contains(&number) {
            ready.push(number);
        }
    }

    /// Takes any one.
    fn take(&self, chance: &mut Chance) -> Option<usize> {
        let mut ready = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let len = ready.len() as u64;
        (len > 0).then(|| ready.swap_remove(chance.below(len) as usize))
    }
}

struct Turn {
    ready: Arc<Ready>,
    number: usize,
}

impl Wake for Turn {
    fn wake(self: Arc<Self>) {
        self.ready.add(self.number);
    }
}

/// Removes the thread's system also when a task panics.
struct Installed;

impl Drop for Installed {
    fn drop(&mut self) {
        SYSTEM.set(None);
    }
}

/// Runs `main` and what it spawns until it is done or `limit` is over.
///
/// # Errors
/// Everybody waits for somebody, or there is no end.
pub(super) fn run<T: 'static>(
    seed: u64,
    limit: Duration,
    main: impl Future<Output = T> + 'static,
) -> Result<T, String> {
    let mut numbers = Chance::new(seed);
    let mut turns = numbers.fork();
    SYSTEM.set(Some(System {
        numbers,
        now: Duration::ZERO,
        jumped_ms: 0,
        waiting: BTreeMap::new(),
        waited: 0,
        spawned: Vec::new(),
    }));
    let _installed = Installed;
    let result = Arc::new(Mutex::new(None));
    let found = Arc::clone(&result);
    spawn(async move {
        let value = main.await;
        *found.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
    });
    let ready = Arc::new(Ready::default());
    let mut tasks: Vec<Option<(Task, Waker)>> = Vec::new();
    for _ in 0..TURNS_MAX {
        for task in with(|system| std::mem::take(&mut system.spawned)).unwrap_or_default() {
            let number = tasks.len();
            let turn = Turn {
                ready: Arc::clone(&ready),
                number,
            };
            tasks.push(Some((task, Waker::from(Arc::new(turn)))));
            ready.add(number);
        }
        if let Some(value) = result.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Ok(value);
        }
        let Some(number) = ready.take(&mut turns) else {
            advance(limit)?;
            continue;
        };
        let slot = &mut tasks[number];
        let done = slot.as_mut().is_some_and(|(task, waker)| {
            let mut context = Context::from_waker(waker);
            task.as_mut().poll(&mut context).is_ready()
        });
        if done {
            *slot = None;
        }
    }
    Err("it goes round in circles".to_owned())
}

/// Sets the clock to the next moment for which somebody waits.
fn advance(limit: Duration) -> Result<(), String> {
    let woken = with(|system| {
        let (at, _) = *system.waiting.first_key_value()?.0;
        system.now = at;
        let later = system.waiting.split_off(&(at, u64::MAX));
        Some((at, std::mem::replace(&mut system.waiting, later)))
    });
    let Some((at, woken)) = woken.flatten() else {
        return Err("everybody waits for somebody".to_owned());
    };
    if at > limit {
        return Err("it comes to no end".to_owned());
    }
    woken.into_values().for_each(Waker::wake);
    Ok(())
}
