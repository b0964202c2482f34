//! Holds the house to its plan: which crate may use which, who owns which library, and how files look.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use orlop_tests::repository_root;
use serde_json::Value;

/// Non-test lines after which a file must be split.
const LINES_MAX: usize = 400;

/// Which crates of ours a crate may use. `orlop-cli` wires everything together and `orlop-tests` looks
/// at everything: both may use all.
const ARROWS: [(&str, &[&str]); 9] = [
    ("orlop-core", &[]),
    ("orlop-runtime", &[]),
    ("orlop-proto", &["orlop-core"]),
    ("orlop-repository", &["orlop-core"]),
    ("orlop-kubernetes", &["orlop-core"]),
    ("orlop-console", &["orlop-core"]),
    (
        "orlop-agent",
        &[
            "orlop-core",
            "orlop-proto",
            "orlop-repository",
            "orlop-runtime",
        ],
    ),
    (
        "orlop-coordinator",
        &[
            "orlop-core",
            "orlop-proto",
            "orlop-repository",
            "orlop-console",
            "orlop-kubernetes",
            "orlop-runtime",
        ],
    ),
    (
        "orlop-controller",
        &[
            "orlop-core",
            "orlop-proto",
            "orlop-kubernetes",
            "orlop-runtime",
        ],
    ),
];

/// Which crates may name a library that marks a boundary. `orlop-tests` may name all.
const BOUNDARIES: [(&str, &[&str]); 17] = [
    ("aws-sdk-s3", &["orlop-repository"]),
    ("fastcdc", &["orlop-repository"]),
    ("zstd", &["orlop-repository"]),
    ("blake3", &["orlop-repository"]),
    ("xorf", &["orlop-repository"]),
    ("aws-lc-rs", &["orlop-repository", "orlop-runtime"]),
    ("kube", &["orlop-kubernetes"]),
    ("k8s-openapi", &["orlop-kubernetes"]),
    ("tar", &["orlop-agent", "orlop-kubernetes"]),
    ("walkdir", &["orlop-agent", "orlop-repository"]),
    ("nix", &["orlop-agent", "orlop-repository"]),
    ("rustix", &["orlop-agent", "orlop-repository"]),
    (
        "tonic",
        &[
            "orlop-proto",
            "orlop-agent",
            "orlop-coordinator",
            "orlop-controller",
            "orlop-cli",
        ],
    ),
    (
        "axum",
        &["orlop-console", "orlop-runtime", "orlop-coordinator"],
    ),
    (
        "prometheus-client",
        &["orlop-runtime", "orlop-coordinator", "orlop-controller"],
    ),
    ("anyhow", &["orlop-cli"]),
    ("rusqlite", &["orlop-coordinator"]),
];

/// Files that are longer, and why.
const LONG_FILES: [(&str, &str); 0] = [];

struct Package {
    name: String,
    directory: PathBuf,
    /// Of every kind: to build, to test, to run.
    uses: BTreeSet<String>,
}

fn packages() -> Vec<Package> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "metadata",
            "--no-deps",
            "--format-version",
            "1",
            "--offline",
        ])
        .current_dir(repository_root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| Package {
            name: text(&package["name"]),
            directory: Path::new(&text(&package["manifest_path"]))
                .parent()
                .unwrap()
                .to_owned(),
            uses: package["dependencies"]
                .as_array()
                .unwrap()
                .iter()
                .map(|one| text(&one["name"]))
                .collect(),
        })
        .collect()
}

