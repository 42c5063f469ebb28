// SPDX-License-Identifier: MIT OR Apache-2.0
//! The product's Debian packages. dpkg installs them once for each release, into a layer over the root that all sites share.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use crate::error::WithContext;
use crate::site::namespace::Namespace;
use crate::site::plan::{Installation, Network, Plan};
use crate::site::root::{Root, lock, remove, replace_file};
use crate::site::{paths, product};
use crate::{Error, Result};

/// The packages of the last `make deb`, without those that hold debug symbols; `None` when there are none.
#[must_use]
pub fn built() -> Option<Vec<PathBuf>> {
    listed(&paths::packages())
}

/// The packages of an earlier commit, by `make earlier`; `None` when there are none.
#[must_use]
pub fn earlier() -> Option<Vec<PathBuf>> {
    listed(&paths::earlier_packages())
}

/// The packages of the last `make arm64`; `None` when there are none.
#[must_use]
pub fn built_for_arm64() -> Option<Vec<PathBuf>> {
    listed(&paths::arm64_packages())
}

fn listed(directory: &Path) -> Option<Vec<PathBuf>> {
    let list = fs::read_to_string(directory.join("packages")).ok()?;
    let files: Vec<PathBuf> =
        list.lines().filter(|name| !name.contains("-dbgsym_")).map(|name| directory.join(name)).collect();
    (!files.is_empty() && files.iter().all(|file| file.is_file())).then_some(files)
}

/// What dpkg changed in a root when it installed the packages. While this value exists, a lock prevents its replacement.
#[derive(Debug)]
pub(crate) struct Layer {
    directory: PathBuf,
    _shared: Flock<File>,
}

impl Layer {
    /// The directory that holds the layer. It must not be written to.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Opens the layer of these packages over this root. Makes it first if it is missing or is that of other packages.
    ///
    /// # Errors
    /// When dpkg refuses a package, or the cache cannot be written.
    pub(crate) fn open(packages: &[PathBuf], root: &Root) -> Result<Self> {
        let roots = paths::roots();
        let name = format!("{}-product", root.directory().file_name().unwrap_or_default().to_string_lossy());
        let (directory, stamp) = (roots.join(&name), roots.join(format!("{name}.stamp")));
        let wanted = stamp_text(packages, root)?;
        loop {
            let shared = lock(&roots, &name, FlockArg::LockShared)?;
            if directory.is_dir() && fs::read_to_string(&stamp).is_ok_and(|made_from| made_from == wanted) {
                return Ok(Self { directory, _shared: shared });
            }
            drop(shared);
            let _exclusive = lock(&roots, &name, FlockArg::LockExclusive)?;
            // Another process may have made the layer while this one waited for the lock.
            if !fs::read_to_string(&stamp).is_ok_and(|made_from| made_from == wanted) {
                make(packages, root, &directory)?;
                replace_file(&stamp, &wanted)?;
            }
        }
    }
}

/// The packages and the root by size and time: both are replaced as a whole, never changed.
fn stamp_text(packages: &[PathBuf], root: &Root) -> Result<String> {
    let mut text = String::new();
    for path in packages.iter().map(PathBuf::as_path).chain([root.directory()]) {
        let about = fs::metadata(path).with_context(|| format!("looking at {}", path.display()))?;
        let modified = about.modified().with_context(|| format!("looking at {}", path.display()))?;
        text.push_str(&format!("{} {} {modified:?}\n", path.display(), about.len()));
    }
    Ok(text)
}

/// Makes the layer in another directory and renames it, so that an interrupted run leaves no incomplete one.
fn make(packages: &[PathBuf], root: &Root, directory: &Path) -> Result<()> {
    let fresh = directory.with_extension("new");
    remove(&fresh)?;
    let plan = Plan {
        root: root.directory().to_owned(),
        layer: None,
        mount_point: paths::mount_point()?,
        network: Network::Own,
        binds: Vec::new(),
        users: false,
        emulated: false,
        install: Some(Installation::Packages { files: packages.to_vec(), layer: Some(fresh.clone()) }),
    };
    drop(Namespace::create(&plan)?);
    remove(directory)?;
    fs::rename(&fresh, directory).with_context(|| format!("renaming {}", fresh.display()))
}

/// How the product gets into a site: the release build by its packages, any other by `make install`.
#[derive(Debug)]
pub(crate) enum Source {
    /// A layer with the packages.
    Layer(Layer),
    /// To be installed by the site itself.
    Install(Installation),
}

impl Source {
    /// The packages for arm64, which an emulated site installs itself.
    ///
    /// # Errors
    /// When they are not built.
    pub(crate) fn for_arm64() -> Result<Self> {
        let files = built_for_arm64().ok_or_else(|| {
            let directory = paths::arm64_packages();
            Error::Refused(format!("there are no packages in {}; run `make arm64`", directory.display()))
        })?;
        Ok(Self::Install(Installation::Packages { files, layer: None }))
    }

    /// The product as cargo built it in this profile.
    ///
    /// # Errors
    /// When it is not built, or not packaged.
    pub(crate) fn open(profile: &str, root: &Root) -> Result<Self> {
        let missing = |what: &str, target: &str| {
            Error::Refused(format!(
                "the product is not {what} in {}; run `make {target}`, or name another profile in TESTBED_PROFILE",
                paths::target().display()
            ))
        };
        if !product::is_built(profile) {
            return Err(missing("built", product::target_of(profile)));
        }
        product::warn_when_outdated(profile);
        if profile != "release" {
            let profile = profile.to_owned();
            return Ok(Self::Install(Installation::Make { repository: paths::repository(), profile }));
        }
        let packages = built().ok_or_else(|| missing("packaged", "deb"))?;
        product::warn_when_packages_are_outdated(&packages);
        Layer::open(&packages, root).map(Self::Layer)
    }
}
