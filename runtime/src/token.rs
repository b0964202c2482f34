//! The bearer token that a standalone server wants with every call.

use std::{fmt::Write, io, path::Path};

use crate::{Error, Result, private};

/// Random bytes in a token.
const TOKEN_BYTES: usize = 32;

/// The token in `path`; if there is no such file it is made, with 256 random bits and mode 0600.
///
/// # Errors
/// The file cannot be read or made, is readable by others, or holds no token.
pub fn load_or_create(path: &Path) -> Result<String> {
    if let Some(text) = private::read(path)? {
        return checked(path, &text);
    }
    if let Some(dir) = path.parent() {
        private::create_dir(dir)?;
    }
    let mut random = [0; TOKEN_BYTES];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| Error::Random)?;
    let mut token = String::with_capacity(2 * TOKEN_BYTES);
    for byte in random {
        write!(token, "{byte:02x}").expect("a String takes any text");
    }
    write_to(path, &token)?;
    Ok(token)
}

/// The token in `path`.
///
/// # Errors
/// There is no such file, it cannot be read, is readable by others, or holds no token.
pub fn read(path: &Path) -> Result<String> {
    let missing = || Error::File {
        action: "read",
        path: path.to_owned(),
        source: io::ErrorKind::NotFound.into(),
    };
    checked(path, &private::read(path)?.ok_or_else(missing)?)
}

/// Puts a copy of `token` into `path` with mode 0600, for clients of the same user.
///
/// # Errors
/// The file or its directory cannot be made.
pub fn write_to(path: &Path, token: &str) -> Result<()> {
    if let Some(dir) = path.parent() {
        private::create_dir(dir)?;
    }
    private::write(path, format!("{token}\n").as_bytes())
}

/// A token is one line of 16 to 4096 visible ASCII characters: ours, or a service account's.
fn checked(path: &Path, text: &str) -> Result<String> {
    let token = text.trim();
    if (16..=4096).contains(&token.len()) && token.bytes().all(|b| b.is_ascii_graphic()) {
        Ok(token.to_owned())
    } else {
        Err(Error::Malformed {
            path: path.to_owned(),
            wanted: "a token",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn a_token_is_made_once_and_only_its_owner_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/token");
        let token = load_or_create(&path).unwrap();
        assert_eq!(token.len(), 64);
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(load_or_create(&path).unwrap(), token);
        assert_eq!(read(&path).unwrap(), token);
    }

    #[test]
    fn a_token_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        load_or_create(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(
            read(&path),
            Err(Error::Exposed { mode: 0o640, .. })
        ));
    }

    #[test]
    fn an_empty_token_is_no_token() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        private::write(&path, b"\n").unwrap();
        assert!(matches!(
            load_or_create(&path),
            Err(Error::Malformed { .. })
        ));
        assert!(matches!(
            read(&dir.path().join("none")),
            Err(Error::File { .. })
        ));
    }
}
