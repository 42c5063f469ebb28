// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tools that find the access token only when a variable of their own names its file. The variable never holds a token.

use std::ffi::CStr;

use serde::{Deserialize, Serialize};

/// A tool of a profile's `tools`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Tool {
    /// rclone, for storage of the type `webdav`. It runs the command for each request.
    Rclone,
}

/// All tools.
pub const ALL: [Tool; 1] = [Tool::Rclone];

impl Tool {
    /// The tool with this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        ALL.into_iter().find(|tool| tool.name() == name)
    }

    /// Its name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rclone => "rclone",
        }
    }

    /// Its variable.
    #[must_use]
    pub const fn variable(self) -> &'static CStr {
        match self {
            Self::Rclone => c"RCLONE_WEBDAV_BEARER_TOKEN_COMMAND",
        }
    }

    /// The variable's value for the token in `file`. `None` if the tool would not read the path as one word: rclone splits the command at
    /// blanks and expands no variables.
    #[must_use]
    pub fn value(self, file: &str) -> Option<String> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+:@=,".contains(&byte);
        let is_word = file.starts_with('/') && file.bytes().all(plain);
        is_word.then(|| match self {
            Self::Rclone => format!("{CAT}{file}"),
        })
    }

    /// The path of the token in a value that [`Self::value`] has made.
    #[must_use]
    pub fn file(self, value: &str) -> Option<&str> {
        match self {
            Self::Rclone => value.strip_prefix(CAT),
        }
    }
}

const CAT: &str = "cat ";

/// The names in one text, for a variable.
#[must_use]
pub fn join(tools: &[Tool]) -> String {
    let mut names = String::new();
    for tool in tools {
        if !names.is_empty() {
            names.push(',');
        }
        names.push_str(tool.name());
    }
    names
}

/// The known tools in a text of [`join`]. A later release may know more.
#[must_use]
pub fn split(names: &str) -> Vec<Tool> {
    known(names.split(','))
}

/// The known tools among these names.
pub fn known<'n>(names: impl Iterator<Item = &'n str>) -> Vec<Tool> {
    names.filter_map(Tool::parse).take(ALL.len()).collect()
}

impl TryFrom<String> for Tool {
    type Error = String;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        Self::parse(&name).ok_or_else(|| {
            format!(
                "there is no tool \"{}\" here; known: {}",
                crate::printable(&name, 40),
                join(&ALL).replace(',', ", ")
            )
        })
    }
}

impl From<Tool> for String {
    fn from(tool: Tool) -> Self {
        tool.name().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_names_the_file_and_can_be_recognised() {
        for tool in ALL {
            let file = "/run/mytoken/jobs/7/bt_u2001";
            let value = tool.value(file).unwrap();
            assert_eq!(tool.file(&value), Some(file));
            for wrong in ["", "relative", "/a b", "/a;b", "/$HOME", "/a\"b"] {
                assert_eq!(tool.value(wrong), None, "{wrong}");
            }
        }
        assert_eq!(Tool::Rclone.value("/x").unwrap(), "cat /x");
    }

    #[test]
    fn names_are_read_and_unknown_ones_refused() {
        for tool in ALL {
            assert_eq!(serde_json::from_str::<Tool>(&serde_json::to_string(&tool).unwrap()).unwrap(), tool);
        }
        assert_eq!(split(&join(&ALL)), ALL);
        assert_eq!(split("later,rclone,rclone"), [Tool::Rclone]);
        assert!(split("").is_empty());
        let error = serde_json::from_str::<Tool>("\"rcopy\"").unwrap_err().to_string();
        assert!(error.contains("no tool \"rcopy\" here; known: rclone"), "{error}");
    }
}
