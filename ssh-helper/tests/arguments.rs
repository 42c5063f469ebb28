// SPDX-License-Identifier: MIT OR Apache-2.0
//! ssh, scp and sftp get the arguments that the user wrote, each in its place.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "the lints know tests only by their attribute")]

mod world;

use world::{TOKEN, World};

/// Fakes of the three programs that note their arguments, one a line.
fn world() -> World {
    let world = World::new("exit 0", TOKEN);
    for program in ["scp", "sftp"] {
        world.program(program, &format!("printf '%s\\n' \"$@\" > {}", world.path("argv").display()));
    }
    world
}

/// Beginnings of the options that the helper puts in front.
const OURS: [&str; 7] = [
    "-oNumberOfPasswordPrompts=1",
    "-oStrictHostKeyChecking=",
    "-oKbdInteractiveAuthentication=yes",
    "-oPreferredAuthentications=keyboard-interactive,",
    "-oControlMaster=no",
    "-oPermitLocalCommand=yes",
    "-oLocalCommand=env \"$MYTOKEN_SSH_ASKPASS\" --entered",
];

/// What the program got, without the options that the helper puts in front.
fn got(world: &World) -> Vec<String> {
    let argv: Vec<String> = world.read("argv").lines().map(str::to_owned).collect();
    argv.into_iter().skip_while(|arg| OURS.iter().any(|option| arg.starts_with(option))).collect()
}

fn check(world: &World, own: &[&str], program: Option<&str>, written: &[&str]) -> Option<String> {
    std::fs::remove_file(world.path("argv")).unwrap_or_default();
    let mut args: Vec<&str> = program.into_iter().collect();
    args.extend(own);
    args.extend(written);
    let output = world.run(&args);
    let got = got(world);
    (got != written).then(|| format!("{args:?}: got {got:?} {}", String::from_utf8_lossy(&output.stderr)))
}

/// The options of OpenSSH 9.2 and 10.0 as their getopt strings have them; `ssh -P` has a value from 9.4 on.
const OPTIONS: [(&str, &str); 4] = [
    ("ssh", "1246ab:c:e:fgi:kl:m:no:p:qstvxAB:CD:E:F:GI:J:KL:MNO:PQ:R:S:TVw:W:XYy"),
    ("ssh", "1246ab:c:e:fgi:kl:m:no:p:qstvxAB:CD:E:F:GI:J:KL:MNO:P:Q:R:S:TVw:W:XYy"),
    ("scp", "12346ABCTdfOpqRrstvD:F:J:M:P:S:c:i:l:o:X:"),
    ("sftp", "1246AafhNpqrvCc:D:i:l:o:s:S:b:B:F:J:P:R:X:"),
];

#[test]
fn every_option_of_the_programs_reaches_them() {
    let world = world();
    let file = world.path("token");
    let own = ["--token-file", file.to_str().unwrap()];
    let mut wrong = Vec::new();
    for (program, options) in OPTIONS {
        let letters: Vec<char> = options.chars().collect();
        for (index, letter) in letters.iter().enumerate().filter(|(_, letter)| **letter != ':') {
            let option = format!("-{letter}");
            let mut line = vec![option.as_str()];
            if letters.get(index + 1) == Some(&':') {
                line.push("--");
            }
            line.extend(["alice@tb:x", "--scope"]);
            wrong.extend(check(&world, &own, Some(program), &line));
            line.insert(0, "--");
            wrong.extend(check(&world, &own, Some(program), &line));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_program_gets_the_arguments_as_written_wherever_a_double_dash_stands() {
    let world = world();
    let file = world.path("token");
    let file = file.to_str().unwrap();
    let owns: [&[&str]; 2] = [&["--token-file", file], &[&format!("--token-file={file}")]];
    let lines: [(Option<&str>, &[&str]); 4] = [
        (Some("ssh"), &["-v", "tb", "ls", "-l", "--delegate"]),
        (Some("ssh"), &["-oProxyCommand=touch hit", "tb", "--server", "x"]),
        (Some("scp"), &["-r", "a", "tb:b"]),
        (Some("sftp"), &["-v", "tb:b"]),
    ];
    let mut wrong = Vec::new();
    for (program, line) in lines {
        for own in owns {
            wrong.extend(check(&world, own, program, line));
            for place in 0..=line.len() {
                let mut written = line.to_vec();
                written.insert(place, "--");
                wrong.extend(check(&world, own, program, &written));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
