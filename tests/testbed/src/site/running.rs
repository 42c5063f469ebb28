// SPDX-License-Identifier: MIT OR Apache-2.0
//! A running site.

use std::sync::Mutex;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use crate::site::command::{CommandOutcome, SiteCommand};
use crate::site::control_groups::Groups;
use crate::site::daemon::Daemon;
use crate::site::namespace::Namespace;
use crate::site::packages::{Layer, Source};
use crate::site::plan::{EARLIER_INSIDE, Network, Plan, ROOT_INSIDE, TESTBED_INSIDE, TESTSERVER_INSIDE};
use crate::site::root::{Recipe, Root};
use crate::site::services::syslog::LOG;
use crate::site::{earlier, host, paths};
use crate::{Error, Options, Result, wait};

/// A site: sshd, munge, Slurm with its nodes, users, and the product and the test server if they are built.
/// Dropping it kills everything inside.
#[derive(Debug)]
pub struct Site {
    namespace: Namespace,
    // After the namespace: fields are dropped in this order.
    _groups: Option<Groups>,
    options: Options,
    has_product: bool,
    has_testserver: bool,
    daemons: Mutex<Vec<Daemon>>,
    clients: AtomicU32,
    _root: Root,
    _layer: Option<Layer>,
}

impl Site {
    /// Makes the namespaces and files of a site without starting services.
    ///
    /// # Errors
    /// As [`Site::start`].
    pub fn without_services(options: Options) -> Result<Self> {
        host::can_hold_a_site()?;
        let recipe = match (options.systemd, options.python, options.fail2ban) {
            (false, _, _) if options.emulated => Recipe::emulated_site,
            (false, _, _) if options.slurm_adopt => Recipe::adopting_site,
            (false, _, _) if options.data_clients => Recipe::clients_site,
            (false, _, _) if options.ssh_clients => Recipe::ssh_clients_site,
            (false, _, _) if options.node => Recipe::node_site,
            (false, _, _) if options.accounting => Recipe::accounting_site,
            (false, true, _) => Recipe::python_site,
            (false, _, _) => Recipe::site,
            (true, false, false) => Recipe::systemd_site,
            (true, true, _) => Recipe::ansible_site,
            (true, false, true) => Recipe::fail2ban_site,
        };
        let root = Root::open(&recipe(options.release)).map_err(|error| {
            match (options.data_clients, options.ssh_clients) {
                _ if options.node => Error::Impossible(format!("its root with Node cannot be made: {error}")),
                // Debian's unstable release lacks one or the other of these packages from time to time.
                (true, _) => Error::Impossible(format!("its root with Debian's data clients cannot be made: {error}")),
                (_, true) => Error::Impossible(format!("its root with Debian's ssh clients cannot be made: {error}")),
                (false, false) => error,
            }
        })?;
        let mut binds = vec![(paths::testbed_program()?, TESTBED_INSIDE.into())];
        if options.second_machine {
            binds.push((root.directory().to_owned(), ROOT_INSIDE.into()));
        }
        let earlier = options.earlier.map(|_| earlier::programs().ok_or_else(earlier::missing)).transpose()?;
        binds.extend(earlier.map(|programs| (programs, EARLIER_INSIDE.into())));
        let testserver =
            paths::testserver_program().filter(|_| (options.product || options.systemd) && options.foreign.is_none());
        let has_testserver = testserver.is_some();
        binds.extend(testserver.map(|program| (program, TESTSERVER_INSIDE.into())));
        let source =
            || if options.emulated { Source::for_arm64() } else { Source::open(&paths::product_profile(), &root) };
        let (layer, install) = match options.product.then(source).transpose()? {
            None => (None, None),
            Some(Source::Layer(layer)) => (Some(layer), None),
            Some(Source::Install(installation)) => (None, Some(installation)),
        };
        let plan = Plan {
            root: root.directory().to_owned(),
            layer: layer.as_ref().map(|layer| layer.directory().to_owned()),
            mount_point: paths::mount_point()?,
            network: network_of(&options),
            binds,
            users: true,
            emulated: options.emulated,
            install,
        };
        let namespace = Namespace::create(&plan)?;
        Ok(Self {
            has_product: options.product,
            namespace,
            _groups: options.systemd.then_some(Groups),
            options,
            has_testserver,
            daemons: Mutex::default(),
            clients: AtomicU32::default(),
            _root: root,
            _layer: layer,
        })
    }

