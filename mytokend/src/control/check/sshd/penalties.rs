// SPDX-License-Identifier: MIT OR Apache-2.0
//! The finding about sshd's penalties for addresses (SSH-12), and the command that makes them shorter.

use std::path::Path;

use super::super::host::Host;
use super::super::{Findings, kinds};
use super::Effective;
use super::files::{Files, MAIN, VENDOR};
use super::fixes::{link, put_first, reload};

/// Where the settings about penalties belong, and the file with ours. On Debian it is in the package of the drop-in.
const PENALTIES: &str = "/etc/ssh/sshd_config.d/11-mytoken-penalties.conf";
const SHIPPED_PENALTIES: &str = "/usr/share/mytoken/sshd-penalties.conf";

/// The setting of that file, for accounts that exist.
const REFUSED: &str = "PerSourcePenalties authfail:1s";

/// The one for account names that do not. It is not active in that file: sshd before 10.3 would not start with it.
const UNKNOWN_NAME: &str = "PerSourcePenalties invaliduser:1s";

/// Both, for an sshd that knows both.
const BOTH: &str = "PerSourcePenalties authfail:1s invaliduser:1s";

/// Seconds that sshd adds for each refusal as shipped, and those from which on it blocks the address.
const AS_SHIPPED: f64 = 5.0;
const BLOCKED: f64 = 15.0;

/// The seconds of a word in the value that `sshd -T` prints, with `authfail:5` up to 10.2 and `authfail:5.000000` in 10.6.
fn seconds(penalties: &str, name: &str) -> Option<f64> {
    let of_name = |word: &str| word.strip_prefix(name)?.strip_prefix(':')?.parse::<f64>().ok();
    penalties.split_whitespace().find_map(of_name)
}

/// What a refusal of this class costs an address, if that is as much as in sshd as shipped, or more.
fn long(penalties: &str, class: &str) -> Option<f64> {
    seconds(penalties, class).filter(|seconds| *seconds >= AS_SHIPPED)
}

/// The sentence about refusals that cost `each` seconds.
fn sentence(penalties: &str, each: f64, (adjective, more): (&str, &str)) -> String {
    let blocked = seconds(penalties, "min").unwrap_or(BLOCKED);
    // The penalty runs down between the refusals, so that three of 5 s stay below 15 s.
    let count = (blocked / each).floor() + 1.0;
    let (plural, singular) = if count < 2.0 { ("", "s") } else { ("s", "") };
    // A long one is worth its figure: the address is out for that time at least.
    let time = if each > BLOCKED { format!(" for {each:.0} s") } else { String::new() };
    format!("{count:.0} {adjective}login{plural}{more} block{singular} an address{time} (PerSourcePenalties)")
}

impl Findings {
    /// Looks at what a refused login costs its address.
    pub(super) fn penalties(&mut self, host: &dyn Host, sshd: &Effective, files: &Files) {
        let penalties = sshd.get("persourcepenalties").unwrap_or_default();
        let text = match (long(penalties, "authfail"), long(penalties, "invaliduser")) {
            (None, None) => return,
            (Some(each), _) => sentence(penalties, each, ("refused ", "")),
            (None, Some(each)) => sentence(penalties, each, ("", " with a mistyped account name")),
        };
        let fix = self.shorter(host, files, penalties);
        self.add_fixed(kinds::SSHD_PENALTIES, text, fix);
    }

