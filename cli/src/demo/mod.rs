//! `orlop demo`: the whole job on made-up data, told step by step.

mod compare;
mod data;
mod init_container;
mod pod;
mod steps;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use clap::Args;
use tokio_util::sync::CancellationToken;

use self::{
    compare::Record,
    init_container::InitContainer,
    pod::{NodeDirs, Pod},
    steps::{backup, found, restore},
};
use crate::{
    client::Client,
    commands::standalone::{self, Settings},
    exit::{self, Outcome},
    shapes::Run,
    text,
};

/// How long the server may take to find a pod, and the init container to see its mark.
const PATIENCE: Duration = Duration::from_mins(1);
/// Time in which the init container would end if it did not wait, and in which a server lets go of its
/// files.
const LOOK_AROUND: Duration = Duration::from_millis(500);
/// After a signal the steps have so long to end in order.
const LEAVE: Duration = Duration::from_secs(8);
/// Differences printed one by one.
const DIFFERENCES_SHOWN: usize = 10;

const FIRST: Pod = Pod {
    namespace: "demo",
    name: "database-0",
    uid: "6f1c2e9a-0d6b-4c39-9d54-1f0e8f3a0001",
    claim: "pvc-0b1d7c52-58e4-4a4e-8f2f-7f0a9d2b0001",
};
const SECOND: Pod = Pod {
    namespace: "demo",
    name: "database-restored-0",
    uid: "6f1c2e9a-0d6b-4c39-9d54-1f0e8f3a0002",
    claim: "pvc-0b1d7c52-58e4-4a4e-8f2f-7f0a9d2b0002",
};

/// How the demo ends, and where it plays.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// End after the story instead of leaving the server running until Ctrl-C
    #[arg(long)]
    once: bool,
    /// Leave the files
    #[arg(long)]
    keep: bool,
    /// Play in this directory, which must be empty or missing, and leave it
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Damage one restored byte before comparing: the comparer must see it
    #[arg(long, hide = true, env = "ORLOP_DEMO_FLIP_BYTE")]
    flip_byte: bool,
}

/// Tells the story.
pub(crate) async fn run(args: DemoArgs, cancel: CancellationToken) -> Result<Outcome> {
    let (dir, temporary) = stage(&args)?;
    let stop = cancel.child_token();
    let told = tokio::select! {
        told = tell(&args, &dir, &stop) => told,
        () = async { cancel.cancelled().await; tokio::time::sleep(LEAVE).await } => Err(interrupted()),
    };
    // What a step says of its own interruption speaks of a server that stays.
    let told = if cancel.is_cancelled() {
        told.map_err(|_| interrupted())
    } else {
        told
    };
    stop.cancel();
    if told.is_err() {
        // The server was not waited for.
        tokio::time::sleep(LOOK_AROUND).await;
    }
    if let Some(temporary) = temporary {
        if args.keep {
            println!("The files are in {}.", temporary.keep().display());
        } else {
            temporary
                .close()
                .with_context(|| format!("cannot remove {}", dir.display()))?;
        }
    }
    told
}

fn interrupted() -> anyhow::Error {
    exit::failure(exit::INTERRUPTED, "interrupted")
}

/// The directory to play in, and the guard that removes it.
fn stage(args: &DemoArgs) -> Result<(PathBuf, Option<tempfile::TempDir>)> {
    let Some(dir) = &args.data_dir else {
        let temporary = tempfile::Builder::new()
            .prefix("orlop-demo-")
            .tempdir()
            .context("cannot make a temporary directory")?;
        return Ok((temporary.path().to_owned(), Some(temporary)));
    };
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let mut content =
        fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    if content.next().is_some() {
        return Err(exit::usage(format!(
            "{} is not empty: choose another directory",
            dir.display()
        )));
    }
    Ok((dir.clone(), None))
}

