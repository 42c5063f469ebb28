// SPDX-License-Identifier: MIT OR Apache-2.0
//! The plugin's arguments in plugstack.conf, and the panics of test builds.

use std::ops::Deref;

use mytoken_wire::PluginSettings;
pub use mytoken_wire::profile::SiteDefault;

/// What the administrator wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookSettings {
    settings: PluginSettings,
    #[cfg(feature = "panic-injection")]
    panic: Option<String>,
}

impl Deref for HookSettings {
    type Target = PluginSettings;

    fn deref(&self) -> &PluginSettings {
        &self.settings
    }
}

impl HookSettings {
    /// Reads the arguments.
    #[cfg(not(feature = "panic-injection"))]
    pub fn parse(arguments: &[String]) -> Self {
        Self { settings: PluginSettings::parse(arguments) }
    }

    /// Reads the arguments, and `panic=HOOK`.
    #[cfg(feature = "panic-injection")]
    pub fn parse(arguments: &[String]) -> Self {
        let (panics, arguments): (Vec<String>, Vec<String>) =
            arguments.iter().cloned().partition(|argument| argument.starts_with("panic="));
        let panic = panics.first().and_then(|argument| argument.strip_prefix("panic=")).map(str::to_owned);
        Self { settings: PluginSettings::parse(&arguments), panic }
    }

    /// Whether a test build has to panic in `hook`.
    pub fn panics_in(&self, hook: &str) -> bool {
        #[cfg(feature = "panic-injection")]
        return self.panic.as_deref() == Some(hook);
        #[cfg(not(feature = "panic-injection"))]
        {
            let _ = hook;
            false
        }
    }

    /// Panics if a test build has to panic in `hook`.
    pub fn inject_panic(&self, hook: &str) {
        if self.panics_in(hook) {
            #[cfg(feature = "panic-injection")]
            injected_panic();
        }
    }
}

/// The panic of a test build. Its text must not appear in any output.
#[cfg(feature = "panic-injection")]
pub fn injected_panic() {
    #[allow(clippy::panic)]
    {
        panic!("injected-panic-text");
    }
}
