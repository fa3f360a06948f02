//! The directory and the file of the database.

use std::{
    fs::{DirBuilder, OpenOptions, Permissions},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use super::StoreError;

/// Directory and file, for root's eyes only: the store holds what a password can be checked with. SQLite gives its
/// journal files the mode of the database.
pub(super) fn prepare(state_dir: &Path, path: &Path) -> Result<(), StoreError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| StoreError::Open { path, source }
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(state_dir)
        .map_err(failed(state_dir))?;
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .map_err(failed(path))?;
    file.set_permissions(Permissions::from_mode(0o600)).map_err(failed(path))
}
