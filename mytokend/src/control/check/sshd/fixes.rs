// SPDX-License-Identifier: MIT OR Apache-2.0
//! The commands that switch on in sshd what tokens need. They depend on what this sshd knows and which files it reads, not on the name of
//! the distribution: RHEL 8 has no `Include`, some releases of SUSE 15 have no line of it, and later SUSE has its file in /usr/etc.

use std::path::Path;

use super::super::Findings;
use super::super::configuration::word;
use super::super::host::{Host, Ran};
use super::super::kinds::Kind;
use super::super::package_tool::PackageTool;
use super::files::{Files, MAIN, VENDOR};
use super::{MAX_STARTUPS, SSHD};

/// Where our settings for sshd are, and what Debian's package links there.
const DROP_IN: &str = "/etc/ssh/sshd_config.d/10-mytoken.conf";
const SHIPPED: &str = "/usr/share/mytoken/sshd.conf";

/// Ends a command after which sshd asks PAM: `sshd -t` does not read PAM's stacks.
const KEEP: &str = "keep a shell of root open until a login has worked";

/// In place of a command that switches PAM on.
const PAM_FIRST: &str = "mytokenctl check | grep -A1 ^PAM   # first the findings about PAM: with UsePAM yes these stacks decide, and nobody may get in; then check again";

/// The settings of our file behind a mark, for an sshd that cannot include it.
const LINES: [&str; 6] = [
    "# For logins by token (mytoken). Of most keywords sshd takes the first line:",
    "UsePAM yes",
    "KbdInteractiveAuthentication yes",
    "ChallengeResponseAuthentication yes",
    "PasswordAuthentication no",
    "MaxStartups 100:30:200",
];

/// Our file alone: other files of the directory did not count before.
const INCLUDE: &str = "Include /etc/ssh/sshd_config.d/10-mytoken.conf";

/// What a host has to switch it on.
#[derive(Debug, Clone, Copy)]
struct Means {
    tool: PackageTool,
    /// sshd knows `Include`.
    includes: bool,
    /// There is our file in sshd's directory.
    drop_in: bool,
    /// There is our file elsewhere.
    shipped: bool,
}

/// SSH-40: sshd before 8.2 has no such keyword. Later releases say that it is none for the command line.
fn knows_include(host: &dyn Host) -> bool {
    let refused = host.run(Path::new(SSHD), &["-T", "-o", "Include=/dev/null"]);
    !matches!(refused, Ran::Failed(reason) if reason.contains("Bad configuration option"))
}

/// The command that gives a keyword its value, or shows its lines where only the administrator can say which one has to go.
fn command(files: &Files, means: Means, keyword: &str) -> String {
    let has = |line: &str| files.text.lines().any(|other| other == line);
    let [mark, ..] = LINES;
    // A file that cannot be read tells nothing.
    let unknown = files.text.is_empty();
    let read = unknown || files.reads(Path::new(DROP_IN));
    let nothing_to_add = match (means.includes, read) {
        (true, true) => means.drop_in,
        // The line is there, but below `Match`.
        (true, false) => has(INCLUDE),
        // Its file could not include that of SUSE.
        (false, _) => unknown || has(mark) || files.main == Path::new(VENDOR),
    };
    // Of this keyword the last line counts, so that ours would not help.
    let own = keyword == MAX_STARTUPS && files.keywords.contains(MAX_STARTUPS);
    if nothing_to_add || own {
        return files.lines(keyword);
    }
    let (mut steps, mut comment) = (Vec::new(), "");
    if means.includes && !means.drop_in {
        if means.shipped && means.tool == PackageTool::Apt {
            // The package is here, and somebody has removed its link.
            steps.push(link(SHIPPED, DROP_IN));
        } else {
            steps.push(means.tool.sshd_config().to_owned());
            comment = "in the directory of the packages; ";
        }
    }
    if !(means.includes && read) {
        if files.main == Path::new(VENDOR) {
            // From then on sshd reads this file and not that of SUSE. In a copy, changes by updates would not count.
            steps.push(format!("{{ test -e {MAIN} || echo 'Include {VENDOR}' >{MAIN}; }}"));
        }
        let lines: &[&str] = if means.includes { &[INCLUDE] } else { &LINES };
        steps.push(put_first(MAIN, lines));
    }
    steps.push(reload(means.tool));
    format!("{}   # {comment}{KEEP}", steps.join(" && "))
}

