//! Why a volume is left out of a backup, and how much that matters.

use std::fmt;

use super::policy::PolicyAction;

/// How much it matters that a volume is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nobody expects it in the backup.
    Silent,
    /// Worth a line in the log.
    Info,
    /// Somebody may expect it in the backup.
    Warning,
    /// It should be in the backup.
    Error,
}

/// Why a volume is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SkipReason {
    /// It is made from Kubernetes objects: a secret, a config map …
    Derived(&'static str),
    /// It is a directory of the node.
    HostPath,
    /// It is a container image.
    Image,
    /// It holds the marks of a restore.
    RestoreMarks,
    /// The backup leaves out claims.
    ClaimsExcluded,
    /// A volume policy says so.
    Policy(PolicyAction),
    /// The pod's annotation does not name it.
    NotSelected,
    /// The pod's annotation excludes it.
    Excluded,
    /// It is in this backup through another pod.
    AlreadyTaken {
        /// The claim that both pods use.
        claim: String,
    },
    /// The pod does not run, so its volumes are not mounted anywhere.
    NotRunning {
        /// The pod's phase.
        phase: String,
    },
    /// The claim does not exist.
    ClaimMissing {
        /// The claim.
        claim: String,
    },
    /// The claim has no volume yet, or the volume does not exist.
    ClaimUnbound {
        /// The claim.
        claim: String,
    },
    /// The claim's volume is a directory of the node that agents may not read.
    OutsideHostRoots {
        /// The directory.
        path: String,
    },
    /// It is a block device.
    Block,
    /// No container has it mounted.
    NotMounted,
}

impl SkipReason {
    /// How much it matters. `named`: whether the pod's annotation asks for the volume by name.
    pub fn severity(&self, named: bool) -> Severity {
        let holds_nothing = matches!(
            self,
            Self::Derived(_) | Self::HostPath | Self::Image | Self::RestoreMarks
        );
        if named && holds_nothing {
            return Severity::Warning;
        }
        match self {
            Self::Derived(_)
            | Self::Image
            | Self::RestoreMarks
            | Self::NotSelected
            | Self::Excluded => Severity::Silent,
            Self::HostPath | Self::ClaimsExcluded | Self::Policy(_) | Self::AlreadyTaken { .. } => {
                Severity::Info
            }
            Self::NotRunning { .. }
            | Self::OutsideHostRoots { .. }
            | Self::Block
            | Self::NotMounted => Severity::Warning,
            Self::ClaimMissing { .. } | Self::ClaimUnbound { .. } => Severity::Error,
        }
    }
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Derived(what) => write!(
                f,
                "{what} is made from Kubernetes objects and holds no data of its own"
            ),
            Self::HostPath => f.write_str("it is a directory of the node (hostPath)"),
            Self::Image => f.write_str("it is a container image, which a registry holds"),
            Self::RestoreMarks => f.write_str("it holds the marks of a restore"),
            Self::ClaimsExcluded => f.write_str("the backup leaves out persistent volume claims"),
            Self::Policy(action) => {
                write!(f, "the volume policy says {:?}", action.as_str())
            }
            Self::NotSelected => f.write_str("the annotation of its pod does not name it"),
            Self::Excluded => f.write_str("the annotation of its pod excludes it"),
            Self::AlreadyTaken { claim } => write!(
                f,
                "another pod of this backup has it too (claim {claim}); it is backed up once"
            ),
            Self::NotRunning { phase } => write!(
                f,
                "its pod is {}, not running: the volume is mounted nowhere",
                if phase.is_empty() {
                    "of unknown phase"
                } else {
                    phase
                }
            ),
            Self::ClaimMissing { claim } => write!(f, "its claim {claim} does not exist"),
            Self::ClaimUnbound { claim } => {
                write!(f, "its claim {claim} is not bound to a volume")
            }
            Self::OutsideHostRoots { path } => write!(
                f,
                "it is the directory {path} of the node, which is below none of the agents' --host-roots"
            ),
            Self::Block => f.write_str("it is a block device; only file systems are backed up"),
            Self::NotMounted => f.write_str("no container of its pod has it mounted"),
        }
    }
}
