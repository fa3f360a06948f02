//! The distribution's 6.1 kernel: downloaded once, unpacked under the target directory, never installed.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::shell::{note, read};

/// An unpacked kernel package.
pub(crate) struct Kernel {
    /// Such as `6.1.0-56-cloud-amd64`.
    pub(crate) release: String,
    /// The file to boot.
    pub(crate) image: PathBuf,
    modules: BTreeMap<String, PathBuf>,
}

/// Takes the kernel that is there, else downloads the newest of its series.
pub(crate) fn get(directory: &Path) -> Result<Kernel> {
    if let Some(kernel) = unpacked(directory)? {
        return Ok(kernel);
    }
    if std::env::consts::ARCH != "x86_64" {
        bail!("the VM is for x86_64 only");
    }
    let package = match newest_package()? {
        Some(package) => package,
        None => {
            crate::setup::update_packages()?;
            newest_package()?.context("the package sources have no linux-image-6.1.0-*-cloud-amd64: test-vm needs those of Debian 12")?
        }
    };
    note(&format!("Downloading {package}: the kernel of the VM"));
    let packages = directory.join("packages");
    fs::create_dir_all(&packages)?;
    if download(&package, &packages).is_err() {
        // The lists may name a version that the mirror no longer has.
        crate::setup::update_packages()?;
        download(&package, &packages).context("cannot download the kernel; check the network")?;
    }
    let archive = fs::read_dir(&packages)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&package)))
        .context("apt-get download left no package")?;
    // Renamed when complete, so that an interrupted run leaves nothing that looks like a kernel.
    let (partial, complete) = (directory.join("kernel.partial"), directory.join("kernel"));
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    read(Command::new("dpkg").arg("-x").arg(&archive).arg(&partial))?;
    fs::rename(&partial, &complete)?;
    fs::remove_dir_all(&packages)?;
    unpacked(directory)?.context("the kernel package holds no kernel")
}

impl Kernel {
    /// Modules in the order in which they must be inserted: what they depend on comes first.
    pub(crate) fn modules_with_dependencies(&self, names: &[&str]) -> Result<Vec<(String, Vec<u8>)>> {
        let mut ordered = Vec::new();
        for name in names {
            self.add(name, &mut ordered)?;
        }
        Ok(ordered)
    }

    fn add(&self, name: &str, ordered: &mut Vec<(String, Vec<u8>)>) -> Result<()> {
        let name = name.replace('-', "_");
        if ordered.iter().any(|(there, _)| *there == name) {
            return Ok(());
        }
        let path = self
            .modules
            .get(&name)
            .with_context(|| format!("kernel {} has no module {name}", self.release))?;
        let module = if path.extension().is_some_and(|extension| extension == "xz") {
            let output = Command::new("xz").arg("-dc").arg(path).output().context("cannot start xz")?;
            if !output.status.success() {
                bail!("cannot unpack {}", path.display());
            }
            output.stdout
        } else {
            fs::read(path)?
        };
        for dependency in dependencies(&module) {
            self.add(&dependency, ordered)?;
        }
        ordered.push((name, module));
        Ok(())
    }
}

/// The `depends=` entry of a module's `.modinfo`: the package holds no modules.dep, which depmod makes at installation.
fn dependencies(module: &[u8]) -> Vec<String> {
    let key = b"\0depends=";
    let Some(at) = module.windows(key.len()).position(|window| window == key) else {
        return Vec::new();
    };
    let value: Vec<u8> = module.iter().skip(at + key.len()).take_while(|byte| **byte != 0).copied().collect();
    String::from_utf8_lossy(&value)
        .split(',')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

fn unpacked(directory: &Path) -> Result<Option<Kernel>> {
    let Ok(entries) = fs::read_dir(directory.join("kernel/boot")) else {
        return Ok(None);
    };
    for entry in entries {
        let image = entry?.path();
        let name = image
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        if let Some(release) = name.strip_prefix("vmlinuz-") {
            let mut modules = BTreeMap::new();
            for prefix in ["kernel/lib/modules", "kernel/usr/lib/modules"] {
                find_modules(&directory.join(prefix).join(release), &mut modules)?;
            }
            return Ok(Some(Kernel {
                release: release.to_owned(),
                image,
                modules,
            }));
        }
    }
    Ok(None)
}

fn find_modules(directory: &Path, modules: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    let Ok(entries) = fs::read_dir(directory) else { return Ok(()) };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() {
            find_modules(&entry.path(), modules)?;
        } else if let Some((name, _)) = name.split_once(".ko") {
            modules.insert(name.replace('-', "_"), entry.path());
        }
    }
    Ok(())
}

fn newest_package() -> Result<Option<String>> {
    let found = read(Command::new("apt-cache").args(["search", "--names-only", "^linux-image-6\\.1\\.0-[0-9]+-cloud-amd64$"]))?;
    let packages = found.lines().filter_map(|line| line.split_whitespace().next());
    Ok(packages
        .max_by_key(|package| package.split('-').nth(3).and_then(|number| number.parse::<u32>().ok()))
        .map(str::to_owned))
}

fn download(package: &str, into: &Path) -> Result<()> {
    // Without the sandbox user, who may not write here, apt would complain.
    read(
        Command::new("apt-get")
            .args(["-o", "APT::Sandbox::User=root", "download", package])
            .current_dir(into),
    )
    .map(drop)
}

#[cfg(test)]
mod tests {
    use super::dependencies;

    #[test]
    fn a_module_names_what_it_depends_on() {
        assert_eq!(
            dependencies(b"ELF\0license=GPL\0depends=sch_generic,cls_api\0name=x\0"),
            ["sch_generic", "cls_api"]
        );
        assert!(dependencies(b"ELF\0depends=\0name=veth\0").is_empty());
    }
}
