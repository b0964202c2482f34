//! The result of a verb on stdout: a table for people, JSON or YAML for programs.

use std::io::{BufWriter, Stdout, Write as _};

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use orlop_kubernetes::yaml;
use serde::Serialize;

/// What stdout carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// One JSON document.
    Json,
    /// One YAML document.
    Yaml,
}

/// The option `-o`.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct OutputArgs {
    /// What to print on stdout
    #[arg(
        short = 'o',
        long = "output",
        value_enum,
        default_value_t,
        value_name = "FORMAT"
    )]
    pub(crate) format: Format,
}

impl OutputArgs {
    /// Prints `value`, as the text that `table` makes of it if people read it.
    pub(crate) fn print<T: Serialize>(
        self,
        value: &T,
        table: impl FnOnce(&T) -> String,
    ) -> Result<()> {
        let text = match self.format {
            Format::Table => table(value),
            Format::Json => json(value)?,
            Format::Yaml => yaml::document(&serde_json::to_value(value).context("encode YAML")?),
        };
        write(text.as_bytes())
    }

    /// Prints the items of a list of any length as they come.
    pub(crate) fn print_each<T: Serialize>(
        self,
        items: impl Iterator<Item = Result<T>>,
        line: impl Fn(&T) -> String,
    ) -> Result<()> {
        let mut printer = self.printer();
        for item in items {
            printer.item(&item?, &line)?;
        }
        printer.finish()
    }

    /// A printer of a list whose items come one by one.
    pub(crate) fn printer(self) -> Printer {
        let out = BufWriter::with_capacity(1 << 16, std::io::stdout());
        Printer {
            format: self.format,
            out,
            first: true,
        }
    }
}

/// Prints a list whose items come one by one.
pub(crate) struct Printer {
    format: Format,
    out: BufWriter<Stdout>,
    first: bool,
}

impl Printer {
    /// Prints one item, as `line` if people read it.
    pub(crate) fn item<T: Serialize>(
        &mut self,
        item: &T,
        line: impl Fn(&T) -> String,
    ) -> Result<()> {
        match self.format {
            Format::Table => self.out.write_all(line(item).as_bytes())?,
            Format::Yaml => {
                let value = serde_json::to_value(item).context("encode YAML")?;
                let list = yaml::document(&serde_json::Value::Array(vec![value]));
                self.out.write_all(list.as_bytes())?;
            }
            Format::Json => {
                self.out
                    .write_all(if self.first { b"[\n" } else { b",\n" })?;
                serde_json::to_writer(&mut self.out, item).context("encode JSON")?;
            }
        }
        self.first = false;
        Ok(())
    }

    /// Ends the list.
    pub(crate) fn finish(mut self) -> Result<()> {
        match (self.format, self.first) {
            (Format::Json, false) => self.out.write_all(b"\n]\n")?,
            (Format::Json | Format::Yaml, true) => self.out.write_all(b"[]\n")?,
            _ => {}
        }
        self.out.flush()?;
        Ok(())
    }
}

/// The value as indented JSON that ends with a line feed.
pub(crate) fn json<T: Serialize>(value: &T) -> Result<String> {
    let mut text = serde_json::to_string_pretty(value).context("encode JSON")?;
    text.push('\n');
    Ok(text)
}

fn write(bytes: &[u8]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_become_block_yaml() {
        let value = json!([{"id": "01a", "tags": ["x", "yes"], "files": {"total": 2}, "parent": null}, [1], {}]);
        let expected = "- id: \"01a\"\n  tags:\n  - x\n  - \"yes\"\n  files:\n    total: 2\n  parent: null\n- - 1\n- {}\n";
        assert_eq!(yaml::document(&value), expected);
        assert_eq!(yaml::document(&json!([])), "[]\n");
    }
}
