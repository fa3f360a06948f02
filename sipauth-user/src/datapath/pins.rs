//! Where maps and links are pinned: `<bpffs>/v<layout>/`, and the checks before something that is pinned is used.

use std::{
    ffi::OsStr,
    fs, io,
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStrExt as _, fs::DirBuilderExt},
    },
    path::{Path, PathBuf},
};

use aya::maps::MapInfo;
use nix::{
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};
use sipauth_common::abi;
use tracing::info;

use super::{DatapathError, sys};

/// Where the kernel's bpf file system is mounted by convention.
const BPFFS: &str = "/sys/fs/bpf";

/// The pin directory of this layout version.
#[derive(Clone, Debug)]
pub struct Pins {
    root: PathBuf,
    dir: PathBuf,
}

impl Pins {
    /// The pin directory below `root`, which is made if it is not there.
    ///
    /// # Errors
    /// `root` is not on a bpf file system, or holds pins of another layout version.
    pub fn open(root: &Path) -> Result<Self, DatapathError> {
        mount_bpffs(root)?;
        let pins = Self::at(root);
        pins.refuse_other_layouts()?;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&pins.dir)
            .map_err(|source| file(&pins.dir, source))?;
        Ok(pins)
    }

    /// The same without looking whether anything is there.
    #[must_use]
    pub fn at(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            dir: root.join(format!("v{}", abi::LAYOUT)),
        }
    }

    /// The pin directories of all layouts that are there.
    #[must_use]
    pub fn of_all_layouts(root: &Path) -> Vec<Self> {
        let entries = fs::read_dir(root).into_iter().flatten().flatten();
        entries
            .filter(|entry| layout(&entry.file_name()).is_some())
            .map(|entry| Self {
                root: root.to_owned(),
                dir: entry.path(),
            })
            .collect()
    }

    /// The directory of this layout.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The directory that `--bpffs` names.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Pin of a map.
    #[must_use]
    pub fn map(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Pin of an interface's link. bpffs refuses dots in names, interfaces (`eth0.100`) have them.
    #[must_use]
    pub fn link(&self, interface: &str, hook: &str) -> PathBuf {
        self.dir.join(format!("{hook}-{}", interface.replace('.', "%2e")))
    }

    /// Interfaces with a pinned link of `hook`.
    pub(super) fn linked(&self, hook: &str) -> Vec<String> {
        let prefix = format!("{hook}-");
        let Ok(entries) = fs::read_dir(&self.dir) else { return Vec::new() };
        entries
            .flatten()
            .filter_map(|entry| Some(entry.file_name().to_str()?.strip_prefix(&prefix)?.replace("%2e", ".")))
            .collect()
    }

    /// Other layouts have maps that this version would misread, and programs that go on enforcing what they say.
    pub(super) fn refuse_other_layouts(&self) -> Result<(), DatapathError> {
        let Ok(entries) = fs::read_dir(&self.root) else { return Ok(()) };
        for entry in entries.flatten() {
            if let Some(version) = layout(&entry.file_name())
                && version != abi::LAYOUT.to_string()
            {
                return Err(DatapathError::LayoutVersion {
                    path: self.root.clone(),
                    found: version.to_owned(),
                    expected: abi::LAYOUT,
                });
            }
        }
        Ok(())
    }

    /// How many entries a pinned map has room for; `None` where none is pinned.
    #[must_use]
    pub fn entries(&self, map: &str) -> Option<u32> {
        let pinned = MapInfo::from_pin(self.map(map)).ok()?;
        Some(pinned.max_entries())
    }

    /// Where something waits to take the place of the pin `name`, which is done by [`Self::take_place`].
    pub(super) fn next(&self, name: &str) -> PathBuf {
        self.dir.join(format!("next-{name}"))
    }

    /// Pins a map in the place of another, or of none. Whoever looks meanwhile finds one or the other.
    pub(super) fn take_place(&self, name: &str, map: &OwnedFd) -> Result<(), DatapathError> {
        let next = self.next(name);
        let failed = |source| file(&next, source);
        sys::pin(map, &next).map_err(failed)?;
        fs::rename(&next, self.map(name)).map_err(failed)
    }

    /// Removes what an agent that ended in the middle left.
    pub(super) fn clear_next(&self) -> Result<(), DatapathError> {
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            if entry.file_name().as_bytes().starts_with(b"next-") {
                fs::remove_file(entry.path()).map_err(|source| file(&entry.path(), source))?;
            }
        }
        Ok(())
    }

    /// Compares what is pinned with what the object declares: the loader would take any map of that name for it.
    pub(super) fn check(&self, object: &[u8]) -> Result<(), DatapathError> {
        let object = aya_obj::Object::parse(object).map_err(|error| DatapathError::Load(aya::EbpfError::ParseError(error)))?;
        for name in abi::MAPS {
            let path = self.map(name);
            if !path.exists() {
                continue;
            }
            let declared = object.maps.get(name).ok_or(DatapathError::Object { name })?;
            let pinned = MapInfo::from_pin(&path).map_err(|error| DatapathError::Link {
                path: path.clone(),
                reason: error.to_string(),
            })?;
            // Of what is sized by its contents any size will do: `Sizes` says which is kept.
            let sized = abi::SIZED.contains(&name);
            let shape = |kind: u32, key: u32, value: u32, entries: u32| match sized {
                true => format!("type {kind}, key {key}, value {value}"),
                false => format!("type {kind}, key {key}, value {value}, {entries} entries"),
            };
            let kind = pinned.map_type().map_or(0, |kind| kind as u32);
            let found = shape(kind, pinned.key_size(), pinned.value_size(), pinned.max_entries());
            let expected = shape(
                declared.map_type(),
                declared.key_size(),
                declared.value_size(),
                declared.max_entries(),
            );
            if found != expected {
                return Err(DatapathError::Layout { path, found, expected });
            }
        }
        Ok(())
    }
}

/// The version in the name of a pin directory.
fn layout(name: &OsStr) -> Option<String> {
    let version = name.to_str()?.strip_prefix('v')?;
    (!version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit())).then(|| version.to_owned())
}

/// Makes sure that `root` will be on a bpf file system; mounts it at its place where nobody has.
///
/// # Errors
/// `root` is somewhere else, or the mount is refused.
pub fn mount_bpffs(root: &Path) -> Result<(), DatapathError> {
    let existing = root.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    if is_bpffs(existing) {
        return Ok(());
    }
    if mountable(root) {
        mount(Some("bpf"), BPFFS, Some("bpf"), MsFlags::empty(), Some("mode=0700"))
            .map_err(|_| DatapathError::NotBpffs { path: root.to_owned() })?;
        info!(path = BPFFS, "mounted the bpf file system");
        return Ok(());
    }
    Err(DatapathError::NotBpffs { path: root.to_owned() })
}

/// Whether [`mount_bpffs`] would mount the file system that `root` is to be on.
#[must_use]
pub fn mountable(root: &Path) -> bool {
    root.starts_with(BPFFS) && Path::new(BPFFS).exists() && !hidden_by_netns()
}

fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|fs| fs.filesystem_type() == BPF_FS_MAGIC)
}

/// `ip netns exec` puts its command into a mount namespace of its own with a fresh /sys. What would be mounted
/// there is gone with that command, and the pins with it: enforcement would end with the agent.
fn hidden_by_netns() -> bool {
    let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/mnt")).ok();
    matches!((namespace("1"), namespace("self")), (Some(init), Some(ours)) if init != ours)
}

pub(super) fn file(path: &Path, source: io::Error) -> DatapathError {
    DatapathError::File {
        path: path.to_owned(),
        source,
    }
}
