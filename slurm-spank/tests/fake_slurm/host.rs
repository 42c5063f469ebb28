// SPDX-License-Identifier: MIT OR Apache-2.0
//! Builds `host.c` once, runs it with a script, and checks its output.

use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nested_cargo::cargo_build;

use crate::programs;

pub const LOCAL: u32 = 1;
pub const REMOTE: u32 = 2;
pub const ALLOCATOR: u32 = 3;
pub const SLURMD: u32 = 4;
pub const JOB_SCRIPT: u32 = 5;
pub const SEALED: &str = "mt1.0123abcd.QUJDREVG-_x";
pub const HANDLE: &str = "00112233445566778899aabbccddeeff";

/// The plugin. Cargo builds no cdylib for an integration test, so the first test builds it.
pub fn plugin() -> &'static Path {
    static PLUGIN: OnceLock<PathBuf> = OnceLock::new();
    PLUGIN.get_or_init(|| build(&Path::new(env!("CARGO_TARGET_TMPDIR")).join(".."), &["--workspace"]))
}

/// The plugin that panics on request. It has its own target directory, because both builds have the same file name.
pub fn panicking_plugin() -> &'static Path {
    static PLUGIN: OnceLock<PathBuf> = OnceLock::new();
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("panic-injection");
    PLUGIN.get_or_init(|| build(&target, &["--lib", "--features", "panic-injection"]))
}

/// The release build of the plugin with its symbols, if `make build` made one.
pub fn release_plugin() -> Option<PathBuf> {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../release/libspank_mytoken.so");
    file.is_file().then_some(file)
}

