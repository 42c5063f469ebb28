// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finds the destinations in the arguments of scp and sftp, by the rules of these programs (SSH-24).

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use percent_encoding::percent_decode;

/// Arguments for `ssh -G`. They lead to the same destination as the connection that the program will open.
pub type Query = Vec<OsString>;

/// A program of OpenSSH that connects to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// `ssh`: its arguments are passed to `ssh -G` unchanged.
    Ssh,
    /// `scp`
    Scp,
    /// `sftp`
    Sftp,
}

impl Program {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Ssh, Self::Scp, Self::Sftp];

    /// Name of the executable.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ssh => "ssh",
            Self::Scp => "scp",
            Self::Sftp => "sftp",
        }
    }

    /// Options with a value (SSH-25). `ssh -P` has one since 9.4 only. Which host the options of ssh lead to, ssh says itself.
    fn options_with_value(self) -> &'static [u8] {
        match self {
            Self::Ssh => b"bceilmopBDEFIJLOQRSWw",
            Self::Scp => b"cDFiJlMoPSX",
            Self::Sftp => b"BbcDFiJloPRSsX",
        }
    }
}

/// One `ssh -G` query per distinct host that `program` will connect to when run with `args`.
pub fn destination_queries(program: Program, args: &[OsString]) -> Vec<Query> {
    if program == Program::Ssh {
        return if logs_in(args) { vec![args.to_vec()] } else { Vec::new() };
    }
    let (options, operands) = split_arguments(program, args);
    let destinations: Vec<Destination> = match program {
        Program::Sftp => operands.first().and_then(|operand| parse_sftp_destination(operand)).into_iter().collect(),
        _ => operands.iter().filter_map(|operand| parse_scp_destination(operand)).collect(),
    };
    let mut queries: Vec<Query> = Vec::new();
    for destination in destinations {
        let mut query = options.clone();
        if let Some(port) = destination.port {
            // In front of the options: the port of a URL takes precedence, and ssh takes the first value of an option
            // (SSH-22).
            query.insert(0, prefixed(b"-oPort=", &port));
        }
        if let Some(user) = destination.user {
            query.extend(["-l".into(), user]);
        }
        query.extend(["--".into(), destination.host]);
        if !queries.contains(&query) {
            queries.push(query);
        }
    }
    queries
}

/// How many connections to one account `program` makes at most: scp makes one for each of its operands.
pub fn most_connections(program: Program, args: &[OsString]) -> usize {
    match program {
        Program::Scp => split_arguments(program, args).1.len().max(1),
        Program::Ssh | Program::Sftp => 1,
    }
}

/// Whether ssh logs in with these arguments: not with `-G` (prints the configuration), `-O` (speaks to a shared connection), `-Q` and `-V`.
/// ssh reads options before the host and after it, up to the command.
fn logs_in(args: &[OsString]) -> bool {
    let (mut args, mut has_host) = (args.iter().map(|arg| arg.as_bytes()), false);
    while let Some(arg) = args.next() {
        let Some(letters) = arg.strip_prefix(b"-").filter(|letters| !letters.is_empty()) else {
            if has_host {
                return true;
            }
            has_host = true;
            continue;
        };
        for (index, letter) in letters.iter().enumerate() {
            match letter {
                b'G' | b'O' | b'Q' | b'V' => return false,
                // What follows is a host or a command; or the value of an option or the host, depending on the release.
                b'-' | b'P' => return true,
                letter if Program::Ssh.options_with_value().contains(letter) => {
                    if index + 1 == letters.len() {
                        args.next();
                    }
                    break;
                }
                _ => {}
            }
        }
    }
    true
}

struct Destination {
    user: Option<OsString>,
    host: OsString,
    port: Option<OsString>,
}