/// A change that is taken back when sshd refuses its files: the next start of sshd would fail.
fn unless_refused(change: &str, undo: &str) -> String {
    format!("{change} && {{ sshd -t || {{ {undo}; false; }}; }}")
}

/// The command that links a file of ours. What is at the place already stays.
pub(super) fn link(from: &str, to: &str) -> String {
    let (from, to) = (word(from), word(to));
    unless_refused(&format!("ln -s {from} {to}"), &format!("rm {to}"))
}

/// The command that puts lines before all others of a file, unless the first of them is there. Nothing else is changed, and no `Match`
/// block is before them.
pub(super) fn put_first(file: &str, lines: &[&str]) -> String {
    let (file, first) = (word(file), lines.first().copied().unwrap_or_default());
    let put = format!("sed -i --follow-symlinks '1i {}' {file}", lines.join("\\n"));
    let undo = format!("sed -i --follow-symlinks '1,{}d' {file}", lines.len());
    format!("{{ grep -qxF '{first}' {file} || {{ {}; }}; }}", unless_refused(&put, &undo))
}

/// The command after which sshd has read its files.
pub(super) fn reload(tool: PackageTool) -> String {
    format!("sshd -t && systemctl reload {}", tool.sshd_unit())
}

impl Findings {
    /// Adds the finding about a setting that the product's sshd.conf has. `keyword`: a regular expression. `pam_first`: the command would
    /// switch on stacks of PAM that have errors.
    pub(super) fn setting(
        &mut self,
        host: &dyn Host,
        files: &Files,
        kind: Kind,
        text: &str,
        keyword: &str,
        pam_first: bool,
    ) {
        if pam_first {
            return self.add_fixed(kind, text, PAM_FIRST.to_owned());
        }
        let exists = |file: &str| host.exists(Path::new(file));
        let means = Means {
            tool: self.package_tool,
            includes: knows_include(host),
            drop_in: exists(DROP_IN),
            shipped: exists(SHIPPED),
        };
        self.add_fixed(kind, text, command(files, means, keyword));
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::super::tests::Site;
    use super::*;

    const DEBIAN: &str = "Include /etc/ssh/sshd_config.d/*.conf\nUsePAM yes\n";
    const VENDOR_TEXT: &str = "Include /etc/ssh/sshd_config.d/*.conf\nInclude /usr/etc/ssh/sshd_config.d/*.conf\n";
    const RHEL_8: &str = "PasswordAuthentication yes\nChallengeResponseAuthentication no\nUsePAM yes\n";

    fn fix(main: &str, text: &str, means: Means, keyword: &str) -> String {
        command(&Files::read(&Site::of(&[(main, text)])), means, keyword)
    }

    #[test]
    fn the_command_is_one_that_can_help_on_this_host() {
        let (apt, dnf, zypper) = (PackageTool::Apt, PackageTool::Dnf, PackageTool::Zypper);
        let means = |tool, includes, drop_in, shipped| Means { tool, includes, drop_in, shipped };
        let marked = format!("{}\n{RHEL_8}", LINES.join("\n"));
        let below_match = format!("Match User alice\n{INCLUDE}\n");
        let include = "{ grep -qxF 'Include /etc/ssh/sshd_config.d/10-mytoken.conf' /etc/ssh/sshd_config || { \
                       sed -i --follow-symlinks '1i Include /etc/ssh/sshd_config.d/10-mytoken.conf' /etc/ssh/sshd_config && { sshd -t || \
                       { sed -i --follow-symlinks '1,1d' /etc/ssh/sshd_config; false; }; }; }; } && ";
        let lines = "{ grep -qxF '# For logins by token (mytoken). Of most keywords sshd takes the first line:' /etc/ssh/sshd_config || { \
                     sed -i --follow-symlinks '1i # For logins by token (mytoken). Of most keywords sshd takes the first line:\\nUsePAM yes\\n\
                     KbdInteractiveAuthentication yes\\nChallengeResponseAuthentication yes\\nPasswordAuthentication no\\n\
                     MaxStartups 100:30:200' /etc/ssh/sshd_config && { sshd -t || \
                     { sed -i --follow-symlinks '1,6d' /etc/ssh/sshd_config; false; }; }; }; } && ";
        let link = "ln -s /usr/share/mytoken/sshd.conf /etc/ssh/sshd_config.d/10-mytoken.conf && { sshd -t || \
                    { rm /etc/ssh/sshd_config.d/10-mytoken.conf; false; }; } && ";
        let install = "zypper install --force ./mytoken-sshd-config-[0-9]*.rpm && ";
        let keep = "   # keep a shell of root open until a login has worked";
        let there = "   # in the directory of the packages; keep a shell of root open until a login has worked";
        let reload = |unit: &str| format!("sshd -t && systemctl reload {unit}");
        let grep = |files: &str| {
            format!(
                "grep -inE '^[^#]*(usepam|include)' {files}   # the first line counts, in included files where they are included; then reload sshd"
            )
        };
        for (main, text, means, expected) in [
            (
                MAIN,
                DEBIAN,
                means(apt, true, false, false),
                format!("apt install ./mytoken-sshd-config_*.deb && {}{there}", reload("ssh")),
            ),
            (MAIN, DEBIAN, means(apt, true, false, true), format!("{link}{}{keep}", reload("ssh"))),
            (MAIN, DEBIAN, means(apt, true, true, true), grep(MAIN)),
            (MAIN, "UsePAM no\n", means(apt, true, true, true), format!("{include}{}{keep}", reload("ssh"))),
            // RHEL 9.
            (
                MAIN,
                DEBIAN,
                means(dnf, true, false, true),
                format!("{} && {}{there}", dnf.sshd_config(), reload("sshd")),
            ),
            // RHEL 8.
            (MAIN, RHEL_8, means(dnf, false, false, true), format!("{lines}{}{keep}", reload("sshd"))),
            (MAIN, marked.as_str(), means(dnf, false, false, true), grep(MAIN)),
            // SUSE 15 without a line, with and without the package.
            (
                MAIN,
                "#UsePAM no\n",
                means(zypper, true, false, true),
                format!("{install}{include}{}{there}", reload("sshd")),
            ),
            (MAIN, "#UsePAM no\n", means(zypper, true, true, true), format!("{include}{}{keep}", reload("sshd"))),
            (MAIN, below_match.as_str(), means(zypper, true, true, true), grep(MAIN)),
            // SUSE 16.
            (VENDOR, VENDOR_TEXT, means(zypper, true, false, true), format!("{install}{}{there}", reload("sshd"))),
            (VENDOR, VENDOR_TEXT, means(zypper, true, true, true), grep(VENDOR)),
            (
                VENDOR,
                "UsePAM no\n",
                means(zypper, true, true, true),
                format!(
                    "{{ test -e {MAIN} || echo 'Include /usr/etc/ssh/sshd_config' >{MAIN}; }} && {include}{}{keep}",
                    reload("sshd")
                ),
            ),
            (VENDOR, "UsePAM no\n", means(zypper, false, true, true), grep(VENDOR)),
        ] {
            assert_eq!(fix(main, text, means, "usepam"), expected, "{main} {text} {means:?}");
        }
        // The administrator's own line would count all the same.
        for includes in [true, false] {
            let shown = fix(MAIN, "MaxStartups 10:30:100\n", means(dnf, includes, false, true), MAX_STARTUPS);
            assert!(shown.starts_with("grep -inE '^[^#]*(maxstartups|include)' /etc/ssh/sshd_config   # "), "{shown}");
        }
    }

    #[test]
    fn the_lines_are_those_of_the_drop_in() {
        let shipped = include_str!("../../../../../packaging/sshd.conf").lines();
        let settings: Vec<&str> = shipped.filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
        assert_eq!(settings, &LINES[1..]);
    }

    #[test]
    fn the_documents_have_the_way_back() {
        let pages = [
            include_str!("../../../../../docs/admin/removal.md"),
            include_str!("../../../../../packaging/debian/libpam-mytoken.README.Debian"),
            include_str!("../../../../../packaging/rpm/README.rpm"),
        ];
        for page in pages {
            // Their lines end at different places.
            let page = page.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(page.contains(INCLUDE), "{page}");
        }
        let vendor = format!("Include {VENDOR}");
        let [removal, _, rpm] = pages;
        assert!(removal.contains(&vendor) && rpm.contains(&vendor));
        let (mark, _) = LINES[0].split_once('.').unwrap();
        assert!(removal.contains(&format!("`{mark}`")), "{mark}");
    }

    #[test]
    fn lines_come_before_all_others_once() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("the file"), dir.path().join("link"));
        let before = "# A comment\nPasswordAuthentication yes\n\nMatch User alice\n\tPasswordAuthentication yes\n";
        std::fs::write(&file, before).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let after = format!("{}\n{before}", LINES.join("\n"));
        for (path, accepts, expected) in [
            (&file, false, before),
            (&link, false, before),
            (&link, true, after.as_str()),
            (&file, true, after.as_str()),
            // Then the fault is in another line.
            (&file, false, after.as_str()),
        ] {
            let command = put_first(path.to_str().unwrap(), &LINES);
            assert_eq!(pasted(&command, accepts), accepts || expected == after, "{command}");
            assert_eq!(std::fs::read_to_string(&file).unwrap(), expected);
        }
        assert!(link.is_symlink());
    }

    /// Whether a command succeeds where sshd accepts its files or does not.
    fn pasted(command: &str, accepts: bool) -> bool {
        let command = format!("sshd() {{ {accepts}; }}\n{command}");
        Command::new("sh").args(["-c", &command]).status().unwrap().success()
    }

    /// sshd does not start with a file that it refuses, and the administrator's file is not ours.
    #[test]
    fn a_link_is_made_only_where_nothing_is_and_sshd_accepts_it() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("the place");
        let command = link(SHIPPED, place.to_str().unwrap());
        assert!(!pasted(&command, false) && !place.is_symlink(), "{command}");
        assert!(pasted(&command, true) && place.is_symlink(), "{command}");
        std::fs::remove_file(&place).unwrap();
        std::fs::write(&place, "PerSourcePenaltyExemptList 192.0.2.0/24\n").unwrap();
        for accepts in [true, false] {
            assert!(!pasted(&command, accepts), "{command}");
            assert_eq!(std::fs::read_to_string(&place).unwrap(), "PerSourcePenaltyExemptList 192.0.2.0/24\n");
        }
    }

    #[test]
    fn an_sshd_says_itself_whether_it_knows_include() {
        struct Sshd(Ran);
        impl Host for Sshd {
            fn read(&self, _path: &Path) -> Option<String> {
                None
            }
            fn exists(&self, _path: &Path) -> bool {
                false
            }
            fn run(&self, _program: &Path, _arguments: &[&str]) -> Ran {
                self.0.clone()
            }
        }
        for (reason, expected) in [
            ("command-line: line 0: Bad configuration option: Include", false),
            ("Include directive not supported as a command-line option", true),
            ("it did not answer in time", true),
        ] {
            assert_eq!(knows_include(&Sshd(Ran::Failed(reason.to_owned()))), expected, "{reason}");
        }
    }
}
