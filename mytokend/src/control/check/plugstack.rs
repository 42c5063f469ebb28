// SPDX-License-Identifier: MIT OR Apache-2.0
//! plugstack.conf as Slurm reads it: which line loads which plugin. Slurm itself tells only whether a plugin is loaded.

use std::path::{Path, PathBuf};

use glob::Pattern;

/// A line that loads a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PluginLine {
    /// The file.
    pub file: PathBuf,
    /// The number of the line, from 1.
    pub number: usize,
    /// Whether it says `required`.
    pub required: bool,
    /// The plugin's file, a path or a name.
    pub plugin: String,
    /// Whether an include with a relative path led to the file. Hosts in configless mode do not have such files (SLURM-05).
    pub relative: bool,
    /// Its arguments.
    pub arguments: Vec<String>,
}

impl PluginLine {
    /// The value of its argument `default=`.
    pub(super) fn default(&self) -> Option<&str> {
        self.arguments.iter().find_map(|argument| argument.strip_prefix("default="))
    }
}

/// The files of a host.
pub(super) trait Files {
    /// The text of a file.
    fn read(&self, path: &Path) -> Option<String>;
    /// The paths that match a pattern, in order.
    fn expand(&self, pattern: &Path) -> Vec<PathBuf>;
}

/// Includes deeper than this are not followed: a file may include itself.
const DEEPEST: usize = 8;

/// The words of a line. A # begins a comment anywhere; there is no quoting.
fn words(line: &str) -> impl Iterator<Item = &str> {
    let content = line.split('#').next().unwrap_or_default();
    content.split([' ', '\t']).filter(|word| !word.is_empty())
}

/// The pattern of an include. A relative one starts at the directory of the file.
fn pattern_of(file: &Path, pattern: &str) -> PathBuf {
    // Path::join takes an absolute pattern as it is.
    file.parent().unwrap_or(Path::new("/")).join(pattern)
}

/// Whether `file` itself includes a path, if this is there.
pub(super) fn includes(files: &dyn Files, file: &Path, path: &Path) -> bool {
    let text = files.read(file).unwrap_or_default();
    text.lines().any(|line| {
        let mut words = words(line);
        let (Some("include"), Some(pattern)) = (words.next(), words.next()) else { return false };
        let pattern = pattern_of(file, pattern);
        Pattern::new(&pattern.to_string_lossy()).is_ok_and(|pattern| pattern.matches_path(path))
    })
}

/// The lines of `file` and of the files that it includes, in their order.
pub(super) fn lines(files: &dyn Files, file: &Path) -> Vec<PluginLine> {
    let mut found = Vec::new();
    collect(files, file, false, 0, &mut found);
    found
}

fn collect(files: &dyn Files, file: &Path, relative: bool, depth: usize, found: &mut Vec<PluginLine>) {
    let Some(text) = files.read(file).filter(|_| depth < DEEPEST) else { return };
    for (number, line) in (1..).zip(text.lines()) {
        let mut words = words(line);
        match (words.next(), words.next()) {
            (Some(control @ ("required" | "optional")), Some(plugin)) => found.push(PluginLine {
                file: file.to_owned(),
                number,
                required: control == "required",
                plugin: plugin.to_owned(),
                relative,
                arguments: words.map(str::to_owned).collect(),
            }),
            (Some("include"), Some(pattern)) => {
                let relative = relative || !pattern.starts_with('/');
                for included in files.expand(&pattern_of(file, pattern)) {
                    collect(files, &included, relative, depth.saturating_add(1), found);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Texts(Vec<(&'static str, &'static str)>);

    impl Files for Texts {
        fn read(&self, path: &Path) -> Option<String> {
            self.0.iter().find(|(name, _)| path == Path::new(name)).map(|(_, text)| (*text).to_owned())
        }
        fn expand(&self, pattern: &Path) -> Vec<PathBuf> {
            let start = pattern.to_str().unwrap().split('*').next().unwrap().to_owned();
            self.0.iter().filter(|(name, _)| name.starts_with(&start)).map(|(name, _)| PathBuf::from(name)).collect()
        }
    }

    #[test]
    fn lines_are_found_through_includes() {
        let files = Texts(vec![
            (
                "/etc/slurm/plugstack.conf",
                "# required none.so\noptional\ta.so x=1 # c\ninclude /opt/p.d/*\ninclude q.d/*.conf\nnonsense\n",
            ),
            ("/opt/p.d/1", "required /opt/b.so"),
            ("/etc/slurm/q.d/1.conf", "  optional c.so#d\ninclude /opt/p.d/1"),
        ]);
        let found = lines(&files, Path::new("/etc/slurm/plugstack.conf"));
        let short: Vec<_> = found
            .iter()
            .map(|line| (line.plugin.as_str(), line.number, line.required, line.relative, line.file.to_str().unwrap()))
            .collect();
        assert_eq!(
            short,
            [
                ("a.so", 2, false, false, "/etc/slurm/plugstack.conf"),
                ("/opt/b.so", 1, true, false, "/opt/p.d/1"),
                ("c.so", 1, false, true, "/etc/slurm/q.d/1.conf"),
                ("/opt/b.so", 1, true, true, "/opt/p.d/1"),
            ]
        );
    }

    #[test]
    fn the_argument_of_a_line_is_read() {
        let files = Texts(vec![("/p", "optional a.so x=1\tdefault=d # default=e\noptional b.so # default=e\n")]);
        let found = lines(&files, Path::new("/p"));
        assert_eq!(found.iter().map(PluginLine::default).collect::<Vec<_>>(), [Some("d"), None]);
        assert_eq!(found.iter().map(|line| line.arguments.len()).collect::<Vec<_>>(), [2, 0]);
    }

    #[test]
    fn what_a_file_would_include_is_known() {
        let link = Path::new("/etc/slurm/plugstack.conf.d/mytoken.conf");
        for (file, text, expected) in [
            ("/etc/slurm/plugstack.conf", "include plugstack.conf.d/*.conf\n", true),
            ("/run/slurm/conf/plugstack.conf", "include plugstack.conf.d/*.conf\n", false),
            ("/run/slurm/conf/plugstack.conf", "optional a.so\n include\t/etc/slurm/plugstack.conf.d/* # all\n", true),
            ("/run/slurm/conf/plugstack.conf", "#include /etc/slurm/plugstack.conf.d/*\ninclude\n", false),
        ] {
            assert_eq!(includes(&Texts(vec![(file, text)]), Path::new(file), link), expected, "{file} {text}");
        }
        assert!(!includes(&Texts(vec![]), Path::new("/none"), link));
    }

    #[test]
    fn a_file_that_includes_itself_ends() {
        let files = Texts(vec![("/p/s", "include s\noptional a.so\n")]);
        assert_eq!(lines(&files, Path::new("/p/s")).len(), DEEPEST);
        assert_eq!(lines(&files, Path::new("/none")), []);
    }
}