#[test]
fn every_arrow_between_crates_is_drawn_in_the_design() {
    let packages = packages();
    let ours: BTreeSet<&String> = packages.iter().map(|package| &package.name).collect();
    let arrows: BTreeMap<&str, &[&str]> = ARROWS.into();
    let mut wrong = Vec::new();
    for package in &packages {
        if package.name == "orlop-cli" || package.name == "orlop-tests" {
            continue;
        }
        let Some(allowed) = arrows.get(package.name.as_str()) else {
            wrong.push(format!("{} is not in the design", package.name));
            continue;
        };
        for used in package.uses.iter().filter(|used| ours.contains(used)) {
            if !allowed.contains(&used.as_str()) {
                wrong.push(format!("{} may not depend on {used}", package.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nobody_depends_on_the_tests_or_the_program() {
    for package in packages() {
        for top in ["orlop-tests", "orlop-cli", "orlop-controller"] {
            let wires = matches!(package.name.as_str(), "orlop-cli" | "orlop-tests")
                && top == "orlop-controller";
            assert!(
                wires || !package.uses.contains(top),
                "{} depends on {top}",
                package.name
            );
        }
    }
}

#[test]
fn every_boundary_library_is_named_by_its_owners_only() {
    let mut wrong = Vec::new();
    for package in packages()
        .iter()
        .filter(|package| package.name != "orlop-tests")
    {
        for (library, owners) in BOUNDARIES {
            if package.uses.contains(library) && !owners.contains(&package.name.as_str()) {
                wrong.push(format!("{} may not depend on {library}", package.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// All `.rs` files of the packages, by their paths below the root, with their text.
fn sources() -> Vec<(String, String)> {
    let root = repository_root();
    let mut found = Vec::new();
    let mut pending: Vec<PathBuf> = packages()
        .into_iter()
        .map(|package| package.directory)
        .filter(|d| *d != root)
        .collect();
    pending.push(root.join("proto"));
    found.push((
        "build.rs".to_owned(),
        fs::read_to_string(root.join("build.rs")).unwrap(),
    ));
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                pending.push(entry.path());
            } else if entry
                .path()
                .extension()
                .is_some_and(|extension| extension == "rs")
            {
                let name = entry
                    .path()
                    .strip_prefix(&root)
                    .unwrap()
                    .display()
                    .to_string();
                found.push((name, fs::read_to_string(entry.path()).unwrap()));
            }
        }
    }
    assert!(found.len() > 100, "only {} sources were found", found.len());
    found.sort();
    found
}

#[test]
fn every_file_says_first_what_it_is_for() {
    let silent: Vec<String> = sources()
        .into_iter()
        .filter(|(_, text)| !text.starts_with("//!"))
        .map(|(name, _)| name)
        .collect();
    assert!(silent.is_empty(), "no `//!` at the top of {silent:?}");
}

/// Lines before a file's tests; files of tests only have none.
fn lines_without_tests(name: &str, text: &str) -> usize {
    let is_test = name.ends_with("/tests.rs") || name.starts_with("tests/tests/");
    if is_test {
        return 0;
    }
    // A module of tests in a file of its own is declared where the other modules are.
    let mut lines = text.lines().peekable();
    let mut count = 0;
    while let Some(line) = lines.next() {
        let declares = |next: &&str| next.trim_end().ends_with(';');
        if line.starts_with("#[cfg(test)]") && !lines.peek().is_some_and(declares) {
            return count;
        }
        count += 1;
    }
    count
}

#[test]
fn no_file_is_longer_than_one_can_keep_in_mind() {
    let excused: BTreeMap<&str, &str> = LONG_FILES.into();
    let mut long = Vec::new();
    for (name, text) in sources() {
        let lines = lines_without_tests(&name, &text);
        if lines > LINES_MAX && !excused.contains_key(name.as_str()) {
            long.push(format!("{name} has {lines} lines before its tests"));
        }
    }
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn every_excuse_is_still_needed() {
    let sources: BTreeMap<String, String> = sources().into_iter().collect();
    for (name, reason) in LONG_FILES {
        assert!(!reason.is_empty());
        let text = sources
            .get(name)
            .unwrap_or_else(|| panic!("{name} is gone"));
        assert!(
            lines_without_tests(name, text) > LINES_MAX,
            "{name} is short by now"
        );
    }
}
