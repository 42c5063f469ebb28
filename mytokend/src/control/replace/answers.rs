// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the nodes of a job say about the new credential that a step has brought to each of them.

/// The agent has taken it.
pub(super) const TAKEN: &str = "taken";

/// The agent does not know the job: none of its steps has run there.
pub(super) const NONE: &str = "none";

/// The agent has not taken it.
pub(super) const REFUSED: &str = "refused";

/// Before the name of a profile.
const PROFILE: &str = "profile ";

/// The line of a node on which the job has a credential of this profile.
pub(super) fn profile_line(profile: &str) -> String {
    format!("{PROFILE}{profile}")
}

/// The profile that a node has told.
pub(super) fn profile_in(output: &str) -> Option<&str> {
    output.lines().find_map(|line| line.trim().strip_prefix(PROFILE))
}

/// Who has the new credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holders {
    /// Every node. `without` is the number of those that need none, because no step of the job has run there.
    All {
        /// Their number.
        without: usize,
    },
    /// Some nodes. The others refused it, or gave no answer.
    Some,
    /// No node.
    None,
    /// Perhaps a node that gave no answer, and no other one.
    Unknown,
}

/// Reads the words of the steps on `nodes` nodes.
pub(super) fn holders(output: &str, nodes: u32) -> Holders {
    let count = |word: &str| output.lines().filter(|line| line.trim() == word).count();
    let (taken, without, refused) = (count(TAKEN), count(NONE), count(REFUSED));
    let nodes = usize::try_from(nodes).unwrap_or(usize::MAX);
    match taken {
        0 if without + refused >= nodes => Holders::None,
        0 => Holders::Unknown,
        taken if taken + without >= nodes => Holders::All { without },
        _ => Holders::Some,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_node_can_tell_the_profile() {
        for (output, profile) in [
            ("none\nsrun: error: n1: task 0: Exited\nprofile data\nnone\n", Some("data")),
            (&*profile_line("default"), Some("default")),
            ("none\n", None),
            ("", None),
        ] {
            assert_eq!(profile_in(output), profile, "{output:?}");
        }
    }

    #[test]
    fn a_node_that_gives_no_answer_may_have_the_credential() {
        for (output, nodes, expected) in [
            ("taken\ntaken\n", 2, Holders::All { without: 0 }),
            ("none\ntaken\n", 2, Holders::All { without: 1 }),
            ("taken\nrefused\n", 2, Holders::Some),
            ("taken\n", 2, Holders::Some),
            ("refused\nnone\n", 2, Holders::None),
            ("none\n", 1, Holders::None),
            ("refused\n", 2, Holders::Unknown),
            ("", 1, Holders::Unknown),
            ("srun: error: a line of Slurm\n", 1, Holders::Unknown),
        ] {
            assert_eq!(holders(output, nodes), expected, "{output:?}");
        }
    }
}
