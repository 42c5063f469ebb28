// SPDX-License-Identifier: MIT OR Apache-2.0
//! The files that sshd reads, and the `Match` lines in them. sshd itself decides what they mean: `sshd -T`.

use std::path::{Path, PathBuf};

use super::super::host::Host;

/// sshd's configuration, and the directory of relative names.
pub(super) const MAIN: &str = "/etc/ssh/sshd_config";
const DIRECTORY: &str = "/etc/ssh";

/// Deepest inclusion, as in sshd, and most files.
const DEEPEST: usize = 16;
const MOST_FILES: usize = 500;

/// A `Match` line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    /// `FILE:LINE`.
    pub place: String,
    /// Names in small letters and values: `("address", "10.0.0.0/8,!10.1.0.0/16")`.
    pub criteria: Vec<(String, String)>,
}

impl Block {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.criteria.iter().find(|(criterion, _)| criterion == name).map(|(_, value)| value.as_str())
    }

    /// The line as a person writes it.
    pub(super) fn text(&self) -> String {
        let criteria = self.criteria.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]);
        let words: Vec<&str> = ["Match"].into_iter().chain(criteria).filter(|word| !word.is_empty()).collect();
        words.join(" ")
    }
}

/// What the configuration consists of.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Files {
    /// The files, and the directories that `Include` names: a file can be removed from them.
    pub paths: Vec<PathBuf>,
    /// The `Match` lines in their order.
    pub blocks: Vec<Block>,
}

impl Files {
    pub(super) fn read(host: &dyn Host) -> Self {
        let mut files = Self::default();
        files.add(host, Path::new(MAIN), 0);
        files
    }

    fn add(&mut self, host: &dyn Host, file: &Path, depth: usize) {
        if depth > DEEPEST || self.paths.len() >= MOST_FILES {
            return;
        }
        self.paths.push(file.to_owned());
        let text = host.read(file).unwrap_or_default();
        for (number, line) in (1..).zip(text.lines()) {
            let mut words = words(line).into_iter();
            match words.next().unwrap_or_default().to_ascii_lowercase().as_str() {
                "include" => {
                    for pattern in words {
                        let pattern = Path::new(DIRECTORY).join(pattern);
                        if let Some(directory) = pattern.parent().filter(|directory| host.exists(directory)) {
                            self.paths.push(directory.to_owned());
                        }
                        for included in host.expand(&pattern) {
                            self.add(host, &included, depth.saturating_add(1));
                        }
                    }
                }
                "match" => {
                    let place = format!("{}:{number}", file.display());
                    self.blocks.push(Block { place, criteria: criteria(words) });
                }
                _ => {}
            }
        }
    }
}

fn criteria(mut words: impl Iterator<Item = String>) -> Vec<(String, String)> {
    let mut criteria = Vec::new();
    while let Some(name) = words.next() {
        let name = name.to_ascii_lowercase();
        let is_alone = ["all", "invalid-user"].contains(&name.as_str());
        let value = if is_alone { String::new() } else { words.next().unwrap_or_default() };
        criteria.push((name, value));
    }
    criteria
}

/// The words of a line. sshd takes blanks and `=` between them, and quotes around them.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for char in line.chars() {
        match char {
            '"' => quoted = !quoted,
            '#' if !quoted && word.is_empty() => break,
            ' ' | '\t' | '=' if !quoted => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            _ => word.push(char),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::super::tests::Site;
    use super::*;

    #[test]
    fn included_files_and_their_blocks_are_found() {
        let site = Site::of(&[
            (MAIN, "# Include x\nInclude sshd_config.d/*.conf\nmatch=USER alice\n  Include /srv/more\nMatch all\n"),
            ("/etc/ssh/sshd_config.d/a.conf", "Match Address \"10.0.0.0/8, !10.1.0.0/16\" Host *.example.org # c\n"),
            ("/srv/more", "Include /srv/more\nMatch invalid-user User bob\n"),
        ]);
        let files = Files::read(&site);
        let texts: Vec<String> =
            files.blocks.iter().take(3).map(|block| format!("{} {}", block.place, block.text())).collect();
        assert_eq!(
            texts,
            [
                "/etc/ssh/sshd_config.d/a.conf:1 Match address 10.0.0.0/8, !10.1.0.0/16 host *.example.org",
                "/etc/ssh/sshd_config:3 Match user alice",
                "/srv/more:2 Match invalid-user user bob",
            ]
        );
        assert!(files.paths.contains(&"/etc/ssh/sshd_config.d".into()), "{:?}", files.paths);
        assert!(files.paths.len() < 50, "a file that includes itself ends");
    }
}
