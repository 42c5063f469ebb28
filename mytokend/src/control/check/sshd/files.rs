// SPDX-License-Identifier: MIT OR Apache-2.0
//! The files that sshd reads, and the `Match` lines in them. sshd itself decides what they mean: `sshd -T`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use glob::{MatchOptions, Pattern};

use super::super::configuration::word;
use super::super::host::Host;
use super::{LISTS, MAX_STARTUPS};

/// sshd's configuration, and the directory of relative names.
pub(super) const MAIN: &str = "/etc/ssh/sshd_config";
const DIRECTORY: &str = "/etc/ssh";

/// What sshd of SUSE reads where the other file does not exist: Tumbleweed and 16 have only this one. Updates replace it.
pub(super) const VENDOR: &str = "/usr/etc/ssh/sshd_config";

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

/// An argument of `Include`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Included {
    pattern: PathBuf,
    /// Whether it is in a `Match` block, so that its files do not always count.
    conditional: bool,
    /// Whether there is such a file.
    found: bool,
}

/// What the configuration consists of.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Files {
    /// The files, and the directories that `Include` names: a file can be removed from them.
    pub paths: Vec<PathBuf>,
    /// The `Match` lines in their order.
    pub blocks: Vec<Block>,
    /// The first file.
    pub main: PathBuf,
    /// Its text.
    pub text: String,
    /// The keywords of all files, in small letters.
    pub keywords: BTreeSet<String>,
    included: Vec<Included>,
}

impl Files {
    pub(super) fn read(host: &dyn Host) -> Self {
        let main = [MAIN, VENDOR].map(Path::new).into_iter().find(|file| host.exists(file)).unwrap_or(Path::new(MAIN));
        let text = host.read(main).unwrap_or_default();
        let mut files = Self { main: main.to_owned(), text, ..Self::default() };
        files.add(host, main, false, 0);
        files
    }

    fn add(&mut self, host: &dyn Host, file: &Path, conditional: bool, depth: usize) {
        if depth > DEEPEST || self.paths.len() >= MOST_FILES {
            return;
        }
        self.paths.push(file.to_owned());
        let text = host.read(file).unwrap_or_default();
        // A block ends with its file.
        let mut in_block = false;
        for (number, line) in (1..).zip(text.lines()) {
            let mut words = words(line).into_iter();
            let keyword = words.next().unwrap_or_default().to_ascii_lowercase();
            match keyword.as_str() {
                "" => {}
                "include" => {
                    for pattern in words {
                        self.include(host, &Path::new(DIRECTORY).join(pattern), conditional || in_block, depth);
                    }
                }
                "match" => {
                    let place = format!("{}:{number}", file.display());
                    let criteria = criteria(words);
                    in_block = !matches!(criteria.as_slice(), [(name, _)] if name == "all");
                    self.blocks.push(Block { place, criteria });
                }
                _ => {
                    self.keywords.insert(keyword);
                }
            }
        }
    }

    fn include(&mut self, host: &dyn Host, pattern: &Path, conditional: bool, depth: usize) {
        if let Some(directory) = pattern.parent().filter(|directory| host.exists(directory)) {
            self.paths.push(directory.to_owned());
        }
        let files = host.expand(pattern);
        let included = Included { pattern: pattern.to_owned(), conditional, found: !files.is_empty() };
        if !self.included.contains(&included) {
            self.included.push(included);
        }
        for file in files {
            self.add(host, &file, conditional, depth.saturating_add(1));
        }
    }

    /// Whether sshd reads this file, if it is there, for each login.
    pub(super) fn reads(&self, file: &Path) -> bool {
        let options = MatchOptions { require_literal_separator: true, ..MatchOptions::new() };
        let matches = |pattern: &Path| {
            Pattern::new(&pattern.to_string_lossy()).is_ok_and(|pattern| pattern.matches_path_with(file, options))
        };
        self.included.iter().any(|included| !included.conditional && matches(&included.pattern))
    }

    /// The files as words of a command.
    fn words(&self) -> String {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-*?".contains(&byte);
        let pattern = |path: &Path| {
            let text = path.to_string_lossy().into_owned();
            if text.bytes().all(plain) { text } else { word(&text) }
        };
        let included =
            self.included.iter().filter(|included| included.found).map(|included| pattern(&included.pattern));
        [pattern(&self.main)].into_iter().chain(included).collect::<Vec<_>>().join(" ")
    }

    /// The command that shows all lines that an expression of grep matches.
    pub(super) fn grep(&self, expression: &str) -> String {
        format!("grep -inE '{expression}' {}", self.words())
    }

    /// The command that shows the lines of a keyword in the order in which sshd reads them.
    pub(super) fn lines(&self, keyword: &str) -> String {
        let counts = match keyword {
            MAX_STARTUPS => "before OpenSSH 10.6 the last line counts",
            LISTS => "all lines count",
            _ => "the first line counts",
        };
        let lines = self.grep(&format!("^[^#]*({keyword}|include)"));
        format!("{lines}   # {counts}, in included files where they are included; then reload sshd")
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

    #[test]
    fn what_sshd_reads_for_each_login_is_known() {
        let drop_in = Path::new("/etc/ssh/sshd_config.d/10-mytoken.conf");
        for (text, expected) in [
            ("", false),
            ("Include /etc/ssh/sshd_config.d/*.conf\n", true),
            ("include = sshd_config.d/*.conf\n", true),
            ("Include /etc/ssh/sshd_config.d/10-mytoken.conf\n", true),
            ("#Include /etc/ssh/sshd_config.d/*.conf\n", false),
            ("Include /etc/ssh/sshd_config.d/50-*.conf /etc/ssh/*.conf\n", false),
            ("Match User bob\n Include /etc/ssh/sshd_config.d/*.conf\n", false),
            ("Match User bob\nMatch all\nInclude /etc/ssh/sshd_config.d/*.conf\n", true),
            // The block ends with its file.
            ("Include other\nInclude /etc/ssh/sshd_config.d/*.conf\n", true),
            ("Include another\n", true),
            ("Match User bob\nInclude another\n", false),
        ] {
            let another = "Include /etc/ssh/sshd_config.d/*.conf\n";
            let site =
                Site::of(&[(MAIN, text), ("/etc/ssh/other", "Match User alice\n"), ("/etc/ssh/another", another)]);
            assert_eq!(Files::read(&site).reads(drop_in), expected, "{text}");
        }
    }

    #[test]
    fn commands_name_the_files_that_this_sshd_reads() {
        let vendor = "Include /etc/ssh/sshd_config.d/*.conf\nInclude /usr/etc/ssh/sshd_config.d/*.conf\nUsePAM yes\n";
        let drop_in = ("/etc/ssh/sshd_config.d/a.conf", "MaxStartups 9\n");
        for (files, words) in [
            (&[(MAIN, ""), (VENDOR, vendor), drop_in][..], MAIN),
            (&[(VENDOR, vendor)], VENDOR),
            (&[(VENDOR, vendor), drop_in], "/usr/etc/ssh/sshd_config /etc/ssh/sshd_config.d/*.conf"),
            (&[(MAIN, "Include \"/etc/a b\"\n"), ("/etc/a b", "")], "/etc/ssh/sshd_config '/etc/a b'"),
            (&[], MAIN),
        ] {
            assert_eq!(Files::read(&Site::of(files)).words(), words);
        }
        let files = Files::read(&Site::of(&[(VENDOR, vendor), drop_in]));
        assert_eq!(files.keywords.iter().map(String::as_str).collect::<Vec<_>>(), ["maxstartups", "usepam"]);
    }
}
