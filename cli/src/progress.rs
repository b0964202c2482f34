//! Progress on stderr: a bar on a terminal, a plain line every few seconds otherwise.

use std::{
    io::IsTerminal,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use orlop_core::{Issue, Monitor, Progress};

use crate::text;

/// Time between two plain lines.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// Issues printed one by one; more are only counted.
const ISSUES_SHOWN: u64 = 20;

/// Shows the counters of a backup, restore or check.
pub(crate) struct Display {
    verb: &'static str,
    bar: Option<ProgressBar>,
    quiet: bool,
    started: Instant,
    last_line: Mutex<Instant>,
    issues: AtomicU64,
    errors: AtomicU64,
}

impl Display {
    /// A display for `verb`, such as `backup`; nothing is shown if `quiet`.
    pub(crate) fn new(verb: &'static str, quiet: bool) -> Self {
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(8));
            bar.set_style(style("{spinner} {prefix} {elapsed_precise} {msg}"));
            bar.set_prefix(verb);
            bar.enable_steady_tick(Duration::from_millis(250));
            bar
        });
        let now = Instant::now();
        Self {
            verb,
            bar,
            quiet,
            started: now,
            last_line: Mutex::new(now),
            issues: AtomicU64::new(0),
            errors: AtomicU64::new(0),
        }
    }

    /// Takes the bar away and says how many issues were not shown.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let hidden = self
            .issues
            .load(Ordering::Relaxed)
            .saturating_sub(ISSUES_SHOWN);
        if hidden > 0 {
            eprintln!("... and {} more", text::count(hidden, "entry"));
        }
    }

    /// How many entries could not be read or written.
    pub(crate) fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    /// Prints a line without disturbing the bar.
    pub(crate) fn line(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{line}")),
            None => eprintln!("{line}"),
        }
    }

    fn line_is_due(&self) -> bool {
        let mut last = self
            .last_line
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let due = last.elapsed() >= LINE_EVERY;
        if due {
            *last = Instant::now();
        }
        due
    }
}

impl Monitor for Display {
    fn progress(&self, progress: Progress) {
        if let Some(bar) = &self.bar {
            if progress.bytes_total > 0 && bar.length() != Some(progress.bytes_total) {
                bar.set_style(style(
                    "{spinner} {prefix} {elapsed_precise} [{bar:30}] {percent:>3}% {msg}",
                ));
                bar.set_length(progress.bytes_total);
            }
            bar.set_position(progress.bytes_done);
            bar.set_message(counters(progress));
        } else if !self.quiet && self.line_is_due() {
            eprintln!(
                "{} {}: {}",
                self.verb,
                text::duration(self.started.elapsed()),
                counters(progress)
            );
        }
    }

    fn begins_again(&self, reason: &str) {
        if !self.quiet {
            self.line(&format!("{} begins again: {reason}", self.verb));
        }
    }

    fn issue(&self, issue: &Issue) {
        if issue.kind.is_error() {
            self.errors.fetch_add(1, Ordering::Relaxed);
        }
        if self.issues.fetch_add(1, Ordering::Relaxed) < ISSUES_SHOWN {
            let level = if issue.kind.is_error() {
                "error"
            } else {
                "warning"
            };
            self.line(&format!(
                "{level}: {}: {}",
                text::path(&issue.path),
                issue.message
            ));
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .expect("the template is a constant that indicatif understands")
        .progress_chars("=> ")
}

/// The counters in a few words.
pub(crate) fn counters(progress: Progress) -> String {
    let of = |total: u64, shown: String| {
        if total > 0 {
            format!("/{shown}")
        } else {
            String::new()
        }
    };
    format!(
        "{}{} entries, {}{}, {} transferred",
        progress.entries_done,
        of(progress.entries_total, progress.entries_total.to_string()),
        text::bytes(progress.bytes_done),
        of(progress.bytes_total, text::bytes(progress.bytes_total)),
        text::bytes(progress.transferred_bytes),
    )
}