    /// The command for penalties that fewer people feel.
    fn shorter(&self, host: &dyn Host, files: &Files, penalties: &str) -> String {
        let exists = |file: &str| host.exists(Path::new(file));
        let unknown = files.text.is_empty();
        let read = unknown || files.reads(Path::new(PENALTIES));
        // The file of SUSE is for updates alone.
        let can_put = !unknown && files.main != Path::new(VENDOR);
        // A penalty that somebody has set: what is read first counts, and the file with ours may come later.
        let is_set = files.keywords.contains("persourcepenalties");
        let mut steps = Vec::new();
        let [refused, unknown_name] = ["authfail", "invaliduser"].map(|class| long(penalties, class).is_some());
        if refused && unknown_name && can_put && !is_set && !exists(PENALTIES) {
            // One step is shorter than two.
            steps.push(put_first(MAIN, &[BOTH]));
        } else if refused {
            if is_set {
                return files.lines("persourcepenalt");
            } else if read && exists(SHIPPED_PENALTIES) && !exists(PENALTIES) {
                steps.push(link(SHIPPED_PENALTIES, PENALTIES));
            } else if can_put && !exists(PENALTIES) {
                steps.push(put_first(MAIN, &[REFUSED]));
            } else {
                // What is there is the administrator's.
                return files.lines("persourcepenalt");
            }
        }
        if unknown_name && !refused && can_put {
            steps.push(put_first(MAIN, &[UNKNOWN_NAME]));
        }
        if steps.is_empty() {
            return files.lines("persourcepenalt");
        }
        format!("{} && {}", steps.join(" && "), reload(self.package_tool))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Site;
    use super::*;

    const DEBIAN: &str = "Include /etc/ssh/sshd_config.d/*.conf\nUsePAM yes\n";
    const VENDOR_TEXT: &str = "Include /etc/ssh/sshd_config.d/*.conf\nInclude /usr/etc/ssh/sshd_config.d/*.conf\n";
    const OWN_FILE: &str = "Include /etc/ssh/sshd_config.d/10-mytoken.conf";

    const OF_10_0: &str = "crash:90 authfail:5 noauth:1 min:15";
    const OF_10_6: &str = "crash:90.000000 authfail:5.000000 noauth:1.000000 invaliduser:5.000000 min:15.000000";

    /// The text and the command of the finding.
    fn found(files: &[(&str, &str)], penalties: &str) -> Option<(String, String)> {
        let (site, mut findings) = (Site::of(files), Findings::default());
        let sshd = Effective::parse(&format!("PerSourcePenalties {penalties}\n"));
        findings.penalties(&site, &sshd, &Files::read(&site));
        let finding = findings.findings.pop()?;
        assert_eq!((finding.id.as_deref(), findings.findings.len()), (Some("sshd-penalties"), 0));
        Some((finding.text, finding.fix.unwrap()))
    }

    #[test]
    fn what_sshd_prints_is_compared_as_a_number() {
        let site = [(MAIN, DEBIAN), (SHIPPED_PENALTIES, "")];
        for (penalties, whose) in [
            ("no", None),
            ("crash:90 authfail:1 noauth:1", None),
            ("crash:90 authfail:0.500000 invaliduser:1.000000", None),
            // Another word that begins in the same way.
            ("authfail:1 authfailures:5 max:600", None),
            (OF_10_0, Some("4 refused logins block")),
            (OF_10_6, Some("4 refused logins block")),
            ("authfail:5", Some("4 refused logins block")),
            ("authfail:10 min:15", Some("2 refused logins block")),
            ("authfail:10.000000 min:45.500000", Some("5 refused logins block")),
            ("authfail:5 min:5 invaliduser:9", Some("2 refused logins block")),
            ("authfail:1.000000 invaliduser:5.000000", Some("4 logins with a mistyped account name block")),
            ("invaliduser:15 min:14", Some("1 login with a mistyped account name blocks")),
        ] {
            let found = found(&site, penalties).map(|(text, _)| text);
            let expected = whose.map(|whose| format!("{whose} an address (PerSourcePenalties)"));
            assert_eq!(found, expected, "{penalties}");
        }
        let (long, _) = found(&site, "authfail:3600.000000 min:15").unwrap();
        assert_eq!(long, "1 refused login blocks an address for 3600 s (PerSourcePenalties)");
    }

    /// The screen of a host that works has no row to spare.
    #[test]
    fn the_note_on_an_sshd_as_shipped_is_one_row() {
        for penalties in [OF_10_0, OF_10_6] {
            let (text, fix) = found(&[(MAIN, DEBIAN), (SHIPPED_PENALTIES, "")], penalties).unwrap();
            let mut findings = Findings::default();
            findings.add_fixed(kinds::SSHD_PENALTIES, text, fix);
            let screen = findings.render();
            let row = screen.lines().next().unwrap();
            assert!(row.contains("4 refused logins") && row.chars().count() <= 80, "{row}");
        }
    }

    #[test]
    fn penalties_are_changed_where_sshd_reads_them() {
        let (shipped, own) = ((SHIPPED_PENALTIES, ""), (PENALTIES, "PerSourcePenaltyExemptList 192.0.2.0/24\n"));
        let link = "ln -s /usr/share/mytoken/sshd-penalties.conf /etc/ssh/sshd_config.d/11-mytoken-penalties.conf && { sshd -t ";
        let put = "{ grep -qxF 'PerSourcePenalties authfail:1s' /etc/ssh/sshd_config || ";
        let put_both = "{ grep -qxF 'PerSourcePenalties authfail:1s invaliduser:1s' /etc/ssh/sshd_config || ";
        let put_name = "{ grep -qxF 'PerSourcePenalties invaliduser:1s' /etc/ssh/sshd_config || ";
        let shown = "grep -inE '^[^#]*(persourcepenalt|include)' ";
        for (files, begin) in [
            (&[(MAIN, DEBIAN), shipped][..], link),
            (&[(VENDOR, VENDOR_TEXT), shipped], link),
            (&[shipped], link),
            // The administrator's file.
            (&[(MAIN, DEBIAN), shipped, own], shown),
            (&[(MAIN, DEBIAN), own], shown),
            // A link would lead to nothing.
            (&[(MAIN, DEBIAN)], put),
            (&[(VENDOR, VENDOR_TEXT)], shown),
            (&[], shown),
            // sshd would not read it.
            (&[(MAIN, OWN_FILE), shipped], put),
            (&[(VENDOR, "UsePAM yes\n"), shipped], shown),
            // Somebody's own value, which sshd may read before ours.
            (&[(MAIN, DEBIAN), shipped, ("/etc/ssh/sshd_config.d/01.conf", "PerSourcePenalties authfail:9\n")], shown),
            (&[(MAIN, "PerSourcePenalties authfail:9\n"), shipped], shown),
        ] {
            for penalties in [OF_10_0, OF_10_6] {
                let (_, command) = found(files, penalties).unwrap();
                let both = penalties == OF_10_6 && begin != shown && files.iter().any(|(file, _)| *file == MAIN);
                assert!(command.starts_with(if both { put_both } else { begin }), "{files:?}: {command}");
                assert_eq!(command.ends_with(" && sshd -t && systemctl reload ssh"), begin != shown, "{command}");
            }
        }
        // The link is there, and sshd has a penalty that it does not change.
        let rest = "authfail:1.000000 invaliduser:5.000000";
        for (files, begin) in [
            (&[(MAIN, DEBIAN), shipped, own][..], put_name),
            (&[(MAIN, DEBIAN)], put_name),
            (&[(VENDOR, VENDOR_TEXT), shipped], shown),
            (&[shipped], shown),
        ] {
            let (_, command) = found(files, rest).unwrap();
            assert!(command.starts_with(begin) && !command.contains("authfail"), "{files:?}: {command}");
        }
    }

    #[test]
    fn the_lines_are_those_of_the_shipped_file_and_the_documents_have_the_way_back() {
        let shipped = include_str!("../../../../../packaging/sshd-penalties.conf");
        assert!(shipped.lines().any(|line| line == REFUSED));
        assert!(shipped.lines().any(|line| line.strip_prefix('#') == Some(UNKNOWN_NAME)));
        for page in [
            include_str!("../../../../../docs/admin/removal.md"),
            include_str!("../../../../../packaging/debian/libpam-mytoken.README.Debian"),
            include_str!("../../../../../packaging/rpm/README.rpm"),
        ] {
            // Their lines end at different places.
            let page = page.split_whitespace().collect::<Vec<_>>().join(" ");
            for written in [REFUSED, UNKNOWN_NAME, BOTH, "11-mytoken-penalties.conf"] {
                assert!(page.contains(written), "{written}: {page}");
            }
        }
    }
}
