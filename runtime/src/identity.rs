//! The server's TLS identity: an own certificate authority and a certificate that it signed.

use std::{
    fmt,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};

use crate::{Result, mac::MacKey, private};
use authority::Signing;

#[path = "authority.rs"]
mod authority;

const DAY: Duration = Duration::from_hours(24);
/// A server certificate is valid for so long, ...
const SERVER_VALID: Duration = Duration::from_hours(365 * 24);
/// ... and made anew when less than this is left at a start.
const RENEW_BEFORE: Duration = Duration::from_hours(30 * 24);
/// An authority is valid for so long. When less than a year is left its successor is made and shown to clients, ...
const CA_VALID: Duration = Duration::from_hours(10 * 365 * 24);
const ANNOUNCE_BEFORE: Duration = Duration::from_hours(365 * 24);
/// ... which signs after so long: clients have read `ca.pem` again by then.
const ANNOUNCED_FOR: Duration = Duration::from_hours(7 * 24);
/// Names that every server answers to.
const OWN_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// What a server shows to its clients, and what clients check it against.
#[derive(Clone)]
pub struct Authority {
    /// Certificates of the authority, PEM: clients trust each of them. The first has signed the server's; others are its
    /// successor, and predecessors whose time is not over.
    pub ca_pem: String,
    /// Certificate of the server, PEM.
    pub cert_pem: String,
    /// Private key of the server, PEM (PKCS #8).
    pub key_pem: String,
    /// Private key of the first authority: known to nobody else, and never made anew.
    secret: String,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("ca_pem", &self.ca_pem)
            .finish_non_exhaustive()
    }
}

impl Authority {
    /// The files of the authority itself. Whoever has them all is this authority; the server's own are made anew.
    pub const FILES: [&str; 7] = authority::FILES;

    /// A key for the server alone that stays the same whatever is renewed.
    pub fn own_key(&self, purpose: &str) -> MacKey {
        MacKey::derive(self.secret.as_bytes(), purpose)
    }

    /// The identity kept in `dir`: `ca.pem`, `ca.key`, `server.pem`, `server.key` and
    /// `server.valid` (end of validity in seconds since 1970, then the names), all with mode 0600. While an authority
    /// is replaced there are also those of [`Self::FILES`] that begin with `next` and `own`.
    ///
    /// What is missing is made. The server's certificate is for `localhost`, `127.0.0.1`, `::1` and
    /// `names`, and is made anew when fewer than 30 days are left or other names are wanted. The authority is replaced
    /// in its last year: its successor is shown to clients for a week, then it signs, and the old one is trusted to its
    /// end. A server that runs for long calls this again each day.
    ///
    /// # Errors
    /// `dir` cannot be read or written, a key in it is readable by others or malformed, or a name is
    /// no host name.
    pub fn load_or_create(dir: &Path, names: &[String]) -> Result<Self> {
        Self::load_or_create_at(dir, names, SystemTime::now())
    }

    fn load_or_create_at(dir: &Path, names: &[String], now: SystemTime) -> Result<Self> {
        private::create_dir(dir)?;
        let Signing {
            ca_pem,
            secret,
            issuer,
        } = authority::current(dir, now)?;
        let names = all_names(names);
        if let Some((cert_pem, key_pem)) = stored_server(dir, &names, now)? {
            return Ok(Self {
                ca_pem,
                cert_pem,
                key_pem,
                secret,
            });
        }
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names.clone())?;
        params.distinguished_name.push(DnType::CommonName, "orlop");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let until = valid(&mut params, now, SERVER_VALID);
        let cert_pem = params.signed_by(&key, &issuer)?.pem();
        let key_pem = key.serialize_pem();
        // The note that makes the pair usable is written last.
        private::write(&dir.join("server.key"), key_pem.as_bytes())?;
        private::write(&dir.join("server.pem"), cert_pem.as_bytes())?;
        private::write(
            &dir.join("server.valid"),
            validity_note(until, &names).as_bytes(),
        )?;
        Ok(Self {
            ca_pem,
            cert_pem,
            key_pem,
            secret,
        })
    }
}

fn all_names(names: &[String]) -> Vec<String> {
    let mut all: Vec<String> = OWN_NAMES.iter().map(|name| (*name).to_owned()).collect();
    for name in names {
        if !all.contains(name) {
            all.push(name.clone());
        }
    }
    all
}

fn validity_note(until_secs: u64, names: &[String]) -> String {
    format!("{until_secs}\n{}\n", names.join("\n"))
}

