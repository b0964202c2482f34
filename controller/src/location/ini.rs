//! The file of credentials that Amazon's tools keep, as people put it into the Secret `cloud-credentials`.

/// Longest file, in bytes: a Secret holds no more.
const MAX_BYTES: usize = 1 << 20;

/// The keys of one profile.
#[derive(Clone, PartialEq, Eq, Default)]
pub(crate) struct Keys {
    /// Names the key.
    pub(crate) access_key_id: String,
    /// The secret.
    pub(crate) secret_access_key: String,
    /// The token of temporary keys; empty for lasting ones.
    pub(crate) session_token: String,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys({}, …)", self.access_key_id)
    }
}

/// Why a file of credentials gives no keys. No message shows a value of the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum IniError {
    /// It is no text.
    #[error("it is not a text of at most 1 MiB: it should begin with [default]")]
    NoText,
    /// A line means nothing.
    #[error("line {0} is neither [profile] nor name = value")]
    Line(usize),
    /// There is no such profile.
    #[error("it has no profile [{wanted}]; it has {}", list(.known))]
    Profile {
        /// What was looked for.
        wanted: String,
        /// What there is.
        known: Vec<String>,
    },
    /// A profile lacks one half of its keys.
    #[error("profile [{profile}] has no {missing}")]
    Half {
        /// The profile.
        profile: String,
        /// The name of what it lacks.
        missing: &'static str,
    },
    /// A profile gets its keys elsewhere.
    #[error(
        "profile [{profile}] uses {setting}, which is not supported: give keys, or no credentials at all for the instance's role"
    )]
    Unsupported {
        /// The profile.
        profile: String,
        /// What it uses.
        setting: String,
    },
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    names.join(", ")
}

/// The keys of `profile`; `None` if the file is empty, or has that profile without any keys.
///
/// # Errors
/// It cannot be read, has other profiles only, or the profile has half a key or gets its keys elsewhere.
pub(crate) fn keys(file: &[u8], profile: &str) -> Result<Option<Keys>, IniError> {
    let profiles = profiles(file)?;
    if profiles.is_empty() {
        return Ok(None);
    }
    let Some((_, settings)) = profiles.iter().find(|(name, _)| name == profile) else {
        return Err(IniError::Profile {
            wanted: profile.to_owned(),
            known: profiles.into_iter().map(|(name, _)| name).collect(),
        });
    };
    let value = |wanted: &str| {
        let found = settings.iter().rev().find(|(name, _)| name == wanted);
        found
            .map(|(_, value)| value.clone())
            .filter(|v| !v.is_empty())
    };
    let half = |missing| IniError::Half {
        profile: profile.to_owned(),
        missing,
    };
    match (value("aws_access_key_id"), value("aws_secret_access_key")) {
        (Some(access_key_id), Some(secret_access_key)) => Ok(Some(Keys {
            access_key_id,
            secret_access_key,
            session_token: value("aws_session_token").unwrap_or_default(),
        })),
        (None, Some(_)) => Err(half("aws_access_key_id")),
        (Some(_), None) => Err(half("aws_secret_access_key")),
        (None, None) => {
            let elsewhere = [
                "role_arn",
                "credential_process",
                "sso_session",
                "sso_account_id",
            ];
            match elsewhere.into_iter().find(|name| value(name).is_some()) {
                None => Ok(None),
                Some(setting) => Err(IniError::Unsupported {
                    profile: profile.to_owned(),
                    setting: setting.to_owned(),
                }),
            }
        }
    }
}

type Settings = Vec<(String, String)>;