/// Splits arguments into options, as `ssh -G` spells them, and operands. OpenSSH's own getopt stops at the first
/// operand.
fn split_arguments(program: Program, args: &[OsString]) -> (Query, Vec<&OsString>) {
    let mut options = Query::new();
    let mut args = args.iter();
    let mut operands = Vec::new();
    while let Some(arg) = args.next() {
        let bytes = arg.as_bytes();
        let Some(letters) = bytes.strip_prefix(b"-").filter(|rest| !rest.is_empty()) else {
            operands.push(arg);
            break;
        };
        if letters == b"-" {
            break;
        }
        for (index, letter) in letters.iter().enumerate() {
            if !program.options_with_value().contains(letter) {
                options.extend(ssh_flag(program, *letter));
                continue;
            }
            let rest = letters.get(index + 1..).unwrap_or_default();
            let value = if rest.is_empty() { args.next().cloned() } else { Some(OsString::from_vec(rest.to_vec())) };
            options.extend(value.into_iter().flat_map(|value| ssh_option(program, *letter, value)));
            break;
        }
    }
    operands.extend(args);
    (options, operands)
}

/// An option without value as ssh spells it. `None`: it does not change the destination.
fn ssh_flag(program: Program, letter: u8) -> Option<OsString> {
    match (program, letter) {
        (_, b'4') => Some("-4".into()),
        (_, b'6') => Some("-6".into()),
        (Program::Scp, b'B') => Some("-oBatchMode=yes".into()),
        _ => None,
    }
}

/// An option with a value as ssh spells it. Empty: it does not change the destination.
fn ssh_option(program: Program, letter: u8, value: OsString) -> Vec<OsString> {
    match letter {
        b'o' | b'F' | b'i' | b'J' | b'c' => vec![OsString::from(format!("-{}", char::from(letter))), value],
        b'P' => vec!["-p".into(), value],
        b'b' if program == Program::Sftp => vec!["-oBatchMode=yes".into()],
        _ => Vec::new(),
    }
}

/// `[user@]host:path`, `[user@][2001:db8::1]:path`, `scp://[user@]host[:port][/path]`. Other operands are local files.
fn parse_scp_destination(operand: &OsStr) -> Option<Destination> {
    let bytes = operand.as_bytes();
    if let Some(rest) = bytes.strip_prefix(b"scp://") {
        return parse_url_destination(rest);
    }
    let colon = find_path_colon(bytes)?;
    parse_authority(bytes.get(..colon)?)
}

/// `[user@]host[:path]`, `sftp://[user@]host[:port][/path]`.
fn parse_sftp_destination(operand: &OsStr) -> Option<Destination> {
    let bytes = operand.as_bytes();
    if let Some(rest) = bytes.strip_prefix(b"sftp://") {
        return parse_url_destination(rest);
    }
    match find_path_colon(bytes) {
        Some(colon) => parse_authority(bytes.get(..colon)?),
        // sftp takes `@host` without a path as a host name that begins with `@`.
        None if bytes.starts_with(b"@") && bytes.iter().filter(|byte| **byte == b'@').count() == 1 => {
            Some(Destination { user: None, host: to_os_string(bytes), port: None })
        }
        None => parse_authority(bytes),
    }
}

/// Position of the colon that ends the host, as scp's `colon()` finds it. With a leading colon, or a slash before the
/// colon, the operand is a local file.
fn find_path_colon(bytes: &[u8]) -> Option<usize> {
    if bytes.starts_with(b":") {
        return None;
    }
    let mut bracket = bytes.starts_with(b"[");
    for (index, byte) in bytes.iter().enumerate() {
        let next = bytes.get(index + 1);
        match byte {
            b'@' if next == Some(&b'[') => bracket = true,
            b']' if next == Some(&b':') && bracket => return Some(index + 1),
            b':' if !bracket => return Some(index),
            b'/' => return None,
            _ => {}
        }
    }
    None
}

/// Parses `[user@]host`. The user ends at the last `@`. Brackets around the host are removed.
fn parse_authority(bytes: &[u8]) -> Option<Destination> {
    let (user, host) = match bytes.iter().rposition(|byte| *byte == b'@') {
        Some(at) => (bytes.get(..at), bytes.get(at + 1..)?),
        None => (None, bytes),
    };
    let host = strip_brackets(host);
    if host.is_empty() {
        return None;
    }
    Some(Destination {
        user: user.filter(|user| !user.is_empty()).map(to_os_string),
        host: to_os_string(host),
        port: None,
    })
}

