//! What opens the repository: the Secret that Velero has for it, and when a new one may be made.

pub(crate) use orlop_kubernetes::install::{PASSWORD_KEY as KEY, PASSWORD_SECRET as SECRET};
use rand::Rng as _;

/// What Velero puts there: anybody knows it.
const PUBLIC: &str = "static-passw0rd";
/// How many letters and digits a new password has: more than 256 bits.
const LENGTH: usize = 44;
const LETTERS: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789";

/// What the coordinator knows of repositories.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Repositories {
    /// It has opened that of this location.
    pub(crate) opened: bool,
    /// It knows what opens that of this location, whether it has tried or not.
    pub(crate) unlocked: bool,
    /// It knows what opens that of another location of ours.
    pub(crate) others: bool,
}

/// What to open the repository of a location with.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Password {
    /// With this.
    Use(String),
    /// With this, but only if there is a repository already.
    OnlyOpen(String),
    /// With a new one that is kept first.
    Make,
    /// With what the coordinator knows.
    Keep,
    /// Not at all; one line for a person.
    Refuse(String),
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Use(_) => "Use(…)",
            Self::OnlyOpen(_) => "OnlyOpen(…)",
            Self::Make => "Make",
            Self::Keep => "Keep",
            Self::Refuse(_) => "Refuse(…)",
        })
    }
}

/// Decides by what is in the Secret, if there is one.
pub(crate) fn decide(secret: Option<&[u8]>, known: Repositories, namespace: &str) -> Password {
    match secret.filter(|password| !password.is_empty()) {
        // What it knows may be the last copy.
        None if known.opened || known.unlocked => Password::Keep,
        // There were backups: they need the password that is lost, and a second one would hide that.
        None if known.others => Password::Refuse(format!(
            "Secret {SECRET} is missing, and other locations have repositories with its password: {}",
            command(namespace)
        )),
        None => Password::Make,
        Some(password) => match std::str::from_utf8(password) {
            Err(_) => Password::Refuse(format!(
                "key {KEY} of Secret {SECRET} is not a text: {}",
                command(namespace)
            )),
            Ok(PUBLIC) if !known.opened => Password::OnlyOpen(PUBLIC.to_owned()),
            Ok(password) => Password::Use(password.to_owned()),
        },
    }
}

/// Why there is no repository where Velero's password was all that we had.
pub(crate) fn public(namespace: &str) -> String {
    format!(
        "Secret {SECRET} holds Velero's default password, which everybody knows: a new repository needs another one. \
         Run: kubectl -n {namespace} delete secret {SECRET} (a random one is made then; keep a copy of it)"
    )
}

/// Why a repository does not open, with the command that mends it.
pub(crate) fn wrong(message: &str, namespace: &str) -> String {
    format!(
        "{message}: Secret {SECRET} does not have the password that the repository was made with. {}",
        command(namespace)
    )
}

fn command(namespace: &str) -> String {
    format!(
        "Run: kubectl -n {namespace} delete secret {SECRET} --ignore-not-found && kubectl -n {namespace} create \
         secret generic {SECRET} --from-literal={KEY}=PASSWORD"
    )
}

/// A new password.
pub(crate) fn random() -> String {
    let mut rng = rand::rng();
    let letter = |_| char::from(LETTERS[rng.random_range(0..LETTERS.len())]);
    (0..LENGTH).map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_made_only_where_none_can_be_lost() {
        let none = Repositories::default();
        let opened = Repositories {
            opened: true,
            ..none
        };
        let unlocked = Repositories {
            unlocked: true,
            ..none
        };
        let others = Repositories {
            others: true,
            ..none
        };
        let used = |text: &str| Password::Use(text.to_owned());
        let cases = [
            (None, none, Password::Make),
            (Some(""), none, Password::Make),
            (None, opened, Password::Keep),
            (None, unlocked, Password::Keep),
            (
                Some(PUBLIC),
                unlocked,
                Password::OnlyOpen(PUBLIC.to_owned()),
            ),
            (Some("p"), none, used("p")),
            (Some("p"), opened, used("p")),
            (Some(PUBLIC), none, Password::OnlyOpen(PUBLIC.to_owned())),
            (Some(PUBLIC), others, Password::OnlyOpen(PUBLIC.to_owned())),
            (Some(PUBLIC), opened, used(PUBLIC)),
        ];
        for (secret, known, want) in cases {
            assert_eq!(
                decide(secret.map(str::as_bytes), known, "velero"),
                want,
                "{secret:?}"
            );
        }
        for secret in [None, Some(&[0xff][..])] {
            let Password::Refuse(reason) = decide(secret, others, "velero") else {
                panic!("{secret:?} opens nothing");
            };
            assert!(
                reason.contains("kubectl -n velero create secret generic velero-repo-credentials")
            );
        }
    }

    #[test]
    fn two_new_passwords_differ() {
        let (a, b) = (random(), random());
        assert_eq!(a.len(), LENGTH);
        assert_ne!(a, b);
    }
}