fn build(target: &Path, features: &[&str]) -> PathBuf {
    let status = cargo_build()
        .args(["--offline", "--manifest-path"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
        .arg("--target-dir")
        .arg(target)
        .args(features)
        .status();
    assert!(status.unwrap().success(), "the plugin does not build");
    target.join("debug/libspank_mytoken.so")
}

fn program(silent: bool) -> &'static Path {
    static PROGRAMS: [OnceLock<PathBuf>; 2] = [OnceLock::new(), OnceLock::new()];
    let (name, definition) = if silent { ("slurm-host-silent", "-DWITHOUT_OPTIONS") } else { ("slurm-host", "-DHOST") };
    PROGRAMS[usize::from(silent)].get_or_init(|| {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let (program, fresh) = (directory.join(name), directory.join(format!("{name}.{}", std::process::id())));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake_slurm/host.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-O1", "-Wall", "-rdynamic", definition, "-o"]).arg(&fresh).arg(source).arg("-ldl");
        assert!(compiler.status().unwrap().success(), "host.c does not compile");
        std::fs::rename(fresh, &program).unwrap();
        program
    })
}

/// A process that imitates a program of Slurm.
pub struct Host {
    script: String,
    plugin: PathBuf,
    name: String,
    words: Vec<String>,
    api: u32,
    silent: bool,
}

/// Output and end of a host.
pub struct HostOutput {
    pub lines: Vec<String>,
    /// Status of the process; hooks that refuse end it with 1.
    pub status: Option<i32>,
    pub took: Duration,
}

impl Host {
    pub fn new(context: u32) -> Self {
        Self {
            script: format!("context {context}\n"),
            plugin: plugin().to_owned(),
            name: "sbatch".into(),
            words: Vec::new(),
            api: 38,
            silent: false,
        }
    }

    /// A step of job 4711 of alice on a node.
    pub fn step(step: u32) -> Self {
        Self::new(REMOTE).lines(&[
            "item 0 2001",
            "item 1 3001",
            "item 2 4711",
            &format!("item 3 {step}"),
            "item 11 0",
            "item 30 4711",
            "item 31 4294967294",
        ])
    }

    pub fn with_plugin(mut self, plugin: &Path) -> Self {
        self.plugin = plugin.to_owned();
        self
    }

    pub fn with_api(mut self, api: u32) -> Self {
        self.api = api;
        self
    }

    /// A Slurm that does not say how it has parsed the options.
    pub fn silent(mut self) -> Self {
        self.silent = true;
        self
    }

    /// The command as the user typed it.
    pub fn typed(mut self, words: &[&str]) -> Self {
        self.name = words[0].to_owned();
        self.words = words[1..].iter().map(|word| (*word).to_owned()).collect();
        self
    }

    pub fn line(mut self, line: &str) -> Self {
        writeln!(self.script, "{line}").unwrap();
        self
    }

    pub fn lines(self, lines: &[&str]) -> Self {
        lines.iter().fold(self, |host, line| host.line(line))
    }

    pub fn run(self) -> HostOutput {
        let start = Instant::now();
        let mut child = Command::new(program(self.silent))
            .arg0(&self.name)
            .args(&self.words)
            .env_clear()
            .envs([("PATH", "/usr/bin:/bin"), ("HOME", "/nowhere"), ("API", &self.api.to_string())])
            .env("PLUGIN", &self.plugin)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let script = format!("{}dump\n", self.script);
        child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let printed = String::from_utf8_lossy(&output.stderr).into_owned();
        let seen = HostOutput {
            lines: text.lines().map(str::to_owned).collect(),
            status: output.status.code(),
            took: start.elapsed(),
        };
        assert_eq!(printed, "", "the plugin itself printed something\n{text}");
        assert!(seen.status.is_some(), "killed by a signal ({})\n{text}", output.status);
        assert!(seen.status != Some(0) || text.ends_with("end\n"), "not finished\n{text}");
        let left: Vec<_> = seen.lines.iter().filter(|line| line.starts_with("left ")).collect();
        assert!(left.is_empty(), "a hook left traces: {left:?}\n{text}");
        seen
    }
}

impl HostOutput {
    pub fn has(&self, line: &str) -> bool {
        self.lines.iter().any(|seen| seen == line)
    }

    /// The rest of the first line that starts with `prefix`.
    pub fn after(&self, prefix: &str) -> Option<&str> {
        self.lines.iter().find_map(|line| line.strip_prefix(prefix))
    }

    pub fn env(&self, name: &str) -> Option<&str> {
        self.after(&format!("env {name}="))
    }

    pub fn job(&self, name: &str) -> Option<&str> {
        self.after(&format!("job {name} "))
    }

    pub fn logs(&self) -> Vec<&str> {
        self.lines.iter().filter_map(|line| line.strip_prefix("log ")).collect()
    }

    /// Whether every hook returned 0.
    pub fn all_zero(&self) -> bool {
        self.lines
            .iter()
            .filter(|line| line.starts_with("hook ") || line.starts_with("option "))
            .all(|line| line.ends_with(" 0"))
    }
}

/// A directory with a fake `mytoken-submit`: a shell script that first records its arguments and its environment.
pub struct FakeSubmit {
    pub dir: tempfile::TempDir,
}

impl FakeSubmit {
    pub fn script(body: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mytoken-submit");
        let at = dir.path().display();
        let text = format!(
            "#!/bin/sh\necho $$ >> {at}/pids\necho \"$@\" >> {at}/calls\nls -l /proc/$$/fd > {at}/fds\ngrep ^Sig /proc/self/status > {at}/signals\nenv > {at}/env\n{body}\n"
        );
        programs::write(path, &text).unwrap();
        Self { dir }
    }

    /// Answers with a credential.
    pub fn good() -> Self {
        Self::script(&format!(r#"printf '{{"v":1,"sealed":"{SEALED}","handle":"{HANDLE}"}}\n'"#))
    }

    pub fn argument(&self) -> String {
        format!("arg submit={}", self.dir.path().join("mytoken-submit").display())
    }

    pub fn note(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(name)).unwrap_or_default()
    }

    /// The arguments of each run.
    pub fn calls(&self) -> Vec<String> {
        self.note("calls").lines().map(str::to_owned).collect()
    }

    /// Whether one of its processes runs or is a zombie.
    pub fn is_running(&self) -> bool {
        self.note("pids").lines().any(|pid| Path::new("/proc").join(pid).exists())
    }
}