/// The profiles in the order of the file, each with its settings; a profile that comes twice is one.
fn profiles(file: &[u8]) -> Result<Vec<(String, Settings)>, IniError> {
    let text = std::str::from_utf8(file).map_err(|_| IniError::NoText)?;
    if text.len() > MAX_BYTES || text.contains('\0') {
        return Err(IniError::NoText);
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut profiles: Vec<(String, Settings)> = Vec::new();
    let mut current = None;
    for (number, line) in text.lines().enumerate() {
        let bad = || IniError::Line(number + 1);
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            continue;
        }
        if let Some(rest) = trimmed.strip_prefix('[') {
            let (name, after) = rest.split_once(']').ok_or_else(bad)?;
            let after = after.trim();
            if !after.is_empty() && !after.starts_with(['#', ';']) {
                return Err(bad());
            }
            let name = section(name);
            let at = profiles.iter().position(|(known, _)| *known == name);
            current = Some(at.unwrap_or_else(|| {
                profiles.push((name, Vec::new()));
                profiles.len() - 1
            }));
            continue;
        }
        let (name, value) = trimmed.split_once('=').ok_or_else(bad)?;
        let settings = &mut profiles[current.ok_or_else(bad)?].1;
        // What is indented belongs to the setting above, such as the settings of `s3 =`.
        if !line.starts_with([' ', '\t']) || settings.is_empty() {
            settings.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    Ok(profiles)
}

/// The name of a profile: `[name]`, or `[profile name]` as in the other of the tools' two files.
fn section(text: &str) -> String {
    let text = text.trim();
    let name = text
        .strip_prefix("profile")
        .filter(|rest| rest.starts_with([' ', '\t']));
    name.unwrap_or(text).trim().trim_matches('"').to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[allow(clippy::unnecessary_wraps, reason = "it is what keys() gives")]
    fn some(id: &str, secret: &str, token: &str) -> Result<Option<Keys>, IniError> {
        Ok(Some(Keys {
            access_key_id: id.to_owned(),
            secret_access_key: secret.to_owned(),
            session_token: token.to_owned(),
        }))
    }

    #[test]
    fn what_people_write_is_read() {
        let cases = [
            (
                "[default]\naws_access_key_id=a\naws_secret_access_key=s\n",
                "default",
                some("a", "s", ""),
            ),
            (
                "\u{feff}[default]\r\naws_access_key_id = a\r\naws_secret_access_key = s=/+=\r\n",
                "default",
                some("a", "s=/+=", ""),
            ),
            (
                "# c\n; d\n\n[ default ] # e\nAWS_ACCESS_KEY_ID=a\naws_secret_access_key=s\naws_session_token=t",
                "default",
                some("a", "s", "t"),
            ),
            (
                "[default]\naws_access_key_id=a\naws_secret_access_key=s\n[other]\naws_access_key_id=b\naws_secret_access_key=r",
                "other",
                some("b", "r", ""),
            ),
            (
                "[profile other]\naws_access_key_id=b\naws_secret_access_key=r",
                "other",
                some("b", "r", ""),
            ),
            (
                "[profiles]\naws_access_key_id=b\naws_secret_access_key=r",
                "profiles",
                some("b", "r", ""),
            ),
            // A setting that comes twice counts the last time, a profile that comes twice is one.
            (
                "[default]\naws_access_key_id=x\naws_access_key_id=a\n[o]\n[default]\naws_secret_access_key=s",
                "default",
                some("a", "s", ""),
            ),
            (
                "  [default]\n  aws_access_key_id=a\naws_secret_access_key=s\ns3 =\n  region = nowhere\n",
                "default",
                some("a", "s", ""),
            ),
            ("", "default", Ok(None)),
            ("\n# nothing\n", "default", Ok(None)),
            ("[default]\nregion=us-east-1\n", "default", Ok(None)),
            (
                "[default]\naws_access_key_id=\naws_secret_access_key=\n",
                "default",
                Ok(None),
            ),
        ];
        for (text, profile, want) in cases {
            assert_eq!(keys(text.as_bytes(), profile), want, "{text:?}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_named_without_its_value() {
        let cases = [
            ("{\"type\": \"hush\"}", "line 1"),
            ("aws_access_key_id=hush", "line 1"),
            ("[default\nx=hush", "line 1"),
            ("[default] hush", "line 1"),
            ("[default]\nhush", "line 2"),
            (
                "[a]\nx=hush\n[b]\ny=hush",
                "no profile [default]; it has a, b",
            ),
            (
                "[default]\naws_access_key_id=hush",
                "no aws_secret_access_key",
            ),
            (
                "[default]\naws_secret_access_key=hush",
                "no aws_access_key_id",
            ),
            (
                "[default]\nrole_arn=hush",
                "role_arn, which is not supported",
            ),
            ("[default]\nx=\0hush", "not a text"),
        ];
        for (text, want) in cases {
            let error = keys(text.as_bytes(), "default").unwrap_err().to_string();
            assert!(error.contains(want), "{text:?}: {error}");
            assert!(!error.contains("hush"), "{error}");
        }
        assert_eq!(keys(&[0xff, 0xfe], "default"), Err(IniError::NoText));
    }

    proptest! {
        #[test]
        fn no_file_makes_it_panic(file in prop::collection::vec(any::<u8>(), 0..200), profile in "[a-z]{0,8}") {
            let _ = keys(&file, &profile);
        }

        #[test]
        fn no_text_of_its_marks_makes_it_panic(text in "[\\[\\]=#;a \t\r\n\"\u{feff}]{0,60}") {
            let _ = keys(text.as_bytes(), "a");
        }

        #[test]
        fn keys_come_back_among_any_others(
            id in "[A-Z0-9]{16,20}", secret in "[A-Za-z0-9/+=]{40}", token in "[A-Za-z0-9/+=]{0,80}",
            others in prop::collection::vec(("[b-z]{1,9}", "[A-Z0-9]{1,20}"), 0..5),
            blank in "[ \t]{0,3}", end in prop::sample::select(vec!["\n", "\r\n"]), at in 0_usize..5,
        ) {
            let mut parts: Vec<String> = others
                .iter()
                .map(|(name, key)| format!("[{name}]{end}aws_access_key_id={key}{end}"))
                .collect();
            let own = format!(
                "[a]{blank}{end}aws_access_key_id{blank}={blank}{id}{blank}{end}aws_secret_access_key={secret}{end}aws_session_token={token}{end}"
            );
            parts.insert(at.min(parts.len()), own);
            prop_assert_eq!(keys(parts.concat().as_bytes(), "a"), some(&id, &secret, &token));
        }
    }
}
