//! The VM's file system, all of it in an initramfs: busybox, a few modules, `ip`, the test binaries and their libraries.

use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use super::kernel::Kernel;
use crate::shell::{find_program, read, root};

/// What the tests use and this kernel does not have built in.
const MODULES: &[&str] = &["veth", "sch_ingress", "cls_bpf"];

/// Packs the file system for these programs; returns the file.
pub(crate) fn build(directory: &Path, kernel: &Kernel, programs: &[PathBuf]) -> Result<PathBuf> {
    let tree = directory.join("tree");
    if tree.exists() {
        fs::remove_dir_all(&tree)?;
    }
    for path in [
        "bin", "dev", "etc", "modules", "proc", "root", "run", "sys", "tests", "tmp", "var/run",
    ] {
        fs::create_dir_all(tree.join(path))?;
    }
    let busybox = find_program("busybox").context("no busybox")?;
    fs::copy(busybox, tree.join("bin/busybox"))?;

    let ip = find_program("ip").context("no ip")?;
    copy_with_libraries(&ip, &tree, Path::new("/usr/sbin/ip"))?;
    let mut init = String::from(INIT);
    for (name, module) in kernel.modules_with_dependencies(MODULES)? {
        fs::write(tree.join("modules").join(&name), module)?;
        writeln!(init, "insmod /modules/{name}")?;
    }
    // The tests may read their corpus at the path that the compiler knew.
    let corpus = root().join("tests/corpus");
    if corpus.is_dir() {
        let there = inside(&tree, &corpus);
        fs::create_dir_all(there.parent().unwrap_or(&tree))?;
        read(Command::new("cp").arg("-r").arg(&corpus).arg(&there))?;
    }
    for program in programs {
        let file = program
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .context("a program without a name")?;
        // cargo's name-0123456789abcdef
        let name = file.rsplit_once('-').map_or(file.as_str(), |(name, _)| name).to_owned();
        copy_with_libraries(program, &tree, &Path::new("/tests").join(&name))?;
        writeln!(
            init,
            "cd /root; /tests/{name} --show-output --test-threads=2; echo \"VMTEST {name} exit=$?\""
        )?;
    }
    init.push_str("sync; poweroff -f\n");
    fs::write(tree.join("init"), init)?;
    fs::set_permissions(tree.join("init"), fs::Permissions::from_mode(0o755))?;
    for applet in read(Command::new(tree.join("bin/busybox")).arg("--list"))?
        .lines()
        .filter(|applet| !matches!(*applet, "busybox" | "ip"))
    {
        symlink("busybox", tree.join("bin").join(applet))?;
    }
    pack(&tree, &directory.join("initramfs.cpio"))
}

/// `/sbin` of busybox comes last on PATH: its `ip` cannot make every kind of interface.
const INIT: &str = r#"#!/bin/busybox sh
export PATH=/usr/sbin:/bin HOME=/root
export SIPAUTH_REQUIRE_PRIVILEGES=1 SIPAUTH_VM=1 RUST_BACKTRACE=1
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t bpf bpf /sys/fs/bpf
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
mkdir -p /run/netns
ip link set lo up
echo "VMTEST booted $(uname -r)"
"#;

/// Copies a program without its debug information (which is most of it), and the libraries that it is linked with.
fn copy_with_libraries(program: &Path, tree: &Path, to: &Path) -> Result<()> {
    let there = inside(tree, to);
    fs::create_dir_all(there.parent().unwrap_or(tree))?;
    read(Command::new("strip").arg("--strip-debug").arg("-o").arg(&there).arg(program))?;
    fs::set_permissions(&there, fs::Permissions::from_mode(0o755))?;
    // A static program has none, and makes ldd fail.
    for library in read(Command::new("ldd").arg(program))
        .unwrap_or_default()
        .lines()
        .filter_map(library_path)
    {
        let there = inside(tree, Path::new(library));
        if !there.exists() {
            fs::create_dir_all(there.parent().unwrap_or(tree))?;
            fs::copy(library, &there).with_context(|| format!("cannot copy {library}"))?;
        }
    }
    Ok(())
}

/// `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)` or `/lib64/ld-linux-x86-64.so.2 (0x…)`
fn library_path(line: &str) -> Option<&str> {
    let path = line.rsplit("=> ").next()?.split_whitespace().next()?;
    path.starts_with('/').then_some(path)
}

fn inside(tree: &Path, path: &Path) -> PathBuf {
    tree.join(path.strip_prefix("/").unwrap_or(path))
}

fn pack(tree: &Path, to: &Path) -> Result<PathBuf> {
    let names = read(Command::new("find").arg(".").current_dir(tree))?;
    let mut cpio = Command::new("cpio");
    cpio.args(["--quiet", "-o", "-H", "newc"]).current_dir(tree);
    let mut child = cpio
        .stdin(Stdio::piped())
        .stdout(fs::File::create(to)?)
        .spawn()
        .context("cannot start cpio")?;
    child.stdin.take().context("no pipe to cpio")?.write_all(names.as_bytes())?;
    ensure!(child.wait()?.success(), "cpio failed");
    Ok(to.to_owned())
}

#[cfg(test)]
mod tests {
    use super::library_path;

    #[test]
    fn libraries_are_read_from_ldd() {
        assert_eq!(library_path("\tlibc.so.6 => /lib/libc.so.6 (0x7f)"), Some("/lib/libc.so.6"));
        assert_eq!(
            library_path("\t/lib64/ld-linux-x86-64.so.2 (0x7f)"),
            Some("/lib64/ld-linux-x86-64.so.2")
        );
        assert_eq!(library_path("\tlinux-vdso.so.1 (0x7f)"), None);
    }
}
