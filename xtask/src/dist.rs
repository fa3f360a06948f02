//! `cargo xtask dist`: the Debian package. What it consists of is in `dist/debian` and in the program's own definition of its
//! command line; dpkg's tools do the rest.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::{setup, shell};

const VERSION: &str = env!("CARGO_PKG_VERSION");
const CONFIGURATION: &str = "etc/sipauth/sipauth.toml";
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

/// `cargo xtask dist`: builds, packs, and says where it is.
pub(crate) fn run(debug: bool) -> Result<()> {
    setup::ensure(setup::Purpose::Dist)?;
    let mut build = shell::cargo();
    build.args(["build", "--workspace"]);
    if !debug {
        build.arg("--release");
    }
    shell::run(&mut build)?;
    shell::run(shell::cargo().args(["build", "--workspace", "--example", "package-files"]))?;
    let binary = shell::target_dir().join(if debug { "debug/sipauth" } else { "release/sipauth" });
    println!("{}", pack(&binary, VERSION)?.display());
    Ok(())
}

/// Packs this binary under this version. The example `package-files` has been built.
pub(crate) fn pack(binary: &Path, version: &str) -> Result<PathBuf> {
    let dist = shell::target_dir().join("dist");
    let (tree, made) = (dist.join("tree"), dist.join("made"));
    for dir in [&tree, &made] {
        match fs::remove_dir_all(dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).with_context(|| dir.display().to_string()),
            _ => fs::create_dir_all(dir)?,
        }
    }
    shell::run(Command::new(shell::target_dir().join("debug/examples/package-files")).arg(&made))?;

    let source = shell::root();
    let debian = source.join("dist/debian");
    let put = |from: PathBuf, to: &str, mode: u32| place(&from, &tree.join(to), mode);
    put(binary.to_owned(), "usr/sbin/sipauth", 0o755)?;
    // Names of functions stay, for a backtrace.
    shell::run(Command::new("strip").arg("--strip-debug").arg(tree.join("usr/sbin/sipauth")))?;
    for unit in ["sipauth.service", "sipauth-pins.service"] {
        put(debian.join(unit), &format!("usr/lib/systemd/system/{unit}"), 0o644)?;
    }
    put(debian.join("sysusers.conf"), "usr/lib/sysusers.d/sipauth.conf", 0o644)?;
    put(made.join("sipauth.toml"), CONFIGURATION, 0o644)?;
    put(made.join("sipauth.bash"), "usr/share/bash-completion/completions/sipauth", 0o644)?;
    put(made.join("_sipauth"), "usr/share/zsh/vendor-completions/_sipauth", 0o644)?;
    put(made.join("sipauth.fish"), "usr/share/fish/vendor_completions.d/sipauth.fish", 0o644)?;
    put(debian.join("copyright"), "usr/share/doc/sipauth/copyright", 0o644)?;
    put(source.join("README.md"), "usr/share/doc/sipauth/README.md", 0o644)?;
    for file in ["grafana/sipauth.json", "prometheus/sipauth-alerts.yml"] {
        put(source.join("dist").join(file), &format!("usr/share/sipauth/{file}"), 0o644)?;
    }
    let changelog = "usr/share/doc/sipauth/changelog";
    put(source.join("CHANGELOG.md"), changelog, 0o644)?;
    compress(&tree.join(changelog))?;
    for page in fs::read_dir(made.join("man"))? {
        let page = page?;
        let to = tree.join("usr/share/man/man8").join(page.file_name());
        place(&page.path(), &to, 0o644)?;
        compress(&to)?;
    }

    let control = tree.join("DEBIAN");
    fs::create_dir(&control)?;
    for script in SCRIPTS {
        place(&debian.join(script), &control.join(script), 0o755)?;
    }
    fs::write(control.join("conffiles"), format!("/{CONFIGURATION}\n"))?;
    fs::write(control.join("md5sums"), sums(&tree)?)?;
    let architecture = shell::read(Command::new("dpkg").arg("--print-architecture"))?;
    let architecture = architecture.trim();
    fs::write(
        control.join("control"),
        format!(
            "Package: sipauth\nVersion: {version}\nArchitecture: {architecture}\nMaintainer: The sipauth maintainers <maintainers@sipauth.invalid>\n\
             Installed-Size: {}\nDepends: {}, passwd, systemd | systemd-standalone-sysusers\nSection: net\nPriority: optional\n\
             Description: call authentication for SIP softswitches, enforced on the NIC\n \
             An XDP program on the interface of a softswitch lets in what proves to come from a\n gateway: by address, by address and port, or by SIP digest, which an \
             agent in\n userspace verifies for the requests that start a call.\n",
            size(&tree)? / 1024,
            libraries(&tree.join("usr/sbin/sipauth"), &dist)?,
        ),
    )?;
    let package = dist.join(format!("sipauth_{version}_{architecture}.deb"));
    shell::read(
        Command::new("dpkg-deb")
            .args(["--root-owner-group", "--build"])
            .arg(&tree)
            .arg(&package),
    )?;
    Ok(package)
}

fn place(from: &Path, to: &Path, mode: u32) -> Result<()> {
    // The directories of a package are for all to read, whatever the umask here.
    let parent = to.parent().context("a file in the package")?;
    fs::create_dir_all(parent)?;
    for dir in parent
        .ancestors()
        .take_while(|dir| dir.ancestors().any(|above| above.ends_with("dist/tree")))
    {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?;
    }
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(mode))?;
    Ok(())
}

/// As policy wants it: best compression, no time in it.
fn compress(file: &Path) -> Result<()> {
    shell::run(Command::new("gzip").arg("-9nf").arg(file))
}

/// What dpkg compares installed files with.
fn sums(tree: &Path) -> Result<String> {
    let mut files = Command::new("find");
    files.current_dir(tree).args(["usr", "-type", "f", "-exec", "md5sum", "{}", "+"]);
    shell::read(&mut files)
}

fn size(dir: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        sum += if metadata.is_dir() { size(&entry.path())? } else { metadata.size() };
    }
    Ok(sum)
}

/// The packages whose libraries the binary needs, with the versions that have what it uses.
fn libraries(binary: &Path, dist: &Path) -> Result<String> {
    // dpkg-shlibdeps wants to be in a source package.
    let place = dist.join("made");
    fs::create_dir_all(place.join("debian"))?;
    fs::write(
        place.join("debian/control"),
        "Source: sipauth\n\nPackage: sipauth\nArchitecture: any\n",
    )?;
    let mut command = Command::new("dpkg-shlibdeps");
    command.current_dir(&place).arg("-O").arg(binary).stderr(Stdio::null());
    let output = shell::read(&mut command)?;
    match output.lines().find_map(|line| line.strip_prefix("shlibs:Depends=")) {
        Some(libraries) => Ok(libraries.to_owned()),
        None => bail!("dpkg-shlibdeps says nothing of {}", binary.display()),
    }
}
