//! How a command is tagged so that a second one can find and end it.
//!
//! The API server has no way to end a command. So a shell gives it a variable of its own in the environment, which
//! all that it starts inherit, and becomes the command; a second shell looks for that variable below `/proc`. Only
//! what every shell has built in is used, and nothing is written to the container.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Ends with 0 if the container has a shell and a `/proc` that it may read.
pub(super) const PROBE: [&str; 3] = ["/bin/sh", "-c", "[ -r /proc/self/environ ]"];

/// Becomes the command, with the tag in its environment.
const TAGGED: &str = "export ORLOP_HOOK=\"$0\"; exec \"$@\"";

/// Tells all processes with the tag to end, makes them end two seconds later, and ends with 0 if it found some and
/// none is left. A command in a container leads a process group of its own, so its children go with it, also
/// those of another user.
const KILL: &str = r#"tagged() {
  for d in /proc/[0-9]*; do
    { while read -r line || [ -n "$line" ]; do
      case "$line" in *"ORLOP_HOOK=$tag"*) echo "${d#/proc/}"; break;; esac
    done <"$d/environ"; } 2>/dev/null
  done
}
tag=$0
found=$(tagged)
[ -n "$found" ] || exit 3
for signal in TERM KILL; do
  for p in $(tagged); do kill "-$signal" "-$p" 2>/dev/null; kill "-$signal" "$p" 2>/dev/null; done
  sleep 2
  [ -n "$(tagged)" ] || exit 0
done
exit 4"#;

/// The tag of one command.
#[derive(Debug)]
pub(super) struct Tag(String);

impl Tag {
    pub(super) fn new() -> Self {
        let random = || RandomState::new().build_hasher().finish();
        Self(format!("{:016x}{:016x}", random(), random()))
    }

    /// The command as one that carries the tag.
    pub(super) fn tagged(&self, command: &[String]) -> Vec<String> {
        let shell = ["/bin/sh", "-c", TAGGED, &self.0].map(str::to_owned);
        shell.into_iter().chain(command.iter().cloned()).collect()
    }

    /// A command that ends what carries the tag.
    pub(super) fn killer(&self) -> Vec<String> {
        ["/bin/sh", "-c", KILL, &self.0].map(str::to_owned).to_vec()
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn command(words: &[String]) -> Command {
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(Stdio::null());
        command
    }

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    #[test]
    fn a_marked_command_runs_as_it_would_without() {
        let tag = Tag::new();
        let echo = tag.tagged(&words(&[
            "/bin/sh",
            "-c",
            "echo \"$1 $ORLOP_HOOK\"; exit 5",
            "x",
            "a  b",
        ]));
        let output = command(&echo).output().unwrap();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            format!("a  b {}\n", tag.0)
        );
        assert_eq!(output.status.code(), Some(5));
    }

    #[test]
    fn the_second_command_ends_the_first_and_its_children_and_nobody_else() {
        if !command(&words(&PROBE))
            .status()
            .is_ok_and(|status| status.success())
        {
            eprintln!("skipped: needs a /proc");
            return;
        }
        let tag = Tag::new();
        // It does not want to go, and its child hides behind a line break in its environment.
        let script = "trap '' TERM; A='x\ny' sleep 600 & wait; wait";
        let mut hook = command(&tag.tagged(&words(&["/bin/sh", "-c", script])))
            .spawn()
            .unwrap();
        let mut other = command(&Tag::new().tagged(&words(&["sleep", "600"])))
            .spawn()
            .unwrap();
        // Until it carries its tag, nobody can find it.
        let carries = |id: u32| {
            let path = format!("/proc/{id}/environ");
            std::fs::read(path).is_ok_and(|all| String::from_utf8_lossy(&all).contains(&tag.0))
        };
        while !carries(hook.id()) {
            std::thread::yield_now();
        }
        let status = command(&tag.killer()).status().unwrap();
        assert_eq!(status.code(), Some(0), "{status}");
        assert!(!hook.wait().unwrap().success());
        assert!(other.try_wait().unwrap().is_none());
        other.kill().unwrap();
        other.wait().unwrap();
        let nothing = command(&tag.killer()).status().unwrap();
        assert_eq!(nothing.code(), Some(3));
    }
}
