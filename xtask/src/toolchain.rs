//! Which compiler builds the kernel program, and with which flags. Shared with `sipauth-user/build.rs` by path, so that
//! a plain `cargo build`, `cargo xtask setup` and `cargo xtask lint` cannot disagree. Only std: build scripts use it.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

/// The nightly that `cargo xtask setup` installs: later ones neither compile aya-ebpf 0.2 nor match bpf-linker's LLVM 22.
pub(crate) const NIGHTLY: &str = "nightly-2026-05-20";
/// Newest compiler, as the minor version of 1.x, that aya-ebpf 0.2 is known to build with.
const NEWEST_MINOR: u32 = 97;
/// The name under which the toolchain without rustup goes: the distribution's own rustc, with its library sources.
const DISTRIBUTION: &str = "distribution";
/// x86_64 and arm64, the machines that sipauth runs on, are little-endian; so is the program.
const TARGET: &str = "bpfel-unknown-none";

/// A compiler that can build `core` for BPF.
pub(crate) struct Toolchain {
    /// Name of the rustup toolchain, or [`DISTRIBUTION`].
    pub(crate) name: String,
    /// What `rustc --version` prints.
    pub(crate) version: String,
}

impl Toolchain {
    /// The first toolchain that has the library sources and is not too new; the error names, for each, what it lacks.
    pub(crate) fn find() -> Result<Self, String> {
        let wanted = env::var("SIPAUTH_BPF_TOOLCHAIN").ok();
        let names = match &wanted {
            Some(name) => vec![name.as_str()],
            None => vec![NIGHTLY, "nightly", "bpf", DISTRIBUTION],
        };
        let mut lacks = Vec::new();
        for name in names {
            match Self::inspect(name, wanted.is_some()) {
                Ok(toolchain) => return Ok(toolchain),
                Err(why) => lacks.push(format!("{name}: {why}")),
            }
        }
        Err(lacks.join("; "))
    }

    fn inspect(name: &str, any_version: bool) -> Result<Self, String> {
        let version = output(rustc(name).arg("--version")).ok_or("not installed")?;
        let minor = version.split('.').nth(1).and_then(|minor| minor.parse::<u32>().ok()).unwrap_or(0);
        if minor > NEWEST_MINOR && !any_version {
            return Err(format!("{version} is too new for aya-ebpf 0.2"));
        }
        let sysroot = output(rustc(name).args(["--print", "sysroot"])).ok_or("has no sysroot")?;
        if !Path::new(&sysroot).join("lib/rustlib/src/rust/library/core/src/lib.rs").exists() {
            return Err("has no rust-src".to_owned());
        }
        Ok(Self {
            name: name.to_owned(),
            version,
        })
    }

    /// `cargo SUBCOMMAND` for the kernel program in `root/sipauth-ebpf`; the caller may add arguments.
    pub(crate) fn cargo(&self, subcommand: &str, root: &Path) -> Command {
        let ebpf = root.join("sipauth-ebpf");
        let mut command = if self.name == DISTRIBUTION {
            let mut command = Command::new("/usr/bin/cargo");
            command.env("RUSTC", "/usr/bin/rustc");
            command
        } else {
            let mut command = Command::new("rustup");
            command.args(["run", &self.name, "cargo"]).env_remove("RUSTC");
            command
        };
        command.arg(subcommand).args([
            "--release",
            "--bins",
            "--locked",
            "-Z",
            "build-std=core",
            "--target",
            TARGET,
            "--target-dir",
        ]);
        // Its own directory: `core` is compiled once for all profiles, and the outer cargo's lock is not waited for.
        command.arg(ebpf.join("target")).current_dir(&ebpf);
        // An outer cargo's settings are meant for the host.
        for key in [
            "CARGO",
            "RUSTDOC",
            "RUSTC_WRAPPER",
            "RUSTC_WORKSPACE_WRAPPER",
            "RUSTFLAGS",
            "CARGO_BUILD_TARGET",
            "CARGO_TARGET_DIR",
        ] {
            command.env_remove(key);
        }
        command.env("CARGO_ENCODED_RUSTFLAGS", rustflags());
        if !self.version.contains("-nightly") {
            command.env("RUSTC_BOOTSTRAP", "1");
        }
        command.env("PATH", path_with_cargo_bin());
        command
    }
}

/// Where [`Toolchain::cargo`] leaves the built object.
pub(crate) fn object_path(root: &Path) -> PathBuf {
    root.join("sipauth-ebpf/target").join(TARGET).join("release/sipauth")
}

/// Programs that `cargo install` put in place are found even where the shell's PATH does not name them.
pub(crate) fn path_with_cargo_bin() -> std::ffi::OsString {
    let home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")))
        .unwrap_or_default();
    let path = env::var_os("PATH").unwrap_or_default();
    env::join_paths(env::split_paths(&path).chain([home.join("bin")])).unwrap_or(path)
}

fn rustflags() -> String {
    let arch = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_else(|_| env::consts::ARCH.to_owned());
    [
        &format!("--cfg=bpf_target_arch=\"{arch}\""),
        "-Cdebuginfo=2",
        "-Clink-arg=--btf",
        // ALU32 and JMP32; every kernel from 5.10 on has them.
        "-Ctarget-cpu=v3",
        // Packet fields become one load each; x86_64 and arm64 allow it.
        "-Clink-arg=--cpu-features=+allows-misaligned-mem-access",
    ]
    .join("\x1f")
}

fn rustc(name: &str) -> Command {
    if name == DISTRIBUTION {
        return Command::new("/usr/bin/rustc");
    }
    let mut command = Command::new("rustup");
    command.args(["run", name, "rustc"]).env("RUSTUP_AUTO_INSTALL", "0");
    command
}

fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
