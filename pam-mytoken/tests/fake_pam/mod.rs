// SPDX-License-Identifier: GPL-3.0-or-later
//! The module with its scripts, a libpam that shows what the real one hides, and the PAM application of the testbed.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use nested_cargo::cargo_build;

/// The built files.
pub struct FakePam {
    module: PathBuf,
    driver: PathBuf,
}

/// What the application printed.
pub struct Printed {
    pub output: String,
    pub errors: String,
    pub success: bool,
}

impl Printed {
    /// The rests of the lines that begin with this word.
    pub fn after(&self, word: &str) -> Vec<&str> {
        let start = format!("{word} ");
        self.output.lines().filter_map(|line| line.strip_prefix(start.as_str())).collect()
    }
}

impl FakePam {
    /// The files of this test program, which are built once. Cargo builds no cdylib for an integration test. The module has a target
    /// directory of its own, because its file has the name of the real one; `make tools` builds the same there.
    pub fn get() -> &'static Self {
        static BUILT: OnceLock<FakePam> = OnceLock::new();
        BUILT.get_or_init(|| {
            let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
            let library = directory.join("fake-pam");
            std::fs::create_dir_all(&library).unwrap();
            Self { module: build_module(&directory.join("panic-injection")), driver: build_driver(&library) }
        })
    }

    /// Writes the stack of a service: the module with these arguments.
    pub fn write_stack(&self, directory: &Path, service: &str, arguments: &str) {
        std::fs::write(directory.join(service), format!("{} {arguments}\n", self.module.display())).unwrap();
    }

    /// Runs the application, below `wrapper` if it is not empty.
    pub fn run(&self, wrapper: &[&str], directory: &Path, arguments: &[&str], answers: &[String]) -> Printed {
        let words = wrapper.iter().map(OsStr::new).chain([self.driver.as_os_str(), directory.as_os_str()]);
        let words: Vec<&OsStr> = words.chain(arguments.iter().map(OsStr::new)).collect();
        let mut application = Command::new(words[0])
            .args(&words[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let text: String = answers.iter().map(|answer| format!("{answer}\0")).collect();
        application.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = application.wait_with_output().unwrap();
        Printed {
            output: String::from_utf8(output.stdout).unwrap(),
            errors: String::from_utf8(output.stderr).unwrap(),
            success: output.status.success(),
        }
    }
}

fn build_module(target: &Path) -> PathBuf {
    let built = cargo_build()
        .args(["--offline", "--lib", "--features", "scripted,panic-injection"])
        .arg("--manifest-path")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
        .arg("--target-dir")
        .arg(target)
        .status();
    assert!(built.unwrap().success(), "the module does not build");
    target.join("debug/libpam_mytoken.so")
}

fn build_driver(directory: &Path) -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake_pam");
    let versions = format!("-Wl,--version-script={}", own.join("fake_pam.map").display());
    let options = ["-shared", "-fPIC", "-Wl,-soname,libpam.so.0", versions.as_str()];
    compile(directory, "libpam.so.0", &options, &[own.join("fake_pam.c")], &["-ldl"]);
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/testbed/tests/pam_driver");
    let sources = ["pam_driver.c", "process_state.c", "memory_scan.c"].map(|name| sources.join(name));
    let (search, find) = (format!("-L{}", directory.display()), format!("-Wl,-rpath,{}", directory.display()));
    compile(directory, "pam_driver", &["-pthread", &search, &find], &sources, &["-l:libpam.so.0"])
}

/// Compiles with `cc`. The file appears whole: another test program may use it.
fn compile(directory: &Path, name: &str, options: &[&str], sources: &[PathBuf], libraries: &[&str]) -> PathBuf {
    let (file, fresh) = (directory.join(name), directory.join(format!("{name}.{}", std::process::id())));
    let mut compiler = Command::new("cc");
    compiler.args(["-O1", "-g", "-Wall"]).args(options).arg("-o").arg(&fresh).args(sources).args(libraries);
    assert!(compiler.status().unwrap().success(), "{name} does not compile");
    std::fs::rename(fresh, &file).unwrap();
    file
}