/// The server's certificate and key, if they are there, fit `names` and are valid long enough.
fn stored_server(
    dir: &Path,
    names: &[String],
    now: SystemTime,
) -> Result<Option<(String, String)>> {
    let Some(note) = private::read(&dir.join("server.valid"))? else {
        return Ok(None);
    };
    let until: u64 = note
        .lines()
        .next()
        .and_then(|line| line.parse().ok())
        .unwrap_or(0);
    if note != validity_note(until, names) || until < unix_secs(now + RENEW_BEFORE) {
        return Ok(None);
    }
    let cert = private::read(&dir.join("server.pem"))?;
    let key = private::read(&dir.join("server.key"))?;
    Ok(cert.zip(key))
}

/// Sets the validity, from a day ago (clocks differ) for `duration`; returns its end in seconds since 1970.
fn valid(params: &mut CertificateParams, now: SystemTime, duration: Duration) -> u64 {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let until = unix_secs(now + duration);
    params.not_before = epoch + Duration::from_secs(unix_secs(now).saturating_sub(DAY.as_secs()));
    params.not_after = epoch + Duration::from_secs(until);
    until
}

fn unix_secs(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn an_identity_is_kept_until_thirty_days_are_left() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let make = |at| Authority::load_or_create_at(dir.path(), &[], at).unwrap();
        let first = make(now);
        let later = make(now + 300 * DAY);
        assert_eq!(
            (&later.cert_pem, &later.key_pem),
            (&first.cert_pem, &first.key_pem)
        );
        let renewed = make(now + 336 * DAY);
        assert_ne!(renewed.cert_pem, first.cert_pem);
        assert_eq!(renewed.ca_pem, first.ca_pem);
        let sealed = first.own_key("test").seal(b"x".to_vec());
        assert!(renewed.own_key("test").open(&sealed).is_some());
    }

    #[test]
    fn an_authority_is_replaced_without_a_moment_in_which_clients_trust_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let make =
            |days: u32| Authority::load_or_create_at(dir.path(), &[], now + days * DAY).unwrap();
        let certificates = |one: &Authority| one.ca_pem.matches("BEGIN CERTIFICATE").count();
        let first = make(0);
        assert_eq!(make(9 * 365 - 1).ca_pem, first.ca_pem);
        // Shown, and not used yet.
        let shown = make(9 * 365 + 1);
        assert_eq!(certificates(&shown), 2);
        assert!(shown.ca_pem.starts_with(&first.ca_pem));
        let before = make(9 * 365 + 2);
        assert_eq!(
            (&before.ca_pem, &before.cert_pem),
            (&shown.ca_pem, &shown.cert_pem)
        );
        // It signs; who trusts either of the two still trusts the server.
        let second = make(9 * 365 + 9);
        assert_ne!(second.cert_pem, before.cert_pem);
        assert_eq!(certificates(&second), 2);
        let successor = second.ca_pem.strip_suffix(&first.ca_pem).unwrap();
        assert!(shown.ca_pem.ends_with(successor));
        assert_eq!(make(9 * 365 + 10).cert_pem, second.cert_pem);
        // The old one's time is over.
        let last = make(10 * 365 + 1);
        assert_eq!(last.ca_pem, successor);
        let sealed = first.own_key("test").seal(b"x".to_vec());
        assert!(last.own_key("test").open(&sealed).is_some());
    }

    #[test]
    fn an_authority_of_before_ends_were_noted_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let first = Authority::load_or_create(dir.path(), &[]).unwrap();
        fs::remove_file(dir.path().join("ca.valid")).unwrap();
        let again = Authority::load_or_create(dir.path(), &[]).unwrap();
        assert_eq!(
            (again.ca_pem, again.cert_pem),
            (first.ca_pem, first.cert_pem)
        );
        assert!(dir.path().join("ca.valid").exists());
    }

    #[test]
    fn another_name_makes_another_certificate_of_the_same_authority() {
        let dir = tempfile::tempdir().unwrap();
        let first = Authority::load_or_create(dir.path(), &[]).unwrap();
        let named = Authority::load_or_create(dir.path(), &["orlop.example".to_owned()]).unwrap();
        assert_ne!(named.cert_pem, first.cert_pem);
        assert_eq!(named.ca_pem, first.ca_pem);
    }

    #[test]
    fn every_file_is_private_and_an_exposed_key_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        Authority::load_or_create(dir.path(), &[]).unwrap();
        for file in fs::read_dir(dir.path()).unwrap() {
            let file = file.unwrap();
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
        let key = dir.path().join("ca.key");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        let error = Authority::load_or_create(dir.path(), &[]).unwrap_err();
        assert!(matches!(error, crate::Error::Exposed { path, .. } if path == key));
    }
}
