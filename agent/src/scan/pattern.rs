//! Patterns of paths: what a walk leaves out, what a restore takes.

use std::{fmt, str::FromStr};

/// A pattern: `*` and `?` stand for any run of bytes and any byte but `/`, `**` for any run of bytes, and `**/` at
/// the beginning of a component for any number of whole components, none included (`**/log` is not `catalog`);
/// `\` takes the next character as it is. With a leading `/` it is matched against the whole path
/// below the root, otherwise against every tail of it that starts at a component. A trailing `/`
/// matches directories only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    tokens: Vec<Token>,
    anchored: bool,
    directories_only: bool,
    /// It cannot match across `/`, so that only the last component needs a look.
    single: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Byte(u8),
    AnyByte,
    AnyName,
    AnyPath,
    /// Whole components, each with its slash, none included.
    Components,
}

/// A text that is not a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a pattern of paths: {reason}")]
pub struct PatternError {
    /// What was parsed.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let fail = |reason| PatternError {
            text: text.to_owned(),
            reason,
        };
        if text.starts_with('!') {
            return Err(fail(
                "what was left out cannot be taken in again by a second pattern; for a name that begins so write \\!",
            ));
        }
        let (anchored, rest) = match text.strip_prefix('/') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (directories_only, rest) = match rest.strip_suffix('/') {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        if rest.is_empty() {
            return Err(fail("it is empty"));
        }
        if rest.starts_with('/') || rest.contains("//") {
            return Err(fail("it has an empty component"));
        }
        let mut tokens = Vec::new();
        let mut bytes = rest.bytes().peekable();
        while let Some(byte) = bytes.next() {
            let token = match byte {
                b'\\' => Token::Byte(
                    bytes
                        .next()
                        .ok_or_else(|| fail("it ends with a backslash"))?,
                ),
                b'[' => {
                    return Err(fail(
                        "sets of characters are not known: write ? for any one, or \\[ for the bracket",
                    ));
                }
                b'?' => Token::AnyByte,
                b'*' if bytes.peek() == Some(&b'*') => {
                    while bytes.next_if_eq(&b'*').is_some() {}
                    let begins = matches!(
                        tokens.last(),
                        None | Some(Token::Byte(b'/') | Token::Components)
                    );
                    if begins && bytes.next_if_eq(&b'/').is_some() {
                        Token::Components
                    } else {
                        Token::AnyPath
                    }
                }
                b'*' => Token::AnyName,
                byte => Token::Byte(byte),
            };
            tokens.push(token);
        }
        let crosses = [Token::Byte(b'/'), Token::AnyPath, Token::Components];
        let single = !tokens.iter().any(|token| crosses.contains(token));
        Ok(Self {
            text: text.to_owned(),
            tokens,
            anchored,
            directories_only,
            single,
        })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Pattern {
    /// Whether the entry at `path` below the root is meant.
    pub fn matches(&self, path: &[u8], is_directory: bool) -> bool {
        if self.directories_only && !is_directory {
            return false;
        }
        if self.anchored {
            return self.matches_whole(path);
        }
        if self.single {
            let at = path
                .iter()
                .rposition(|byte| *byte == b'/')
                .map_or(0, |at| at + 1);
            return self.matches_whole(&path[at..]);
        }
        let starts = path
            .iter()
            .enumerate()
            .filter(|(_, b)| **b == b'/')
            .map(|(at, _)| at + 1);
        std::iter::once(0)
            .chain(starts)
            .any(|at| self.matches_whole(&path[at..]))
    }

    /// The directory that holds everything that the pattern can match; empty for the root.
    pub fn directory(&self) -> Vec<u8> {
        if !self.anchored {
            return Vec::new();
        }
        let literal = self.tokens.iter().map_while(|token| match token {
            Token::Byte(byte) => Some(*byte),
            _ => None,
        });
        let literal: Vec<u8> = literal.collect();
        let end = literal.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        literal[..end].to_vec()
    }

    /// Whether the pattern would match if case counted for nothing, it were not anchored and it were
    /// not for directories only: what somebody may have meant by one that matches nothing.
    pub fn nearly_matches(&self, path: &[u8]) -> bool {
        let lower = |token: &Token| match token {
            Token::Byte(byte) => Token::Byte(byte.to_ascii_lowercase()),
            other => *other,
        };
        let loose = Self {
            text: String::new(),
            tokens: self.tokens.iter().map(lower).collect(),
            anchored: false,
            directories_only: false,
            single: self.single,
        };
        loose.matches(&path.to_ascii_lowercase(), false)
    }

    /// Linear in path times pattern: a star is retried only from the last one of its kind, as a
    /// later `**` or `**/` makes earlier stars irrelevant: from an earlier place it reaches all that it reaches from
    /// a later one.
    fn matches_whole(&self, text: &[u8]) -> bool {
        let tokens = &self.tokens;
        let (mut t, mut p) = (0, 0);
        let mut name_star: Option<(usize, usize)> = None;
        let mut path_star: Option<(usize, usize)> = None;
        loop {
            match tokens.get(p) {
                Some(Token::AnyPath | Token::Components) => {
                    path_star = Some((p + 1, t));
                    name_star = None;
                    p += 1;
                    continue;
                }
                Some(Token::AnyName) => {
                    name_star = Some((p + 1, t));
                    p += 1;
                    continue;
                }
                Some(Token::Byte(byte)) if text.get(t) == Some(byte) => {
                    t += 1;
                    p += 1;
                    continue;
                }
                Some(Token::AnyByte) if text.get(t).is_some_and(|b| *b != b'/') => {
                    t += 1;
                    p += 1;
                    continue;
                }
                None if t == text.len() => return true,
                _ => {}
            }
            if let Some((after, from)) = name_star
                && text.get(from).is_some_and(|b| *b != b'/')
            {
                name_star = Some((after, from + 1));
                (p, t) = (after, from + 1);
            } else if let Some((after, from)) = path_star
                && let Some(next) = match tokens[after - 1] {
                    Token::Components => {
                        let slash = text[from..].iter().position(|byte| *byte == b'/');
                        slash.map(|slash| from + slash + 1)
                    }
                    _ => (from < text.len()).then_some(from + 1),
                }
            {
                path_star = Some((after, next));
                name_star = None;
                (p, t) = (after, next);
            } else {
                return false;
            }
        }
    }
}
