//! How the large files of a volume are cut into chunks.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// How the large files of a volume are cut. What was cut in another way before is not known again, but for that all
/// of them lead to the same files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Chunking {
    /// As in the snapshot before; a new file by its name and by what its first bytes and page headers look like.
    #[default]
    Auto,
    /// All at fixed places: for databases and images of disks that are not known by their bytes.
    Page,
    /// All by their content.
    Content,
    /// All by their content, in chunks of a quarter of the usual size: for large files of which little changes here
    /// and there.
    Fine,
}

/// A text that is none of the words of [`Chunking`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no way to cut files: use auto, page, content or fine")]
pub struct ParseChunkingError(pub String);

impl Chunking {
    /// Its name on the command line, in annotations and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Page => "page",
            Self::Content => "content",
            Self::Fine => "fine",
        }
    }
}

impl fmt::Display for Chunking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Chunking {
    type Err = ParseChunkingError;

    fn from_str(text: &str) -> Result<Self, ParseChunkingError> {
        [Self::Auto, Self::Page, Self::Content, Self::Fine]
            .into_iter()
            .find(|one| one.as_str() == text)
            .ok_or_else(|| ParseChunkingError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_has_a_word_and_other_words_are_refused_with_them() {
        for one in [
            Chunking::Auto,
            Chunking::Page,
            Chunking::Content,
            Chunking::Fine,
        ] {
            assert_eq!(one.to_string().parse(), Ok(one));
        }
        let error = "pages".parse::<Chunking>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "\"pages\" is no way to cut files: use auto, page, content or fine"
        );
    }
}
