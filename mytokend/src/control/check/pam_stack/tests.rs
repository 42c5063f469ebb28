// SPDX-License-Identifier: MIT OR Apache-2.0

use std::collections::HashMap;

use super::*;

fn stack(files: &[(&str, &str)], group: Group) -> Stack {
    let files: HashMap<PathBuf, String> =
        files.iter().map(|(name, text)| (Path::new("/etc/pam.d").join(name), (*text).to_owned())).collect();
    let directories = ["/etc/pam.d", "/usr/lib/pam.d"].map(Path::new);
    let directories = Directories { services: &directories, includes: &directories };
    Stack::read(directories, "sshd", group, &|path| files.get(path).cloned())
}

fn names(stack: &Stack) -> Vec<&str> {
    stack.lines().map(ModuleLine::name).collect()
}

/// What the stack returns when the modules named here return this, and all others succeed.
fn result(stack: &Stack, returns: &[(&str, &'static str)]) -> &'static str {
    stack.run(|line| returns.iter().find(|(name, _)| *name == line.name()).map_or("success", |(_, value)| value))
}

#[test]
fn files_are_included_in_their_place() {
    let stack = stack(
        &[
            (
                "sshd",
                "# comment\n@include common-auth\nauth required pam_a.so x y # end\naccount required pam_b.so\n-auth optional \\\n  /opt/pam_c.so\n",
            ),
            ("common-auth", "auth [success=1 default=ignore] pam_unix.so nullok\nauth requisite pam_deny.so\n"),
        ],
        Group::Auth,
    );
    assert_eq!(names(&stack), ["pam_unix", "pam_deny", "pam_a", "pam_c"]);
    let lines: Vec<&ModuleLine> = stack.lines().collect();
    assert_eq!(lines[2].arguments, ["x", "y"]);
    assert_eq!((lines[3].place.as_str(), lines[3].may_be_missing), ("/etc/pam.d/sshd:5", true));
    assert!(stack.mistakes.is_empty());
}

#[test]
fn lines_that_libpam_cannot_read_are_named() {
    let files = [(
        "sshd",
        "auth requird pam_a.so\nauht required pam_a.so\nauth required\nauth [success=0] pam_a.so\n@include nothing\nauth include sshd\n",
    )];
    let stack = stack(&files, Group::Auth);
    let mistakes: Vec<&str> = stack.mistakes.iter().map(|mistake| mistake.text.as_str()).collect();
    let mistakes = mistakes.join("\n");
    for mistake in [
        "/etc/pam.d/sshd:1: the control field requird cannot be read",
        "/etc/pam.d/sshd:2: \"auht\" is none of",
        "/etc/pam.d/sshd:3: the module is missing",
        "/etc/pam.d/sshd:4: the control field [success=0] cannot be read",
        "/etc/pam.d/sshd:5: /etc/pam.d/nothing cannot be read",
        "files include each other",
    ] {
        assert!(mistakes.contains(mistake), "{mistake} in {mistakes}");
    }
}

#[test]
fn files_that_include_each_other_many_times_are_read_a_limited_number_of_times() {
    let reads = std::cell::Cell::new(0);
    let read = |_: &Path| {
        reads.set(reads.get() + 1);
        Some("@include sshd\n".repeat(2) + "auth include sshd\n".repeat(2).as_str())
    };
    let directories = [Path::new("/etc/pam.d")];
    let directories = Directories { services: &directories, includes: &directories };
    let stack = Stack::read(directories, "sshd", Group::Session, &read);
    // Those of the service and of `other`.
    assert!(reads.get() <= 2 * MOST_FILES + 2, "{}", reads.get());
    assert_eq!(stack.mistakes.len(), 1, "{:?}", stack.mistakes);
}

/// libpam reads both files before it decides anything (SSH-42): then each call fails, also for a service with lines of its own.
#[test]
fn a_circle_of_whole_files_in_other_is_one_of_each_service() {
    for (inclusion, stops) in [("@include a\n", true), ("auth include a\n", false)] {
        let files = [("sshd", "auth required pam_a.so\n"), ("other", inclusion), ("a", inclusion)];
        let stack = stack(&files, Group::Auth);
        assert_eq!((names(&stack), stack.mistakes.len()), (vec!["pam_a"], usize::from(stops)), "{:?}", stack.mistakes);
    }
}

/// The table of pam.conf(5): the four words and their long forms.
#[test]
fn the_four_words_decide_as_their_long_forms() {
    for (word, long) in [
        ("required", "[success=ok new_authtok_reqd=ok ignore=ignore default=bad]"),
        ("requisite", "[success=ok new_authtok_reqd=ok ignore=ignore default=die]"),
        ("sufficient", "[success=done new_authtok_reqd=done default=ignore]"),
        ("optional", "[success=ok new_authtok_reqd=ok default=ignore]"),
    ] {
        assert_eq!(Control::parse(word), Control::parse(long), "{word}");
    }
}

#[test]
fn stacks_decide_as_libpam_does() {
    let debian =
        "auth [success=1 default=ignore] pam_unix.so\nauth requisite pam_deny.so\nauth required pam_permit.so\n";
    let ours = "auth [success=done authinfo_unavail=ignore default=die] pam_mytoken.so\n";
    for (text, returns, expected) in [
        (debian, vec![("pam_unix", "success")], "success"),
        (debian, vec![("pam_unix", "auth_err"), ("pam_deny", "auth_err")], "auth_err"),
        (&format!("{ours}{debian}"), vec![("pam_mytoken", "success"), ("pam_unix", "auth_err")], "success"),
        (&format!("{ours}{debian}"), vec![("pam_mytoken", "auth_err")], "auth_err"),
        (&format!("{ours}{debian}"), vec![("pam_mytoken", "authinfo_unavail")], "success"),
        ("auth optional pam_a.so\n", vec![("pam_a", "auth_err")], "must_fail"),
        ("auth required pam_a.so\nauth sufficient pam_b.so\n", vec![("pam_a", "auth_err")], "auth_err"),
        ("auth sufficient pam_a.so\nauth required pam_b.so\n", vec![("pam_b", "auth_err")], "success"),
        ("auth required pam_a.so\nauth [default=reset] pam_b.so\n", vec![], "must_fail"),
        ("", vec![], "must_fail"),
    ] {
        assert_eq!(result(&stack(&[("sshd", text)], Group::Auth), &returns), expected, "{text}");
    }
}

#[test]
fn a_substack_ends_alone_and_is_jumped_over_as_one_line() {
    let sub = "auth sufficient pam_a.so\nauth required pam_deny.so\n";
    let files = |line: &'static str| [("sshd", line), ("sub", sub)];
    let ends = stack(&files("auth substack sub\nauth required pam_z.so\n"), Group::Auth);
    assert_eq!(result(&ends, &[("pam_deny", "auth_err"), ("pam_z", "perm_denied")]), "perm_denied");
    assert_eq!(result(&ends, &[("pam_deny", "auth_err")]), "success");
    let included = stack(&files("auth include sub\nauth required pam_z.so\n"), Group::Auth);
    assert_eq!(result(&included, &[("pam_deny", "auth_err"), ("pam_z", "perm_denied")]), "success");
    let jumped = stack(&files("auth [default=1] pam_j.so\nauth substack sub\nauth required pam_z.so\n"), Group::Auth);
    assert_eq!(result(&jumped, &[("pam_a", "auth_err"), ("pam_deny", "auth_err")]), "success");
}

/// SSH-42, as libpam 1.5.2 decided with these files.
#[test]
fn a_group_without_a_line_has_those_of_other() {
    let line = |group: &str| format!("{group} required pam_own.so\n");
    let all = |module: &str| ["auth", "account"].map(|group| format!("{group} required {module}.so\n")).concat();
    let other = all("pam_other");
    let own = |group: &str| (group.to_owned(), other.clone());
    for (name, (sshd, other), auth, account) in [
        ("both", own(&all("pam_own")), "pam_own", "pam_own"),
        ("no line of auth", own(&line("account")), "pam_other", "pam_own"),
        ("an empty file", own("# nothing\n"), "pam_other", "pam_other"),
        ("lines of another group are included", own("auth include account-only\n"), "pam_other", "pam_other"),
        // Each of these is a line, and fails.
        ("a group that does not exist", own("aut required pam_own.so\n"), "", "pam_other"),
        ("a control field", own("account requird pam_own.so\n"), "pam_other", ""),
        ("a file that is missing", own("account include no-such\n"), "pam_other", ""),
        ("a substack without lines", own("auth substack account-only\n"), "", "pam_other"),
        ("a group in an included file", own("account include wrong\n"), "pam_other", ""),
        ("a mistake in lines that do not count", (all("pam_own"), "aut required x\n".to_owned()), "pam_own", "pam_own"),
    ] {
        let files = [
            ("sshd", &*sshd),
            ("other", &other),
            ("account-only", "account required x\n"),
            ("wrong", "aut required x\n"),
        ];
        let seen = [Group::Auth, Group::Account].map(|group| stack(&files, group));
        assert_eq!(seen.each_ref().map(|stack| names(stack).join(" ")), [auth, account], "{name}");
        let is_other = seen.each_ref().map(|stack| stack.instead_of.is_some());
        assert_eq!(is_other, [auth, account].map(|module| module == "pam_other"), "{name}");
    }
    let absent = stack(&[("other", &other)], Group::Auth);
    assert_eq!((names(&absent), absent.mistakes.len()), (vec!["pam_other"], 0));
    assert_eq!(absent.instead_of.as_deref(), Some(Path::new("/etc/pam.d/sshd")));
    let none = stack(&[], Group::Auth);
    assert_eq!(none.mistakes[0].text, "/etc/pam.d/sshd cannot be read, and there is no /etc/pam.d/other");
    // libpam reads both files before it decides, and fails with either.
    let all = all("pam_own");
    for (other, expected) in [("@include no-such\n", 1), ("auth include no-such\n", 0)] {
        let stack = stack(&[("sshd", &all), ("other", other)], Group::Auth);
        let mistakes: Vec<&str> = stack.mistakes.iter().map(|mistake| &*mistake.text).collect();
        assert_eq!(mistakes, ["/etc/pam.d/other:1: /etc/pam.d/no-such cannot be read"][..expected], "{other}");
    }
}