async fn tell(args: &DemoArgs, dir: &Path, stop: &CancellationToken) -> Result<Outcome> {
    let mut story = Story { chapter: 0 };
    let node = NodeDirs {
        kubelet: dir.join("kubelet"),
        logs: dir.join("log/pods"),
    };
    fs::create_dir_all(&node.kubelet)?;
    fs::create_dir_all(&node.logs)?;

    story.chapter("A pod with a volume");
    let volume = FIRST.make(&node).context("make the pod's directories")?;
    data::make(&volume).context("fill the volume")?;
    let before = Record::of(&volume).context("record the volume")?;
    story.say(&format!(
        "pod {}/{}, volume {}",
        FIRST.namespace, FIRST.name, FIRST.claim
    ));
    story.say(&format!(
        "{}, {} at {}",
        text::count(before.count(), "entry"),
        text::bytes(before.bytes()),
        volume.display()
    ));

    story.chapter("Coordinator and agent in one process");
    let settings = Settings::demo(&dir.join("data"), &node.kubelet, &node.logs);
    let server = standalone::start(settings, stop.clone()).await?;
    story.say(&format!(
        "gRPC over TLS at {}, token in {}",
        server.address,
        server.token_file.display()
    ));
    let client =
        Client::connect(&server.address.to_string(), &server.token, &server.ca_pem).await?;
    found(&client, &FIRST).await?;

    story.chapter("First backup, asked for over gRPC");
    let first = backup(&client, "demo-1", stop).await?;
    story.ran(&first, "uploaded");

    story.chapter("The application goes on, then a second backup");
    // The change detection trusts no time stamp as young as the backup itself.
    tokio::time::sleep(Duration::from_millis(50)).await;
    data::change(&volume).context("change the volume")?;
    let second = backup(&client, "demo-2", stop).await?;
    story.ran(&second, "uploaded");
    story.say(&format!(
        "{} of {} went to the store: the rest was there already",
        text::bytes(second.moved_bytes),
        text::bytes(second.logical_bytes)
    ));

    story.chapter("A new pod, whose init container waits");
    let target = SECOND
        .make(&node)
        .context("make the new pod's directories")?;
    let marks = SECOND
        .make_marks(&node)
        .context("make the new pod's emptyDir")?;
    let mut waiting = InitContainer::start(&marks)?;
    tokio::time::sleep(LOOK_AROUND).await;
    if waiting.ended()?.is_some() {
        return Err(exit::failure(
            exit::FAILED,
            "orlop restore-wait ended before the restore began",
        ));
    }
    story.say(&format!(
        "orlop restore-wait --dir {} runs as process {}",
        marks.display(),
        waiting.id()
    ));

    story.chapter("The first backup is restored into it");
    let restored = restore(&client, stop).await?;
    story.ran(&restored, "fetched");
    waiting.succeeds().await?;
    story.say("orlop restore-wait saw the success mark and ended with 0: the pod would start now");

    story.chapter("Is it what it was?");
    if args.flip_byte {
        data::flip_byte(&target).context("damage the restored volume")?;
        story.say("one byte of the restored table.db was changed on purpose");
    }
    let outcome = verdict(
        &story,
        &before,
        &Record::of(&target).context("record the restored volume")?,
    );
    if outcome.is_ok() && !args.once {
        story.leave_running(&server);
        stop.cancelled().await;
    }
    // An open connection would hold up the server's end.
    drop(client);
    server.stop().await?;
    outcome
}

fn verdict(story: &Story, before: &Record, after: &Record) -> Result<Outcome> {
    let found = before.differences(after);
    if found.is_empty() {
        story.say(&format!(
            "identical: {}, by content, mode, owner, times, links and holes",
            text::count(before.count(), "entry")
        ));
        return Ok(Outcome::Done);
    }
    for line in found.iter().take(DIFFERENCES_SHOWN) {
        story.say(line);
    }
    story.say("different");
    Err(exit::failure(
        exit::FAILED,
        format!(
            "the restored volume is different in {}",
            text::count(found.len() as u64, "entry")
        ),
    ))
}

/// Prints what happens.
struct Story {
    chapter: u32,
}

impl Story {
    fn chapter(&mut self, title: &str) {
        self.chapter += 1;
        println!("{}. {title}", self.chapter);
    }

    #[expect(clippy::unused_self, reason = "only a story says something")]
    fn say(&self, line: &str) {
        println!("   {line}");
    }

    fn ran(&self, run: &Run, moved: &str) {
        let took = u64::try_from(run.completed_ms - run.started_ms).unwrap_or(0);
        self.say(&format!(
            "{} {}: {}, {} {moved}, {}",
            run.kind,
            run.name,
            text::bytes(run.logical_bytes),
            text::bytes(run.moved_bytes),
            text::duration(Duration::from_millis(took)),
        ));
    }

    fn leave_running(&self, server: &standalone::Server) {
        println!("The server runs until Ctrl-C. In another terminal:");
        self.say(&format!("export ORLOP_SERVER={}", server.address));
        self.say(&format!(
            "export ORLOP_TOKEN_FILE={}",
            server.token_file.display()
        ));
        self.say(&format!(
            "export ORLOP_CA_FILE={}",
            server.ca_file.display()
        ));
        self.say("orlop status; orlop backup get; orlop snapshot ls");
    }
}