/// Parses a URL after its scheme, by OpenSSH's rules. They differ from the URL standard: the user ends at the first
/// `@`, even if that is in the path, and parameters after a `;` are ignored. `None`: OpenSSH refuses the URL.
fn parse_url_destination(rest: &[u8]) -> Option<Destination> {
    let (user, rest) = match rest.iter().position(|byte| *byte == b'@') {
        Some(at) => {
            let user = rest.get(..at)?.split(|byte| *byte == b';').next().filter(|user| !user.is_empty())?;
            (Some(decode_percent(user)?), rest.get(at + 1..)?)
        }
        None => (None, rest),
    };
    let end = match rest.first() {
        Some(b'[') => rest.iter().position(|byte| *byte == b']')? + 1,
        _ => rest.iter().position(|byte| b":/".contains(byte)).unwrap_or(rest.len()),
    };
    let port = match rest.get(end..)? {
        [] | [b'/', ..] | [b':'] => None,
        [b':', rest @ ..] => Some(rest.split(|byte| *byte == b'/').next().filter(|port| !port.is_empty())?),
        _ => return None,
    };
    let host = strip_brackets(rest.get(..end)?);
    (!host.is_empty()).then(|| Destination { user, host: to_os_string(host), port: port.map(to_os_string) })
}

/// Decodes percent-encoding, with `+` for a blank. `None`: a `%` without two hexadecimal digits. A zero byte ends the
/// text, as in C.
fn decode_percent(user: &[u8]) -> Option<OsString> {
    let codes = user.split(|byte| *byte == b'%').skip(1);
    if codes.into_iter().any(|code| !code.get(..2).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit))) {
        return None;
    }
    let blanks: Vec<u8> = user.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    Some(OsString::from_vec(percent_decode(&blanks).take_while(|byte| *byte != 0).collect()))
}

fn strip_brackets(host: &[u8]) -> &[u8] {
    host.strip_prefix(b"[").and_then(|host| host.strip_suffix(b"]")).unwrap_or(host)
}

fn to_os_string(bytes: &[u8]) -> OsString {
    OsString::from_vec(bytes.to_vec())
}