    /// The options of the site.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Whether the product is installed.
    #[must_use]
    pub fn has_product(&self) -> bool {
        self.has_product
    }

    /// Whether the test server runs in the site. It does not run with a foreign server.
    #[must_use]
    pub fn has_testserver(&self) -> bool {
        self.has_testserver
    }

    /// The network of the site.
    #[must_use]
    pub fn network(&self) -> Network {
        network_of(&self.options)
    }

    /// Names of the nodes: n1, n2, ...
    #[must_use]
    pub fn nodes(&self) -> Vec<String> {
        (1..=self.options.nodes).map(|number| format!("n{number}")).collect()
    }

    /// The names of the brokers' hosts.
    #[must_use]
    pub fn brokers(&self) -> Vec<String> {
        (1..=self.options.brokers).map(|number| format!("b{number}")).collect()
    }

    /// The id on the host of the first process inside.
    #[must_use]
    pub fn init_pid(&self) -> u32 {
        self.namespace.init_pid()
    }

    /// A command as `user` on the login node. [`SiteCommand`] has more options.
    pub fn command<I, S>(&self, user: &str, argv: I) -> SiteCommand<'_>
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        SiteCommand::new(&self.namespace, user, argv.into_iter().map(Into::into).collect())
    }

    /// A shell script as `user` on the login node.
    pub fn script(&self, user: &str, script: &str) -> SiteCommand<'_> {
        SiteCommand::script(&self.namespace, user, script)
    }

    /// Runs a command as `user` on the login node to its end.
    ///
    /// # Errors
    /// When it could not be started.
    pub fn run<const N: usize>(&self, user: &str, argv: [&str; N]) -> Result<CommandOutcome> {
        self.command(user, argv).run()
    }

    /// Runs a shell script as `user` on the login node to its end.
    ///
    /// # Errors
    /// When it could not be started.
    pub fn sh(&self, user: &str, script: &str) -> Result<CommandOutcome> {
        self.script(user, script).run()
    }

    /// Runs a shell script as root on a node.
    ///
    /// # Errors
    /// When it could not be started.
    pub fn on_node(&self, node: &str, script: &str) -> Result<CommandOutcome> {
        self.script("root", script).on(node).run()
    }

    /// Writes a file as root, with this mode ("0644").
    ///
    /// # Errors
    /// When the file could not be written.
    pub fn write(&self, path: &str, content: &str, mode: &str) -> Result<()> {
        // A command inside writes the file, because absolute links below /proc/PID/root lead to the host.
        let script =
            format!("set -e; mkdir -p \"$(dirname '{path}')\"; install -m {mode} /dev/null '{path}'; cat >'{path}'");
        self.script("root", &script).stdin(content).run()?.ok().map(drop)
    }

    /// Reads a file as root.
    ///
    /// # Errors
    /// When the file could not be read.
    pub fn read(&self, path: &str) -> Result<String> {
        Ok(self.run("root", ["cat", path])?.ok()?.stdout)
    }

    /// The system log, with all lines that were sent before this call. What writes it can be late on a busy machine, so a line is sent
    /// and waited for.
    ///
    /// # Errors
    /// When the log could not be read, or has not got the line in ten seconds.
    pub fn system_log(&self) -> Result<String> {
        let script = format!(
            "line=\"read $$ at $(date +%s%N)\"; logger -t testbed \"$line\"; \
             for _ in $(seq 200); do if grep -qF \"$line\" {LOG}; then grep -vF ' testbed: read ' {LOG}; exit 0; fi; sleep 0.05; done; \
             echo 'the system log gets no lines' >&2; exit 1"
        );
        Ok(self.sh("root", &script)?.ok()?.stdout)
    }

    /// Whether a path exists on the login node.
    ///
    /// # Errors
    /// When the command could not be run.
    pub fn exists(&self, path: &str) -> Result<bool> {
        Ok(self.run("root", ["test", "-e", path])?.success())
    }

    /// Starts a daemon and remembers it by its name.
    ///
    /// # Errors
    /// When it could not be started. Whether it keeps running is not checked.
    pub fn start_daemon(&self, daemon: Daemon) -> Result<()> {
        daemon.start(&self.namespace)?;
        let mut daemons = self.daemons();
        daemons.retain(|other| other.name() != daemon.name());
        daemons.push(daemon);
        Ok(())
    }

    /// Stops a daemon with a signal ("TERM", "KILL") and waits until it has ended.
    ///
    /// # Errors
    /// When there is no daemon of this name or it does not end.
    pub fn stop(&self, name: &str, signal: &str) -> Result<()> {
        self.daemon(name)?.stop(&self.namespace, signal)
    }

    /// Starts a stopped daemon as it was started before.
    ///
    /// # Errors
    /// When there is no daemon of this name or it could not be started.
    pub fn restart(&self, name: &str) -> Result<()> {
        self.daemon(name)?.start(&self.namespace)
    }

    /// Lets a daemon be this program, a path inside the site, from its next start on.
    ///
    /// # Errors
    /// When there is no daemon of this name.
    pub fn use_program(&self, name: &str, program: &str) -> Result<()> {
        let daemon = self.daemon(name)?.with_program(program);
        let mut daemons = self.daemons();
        daemons.retain(|other| other.name() != name);
        daemons.push(daemon);
        Ok(())
    }

    /// Whether a daemon's process runs.
    ///
    /// # Errors
    /// When there is no daemon of this name.
    pub fn is_running(&self, name: &str) -> Result<bool> {
        self.daemon(name)?.is_running(&self.namespace)
    }

    /// Waits until a command succeeds. It runs every 5 to 100 ms.
    ///
    /// # Errors
    /// [`Error::NotReady`] with the last output when it does not succeed in time.
    pub fn wait_for(&self, what: &str, limit: Duration, user: &str, script: &str) -> Result<CommandOutcome> {
        let mut last = None;
        let waited = wait::until(what, limit, || {
            let outcome = self.sh(user, script)?;
            if outcome.success() {
                return Ok(Some(outcome));
            }
            last = Some(outcome);
            Ok(None)
        });
        waited.map_err(|error| match (error, last) {
            (Error::NotReady { what, waited, .. }, Some(seen)) => {
                Error::NotReady { what, waited, detail: format!("; last seen:\n{}{}", seen.stdout, seen.stderr) }
            }
            (error, _) => error,
        })
    }

    /// Waits until the shell script `probe` succeeds as root on the daemon's node. Fails at once if the daemon has
    /// ended.
    pub(crate) fn wait_for_daemon(&self, daemon: &str, node: Option<&str>, limit: Duration, probe: &str) -> Result<()> {
        wait::until(daemon, limit, || {
            let command = self.script("root", probe);
            let command = if let Some(node) = node { command.on(node) } else { command };
            if command.run()?.success() {
                return Ok(Some(()));
            }
            if self.is_running(daemon)? {
                return Ok(None);
            }
            Err(Error::Refused(format!("{daemon} ended before it was ready; its log is /var/log/{daemon}.log")))
        })
    }

    /// The last lines of all logs.
    #[must_use]
    pub fn logs(&self) -> String {
        let script = "cd /var/log; for f in *.log slurm/*.log; do [ -s \"$f\" ] || continue; \
                      case $f in dpkg.log|alternatives.log|bootstrap.log|apt/*) continue;; esac; \
                      echo \"--- /var/log/$f\"; tail -n 40 \"$f\"; done; echo '--- processes'; ps -eo pid,user,args";
        match self.sh("root", script) {
            Ok(outcome) => outcome.stdout,
            Err(error) => format!("no logs: {error}"),
        }
    }

    /// The number of client addresses in use.
    pub(crate) fn clients(&self) -> &AtomicU32 {
        &self.clients
    }

    fn daemon(&self, name: &str) -> Result<Daemon> {
        let known = self.daemons().iter().find(|daemon| daemon.name() == name).cloned();
        known.ok_or_else(|| Error::Refused(format!("no daemon \"{name}\" was started in this site")))
    }

    fn daemons(&self) -> std::sync::MutexGuard<'_, Vec<Daemon>> {
        self.daemons.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn network_of(options: &Options) -> Network {
    if options.foreign.is_some() { Network::Callers } else { Network::Own }
}
