// SPDX-License-Identifier: MIT OR Apache-2.0
//! Daemons of a site: started in the background, with their process id in a file.

use std::time::Duration;

use crate::site::command::SiteCommand;
use crate::site::namespace::Namespace;
use crate::site::plan::STATE_DIR;
use crate::{Result, wait};

/// How to start a daemon.
#[derive(Debug, Clone)]
pub struct Daemon {
    name: String,
    argv: Vec<String>,
    node: Option<String>,
    environment: Vec<(String, String)>,
}

impl Daemon {
    /// A daemon whose program stays in the foreground. Its log is `/var/log/NAME.log`. `Site::stop` and `Site::restart`
    /// find it by `name`.
    pub fn new<I>(name: &str, argv: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        let argv = argv.into_iter().map(Into::into).collect();
        Self { name: name.to_owned(), argv, node: None, environment: Vec::new() }
    }

    /// Runs it on a node.
    #[must_use]
    pub fn on(mut self, node: &str) -> Self {
        self.node = Some(node.to_owned());
        self
    }

    /// Adds a variable to its environment, which is otherwise almost empty.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same with another program, which gets the same arguments.
    #[must_use]
    pub(crate) fn with_program(mut self, program: &str) -> Self {
        if let Some(first) = self.argv.first_mut() {
            program.clone_into(first);
        }
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    fn pid_file(&self) -> String {
        format!("{STATE_DIR}/pid/{}", self.name)
    }

    /// Starts it. The first process of the site becomes its parent.
    pub(crate) fn start(&self, namespace: &Namespace) -> Result<()> {
        // `exec` keeps the process id of the inner shell. The outer shell ends when the id is in the file.
        let (pid_file, name) = (self.pid_file(), &self.name);
        let script = format!(
            "rm -f {pid_file}; \
             setsid sh -c 'echo $$ >{pid_file}; exec \"$@\"' sh \"$@\" </dev/null >>/var/log/{name}.log 2>&1 & \
             until test -s {pid_file}; do sleep 0.005; done"
        );
        let mut argv = vec!["sh".to_owned(), "-c".to_owned(), script, "sh".to_owned()];
        argv.extend(self.argv.iter().cloned());
        let mut command = SiteCommand::new(namespace, "root", argv);
        if let Some(node) = &self.node {
            command = command.on(node);
        }
        for (name, value) in &self.environment {
            command = command.env(name, value);
        }
        command.run()?.ok().map(drop)
    }

    /// Sends a signal ("TERM", "KILL") and waits until the process has ended.
    pub(crate) fn stop(&self, namespace: &Namespace, signal: &str) -> Result<()> {
        let pid_file = self.pid_file();
        SiteCommand::script(
            namespace,
            "root",
            &format!("test -s {pid_file} && kill -{signal} $(cat {pid_file}) || true"),
        )
        .run()?
        .ok()?;
        wait::until(&format!("the end of {}", self.name), Duration::from_secs(20), || {
            let gone = format!("pid=$(cat {pid_file} 2>/dev/null) || exit 0; ! kill -0 $pid 2>/dev/null");
            Ok(SiteCommand::script(namespace, "root", &gone).run()?.success().then_some(()))
        })?;
        SiteCommand::script(namespace, "root", &format!("rm -f {pid_file}")).run()?.ok().map(drop)
    }

    /// Whether its process runs.
    pub(crate) fn is_running(&self, namespace: &Namespace) -> Result<bool> {
        Ok(SiteCommand::script(namespace, "root", &format!("kill -0 $(cat {})", self.pid_file())).run()?.success())
    }
}