fn prefixed(prefix: &[u8], value: &OsStr) -> OsString {
    OsString::from_vec([prefix, value.as_bytes()].concat())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The getopt strings of OpenSSH 9.2 and 10.0 (SSH-25).
    pub(crate) const SSH: [&str; 2] = [
        "1246ab:c:e:fgi:kl:m:no:p:qstvxAB:CD:E:F:GI:J:KL:MNO:PQ:R:S:TVw:W:XYy",
        "1246ab:c:e:fgi:kl:m:no:p:qstvxAB:CD:E:F:GI:J:KL:MNO:P:Q:R:S:TVw:W:XYy",
    ];
    pub(crate) const SCP: [&str; 1] = ["12346ABCTdfOpqRrstvD:F:J:M:P:S:c:i:l:o:X:"];
    pub(crate) const SFTP: [&str; 1] = ["1246AafhNpqrvCc:D:i:l:o:s:S:b:B:F:J:P:R:X:"];

    #[test]
    fn the_options_with_a_value_are_those_of_the_clients() {
        for (program, options) in [(Program::Ssh, SSH[0]), (Program::Scp, SCP[0]), (Program::Sftp, SFTP[0])] {
            let mut found: Vec<u8> =
                options.as_bytes().windows(2).filter(|pair| pair[1] == b':').map(|pair| pair[0]).collect();
            let mut known = program.options_with_value().to_vec();
            found.sort_unstable();
            known.sort_unstable();
            assert_eq!(String::from_utf8(known), String::from_utf8(found), "{}", program.name());
        }
    }

    /// The queries for a command line, one text each.
    fn query_texts(program: Program, args: &str) -> Vec<String> {
        let args: Vec<OsString> = args.split_whitespace().map(OsString::from).collect();
        let words =
            |query: Query| query.iter().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ");
        destination_queries(program, &args).into_iter().map(words).collect()
    }

    #[test]
    fn queries_have_the_destinations_of_scp() {
        let table: &[(&str, &[&str])] = &[
            ("file testbed:", &["-- testbed"]),
            ("file alice@testbed:dir/file", &["-l alice -- testbed"]),
            ("-r -P 2222 -oUser=bob testbed:/etc dir", &["-p 2222 -o User=bob -- testbed"]),
            ("-rpP2222 testbed:x .", &["-p 2222 -- testbed"]),
            ("-F cfg -i key -J jump -c aes x testbed:", &["-F cfg -i key -J jump -c aes -- testbed"]),
            ("-S myssh -l 100 -X nrequests=1 x testbed:", &["-- testbed"]),
            ("-X a:b -M c:d -l e:f -S g:h -D i:j x testbed:", &["-- testbed"]),
            ("a:x b@c:y d:z", &["-- a", "-l b -- c", "-- d"]),
            ("a:x a:y local", &["-- a"]),
            ("user@[2001:db8::1]:x .", &["-l user -- 2001:db8::1"]),
            ("[::1]:x .", &["-- ::1"]),
            ("./with:colon dir/with:colon :leading", &[]),
            ("-- -odd:x .", &["-- -odd"]),
            ("a@b@host:x .", &["-l a@b -- host"]),
            ("scp://alice@testbed:2222/dir .", &["-oPort=2222 -l alice -- testbed"]),
            ("scp://testbed/x .", &["-- testbed"]),
            ("scp://a%40b@[::1]:22/x .", &["-oPort=22 -l a@b -- ::1"]),
            ("scp://a%2Bb@tb/x .", &["-l a+b -- tb"]),
            ("scp://alice;fingerprint=x@tb/a@b .", &["-l alice -- tb"]),
            ("scp://tb/dir@other:22/file .", &["-oPort=22 -l tb/dir -- other"]),
            ("scp://a%00b@tb/x .", &["-l a -- tb"]),
            ("scp://tb: .", &["-- tb"]),
            ("scp://a%zz@tb/x scp://a%4@tb/x scp://@tb/x scp://;a@tb/x scp://tb:/x scp://[::1]x/y scp:///x .", &[]),
            ("-B x testbed:", &["-oBatchMode=yes -- testbed"]),
            ("x testbed: -P 22", &["-- testbed"]),
            ("", &[]),
        ];
        for (args, expected) in table {
            assert_eq!(query_texts(Program::Scp, args), *expected, "scp {args}");
        }
    }

    #[test]
    fn queries_have_the_destinations_of_sftp() {
        let table: &[(&str, &[&str])] = &[
            ("testbed", &["-- testbed"]),
            ("alice@testbed:dir", &["-l alice -- testbed"]),
            ("-P 2222 alice@testbed", &["-p 2222 -l alice -- testbed"]),
            ("-b batch testbed", &["-oBatchMode=yes -- testbed"]),
            ("-oBatchMode=no -b - testbed", &["-o BatchMode=no -oBatchMode=yes -- testbed"]),
            ("-B 32768 -R 64 -s sub testbed", &["-- testbed"]),
            ("sftp://alice@testbed:2222/dir", &["-oPort=2222 -l alice -- testbed"]),
            ("[::1]:dir", &["-- ::1"]),
            ("[::1]", &["-- ::1"]),
        ];
        for (args, expected) in table {
            assert_eq!(query_texts(Program::Sftp, args), *expected, "sftp {args}");
        }
    }

    #[test]
    fn ssh_needs_no_token_where_it_does_not_log_in() {
        for args in [
            "-G tb",
            "tb -G",
            "-vG tb",
            "-O exit tb",
            "-Oexit tb",
            "-Q cipher",
            "-V",
            "-p 22 -l a -V tb",
            "tb -l a -O check",
        ] {
            assert_eq!(query_texts(Program::Ssh, args), [""; 0], "{args}");
        }
        for args in
            ["tb", "tb ls -G", "tb -v ls -V", "-o G tb", "-oX=-G tb", "-lG tb", "-- tb -V", "-P x -G tb", "tb -- -O"]
        {
            assert_eq!(query_texts(Program::Ssh, args), [args]);
        }
    }

    #[test]
    fn the_arguments_of_ssh_are_passed_on_unchanged() {
        assert_eq!(query_texts(Program::Ssh, "-p 22 alice@testbed ls -l"), ["-p 22 alice@testbed ls -l"]);
    }
}
